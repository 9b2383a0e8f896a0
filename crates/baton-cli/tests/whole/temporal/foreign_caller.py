"""A foreign caller: workflows of the real SDK, each of which calls one activity that hands its task token to Baton.

A test steers it by JSON lines on stdin and reads JSON lines on stdout. It ends when stdin does.

Commands: `start` (`id`, `call`), `follow` (`ids` of workflows that another process has started), `cancel` and `terminate`
(`id`), `complete` (`token`, `value`: somebody else answers), `baton` (`url`: it is somewhere else now).

Events: `ready`; `started` (`id`); `handed` (`id`, `attempt`, `token`, and what Baton said: `status`, `body`); `ended` (`id`, `how`, and what
there is of `value`, `type`, `message`, `details`, `nonRetryable`, `timeout`); `answered` (`token`, `error` or null).
"""

import argparse
import asyncio
import base64
import json
import os
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.common import RetryPolicy
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    CancelledError,
    TerminatedError,
    TimeoutError,
    WorkflowAlreadyStartedError,
)
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker

PASSING = (RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED, RPCStatusCode.UNKNOWN)

# What the SDK's core logs goes to the standard output of the process: that is another place now.
events = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

baton = ""


def say(**event: Any) -> None:
    events.write(json.dumps(event) + "\n")
    events.flush()


def post(path: str, body: dict) -> tuple[int, Any]:
    """What Baton answers; an answer that did not come is an exception."""
    request = urllib.request.Request(
        f"{baton}/apis/baton.dev/v1/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        # Never by a proxy of the desk.
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        return refused.code, json.load(refused)


@activity.defn(name="handover")
async def handover(call: dict) -> Any:
    """`call.execution` is created with the token, or with `call.attach` the token is attached to it.

    `call.lose` is what the first attempt does wrong: `before` does nothing at all, as if its worker had died; `after`
    hands over and then fails.
    """
    info = activity.info()
    token = base64.b64encode(info.task_token).decode()
    event = {"event": "handed", "id": info.workflow_id, "attempt": info.attempt, "token": token}
    lose = call.get("lose") if info.attempt == 1 else None
    if lose == "before":
        say(**event, status=0, body=None)
        activity.raise_complete_async()
    path, execution = call["path"], call["execution"]
    if call.get("attach"):
        status, body = await asyncio.to_thread(
            post, f"{path}/{execution['metadata']['name']}/callbacks", {"callbackToken": token}
        )
    else:
        spec = {**execution["spec"], "callbackToken": token}
        status, body = await asyncio.to_thread(post, path, {**execution, "spec": spec})
    say(**event, status=status, body=body)
    if status >= 300:
        raise ApplicationError(str(body), type=body.get("batonReason"), non_retryable=status < 500 and status != 429)
    if lose == "after":
        raise ApplicationError("lost after it was handed over", type="Lost")
    activity.raise_complete_async()


@workflow.defn(name="Caller")
class Caller:
    @workflow.run
    async def run(self, call: dict) -> Any:
        def seconds(name: str) -> timedelta | None:
            return timedelta(seconds=call[name]) if call.get(name) else None

        kinds = workflow.ActivityCancellationType
        return await workflow.execute_activity(
            handover,
            call,
            start_to_close_timeout=seconds("startToClose") or timedelta(minutes=5),
            heartbeat_timeout=seconds("heartbeat"),
            cancellation_type=kinds.TRY_CANCEL if call.get("tryCancel") else kinds.WAIT_CANCELLATION_COMPLETED,
            retry_policy=RetryPolicy(
                initial_interval=timedelta(milliseconds=200),
                maximum_interval=timedelta(seconds=1),
                maximum_attempts=call.get("attempts", 1),
            ),
        )


def ending(failed: WorkflowFailureError) -> dict:
    cause: BaseException | None = failed.cause
    if isinstance(cause, ActivityError):
        cause = cause.cause
    if isinstance(cause, ApplicationError):
        return {
            "how": "Failed",
            "type": cause.type,
            "message": cause.message,
            "details": list(cause.details),
            "nonRetryable": cause.non_retryable,
        }
    if isinstance(cause, TimeoutError):
        return {"how": "TimedOut", "timeout": cause.type.name if cause.type is not None else None}
    if isinstance(cause, CancelledError):
        return {"how": "Cancelled", "message": str(cause), "details": list(cause.details)}
    if isinstance(cause, TerminatedError):
        return {"how": "Terminated", "message": str(cause)}
    return {"how": "Failed", "type": type(cause).__name__, "message": str(cause)}


async def patiently(call: Any) -> Any:
    """Asks again for as long as Temporal cannot be reached."""
    while True:
        try:
            return await call()
        except RPCError as error:
            if error.status not in PASSING:
                raise
            await asyncio.sleep(0.1)


async def report(handle: WorkflowHandle) -> None:
    try:
        value = await patiently(handle.result)
        say(event="ended", id=handle.id, how="Completed", value=value)
    except WorkflowFailureError as failed:
        say(event="ended", id=handle.id, **ending(failed))


async def obey(client: Client, queue: str, command: dict) -> None:
    global baton
    match command["op"]:
        case "baton":
            baton = command["url"]
        case "start":
            try:
                await patiently(
                    lambda: client.start_workflow("Caller", command["call"], id=command["id"], task_queue=queue)
                )
            except WorkflowAlreadyStartedError:
                # By the first try, whose answer was lost.
                pass
            say(event="started", id=command["id"])
            await report(client.get_workflow_handle(command["id"]))
        case "follow":
            await asyncio.gather(*(report(client.get_workflow_handle(it)) for it in command["ids"]))
        case "cancel":
            await patiently(lambda: client.get_workflow_handle(command["id"]).cancel())
        case "terminate":
            await patiently(lambda: client.get_workflow_handle(command["id"]).terminate("the test says so"))
        case "complete":
            token = base64.b64decode(command["token"])
            try:
                await client.get_async_activity_handle(task_token=token).complete(command["value"])
                say(event="answered", token=command["token"], error=None)
            except RPCError as error:
                say(event="answered", token=command["token"], error=f"{error.status.name}: {error.message}")
        case other:
            raise ValueError(f"no such command: {other}")


async def main() -> None:
    global baton
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--temporal", required=True)
    arguments.add_argument("--namespace", default="default")
    arguments.add_argument("--baton", required=True)
    given = arguments.parse_args()
    baton = given.baton
    client = await Client.connect(given.temporal, namespace=given.namespace)
    queue = "foreign-callers"
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(32))
    stdin = asyncio.StreamReader(limit=1 << 24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    worker = Worker(
        client,
        task_queue=queue,
        workflows=[Caller],
        activities=[handover],
        workflow_runner=workflow_runner(),
        max_concurrent_activities=200,
        graceful_shutdown_timeout=timedelta(0),
    )
    under_way: set[asyncio.Task] = set()
    async with worker:
        say(event="ready")
        while line := await stdin.readline():
            task = asyncio.create_task(obey(client, queue, json.loads(line)))
            under_way.add(task)
            task.add_done_callback(finished)
            task.add_done_callback(under_way.discard)
        for task in under_way:
            task.cancel()


def finished(task: asyncio.Task) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        say(event="broken", error=repr(error))


def workflow_runner() -> Any:
    # The workflow is a few lines of this file: loading everything anew for it, as the sandbox does, only costs time.
    from temporalio.worker import UnsandboxedWorkflowRunner

    return UnsandboxedWorkflowRunner()


if __name__ == "__main__":
    asyncio.run(main())

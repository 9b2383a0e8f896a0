"""Answers waiting tasks with the real Python SDK: a line of JSON that says what to do, a line with how it went.

usage: answers.py HOST:PORT
"""

import asyncio
import json
import sys

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import AsyncActivityCancelledError, Client
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError


def tell(answer: dict) -> None:
    print(json.dumps(answer), flush=True)


async def act(client: Client, ask: dict) -> None:
    what = ask["do"]
    if what == "start a workflow":
        await client.start_workflow("any", id="any", task_queue="any")
        return
    handle = client.get_async_activity_handle(task_token=ask["token"].encode())
    if what == "complete":
        await handle.complete(ask["value"])
    elif what == "complete with nothing":
        await handle.complete()
    elif what == "complete with bytes":
        await handle.complete(b"bytes")
    elif what == "fail":
        await handle.fail(ApplicationError("nobody is there", {"desk": 7}, type="DeskClosed", non_retryable=True))
    elif what == "raise":
        try:
            raise ValueError("bad order") from LookupError("no such key")
        except ValueError as error:
            await handle.fail(error, last_heartbeat_details=[1])
    elif what == "heartbeat":
        await handle.heartbeat("half", 0.5)
    elif what == "report cancellation":
        await handle.report_cancellation(ask["details"])
    else:
        raise LookupError(what)


async def main(address: str) -> None:
    client = await Client.connect(address)
    healthy = await client.service_client.check_health()
    namespace = await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=client.namespace))
    tell({"connected": True, "healthy": healthy, "namespace": namespace.namespace_info.name})
    while line := await asyncio.to_thread(sys.stdin.readline):
        try:
            await act(client, json.loads(line))
            tell({"ok": True})
        except AsyncActivityCancelledError:
            tell({"cancel": True})
        except RPCError as error:
            tell({"error": error.status.name, "message": error.message})


asyncio.run(main(sys.argv[1]))

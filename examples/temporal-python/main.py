"""Runs the worker and one workflow: `python main.py 'I was charged twice'`."""

import argparse
import asyncio
import json
import os
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor

from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.worker import Worker

from handover import run_on_baton
from workflows import Ticket

TASK_QUEUE = "tickets"


async def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("ticket", nargs="?", default="I was charged twice for my order.")
    arguments.add_argument("--temporal", default="127.0.0.1:7233", help="address of Temporal's frontend")
    given = arguments.parse_args()

    client = await Client.connect(given.temporal)
    with ThreadPoolExecutor(4) as threads:
        worker = Worker(
            client, task_queue=TASK_QUEUE, workflows=[Ticket], activities=[run_on_baton], activity_executor=threads
        )
        async with worker:
            workflow_id = f"ticket-{uuid.uuid4()}"
            print(f"workflow {workflow_id}", file=sys.stderr)
            try:
                result = await client.execute_workflow(
                    Ticket.run, given.ticket, id=workflow_id, task_queue=TASK_QUEUE
                )
            except WorkflowFailureError as failed:
                print(f"error: {explain(failed)}", file=sys.stderr)
                return 1
    print(json.dumps(result, indent=2))
    return 0


def explain(failed: WorkflowFailureError) -> str:
    """Baton's failure stands below that of the activity, with its type and, in `details`, the whole problem."""
    cause: BaseException | None = failed.cause
    if isinstance(cause, ActivityError):
        cause = cause.cause
    if isinstance(cause, ApplicationError):
        return f"{cause.type}: {cause.message} {json.dumps(cause.details)}"
    return str(cause)


if __name__ == "__main__":
    code = asyncio.run(main())
    sys.stdout.flush()
    # Not `sys.exit`: threads of the SDK may still run, and taking the interpreter apart under them sometimes crashes
    # (https://github.com/temporalio/sdk-python/issues/300).
    os._exit(code)

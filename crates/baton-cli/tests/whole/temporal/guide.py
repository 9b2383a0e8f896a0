"""Runs the Python of docs/temporal.md as it stands there: `guide.py TEMPORAL BATON`, prints what the workflow gives."""

import asyncio
import base64
import hashlib
import json
import os
import pathlib
import re
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

temporal, baton = sys.argv[1:]
guide = pathlib.Path(__file__).parents[5] / "docs/temporal.md"
activity_text, workflow_text = re.findall(r"```python\n(.*?)```", guide.read_text(), re.DOTALL)[:2]
assert "http://127.0.0.1:8377" in activity_text
exec(activity_text.replace("http://127.0.0.1:8377", baton))
exec(workflow_text)


async def main() -> None:
    client = await Client.connect(temporal)
    worker = Worker(
        client,
        task_queue="guide",
        workflows=[Ticket],  # noqa: F821
        activities=[run_on_baton],  # noqa: F821
        activity_executor=ThreadPoolExecutor(4),
        workflow_runner=UnsandboxedWorkflowRunner(),
    )
    async with worker:
        given = await client.execute_workflow("Ticket", "I was charged twice.", id="guide", task_queue="guide")
        print(json.dumps(given))


asyncio.run(main())
sys.stdout.flush()
# Threads of the SDK may still run: see the example.
os._exit(0)

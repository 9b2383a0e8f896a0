"""An activity that starts an execution of Baton's and is completed by it.

The activity hands over its own task token as the execution's return address, `spec.callbackToken`, and then says that it
will be completed by somebody else. Whatever becomes of the execution, Baton answers the token: with its output, its
failure, or that it was cancelled. No worker waits meanwhile, and no thread.

The name and `requestId` of the execution follow from the activity, so that a second attempt of the activity finds the
execution of the first one and is answered by it: nothing runs twice.
"""

import base64
import hashlib
import json
import os
import re
import urllib.error
import urllib.request

from temporalio import activity
from temporalio.exceptions import ApplicationError

BATON = os.environ.get("BATON_SERVER", "http://127.0.0.1:8377")


@activity.defn
def run_on_baton(kind: str, spec: dict) -> dict:
    """`kind` is `agentexecutions` or `workflowexecutions`; `spec` is that of the execution. Gives its output."""
    info = activity.info()
    # A run of a workflow makes an activity of an id once; attempts of it share the id.
    caller = "/".join((info.namespace, info.workflow_id or "", info.workflow_run_id or "", info.activity_id))
    identity = hashlib.sha256(caller.encode()).hexdigest()
    readable = re.sub("[^a-z0-9]+", "-", (info.workflow_id or "").lower()).strip("-")[:40].strip("-") or "temporal"
    execution = {
        "metadata": {"name": f"{readable}-{identity[:16]}"},
        "spec": {
            **spec,
            "requestId": identity,
            "callbackToken": base64.b64encode(info.task_token).decode(),
        },
    }
    create(f"{BATON}/apis/baton.dev/v1/namespaces/default/{kind}", execution)
    activity.raise_complete_async()


def create(url: str, execution: dict) -> None:
    """Creates an execution, or finds the one that an earlier attempt has created."""
    request = urllib.request.Request(
        url, data=json.dumps(execution).encode(), headers={"Content-Type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            answer.read()
    except urllib.error.HTTPError as refused:
        status = json.load(refused)
        # What Baton does not take now, such as while it starts, another attempt may bring. The rest it never takes.
        passing = refused.code >= 500 or refused.code == 429
        raise ApplicationError(
            f"Baton refused the execution: {status.get('message')}",
            type=status.get("batonReason"),
            non_retryable=not passing,
        ) from None

"""A Temporal workflow of which two steps run on Baton: an agent, and a workflow."""

from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from handover import run_on_baton


async def on_baton(kind: str, spec: dict, timeout: timedelta) -> Any:
    """Runs an execution on Baton and gives its output; raises an ActivityError if it did not complete."""
    return await workflow.execute_activity(
        run_on_baton,
        args=[kind, {**spec, "timeout": f"{int(timeout.total_seconds())}s"}],
        # Baton ends the execution first, and says so.
        start_to_close_timeout=timeout + timedelta(minutes=1),
        # Baton sends heartbeats for the activity three times as often. Without them for so long, it is down.
        heartbeat_timeout=timedelta(seconds=30),
        # Cancelling this workflow cancels the execution, and waits until it has wound up.
        cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        # Attempts are for handing over. All of them get the answer of the one execution.
        retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_attempts=10),
    )


@workflow.defn
class Ticket:
    @workflow.run
    async def run(self, text: str) -> dict:
        triage = await on_baton(
            "agentexecutions", {"agent": "ticket-triage", "message": text}, timeout=timedelta(minutes=10)
        )
        assigned = await on_baton(
            "workflowexecutions", {"workflow": "assign-ticket", "input": triage}, timeout=timedelta(hours=1)
        )
        return {"reply": triage["reply"], **assigned}

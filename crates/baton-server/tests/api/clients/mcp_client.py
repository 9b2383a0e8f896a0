"""A client of the Model Context Protocol: does what each line of its input says and answers with a line.

Arguments: the URL of the server, or as a JSON list the program that is one, and how its version is negotiated ("auto", "legacy" or a version). A line is
`{"op": ..., ...}`; the answer is `{"ok": ...}`, or `{"error": {"code", "message"}}`.
"""

import asyncio
import json
import os
import sys
from typing import Any, Literal

from mcp import Client, StdioServerParameters
from mcp.client.extension import ClientExtension, ResultClaim
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, Request, Result
from pydantic import ConfigDict

TASKS = "io.modelcontextprotocol/tasks"


class Handle(Result):
    """The answer to a call that became a task."""

    model_config = ConfigDict(extra="allow")
    result_type: Literal["task"]
    task_id: str
    status: str
    ttl_ms: int | None


class State(Result):
    model_config = ConfigDict(extra="allow")


class TaskRequest(Request[dict[str, Any], str]):
    name_param = "taskId"


def request(method: str, task: str, **params: Any) -> TaskRequest:
    return TaskRequest(method=method, params={"taskId": task, **params})


async def finish(handle: Handle, context: Any) -> CallToolResult:
    """Polls a task to its end, as the extension demands of clients."""
    while True:
        state = await context.session.send_request(request("tasks/get", handle.task_id), State)
        state = state.model_dump(by_alias=True)
        if state["status"] in ("completed", "cancelled", "failed"):
            return CallToolResult.model_validate(state["result"])
        await asyncio.sleep(0.02)


class Tasks(ClientExtension):
    identifier = TASKS

    def claims(self):
        return [ResultClaim(result_type="task", model=Handle, resolve=finish)]


def dump(message: Any) -> Any:
    return message.model_dump(by_alias=True, mode="json", exclude_none=True)


async def do(client: Client, line: dict[str, Any]) -> Any:
    session = client.session
    match line["op"]:
        case "hello":
            info = client.server_info
            return {"version": client.protocol_version, "name": info.name if info else None,
                    "capabilities": dump(client.server_capabilities)}
        case "list":
            return dump(await client.list_tools())
        case "call":
            told = []

            async def progress(progress: float, total: float | None, message: str | None) -> None:
                told.append([progress, message])

            result = await client.call_tool(
                line["tool"], line.get("arguments"), progress_callback=progress, meta=line.get("meta")
            )
            return {"result": dump(result), "progress": told}
        case "begin":
            return dump(await session.call_tool(
                line["tool"], line.get("arguments"), meta=line.get("meta"), allow_claimed=True
            ))
        case "task":
            return dump(await session.send_request(request(line["method"], line["id"], **line.get("params", {})), State))
        case other:
            raise ValueError(other)


async def main() -> None:
    url, mode, *rest = sys.argv[1:]
    extensions = [Tasks()] if "tasks" in rest else []
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    if url.startswith("["):
        command, *args = json.loads(url)
        url = StdioServerParameters(command=command, args=args, env=dict(os.environ))
    async with Client(url, mode=mode, extensions=extensions, cache=None) as client:
        print(json.dumps({"ok": "ready"}), flush=True)
        while line := await reader.readline():
            try:
                answer = {"ok": await do(client, json.loads(line))}
            except MCPError as error:
                answer = {"error": {"code": error.code, "message": error.message}}
            print(json.dumps(answer), flush=True)


asyncio.run(main())

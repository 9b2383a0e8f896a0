"""A client of the Agent2Agent protocol: does what each line of its input says and answers with a line.

Arguments: the URL of the agent, and the binding ("JSONRPC" or "HTTP+JSON"). A line is `{"op": ..., ...}`; the answer is
`{"ok": ...}`, or `{"error": {"type", "message"}}`. With "receive", it is a receiver of push notifications, too: the answer
"ready" has its URL, and "pushed" gives what came.
"""

import asyncio
import json
import sys
from typing import Any

import httpx
from a2a.client import ClientConfig, ClientFactory
from a2a.client.card_resolver import A2ACardResolver
from a2a.types import a2a_pb2 as pb
from a2a.utils.errors import A2AError
from a2a.client.errors import A2AClientError
from google.protobuf.json_format import MessageToDict, ParseDict

pushed: list[dict[str, Any]] = []
# Statuses that the receiver answers with first.
refuse: list[int] = []


async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One request of HTTP/1.1, answered and closed."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {}
    for line in head[1:]:
        if ":" in line:
            name, value = line.split(":", 1)
            headers[name.strip().lower()] = value.strip()
    body = (await reader.readexactly(int(headers.get("content-length", "0")))).decode()
    status = refuse.pop(0) if refuse else 200
    if status == 200:
        payload = ParseDict(json.loads(body), pb.StreamResponse())
        pushed.append({"headers": headers, "body": body, "payload": MessageToDict(payload)})
    writer.write(f"HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
    await writer.drain()
    writer.close()


def message(line: dict[str, Any]) -> pb.SendMessageRequest:
    return ParseDict(line["request"], pb.SendMessageRequest())


async def do(client: Any, line: dict[str, Any]) -> Any:
    match line["op"]:
        case "card":
            return MessageToDict(client._card)
        case "send":
            return [MessageToDict(event) async for event in client.send_message(message(line))]
        case "first":
            # Goes away after so many events.
            seen = []
            async for event in client.send_message(message(line)):
                seen.append(MessageToDict(event))
                if len(seen) == line["count"]:
                    break
            return seen
        case "subscribe":
            # The first event is a line of its own: then the stream is open.
            seen = []
            async for event in client.subscribe(pb.SubscribeToTaskRequest(id=line["id"])):
                seen.append(MessageToDict(event))
                if len(seen) == 1:
                    print(json.dumps({"ok": seen[0]}), flush=True)
            return seen
        case "get":
            request = pb.GetTaskRequest(id=line["id"])
            if "history" in line:
                request.history_length = line["history"]
            return MessageToDict(await client.get_task(request))
        case "list":
            return MessageToDict(await client.list_tasks(ParseDict(line.get("request", {}), pb.ListTasksRequest())))
        case "cancel":
            return MessageToDict(await client.cancel_task(pb.CancelTaskRequest(id=line["id"])))
        case "push":
            config = ParseDict(line["config"], pb.TaskPushNotificationConfig())
            return MessageToDict(await client.create_task_push_notification_config(config))
        case "configs":
            request = pb.ListTaskPushNotificationConfigsRequest(task_id=line["id"])
            return MessageToDict(await client.list_task_push_notification_configs(request))
        case "config":
            request = pb.GetTaskPushNotificationConfigRequest(task_id=line["id"], id=line["config"])
            return MessageToDict(await client.get_task_push_notification_config(request))
        case "unpush":
            request = pb.DeleteTaskPushNotificationConfigRequest(task_id=line["id"], id=line["config"])
            return await client.delete_task_push_notification_config(request)
        case "refuse":
            return refuse.extend(line["statuses"])
        case "accept":
            return refuse.clear()
        case "pushed":
            while len(pushed) < line["count"]:
                await asyncio.sleep(0.02)
            return pushed
        case other:
            raise ValueError(other)


async def main() -> None:
    url, binding, *rest = sys.argv[1:]
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    receiver = await asyncio.start_server(receive, "127.0.0.1", 0)
    async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
        card = await A2ACardResolver(http, url).get_agent_card()
        config = ClientConfig(
            httpx_client=http, supported_protocol_bindings=[binding], streaming="stream" in rest, polling="poll" in rest
        )
        client = ClientFactory(config).create(card)
        port = receiver.sockets[0].getsockname()[1]
        print(json.dumps({"ok": f"http://127.0.0.1:{port}/hook"}), flush=True)
        while line := await reader.readline():
            try:
                answer = {"ok": await do(client, json.loads(line))}
            except (A2AError, A2AClientError) as error:
                answer = {"error": {"type": type(error).__name__, "message": str(error)}}
            print(json.dumps(answer), flush=True)


asyncio.run(main())

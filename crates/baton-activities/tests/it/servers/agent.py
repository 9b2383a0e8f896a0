"""An agent of the Agent2Agent protocol, by its official SDK: versions 0.3 and 1.0, JSON-RPC over HTTP.

Prints its port. What it does with a message is what the message's text says: `say` answers with a message, `wait` with a
task that waits to be cancelled, anything else with a task that has the text as its artifact. Ends with its standard input.
"""

import asyncio
import os
import socket
import sys
import threading

import uvicorn
from a2a.helpers import new_task_from_user_message, new_text_message, new_text_part
from a2a.server.agent_execution import AgentExecutor
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
from a2a.server.tasks import InMemoryPushNotificationConfigStore, InMemoryTaskStore, TaskUpdater
from a2a.types import AgentCapabilities, AgentCard, AgentInterface, AgentSkill
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse


class Executor(AgentExecutor):
    async def execute(self, context, queue):
        text = context.get_user_input()
        if text == "say":
            told = f"{context.message.message_id} {context.message.role}"
            await queue.enqueue_event(new_text_message(told, context_id=context.context_id))
            return
        task = context.current_task or new_task_from_user_message(context.message)
        await queue.enqueue_event(task)
        updater = TaskUpdater(queue, task.id, task.context_id)
        await updater.start_work()
        if text == "wait":
            await asyncio.Event().wait()
        await updater.add_artifact([new_text_part(text)], name="echo")
        await updater.complete()

    async def cancel(self, context, queue):
        await TaskUpdater(queue, context.task_id, context.context_id).cancel()


def card(url, versions):
    return AgentCard(
        name="echo",
        description="says what it was told",
        version="1.0.0",
        supported_interfaces=[
            AgentInterface(url=url, protocol_binding="JSONRPC", protocol_version=version) for version in versions
        ],
        capabilities=AgentCapabilities(streaming=True, push_notifications=True, extended_agent_card=True),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        skills=[AgentSkill(id="echo", name="echo", description="says what it was told", tags=["test"])],
    )


class Guard:
    """Refuses whoever does not bring the token, below /guarded."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        headers = dict(scope.get("headers", []))
        if scope["type"] == "http" and scope["path"].startswith("/guarded"):
            if headers.get(b"authorization") != b"Bearer let-me-in":
                return await PlainTextResponse("who are you?", 401)(scope, receive, send)
        return await self.app(scope, receive, send)


def main():
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    routes = []
    for path, versions in {"/both": ["1.0", "0.3"], "/new": ["1.0"], "/guarded": ["0.3"]}.items():
        agent = card(url + path, versions)
        handler = DefaultRequestHandler(
            agent_executor=Executor(),
            task_store=InMemoryTaskStore(),
            agent_card=agent,
            push_config_store=InMemoryPushNotificationConfigStore(),
            extended_agent_card=agent,
        )
        routes += create_agent_card_routes(agent, card_url=path + "/card.json")
        routes += create_jsonrpc_routes(handler, path, enable_v0_3_compat="0.3" in versions)
    server = uvicorn.Server(uvicorn.Config(Guard(Starlette(routes=routes)), log_level="warning"))
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    server.run(sockets=[listener])


main()

"""A server of the Model Context Protocol, by its official Python SDK: version 2026-07-28 by streamable HTTP.

Prints its port. `book` asks the person for a seat before it goes on; `weather` gives structured data. Ends with its standard
input.
"""

import os
import socket
import sys
import threading
from typing import Annotated

import uvicorn
from mcp.server.mcpserver import Elicit, MCPServer, Resolve
from pydantic import BaseModel

server = MCPServer("trips")


class Seat(BaseModel):
    seat: str


def ask(to: str) -> Elicit[Seat]:
    return Elicit(f"Which seat to {to}?", Seat)


@server.tool()
def book(to: str, seat: Annotated[Seat, Resolve(ask)]) -> str:
    """Books a trip"""
    return f"booked {seat.seat} to {to}"


@server.tool()
def weather(city: str) -> dict[str, int]:
    """Tells the weather"""
    return {"degrees": len(city)}


def end_with_input():
    sys.stdin.read()
    os._exit(0)


listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
threading.Thread(target=end_with_input, daemon=True).start()
uvicorn.Server(uvicorn.Config(server.streamable_http_app(), log_level="error")).run(sockets=[listener])

"""Bodies of requests from whom nobody knows yet."""

from __future__ import annotations

from fastapi import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serinus.dora.intake import LARGEST, Refused


async def body_of(request: Request, most: int = LARGEST) -> bytes:
    """No more bytes of it are read than are taken. Raises Refused(413)."""
    parts = bytearray()
    async for part in request.stream():
        parts += part
        if len(parts) > most:
            raise Refused(413, f"the body has more than {most} bytes")
    return bytes(parts)


class Bounded:
    """Larger bodies than `LARGEST` end with 413 also where FastAPI reads them itself, which it does before anybody is asked who
    they are. What is ingested has bounds of its own.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it: https://asgi.readthedocs.io/en/latest/specs/main.html."""
        if scope["type"] != "http" or scope["path"].startswith("/ingest/"):
            await self._app(scope, receive, send)
            return
        read = 0

        async def bounded() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > LARGEST:
                raise HTTPException(413, f"the body has more than {LARGEST} bytes")
            return message

        await self._app(scope, bounded, send)

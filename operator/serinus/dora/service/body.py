"""Bodies of requests from whom nobody knows yet."""

from __future__ import annotations

from starlette.requests import Request

from serinus.dora.intake import LARGEST, Refused


async def body_of(request: Request, most: int = LARGEST) -> bytes:
    """No more bytes of it are read than are taken. Raises Refused(413)."""
    parts = bytearray()
    async for part in request.stream():
        parts += part
        if len(parts) > most:
            raise Refused(413, f"the body has more than {most} bytes")
    return bytes(parts)

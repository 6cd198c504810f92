"""The HTTP interface. Its OpenAPI document is at /openapi.json.

Whoever posts is answered when what they said is durable, or why it is not taken. Whoever reads needs the reading secret; where
none is set, reading is open on this machine only.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Path, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError

from serinus.dora.intake import LARGEST, READERS, Reader, Refused
from serinus.dora.service.config import READING, Config
from serinus.dora.service.reception import Full, Reception
from serinus.dora.store.log import Log
from serinus.dora.store.schema import connect

log = logging.getLogger("serinus.dora")


class Taken(BaseModel):
    """The answer to whoever posted."""

    facts: int


class Held(BaseModel):
    """A request in quarantine."""

    number: int
    received: datetime
    reader: str
    status: int
    reason: str
    #: As text; what is none is shown by escapes.
    body: str


class Service:
    """What the requests share."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.log = Log(connect(config.database))
        self.reception = Reception(self.log, lambda: None)

    def reader(self, name: str) -> tuple[Reader, bytes]:
        """With its secret. Raises HTTPException where there is no such source, or none is set up."""
        reader, secret = READERS.get(name), self.config.secrets.get(name)
        if reader is None:
            raise HTTPException(404, f"there is no source {name}; there are {', '.join(READERS)}")
        if secret is None:
            raise HTTPException(403, f"{name} is closed: set SERINUS_DORA_SECRET_{name.upper()} to open it")
        return reader, secret


async def body_of(request: Request) -> bytes:
    """No more of it is read than is taken. Raises Refused(413)."""
    parts = bytearray()
    async for part in request.stream():
        parts += part
        if len(parts) > LARGEST:
            raise Refused(413, f"the body has more than {LARGEST} bytes")
    return bytes(parts)


def may_read(request: Request) -> None:
    """Raises HTTPException for whoever has not the secret, or is not on this machine where there is none."""
    secret = request.app.state.service.config.secrets.get(READING)
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if secret is None:
        if request.client is None or not ip_address(request.client.host).is_loopback:
            raise HTTPException(403, "reading is open on this machine only: set SERINUS_DORA_SECRET_READING")
    elif scheme.lower() != "bearer" or not hmac.compare_digest(given.encode(), secret):
        raise HTTPException(401, "reading needs Authorization: Bearer <secret>", {"WWW-Authenticate": "Bearer"})


async def take(request: Request, reader: Annotated[str, Path(description="The source, such as github.")]) -> Taken:
    """Takes what a source says: a webhook of GitHub, GitLab, Alertmanager or PagerDuty, CDEvents, or facts written by hand.

    202: durable. A repeat is taken, and changes nothing. 4xx: the reason; what was signed is kept in quarantine. 503: come again.
    """
    service: Service = request.app.state.service
    source, secret = service.reader(reader)
    body = await body_of(request)
    source.verify(request.headers, body, secret)
    try:
        facts = source.facts(request.headers, body, service.config.reading)
    except Refused as refused:
        kept = {name: request.headers[name] for name in source.headers if name in request.headers}
        now = datetime.now(UTC)
        await asyncio.to_thread(service.log.hold, source.name, kept, body, refused.status, refused.reason, now)
        raise
    await service.reception.take(facts)
    return Taken(facts=len(facts))


async def held(request: Request) -> list[Held]:
    """The requests that were signed and could not be read, oldest first."""
    return [
        Held(number=row.seq, received=row.received, reader=row.reader, status=row.status, reason=row.reason, body=_text(row.body))
        for row in await asyncio.to_thread(request.app.state.service.log.held)
    ]


async def again(request: Request, number: int) -> Taken:
    """Reads one once more, as after an update that knows more; it leaves the quarantine if it can be read."""
    service: Service = request.app.state.service
    known = await asyncio.to_thread(service.log.held, 1, number)
    if not known:
        raise HTTPException(404, f"there is no request {number} in quarantine")
    (one,) = known
    facts = READERS[one.reader].facts(one.headers, one.body, service.config.reading)
    await asyncio.to_thread(service.log.release, number, facts, datetime.now(UTC))
    return Taken(facts=len(facts))


async def export(request: Request) -> StreamingResponse:
    """All facts, one JSON object a line, in the order in which they came."""
    return StreamingResponse(_lines(request.app.state.service.log), media_type="application/jsonl")


def _lines(known: Log) -> Iterator[str]:
    for fact in known.all():
        yield json.dumps(fact.dump(), ensure_ascii=False) + "\n"


def _text(body: bytes) -> str:
    return body.decode(errors="backslashreplace")


async def healthy(request: Request) -> dict[str, int]:
    """The database answers."""
    return {"facts": await asyncio.to_thread(request.app.state.service.log.count)}


async def _refused(_: Request, refused: Exception) -> Response:
    assert isinstance(refused, Refused)  # noqa: S101  # registered for those
    return JSONResponse({"detail": refused.reason}, refused.status)


async def _full(_: Request, __: Exception) -> Response:
    return JSONResponse({"detail": "too many requests wait to be written"}, 503, {"Retry-After": "5"})


async def _broken(_: Request, error: Exception) -> Response:
    log.error("database: %s", error)
    return JSONResponse({"detail": "the database does not take it now"}, 503, {"Retry-After": "5"})


def application(config: Config) -> FastAPI:
    """The service. Its tables are made, or brought up to date, when it starts."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.service = service = await asyncio.to_thread(Service, config)
        writing = asyncio.ensure_future(service.reception.run())
        yield
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)

    app = FastAPI(title="Serinus DORA", version="v1", lifespan=lifespan, docs_url=None, redoc_url=None)
    reading: dict[str, Any] = {"dependencies": [Depends(may_read)]}
    app.post("/ingest/{reader}", status_code=202)(take)
    app.get("/quarantine", **reading)(held)
    app.post("/quarantine/{number}/again", status_code=202, **reading)(again)
    app.get("/facts", **reading)(export)
    app.get("/healthz")(healthy)
    for kind, answer in ((Refused, _refused), (Full, _full), (SQLAlchemyError, _broken)):
        app.add_exception_handler(kind, answer)
    return app

"""The HTTP interface. Its OpenAPI document is at /openapi.json.

Whoever posts is answered when what they said is durable, or why it is not taken. Who reads and marks is the entrance's to say.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from fastapi import Depends, FastAPI, HTTPException, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from sqlalchemy.exc import SQLAlchemyError

from serinus.dora import rollup
from serinus.dora.facts import Fact, MarkSays
from serinus.dora.figures import Window
from serinus.dora.intake import LARGEST, READERS, Reader, Refused
from serinus.dora.intake.received import header
from serinus.dora.intake.uploads import headers_of
from serinus.dora.metrics import Scope, five
from serinus.dora.review import Page
from serinus.dora.service.body import Bounded, body_of
from serinus.dora.service.config import Config
from serinus.dora.service.entrance import Entrance, guard, may_read, may_scrape, may_write, still_reads
from serinus.dora.service.figures import Figures
from serinus.dora.service.page import page
from serinus.dora.service.pipelines import pipelines
from serinus.dora.service.reception import Full, Reception
from serinus.dora.service.scrape import Scrape
from serinus.dora.service.site import register
from serinus.dora.store.keeper import Keeper
from serinus.dora.store.log import Log
from serinus.dora.store.pipelines import Follower
from serinus.dora.store.schema import connect

log = logging.getLogger("serinus.dora")

#: Seconds: to the next try when the database does not answer, and between two signs of life of a stream.
RETRY, BEAT = 2.0, 15.0
#: Seconds from looking for what is too old to be kept to the next time, and for facts that another process imported.
SWEEP, LOOK = 86_400.0, 5.0
#: The longest window whose figures are told: they are told of each of its days.
LONGEST = timedelta(days=3660)


def _storable(text: str) -> str:
    if "\0" in text:  # JSON takes it, PostgreSQL does not
        raise ValueError("a text holds the character NUL")
    return text


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


class Mark(BaseModel):
    """A person's word: of a release whether it failed or was rework, of an incident which release it is of."""

    model_config = ConfigDict(extra="forbid")

    about: Annotated[
        str,
        Field(pattern=r"^(release|incident)/.", max_length=520, description="release/<key> or incident/<key>"),
        AfterValidator(_storable),
    ]
    verdict: Literal["failed", "fine", "rework", "planned", "release", "unrelated", "unmarked"]
    release: Annotated[
        str, Field(max_length=512, description="With the verdict release: its key."), AfterValidator(_storable)
    ] = ""
    reason: Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(_storable)]

    @model_validator(mode="after")
    def _fits(self) -> Mark:
        of_incident = self.about.startswith("incident/")
        if self.verdict != "unmarked" and of_incident != (self.verdict in ("release", "unrelated")):
            raise ValueError(f"{self.verdict} says nothing about an {'incident' if of_incident else 'attempted release'}")
        if (self.verdict == "release") != bool(self.release):
            raise ValueError("the verdict release, and only that, needs the release's key")
        return self


class Service:
    """What the requests share."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.engine = engine = connect(config.database)
        self.log, self.keeper = Log(engine), Keeper(engine, config.catalog, ZoneInfo(config.zone))
        self.scrape = Scrape(self.log, self.keeper, config.catalog, ZoneInfo(config.zone))
        self.follower = Follower(engine, config.catalog)
        self._unread, self._unfollowed = asyncio.Event(), asyncio.Event()
        self._taken()  # what a process before this one left
        self._swept: dict[str, float] = {}
        self.reception = Reception(self.log, self._taken)
        #: None: it ends.
        self.listeners: set[asyncio.Queue[frozenset[str] | None]] = set()

    def leave(self) -> None:
        """Ends the streams: whoever waits for open requests to end would wait for ever."""
        for listener in self.listeners:
            listener.put_nowait(None)

    async def keep(self) -> None:
        """Keeps up with what comes in, and tells whoever listens of which services it was. Until it is cancelled."""
        await _whenever(self._unread, self._keep)

    async def follow(self) -> None:
        """The same for pipelines, beside it: nobody who waits for a figure waits for those."""
        await _whenever(self._unfollowed, self._follow)

    async def _keep(self) -> None:
        services = await asyncio.to_thread(self.keeper.catch_up)
        for listener in self.listeners if services else ():
            listener.put_nowait(services)
        days = self.config.keep.deliveries
        if days is not None and self._is_due("deliveries"):
            await asyncio.to_thread(self.keeper.forget, datetime.now(UTC) - timedelta(days=days))
            self._swept["deliveries"] = time.monotonic()
            self._unread.set()

    async def _follow(self) -> None:
        await asyncio.to_thread(self.follower.catch_up)
        if self._is_due("pipelines"):
            await asyncio.to_thread(self.follower.forget, datetime.now(UTC) - timedelta(days=self.config.keep.pipelines))
            self._swept["pipelines"] = time.monotonic()

    def _is_due(self, what: str) -> bool:
        """Once a day what is too old goes."""
        return time.monotonic() - self._swept.get(what, -math.inf) >= SWEEP

    def _taken(self) -> None:
        self._unread.set()
        self._unfollowed.set()

    def reader(self, name: str) -> tuple[Reader, bytes]:
        """With its secret. Raises HTTPException where there is no such source, or none is set up."""
        reader, secret = READERS.get(name), self.config.secrets.get(name)
        if reader is None:
            raise HTTPException(404, f"there is no source {name}; there are {', '.join(READERS)}")
        if secret is None:
            raise HTTPException(403, f"{name} is closed: set SERINUS_DORA_SECRET_{name.upper()} to open it")
        return reader, secret


async def _whenever(new: asyncio.Event, work: Callable[[], Awaitable[None]]) -> None:
    """Works when there is something new, and now and then: another process may have imported something."""
    while True:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(new.wait(), LOOK)
        new.clear()
        try:
            await work()
        except Exception as error:  # whatever it is: without this task no figure would ever change again
            log.error("keeping up: %s", error, exc_info=not isinstance(error, SQLAlchemyError))
            await asyncio.sleep(RETRY)
            new.set()


async def take(request: Request, reader: Annotated[str, Path(description="The source, such as github.")]) -> Taken:
    """Takes what a source says: a webhook of GitHub, GitLab, Alertmanager or PagerDuty, CDEvents, or facts written by hand.

    `junit` and `coverage` take a file as tools write it (JUnit's XML; Cobertura's XML or LCOV), and in the query where it is of:
    `repository` and `commit`, and as far as there are any `branch`, `run`, `job`, `suite`, `part` and `at`.

    202: durable. A repeat is taken, and changes nothing. 4xx: the reason; what was signed is kept in quarantine. 503: come again.
    """
    service: Service = request.app.state.service
    source, secret = service.reader(reader)
    now = datetime.now(UTC)
    if source.uploads:  # a token tells who it is before 8 MiB are read
        source.verify(request.headers, b"", secret)
    body = await body_of(request, source.largest)
    source.verify(request.headers, body, secret)
    headers: Mapping[str, str] = request.headers
    try:
        if source.uploads:
            headers = headers_of(request.url.query, headers, now.isoformat())
            facts = await asyncio.to_thread(source.facts, headers, body, service.config.reading)
        else:
            facts = source.facts(headers, body, service.config.reading)
    except Refused as refused:
        # A file that is larger stays with whoever has it: a quarantine of them would fill a disk.
        if len(body) <= LARGEST:
            kept = {name: value for name in source.headers if (value := header(headers, name))}
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


async def again(request: Request, number: Annotated[int, Path(ge=1, lt=2**63)]) -> Taken:
    """Reads one once more, as after an update that knows more; it leaves the quarantine if it can be read."""
    service: Service = request.app.state.service
    known = await asyncio.to_thread(service.log.held, 1, number)
    if not known:
        raise HTTPException(404, f"there is no request {number} in quarantine")
    (one,) = known
    facts = READERS[one.reader].facts(one.headers, one.body, service.config.reading)
    await asyncio.to_thread(service.log.release, number, facts, datetime.now(UTC))
    return Taken(facts=len(facts))


async def mark(request: Request, said: Mark, by: Annotated[str, Depends(may_write)]) -> Taken:
    """Reclassifies. It counts more than what was computed, also of long ago, until another word is said; who and why is kept."""
    service: Service = request.app.state.service
    says = MarkSays(verdict=said.verdict, release=said.release, by=by, reason=said.reason)
    await service.reception.take([Fact.of("marks", str(uuid.uuid4()), datetime.now(UTC), said.about, says)])
    return Taken(facts=1)


async def export(request: Request) -> StreamingResponse:
    """All facts, one JSON object a line, in the order in which they came."""
    return StreamingResponse(_lines(request.app.state.service.log), media_type="application/jsonl")


def _lines(known: Log) -> Iterator[str]:
    for fact in known.all():
        yield json.dumps(fact.dump(), ensure_ascii=False) + "\n"


def _text(body: bytes) -> str:
    return body.decode(errors="backslashreplace")


async def figures(request: Request, start: date, end: date, service: str = "", team: str = "", environment: str = "") -> Figures:
    """The five figures from the first midnight of `start` to that of `end`, in the configured time zone."""
    known: Service = request.app.state.service
    scope = Scope(service, team, environment)
    if end - start > LONGEST:
        raise HTTPException(422, f"a window has at most {LONGEST.days} days")
    try:
        window = Window.of_days(start, end, ZoneInfo(known.config.zone))
    except ValueError as wrong:
        raise HTTPException(422, str(wrong)) from None
    return await asyncio.to_thread(_figures, known.keeper, scope, window)


def _figures(keeper: Keeper, scope: Scope, window: Window) -> Figures:
    return Figures.of(five(keeper.shelf(scope, window), window, scope))


async def review(
    request: Request,
    week: Annotated[
        str, Query(pattern=r"^(|(19[7-9]|2\d\d)\d-W\d{2})$", description="An ISO week such as 2026-W47; this one without.")
    ] = "",
    service: str = "",
    team: str = "",
    environment: str = "",
) -> Page:
    """All that the page shows of a week, with the twelve weeks up to it."""
    known: Service = request.app.state.service
    zone, now = ZoneInfo(known.config.zone), datetime.now(UTC)
    try:
        monday = date.fromisocalendar(int(week[:4]), int(week[6:]), 1) if week else rollup.monday(now.astimezone(zone).date())
    except ValueError as wrong:
        raise HTTPException(422, str(wrong)) from None
    scope = Scope(service, team, environment)
    return await asyncio.to_thread(page, known.log, known.keeper, scope, monday, now, known.config.catalog, zone)


async def live(request: Request) -> StreamingResponse:
    """Server-sent events: one when figures have changed, with the names of the services, and a comment now and then."""
    return StreamingResponse(
        _events(request.app.state.service, request), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


async def _events(service: Service, request: Request) -> AsyncIterator[str]:
    listener: asyncio.Queue[frozenset[str] | None] = asyncio.Queue()
    service.listeners.add(listener)
    try:
        yield ": listening\n\n"
        while True:
            try:
                services = await asyncio.wait_for(listener.get(), BEAT)
            except TimeoutError:
                yield ": still here\n\n"
            else:
                if services is None or not await still_reads(request):
                    return
                yield f"event: figures\ndata: {json.dumps(sorted(services))}\n\n"
    finally:
        service.listeners.discard(listener)


async def metrics(request: Request) -> Response:
    """The figures of the page's four weeks, their targets and how current they are, as Prometheus reads them."""
    text = await asyncio.to_thread(request.app.state.service.scrape.text, datetime.now(UTC))
    return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST, "Cache-Control": "no-store"})


async def healthy(request: Request) -> dict[str, str]:
    """The database answers."""
    await asyncio.to_thread(request.app.state.service.log.ping)
    return {"status": "ok"}


async def _refused(_: Request, refused: Exception) -> Response:
    assert isinstance(refused, Refused)  # noqa: S101  # registered for those
    return JSONResponse({"detail": refused.reason}, refused.status)


async def _wrong(_: Request, wrong: Exception) -> Response:
    """Without what was sent, of which not all can be sent back: halves of characters, NaN."""
    assert isinstance(wrong, RequestValidationError)  # noqa: S101  # registered for those
    said = [{name: one[name] for name in ("type", "loc", "msg")} for one in wrong.errors()]
    return Response(json.dumps({"detail": said}), 422, media_type="application/json")


async def _full(_: Request, __: Exception) -> Response:
    return JSONResponse({"detail": "too many requests wait to be written"}, 503, {"Retry-After": "5"})


async def _broken(_: Request, error: Exception) -> Response:
    log.error("database: %s", error)
    return JSONResponse({"detail": "the database does not take it now"}, 503, {"Retry-After": "5"})


def application(config: Config) -> FastAPI:
    """The service. Its tables are made, or brought up to date, when it starts."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.service = service = Service(config)
        tasks = [asyncio.ensure_future(work) for work in (service.reception.run(), service.keep(), service.follow())]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await entrance.close()

    entrance = Entrance(config)
    app = FastAPI(title="Serinus DORA", version="v1", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(Bounded)
    guard(app, entrance)
    reading: dict[str, Any] = {"dependencies": [Depends(may_read)]}
    writing: dict[str, Any] = {"dependencies": [Depends(may_write)], "status_code": 202}
    app.post("/ingest/{reader}", status_code=202)(take)
    app.get("/quarantine", **reading)(held)
    app.post("/quarantine/{number}/again", **writing)(again)
    app.post("/marks", **writing)(mark)
    app.get("/facts", **reading)(export)
    app.get("/figures", **reading)(figures)
    app.get("/review", **reading)(review)
    app.get("/pipelines", **reading)(pipelines)
    app.get("/live", **reading)(live)
    app.get("/metrics", dependencies=[Depends(may_scrape)], response_class=PlainTextResponse)(metrics)
    app.get("/healthz")(healthy)
    register(app, may_read)
    answers = ((Refused, _refused), (RequestValidationError, _wrong), (Full, _full), (SQLAlchemyError, _broken))
    for kind, answer in answers:
        app.add_exception_handler(kind, answer)
    return app

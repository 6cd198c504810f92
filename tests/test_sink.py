"""Delivery to receivers that take, refuse, fail, stall and answer too much."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from serinus.controller.config import Config
from serinus.events.sink import DELIVERIES, LONGEST, Delivery, HttpSink, backoff, pause

# On Python 3.11 pytest-asyncio makes a loop where there is none yet, and never closes it: a warning, so an error, at the end.

EVENT = {
    "context": {
        "id": "e1",
        "source": "/serinus/prod",
        "type": "dev.cdevents.service.deployed.0.3.0",
        "timestamp": "2026-03-01T10:00:00Z",
    },
    "subject": {"id": "shop/checkout", "content": {}},
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def sink_of(handler: Handler, timeout: float = 5.0) -> AsyncIterator[HttpSink]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/in?token=secret"
    async with aiohttp.ClientSession() as session:
        yield HttpSink(session, url, {"Authorization": "Bearer x"}, name="dora", timeout=timeout)
    await runner.cleanup()


def answering(status: int, text: str = "", headers: dict[str, str] | None = None) -> Handler:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=status, text=text, headers=headers)

    return handler


async def test_an_event_arrives_as_it_should() -> None:
    seen: list[tuple[str, dict[str, str], bytes]] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append((request.method, dict(request.headers), await request.read()))
        return web.Response(status=202)

    before = DELIVERIES.labels("dora", "taken")._value.get()
    async with sink_of(handler) as sink:
        assert (await sink.deliver(EVENT)).result == "taken"
    ((method, headers, body),) = seen
    assert method == "POST"
    assert headers["Content-Type"] == "application/cloudevents+json"
    assert headers["Authorization"] == "Bearer x"
    assert json.loads(body)["data"] == EVENT
    assert DELIVERIES.labels("dora", "taken")._value.get() == before + 1


@pytest.mark.parametrize(
    ("status", "result"),
    [
        (200, "taken"), (204, "taken"), (400, "refused"), (401, "refused"), (404, "refused"), (413, "refused"), (408, "retry"),
        (429, "retry"), (500, "retry"), (503, "retry"),
    ],
)  # fmt: skip
async def test_what_a_status_means(status: int, result: str) -> None:
    async with sink_of(answering(status)) as sink:
        assert (await sink.deliver(EVENT)).result == result


async def test_retry_after_is_heeded_within_reason() -> None:
    for text, expected in [("7", 7.0), ("99999", LONGEST), ("-1", None), ("²", None), ("Sun, 06 Nov 1994 08:49:37 GMT", None)]:
        async with sink_of(answering(429, headers={"Retry-After": text})) as sink:
            assert (await sink.deliver(EVENT)).retry_after == expected


async def test_redirects_are_not_followed() -> None:
    paths = []

    async def handler(request: web.Request) -> web.Response:
        paths.append(request.path)
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    async with sink_of(handler) as sink:
        delivery = await sink.deliver(EVENT)
    assert (delivery.result, paths) == ("refused", ["/in"])


async def test_a_receiver_that_never_answers_costs_the_timeout() -> None:
    async def handler(_: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    async with sink_of(handler, timeout=0.2) as sink:
        began = time.monotonic()
        delivery = await sink.deliver(EVENT)
        assert time.monotonic() - began < 20
    assert (delivery.result, delivery.sentence) == ("retry", "no answer within 0.2 s")


async def test_a_receiver_that_took_it_and_then_drips_has_taken_it() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await asyncio.sleep(10)
        return response

    async with sink_of(handler, timeout=2) as sink:
        assert (await sink.deliver(EVENT)).result == "taken"


async def test_an_endless_answer_is_not_read() -> None:
    sent = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65536)
            sent += 65536

    async with sink_of(handler) as sink:
        assert (await sink.deliver(EVENT)).result == "taken"
    assert sent < 64 * 2**20


async def test_no_connection_is_tried_again_and_no_url_is_said() -> None:
    async with aiohttp.ClientSession() as session:
        assert (await HttpSink(session, "http://127.0.0.1:1").deliver(EVENT)).result == "retry"
        assert (await HttpSink(session, "nowhere").deliver(EVENT)).result == "refused"


async def test_neither_secrets_nor_bodies_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="serinus")
    async with sink_of(answering(403, text="stack trace " * 1000)) as sink:
        await sink.deliver(EVENT)
    assert "event e1 to dora: HTTP 403" in caplog.text
    assert "secret" not in caplog.text
    assert "stack" not in caplog.text


# --- pauses


@given(st.integers(1, 10**9), st.text(max_size=40))
def test_backoff_grows_to_its_bound_and_is_the_same_each_time(attempt: int, key: str) -> None:
    ceiling = min(LONGEST, 2.0 ** min(attempt - 1, 40))
    assert ceiling / 2 <= backoff(attempt, key) <= ceiling
    assert backoff(attempt, key) == backoff(attempt, key)


def test_backoff_spreads() -> None:
    assert len({backoff(9, str(i)) for i in range(100)}) == 100


def test_pauses() -> None:
    assert pause(Delivery("taken", ""), 1) == 0
    assert pause(Delivery("refused", ""), 1) == LONGEST
    assert pause(Delivery("retry", "", 20), 1) == 20
    assert pause(Delivery("retry", ""), 1) <= 1


def test_each_sink_has_the_token_of_its_host_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "dora.serinus.svc").write_text("s3cret\n")
    config = Config(sink_tokens=tmp_path)
    assert config.headers("http://dora.serinus.svc:8090/ingest/cdevents") == {"Authorization": "Bearer s3cret"}
    assert config.headers("https://elsewhere.example/") == {}
    assert Config().headers("http://dora.serinus.svc/") == {}

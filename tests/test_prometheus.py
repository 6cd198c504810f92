"""Prometheus' client against servers that are right, wrong, slow and silent."""

from __future__ import annotations

import asyncio
import json
import math
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from serinus.metrics.prometheus import THREADS, Prometheus
from serinus.metrics.provider import MetricError, MetricRefused, MetricUnreachable, MetricUnusable

START = datetime(2026, 3, 1, 10, 0, 0, 123_456, tzinfo=UTC)
END = START + timedelta(seconds=20)
# On Python 3.11 pytest-asyncio makes a loop where there is none yet, and never closes it: a warning, so an error, at the end.
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler, timeout: float = 3.0) -> AsyncIterator[Prometheus]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    prometheus = Prometheus(f"http://127.0.0.1:{runner.addresses[0][1]}", timeout=timeout)
    try:
        yield prometheus
    finally:
        await prometheus.close()
        await runner.cleanup()
        await idle_threads()


async def idle_threads() -> None:
    """Abandoned threads end once their server has gone."""
    for _ in range(200):
        if not any(t.name == "prometheus" for t in threading.enumerate()):
            return
        await asyncio.sleep(0.02)
    raise AssertionError("a thread outlived its server")


def success(kind: str, result: Any) -> dict[str, Any]:
    return {"status": "success", "data": {"resultType": kind, "result": result}}


def answering(body: object, status: int = 200) -> Handler:
    async def handler(_: web.Request) -> web.Response:
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(text=text, status=status, content_type="application/json" if text[:1] == "{" else "text/html")

    return handler


def vector(*values: str) -> dict[str, Any]:
    return success("vector", [{"metric": {"pod": f"p{i}"}, "value": [1.5, v]} for i, v in enumerate(values)])


def counters(*series: tuple[str, dict[str, str], str], at: float = 1.5) -> dict[str, Any]:
    """An answer to a question for counters: (the query's name, labels, value) of each series."""
    return success("vector", [{"metric": {"serinus_query": q, **labels}, "value": [at, v]} for q, labels, v in series])


# --- what is asked for, and how it is read


async def test_all_counters_of_a_look_are_one_question_and_are_dealt_out() -> None:
    seen: list[tuple[str, dict[str, str]]] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append((request.path, dict(request.query)))
        a, b = ("bad", {"__name__": "x", "pod": "b", "code": "500"}, "2"), ("total", {"__name__": "x", "pod": "b"}, "7")
        return web.json_response(counters(a, b, ("total", {"__name__": "x", "pod": "a"}, "1")))

    async with serving(handler) as prometheus:
        answer = await prometheus.counters({"bad": 'x{y="1 & 2"} # why', "total": "x", "none": "z"})
    ((path, query),) = seen
    assert path == "/api/v1/query"
    assert "time" not in query, "now, by the server's own clock"
    assert query["query"].startswith('label_replace((\nx{y="1 & 2"} # why\n), "serinus_query", "bad", "", "") or label_replace(')
    assert answer.series == {
        "bad": {(("__name__", "x"), ("code", "500"), ("pod", "b")): 2.0},
        "total": {(("__name__", "x"), ("pod", "b")): 7.0, (("__name__", "x"), ("pod", "a")): 1.0},
        "none": {},
    }


async def test_a_server_whose_clock_differs_is_asked_about_a_moment_in_its_own_time() -> None:
    seen: list[str | None] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.query.get("time"))
        return web.json_response(counters(("x", {}, "1"), at=time.time() + 3600))

    async with serving(handler) as prometheus:
        first = await prometheus.counters({"x": "x"})
        assert abs(first.at.timestamp() - time.time()) < 60, "by our own clock"
        assert (await prometheus.counters({"x": "x"}, START)).at == START
    assert seen[0] is None
    assert abs(float(seen[1] or 0) - START.timestamp() - 3600) < 60


async def test_it_is_told_when_each_targets_samples_were_taken_by_our_own_clock() -> None:
    asked: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(request.query["query"])
        ahead = time.time() + 3600
        ages = (("a:9100", 1.5), ("b:9100", 4)) if "timestamp" in asked[-1] else ()
        taken = [("@", {"instance": name}, f"{ahead - age:.3f}") for name, age in ages]
        return web.json_response(counters(("x", {"instance": "a:9100"}, "1"), *taken, at=ahead))

    async with serving(handler) as prometheus:
        now = time.time()
        answer = await prometheus.counters({"x": 'x{y="1"}', "slow": 'n{y="1"} - ignoring(le) b{y="1",le="5"}'})
        await prometheus.counters({"x": 'x{y="1"}'}, START)
        await prometheus.counters({"x": "sum(x)"})
    assert 'max by (instance) (timestamp(x{y="1"}) or timestamp(n{y="1"}))' in asked[0]
    assert {name: round(now - at.timestamp(), 1) for name, at in answer.sampled.items()} == {"a:9100": 1.5, "b:9100": 4.0}
    assert list(answer.series) == ["x", "slow"]
    assert not any("timestamp" in query for query in asked[1:]), "of the past, and of what is no series, nobody asks it"


async def test_of_several_questions_the_one_that_is_refused_is_named_in_its_own_words() -> None:
    async def handler(request: web.Request) -> web.Response:
        if "oops" not in request.query["query"]:
            return web.json_response(counters())
        where = f"1:{request.query['query'].index('oops')}: parse error"
        return web.json_response({"status": "error", "error": where}, status=400)

    async with serving(handler) as prometheus:
        with pytest.raises(MetricRefused, match=r"^total: Prometheus answered HTTP 400: 1:0: parse error; asked: oops\($"):
            await prometheus.counters({"bad": "x", "total": "oops("})


@pytest.mark.parametrize("value", ["-1", "NaN", "+Inf"])
async def test_what_no_counter_can_be_is_an_error_with_the_answer_in_it(value: str) -> None:
    async with serving(answering(counters(("bad", {"pod": "a"}, "1"), ("total", {"pod": "b"}, value)))) as prometheus:
        with pytest.raises(MetricUnusable, match=r'total gives .* for \{pod="b"\}, which no counter can be'):
            await prometheus.counters({"bad": "x", "total": "y"})


async def test_native_histograms_are_no_counters() -> None:
    result = [{"metric": {"serinus_query": "bad"}, "histogram": [1, {}]}]
    async with serving(answering(success("vector", result))) as prometheus:
        with pytest.raises(MetricUnusable, match="bad gives native histograms"):
            await prometheus.counters({"bad": "x"})


async def test_no_series_is_no_error() -> None:
    async with serving(answering(vector())) as prometheus:
        assert (await prometheus.counters({"x": "x"})).series == {"x": {}}
        assert await prometheus.value("x", END) is None


async def test_one_value_also_nan() -> None:
    async with serving(answering(vector("0.25"))) as prometheus:
        assert await prometheus.value("x", END) == 0.25
    async with serving(answering(vector("NaN"))) as prometheus:
        assert math.isnan(await prometheus.value("x", END) or 0)


# --- answers that cannot be used


@pytest.mark.parametrize(
    ("handler", "error", "sentence"),
    [
        (answering("<html>sign in</html>"), MetricUnusable, "Prometheus answered with a web page: is its address right?"),
        (answering(""), MetricUnusable, "answered with nothing"),
        (answering("{oh"), MetricUnusable, "answered with no JSON"),
        (answering("<h1>x</h1>", 404), MetricRefused, "answered HTTP 404 with a web page"),
        (answering("", 503), MetricUnreachable, "answered HTTP 503$"),
        (answering({"status": "error", "error": 'parse error: "}"'}, 400), MetricRefused, 'HTTP 400: parse error: "}"'),
        (answering({"status": "error", "error": "query timed out"}, 503), MetricUnreachable, "HTTP 503: query timed out"),
        (answering({"status": "error"}), MetricRefused, "no reason given"),
        (answering(vector("1", "2")), MetricUnusable, r'2 series where one number is needed, e.g. \{pod="p0"\} and \{pod="p1"\}'),
        (answering(success("scalar", [1, "2"])), MetricUnusable, "gives a scalar"),
        (answering(success("string", [1, "2"])), MetricUnusable, "gives a string"),
        (answering(success("matrix", [])), MetricUnusable, "gives a range of values"),
        (answering(success("vector", [{"metric": {}, "histogram": [1, {}]}])), MetricUnusable, "native histogram"),
        (answering(success("vector", [{"metric": {}, "value": [1, "many"]}])), MetricUnusable, "cannot be read"),
        (answering(success("vector", None)), MetricUnusable, "result of type vector"),
        (answering({"status": "success", "data": 3}), MetricUnusable, "result of type None"),
        (answering("[]"), MetricUnusable, "no JSON"),
    ],
)  # fmt: skip
async def test_each_wrong_answer_has_its_sentence(handler: Handler, error: type[MetricError], sentence: str) -> None:
    async with serving(handler) as prometheus:
        with pytest.raises(error, match=sentence):
            await prometheus.value("x", END)


async def test_redirects_are_not_followed() -> None:
    async def handler(request: web.Request) -> web.Response:
        assert request.path != "/elsewhere"
        return web.Response(status=302, headers={"Location": "/elsewhere"})

    async with serving(handler) as prometheus:
        with pytest.raises(MetricRefused, match="redirects"):
            await prometheus.value("x", END)


async def test_connection_refused() -> None:
    prometheus = Prometheus("http://127.0.0.1:1")
    with pytest.raises(MetricUnreachable, match=r"cannot be reached: .*refused"):
        await prometheus.value("x", END)
    await prometheus.close()


async def test_a_connection_that_was_dropped_is_not_used_again() -> None:
    async def handler(request: web.Request) -> web.Response:
        response = web.json_response(vector("1"))
        response.force_close()
        return response

    async with serving(handler) as prometheus:
        for _ in range(3):
            assert await prometheus.value("x", END) == 1


# --- servers that take their time


async def test_a_server_that_never_answers_costs_the_timeout_and_no_more() -> None:
    async def handler(_: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    async with serving(handler, timeout=0.3) as prometheus:
        began = time.monotonic()
        with pytest.raises(MetricUnreachable, match="did not answer"):
            await prometheus.value("x", END)
        assert time.monotonic() - began < 20


async def test_a_server_that_answers_byte_by_byte_costs_the_timeout_and_its_thread_ends() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(200):
            await response.write(b" ")
            await asyncio.sleep(0.05)
        return response

    async with serving(handler, timeout=0.3) as prometheus:
        began = time.monotonic()
        with pytest.raises(MetricUnreachable, match="did not"):
            await prometheus.value("x", END)
        assert time.monotonic() - began < 8
        await idle_threads()


async def test_who_asks_when_many_do_waits_for_a_turn() -> None:
    """More questions at once than may be unanswered: a look of many checks, or many releases."""
    async with serving(answering(vector("0.25")), timeout=5) as prometheus:
        answers = await asyncio.gather(*(prometheus.value(f"x{i}", END) for i in range(4 * THREADS)))
    assert answers == [0.25] * 4 * THREADS


async def test_only_so_many_can_be_unanswered() -> None:
    """Headers that never end hold a thread; there is a bound, and it is said. When the server lets go, all is well again."""
    release = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n")
        try:
            while not release.is_set():
                writer.write(b"X-")
                await writer.drain()
                await asyncio.sleep(0.02)
            writer.write(b": 1\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" + json.dumps(vector("1")).encode())
            await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    prometheus = Prometheus(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", timeout=1)
    results = await asyncio.gather(*(prometheus.value(f"x{i}", END) for i in range(THREADS + 2)), return_exceptions=True)
    assert all(isinstance(r, MetricUnreachable) for r in results)
    assert sum("earlier queries" in str(r) for r in results) == 2
    release.set()
    await idle_threads()
    assert await prometheus.value("x", END) == 1
    await prometheus.close()
    server.close()
    await server.wait_closed()


async def test_an_answer_that_is_too_large_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serinus.metrics.prometheus.LARGEST_ANSWER", 2**20)
    async with serving(answering("{" + " " * 2**21)) as prometheus:
        with pytest.raises(MetricUnusable, match="larger than 1 MiB"):
            await prometheus.value("x", END)


# --- single flight


async def test_the_same_question_is_asked_once_at_a_time() -> None:
    asked = 0

    async def handler(_: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.1)
        return web.json_response(vector(str(asked)))

    async with serving(handler) as prometheus:
        waiting = [asyncio.create_task(prometheus.value("x", END)) for _ in range(5)]
        other = asyncio.create_task(prometheus.value("y", END))
        await asyncio.sleep(0.02)
        waiting[0].cancel()  # the others still want the answer
        results = await asyncio.gather(*waiting[1:])
        await other
        assert len(set(results)) == 1
        assert asked == 2
        await prometheus.value("x", END)
        assert asked == 3


async def test_closing_ends_what_is_under_way() -> None:
    async def handler(_: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    async with serving(handler, timeout=1) as prometheus:
        waiting = asyncio.create_task(prometheus.value("x", END))
        await asyncio.sleep(0.05)
        await prometheus.close()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_without_an_address_the_sentence_says_where_to_set_it() -> None:
    with pytest.raises(MetricError, match=r"prometheus\.url"):
        await Prometheus("").value("up", datetime.now(UTC))

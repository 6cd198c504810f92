"""Reading counters from pages, against real servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiohttp import web

from serinus.analysis.counters import PAGE, Rises
from serinus.metrics.direct import Page, Pages, pod_page, resolved
from serinus.metrics.provider import MetricError, MetricMisconfigured, MetricRefused, MetricUnreachable, MetricUnusable

TEXT = """# TYPE requests_total counter
requests_total{code="200",service="web"} 90
requests_total{code="500",service="web"} 10
requests_total{code="200",service="web-canary"} 5
"""
QUERIES = {"bad": 'requests_total{service="web",code=~"5.."}', "total": 'requests_total{service="web"}'}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/metrics", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/metrics"
    finally:
        await runner.cleanup()


def saying(text: str, status: int = 200) -> Handler:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(text=text, status=status)

    return handler


async def asked(pages: Pages, *urls: str) -> dict[str, dict[object, float]]:
    try:
        found = await pages.counters([Page(url) for url in urls], QUERIES)
        return {name: dict(series) for name, series in found.series.items()}
    finally:
        await pages.close()


async def test_counters_of_one_page_by_query() -> None:
    async with serving(saying(TEXT)) as url:
        found = await asked(Pages(), url)
    assert sorted(found["bad"].values()) == [10]
    assert sorted(found["total"].values()) == [10, 90]


async def test_the_same_series_of_two_processes_are_two() -> None:
    async with serving(saying(TEXT)) as one, serving(saying(TEXT)) as other:
        found = await asked(Pages(), one, other)
    assert sum(found["total"].values()) == 200
    assert {dict(labels)[PAGE] for labels in found["total"]} == {one, other}  # type: ignore[call-overload]


async def test_many_who_ask_at_once_read_a_page_once() -> None:
    reads = 0

    async def counting(_: web.Request) -> web.Response:
        nonlocal reads
        reads += 1
        await asyncio.sleep(0.02)
        return web.Response(text=TEXT)

    async with serving(counting) as url:
        pages = Pages()
        answers = await asyncio.gather(*(pages.counters([Page(url)], QUERIES) for _ in range(50)))
        await pages.close()
    assert reads == 1
    assert all(answer.series == answers[0].series for answer in answers)


@pytest.mark.parametrize(
    ("handler", "error", "words"),
    [
        (saying("no", 503), MetricRefused, "answered HTTP 503"),
        (saying("<html>"), MetricUnusable, "/metrics: "),
        (saying(TEXT.replace("90", "NaN")), MetricUnusable, "/metrics: .* is not a number"),
        (saying(TEXT.replace("90", "-1")), MetricUnusable, "-1"),
    ],
    ids=["refused", "html", "nan", "negative"],
)
async def test_what_cannot_be_judged_is_said(handler: Handler, error: type[MetricError], words: str) -> None:
    async with serving(handler) as url:
        with pytest.raises(error, match=words):
            await asked(Pages(), url)


async def test_one_page_that_does_not_answer_is_no_answer_at_all() -> None:
    async def never(_: web.Request) -> web.Response:
        await asyncio.sleep(30)
        raise AssertionError

    async with serving(never) as slow, serving(saying(TEXT)) as well:
        with pytest.raises(MetricUnreachable, match=r"did not answer within 0.3 s"):
            await asked(Pages(timeout=0.3), well, slow)
    with pytest.raises(MetricUnreachable, match="cannot be reached"):
        await asked(Pages(), slow)
    with pytest.raises(MetricUnreachable, match="nobody to ask"):
        await asked(Pages())


async def test_promql_is_refused_unasked() -> None:
    with pytest.raises(MetricMisconfigured, match="reads plain selectors"):
        await Pages().counters([Page("http://127.0.0.1:1/metrics")], {"bad": "sum(rate(x[1m]))"})


async def test_a_name_becomes_a_page_for_each_address() -> None:
    (page,) = await resolved("http://127.0.0.1:9100")
    assert page == Page("http://127.0.0.1:9100/metrics", "127.0.0.1:9100")
    assert await resolved("https://gateway.example/metrics") == [Page("https://gateway.example/metrics")]
    for wrong in ("gateway:9100", "http://", "http://x:99999"):
        with pytest.raises(MetricError):
            await resolved(wrong)
    with pytest.raises(MetricUnreachable, match="has no address"):
        await resolved("http://no-such-name.invalid/metrics")


def test_a_pods_page_has_its_labels() -> None:
    page = pod_page("fd00::1", 8080, "/metrics", {"pod": "web-1"})
    assert page == Page("http://[fd00::1]:8080/metrics", labels=(("pod", "web-1"),))


async def test_a_page_that_was_not_known_begins_at_what_it_says_first() -> None:
    """A gateway's pod that is new to us has counted for long; on a page that is known a new series begins at zero."""
    async with serving(saying(TEXT)) as one, serving(saying(TEXT)) as other:
        pages = Pages()
        known = await pages.counters([Page(one)], QUERIES)
        rises = Rises(known.series)
        both = await pages.counters([Page(one), Page(other)], QUERIES)
        assert rises.since(both.series) == dict.fromkeys(QUERIES, 0.0)
        more = {**both.series, "bad": {**both.series["bad"], (("code", "502"), (PAGE, one)): 3.0}}
        assert rises.since(replace(both, series=more).series)["bad"] == 3.0
        await pages.close()


async def test_a_page_that_answered_without_the_series_is_known_and_its_first_failures_count() -> None:
    async with serving(saying("# TYPE requests_total counter\n")) as idle:
        pages = Pages()
        before = await pages.counters([Page(idle)], QUERIES)
        rises = Rises(before.series, before.pages)
        assert rises.since({"bad": {(("code", "500"), (PAGE, idle)): 10.0}, "total": {}}, before.pages)["bad"] == 10
        await pages.close()

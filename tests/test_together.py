"""Many looks asked by few queries, against a server that knows a thousand canaries."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web

from serinus.metrics import together
from serinus.metrics.exposition import evaluate, parse
from serinus.metrics.prometheus import Prometheus
from serinus.metrics.provider import MetricRefused, MetricUnreachable, Snapshot
from serinus.metrics.selector import parse as expression
from serinus.metrics.together import Together

_PART = re.compile(r'label_replace\(\(\n(.*?)\n\), "serinus_query", "(.*?)", "", ""\)', re.S)


@dataclass
class Server:
    """Enough of Prometheus for selectors. What asks for `refused` in the service's name is refused."""

    text: str
    url: str = ""
    asked: list[str] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        form = await request.post()
        query = form.get("query") or request.query["query"]
        if moment := form.get("time") or request.query.get("time"):
            self.moments.append(float(str(moment)))
        assert isinstance(query, str)
        self.asked.append(query)
        if "refused" in query:
            return web.json_response({"status": "error", "error": "that one"}, status=400)
        result = []
        for text, name in _PART.findall(query):
            if name == "@":  # when the samples were taken
                result.append({"metric": {"instance": "gateway", "serinus_query": name}, "value": [1.5, "1.25"]})
                continue
            one = expression(text)
            assert one is not None, text
            for labels, value in evaluate(one, parse(self.text.encode(), None, None)).items():
                result.append({"metric": {**dict(labels), "serinus_query": name}, "value": [1.5, str(value)]})
        return web.Response(text=json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}}))


def queries(service: str) -> dict[str, str]:
    return {"bad": f'requests_total{{service="{service}",code="500"}}', "total": f'requests_total{{service="{service}"}}'}


@asynccontextmanager
async def knowing(count: int) -> AsyncIterator[tuple[Server, Together]]:
    lines = [
        f'requests_total{{service="s{i}",code="{code}"}} {value}'
        for i in range(count)
        for code, value in (("200", i), ("500", 1))
    ]
    server = Server("# TYPE requests_total counter\n" + "\n".join(lines) + "\n")
    app = web.Application(client_max_size=2**24)
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    asker = Together(Prometheus(f"http://127.0.0.1:{runner.addresses[0][1]}", timeout=30))
    try:
        yield server, asker
    finally:
        await asker.close()
        await runner.cleanup()


async def look(asker: Together, *services: str) -> list[object]:
    return await asyncio.gather(*(asker.counters(queries(service)) for service in services), return_exceptions=True)


async def test_one_waits_for_nobody_and_asks_what_it_asked_alone() -> None:
    async with knowing(3) as (server, asker):
        found = await asker.counters(queries("s2"))
        assert sorted(found.series["total"].values()) == [1, 2]
    assert len(server.asked) == 1
    assert 'service="s2"' in server.asked[0]


async def test_many_are_asked_together_and_each_gets_its_own() -> None:
    many = [f"s{i}" for i in range(2 * together.MOST)]
    async with knowing(len(many)) as (server, asker):
        for _ in range(3):  # the first ask before anybody knows of the others
            server.asked.clear()
            found = await look(asker, *many)
        for i, each in enumerate(found):
            assert not isinstance(each, BaseException)
            assert sorted(each.series["total"].values()) == sorted([1, i]), each  # type: ignore[attr-defined]
            assert list(each.series["bad"].values()) == [1]  # type: ignore[attr-defined]
    assert len(server.asked) == 2


async def test_who_is_refused_spoils_nothing_for_the_others() -> None:
    async with knowing(20) as (server, asker):
        services = [*(f"s{i}" for i in range(20)), "refused"]
        for _ in range(3):
            found = await look(asker, *services)
            assert [i for i, each in enumerate(found) if isinstance(each, BaseException)] == [20]
            assert isinstance(found[20], MetricRefused)
        server.asked.clear()
        await look(asker, *services)
    assert len(server.asked) < 12


async def test_who_gives_up_takes_no_answer_from_the_others() -> None:
    async with knowing(2) as (_, asker):
        first, second = (asyncio.ensure_future(asker.counters(queries("s1"))) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        assert list((await second).series["bad"].values()) == [1]
        with pytest.raises(asyncio.CancelledError):
            await first


async def test_what_was_is_asked_together_by_whole_seconds_and_forgotten() -> None:
    many = [f"s{i}" for i in range(40)]
    at = datetime(2026, 3, 1, 12, 0, 0, 300_000, UTC)
    async with knowing(len(many)) as (server, asker):
        asked = (asker.counters(queries(one), at + timedelta(milliseconds=10 * i)) for i, one in enumerate(many))
        found = await asyncio.gather(*asked)
        for i, each in enumerate(found):
            assert sorted(each.series["total"].values()) == sorted([1, i])
            assert each.at == datetime(2026, 3, 1, 12, 0, 1, tzinfo=UTC), "rounded up: what was before is not counted twice"
        assert len(server.asked) <= 2
        assert set(server.moments) == {each.at.timestamp()}
        assert not asker._of
        assert not asker._chunks


async def test_who_is_refused_for_a_moment_that_was_spoils_nothing_for_the_others() -> None:
    at = datetime(2026, 3, 1, 12, 0, 0, 300_000, UTC)
    async with knowing(20) as (_, asker):
        services = [*(f"s{i}" for i in range(20)), "refused"]
        found = await asyncio.gather(*(asker.counters(queries(one), at) for one in services), return_exceptions=True)
        assert [i for i, each in enumerate(found) if isinstance(each, BaseException)] == [20]
        assert not asker._of
        assert not asker._chunks


async def test_a_moment_just_now_is_asked_for_as_it_is() -> None:
    """Rounded up it might be later than the look it is taken from: that would look like a counter that began anew."""
    async with knowing(1) as (_, asker):
        at = datetime.now(UTC) - timedelta(milliseconds=1)
        assert (await asker.counters(queries("s0"), at)).at == at


async def test_what_is_no_plain_selector_is_asked_alone() -> None:
    async with knowing(1) as (server, asker):
        with pytest.raises(MetricRefused):
            await asker.counters({"bad": "sum(refused)", "total": "sum(x)"})
    assert any("sum(refused)" in query for query in server.asked)


class Shaky:
    """Answers after a while, which differs; what asks for `refused` is refused, and while it is `down` nobody is answered."""

    def __init__(self, seed: int) -> None:
        self.rng, self.asked, self.down = random.Random(seed), 0, False  # noqa: S311  # no secret

    async def counters(self, queries: Mapping[str, str], at: datetime | None = None) -> Snapshot:
        self.asked += 1
        for _ in range(self.rng.randrange(1, 30)):
            await asyncio.sleep(0)
        if self.down:
            raise MetricUnreachable("HTTP 503")
        if any("refused" in query for query in queries.values()):
            raise MetricRefused("that one")
        return Snapshot(datetime.now(UTC), {name: {} for name in queries})

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("seed", range(10))
async def test_everybody_gets_an_answer_though_they_ask_at_moments_of_their_own_and_one_is_refused(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(together, "SPACING", 0.0)
    shaky = Shaky(seed)
    asker = Together(shaky)  # type: ignore[arg-type]

    async def member(name: str) -> None:
        for _ in range(6):
            for _ in range(shaky.rng.randrange(60)):
                await asyncio.sleep(0)
            with contextlib.suppress(MetricRefused):
                await asker.counters(queries(name))

    async with asyncio.timeout(20):
        await asyncio.gather(*(member(name) for name in [*(f"s{i}" for i in range(30)), "refused"]))
    await asker.close()


async def test_after_a_prometheus_was_down_many_are_asked_together_again() -> None:
    shaky = Shaky(1)
    asker, many = Together(shaky), [f"s{i}" for i in range(100)]  # type: ignore[arg-type]
    for down in (False, False, True, False):
        shaky.down = down
        await look(asker, *many)
    shaky.asked = 0
    assert not any(isinstance(each, BaseException) for each in await look(asker, *many))
    assert shaky.asked <= 2
    await asker.close()

"""One look: what is said when an answer cannot be judged, and when the next look is."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from serinus.analysis.verdict import Verdict
from serinus.api.canary import Canary
from serinus.controller.looks import Looks, look, pause
from serinus.controller.sources import Sources
from serinus.kube import Kube
from serinus.metrics.provider import Snapshot

START = datetime(2026, 3, 1, 10, tzinfo=UTC)
RATIO: dict[str, Any] = {
    "name": "errors",
    "harm": "1%",
    "ratio": {"bad": 'b{s="{{ service }}"}', "total": 't{s="{{ service }}"}'},
}
LIMIT: dict[str, Any] = {"name": "queue", "query": "max(queue)", "max": 3}


class Nowhere(Kube):
    """No API server: these checks need none."""

    def __init__(self) -> None:
        pass


class Counting:
    """A Prometheus that scrapes one target every 5 s, whose counters are `values` a scrape."""

    def __init__(self, **values: float) -> None:
        self.values, self.now = values, START

    async def counters(self, queries: Mapping[str, str], at: datetime | None = None) -> Snapshot:
        scrapes = ((at or self.now) - START).total_seconds() // 5
        series = {name: {(("s", name),): scrapes * self.values.get(name, 0.0)} for name in queries}
        return Snapshot(at or self.now, series, {} if at else {"gateway": START + timedelta(seconds=5 * scrapes)})

    async def value(self, query: str, at: datetime) -> float | None:
        return self.values.get(query, 1.0)

    async def close(self) -> None:
        pass


def made(*metrics: dict[str, Any]) -> tuple[Looks, Canary]:
    spec: dict[str, Any] = {
        "targetRef": {"name": "web"},
        "service": {"name": "web", "port": 80},
        "traffic": {"gatewayAPI": {"httpRoutes": [{"name": "web"}]}},
        "stepWeights": [10],
        "analysis": {"metrics": list(metrics)},
    }
    canary = Canary.model_validate({"metadata": {"name": "web", "namespace": "shop"}, "spec": spec})
    return Looks("web-1", 1, "canary", START), canary


async def looked(looks: Looks, canary: Canary, source: Counting, *seconds: float) -> tuple[Verdict, list[float]]:
    """Looks at these moments: the last verdict, and what each says about the next look."""
    pauses = []
    for second in seconds:
        source.now = START + timedelta(seconds=second)
        verdict = await look(looks, Nowhere(), Sources(source), canary, source.now)
        pauses.append(pause(looks, canary, source.now, 1.0))
    return verdict, pauses


async def test_more_bad_events_than_events_is_an_error_that_shows_both_queries_and_the_answer() -> None:
    looks, canary = made(RATIO)
    verdict, _ = await looked(looks, canary, Counting(bad=3, total=2, servingTotal=50), 1, 6)
    assert verdict.kind == "NoData"
    assert 'asked: bad: b{s="web-canary"}, total: t{s="web-canary"}' in verdict.sentence
    assert "3 bad of only 2 requests" in verdict.sentence


async def test_a_variable_that_does_not_exist_is_an_error_that_shows_the_query() -> None:
    looks, canary = made(RATIO | {"ratio": {"bad": "b{{ servce }}", "total": "t"}})
    verdict, _ = await looked(looks, canary, Counting(), 1)
    assert verdict.kind == "NoData"
    assert "there is no variable 'servce'" in verdict.sentence
    assert "asked: b{{ servce }}" in verdict.sentence


async def test_a_number_that_is_worse_than_the_serving_versions_fails_by_pairs_that_are_apart() -> None:
    looks, canary = made({"name": "heap", "query": 'heap{s="{{ service }}"}', "worse": "higher", "tolerance": "20%"})
    source = Counting(**{'heap{s="web-canary"}': 130, 'heap{s="web"}': 100})
    verdict, _ = await looked(looks, canary, source, *range(15, 15 * 8, 5))
    assert verdict.kind == "Wait"
    assert verdict.doubt
    assert verdict.findings[0].total == verdict.findings[0].bad is None, "a number, no ratio"
    recorded = [finding.evidence() for finding in verdict.findings]

    again = Looks("web-1", 1, "canary", START, recorded)  # another process goes on
    verdict, _ = await looked(again, canary, source, 15 * 8)
    assert verdict.kind == "Fail"
    assert "in 8 of 8 pairs" in verdict.sentence


async def test_a_number_that_is_no_worse_passes() -> None:
    looks, canary = made({"name": "heap", "query": 'heap{s="{{ service }}"}', "worse": "higher", "tolerance": "20%"})
    verdict, _ = await looked(looks, canary, Counting(**{'heap{s="web-canary"}': 119, 'heap{s="web"}': 100}), 15, 30, 45, 60)
    assert verdict.kind == "Pass"


async def test_a_query_that_is_the_same_for_both_versions_cannot_be_compared() -> None:
    looks, canary = made({"name": "heap", "query": "heap", "worse": "higher"})
    verdict, _ = await looked(looks, canary, Counting(), 15)
    assert "no variable that tells them apart" in verdict.sentence


async def test_looks_are_timed_to_scrapes_once_two_are_known() -> None:
    looks, canary = made(RATIO)
    _, pauses = await looked(looks, canary, Counting(total=5, servingTotal=50), 1, 2, 5.5, 10.5)
    assert pauses == pytest.approx([1, 1, 4.75, 4.75])


async def test_a_check_that_is_no_counter_is_asked_at_the_interval() -> None:
    looks, canary = made(RATIO, LIMIT)
    _, pauses = await looked(looks, canary, Counting(total=5, servingTotal=50), 1, 5.5, 10.5)
    assert pauses == [1, 1, 1]

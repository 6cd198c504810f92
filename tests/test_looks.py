"""One look: what is said when an answer cannot be judged, and when the next look is."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from serinus.analysis.verdict import Verdict
from serinus.api.canary import Canary, Metric
from serinus.controller.looks import Looks, begin, look, pause
from serinus.controller.sources import Around, Sources
from serinus.kube import Kube
from serinus.metrics.provider import MetricRefused, Snapshot
from serinus.metrics.templates import resolve

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
    """A Prometheus that scrapes one target every 5 s, whose counters are `values` a scrape.

    `refused`: it answers no more. `behind`: a replica answers, whose scrapes are so many seconds older. `lifetimes`: counters
    of a second target, which was not scraped at the beginning.
    """

    def __init__(self, **values: float) -> None:
        self.values, self.now = values, START
        self.refused, self.behind = "", 0.0
        self.lifetimes: dict[str, float] = {}

    async def counters(self, queries: Mapping[str, str], at: datetime | None = None) -> Snapshot:
        if self.refused:
            raise MetricRefused(self.refused)
        seconds = ((at or self.now) - START).total_seconds() - (0 if at else self.behind)
        scrapes = seconds // 5
        series = {name: {(("instance", "a"), ("q", q)): scrapes * self.values.get(name, 0.0)} for name, q in queries.items()}
        if not -10 < seconds < 4:
            for name in queries:
                series[name][("instance", "b"), ("q", "")] = self.lifetimes.get(name, 0.0)
        return Snapshot(at or self.now, series, {} if at else {"a": START + timedelta(seconds=5 * scrapes)})

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


async def test_one_question_without_an_answer_takes_nothing_of_what_was_counted() -> None:
    looks, canary = made(RATIO)
    source = Counting(bad=1, total=50, servingTotal=50)
    await looked(looks, canary, source, 1, 6, 11)
    source.refused = "HTTP 400"
    verdict, _ = await looked(looks, canary, source, 12)
    (finding,) = verdict.findings
    assert (finding.verdict, finding.bad, finding.total) == ("Error", 2, 100)


async def test_a_look_that_raises_leaves_no_verdict_standing(monkeypatch: pytest.MonkeyPatch) -> None:
    looks, canary = made(RATIO)
    looks.verdict = Verdict("Pass", "all was well")
    seen = asyncio.Event()

    async def broken(*_: object) -> Verdict:
        raise KeyError("a half of an answer")

    monkeypatch.setattr("serinus.controller.looks.look", broken)
    begin(looks, Nowhere(), Sources(Counting()), canary, seen.set)
    await asyncio.wait_for(seen.wait(), 5)
    looks.stop()
    assert looks.verdict.kind == "NoData"
    assert "KeyError" in looks.verdict.sentence


async def test_another_replicas_older_scrape_is_no_reset() -> None:
    looks, canary = made(RATIO)
    source = Counting(bad=0.5, total=50, servingBad=5, servingTotal=500)
    for second in range(1, 60):
        source.behind = 3.0 if second % 2 else 0.0
        verdict, _ = await looked(looks, canary, source, second)
    assert verdict.findings[0].total == 50 * 11, "the newest scrape that any look saw"


async def test_a_target_that_was_not_scraped_when_the_release_began_brings_no_past_with_it() -> None:
    looks, canary = made(RATIO)
    source = Counting(total=50, servingTotal=500)
    source.lifetimes = {"bad": 1500, "total": 4000, "servingBad": 90, "servingTotal": 900_000}
    verdict, _ = await looked(looks, canary, source, 1, 6, 11)
    assert (verdict.findings[0].bad, verdict.findings[0].total) == (0, 100)


async def test_a_template_that_is_edited_in_mid_release_begins_another_test() -> None:
    looks, canary = made(RATIO)
    await looked(looks, canary, Counting(bad=0, total=50, servingTotal=500), 1, 6, 11)
    renamed = {"bad": 'c{s="{{ service }}"}', "total": 'u{s="{{ service }}"}'}
    check = resolve(Metric.model_validate(RATIO | {"ratio": renamed}), None, "shop")
    looks.resolved[("errors", None)] = (check, math.inf)
    verdict, _ = await looked(looks, canary, Counting(bad=1000, total=60_000, servingTotal=500), 16)
    assert verdict.findings[0].total == 60_000 * 3, "since the release began, by the new queries alone"
    assert verdict.findings[0].bad == 1000 * 3


async def test_no_step_ends_while_pods_warm_up_and_what_they_did_meanwhile_does_not_count() -> None:
    looks, canary = made(RATIO)
    looks.around = Around(warm_at=START + timedelta(seconds=12))
    source = Counting(bad=10, total=20, servingTotal=500)
    verdict, _ = await looked(looks, canary, source, 1, 6, 11, 16)
    assert (verdict.kind, verdict.doubt) == ("Wait", True)
    assert "pods warm up until 10:00:12" in verdict.sentence
    verdict, _ = await looked(looks, canary, source, 21)
    assert verdict.findings[0].total == 20, "the scrape at 15 s is the first that is all warm"


async def test_at_weight_100_there_are_no_pairs_to_wait_for() -> None:
    looks, canary = made({"name": "heap", "query": 'heap{s="{{ service }}"}', "worse": "higher"})
    looks.around = Around(alone=True, weight=100)
    assert (await looked(looks, canary, Counting(), 15))[0].kind == "Pass"


async def test_without_a_number_of_the_serving_version_there_is_nothing_to_compare_with() -> None:
    looks, canary = made({"name": "heap", "query": 'heap{s="{{ service }}"}', "worse": "higher"})
    source = Counting(**{'heap{s="web"}': math.nan})
    verdict, _ = await looked(looks, canary, source, 15)
    assert (verdict.kind, "no number of the serving version" in verdict.sentence) == ("NoData", True)

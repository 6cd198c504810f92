"""Looking at a release's metrics, once an interval, beside the loop: a slow Prometheus never holds up a rollback.

Counters are read from this release's own beginning (first exposure, or the moment traffic began to go back): the numbers
of the release before never judge the next. The test's numbers stand in the Release; a new process goes on from them.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from serinus.analysis import sequential
from serinus.analysis.counters import Rises, uncovered
from serinus.analysis.finding import Finding, error
from serinus.analysis.limits import LimitCheck, judge_limit
from serinus.analysis.paired import PairedCheck, judge_pairs, pair
from serinus.analysis.sequential import Counts
from serinus.analysis.verdict import Verdict, combine, silences
from serinus.api.base import parse_duration
from serinus.api.canary import Canary, Metric
from serinus.api.metrictemplate import MetricTemplate
from serinus.api.release import Evidence, Release, Tally
from serinus.controller import telemetry
from serinus.controller.sources import Around, Sources
from serinus.kube import TEMPLATES, Kube, KubeError
from serinus.metrics.provider import MetricError, shown
from serinus.metrics.rhythm import SAME, Rhythm
from serinus.metrics.templates import LimitQuery, RatioQuery, ResolvedCheck, render, resolve, variables
from serinus.workloads.deployment import Names

log = logging.getLogger("serinus.looks")

Side = Literal["canary", "serving"]

#: Seconds for which a MetricTemplate is not read again.
TEMPLATE = 10.0
#: A target that no scrape of the last minute reached at a test's beginning is one whose past is not known.
HIDDEN = timedelta(minutes=1)
#: A replica of Prometheus is behind another by this at most; what is further back is another clock.
LAGGING = timedelta(minutes=5)


@dataclass
class Test:
    """The sequential test of one check, and what it last read of counters."""

    tally: Tally
    #: What it is of, beside the looks' side and beginning.
    asked: tuple[object, ...] = ()
    rises: Rises = field(default_factory=lambda: Rises({}))
    #: How old the counters may be that `rises` goes on from.
    read_at: datetime | None = None
    #: Each target's newest sample.
    newest: dict[str, datetime] = field(default_factory=dict)


@dataclass
class Looks:
    """The looks at one release, from one side and moment on. `verdict` is the newest; None before the first.

    `around` is new with each pass.
    """

    release: str
    #: Of the Canary: its checks may be changed in mid-release.
    generation: int
    side: Side
    start: datetime
    #: What the Release has on record of the tests so far.
    record: Sequence[Evidence] = ()
    around: Around = field(default_factory=Around)
    verdict: Verdict | None = None
    tests: dict[str, Test] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None
    failures: dict[str, int] = field(default_factory=dict)
    silent_since: dict[str, float] = field(default_factory=dict)
    #: Checks by name and exporter, and until when (of the process' clock) they are as they were; and what is asked for each.
    resolved: dict[tuple[str, str | None], tuple[ResolvedCheck, float]] = field(default_factory=dict)
    queries: dict[RatioQuery, dict[str, str]] = field(default_factory=dict)
    #: When samples were taken that the newest look saw, by check; one that does not know is not there.
    sampled: dict[str, Mapping[str, datetime]] = field(default_factory=dict)
    rhythm: Rhythm = field(default_factory=Rhythm)

    def answers(self, canary: Canary, release: Release) -> bool:
        """These looks are about what this release's stage judges, by the checks that the Canary has now."""
        current = (release.metadata.name, canary.metadata.generation)
        return (self.release, self.generation) == current and wanted(release) == (self.side, self.start)

    def stop(self) -> None:
        """No more looks."""
        if self.task:
            self.task.cancel()


def wanted(release: Release) -> tuple[Side, datetime] | None:
    """Which side this stage judges, and from when; None: nothing to look at."""
    status = release.status
    if status.stage == "Returning" and status.times.returning:
        return "serving", status.times.returning
    judged = ("Stepping", "Paused", "Promoting", "RollingBack", "Keeping")
    if status.stage in judged and status.times.first_exposed and status.outcome != "Skipped":
        return "canary", status.times.first_exposed
    return None


def begin(looks: Looks, kube: Kube, sources: Sources, canary: Canary, seen: Callable[[], None]) -> None:
    """Starts looking; `seen` is called after each look."""
    looks.task = asyncio.get_running_loop().create_task(
        _look_on(looks, kube, sources, canary, seen), name=f"looks {looks.release}"
    )


async def _look_on(looks: Looks, kube: Kube, sources: Sources, canary: Canary, seen: Callable[[], None]) -> None:
    interval = parse_duration(canary.spec.analysis.interval).total_seconds()
    while True:
        began, now = time.monotonic(), datetime.now(UTC)
        try:
            with telemetry.look.time():
                looks.verdict = await look(looks, kube, sources, canary, now)
        except Exception as failure:  # a look that fails is no evidence; the next one comes
            log.exception("look at %s failed", looks.release)
            known = looks.verdict.findings if looks.verdict else ()
            looks.verdict = Verdict("NoData", f"a look failed ({type(failure).__name__}: {failure}): holding", known)
            telemetry.errors.labels(type(failure).__name__).inc()
        seen()
        await asyncio.sleep(max(0.05, pause(looks, canary, now, interval) - (time.monotonic() - began)))


def pause(looks: Looks, canary: Canary, now: datetime, interval: float) -> float:
    """Seconds from the look at `now` to the next: until new samples can be there, where every check knows when that is."""
    if any(not looks.sampled.get(metric.name) for metric in canary.spec.analysis.metrics):
        return interval
    seen = {target: at for each in looks.sampled.values() for target, at in each.items()}
    looks.rhythm.note(seen)
    return looks.rhythm.pause(now, interval)


async def look(looks: Looks, kube: Kube, sources: Sources, canary: Canary, now: datetime) -> Verdict:
    """One look of all checks."""
    analysis = canary.spec.analysis
    looks.sampled = {}
    asked = (_ask(looks, kube, sources, canary, metric, now) for metric in analysis.metrics)
    findings = await asyncio.gather(*asked)
    looks.silent_since = silences(looks.silent_since, findings, now.timestamp())
    for finding in findings:
        if finding.verdict == "Error":
            telemetry.errors.labels("metric").inc()
    silent = {name: now.timestamp() - since for name, since in looks.silent_since.items()}
    return combine(findings, analysis.no_data, silent, parse_duration(analysis.no_data_after).total_seconds())


async def _ask(
    looks: Looks,
    kube: Kube,
    sources: Sources,
    canary: Canary,
    metric: Metric,
    now: datetime,
) -> Finding:
    try:
        check = await _resolved(looks, kube, canary, metric)
        if isinstance(check, LimitQuery):
            return await _number(looks, sources, canary, check, now)
        return await _count(looks, kube, sources, canary, metric, check)
    except (MetricError, KubeError) as failure:
        known = looks.tests.get(metric.name)
        tally = known.tally if known else _recorded(looks, metric.name)
        found = replace(error(metric.name, str(failure)), tally=tally)
        # What was counted so far stays: one question without an answer does not undo it.
        return found if tally is None or metric.worse else replace(found, bad=tally.bad, total=tally.total)


async def _number(looks: Looks, sources: Sources, canary: Canary, check: LimitQuery, now: datetime) -> Finding:
    """One look at a plain number: within its limits, and, where the Canary says so, not worse than the serving version's."""
    query = render(check.query, _variables(looks, canary, looks.side))
    value = await sources.prometheus.value(query, now)
    limit = LimitCheck(check.name, check.min, check.max, check.failure_limit)
    finding, looks.failures[check.name] = judge_limit(limit, value, looks.failures.get(check.name, 0))
    if check.worse is None or finding.verdict not in ("Pass", "Wait") or value is None:
        return finding
    paired = PairedCheck(check.worse, check.tolerance, sequential.tolerated(canary.spec.analysis, 0.5).alpha)
    test = looks.tests[check.name] = _test(looks, check.name, query, check.worse, check.tolerance)[0]
    apart = parse_duration(canary.spec.analysis.metrics_delay)
    if not looks.around.alone and now >= (test.tally.as_of or now) + apart:
        other = await sources.prometheus.value(render(check.query, _variables(looks, canary, _other(looks.side))), now)
        if other is None or not math.isfinite(other) or not math.isfinite(value):
            lacks = f"{finding.sentence}; no number of the {_other(looks.side)} version to compare with"
            return replace(finding, verdict="NoData", sentence=lacks, tally=test.tally)
        test.tally = pair(paired, test.tally, value, other, now)
    return judge_pairs(paired, test.tally, finding, looks.around.alone)


async def _count(looks: Looks, kube: Kube, sources: Sources, canary: Canary, metric: Metric, check: RatioQuery) -> Finding:
    """One look of the sequential test."""
    compared, around = metric.baseline == "serving", looks.around
    queries = _queries(looks, canary, check)
    snapshot = await sources.counters(kube, canary, metric, around, queries)
    looks.sampled[metric.name] = snapshot.sampled
    test, fresh = _test(looks, check.name, metric.source, queries)
    if fresh:
        before, pages = snapshot.series, snapshot.pages
        if metric.source == "prometheus":
            since = test.tally.as_of or looks.start
            found, earlier = await asyncio.gather(
                sources.counters(kube, canary, metric, around, queries, since),
                sources.counters(kube, canary, metric, around, queries, since - HIDDEN),
            )
            before = uncovered(found.series, earlier.series)
        test.rises = Rises(before, pages)
        looks.tests[check.name] = test
    if _stale(test, snapshot.sampled):
        return _judged(looks, canary, metric, check, test)
    rises = test.rises.since(snapshot.series, snapshot.pages)
    before_at, test.read_at = test.read_at or test.tally.as_of, min(snapshot.sampled.values(), default=snapshot.at)
    if around.warm_at is not None and (before_at is None or before_at < around.warm_at):  # some of it is from cold pods
        test.tally = test.tally.model_copy(update={"as_of": snapshot.at})
        waits = _judged(looks, canary, metric, check, test)
        warming = f"{waits.sentence}; pods warm up until {around.warm_at:%H:%M:%S}"
        return replace(waits, verdict="Wait", doubt=True, sentence=warming)
    judged = Counts(rises["bad"], rises["total"])
    beside = None if around.alone or not compared else Counts(rises["servingBad"], rises["servingTotal"])
    rule = sequential.tolerated(canary.spec.analysis, check.harm)
    test.tally = sequential.look(rule, test.tally, judged, beside, snapshot.at, around.weight)
    return _judged(looks, canary, metric, check, test)


def _test(looks: Looks, name: str, *asked: object) -> tuple[Test, bool]:
    """The test of what is `asked` under this name, and whether it has to find out yet what it counts from.

    It goes on from the record of another process. A template that was edited begins another.
    """
    test = looks.tests.get(name)
    if test is not None and test.asked == asked:
        return test, False
    known, of = _recorded(looks, name), _about(looks, *asked)
    return Test(known if known is not None and known.of == of else sequential.begun(of, looks.start), asked), True


def _judged(looks: Looks, canary: Canary, metric: Metric, check: RatioQuery, test: Test) -> Finding:
    """What the test says now."""
    rule = sequential.tolerated(canary.spec.analysis, check.harm)
    found = sequential.judge(check.name, rule, test.tally, "the serving version" if looks.side == "canary" else "the canary")
    if found.verdict == "Error":
        queries = _queries(looks, canary, check)
        asked = f"bad: {shown(queries['bad'])}, total: {shown(queries['total'])}"
        found = replace(found, sentence=f"{found.sentence}; asked: {asked}")
    return replace(found, tally=test.tally, source=metric.source)


def _stale(test: Test, sampled: Mapping[str, datetime]) -> bool:
    """Another replica of Prometheus answered, whose newest scrape is an older one: to go back to it would look like a reset."""
    behind = [test.newest[target] - at for target, at in sampled.items() if target in test.newest]
    if any(timedelta(seconds=SAME) < late < LAGGING for late in behind):
        return True
    test.newest = dict(sampled)
    return False


def _queries(looks: Looks, canary: Canary, check: RatioQuery) -> Mapping[str, str]:
    """Both versions', also where they are not compared: the other's series say whether the source answered at the start."""
    if check in looks.queries:
        return looks.queries[check]
    known, beside = (_variables(looks, canary, side) for side in (looks.side, _other(looks.side)))
    texts = {"bad": (check.bad, known), "total": (check.total, known)}
    texts |= {"servingBad": (check.bad, beside), "servingTotal": (check.total, beside)}
    rendered = looks.queries[check] = {name: render(text, variables) for name, (text, variables) in texts.items()}
    return rendered


def _other(side: Side) -> Side:
    return "serving" if side == "canary" else "canary"


def _about(looks: Looks, *asked: object) -> str:
    """Which version, beginning and question a test is of: the numbers of another are not gone on from."""
    about = (looks.side, looks.start.isoformat(), len(sequential.PRIOR), *asked)
    return hashlib.sha256(repr(about).encode()).hexdigest()[:16]


def _recorded(looks: Looks, metric: str) -> Tally | None:
    return next((evidence.tally for evidence in looks.record if evidence.metric == metric), None)


async def _resolved(looks: Looks, kube: Kube, canary: Canary, metric: Metric) -> ResolvedCheck:
    template = None
    namespace, key = canary.metadata.namespace, (metric.name, looks.around.exporter)
    known, until = looks.resolved.get(key, (None, 0.0))
    if known is not None and time.monotonic() < until:
        return known
    if metric.template_ref:
        where = metric.template_ref.namespace or namespace
        found = await kube.find(TEMPLATES, where, metric.template_ref.name)
        if found is None:
            raise MetricError(f"there is no MetricTemplate {where}/{metric.template_ref.name}")
        template = MetricTemplate.model_validate(found)
    check = resolve(metric, template, namespace, looks.around.exporter)
    looks.resolved[key] = check, math.inf if template is None else time.monotonic() + TEMPLATE
    return check


def _variables(looks: Looks, canary: Canary, side: Side) -> dict[str, str]:
    names, spec = Names.of(canary), canary.spec
    judged = side == "canary"
    return variables(
        namespace=canary.metadata.namespace,
        canary=canary.metadata.name,
        deployment=names.canary if judged else spec.target_ref.name,
        service=names.service if judged else spec.service.name,
        serving_service=spec.service.name,
        port=spec.service.port,
        release=looks.release,
    )

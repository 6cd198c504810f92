"""Looking at a release's metrics, once an interval, beside the loop: a slow Prometheus never holds up a rollback.

Counters are read from this release's own beginning (first exposure, or the moment traffic began to go back): the numbers
of the release before never judge the next.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from serinus.analysis.counters import first_increase_at, increase, last_seen
from serinus.analysis.finding import Finding, error
from serinus.analysis.thresholds import ALPHA, LimitCheck, RatioCheck, judge_limit, judge_ratio
from serinus.analysis.verdict import Verdict, combine
from serinus.api.base import parse_duration
from serinus.api.canary import Canary, Metric
from serinus.api.metrictemplate import MetricTemplate
from serinus.api.release import Release
from serinus.controller import telemetry
from serinus.kube import TEMPLATES, Kube, KubeError
from serinus.metrics.provider import MetricError, Provider
from serinus.metrics.templates import LimitQuery, RatioQuery, ResolvedCheck, render, resolve, variables
from serinus.workloads.deployment import Names

log = logging.getLogger("serinus.looks")

Side = Literal["canary", "serving"]


@dataclass
class Looks:
    """The looks at one release, from one side and moment on. `verdict` is the newest; None before the first."""

    release: str
    #: Of the Canary: its checks may be changed in mid-release.
    generation: int
    side: Side
    start: datetime
    verdict: Verdict | None = None
    task: asyncio.Task[None] | None = None
    failures: dict[str, int] = field(default_factory=dict)
    silent_since: dict[str, float] = field(default_factory=dict)

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


def begin(looks: Looks, kube: Kube, provider: Provider, canary: Canary, seen: Callable[[], None]) -> None:
    """Starts looking; `seen` is called after each look."""
    looks.task = asyncio.get_running_loop().create_task(
        _look_on(looks, kube, provider, canary, seen), name=f"looks {looks.release}"
    )


async def _look_on(looks: Looks, kube: Kube, provider: Provider, canary: Canary, seen: Callable[[], None]) -> None:
    interval = parse_duration(canary.spec.analysis.interval).total_seconds()
    while True:
        began = time.monotonic()
        try:
            with telemetry.look.time():
                looks.verdict = await _look(looks, kube, provider, canary)
        except Exception as failure:  # a look that fails is no evidence; the next one comes
            log.exception("look at %s failed", looks.release)
            telemetry.errors.labels(type(failure).__name__).inc()
        seen()
        await asyncio.sleep(max(0.05, interval - (time.monotonic() - began)))


async def _look(looks: Looks, kube: Kube, provider: Provider, canary: Canary) -> Verdict:
    analysis, now = canary.spec.analysis, datetime.now(UTC)
    asked = (_ask(looks, kube, provider, canary, metric, now) for metric in analysis.metrics)
    findings = await asyncio.gather(*asked)
    for finding in findings:
        if finding.verdict in ("NoData", "Error"):
            looks.silent_since.setdefault(finding.metric, now.timestamp())
        else:
            looks.silent_since.pop(finding.metric, None)
        if finding.verdict == "Error":
            telemetry.errors.labels("metric").inc()
    silent = {name: now.timestamp() - since for name, since in looks.silent_since.items()}
    return combine(findings, analysis.no_data, silent, parse_duration(analysis.no_data_after).total_seconds())


async def _ask(
    looks: Looks,
    kube: Kube,
    provider: Provider,
    canary: Canary,
    metric: Metric,
    now: datetime,
) -> Finding:
    known = _variables(looks, canary, looks.side)
    try:
        check = await _resolved(kube, canary, metric)
        if isinstance(check, LimitQuery):
            value = await provider.value(render(check.query, known), now)
            limit = LimitCheck(check.name, check.min, check.max, check.failure_limit)
            finding, looks.failures[check.name] = judge_limit(limit, value, looks.failures.get(check.name, 0))
            return finding
        beside = _variables(looks, canary, "serving" if looks.side == "canary" else "canary")
        return await _count(looks, provider, check, (known, beside), len(canary.spec.analysis.metrics), now)
    except (MetricError, KubeError) as failure:
        return error(metric.name, str(failure))


async def _count(
    looks: Looks,
    provider: Provider,
    check: RatioQuery,
    sides: tuple[dict[str, str], dict[str, str]],
    checks: int,
    now: datetime,
) -> Finding:
    known, beside = sides
    # In this order: a scrape that lands in between may add to the total, never bad events to an older total.
    bad = await provider.counters(render(check.bad, known), looks.start, now)
    total = await provider.counters(render(check.total, known), looks.start, now)
    # The other version's requests say whether the source answered at the start, where this one's series had a gap.
    other = await provider.counters(render(check.total, beside), looks.start, now)
    start = looks.start.timestamp()
    answered = last_seen(other, start)
    return judge_ratio(
        RatioCheck(check.name, check.harm),
        increase(bad, start, answered),
        increase(total, start, answered),
        fault_began=first_increase_at(bad, start, answered),
        alpha=ALPHA / checks,
    )


async def _resolved(kube: Kube, canary: Canary, metric: Metric) -> ResolvedCheck:
    template = None
    namespace = canary.metadata.namespace
    if metric.template_ref:
        where = metric.template_ref.namespace or namespace
        found = await kube.find(TEMPLATES, where, metric.template_ref.name)
        if found is None:
            raise MetricError(f"there is no MetricTemplate {where}/{metric.template_ref.name}")
        template = MetricTemplate.model_validate(found)
    return resolve(metric, template, namespace)


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

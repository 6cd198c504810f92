"""`serinus replay`: what a Canary would have decided over a recorded period. The looks are the controller's own."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from rich.console import Console

from serinus.analysis.sequential import evidence
from serinus.analysis.verdict import Verdict
from serinus.api.base import parse_duration
from serinus.api.metrictemplate import MetricTemplate
from serinus.api.release import Release
from serinus.cli.files import Manifests, UsageError
from serinus.controller.looks import Looks, look
from serinus.controller.sources import Around, Sources
from serinus.kube import TEMPLATES, Kind, Kube, Object
from serinus.metrics.prometheus import THREADS, Prometheus
from serinus.metrics.provider import MetricUnreachable, Provider, Snapshot

#: Seconds for one question: what is long ago is slower to read than what is new.
TIMEOUT = 30.0
#: Looks that are asked for ahead of the one that is judged.
_AHEAD = 4


@dataclass(frozen=True, slots=True)
class Period:
    """What is replayed. `alone` is from when on there was no version to compare with."""

    start: datetime
    end: datetime
    alone: datetime | None = None
    release: str = "replayed"

    def moments(self, interval: timedelta) -> list[datetime]:
        """Of the looks."""
        count = math.floor((self.end - self.start) / interval)
        return [self.start + interval * number for number in range(1, count + 1)]


@dataclass(frozen=True, slots=True)
class Look:
    """One look and what it says."""

    at: datetime
    verdict: Verdict

    def dump(self) -> dict[str, Any]:
        """As `--json` writes it."""
        return {
            "at": self.at.isoformat(),
            "verdict": self.verdict.kind,
            "doubt": self.verdict.doubt,
            "sentence": self.verdict.sentence,
            "metrics": [
                found.evidence().dump() | ({"odds": math.exp(min(700.0, evidence(found.tally)))} if found.tally else {})
                for found in self.verdict.findings
            ],
        }


def period(manifests: Manifests, start: datetime | None, end: datetime | None) -> Period:
    """From `start` to `end`; what is not given is that of the one Release among the files. Raises UsageError."""
    recorded = _recorded(manifests.releases)
    began = start or (recorded.start if recorded else None)
    ended = end or (recorded.end if recorded else None)
    if began is None or ended is None:
        raise UsageError("when? Give --start and --end, or the file of one Release that had traffic")
    if began >= ended:
        raise UsageError(
            f"the period begins at {began.isoformat()} and ends at {ended.isoformat()}; --start must be before --end"
        )
    return Period(began, ended, recorded.alone, recorded.release) if recorded else Period(began, ended)


def _recorded(releases: Sequence[Release]) -> Period | None:
    if len(releases) != 1 or releases[0].status.times.first_exposed is None:
        return None
    (release,) = releases
    times, steps = release.status.times, release.status.steps
    alone = [step.at for step in steps if step.weight == 100] + ([times.unpaused] if times.unpaused else [])
    start = release.status.times.first_exposed or release.spec.requested_at
    end = times.returning or times.zero_verified or times.ended or datetime.now(UTC)
    return Period(start, end, min(alone, default=None), release.metadata.name)


def replay(manifests: Manifests, url: str, when: Period, exporter: str | None = None, as_json: bool = False) -> int:
    """Prints each look that says something new, or all as JSON. Returns 1 if the Canary would have rolled back, else 0.

    Only Prometheus remembers: what `source: direct` would have read is asked there, too.
    """
    analysis = manifests.canary.spec.analysis
    analysis.metrics = [metric.model_copy(update={"source": "prometheus"}) for metric in analysis.metrics]
    for metric in analysis.metrics:
        manifests.resolved(metric, exporter)
    looks = asyncio.run(_looks(manifests, url, when, exporter))
    out = Console(soft_wrap=True)
    failed = bool(looks) and looks[-1].verdict.kind == "Fail"
    if as_json:
        said = {"canary": manifests.canary.metadata.name, "rolledBack": failed, "sentence": conclusion(when, looks)}
        out.print_json(json.dumps(said | {"looks": [each.dump() for each in looks]}))
    else:
        for each in news(looks):
            kind = f"{each.verdict.kind}, doubted" if each.verdict.doubt else each.verdict.kind
            out.print(f"{each.at:%H:%M:%S}  {kind:13}  {each.verdict.sentence}", markup=False, highlight=False)
        out.print(conclusion(when, looks), markup=False, highlight=False)
    return int(failed)


def news(looks: Sequence[Look]) -> Iterator[Look]:
    """Those that say something new: another verdict, another doubt, or more bad requests. And the last."""
    known: object = None
    for each in looks:
        says = (each.verdict.kind, each.verdict.doubt, [found.bad for found in each.verdict.findings])
        if says != known or each is looks[-1]:
            yield each
        known = says


def conclusion(when: Period, looks: Sequence[Look]) -> str:
    """One sentence."""
    if not looks:
        return "There was no look: the period is shorter than spec.analysis.interval."
    last, verdict = looks[-1].at, looks[-1].verdict
    if verdict.kind == "Fail":
        began = verdict.fault_began
        after = f", {last.timestamp() - began:.1f} s after the first bad request was counted" if began else ""
        seconds = (last - when.start).total_seconds()
        return f"It would have been rolled back at {last:%H:%M:%S} UTC, {seconds:.1f} s after the start{after}."
    state = {"Pass": "healthy", "Wait": "undecided", "NoData": "without the numbers to decide"}[verdict.kind]
    return f"It would not have been rolled back: after {len(looks)} looks, at {last:%H:%M:%S} UTC, it was {state}."


async def _looks(manifests: Manifests, url: str, when: Period, exporter: str | None) -> list[Look]:
    canary = manifests.canary
    interval, warm_up = (parse_duration(text) for text in (canary.spec.analysis.interval, canary.spec.analysis.warm_up))
    moments = when.moments(interval)
    prometheus = Prometheus(url, timeout=TIMEOUT)
    source = Recorded(prometheus, moments)
    sources = Sources(source)
    looks = Looks(when.release, canary.metadata.generation, "canary", when.start)
    warm_at = when.start + warm_up if warm_up else None
    seen: list[Look] = []
    try:
        for number, now in enumerate(moments):
            source.number = number
            looks.around = Around(when.alone is not None and now >= when.alone, warm_at=warm_at, exporter=exporter)
            seen.append(Look(now, await look(looks, Templates(manifests), sources, canary, now)))
            if seen[-1].verdict.kind == "Fail":
                break
        return seen
    finally:
        await sources.close()
        await prometheus.close()


class Templates(Kube):
    """The MetricTemplates of the files, in place of a cluster's. Nothing else is there."""

    def __init__(self, manifests: Manifests) -> None:
        self._templates: Mapping[tuple[str, str], MetricTemplate] = manifests.templates

    async def find(self, kind: Kind, namespace: str | None, name: str) -> Object | None:
        """One of them, as the API server would give it."""
        found = self._templates.get((namespace or "", name)) if kind == TEMPLATES else None
        return found.dump() if found else None


class Recorded:
    """A provider for whom now is `moments[number]`. Some questions about later moments are asked ahead.

    Raises UsageError where there is no answer: what is known of the past must not depend on who was slow today.
    """

    def __init__(self, source: Provider, moments: Sequence[datetime]) -> None:
        self._source, self._moments = source, moments
        self.number = 0
        self._free = asyncio.Semaphore(THREADS)
        self._ahead: dict[tuple[object, datetime], asyncio.Task[Any]] = {}

    async def counters(self, queries: Mapping[str, str], at: datetime | None = None) -> Snapshot:
        """As `Provider.counters`."""
        if at is not None:
            earlier: Snapshot = await self._ask(partial(self._source.counters, queries, at))
            return earlier
        snapshot: Snapshot = await self._next(tuple(queries.items()), partial(self._source.counters, queries))
        return snapshot

    async def value(self, query: str, at: datetime) -> float | None:
        """As `Provider.value`."""
        value: float | None = await self._next(query, partial(self._source.value, query))
        return value

    async def close(self) -> None:
        """Ends what was asked ahead."""
        for task in self._ahead.values():
            task.cancel()
        await asyncio.gather(*self._ahead.values(), return_exceptions=True)

    async def _next(self, key: object, ask: Callable[[datetime], Awaitable[Any]]) -> Any:
        for moment in self._moments[self.number : self.number + _AHEAD]:
            if (key, moment) not in self._ahead:
                self._ahead[key, moment] = asyncio.ensure_future(self._ask(partial(ask, moment)))
        return await self._ahead.pop((key, self._moments[self.number]))

    async def _ask(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        try:
            async with self._free:
                return await ask()
        except MetricUnreachable as failure:
            raise UsageError(str(failure)) from None

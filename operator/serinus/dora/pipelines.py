"""Pipelines: how long runs and jobs wait and take, how often they fail or are tried again, what to shorten first. Pure.

Durations are whole seconds, medians true, rates with Wilson's interval, as everywhere here. There may be a hundred thousand runs
in a window: so keys stand only beside the slowest and the newest few.
"""

from __future__ import annotations

import re
from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappush, heappushpop
from typing import Literal, NamedTuple

from serinus.dora.figures import Durations, Interval, Rate, wilson
from serinus.dora.suites import Suites

Kind = Literal["waiting", "tests", "build", "other"]
KINDS: tuple[Kind, ...] = ("waiting", "tests", "build", "other")
#: Keys beside a figure.
SHOWN = 10
#: Seconds without anything that runs or waits after which what comes later is no part of the way: a nightly run, a deployment.
QUIET = 1800
#: Stages that are told apart.
STAGES = 500
WAITING = "waiting for a runner"

_TESTS = re.compile(
    r"(?<![a-z])(py|smoke)?(test|spec|e2e|lint|check|verify|integration|unit|coverage|qa)(s|ing|er)?(?![a-z])", re.I
)
_BUILD = re.compile(r"(?<![a-z])(build|compile|package|image|docker|container|bundle|publish|push|artifact)", re.I)


def kind_of(workflow: str, job: str) -> Kind:
    """By its name; by that of its workflow where its own says nothing. Whatever tests, tests, also where it builds for that."""
    for name in (job, workflow):
        if _TESTS.search(name):
            return "tests"
        if _BUILD.search(name):
            return "build"
    return "other"


# One workflow, or one job of it.


@dataclass(frozen=True, slots=True)
class Timing:
    """A workflow (`job` is empty), or a job of one, over a window: all attempts that ended in it.

    `waited`: from when it could have started until it did; `took`: from then to its end. `success`: of those that succeeded or
    failed; cancelled and skipped ones say nothing. `retried`: of the runs (not of the attempts) those that were tried again.
    Keys are those of the slowest, of the newest failures, and none.
    """

    repository: str
    workflow: str
    job: str
    n: int
    waited: Durations
    took: Durations
    success: Rate
    retried: Rate


@dataclass(slots=True)
class Tally:
    """Counts one workflow or job, in some twenty bytes a run."""

    n: int = 0
    good: int = 0
    bad: int = 0
    waited: array[int] = field(default_factory=lambda: array("q"))
    took: array[int] = field(default_factory=lambda: array("q"))
    _longest: list[tuple[int, str]] = field(default_factory=list)
    _failed: list[tuple[int, str]] = field(default_factory=list)

    def add(self, key: str, result: str, queued: int | None, started: int | None, finished: int) -> None:
        """One attempt that is over. Moments out of order say nothing."""
        self.n += 1
        self.good += result == "success"
        if result == "failure":
            self.bad += 1
            _among(self._failed, finished, key)
        if started is None or result == "skipped":
            return
        if queued is not None and queued <= started:
            self.waited.append(started - queued)
        if started <= finished:
            self.took.append(finished - started)
            _among(self._longest, finished - started, key)

    def timing(self, repository: str, workflow: str, job: str, runs: int, again: int) -> Timing:
        """`again` of `runs` were tried more than once."""
        slowest = tuple(key for _, key in sorted(self._longest, reverse=True))
        failed = tuple(key for _, key in sorted(self._failed, reverse=True))
        return Timing(
            repository,
            workflow,
            job,
            self.n,
            Durations.of(self.waited, ()),
            Durations.of(self.took, slowest),
            share(self.good, self.good + self.bad, failed),
            share(again, runs),
        )


def share(count: int, n: int, keys: tuple[str, ...] = ()) -> Rate:
    """A rate of so many that not each is named."""
    low, high = wilson(count, n) or (None, None)
    return Rate(count, n, count / n if n else None, low, high, keys, ())


def _among(best: list[tuple[int, str]], value: int, key: str) -> None:
    if len(best) < SHOWN:
        heappush(best, (value, key))
    elif (value, key) > best[0]:
        heappushpop(best, (value, key))


# What a merged commit waits for.


class Job(NamedTuple):
    """A job; or a run of which no jobs are known. Moments are seconds since 1970."""

    key: str
    workflow: str
    name: str
    queued: int | None
    started: int
    finished: int


class Segment(NamedTuple):
    """A part of the way."""

    start: int
    end: int
    stage: str
    kind: Kind

    @property
    def seconds(self) -> int:
        """How long."""
        return self.end - self.start


def way(jobs: Iterable[Job]) -> tuple[Segment, ...]:
    """The critical path of a commit, in order: which job, and which wait for a runner, its end depended on at each moment.

    No tool tells which job needs which. So it is followed from the end: a job began when it was queued and had a runner, which
    was when the last job before it was over. What comes after a quiet time is left out.
    """
    ordered = sorted((job for job in jobs if job.started <= job.finished), key=lambda job: (job.finished, job.started, job.key))
    ordered = _first_part(ordered)
    found: list[Segment] = []
    at = len(ordered) - 1
    while at >= 0:
        job = ordered[at]
        stage = f"{job.workflow} / {job.name}" if job.workflow and job.name != job.workflow else job.name
        if job.started < job.finished:
            found.append(Segment(job.started, job.finished, stage, kind_of(job.workflow, job.name)))
        before = at - 1
        while before >= 0 and ordered[before].finished > job.started:
            before -= 1
        ready = job.started if job.queued is None else min(job.queued, job.started)
        if before >= 0:
            ready = max(ready, ordered[before].finished)
        if ready < job.started:
            found.append(Segment(ready, job.started, WAITING, "waiting"))
        at = before
    return tuple(reversed(found))


def _first_part(ordered: Sequence[Job]) -> list[Job]:
    """Up to the first quiet time; `ordered` by their ends, and so returned."""
    found: list[Job] = []
    until: int | None = None
    for job in sorted(ordered, key=lambda job: (_ready(job), job.finished, job.key)):
        if until is not None and _ready(job) > until + QUIET:
            break
        until = job.finished if until is None else max(until, job.finished)
        found.append(job)
    return sorted(found, key=lambda job: (job.finished, job.started, job.key))


def _ready(job: Job) -> int:
    return job.started if job.queued is None else min(job.queued, job.started)


@dataclass(frozen=True, slots=True)
class Stage:
    """A job, or waiting for a runner, where merged commits waited for it.

    `total`: its median times how many waited, by which they are ranked. `share`: of the seconds that all waited for all stages.
    """

    stage: str
    kind: Kind
    n: int
    seconds: Durations
    total: float
    share: float


@dataclass(frozen=True, slots=True)
class Shorten:
    """What merged commits wait for, the longest first, and in a sentence which of it to shorten first; '' where nothing is known.

    `commits`: merged, with jobs that ended in the window. `whole`: from the first job to the last one's end. `left_out`: stages
    beyond the first `STAGES`.
    """

    commits: int
    whole: Durations
    stages: tuple[Stage, ...]
    left_out: int
    first: str


class Ways:
    """Takes the ways of many commits together."""

    def __init__(self) -> None:
        self._commits = array("q")
        self._stages: dict[str, tuple[Kind, array[int]]] = {}
        self._left_out: set[int] = set()

    def add(self, segments: Sequence[Segment]) -> None:
        """Of one commit."""
        if not segments:
            return
        self._commits.append(segments[-1].end - segments[0].start)
        spent: dict[str, int] = defaultdict(int)
        kinds: dict[str, Kind] = {}
        for segment in segments:
            spent[segment.stage] += segment.seconds
            kinds[segment.stage] = segment.kind
        for stage, seconds in spent.items():
            if stage not in self._stages and len(self._stages) >= STAGES:
                self._left_out.add(hash(stage))
            else:
                self._stages.setdefault(stage, (kinds[stage], array("q")))[1].append(seconds)

    def shorten(self) -> Shorten:
        """What comes of it."""
        whole = Durations.of(self._commits, ())
        stages = []
        for name, (kind, values) in self._stages.items():
            seconds = Durations.of(values, ())
            total = (seconds.median or 0.0) * seconds.n
            stages.append(
                Stage(name, kind, seconds.n, seconds, total, (seconds.total or 0) / whole.total if whole.total else 0.0)
            )
        stages.sort(key=lambda stage: (-stage.total, stage.stage))
        return Shorten(len(self._commits), whole, tuple(stages), len(self._left_out), _sentence(stages, whole))


def _sentence(stages: Sequence[Stage], whole: Durations) -> str:
    if not stages or whole.median is None:
        return ""
    first = stages[0]
    often = f"{first.n} of {whole.n} merged commits waited for it, {_span(first.seconds.median)} in the median"
    of = f"of {_span(whole.median)} from the first job to the last"
    then = f"; then {stages[1].stage}, {stages[1].share:.0%}" if len(stages) > 1 else ""
    verb = "Shorten the wait for a runner first" if first.kind == "waiting" else f"Shorten {first.stage} first"
    return f"{verb}: {often}, {of}. It is {first.share:.0%} of all that they waited{then}."


def _span(seconds: float | None) -> str:
    seconds = seconds or 0.0
    return f"{seconds:g} s" if seconds < 120 else f"{seconds / 60:.3g} min"


# The lead time's stage `build`, in parts.


@dataclass(frozen=True, slots=True)
class Split:
    """From a change's merge to its artifact, in seconds, which add up to `whole`.

    `by`: `artifact`, where it is known when that was built, so that `whole` is the lead time's stage `build`; else `runs`: up to
    the end of the last job that its merge commit waited for.
    """

    change: str
    release: str
    commit: str
    by: Literal["artifact", "runs"]
    whole: int
    parts: Mapping[Kind, int]


@dataclass(frozen=True, slots=True)
class Splits:
    """Of the changes that the window's releases brought, as far as runs of their merge commits are known."""

    whole: Durations
    parts: Mapping[Kind, Durations]
    changes: tuple[Split, ...]


def split(interval: Interval, segments: Iterable[Segment]) -> dict[Kind, int]:
    """How much of the interval which kind of segment fills; `other` is also what none does."""
    parts: dict[Kind, int] = dict.fromkeys(KINDS, 0)
    for segment in segments:
        parts[segment.kind] += max(0, min(segment.end, interval.end) - max(segment.start, interval.start))
    parts["other"] += interval.end - interval.start - sum(parts.values())
    return parts


def splits(several: Sequence[Split]) -> Splits:
    """Taken together. Keys are those of changes."""
    keys = [one.change for one in several]
    return Splits(
        Durations.of((one.whole for one in several), keys),
        {kind: Durations.of((one.parts[kind] for one in several), keys) for kind in KINDS},
        tuple(several),
    )


# Coverage.


@dataclass(frozen=True, slots=True)
class Covered:
    """What one upload said."""

    commit: str
    at: int
    lines: int
    lines_covered: int
    branches: int | None
    branches_covered: int | None

    @property
    def ratio(self) -> float | None:
        """Of lines; None where there are none."""
        return self.lines_covered / self.lines if self.lines else None


@dataclass(frozen=True, slots=True)
class Coverage:
    """Of one part of one repository, on the branch that changes are merged into.

    `before`: the newest from before the window, else the first in it. `change`: of the ratio of lines since then.
    """

    repository: str
    part: str
    newest: Covered
    before: Covered | None
    ratio: float | None
    branch_ratio: float | None
    change: float | None

    @staticmethod
    def of(repository: str, part: str, newest: Covered, before: Covered | None) -> Coverage:
        """From two uploads, which may be the same."""
        known = newest.branches and newest.branches_covered is not None
        branches = (newest.branches_covered or 0) / (newest.branches or 1) if known else None
        old = before.ratio if before else None
        change = newest.ratio - old if newest.ratio is not None and old is not None else None
        return Coverage(repository, part, newest, before, newest.ratio, branches, change)


@dataclass(frozen=True, slots=True)
class Pipelines:
    """All of it, of one scope in one window. `left_out`: workflows and jobs beyond the most frequent."""

    repositories: tuple[str, ...]
    workflows: tuple[Timing, ...]
    jobs: tuple[Timing, ...]
    left_out: int
    shorten: Shorten
    build: Splits
    suites: Suites
    coverage: tuple[Coverage, ...]

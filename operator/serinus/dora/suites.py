"""Suites of tests: how long they take, which tests are the slowest, which are flaky, and by which commits that is known. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from serinus.dora.facts import Case, TestsSays
from serinus.dora.figures import Durations, Rate, quantile

#: Tests, and commits beside one, that are shown.
SHOWN, COMMITS = 20, 10


class Upload(NamedTuple):
    """One upload, and when it was."""

    key: str
    at: int
    says: TestsSays


@dataclass(frozen=True, slots=True)
class Suite:
    """One suite over a window. `failed`: uploads in which a test failed; keys are those of the newest. Seconds are whole."""

    repository: str
    suite: str
    n: int
    took: Durations
    failed: Rate


@dataclass(frozen=True, slots=True)
class Slow:
    """A test: in `n` of the uploads that were looked at it was among the slowest; median and longest in seconds of those."""

    repository: str
    suite: str
    test: str
    n: int
    median: float
    longest: float


@dataclass(frozen=True, slots=True)
class Flaky:
    """A test that failed and passed with the same code.

    `retried`: commits at which one upload says that it passed when it was tried again; `contradicted`: commits of which one
    upload says that it failed and another that it passed. `commits`: the newest of both. `last`: seconds since 1970.
    """

    repository: str
    suite: str
    test: str
    retried: int
    contradicted: int
    commits: tuple[str, ...]
    last: int


@dataclass(frozen=True, slots=True)
class Suites:
    """Of one scope in one window. `left_out`: suites beyond the most frequent. `read`: the uploads that `slowest` is from."""

    suites: tuple[Suite, ...]
    left_out: int
    slowest: tuple[Slow, ...]
    flaky: tuple[Flaky, ...]
    read: int


def slowest(uploads: Iterable[Upload]) -> tuple[Slow, ...]:
    """By the median of the uploads in which it is among the slowest: those are told in each, not all tests."""
    times: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for _, _, says in uploads:
        for case in says.cases:
            if case.outcome != "skipped":
                times[says.repository, says.suite, case.name].append(case.milliseconds)
    found = [
        Slow(*test, len(several), (quantile(sorted(several), 50) or 0) / 1000, max(several) / 1000)
        for test, several in times.items()
    ]
    return tuple(sorted(found, key=lambda slow: (-slow.median, slow.repository, slow.suite, slow.test))[:SHOWN])


@dataclass(slots=True)
class _Doubt:
    retried: dict[str, int] = field(default_factory=dict)
    contradicted: dict[str, int] = field(default_factory=dict)


def flaky(uploads: Iterable[Upload]) -> tuple[Flaky, ...]:
    """The most often flaky first.

    An upload tells only the slowest tests that passed. That another one passed too is known where the same tests ran as in the
    upload in which it failed (`TestsSays.ran`) and it is not among those that failed, if all of those are told.
    """
    doubts: dict[tuple[str, str, str], _Doubt] = defaultdict(_Doubt)
    together: dict[tuple[str, str, str], list[_Told]] = defaultdict(list)
    for upload in uploads:
        says, told = upload.says, _Told.of(upload)
        together[says.repository, says.suite, says.commit].append(told)
        for name, case in told.cases.items():
            if case.outcome == "flaky":
                doubts[says.repository, says.suite, name].retried[says.commit] = upload.at
    for (repository, suite, commit), several in together.items():
        for one in several:
            for name in one.failed:
                others = [other for other in several if other is not one and other.passed(name, one.ran)]
                if others:
                    at = max(one.at, *(other.at for other in others))
                    doubts[repository, suite, name].contradicted[commit] = at
    found = [_flaky(test, doubt) for test, doubt in doubts.items()]
    return tuple(sorted(found, key=lambda f: (-f.retried - f.contradicted, -f.last, f.repository, f.suite, f.test))[:SHOWN])


def _flaky(test: tuple[str, str, str], doubt: _Doubt) -> Flaky:
    moments = {**doubt.retried, **doubt.contradicted}
    newest = sorted(moments, key=lambda commit: (-moments[commit], commit))
    return Flaky(*test, len(doubt.retried), len(doubt.contradicted), tuple(newest[:COMMITS]), max(moments.values()))


@dataclass(frozen=True, slots=True)
class _Told:
    at: int
    ran: str
    cases: Mapping[str, Case]
    failed: frozenset[str]
    #: All that failed are told.
    whole: bool

    @staticmethod
    def of(upload: Upload) -> _Told:
        says = upload.says
        cases = {case.name: case for case in says.cases}
        failed = frozenset(name for name, case in cases.items() if case.outcome == "failed")
        return _Told(upload.at, says.ran, cases, failed, len(failed) == (says.failed or 0))

    def passed(self, name: str, ran: str) -> bool:
        """As far as it can be told. What it says of itself as flaky counts elsewhere."""
        case = self.cases.get(name)
        if case is not None:
            return case.outcome == "passed"
        return self.whole and bool(ran) and self.ran == ran

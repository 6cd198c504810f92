"""The weekly review: what the page shows of a scope and a week, against the contract. Pure.

Everything is computed from weeks (`serinus.dora.rollup`). A week that still runs counts the days that have begun.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

import numpy as np

from serinus.dora.catalog import Catalog
from serinus.dora.contract import DEPLOYMENTS_A_DAY, FAILURES, LEAD_TIME, RECOVERY
from serinus.dora.failures import Failure
from serinus.dora.figures import span
from serinus.dora.metrics import Delivery, Scope, Standing
from serinus.dora.rollup import Brief, Kept, Numbers, Week, add_up, brief, by_day

Figure = Literal["frequency", "lead", "failed", "recovery", "rework"]
#: Weeks of the line, and those by which the contract is judged: one failure of a week's 56 is 1.8 % already.
LINE, JUDGED = 12, 4
#: Seconds; the last bucket of the histogram has no end.
BUCKETS = (10, 30, 60, 120, 300, 900, 3600, 4 * 3600, 86400)
_WHAT: dict[Figure, str] = {
    "frequency": "Deployment frequency",
    "lead": "Lead time",
    "failed": "The change failure rate",
    "recovery": "Recovery time",
}
_STAGES = {
    "wait": "waiting for a first review",
    "review": "review",
    "build": "the build",
    "queue": "waiting for a release",
    "rollout": "the rollout",
}


@dataclass(frozen=True)
class Line:
    """One week: the ISO week, its Monday, and its figures."""

    week: str
    monday: date
    figures: Brief


@dataclass(frozen=True)
class Clause:
    """A part of the contract over four weeks. `gap`: how many times worse than its target; at most 1 is met.

    Of the failure rate the gap is that of its interval's lower end: missed is what surely is. `met` is None where nothing can be
    said: nothing happened, or the interval has the target in it.
    """

    figure: Figure
    value: float | None
    target: float
    n: int
    gap: float | None
    met: bool | None


@dataclass(frozen=True)
class Row:
    """A service over four weeks. `gap` is the worst of its clauses', without how often it is deployed; `worst` names it."""

    service: str
    team: str
    figures: Brief
    gap: float | None
    worst: Figure | None


@dataclass(frozen=True)
class Day:
    """Deployments, and the releases that users had by what became of them."""

    day: date
    deployments: int
    standings: Mapping[Standing, int]


@dataclass(frozen=True)
class Bucket:
    """Recoveries that took less than `below` seconds and not less than the bucket before; None: any longer."""

    below: int | None
    caught: int
    escaped: int


@dataclass(frozen=True)
class Review:
    """All that follows from weeks. `week` and `four` (weeks, up to and with this one) are whole; `before`: the four before."""

    lines: tuple[Line, ...]
    week: Numbers
    four: Numbers
    before: Brief
    contract: tuple[Clause, ...]
    sentence: str
    days: tuple[Day, ...]
    recoveries: tuple[Bucket, ...]
    services: tuple[Row, ...]


def iso(monday: date) -> str:
    """The name of a week: ``2026-W47``."""
    year, week, _ = monday.isocalendar()
    return f"{year}-W{week:02}"


def begun(monday: date, today: date) -> int:
    """How many days of a week have begun."""
    return min(7, max(0, (today - monday).days + 1))


def review(known: Sequence[Kept], four: Sequence[Kept], monday: date, today: date, catalog: Catalog) -> Review:
    """Of the week of `monday`. `known`: twelve weeks up to and with it, with lead times and recoveries; `four`: the last four of
    them, with all samples.
    """
    mondays = [monday - timedelta(weeks=back) for back in reversed(range(LINE))]
    weeks: dict[date, list[Week]] = {start: [] for start in mondays}
    for kept in known:
        weeks[kept.week.monday].append(kept.week)
    judged, earlier = mondays[-JUDGED:], mondays[-2 * JUDGED : -JUDGED]
    days = sum(begun(start, today) for start in judged)
    whole = [kept.week for kept in four]
    numbers = add_up(whole, days)
    clauses = contract(numbers)
    services = rows(four, days, catalog)
    return Review(
        tuple(Line(iso(start), start, brief(weeks[start], begun(start, today))) for start in mondays),
        add_up([week for week in whole if week.monday == monday], begun(monday, today)),
        numbers,
        brief([week for start in earlier for week in weeks[start]], sum(begun(start, today) for start in earlier)),
        clauses,
        sentence(clauses, numbers, services),
        tuple(_days(mondays, [week for several in weeks.values() for week in several], today)),
        _buckets(whole),
        services,
    )


def _days(mondays: Sequence[date], weeks: Sequence[Week], today: date) -> Iterable[Day]:
    found = by_day(weeks)
    for start in mondays:
        for number in range(7):
            day = start + timedelta(days=number)
            if day <= today:
                yield Day(day, *found.get(day, (0, {})))


def _buckets(weeks: Sequence[Week]) -> tuple[Bucket, ...]:
    counts = []
    for name in ("caught", "escaped"):
        values = np.concatenate([week.samples[name] for week in weeks]) if weeks else np.empty(0, np.int32)
        which = np.searchsorted(BUCKETS, values, side="right")
        counts.append(np.bincount(which, minlength=len(BUCKETS) + 1).tolist())
    return tuple(Bucket(below, c, e) for below, c, e in zip((*BUCKETS, None), *counts, strict=True))


def contract(found: Numbers | Brief) -> tuple[Clause, ...]:
    """The four clauses."""
    frequency, ratio, low = found.per_day, found.failed.ratio, found.failed.low
    often = DEPLOYMENTS_A_DAY / frequency if frequency else None
    enough = None if frequency is None else frequency >= DEPLOYMENTS_A_DAY
    met = None if ratio is None or low is None else True if ratio <= FAILURES else False if low > FAILURES else None
    return (
        Clause("frequency", frequency, DEPLOYMENTS_A_DAY, found.deployments, often, enough),
        _within("lead", found.lead.median, LEAD_TIME, found.lead.n),
        Clause("failed", ratio, FAILURES, found.failed.n, None if low is None else low / FAILURES, met),
        _within("recovery", found.recovery.median, RECOVERY, found.recovery.n),
    )


def _within(figure: Figure, value: float | None, target: float, n: int) -> Clause:
    gap = None if value is None else value / target
    return Clause(figure, value, target, n, gap, None if gap is None else gap <= 1)


def rows(four: Sequence[Kept], days: int, catalog: Catalog) -> tuple[Row, ...]:
    """The services, the worst first."""
    weeks: dict[str, list[Week]] = {}
    for kept in four:
        weeks.setdefault(kept.service, []).append(kept.week)
    found = []
    for service, several in weeks.items():
        figures = brief(several, days)
        gaps = [(clause.gap, clause.figure) for clause in contract(figures)[1:] if clause.gap is not None]
        gap, worst = max(gaps, default=(None, None))
        found.append(Row(service, catalog.service(service).team, figures, gap, worst))
    return tuple(sorted(found, key=lambda row: (-(row.gap or 0), row.service)))


def sentence(clauses: Sequence[Clause], found: Numbers, services: Sequence[Row]) -> str:
    """Which figure is furthest from the contract, and what makes it so."""
    if not found.failed.n and not found.deployments:
        return "No release reached anybody in these four weeks: there is nothing to judge yet."
    if found.deployments == 0:
        return "Nothing was deployed in these four weeks; every release ended before everybody had it."
    missed = [(clause.gap, clause.figure) for clause in clauses if clause.met is False and clause.gap is not None]
    if not missed:
        untold = [_WHAT[clause.figure].lower() for clause in clauses if clause.met is None]
        unsure = f", as far as can be told: nothing sure is known of {' and '.join(untold)}" if untold else ""
        return f"The contract is met{unsure}."
    _, worst = max(missed)
    return f"{_WHAT[worst]} is furthest from the contract: {_driver(worst, found, services)}."


def _driver(worst: Figure, found: Numbers, services: Sequence[Row]) -> str:
    if worst == "frequency":
        idle = found.days - found.deployment_days
        tail = f"; nothing was deployed on {idle} of {found.days} days" if idle else ""
        return f"{found.per_day:.2g} deployments a day against {DEPLOYMENTS_A_DAY:g}{tail}"
    if worst == "lead":
        text = f"{span(found.lead.median)} against {span(LEAD_TIME)}"
        stages = {stage: spread.total for stage, spread in found.stages.items() if spread.total}
        if stages:
            longest = max(stages, key=lambda stage: stages[stage] or 0)
            part = (stages[longest] or 0) / sum(total or 0 for total in stages.values())
            text += f"; most of it is {_STAGES[longest]}, {part:.0%} of all the time"
        return text
    if worst == "failed":
        most = max(services, key=lambda row: row.figures.failed.count, default=None)
        whose = f"; {most.figures.failed.count} of them of {most.service}" if most and len(services) > 1 else ""
        return f"{found.failed.count} of {found.failed.n} releases failed, {found.failed.ratio:.1%} against {FAILURES:.0%}{whose}"
    caught, escaped = found.caught, found.escaped
    apart = f"; {escaped.n} of {escaped.n + caught.n} failures escaped, and took {span(escaped.median)}" if escaped.n else ""
    return f"{span(found.recovery.median)} against {span(RECOVERY)}{apart}"


@dataclass(frozen=True)
class Slow:
    """One of the slowest changes, with what is known of it."""

    delivery: Delivery
    title: str
    url: str


@dataclass(frozen=True)
class Failed:
    """A row of the ledger."""

    service: str
    environment: str
    version: str
    failure: Failure
    seconds: int | None


@dataclass(frozen=True)
class Released:
    """A release on the line of time. Moments are seconds since 1970; `at`: at 100 %, or its first user where it had not all."""

    key: str
    service: str
    environment: str
    version: str
    standing: Standing
    at: int
    reached: int | None
    promoted: int | None
    failed: bool


@dataclass(frozen=True)
class Incident:
    """An incident of the week. `release`: the one it is attributed to; '' for none, which is `why` then."""

    key: str
    service: str
    title: str
    url: str
    severity: str
    began: int | None
    resolved: int | None
    release: str


@dataclass(frozen=True)
class Freshness:
    """How current it is. `received`: when the newest fact came, in seconds. `unread` facts are not looked at yet, and `waiting`
    services are still to be read anew: both are 0 when all of it is as the facts say.
    """

    facts: int
    received: int | None
    unread: int
    waiting: int


@dataclass(frozen=True)
class Page:
    """Everything on the page. Moments are seconds since 1970, durations seconds, null where there is nothing to say."""

    scope: Scope
    zone: str
    week: str
    start: int
    end: int
    today: date
    running: bool
    review: Review
    slowest: tuple[Slow, ...]
    failures: tuple[Failed, ...]
    releases: tuple[Released, ...]
    #: There are more releases in this week than are listed.
    more: bool
    incidents: tuple[Incident, ...]
    freshness: Freshness

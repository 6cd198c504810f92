"""Weeks: what a service did in each, so small that twelve weeks of five hundred services are read at once. Pure.

A week of a service is made from its `Shelf`, and weeks side by side add up: `add_up` gives what `serinus.dora.metrics.five` gives
for the same window, without the keys. Numbers are whole seconds in arrays of 32 bits; medians stay true, not of summaries.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from serinus.dora.failures import Failure
from serinus.dora.figures import Interval, Window, local_day, quantile, wilson
from serinus.dora.metrics import STAGES, Delivery, Shelf, Stage, Standing

#: What is counted day by day; after these, each standing.
COUNTS = ("deployments", "reached", "failed", "rework", "untracked", "undated", "open", "unlinked")
STANDINGS: tuple[Standing, ...] = ("Promoted", "RolledBack", "Aborted", "Superseded", "Skipped", "Running")
#: What is measured in seconds.
SAMPLES = ("lead", "first_commit", "bake", *STAGES, "caught", "escaped")
FAILED = COUNTS.index("failed")
#: The slowest changes that a week keeps, and the newest failures.
SLOWEST, LEDGER = 10, 50

Seconds = NDArray[np.int32]
_WIDTH = len(COUNTS) + len(STANDINGS)


def monday(day: date) -> date:
    """That of its week."""
    return day - timedelta(days=day.weekday())


@dataclass(frozen=True)
class Week:
    """One service in one environment. `days`: 7 rows of `COUNTS` and `STANDINGS`; `samples`: in no order.

    `slowest` changes and newest `failures` are left out where nobody asks for them.
    """

    monday: date
    days: Seconds
    samples: Mapping[str, Seconds]
    slowest: tuple[Delivery, ...] = ()
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True)
class Kept:
    """A week, and whose it is."""

    service: str
    environment: str
    week: Week


def weeks(shelf: Shelf, zone: ZoneInfo) -> Iterator[Week]:
    """Those in which something counts, in order."""
    for start in _mondays(shelf, zone):
        window = Window.of_days(start, start + timedelta(days=7), zone)
        deliveries = [d for d in shelf.deliveries.within(window.interval) if d.lead is not None]
        failures = shelf.failures.within(window.interval)
        yield Week(
            start,
            np.array([_counts(shelf, part) for _, part in window.days()], np.int32),
            {name: np.fromiter(values, np.int32) for name, values in _samples(shelf, window.interval, failures).items()},
            tuple(sorted(deliveries, key=lambda d: (-(d.lead or 0), d.change))[:SLOWEST]),
            tuple(sorted(failures, key=lambda failure: failure.when, reverse=True)[:LEDGER]),
        )


def _mondays(shelf: Shelf, zone: ZoneInfo) -> list[date]:
    moments = {*shelf.promoted.moments, *shelf.reached.moments, *shelf.loose.moments}
    return sorted({monday(local_day(moment, zone)) for moment in moments})


def _counts(shelf: Shelf, day: Interval) -> list[int]:
    deliveries, failures = shelf.deliveries.within(day), shelf.failures.within(day)
    counts = (
        shelf.promoted.count(day),
        shelf.reached.count(day),
        len(failures),
        shelf.rework.count(day),
        shelf.untracked.count(day),
        sum(delivery.lead is None for delivery in deliveries),
        sum(failure.open for failure in failures),
        shelf.loose.count(day),
    )
    return [*counts, *(those.count(day) if (those := shelf.standings.get(s)) else 0 for s in STANDINGS)]


def _samples(shelf: Shelf, week: Interval, failures: Sequence[Failure]) -> dict[str, Iterable[int]]:
    over = [(failure.escaped, failure.seconds) for failure in failures if failure.seconds is not None]
    return {
        "lead": shelf.lead.values.within(week),
        "first_commit": shelf.since_commit.values.within(week),
        "bake": shelf.bake.values.within(week),
        **{stage: shelf.stages[stage].values.within(week) for stage in STAGES},
        "caught": [seconds for escaped, seconds in over if not escaped],
        "escaped": [seconds for escaped, seconds in over if escaped],
    }


@dataclass(frozen=True, slots=True)
class Spread:
    """Seconds: how many, true quantiles, and the sum. None where there are none."""

    n: int
    median: float | None = None
    p75: float | None = None
    p90: float | None = None
    total: int | None = None

    @staticmethod
    def of(samples: Sequence[Seconds]) -> Spread:
        """Of all of these together."""
        ordered = np.sort(np.concatenate(samples)) if samples else np.empty(0, np.int32)
        n = len(ordered)
        median, p75, p90 = (quantile(ordered, percent) for percent in (50, 75, 90))
        return Spread(n, median, p75, p90, int(ordered.sum(dtype=np.int64)) if n else None)


@dataclass(frozen=True, slots=True)
class Share:
    """`count` of `n`, with its 95 % interval (Wilson)."""

    count: int
    n: int
    ratio: float | None
    low: float | None
    high: float | None

    @staticmethod
    def of(count: int, n: int) -> Share:
        """None of none."""
        low, high = wilson(count, n) or (None, None)
        return Share(count, n, count / n if n else None, low, high)


@dataclass(frozen=True, slots=True)
class Numbers:
    """The five figures of a window, and what stands beside them. `days`: those that have begun."""

    days: int
    deployments: int
    per_day: float | None
    deployment_days: int
    lead: Spread
    first_commit: Spread
    bake: Spread
    stages: Mapping[Stage, Spread]
    failed: Share
    recovery: Spread
    caught: Spread
    escaped: Spread
    rework: Share
    untracked: int
    undated: int
    open: int
    unlinked: int
    standings: Mapping[Standing, int]


@dataclass(frozen=True, slots=True)
class Brief:
    """The five figures alone."""

    days: int
    deployments: int
    per_day: float | None
    lead: Spread
    failed: Share
    recovery: Spread
    rework: Share


def brief(parts: Sequence[Week], days: int) -> Brief:
    """Weeks of whatever services and environments, of which `days` days in all have begun."""
    every = np.add.reduce([part.days for part in parts]) if parts else np.zeros((7, _WIDTH), np.int32)
    return _brief(parts, days, _totals(every))


def _brief(parts: Sequence[Week], days: int, count: Mapping[str, int]) -> Brief:
    return Brief(
        days,
        count["deployments"],
        count["deployments"] / days if days else None,
        Spread.of(_of(parts, "lead")),
        Share.of(count["failed"], count["reached"]),
        Spread.of(_of(parts, "caught", "escaped")),
        Share.of(count["rework"], count["reached"]),
    )


def add_up(parts: Sequence[Week], days: int) -> Numbers:
    """The same, with all that stands beside them."""
    table = _table(parts)
    count = _totals(table)
    five = _brief(parts, days, count)
    return Numbers(
        days,
        five.deployments,
        five.per_day,
        int((table[:, 0] > 0).sum()),
        five.lead,
        Spread.of(_of(parts, "first_commit")),
        Spread.of(_of(parts, "bake")),
        {stage: Spread.of(_of(parts, stage)) for stage in STAGES},
        five.failed,
        five.recovery,
        Spread.of(_of(parts, "caught")),
        Spread.of(_of(parts, "escaped")),
        five.rework,
        count["untracked"],
        count["undated"],
        count["open"],
        count["unlinked"],
        {standing: count[standing] for standing in STANDINGS if count[standing]},
    )


def by_day(parts: Sequence[Week]) -> dict[date, tuple[int, dict[Standing, int]]]:
    """Deployments of each day of these weeks, and the releases that users had by what became of them."""
    found = {}
    for start, table in _by_week(parts).items():
        for number, row in enumerate(table.tolist()):
            standings = {s: n for s, n in zip(STANDINGS, row[len(COUNTS) :], strict=True) if n}
            found[start + timedelta(days=number)] = (row[0], standings)
    return found


def _of(parts: Sequence[Week], *names: str) -> list[Seconds]:
    return [part.samples[name] for part in parts for name in names]


def _by_week(parts: Sequence[Week]) -> dict[date, Seconds]:
    """Of each week its table, whatever services it has."""
    together: dict[date, list[Seconds]] = {}
    for part in parts:
        together.setdefault(part.monday, []).append(part.days)
    return {start: np.add.reduce(tables) for start, tables in together.items()}


def _table(parts: Sequence[Week]) -> Seconds:
    tables = list(_by_week(parts).values())
    return np.concatenate(tables) if tables else np.zeros((0, _WIDTH), np.int32)


def _totals(table: Seconds) -> dict[str, int]:
    return dict(zip((*COUNTS, *STANDINGS), table.sum(axis=0).tolist(), strict=True))

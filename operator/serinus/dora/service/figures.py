"""The five figures, as they are shown: by HTTP, in the report, to the gate. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from pydantic import BaseModel

from serinus.dora.contract import DEPLOYMENTS_A_DAY, FAILURES, LEAD_TIME, RECOVERY
from serinus.dora.figures import Durations, Rate, span
from serinus.dora.metrics import Delivery, FailureRate, Five, Frequency, LeadTime, Recovery, ReworkRate, Scope


class Figures(BaseModel):
    """Of one scope in one window. Moments are seconds since 1970, durations seconds; null: there is nothing to say."""

    start: datetime
    end: datetime
    zone: str
    scope: Scope
    frequency: Frequency
    lead_time: LeadTime
    failure_rate: FailureRate
    recovery: Recovery
    rework: ReworkRate

    @staticmethod
    def of(five: Five) -> Figures:
        """All of it."""
        window = five.window
        return Figures(
            start=window.start,
            end=window.end,
            zone=str(window.zone),
            scope=five.scope,
            frequency=five.frequency,
            lead_time=five.lead_time,
            failure_rate=five.failure_rate,
            recovery=five.recovery,
            rework=five.rework,
        )


@dataclass(frozen=True)
class Line:
    """One figure for people. `met`: None where nothing can be said."""

    name: str
    value: str
    target: str
    met: bool | None
    n: int
    more: str


def lines(five: Five | Figures) -> Iterator[Line]:
    """The five, each with its n and what it hides."""
    frequency, lead = five.frequency, five.lead_time.opened
    per_day = frequency.per_day if frequency.days else None
    yield Line(
        "deployment frequency",
        "none yet" if per_day is None else f"{per_day:.2g} a day",
        f"{DEPLOYMENTS_A_DAY:g} a day",
        None if per_day is None else per_day >= DEPLOYMENTS_A_DAY,
        frequency.n,
        f"on {frequency.deployment_days} of {frequency.days} days",
    )
    unknown = len(five.lead_time.undated), len(five.lead_time.untracked)
    yield _durations("lead time for changes", lead, LEAD_TIME, f"{unknown[0]} changes undated, {unknown[1]} releases untracked")
    yield _rate("change failure rate", five.failure_rate.rate, FAILURES)
    caught, escaped = five.recovery.caught, five.recovery.escaped
    apart = f"caught {span(caught.median)} (n {caught.n}), escaped {span(escaped.median)} (n {escaped.n})"
    still = f", {len(five.recovery.open)} not over" if five.recovery.open else ""
    yield _durations("recovery time", five.recovery.every, RECOVERY, apart + still)
    yield _rate("rework rate", five.rework.rate, None)


def _durations(name: str, found: Durations, target: float, more: str) -> Line:
    met = None if found.median is None else found.median <= target
    tail = f"p75 {span(found.p75)}, p90 {span(found.p90)}; " if found.n else ""
    return Line(name, f"{span(found.median)} (median)" if found.n else "none", span(target), met, found.n, tail + more)


def _rate(name: str, rate: Rate, target: float | None) -> Line:
    """Met, or missed, only where the whole interval says so: one failure of fifty is 2 %, and 0.4 to 10 %."""
    if rate.ratio is None or rate.low is None or rate.high is None:
        return Line(name, "none", "" if target is None else f"{target:.0%}", None, 0, "")
    met = None if target is None else True if rate.ratio <= target else False if rate.low > target else None
    interval = f"95 % interval {rate.low:.1%} to {rate.high:.1%}; {rate.count} of {rate.n}"
    return Line(name, f"{rate.ratio:.1%}", "" if target is None else f"{target:.0%}", met, rate.n, interval)


#: Whether a target was met, in words.
SAID = {True: "met", False: "missed", None: "cannot be told"}


def days(figures: Figures) -> str:
    """Which days they are of, for people."""
    start, end = (moment.astimezone(ZoneInfo(figures.zone)) for moment in (figures.start, figures.end))
    return f"{start:%Y-%m-%d} up to {end:%Y-%m-%d}, {figures.zone}"


def slowest(figures: Figures) -> list[Delivery]:
    """The ten changes that took longest to everybody."""
    return sorted((d for d in figures.lead_time.deliveries if d.lead is not None), key=lambda d: -(d.lead or 0))[:10]


def markdown(figures: Figures, title: str) -> str:
    """The report."""
    head = [
        f"# {title}",
        "",
        f"{days(figures)}.",
        "",
        "| | | target | | n | |",
        "|---|---|---|---|---|---|",
    ]
    table = [
        f"| {x.name} | {x.value} | {x.target} | {SAID[x.met] if x.target else ''} | {x.n} | {x.more} |" for x in lines(figures)
    ]
    ledger = [
        f"- `{_plain(f.release)}`: {_plain(f.why)}; {'escaped' if f.escaped else 'caught'}, recovered in {span(f.seconds)}"
        for f in figures.failure_rate.failures
    ]
    slow = [f"- {_plain(d.change)}: {span(d.lead)}, with `{_plain(d.release)}`" for d in slowest(figures)]
    parts = [*head, *table]
    if ledger:
        parts += ["", "## Failures", "", *ledger]
    if slow:
        parts += ["", "## Slowest changes", "", *slow]
    return "\n".join([*parts, ""])


def _plain(text: str) -> str:
    """Without what Markdown, or a browser behind it, would take for its own."""
    return "".join(c if c not in "`<>|[]*_#\n\r" else " " for c in text)

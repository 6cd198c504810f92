"""When to look again: soon after the next samples can be there, and not in between. Pure.

Prometheus scrapes each target at an interval of its own choosing and at a phase of its own. The samples' timestamps give both
away, so nobody has to configure them a second time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

#: Seconds from a scrape's timestamp until its samples can be asked for. One that takes longer is seen `interval` later.
APPENDED = 0.25
#: Seconds that a look waits at most, or `interval`: a new pod is scraped at a phase that nobody knows yet.
LONGEST = 5.0
#: How much longer than the gap before a gap is believed to be. A scrape that failed, or that no look saw, makes it twice as long.
_SLOWER = 1.5
#: The part of an interval that is as good as one: scrapes come some milliseconds early, or late.
_ABOUT = 0.75
#: Seconds by which one sample's time may differ from look to look: each answer measures the server's clock anew.
SAME = 0.2


@dataclass
class _Target:
    newest: float
    period: float | None = None


class Rhythm:
    """The scrapes that one release's counters come from, as its looks have seen them."""

    def __init__(self) -> None:
        self._targets: dict[str, _Target] = {}

    def note(self, sampled: Mapping[str, datetime]) -> None:
        """What one look saw: when each target's newest sample was taken, by our own clock. Others are gone."""
        self._targets = {name: target for name, target in self._targets.items() if name in sampled}
        for name, moment in sampled.items():
            at = moment.timestamp()
            target = self._targets.setdefault(name, _Target(at))
            gap = at - target.newest
            if gap > SAME:
                target.period = gap if target.period is None else min(gap, _SLOWER * target.period)
                target.newest = at

    def pause(self, now: datetime, interval: float) -> float:
        """Seconds from a look at `now` to the next.

        `interval`, while a target's rhythm is not known, or one is late. Otherwise until the first samples that can be there in
        about an interval, or later; if some can be there sooner, `interval` at most.
        """
        at, waits = now.timestamp(), []
        for target in self._targets.values():
            due = target.newest + (target.period or 0.0) + APPENDED - at
            if target.period is None or due <= 0:
                return interval
            if due < _ABOUT * interval:
                later = due + target.period * math.ceil((_ABOUT * interval - due) / target.period)
                due = min(later, interval)
            waits.append(due)
        return min(min(waits), max(LONGEST, interval)) if waits else interval

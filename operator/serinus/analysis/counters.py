"""Counters over time: how much they rose since a moment, over many series, through resets.

A counter is read as it is, without ``rate()``: a rate over a window of a minute is late by up to a minute, and needs two
samples of a series where one is evidence already.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

#: Sources keep time in milliseconds. A sample this much (seconds) after a moment still belongs to that moment; without it
#: the sample *at* the start would be rounded to just after it, and all that ever happened would look new.
GRAIN = 0.002


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One series: ``(time, value)`` pairs in the order of time. Times are seconds since the epoch."""

    samples: tuple[tuple[float, float], ...]


def last_seen(trajectories: Iterable[Trajectory], start: float) -> float:
    """Time of the last sample of any of these up to `start`: when the source was last known to answer. -inf for never."""
    return max((t for each in trajectories for t, _ in each.samples if t <= start + GRAIN), default=-math.inf)


def increase(trajectories: Iterable[Trajectory], start: float, answered: float = -math.inf) -> float:
    """How much all series together rose since `start` (seconds since the epoch). Never negative.

    A series without a sample up to `start` began at zero after it, so its first value counts. So does one that ended before
    `answered`, when its source still answered for others (see `last_seen`): it is another counter by the same name. Without
    that knowledge a gap may be a scrape that failed, and the value before it stands. A drop is a counter that began anew at
    zero. NaN is no sample. Ask for plain series: in a ``sum()`` the end of one pod's series looks like a reset of all.
    """
    return sum(rise for trajectory in trajectories for _, rise in _rises(trajectory, start, answered))


def first_increase_at(trajectories: Iterable[Trajectory], start: float, answered: float = -math.inf) -> float | None:
    """Time of the first sample after `start` that shows a rise, in seconds since the epoch; None where nothing rose."""
    return min((t for trajectory in trajectories for t, _ in _rises(trajectory, start, answered)), default=None)


def _rises(trajectory: Trajectory, start: float, answered: float) -> Iterator[tuple[float, float]]:
    """Every rise after `start` as (time of the sample, size)."""
    before, seen = 0.0, math.inf
    for t, value in trajectory.samples:
        if math.isnan(value):
            continue
        if t > start + GRAIN and seen < answered - GRAIN:
            before = 0.0
        seen = t
        if t > start + GRAIN and value != before:
            rise = value - before if value > before else value
            if rise > 0:
                yield t, rise
        before = value

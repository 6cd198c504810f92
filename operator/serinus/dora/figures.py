"""Windows of time, true medians, rates with their intervals. Pure.

Durations are whole seconds, windows are half-open, and where there is nothing to say a figure is None, never 0. Every figure
has its n, and the keys of what it was computed from.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from operator import itemgetter
from typing import Generic, NamedTuple, Protocol, SupportsInt, TypeVar
from zoneinfo import ZoneInfo

#: Of the normal distribution: 95 % lie within it.
_Z = 1.959963984540054

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)

T = TypeVar("T")


def seconds(moment: datetime) -> int:
    """Since 1970, cut to the whole second: so the parts of a duration add up to it."""
    return (moment - _EPOCH) // _SECOND


def maybe(moment: datetime | None) -> int | None:
    """The same, of a moment that may not be known."""
    return None if moment is None else seconds(moment)


def local_day(moment: int, zone: ZoneInfo) -> date:
    """The day of a moment in a zone."""
    return (_EPOCH + moment * _SECOND).astimezone(zone).date()


def span(seconds: float | None) -> str:
    """For people: ``45 s``, ``2 h 30 min``, ``3 d 4 h``."""
    if seconds is None:
        return "none"
    whole = round(seconds)
    for unit, size, below, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit}" + (f" {rest} {below}" if rest else "")
    return f"{whole} s"


class Interval(NamedTuple):
    """[start, end), in seconds since 1970."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Window:
    """[start, end), and the time zone whose days are counted. Raises ValueError for an end before the start."""

    start: datetime
    end: datetime
    zone: ZoneInfo

    def __post_init__(self) -> None:
        if self.end < self.start:
            raise ValueError(f"the window ends at {self.end}, before it starts at {self.start}")

    @staticmethod
    def of_days(first: date, end: date, zone: ZoneInfo) -> Window:
        """From the first day's midnight to that of `end`, which is not in it."""
        return Window(_midnight(first, zone), _midnight(end, zone), zone)

    @staticmethod
    def of_week(year: int, week: int, zone: ZoneInfo) -> Window:
        """An ISO week, which begins on Monday. Raises ValueError for a week that there is not."""
        monday = date.fromisocalendar(year, week, 1)
        return Window.of_days(monday, monday + timedelta(days=7), zone)

    @property
    def interval(self) -> Interval:
        """As seconds."""
        return Interval(seconds(self.start), seconds(self.end))

    def days(self) -> list[tuple[date, Interval]]:
        """The days that it touches, the first and the last cut to it. A day has 23 or 25 hours where the clock is changed."""
        whole = self.interval
        day = self.start.astimezone(self.zone).date()
        found = []
        while (start := seconds(_midnight(day, self.zone))) < whole.end:
            tomorrow = day + timedelta(days=1)
            part = Interval(max(start, whole.start), min(seconds(_midnight(tomorrow, self.zone)), whole.end))
            if part.start < part.end:
                found.append((day, part))
            day = tomorrow
        return found


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone)


@dataclass(frozen=True, slots=True)
class Durations:
    """Seconds. The median is true: of an even number, the mean of the middle two, so it may end in a half.

    The other quantiles lie between neighbours in the same way (linear interpolation: PostgreSQL's percentile_cont).
    """

    n: int
    median: float | None
    p75: float | None
    p90: float | None
    total: int | None
    keys: tuple[str, ...]

    @staticmethod
    def of(values: Iterable[int], keys: Iterable[str]) -> Durations:
        """From values and, in the same order, what each is of."""
        ordered = sorted(values)
        return Durations(
            len(ordered),
            quantile(ordered, 50),
            quantile(ordered, 75),
            quantile(ordered, 90),
            sum(ordered) if ordered else None,
            tuple(keys),
        )


class Ascending(Protocol):
    """A list of integers, or an array of them."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> SupportsInt: ...


def quantile(ordered: Ascending, percent: int) -> float | None:
    """Of ascending values; None of none."""
    if not len(ordered):
        return None
    below, between = divmod(percent * (len(ordered) - 1), 100)
    low, high = int(ordered[below]), int(ordered[min(below + 1, len(ordered) - 1)])
    return low + between * (high - low) / 100


@dataclass(frozen=True, slots=True)
class Rate:
    """`count` of `n`, with the interval in which the true rate lies with 95 % confidence (Wilson 1927). `keys`: the counted."""

    count: int
    n: int
    ratio: float | None
    low: float | None
    high: float | None
    keys: tuple[str, ...]
    of: tuple[str, ...]

    @staticmethod
    def among(keys: tuple[str, ...], of: tuple[str, ...]) -> Rate:
        """The rate of `keys` among `of`."""
        low, high = wilson(len(keys), len(of)) or (None, None)
        return Rate(len(keys), len(of), len(keys) / len(of) if of else None, low, high, keys, of)


def wilson(count: int, n: int) -> tuple[float, float] | None:
    """The 95 % score interval of `count` of `n`; None of none. Wilson, "Probable inference, the law of succession" (1927)."""
    if not n:
        return None
    ratio = count / n
    scale = 1 + _Z**2 / n
    middle = (ratio + _Z**2 / (2 * n)) / scale
    half = _Z * math.sqrt(ratio * (1 - ratio) / n + _Z**2 / (4 * n**2)) / scale
    return (middle - half if count else 0.0), (middle + half if count < n else 1.0)


@dataclass(frozen=True, slots=True)
class Timeline(Generic[T]):
    """Things by their moments, so that a window of them is a slice."""

    moments: Sequence[int]
    things: Sequence[T]

    @staticmethod
    def of(moments: Iterable[tuple[int, T]]) -> Timeline[T]:
        """From pairs of a moment and a thing. Things of one second stay in the order given."""
        ordered = sorted(moments, key=itemgetter(0))
        return Timeline([moment for moment, _ in ordered], [thing for _, thing in ordered])

    def within(self, interval: Interval) -> tuple[T, ...]:
        """The things of [start, end)."""
        return tuple(self.things[bisect_left(self.moments, interval.start) : bisect_left(self.moments, interval.end)])

    def count(self, interval: Interval) -> int:
        """How many there are in [start, end)."""
        return bisect_left(self.moments, interval.end) - bisect_left(self.moments, interval.start)


@dataclass(frozen=True, slots=True)
class Samples:
    """Durations by the moment at which they ended."""

    values: Timeline[int]
    keys: Timeline[str]

    @staticmethod
    def of(samples: Iterable[tuple[int, int, str]]) -> Samples:
        """From a moment, seconds, and what they are of."""
        several = list(samples)
        return Samples(Timeline.of((at, value) for at, value, _ in several), Timeline.of((at, key) for at, _, key in several))

    def within(self, interval: Interval) -> Durations:
        """Those that ended in [start, end)."""
        return Durations.of(self.values.within(interval), self.keys.within(interval))

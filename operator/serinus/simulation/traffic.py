"""Requests of two versions, and what a source that is scraped now and then knows of them.

Requests come at random (Poisson), and so do bad ones, in bursts of one size. Both versions are counted at the same place, and
read at the same moments.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import NamedTuple

from serinus.analysis.sequential import Counts

#: Above this mean a normal variate stands for a Poisson one.
_LARGE = 60.0


@dataclass(frozen=True, slots=True)
class Load:
    """Traffic of a service: `rate` requests a second over both versions, bad ones in bursts of `clump` requests.

    Counters are read every `scrape` seconds.
    """

    rate: float
    clump: int = 1
    scrape: float = 5.0


class Failing(NamedTuple):
    """The share of requests that are bad, of each version."""

    canary: float
    serving: float


@dataclass
class Traffic:
    """One check's counts in one rollout. Second 0 is the canary's first; its share changes with `turn`."""

    load: Load
    failing: Failing
    rng: random.Random
    #: When the first scrape after second 0 is.
    phase: float
    #: The canary's bad requests so far, scraped or not.
    failed: float = 0
    share: float = 0
    _at: float = 0
    #: Bad, total, serving bad, serving total: of the scrapes that no look has read yet, and since the newest scrape.
    _scraped: list[float] = field(default_factory=lambda: [0.0] * 4)
    _fresh: list[float] = field(default_factory=lambda: [0.0] * 4)

    def __post_init__(self) -> None:
        # What was counted between the last scrape before second 0 and it is seen by the first look, too.
        self._count(self.load.scrape - self.phase)

    def read(self, now: float) -> tuple[Counts, Counts]:
        """What the newest scrape has beyond those that were read before: of the canary, and of the version that serves."""
        self._to_scrape(now)
        seen, self._scraped = self._scraped, [0.0] * 4
        return Counts(seen[0], seen[1]), Counts(seen[2], seen[3])

    def turn(self, now: float, share: float | None = None) -> None:
        """Traffic up to `now`; from then on the canary has `share` of it (0 to 1), or what it had."""
        self._to_scrape(now)
        self._count(now - self._at)
        self._at, self.share = now, self.share if share is None else share

    def next_scrape(self, now: float) -> float:
        """The first scrape after `now`."""
        return self.phase + (math.floor((now - self.phase) / self.load.scrape) + 1) * self.load.scrape

    def scraped_at(self, now: float) -> float:
        """The newest scrape at `now`."""
        return self.next_scrape(now) - self.load.scrape

    def _to_scrape(self, now: float) -> None:
        newest = self.scraped_at(now)
        if newest > self._at:
            self._count(newest - self._at)
            self._at = newest
        if newest >= self._at:
            self._scraped = [known + more for known, more in zip(self._scraped, self._fresh, strict=True)]
            self._fresh = [0.0] * 4

    def _count(self, seconds: float) -> None:
        canary, serving = self.load.rate * self.share * seconds, self.load.rate * (1 - self.share) * seconds
        bad, beside = self._bad(canary * self.failing.canary), self._bad(serving * self.failing.serving)
        self.failed += bad
        good = poisson(self.rng, canary * (1 - self.failing.canary))
        well = poisson(self.rng, serving * (1 - self.failing.serving))
        self._fresh = [k + n for k, n in zip(self._fresh, (bad, bad + good, beside, beside + well), strict=True)]

    def _bad(self, mean: float) -> int:
        return self.load.clump * poisson(self.rng, mean / self.load.clump)


def poisson(rng: random.Random, mean: float) -> int:
    """How many events there are where `mean` are expected."""
    if mean > _LARGE:
        return max(0, round(rng.gauss(mean, math.sqrt(mean))))
    bound, product, events = math.exp(-mean), rng.random(), 0
    while product > bound:
        product *= rng.random()
        events += 1
    return events

"""Traffic and errors, drawn second by second for many releases at once.

Requests come at random (Poisson) and are split at random. Good requests are the same in every world; the worlds differ in how
the bad ones come, which are on average the same share of all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

#: Below this mean a draw a second is mostly zeros: the events are scattered instead, which is the same.
_SPARSE = 0.2
#: In a bad second there are so many bad requests for each one of the ordinary traffic: one of three fails.
BAD_SECOND = 0.5


class Counted(NamedTuple):
    """Requests, by second (rows) and release (columns): the canary's, and those of the version that serves."""

    bad: Array
    total: Array
    beside_bad: Array
    beside_total: Array

    def by_look(self, seconds: int) -> Counted:
        """Summed over looks of so many seconds."""
        return Counted(*(summed(each, seconds) for each in self))

    def only(self, releases: int) -> Counted:
        """The first so many releases."""
        return Counted(*(each[:, :releases] for each in self))


def summed(each: Array, seconds: int) -> Array:
    """Rows added up, so many at a time."""
    return each if seconds == 1 else each.reshape(-1, seconds, each.shape[1]).sum(axis=1)


@dataclass(frozen=True, slots=True)
class World:
    """How bad requests come: in `burst`s that hit one version, or in `shared` bad seconds that hit both."""

    name: str
    burst: int = 1
    shared: bool = False


INDEPENDENT = World("independent errors")
WORLDS = (
    INDEPENDENT,
    World("bursts of 5 on one side", burst=5),
    World("bursts of 20 on one side", burst=20),
    World("bad seconds of both", shared=True),
)


@dataclass(frozen=True, slots=True)
class Load:
    """`rate` requests a second over both versions, `share` of them (0 to 1) to the canary; how many are bad, of each."""

    rate: float
    share: float
    base: float
    canary: float


def poisson(rng: np.random.Generator, mean: float, shape: tuple[int, int]) -> Array:
    """Events where `mean` are expected in each place."""
    if mean > _SPARSE:
        return rng.poisson(mean, shape).astype(np.int32)
    size = shape[0] * shape[1]
    events = np.zeros(size, np.int32)
    np.add.at(events, rng.integers(size, size=rng.poisson(mean * size)), 1)
    return events.reshape(shape)


def good(rng: np.random.Generator, load: Load, shape: tuple[int, int]) -> tuple[Array, Array]:
    """Good requests of the canary, and of the version that serves."""
    mine, others = load.rate * load.share, load.rate * (1 - load.share)
    return poisson(rng, mine * (1 - load.canary), shape), poisson(rng, others * (1 - load.base), shape)


def bad(rng: np.random.Generator, load: Load, world: World, shape: tuple[int, int]) -> tuple[Array, Array]:
    """Bad ones. A Poisson number of bursts that each fall to a version with its share are two Poisson numbers."""
    mine, others = load.rate * load.share, load.rate * (1 - load.share)
    if not world.shared:
        bursts = poisson(rng, mine * load.canary / world.burst, shape), poisson(rng, others * load.base / world.burst, shape)
        return bursts[0] * np.int32(world.burst), bursts[1] * np.int32(world.burst)
    at = np.flatnonzero(rng.random(shape, dtype=np.float32) < load.base / BAD_SECOND)
    both = []
    for rate, times in ((mine, load.canary / load.base), (others, 1.0)):
        events = np.zeros(shape, np.int32)
        events.ravel()[at] = rng.poisson(rate * times * BAD_SECOND, at.size)
        both.append(events)
    return both[0], both[1]


def together(good: tuple[Array, Array], bad: tuple[Array, Array]) -> Counted:
    """What a gateway counts of them."""
    return Counted(bad[0], good[0] + bad[0], bad[1], good[1] + bad[1])


def draw(rng: np.random.Generator, load: Load, world: World, shape: tuple[int, int]) -> Counted:
    """Seconds and releases of one load in one world."""
    return together(good(rng, load, shape), bad(rng, load, world, shape))

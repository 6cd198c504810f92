"""Which cells are run, and what came of each: thousands of good releases and hundreds of bad ones, several jobs at a time.

A job has random numbers of its own, from its name: the same job gives the same rows in any grid and in any order.
"""

from __future__ import annotations

import itertools
import math
import multiprocessing
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from e2e.verdicts import troubles
from e2e.verdicts.rules import Scene, all_rules
from e2e.verdicts.worlds import INDEPENDENT, WORLDS, Array, Load, World, bad, draw, good, together

#: Fixed before the first run.
SEED = 20261126
#: So many releases are judged at once: their numbers stay in the processor's cache.
BATCH = 5000


@dataclass(frozen=True, slots=True)
class Grid:
    """Shares and rates are parts of 1, `rates` requests a second, `looks` seconds. `alpha` is what the rules are told."""

    bases: tuple[float, ...] = (0.0001, 0.001, 0.005, 0.01, 0.02)
    canaries: tuple[float, ...] = (0.005, 0.02, 0.05, 0.33, 1.0)
    shares: tuple[float, ...] = (0.01, 0.05, 0.1, 0.25, 0.5)
    rates: tuple[float, ...] = (0.2, 1, 10, 100, 1000)
    looks: tuple[int, ...] = (1, 5, 30)
    worlds: tuple[World, ...] = WORLDS
    good: int = 20_000
    bad: int = 1000
    troubled: int = 10_000
    seconds: int = 600
    alpha: float = 0.01

    def jobs(self) -> list[Job]:
        """Longest first, so that the processes end together."""
        jobs = [
            Job(self, Load(rate, share, base, canary))
            for rate, share, base in itertools.product(self.rates, self.shares, self.bases)
            for canary in (base, *(each for each in self.canaries if each > base))
        ]
        return sorted(jobs, key=lambda job: (not job.good, -job.load.rate * job.load.base))


#: A few seconds.
QUICK = Grid(
    bases=(0.001, 0.02), canaries=(0.05, 0.33), shares=(0.05, 0.5), rates=(10, 100), looks=(5,), good=1000, bad=100, troubled=400
)


@dataclass(frozen=True, slots=True)
class Row:
    """One rule in one cell. `seconds` and `failed` are means over all releases; without an alarm, those of the whole release."""

    world: str
    load: Load
    look: int
    rule: str
    releases: int
    alarms: int
    seconds: float
    failed: float

    @property
    def good(self) -> bool:
        return self.load.canary == self.load.base

    @property
    def part(self) -> float:
        """Of the releases, those with an alarm."""
        return self.alarms / self.releases

    @property
    def cell(self) -> tuple[str, Load, int]:
        return self.world, self.load, self.look


@dataclass(frozen=True, slots=True)
class Job:
    """One load, in all worlds and looked at in all intervals. Bad releases are drawn with independent errors only."""

    grid: Grid
    load: Load

    @property
    def good(self) -> bool:
        return self.load.canary == self.load.base

    def run(self) -> list[Row]:
        grid, rng, rows = self.grid, seeded(repr(self.load)), []
        if not self.good:
            scene = Scene.of(draw(rng, self.load, INDEPENDENT, (grid.seconds, grid.bad)), self.load, 1)
            return [row for look in grid.looks for row in self._rows(INDEPENDENT, scene.at(look))]
        for size in _batches(grid.good):
            shape = grid.seconds, size
            fine = good(rng, self.load, shape)
            for world in grid.worlds:
                scene = Scene.of(together(fine, bad(rng, self.load, world, shape)), self.load, 1)
                rows += [row for look in grid.looks for row in self._rows(world, scene.at(look))]
        return _added(rows)

    def _rows(self, world: World, scene: Scene) -> Iterator[Row]:
        for rule, when in all_rules(scene, self.grid.alpha).items():
            asked = ~np.isnan(when)
            if asked.any():
                yield self._row(world, scene, rule, when[asked], scene.failed(np.where(asked, when, np.inf))[asked])

    def _row(self, world: World, scene: Scene, rule: str, when: Array, failed: Array) -> Row:
        seconds = float(np.minimum(when, scene.seconds).mean())
        alarms = int(np.isfinite(when).sum())
        return Row(world.name, self.load, scene.look, rule, when.size, alarms, seconds, float(failed.mean()))


def seeded(name: str) -> np.random.Generator:
    """Random numbers of its own for whatever has a name."""
    return np.random.default_rng([SEED, zlib.crc32(name.encode())])


def rows_of(grid: Grid, processes: int = 1) -> Iterator[list[Row]]:
    """The rows of one job after the other, as they end."""
    jobs = grid.jobs()
    if processes == 1:
        yield from map(Job.run, jobs)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(Job.run, jobs)


def troubles_of(grid: Grid) -> list[troubles.Outcome]:
    return troubles.outcomes(seeded, grid.troubled, grid.alpha)


def surprising(alarms: int, releases: int, chance: float, confidence: float = 0.999) -> bool:
    """So many alarms show that the true rate is above `chance`: the exact one-sided lower bound of it is (Clopper-Pearson)."""
    return alarms > releases * chance and at_least(alarms, releases, chance) < 1 - confidence


def at_least(alarms: int, releases: int, chance: float) -> float:
    """The chance of so many or more, where each has that chance."""
    logs = math.lgamma(releases + 1)
    odds = math.log(chance), math.log1p(-chance)
    terms = (
        logs - math.lgamma(k + 1) - math.lgamma(releases - k + 1) + k * odds[0] + (releases - k) * odds[1]
        for k in range(alarms, releases + 1)
    )
    return math.fsum(math.exp(term) for term in terms)


def _batches(releases: int) -> Iterator[int]:
    for start in range(0, releases, BATCH):
        yield min(BATCH, releases - start)


def _added(rows: list[Row]) -> list[Row]:
    """The batches of a cell as one. Means are weighted by releases."""
    cells: dict[tuple[str, Load, int, str], Row] = {}
    for row in rows:
        known = cells.get((*row.cell, row.rule))
        if known is not None:
            both = known.releases + row.releases
            row = replace(
                row,
                releases=both,
                alarms=known.alarms + row.alarms,
                seconds=(known.seconds * known.releases + row.seconds * row.releases) / both,
                failed=(known.failed * known.releases + row.failed * row.releases) / both,
            )
        cells[*row.cell, row.rule] = row
    return list(cells.values())

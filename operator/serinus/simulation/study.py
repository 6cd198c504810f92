"""Many rollouts of one Canary: a row for each failure rate, and one for a canary that is as good as the serving version."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from serinus.api.canary import Canary
from serinus.simulation.rollout import Check, Outcome, Rollout, Run
from serinus.simulation.traffic import Failing, Load


@dataclass(frozen=True, slots=True)
class Study:
    """What is simulated. `limit` is in seconds of virtual time; the same `seed` gives the same numbers again."""

    canary: Canary
    checks: Sequence[Check]
    load: Load
    runs: int = 1000
    seed: int = 1
    limit: float = 3600.0

    def rollouts(self, failing: Failing) -> Iterator[Run]:
        """One after the other; each with random numbers of its own, whatever else is simulated."""
        for number in range(self.runs):
            rng = random.Random(f"{self.seed} {failing} {number}")  # noqa: S311  # a simulation, no secret
            yield Rollout(self.canary, self.checks, self.load, failing, rng).run(self.limit)


@dataclass(frozen=True, slots=True)
class Row:
    """What became of the rollouts of one failure rate."""

    failing: Failing
    runs: Sequence[Run]

    @property
    def good(self) -> bool:
        """The canary is no worse: a rollback is a false alarm."""
        return self.failing.canary <= self.failing.serving

    def count(self, outcome: Outcome) -> int:
        """How many ended so."""
        return len(self.all(outcome))

    def part(self, outcome: Outcome) -> str:
        """How many that is of all, in percent. 999 of 1,000 are not 99 %."""
        return f"{100 * self.count(outcome) / len(self.runs):.4g} %"

    def all(self, outcome: Outcome, what: Callable[[Run], float] = lambda run: run.seconds) -> list[float]:
        """Seconds, or `what`, of those that ended so; sorted."""
        return sorted(what(run) for run in self.runs if run.outcome == outcome)

    def dump(self) -> dict[str, object]:
        """As `--json` writes it."""
        return {
            "canary": self.failing.canary,
            "serving": self.failing.serving,
            "runs": len(self.runs),
            "rolledBack": self.count("RolledBack"),
            "promoted": self.count("Promoted"),
            "notEnded": self.count("NotEnded"),
            "secondsToRollback": quantiles(self.all("RolledBack")),
            "failedToRollback": quantiles(self.all("RolledBack", lambda run: run.failed)),
            "secondsToPromotion": quantiles(self.all("Promoted")),
            "failedToPromotion": quantiles(self.all("Promoted", lambda run: run.failed)),
        }


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Of sorted values; none of none."""
    return {f"p{part}": quantile(values, part / 100) for part in (5, 50, 95, 100)} if values else {}


def quantile(values: Sequence[float], part: float) -> float:
    """The smallest of sorted `values` that at least `part` (0 to 1) of them do not exceed."""
    return values[max(0, -int(-len(values) * part // 1) - 1)]

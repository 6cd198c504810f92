"""What goes wrong on ordinary days: good versions that look bad. Each trouble as it comes, and with what is advised against it.

A shop of 100 requests a second, of which 0.1 % fail where nothing else is said; a look every 5 s; ten minutes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from e2e.verdicts.rules import HARM, Bets, Scene, threshold
from e2e.verdicts.worlds import INDEPENDENT, Array, Counted, Load, draw

from serinus.analysis.sequential import Rule

SHARES = (0.05, 0.25, 0.5)
RATE, BASE, SECONDS, LOOK = 100.0, 0.001, 600, 5
COLD, COLD_FAILING = 10, 0.3
OUTAGE, OUTAGE_FAILING = 20, 0.3
#: Seconds of the step before weight 100.
COMPARED = 300

Random = np.random.Generator
Draws = Callable[[Random, float, int], Counted]


@dataclass(frozen=True, slots=True)
class Case:
    """`warm`: nothing counts before that second. `alone`: `baseline: none`. `whole_from`: weight 100 from that second on."""

    trouble: str
    remedy: str
    draws: Draws
    warm: int = 0
    alone: bool = False
    whole_from: int = SECONDS


@dataclass(frozen=True, slots=True)
class Outcome:
    """The part of good versions that each rule rolled back, by share."""

    trouble: str
    remedy: str
    serinus: tuple[float, ...]
    threshold60: tuple[float, ...]


def ordinary(rng: Random, share: float, releases: int, base: float = BASE) -> Counted:
    return draw(rng, Load(RATE, share, base, base), INDEPENDENT, (SECONDS, releases))


def cold(rng: Random, share: float, releases: int) -> Counted:
    counted = ordinary(rng, share, releases)
    counted.bad[:COLD] += rng.binomial(counted.total[:COLD] - counted.bad[:COLD], COLD_FAILING).astype(np.int32)
    return counted


def pinned(client: float) -> Draws:
    """All requests of one client fail, this many a second; all of them go to one version."""

    def draws(rng: Random, share: float, releases: int) -> Counted:
        counted = ordinary(rng, share, releases)
        requests = rng.poisson(client, (SECONDS, releases)).astype(np.int32)
        ours = rng.random(releases) < share
        for each in counted[:2]:
            each[:, ours] += requests[:, ours]
        for each in counted[2:]:
            each[:, ~ours] += requests[:, ~ours]
        return counted

    return draws


def failing(rng: Random, share: float, releases: int) -> Counted:
    """Both at 2 %, so that `harm` does not hide what the comparison says."""
    return ordinary(rng, share, releases, base=0.02)


def probed(rng: Random, share: float, releases: int) -> Counted:
    """As many requests again, all well, that are counted for the serving version only."""
    counted = failing(rng, share, releases)
    counted.beside_total[:] += rng.poisson(RATE, counted.total.shape).astype(np.int32)
    return counted


def outage(*starts: int, whole_from: int = SECONDS) -> Draws:
    """Whatever serves fails for a while, in both versions alike."""

    def draws(rng: Random, share: float, releases: int) -> Counted:
        counted = ordinary(rng, share, releases)
        for each, more in zip(counted, ordinary(rng, 1.0, releases), strict=True):
            each[whole_from:] = more[whole_from:]
        for start in starts:
            time = slice(start, start + OUTAGE)
            for bad, total in ((counted.bad, counted.total), (counted.beside_bad, counted.beside_total)):
                bad[time] += rng.binomial(total[time] - bad[time], OUTAGE_FAILING).astype(np.int32)
        return counted

    return draws


_NOTHING = "as it comes"
_COLD = f"cold pods: for {COLD} s {COLD_FAILING:.0%} of the canary's requests fail".replace("%", " %")
_LARGE = "one broken client of 2 requests a second, held to one version by affinity"
_SMALL = "the same, of 1 request in 5 s"
_PROBES = "probes counted for the serving version only, as many as there are requests; 2 % fail of all others"
_OUTAGE = f"an outage that is not the version's: for {OUTAGE} s {OUTAGE_FAILING:.0%} fail".replace("%", " %")

CASES = (
    Case(_COLD, _NOTHING, cold),
    Case(_COLD, "`warmUp: 10s`", cold, warm=COLD),
    Case(_LARGE, _NOTHING, pinned(2)),
    Case(_LARGE, "`baseline: none`", pinned(2), alone=True),
    Case(_SMALL, _NOTHING, pinned(0.2)),
    Case(_SMALL, "`baseline: none`", pinned(0.2), alone=True),
    Case(_PROBES, _NOTHING, probed),
    Case(_PROBES, "both counted at one place", failing),
    Case(_OUTAGE, "while the versions are compared", outage(200)),
    Case(_OUTAGE, "10 s after weight 100 began", outage(310, whole_from=COMPARED), whole_from=COMPARED),
    Case(_OUTAGE, "the same, after one while compared", outage(200, 310, whole_from=COMPARED), whole_from=COMPARED),
    Case(_OUTAGE, "100 s after weight 100 began", outage(400, whole_from=COMPARED), whole_from=COMPARED),
)


def outcomes(seeded: Callable[[str], Random], releases: int, alpha: float) -> list[Outcome]:
    """All cases, at all shares."""
    return [_outcome(case, seeded, releases, alpha) for case in CASES]


def _outcome(case: Case, seeded: Callable[[str], Random], releases: int, alpha: float) -> Outcome:
    parts = []
    for share in SHARES:
        counted = case.draws(seeded(f"{case.trouble} {share}"), share, releases)
        scene = Scene.of(counted, Load(RATE, share, BASE, BASE), LOOK)
        parts.append((_part(follow(case, counted, Rule(HARM, alpha), share)), _part(threshold(scene, 60, 60, 5))))
    serinus, threshold60 = zip(*parts, strict=True)
    return Outcome(case.trouble, case.remedy, serinus, threshold60)


def follow(case: Case, counted: Counted, rule: Rule, share: float) -> Array:
    """Which releases are rolled back."""
    tests = Bets(rule, counted.bad.shape[1])
    failed = np.zeros(counted.bad.shape[1], bool)
    for number, look in enumerate(zip(*counted.by_look(LOOK), strict=True), 1):
        now = number * LOOK
        if now - LOOK < case.warm:
            continue  # it would count from a moment on when a pod was cold
        weight = 100 if now > case.whole_from else round(100 * share)
        tests.look(*(look[:2] if case.alone or weight == 100 else look), weight=weight)
        failed |= tests.fails()
    return failed


def _part(alarms: Array) -> float:
    return float(np.mean(alarms if alarms.dtype == bool else np.isfinite(alarms)))

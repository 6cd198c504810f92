"""One rollout under virtual time: the real machine and the real test; pods, router and people at once.

A pass is made where something may change: at a look that finds new numbers, and when a bound of the step is over. In between
the machine would decide the same again (`every_look` makes those passes, too).
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from serinus.analysis import sequential
from serinus.analysis.finding import Finding
from serinus.analysis.sequential import Rule
from serinus.analysis.verdict import Verdict, combine, silences
from serinus.api.base import Metadata, parse_duration
from serinus.api.canary import Canary, CanaryStatus, Step
from serinus.api.release import Release, ReleaseSpec, ReleaseStatus, Stage, Tally, Target
from serinus.rollout.machine import STEP_HOLD, advance, alone
from serinus.rollout.observation import CanaryView, Commands, Observation, RouteView, TargetView
from serinus.simulation.traffic import Failing, Load, Traffic

Outcome = Literal["RolledBack", "Promoted", "NotEnded"]
#: The stages that a rollout is followed to.
ENDS: dict[Stage, Outcome] = {"RollingBack": "RolledBack", "Promoting": "Promoted"}

START = datetime(2026, 1, 1, tzinfo=UTC)
_NAME = "simulated"
#: Pods that are ready at once: as many as any share needs.
_PODS = 1000
#: Moments are whole microseconds, as the machine's are.
_DIGITS = 6
#: Pods take half of the traffic at most where the share follows their number.
_MOST_BY_PODS = 50


@dataclass(frozen=True, slots=True)
class Check:
    """A ratio of the Canary. `compared`: with the version beside it."""

    name: str
    rule: Rule
    compared: bool = True


@dataclass(frozen=True, slots=True)
class Run:
    """How one rollout ended. Times are seconds from the canary's first traffic; `failed` of its requests were bad until then."""

    outcome: Outcome
    seconds: float
    failed: float


def _bounds(step: Step) -> Iterator[float]:
    """Seconds after which something may change at a step by its clock alone."""
    yield STEP_HOLD.total_seconds()
    for bound in (step.duration, step.min_duration, step.max_duration):
        if bound:
            yield parse_duration(bound).total_seconds()


@dataclass
class _Test:
    check: Check
    traffic: Traffic
    tally: Tally = field(default_factory=sequential.begun)
    #: When the counters were scraped that the next look goes on from.
    read_at: float = 0.0


class Rollout:
    """One release of `canary`, from its first traffic to the promotion or the rollback.

    The first of `checks` sees the requests as `failing` says; in the others both versions fail as the serving one does.
    """

    def __init__(self, canary: Canary, checks: Sequence[Check], load: Load, failing: Failing, rng: random.Random) -> None:
        self._canary = canary.model_copy(update={"status": CanaryStatus()})
        self._plan = canary.spec.plan()
        self._holds = [list(_bounds(step)) for step in self._plan]
        self._interval = parse_duration(canary.spec.analysis.interval).total_seconds()
        self._warm_up = parse_duration(canary.spec.analysis.warm_up).total_seconds()
        self._patience = parse_duration(canary.spec.analysis.no_data_after).total_seconds()
        phase, good = rng.uniform(0, load.scrape), Failing(failing.serving, failing.serving)
        failings = [failing, *(good for _ in checks[1:])]
        self._tests = [_Test(c, Traffic(load, f, rng, phase)) for c, f in zip(checks, failings, strict=True)]
        self._now = 0.0
        self._warm_at = 0.0
        self._silent: dict[str, float] = {}
        self._findings: list[Finding] = []
        self._verdict: Verdict | None = None
        spec = ReleaseSpec(
            canary=canary.metadata.name,
            target=Target(name=canary.spec.target_ref.name, uid="", generation=1),
            revision=_NAME,
            template={},
            serving_template={},
            requested_at=START,
        )
        self._release = Release(metadata=Metadata(name=_NAME), spec=spec)

    def run(self, limit: float, every_look: bool = False) -> Run:
        """Until it ends, or for `limit` seconds."""
        self._passes()
        self._look()
        self._passes()
        while self._release.status.stage not in ENDS:
            look, clock = self._next_look(every_look), self._clock()
            self._now = min(look, clock, limit)
            if self._now == limit:
                break
            known = self._verdict
            if look <= clock:
                self._look()
            if every_look or self._now == clock or self._matters(known):
                self._passes()
        for test in self._tests:
            test.traffic.turn(self._now)
        return Run(ENDS.get(self._release.status.stage, "NotEnded"), self._now, self._tests[0].traffic.failed)

    # ---- time ----

    def _next_look(self, every: bool) -> float:
        """The first look at which there may be something new: a scrape, warm pods, a check silent for too long."""
        moments = [self._tests[0].traffic.next_scrape(self._now), self._warm_at]
        moments += [since + self._patience for since in self._silent.values()]
        earliest = self._now if every else min(moment for moment in moments if moment > self._now)
        look = math.ceil(earliest / self._interval)
        at = round(look * self._interval, _DIGITS)
        return at if at > self._now else round((look + 1) * self._interval, _DIGITS)

    def _clock(self) -> float:
        """When the next bound of the step is over; infinite where there is none."""
        return min((moment for moment in self._moments() if moment > self._now), default=math.inf)

    def _moments(self) -> Iterator[float]:
        status = self._release.status
        if status.step_since is None or status.stage != "Stepping":
            return
        since = (status.step_since - START).total_seconds()
        for bound in self._holds[status.step]:
            yield round(since + bound, _DIGITS)

    # ---- the controller ----

    def _look(self) -> None:
        """As controller/looks.py does it."""
        self._findings = [self._judge(test) for test in self._tests]
        self._silent = silences(self._silent, self._findings, self._now)
        silent = {name: self._now - since for name, since in self._silent.items()}
        self._verdict = combine(self._findings, self._canary.spec.analysis.no_data, silent, self._patience)

    def _judge(self, test: _Test) -> Finding:
        judged, beside = test.traffic.read(self._now)
        check = test.check
        before, test.read_at = test.read_at, test.traffic.scraped_at(self._now)
        if self._warm_up and before < self._warm_at:
            return replace(sequential.judge(check.name, check.rule, test.tally), verdict="Wait", doubt=True)
        status = self._release.status
        other = None if not check.compared or alone(self._canary, status) else beside
        moment = START + timedelta(seconds=self._now)
        test.tally = sequential.look(check.rule, test.tally, judged, other, moment, status.weight)
        return sequential.judge(check.name, check.rule, test.tally)

    def _matters(self, known: Verdict | None) -> bool:
        """The machine may decide otherwise than at the look before. A step with a duration ends by its clock, or by a failure."""
        new, step = self._verdict, self._plan[self._release.status.step]
        if known is None or new is None or (known.kind, known.doubt) != (new.kind, new.doubt):
            return True
        return new.kind == "Pass" and step.duration is None

    def _passes(self) -> None:
        """As controller/loop.py makes them, with pods, router and people that follow at once."""
        before, now = None, self._reached()
        while before != now:
            self._pass(self._release.status)
            before, now = now, self._reached()

    def _reached(self) -> tuple[object, ...]:
        """What another pass at the same moment goes on from."""
        status = self._release.status
        return status.stage, status.step, status.step_since, status.exposure.requests

    def _pass(self, status: ReleaseStatus) -> None:
        seen = Observation(
            target=TargetView(),
            canary=CanaryView(replicas=_PODS, ready=_PODS, gone=False),
            route=RouteView(weight=status.weight, accepted=True, restored=False),
            commands=Commands(resume=f"{_NAME}/{status.step}"),
            verdict=self._verdict,
        )
        self._release.status = advance(self._canary, self._release, seen, START + timedelta(seconds=self._now)).status
        if self._release.status.weight != status.weight:
            self._turn(self._release.status.weight)

    def _turn(self, weight: int) -> None:
        most = _MOST_BY_PODS if self._canary.spec.traffic.pod_ratio is not None else 100
        for test in self._tests:
            test.traffic.turn(self._now, min(weight, most) / 100)
        self._warm_at = self._now + self._warm_up  # a higher share needs more pods

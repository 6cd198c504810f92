"""Every state that a small cluster and the machine can reach together, walked one by one.

    python -m tests.explore --faults 3

The world is two versions and a fix, two pods, two steps (50 and 100 %). What moves it:

- a pass of the operator, with any verdict, in the loop's own order of writes (rollout/order.py);
- the cluster: a pod becomes ready, the router takes a weight, the Deployment rolls, removed pods are gone, 5 s go by;
- at most `faults` of what nobody ordered: `kill -9` between any two writes (an intermediate state), anything of the list
  below between a pass's reading and any of its writes (a stale view), or between two passes (changes that undo one
  another are never seen): the three patterns of Sieve (Sun et al., OSDI 2022).

Breadth first, so that what is found is found by the shortest way. Time is kept as ages, cut off where nothing can tell them
apart, so that the states are finitely many. `Violation` says what went wrong and how it came about.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from tests.model import START, canary, release

from serinus.analysis.finding import Finding
from serinus.analysis.pods import PodFault
from serinus.analysis.verdict import Verdict
from serinus.api.canary import Canary, Phase
from serinus.api.release import Exposure, Outcome, Release, ReleaseStatus, StepReached
from serinus.controller.record import in_release
from serinus.rollout import machine, order, rest
from serinus.rollout.machine import Decision
from serinus.rollout.observation import CanaryView, Commands, Observation, RouteView, TargetView
from serinus.rollout.order import Write
from serinus.rollout.plan import carries, pods_for

NOW = START
TICK = 5.0
#: Beyond this age nothing depends on the difference: every duration of SPEC is shorter.
OLD = 10.0
#: The waits of REVERT_WAIT (10, 20, 40 s) are longer.
OLD_REVERT = 40.0

Says = Literal["none", "Wait", "Pass", "Fail", "NoData"]
FAULTS = (
    "apply v1", "apply v2", "apply v3", "unpause", "abort", "delete the Canary", "delete the Deployment", "create it anew",
    "put the route back", "delete the route", "lose pods", "crash", "no data",
)  # fmt: skip


class Violation(AssertionError):
    """Something that must never be so, and the way to it."""


class State(NamedTuple):
    """Everything. `status` is an index into the explorer's table; -1: no release is under way."""

    status: int = -1
    #: Of the release: what it delivers, and what served when it began.
    version: str = ""
    base: str = ""
    #: The canary's percent; None: not in the route.
    route: int | None = None
    route_exists: bool = True
    #: The share that the router really gives it.
    live: int = 0
    #: The canary Deployment's replicas; None: there is none. Whose it is.
    pods: int | None = None
    ready: int = 0
    owner: str = ""
    crashed: bool = False
    #: Pods of a removed canary that still end.
    ending: bool = False
    template: str = "v2"
    serving: str = "v1"
    paused: bool = True
    frozen: bool = False
    labelled: bool = True
    #: 0: deleted.
    uid: int = 1
    deleting: bool = False
    abort: bool = False
    resumed: bool = False
    #: What the Canary's status says.
    phase: Phase = "Stable"
    told_uid: int = 1
    #: The version of the last release, until the serving one is seen in its place.
    tried: str = ""
    quarantine: float = -1.0
    #: The last release: version, outcome, uid, and whether the Deployment is still as it was then.
    last: tuple[str, Outcome, int] | None = None
    #: The explorer's own book: the highest weight that this release was judged at, and what people let out themselves.
    reached: int = 0
    excused: frozenset[str] = frozenset()
    #: Somebody applied or released something that no release has begun for yet.
    asked: bool = True
    faults: int = 0


@dataclass(frozen=True)
class Setting:
    """The world's size."""

    weights: tuple[int, ...] = (50, 100)
    replicas: int = 2
    faults: int = 2
    hold: rest.Hold = "policy"
    #: A person has to let it go on after the first weight.
    pause: bool = False
    verdicts: tuple[Says, ...] = ("none", "Wait", "Fail")


def small_canary(setting: Setting) -> Canary:
    """Durations as short as they can be told apart."""
    steps: list[Any] = [{"weight": weight, "duration": "5s"} for weight in setting.weights]
    if setting.pause:
        steps.insert(1, {"pause": {}})
    return canary(
        steps=steps,
        progressDeadline="10s",
        promotion={"deadline": "10s", "drain": "5s"},
        rollback={"keepCanaryFor": "5s"},
        analysis={"metricsDelay": "5s"},
    )


@dataclass
class Rules:
    """What is under test; a seeded fault is another one in its place."""

    advance: Callable[..., Decision] = machine.advance
    writes: Callable[[Decision, int], tuple[Write, ...]] = order.writes
    decide: Callable[..., rest.Rest] = rest.decide


@dataclass
class Explorer:
    """One exploration."""

    setting: Setting = field(default_factory=Setting)
    rules: Rules = field(default_factory=Rules)
    statuses: list[ReleaseStatus] = field(default_factory=list)
    _index: dict[str, int] = field(default_factory=dict)
    _decided: dict[Any, tuple[Decision, int]] = field(default_factory=dict)
    _older: dict[int, int] = field(default_factory=dict)
    _told: dict[tuple[int, bool], tuple[Phase, bool]] = field(default_factory=dict)
    _rest: dict[Any, rest.Rest] = field(default_factory=dict)
    _canaries: dict[float, Canary] = field(default_factory=dict)
    _calm: set[State] = field(default_factory=set)
    parents: dict[State, tuple[State, str] | None] = field(default_factory=dict)
    steps: int = 0

    def __post_init__(self) -> None:
        self.canary = small_canary(self.setting)
        self._release = release(self.setting.replicas)
        for age in (-1.0, 0.0, TICK, OLD):
            known = self.canary.model_copy(deep=True)
            known.status.last_traffic_end = NOW - timedelta(seconds=age) if age >= 0 else None
            self._canaries[age] = known

    # ---- statuses, normal and numbered ----

    def number(self, status: ReleaseStatus) -> int:
        """The index of what this status comes to, with everything that no decision depends on left out."""
        status = normal(status)
        text = status.model_dump_json()
        if text not in self._index:
            self._index[text] = len(self.statuses)
            self.statuses.append(status)
        return self._index[text]

    def older(self, index: int) -> int:
        """5 s later."""
        if index not in self._older:
            self._older[index] = self.number(aged(self.statuses[index])) if index >= 0 else index
        return self._older[index]

    # ---- the operator ----

    def observe(self, s: State, says: Says) -> Observation:
        """As controller/world.py reads it."""
        status, mine = self.statuses[s.status], s.owner == s.version
        which: Literal["held", "serving", "other"] = "other"
        if s.template in (s.version, s.base):
            which = "held" if s.template == s.version else "serving"
        exists = s.uid > 0 and s.uid == s.told_uid
        in_route = s.route_exists and s.route is not None
        reverted = s.route_exists and s.route is None and status.weight > 0 and status.step_since is not None
        fault = PodFault("CrashLoop", "crashed twice", "p", "c", None) if s.crashed and mine else None
        return Observation(
            target=TargetView(
                exists=exists,
                template=which,
                paused=s.paused and exists,
                replicas=self.setting.replicas,
                ready=self.setting.replicas,
                rolled_out=s.template == s.serving,
            ),
            canary=CanaryView(
                replicas=s.pods or 0, ready=s.ready if mine else 0, gone=s.pods is None and not s.ending, fault=fault
            ),
            route=RouteView(
                weight=s.route or 0,
                uniform=in_route,
                settled=s.live == (s.route or 0) and s.route_exists,
                restored=not in_route,
                reverted=reverted,
                problem="" if s.route_exists else "missing",
            ),
            commands=Commands(abort="web-1" if s.abort else "", resume="web-1/1" if s.resumed else "", deleting=s.deleting),
            verdict=_verdict(says) if status.times.first_exposed else None,
        )

    def decided(self, s: State, obs: Observation) -> tuple[Decision, int]:
        """The machine's answer. The same question is asked once; some are asked twice, to see that the answer stays."""
        key = (s.status, obs, s.quarantine)
        if key not in self._decided:
            known, attempt = self._canaries[s.quarantine], self.release(s)
            decision = self.rules.advance(known, attempt, obs, NOW)
            if len(self._decided) % 8 == 0:
                before = attempt.status.model_dump_json()
                if decision != self.rules.advance(known, attempt, obs, NOW):
                    raise Violation("the same question got two answers")
                if attempt.status.model_dump_json() != before:
                    raise Violation("a decision changed what it was made from")
            self._decided[key] = decision, self.number(decision.status)
        return self._decided[key]

    def release(self, s: State) -> Release:
        """As the API server has it."""
        return self._release.model_copy(update={"status": self.statuses[s.status]})

    def passes(self, s: State) -> Iterator[tuple[str, State]]:
        """A pass over the release that is under way: whole, killed after any write, or with anything in between."""
        if s.status < 0:
            yield from self.resting(s)
            return
        exposed = self.statuses[s.status].times.first_exposed is not None
        for says in self.setting.verdicts if exposed else ("none",):
            obs = self.observe(s, says)
            decision, index = self.decided(s, obs)
            todo = self.rules.writes(decision, obs.route.weight)
            name = f"pass[{says}]"
            judged = replace_reached(self, s, obs, says)
            self.check_decision(judged, obs, decision, says)
            yield name, self.run(judged, s, todo, decision, index, obs)
            if s.faults >= self.setting.faults:
                continue
            partial = judged._replace(faults=s.faults + 1)
            for done in range(len(todo) + 1):
                if 0 < done < len(todo):
                    yield f"{name}, killed after {todo[done - 1]}", partial
                for event, after in self.events(partial._replace(faults=s.faults)):
                    yield f"{name}, {event} before {todo[done : done + 1]}", self.run(after, s, todo[done:], decision, index, obs)
                if done < len(todo):
                    after_write = self.effect(partial, s, todo[done], decision, index, obs)
                    if after_write is None:
                        break
                    partial = after_write

    def run(self, now: State, seen: State, todo: tuple[Write, ...], decision: Decision, index: int, obs: Observation) -> State:
        """The rest of a pass's writes. A conflict ends it."""
        for write in todo:
            after = self.effect(now, seen, write, decision, index, obs)
            if after is None:
                return now
            again = self.effect(after, seen, write, decision, index, obs) if after.status >= 0 else None
            if again is not None and again != after:
                raise Violation(f"{write} twice is not {write} once: {difference(after, again)}")
            now = after
        return now

    def effect(self, now: State, seen: State, write: Write, decision: Decision, index: int, obs: Observation) -> State | None:
        """One write, as controller/effects.py and traffic/gateway.py make it; None: refused, somebody else was first."""
        desired, status = decision.desired, decision.status
        if write == "Record":
            if status.outcome != (was := self.statuses[now.status].outcome) and was is not None:
                raise Violation(f"the outcome {was} became {status.outcome}")
            if desired.weight is not None and now.route_exists and (now.route or 0) > desired.weight:
                raise Violation("something was written before the traffic was taken back")
            return now._replace(status=index)
        if write in ("Take", "Give"):
            if not seen.route_exists or not now.route_exists or (status.stage == "Preparing" and seen.pods is None):
                return now if seen.route_exists == now.route_exists else None
            if (seen.route is None) != (now.route is None) and now.route != desired.weight:
                return None
            weight = desired.weight or 0
            self.check_weight(now, weight, decision, obs)
            if weight > self.statuses[now.status].weight:
                raise Violation(f"{weight} % is given before it is on record")
            return now._replace(route=weight)
        if write == "Restore":
            if not now.route_exists or now.route is None:
                return now
            return None if seen.route is None else now._replace(route=None)
        if write == "Objects":
            return self.objects(now, seen, decision)
        if write == "Target":
            return self.target(now, seen, decision, obs)
        return self.told(now, index)

    def objects(self, now: State, seen: State, decision: Decision) -> State:
        wanted = decision.desired.pods
        full = "Preparing" in (decision.status.stage, self.statuses[seen.status].stage) or decision.status.stage == "Cleaning"
        if wanted is None:
            restored = seen.route is None or not seen.route_exists
            if not (full and restored) or seen.pods is None or now.pods is None:
                return now
            if now.route is not None and now.route_exists:
                raise Violation("the canary is removed while a route names it")
            if now.live:
                raise Violation(f"the canary is removed while the router gives it {now.live} %")
            return now._replace(pods=None, ready=0, owner="", crashed=False, ending=now.ready > 0)
        if seen.uid == 0:
            return now
        if seen.pods is None:
            if full and now.pods is None:
                return now._replace(pods=wanted, ready=0, owner=now.version, crashed=False)
            return now
        if now.pods is None or seen.owner != now.version:
            return now
        if wanted < min(pods_for(now.live, self.setting.replicas), now.pods):
            raise Violation(f"scaled to {wanted} pods while the router gives them {now.live} %")
        return now._replace(pods=wanted, ready=min(now.ready, wanted))

    def target(self, now: State, seen: State, decision: Decision, obs: Observation) -> State | None:
        desired = decision.desired
        if not obs.target.exists:
            return now
        fields = ("template", "paused", "frozen", "labelled", "uid")
        stale = any(getattr(now, name) != getattr(seen, name) for name in fields)
        if desired.undo and obs.target.template == "held":
            return None if stale else now._replace(template=now.base, paused=self.policy(now) or now.paused)
        ours = obs.target.template == "held" or (desired.undo and obs.target.template == "serving")
        let_go = (desired.released or (desired.undo and obs.target.template == "serving")) and ours
        frozen = desired.frozen and obs.target.template == "held"
        paused = (seen.paused or self.setting.hold == "pause") and not let_go
        after = now._replace(paused=paused, frozen=frozen)
        if after == now._replace(paused=seen.paused, frozen=seen.frozen):
            return now
        if stale:
            return now if after == now else None
        if now.paused and not after.paused and now.template not in (now.serving, now.base, *now.excused):
            if now.reached < self.setting.weights[-1]:
                raise Violation(f"{now.template} was released after {now.reached} %")
            if obs.verdict and obs.verdict.kind == "Fail":
                raise Violation(f"{now.template} was released in spite of a failed look")
        return after

    def told(self, now: State, index: int) -> State:
        """The Canary's status, as controller/record.py writes it."""
        key = (index, now.deleting)
        if key not in self._told:
            known, body = self.canary.model_copy(deep=True), release(self.setting.replicas)
            body.status = self.statuses[index]
            if now.deleting:
                known.metadata.deletion_timestamp = NOW
            in_release(known.status, known, body)
            self._told[key] = known.status.phase, known.status.last_traffic_end is not None
        phase, exposed = self._told[key]
        now = now._replace(phase=phase, tried=now.version, quarantine=0.0 if exposed and now.quarantine < 0 else now.quarantine)
        status = self.statuses[index]
        if status.stage != "Ended":
            return now
        if status.outcome is None:
            raise Violation("a release ended without an outcome")
        last = (now.version, status.outcome, now.told_uid)
        return now._replace(status=-1, version="", base="", last=last, reached=0, abort=False, resumed=False)

    # ---- between releases ----

    def resting(self, s: State) -> Iterator[tuple[str, State]]:
        """A pass without a release: adopt, settle, begin, or let go."""
        if s.deleting:
            yield "let go", self.let_go(s)
            return
        decision = self.at_rest(s)
        after = s._replace(phase=decision.phase)
        if decision.pause is not None or decision.label:
            paused = s.paused if decision.pause is None else decision.pause
            if s.paused and not paused and s.template not in (s.serving, *s.excused):
                raise Violation(f"{s.template} was released at rest")
            after = after._replace(paused=paused, labelled=s.labelled or decision.label)
        after = after._replace(frozen=False) if s.uid else after
        if decision.settled:
            after = after._replace(told_uid=s.uid, tried="")
        if begin := decision.begin:
            if not s.asked:
                raise Violation(f"a release of {s.template} begins that nobody asked for")
            after = after._replace(asked=False)
            status = ReleaseStatus(stage=begin.stage, outcome=begin.outcome, reason=begin.outcome or "", why=begin.why)
            after = after._replace(
                status=self.number(status), version=s.template, base=s.serving, told_uid=s.uid, reached=0, quarantine=s.quarantine
            )
        yield "rest", after

    def at_rest(self, s: State) -> rest.Rest:
        """The decision of rollout/rest.py."""
        key = (s.uid, s.told_uid, s.paused, s.labelled, s.template, s.serving, s.last, s.route_exists, s.phase, s.tried)
        if key not in self._rest:
            known = self.canary.model_copy(deep=True)
            known.status.phase, known.status.target_uid, known.status.new_revision = s.phase, str(s.told_uid), s.tried
            self._rest[key] = self.rules.decide(known, self.seen_at_rest(s), self.setting.hold)
        return self._rest[key]

    def seen_at_rest(self, s: State) -> rest.AtRest:
        """As controller/world.py reads it."""
        if s.uid == 0:
            return rest.AtRest(exists=False)
        return rest.AtRest(
            uid=str(s.uid),
            generation=2,
            replicas=self.setting.replicas,
            paused=s.paused,
            labelled=s.labelled,
            serving=s.uid == s.told_uid and s.template == s.serving,
            rolled_out=s.template == s.serving,
            revision=s.template,
            serving_revision=s.serving,
            last=rest.LastRelease("web-0", s.last[0], s.last[1], str(s.last[2]), 1, 1) if s.last else None,
            problems=() if s.route_exists else (("RouteNotFound", "gone"),),
        )

    def let_go(self, s: State) -> State:
        """The Canary's finalizer: the serving template goes back in, and the Deployment is the user's again."""
        template = s.serving if s.paused and s.uid else s.template
        paused = s.paused and template != s.serving
        return s._replace(
            template=template, paused=paused, frozen=False, labelled=False, phase="Terminating", deleting=True, told_uid=-1,
            pods=None, ready=0, owner="",
        )  # fmt: skip

    # ---- the cluster and people ----

    def policy(self, s: State) -> bool:
        """Whether the admission policy holds a new template."""
        return self.setting.hold == "policy" and s.labelled

    def progress(self, s: State) -> Iterator[tuple[str, State]]:
        """What a healthy cluster does sooner or later."""
        if s.pods is not None and s.ready < s.pods and not s.crashed:
            yield "pod ready", s._replace(ready=s.ready + 1)
        if s.live != (s.route or 0):
            yield "router settled", s._replace(live=s.route or 0)
        if s.uid and not s.paused and s.template != s.serving:
            yield "rolled", self.rolled(s)
        if s.ending:
            yield "pods gone", s._replace(ending=False)
        if s.status >= 0 and self.statuses[s.status].stage == "Paused" and not s.resumed:
            yield "resume", s._replace(resumed=True)
        older = self.older(s.status)
        quarantine = -1.0 if s.quarantine + TICK > OLD else s.quarantine + TICK if s.quarantine >= 0 else -1.0
        if older != s.status or quarantine != s.quarantine:
            yield "5 s", s._replace(status=older, quarantine=quarantine)

    def rolled(self, s: State) -> State:
        return s._replace(serving=s.template)

    def events(self, s: State) -> Iterator[tuple[str, State]]:
        """What nobody ordered, one at a time; each counts."""
        if s.faults >= self.setting.faults or (s.deleting and s.told_uid == -1):
            return
        for name in FAULTS:
            after = self.event(s, name)
            if after is not None and after != s:
                asked = s.asked or (after.template, after.uid) != (s.template, s.uid) or after.labelled != s.labelled
                yield name, after._replace(faults=s.faults + 1, asked=asked)

    def event(self, s: State, name: str) -> State | None:
        verb, _, what = name.partition(" ")
        if verb == "apply":
            if s.uid == 0 or s.template == what or (s.frozen and self.setting.hold == "policy"):
                return None
            paused = s.paused or self.policy(s)
            return s._replace(template=what, paused=paused, excused=s.excused if paused else s.excused | {what})
        if name == "unpause":
            return s._replace(paused=False, labelled=False, excused=s.excused | {s.template}) if s.paused and s.uid else None
        if name == "abort":
            return s._replace(abort=True) if s.status >= 0 else None
        if name == "delete the Canary":
            return s._replace(deleting=True)
        if name == "delete the Deployment":
            return s._replace(uid=0, template="", serving="", paused=False, frozen=False) if s.uid else None
        if name == "create it anew":
            anew = s._replace(uid=2, template="v3", serving="v3", paused=False, frozen=False, labelled=True)
            return anew._replace(excused=s.excused | {"v3"}) if s.uid < 2 else None
        if name == "put the route back":
            return s._replace(route=None) if s.route is not None and s.route_exists else None
        if name == "delete the route":
            return s._replace(route_exists=False, route=None, live=0)
        if name == "lose pods":
            return s._replace(ready=0) if s.ready else None
        if name == "crash":
            return s._replace(crashed=True, ready=0) if s.pods and not s.crashed else None
        return None

    # ---- what must always be so ----

    def check_decision(self, s: State, obs: Observation, decision: Decision, says: Says) -> None:
        status, weight = decision.status, decision.desired.weight
        before = self.statuses[s.status]
        if status.stage in ("RollingBack", "Keeping") and weight:
            raise Violation(f"{weight} % for a version that goes back")
        judged = before.stage in ("Preparing", "Stepping", "Paused", "Promoting") and before.outcome is None
        failed = says == "Fail" and before.times.first_exposed is not None
        if judged and failed and status.stage in ("Stepping", "Paused", "Promoting", "Returning"):
            raise Violation(f"a failed look in {before.stage} was not acted on")
        if judged and failed and status.outcome not in (None, "RolledBack"):
            raise Violation(f"a version that failed is recorded as {status.outcome}")
        if status.times.zero_verified and not before.times.zero_verified and s.live and s.route_exists:
            raise Violation(f"weight 0 is called verified while the router gives the canary {s.live} %")
        if weight and weight > carries(obs.canary.ready, self.setting.replicas):
            raise Violation(f"{weight} % is left on {obs.canary.ready} ready pods in {status.stage}")

    def check_weight(self, s: State, weight: int, decision: Decision, obs: Observation) -> None:
        current = s.route or 0
        if weight <= current:
            return
        if weight > carries(obs.canary.ready, self.setting.replicas):
            raise Violation(f"{weight} % on {obs.canary.ready} ready pods")
        if decision.status.outcome not in (None, "Promoted"):
            raise Violation(f"{weight} % after the outcome {decision.status.outcome}")
        if s.serving == s.version:
            return
        allowed = next((w for w in self.setting.weights if w > s.reached), self.setting.weights[-1])
        if weight > allowed:
            raise Violation(f"{weight} % although {s.reached} % was the last that was judged")

    def check_end(self, s: State) -> None:
        """A state in which the operator wants nothing more."""
        if s.route is not None and s.route_exists:
            raise Violation("the route still names the canary")
        if s.pods is not None:
            raise Violation("the canary is still there")
        if s.frozen:
            raise Violation("the Deployment is still frozen")
        if s.uid and s.template == s.serving and s.paused != (self.setting.hold == "pause" and not s.deleting):
            raise Violation(f"the Deployment serves what it holds, and paused is {s.paused}")
        if s.phase == "RolledBack" and s.template == s.serving:
            raise Violation("RolledBack, although the serving version is in the Deployment")
        if s.phase == "RolledBack" and (s.last is None or s.last[0] != s.template):
            raise Violation(f"RolledBack, but {s.template} was never tried")
        if s.uid and s.template != s.serving and not s.paused:
            raise Violation(f"{s.template} is not held and does not serve")
        if not s.deleting and s.uid and s.route_exists and s.phase not in ("Stable", "RolledBack"):
            raise Violation(f"it ended in {s.phase}")

    def calm(self, s: State) -> None:
        """From here on nothing goes wrong any more (a route that is gone is made again): it ends, in Stable or RolledBack."""
        way: list[State] = []
        at = s
        for _ in range(400):
            if at in self._calm:
                break
            way.append(at)
            after = self.next_calm(at)
            if after == at:
                self.check_end(at)
                break
            at = after
        else:
            raise Violation(f"it never ends: {at} {self.statuses[at.status] if at.status >= 0 else ''}")
        self._calm.update(way)

    def next_calm(self, s: State) -> State:
        if not s.route_exists and not s.deleting:
            return s._replace(route_exists=True, route=None)
        for name, after in self.progress(s):
            if name != "5 s":
                return after
        after = self.quiet_pass(s)
        if after != s:
            return after
        return next((later for name, later in self.progress(s) if name == "5 s"), s)

    def quiet_pass(self, s: State) -> State:
        if s.status < 0:
            return next(iter(self.resting(s)))[1]
        exposed = self.statuses[s.status].times.first_exposed is not None
        says: Says = "Wait" if exposed else "none"
        obs = self.observe(s, says)
        decision, index = self.decided(s, obs)
        judged = replace_reached(self, s, obs, says)
        return self.run(judged, s, self.rules.writes(decision, obs.route.weight), decision, index, obs)

    # ---- the walk ----

    def successors(self, s: State) -> Iterator[tuple[str, State]]:
        if s.deleting and s.told_uid == -1:
            return
        yield from self.passes(s)
        yield from self.progress(s)
        yield from self.events(s)

    def explore(self, limit: int = 10_000_000) -> int:
        """The number of states. Raises Violation."""
        first = State()
        self.parents[first] = None
        queue = deque([first])
        while queue and len(self.parents) < limit:
            s = queue.popleft()
            try:
                self.calm(s)
                for name, after in self.successors(s):
                    self.steps += 1
                    if after not in self.parents:
                        self.parents[after] = (s, name)
                        queue.append(after)
            except Violation as violation:
                raise Violation(f"{violation}\n{self.way(s)}") from None
        return len(self.parents)

    def transitions(self) -> set[tuple[str, str]]:
        """Every change of stage that the machine decided."""
        found = {(self.statuses[key[0]].stage, decision.status.stage) for key, (decision, _) in self._decided.items()}
        return {(a, b) for a, b in found if a != b}

    def way(self, s: State) -> str:
        """How it came to this."""
        lines: list[str] = []
        at: State | None = s
        while at is not None:
            parent = self.parents.get(at)
            if parent is None:
                break
            stage = self.statuses[at.status].stage if at.status >= 0 else "-"
            lines.append(f"{parent[1]}: {difference(parent[0], at)}  [{stage}]")
            at = parent[0]
        return "\n".join(reversed(lines))


def replace_reached(explorer: Explorer, s: State, obs: Observation, says: Says) -> State:
    """The book of weights at which this release was seen, settled and not failing."""
    stage = explorer.statuses[s.status].stage
    if stage == "Stepping" and s.route and s.live == s.route and says != "Fail" and explorer.statuses[s.status].step_since:
        return s._replace(reached=max(s.reached, s.route))
    return s


def difference(a: State, b: State) -> str:
    """What changed."""
    pairs = zip(State._fields, a, b, strict=True)
    return ", ".join(f"{name}: {x!r} -> {y!r}" for name, x, y in pairs if x != y and name not in ("status", "faults"))


@lru_cache
def _verdict(says: Says) -> Verdict | None:
    if says == "none":
        return None
    finding = Finding("errors", says, says, bad=0.0, total=None if says == "NoData" else 1.0)
    return Verdict(says, says, (finding,), START.timestamp() if says == "Fail" else None)


def normal(status: ReleaseStatus) -> ReleaseStatus:
    """Without what no decision depends on: sentences, counts, and when things were."""
    times = {name: NOW for name in type(status.times).model_fields if getattr(status.times, name) is not None}
    weights = [step.weight for step in status.steps]
    steps = [StepReached(weight=weight, at=NOW) for weight in ([max(weights), weights[-1]] if weights else [])]
    return status.model_copy(
        update={
            "why": "",
            "times": status.times.model_copy(update=times),
            "steps": steps,
            "evidence": [],
            "exposure": Exposure(),
            "step_requests": 0,
            "events": [],
            "routes": [],
        }
    )


def aged(status: ReleaseStatus) -> ReleaseStatus:
    """5 s later; no age beyond what matters."""
    changes: dict[str, Any] = {}
    for name, limit in (
        ("stage_since", OLD),
        ("step_since", OLD),
        ("unready_since", OLD),
        ("lost_since", OLD),
        ("route_reverted_at", OLD_REVERT),
    ):
        if (moment := getattr(status, name)) is not None:
            changes[name] = max(moment - timedelta(seconds=TICK), NOW - timedelta(seconds=limit))
    if status.return_after is not None:
        changes["return_after"] = max(status.return_after - timedelta(seconds=TICK), NOW - timedelta(seconds=TICK))
    return status.model_copy(update=changes)


def main() -> int:
    """Prints the number of states."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=2)
    parser.add_argument("--hold", choices=["policy", "pause"], default="policy")
    arguments = parser.parse_args()
    began = time.monotonic()
    explorer = Explorer(Setting(faults=arguments.faults, hold=arguments.hold))
    try:
        count = explorer.explore()
    except Violation as violation:
        sys.stdout.write(f"{violation}\n")
        return 1
    seconds = time.monotonic() - began
    sys.stdout.write(f"{count} states, {explorer.steps} steps between them, {seconds:.0f} s, at most {arguments.faults} faults\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A small model of a cluster, for the machine: what is desired becomes so with delays, under a virtual clock."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from serinus.analysis.finding import Finding
from serinus.analysis.verdict import Verdict
from serinus.api.base import Metadata
from serinus.api.canary import Canary
from serinus.api.release import Release, ReleaseSpec, Target
from serinus.rollout.machine import Decision, advance
from serinus.rollout.observation import CanaryView, Commands, Observation, RouteView, TargetView
from serinus.rollout.plan import carries

START = datetime(2026, 1, 1, tzinfo=UTC)


def canary(**spec: Any) -> Canary:
    """A Canary with three steps of 10 s, unless said otherwise."""
    defaults = {
        "targetRef": {"name": "web"},
        "service": {"name": "web", "port": 80},
        "traffic": {"gatewayAPI": {"httpRoutes": [{"name": "web"}]}},
        "steps": [{"weight": w, "duration": "10s"} for w in (10, 50, 100)],
    }
    return Canary.model_validate({"metadata": {"name": "web", "namespace": "shop"}, "spec": defaults | spec})


def release(replicas: int = 3, **spec: Any) -> Release:
    """An attempt that has just been noticed."""
    target = Target(name="web", uid="u", generation=2, replicas=replicas)
    defaults = {"revision": "new", "serving_revision": "old", "template": {"n": 2}, "serving_template": {"n": 1}}
    return Release(
        metadata=Metadata(name="web-1", namespace="shop", uid="r"),
        spec=ReleaseSpec.model_validate({"canary": "web", "target": target, "requested_at": START, **defaults, **spec}),
    )


def verdict(kind: str, seconds: float) -> Verdict:
    """One with a finding, so that there is evidence: ten requests a second."""
    total = None if kind in ("NoData", "Error") else 10 * seconds
    bad = total / 3 if total is not None and kind == "Fail" else total and 0.0
    doubt, kind = kind == "Doubt", "Wait" if kind == "Doubt" else kind
    finding = Finding("errors", kind, kind, bad=bad, total=total, doubt=doubt)  # type: ignore[arg-type]
    kind = "NoData" if kind == "Error" else kind  # as combine() has it
    return Verdict(kind, kind, (finding,), START.timestamp() if kind == "Fail" else None)  # type: ignore[arg-type]


@dataclass
class Model:
    """The world beside the machine. Each `tick` is one pass, then `step` seconds go by."""

    canary: Canary = field(default_factory=canary)
    release: Release = field(default_factory=release)
    now: datetime = START
    step: float = 1.0
    #: What the metrics say while the canary is exposed.
    says: str = "Wait"
    target: TargetView = field(default_factory=lambda: TargetView(replicas=3, ready=3))
    own: CanaryView = field(default_factory=CanaryView)
    route: RouteView = field(default_factory=lambda: RouteView(uniform=False))
    commands: Commands = field(default_factory=Commands)
    #: Pods that may become ready at all, and how many become so a tick.
    room: int = 100
    #: Whether the Deployment can roll.
    can_roll: bool = True
    history: list[tuple[str, int]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def observe(self) -> Observation:
        exposed = self.release.status.times.first_exposed
        seen = verdict(self.says, (self.now - exposed).total_seconds()) if exposed else None
        return Observation(self.target, self.own, self.route, self.commands, seen)

    def tick(self) -> Decision:
        """One pass: decide, check what must always be so, make it so."""
        decision = advance(self.canary, self.release, self.observe(), self.now)
        self.release.status = decision.status
        self.history.append((decision.status.stage, decision.status.weight))
        self.notes += [note.reason for note in decision.notes]
        self.check(decision)
        self.apply(decision)
        self.now += timedelta(seconds=self.step)
        return decision

    def check(self, decision: Decision) -> None:
        """The invariants."""
        weight, status = decision.desired.weight, decision.status
        if weight and not self.route.by_pods and weight > self.route.weight:
            assert carries(self.own.ready, 3) >= weight, "weight above what is ready"
        if status.stage in ("RollingBack", "Keeping"):
            assert not weight, "traffic on a version that is being rolled back"
        if decision.desired.pods is None:
            assert weight is None, "pods removed while they have a weight"
        if status.stage == "Ended":
            assert status.outcome is not None

    def apply(self, decision: Decision) -> None:
        """The loop and the cluster, in the loop's order."""
        desired = decision.desired
        if desired.weight is None:
            self.route = replace(self.route, weight=0, uniform=False, restored=True)
        else:
            self.route = replace(self.route, weight=desired.weight, uniform=True, restored=False, problem="")
        if desired.pods is None:
            self.own = CanaryView() if self.route.restored else self.own
        else:
            ready = min(desired.pods, self.room, self.own.ready + 1)
            self.own = replace(self.own, replicas=desired.pods, ready=ready, gone=False)
        if desired.released and self.target.template == "held":
            self.target = replace(self.target, paused=False, rolled_out=self.can_roll)
        if desired.undo and self.target.template == "held":
            self.target = replace(self.target, template="serving", paused=True, rolled_out=True)

    def run(self, until: str = "Ended", limit: int = 400) -> Model:
        """Ticks until the release reaches the stage. Fails if it does not."""
        for _ in range(limit):
            if self.release.status.stage == until:
                return self
            self.tick()
        raise AssertionError(f"never {until}: {self.history[-5:]} {self.release.status.why}")

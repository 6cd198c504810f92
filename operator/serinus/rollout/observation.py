"""What a decision is made from: plain data, read from the API server and the metrics in one pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from serinus.analysis.pods import PodFault
from serinus.analysis.verdict import Verdict


@dataclass(frozen=True)
class TargetView:
    """The user's Deployment, seen from one release."""

    exists: bool = True
    #: Whose template it holds: the release's own, the one that serves, or a third.
    template: Literal["held", "serving", "other"] = "held"
    paused: bool = True
    replicas: int = 1
    ready: int = 1
    #: Every replica runs the template it holds, is available, and none of an older one is left.
    rolled_out: bool = False
    #: What the Deployment's own conditions complain of, e.g. a quota.
    problem: str = ""


@dataclass(frozen=True)
class CanaryView:
    """The canary's own objects."""

    replicas: int = 0
    ready: int = 0
    #: Nothing of it is left: no Deployment, no Service, no budget, no pod.
    gone: bool = True
    fault: PodFault | None = None
    problem: str = ""


@dataclass(frozen=True)
class RouteView:
    """What the router was told, and whether it has taken it."""

    #: The canary's share in percent, the highest over all routes.
    weight: int = 0
    #: No rule that sends traffic to the Service lacks the canary, or has it at another weight.
    uniform: bool = True
    #: Every parent says Accepted and ResolvedRefs for what was written last.
    settled: bool = True
    #: Every parent says Accepted for it. Enough for weight 0: a reference of the user's own may never resolve.
    accepted: bool = False
    #: No trace of the release is left in any route.
    restored: bool = True
    #: A route on record that somebody else wrote since lacks the canary.
    lacking: bool = False
    #: The same, and so it was not before the canary had its share.
    reverted: bool = False
    #: A route that has the canary, and traffic to share, was written by somebody else after us.
    foreign: bool = False
    #: Of all routes, added up: grows with each edit.
    generation: int = 0
    problem: str = ""
    #: The Service was given weight 0 everywhere: there is nothing to share, nor to return.
    idle: bool = False
    #: Another Canary's release is in the same rule; this one begins when that is over.
    busy: str = ""
    #: The share follows the number of ready pods: there is nothing to write.
    by_pods: bool = False

    @property
    def missing(self) -> bool:
        """None of the routes exists, so that none can send a request anywhere."""
        return self.problem == "missing"

    @property
    def complaint(self) -> str:
        """The problem as a sentence, '' if there is none."""
        return "none of the routes in spec.traffic exists" if self.missing else self.problem


@dataclass(frozen=True)
class Commands:
    """What a person asked for on the Canary."""

    resume: str = ""
    abort: str = ""
    deleting: bool = False


@dataclass(frozen=True)
class Observation:
    """One look at everything that a release depends on."""

    target: TargetView = field(default_factory=TargetView)
    canary: CanaryView = field(default_factory=CanaryView)
    route: RouteView = field(default_factory=RouteView)
    commands: Commands = field(default_factory=Commands)
    #: Of the side that the stage judges; None before the first look.
    verdict: Verdict | None = None

"""One release, decided: (canary, release, observation, now) -> (status, what should be so, what to tell).

Pure. Level-based: what should be so follows from the status and what is seen, never from what was done before, so that
any decision may be repeated, and resumed by another process after the first was killed at any point. The order in which
a pass makes it so is the other half of safety; it stands in rollout/order.py.

    Preparing -> Stepping <-> Paused -> Promoting -> Returning -> Draining -> Cleaning -> Ended
         \\____________\\_________\\________\\-> RollingBack -> Keeping ------------/
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

from serinus.analysis.verdict import Verdict
from serinus.api.base import fitted, parse_duration
from serinus.api.canary import Canary, Step
from serinus.api.release import MOST_STEPS, Evidence, Exposure, Outcome, Release, ReleaseStatus, Stage, StepReached
from serinus.rollout.observation import Observation
from serinus.rollout.plan import carries, pods_for, way_back

#: How long the canary may have fewer ready pods than its share needs before the version is blamed.
READINESS_GRACE = timedelta(seconds=10)
#: How long each weight on the way back is held at most: until the new pods' first requests have been counted.
RETURN_HOLD = timedelta(seconds=5)
#: How long a step without a duration is held at least.
STEP_HOLD = timedelta(seconds=3)
#: A Gateway says that it has accepted a route before its proxies use it: requests were seen on the old weight 0.15 s later.
SETTLE = timedelta(seconds=0.5)
#: After new pods failed on the way back, before the next try.
RETURN_RETRY = timedelta(seconds=30)
#: After somebody else took the canary out of the route: wait this long, then twice as long, then give up.
REVERT_WAIT = timedelta(seconds=10)
MAX_REVERTS = 3
#: Edits of the routes in mid-release are worked in; a tool that takes the share away as often as this has put them back.
MAX_SHARE_CHANGES = 10
JUDGED: tuple[Stage, ...] = ("Stepping", "Paused")


@dataclass(frozen=True)
class Note:
    """Something worth telling a person: becomes a Kubernetes event and a line in the log."""

    reason: str
    message: str
    type: Literal["Normal", "Warning"] = "Normal"


@dataclass(frozen=True)
class Desired:
    """What should be so. The loop compares it with what is and writes the difference."""

    #: The canary's weight; None: the routes as the user wrote them.
    weight: int | None
    #: The canary's pods; None: none of its objects.
    pods: int | None
    #: Traffic may be given. Not by a process that has not looked yet: what was taken back may have been for harm.
    give: bool = True
    #: The Deployment is unpaused and rolls, as long as it holds this release's template.
    released: bool = False
    #: Template changes are refused while it rolls.
    frozen: bool = False
    #: The serving template is put back into the Deployment.
    undo: bool = False
    #: `kubectl rollout status` fails with this sentence.
    failure: str = ""


@dataclass(frozen=True)
class Decision:
    """The outcome of one pass."""

    status: ReleaseStatus
    desired: Desired
    notes: list[Note]


@dataclass
class _Attempt:
    """A release in the course of one decision. `status` is a copy that the stages change."""

    canary: Canary
    release: Release
    obs: Observation
    now: datetime
    status: ReleaseStatus
    notes: list[Note] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.plan: list[Step] = self.canary.spec.plan()
        # The plan may have become shorter in mid-release; never is a step left out by that.
        self.status.step = min(self.status.step, len(self.plan) - 1) if self.status.stage in JUDGED else self.status.step
        # An autoscaler may shrink the idle serving side; what the release began with is what a share is measured by.
        self.replicas = max(self.release.spec.target.replicas, self.obs.target.replicas)

    def pods(self, weight: int) -> int:
        return pods_for(weight, self.replicas, self.obs.route.by_pods)

    def go(self, stage: Stage, why: str) -> None:
        self.status.stage, self.status.why = stage, why
        self.status.stage_since, self.status.step_since = self.now, None

    def tell(self, reason: str, message: str, kind: Literal["Normal", "Warning"] = "Normal") -> None:
        self.notes.append(Note(reason, message, kind))

    def since(self, moment: datetime | None) -> timedelta:
        return self.now - moment if moment else timedelta(0)

    def leaves_route_alone(self) -> bool:
        """Somebody put the route back a short while ago, or in this pause."""
        wait, at = REVERT_WAIT * 2 ** (self.status.route_reverts - 1), self.status.route_reverted_at
        return at is not None and (self.status.stage == "Paused" or self.since(at) < wait)

    def arrived(self) -> bool:
        """The router has taken the weight that was asked for; notes since when.

        On the way back no reference of the user's that does not resolve, and no rule without ours, is waited for.
        """
        route, weight = self.obs.route, self.status.weight
        back = weight == 0 or self.status.stage == "Returning"
        taken = route.weight == weight and (route.settled or route.accepted if back else route.settled and route.uniform)
        there = route.by_pods or taken or (route.missing and weight == 0)
        if there and self.status.step_since is None:
            self.status.step_since = self.now
        return there

    def blind(self) -> bool:
        """The version has had traffic, and this process has not looked yet."""
        return self.release.status.times.first_exposed is not None and self.obs.verdict is None

    def back(self, outcome: Outcome, reason: str, why: str) -> None:
        """Takes the traffic back. From here on weight 0 is what should be so, whatever else happens.

        What went out unjudged stays on record as that, whatever became of it.
        """
        exposed = self.status.times.first_exposed is not None
        self.status.outcome, self.status.reason = self.status.outcome or outcome, reason
        self.status.weight = 0
        self.status.times.decided = self.now
        verdict = self.obs.verdict
        if outcome == "RolledBack" and exposed:
            began = verdict.fault_began if verdict else None
            self.status.times.fault_began = datetime.fromtimestamp(began, self.now.tzinfo) if began else self.now
        self.go("RollingBack", why)


def interrupted(a: _Attempt) -> bool:
    """Evidence first, then what people did. A fix that is pushed hides nothing: the verdict comes before it."""
    target, asked = a.obs.target, a.obs.commands
    revision = a.release.spec.revision
    if a.obs.canary.fault:
        a.back("RolledBack", a.obs.canary.fault.reason, a.obs.canary.fault.sentence)
    elif a.obs.verdict and a.obs.verdict.kind == "Fail":
        a.back("RolledBack", "AnalysisFailed", a.obs.verdict.sentence)
    elif not target.exists:
        a.back("Aborted", "TargetDeleted", "the Deployment was deleted")
    elif asked.deleting:
        a.back("Aborted", "CanaryDeleted", "the Canary was deleted")
    elif target.template == "serving":
        a.back("Aborted", "Reverted", "the serving version was put back into the Deployment")
    elif target.template == "other":
        a.back("Superseded", "NewerVersion", "a newer version was applied")
    elif asked.abort == a.release.metadata.name:
        a.back("Aborted", "AbortedByUser", "aborted by hand")
    elif not target.paused:
        a.back("Skipped", "ReleasedByHand", f"the Deployment was unpaused by hand; {revision} rolls out unjudged")
    elif a.obs.route.reverted:
        return reverted(a)
    else:
        return False
    return True


def reverted(a: _Attempt) -> bool:
    """Somebody put the route back: stable traffic is restored; try again a few times, slower each time, and say so."""
    if a.status.route_reverts >= MAX_REVERTS:
        times = a.status.route_reverts + 1
        a.back("Aborted", "RouteConflict", f"the route was put back {times} times by somebody else (a GitOps tool?)")
        return True
    a.status.route_reverts += 1
    a.status.route_reverted_at = a.now
    a.status.weight, a.status.step_since = 0, None
    a.status.why = "the route was put back by somebody else; the canary waits before it is added again"
    a.tell("RouteReverted", a.status.why, "Warning")
    return True


def contested(a: _Attempt) -> None:
    """A tool that changes a part of the route again and again has put it back too: it is not fought for ever.

    At weight 0 that may be all of it. An edit is counted once, however many passes there are until it can be worked in.
    """
    route, weight = a.obs.route, a.status.weight
    if weight == 0 and (a.status.stage not in ("Preparing", *JUDGED) or a.leaves_route_alone()):
        return
    changed = route.foreign or (weight == 0 and route.lacking)
    taken = route.uniform and route.weight == weight
    if changed and not (taken or route.busy) and route.generation != a.status.share_changed:
        a.status.share_changes += 1
        a.status.share_changed = route.generation
    if a.status.share_changes >= MAX_SHARE_CHANGES:
        a.status.share_changes = 0
        a.obs = replace(a.obs, route=replace(route, reverted=True))


def unrouted(a: _Attempt) -> None:
    """The release waits for its routes. Routes that are gone are told of; other trouble may be over in a moment."""
    if a.obs.route.missing and a.status.why != a.obs.route.complaint:
        a.tell("RouteNotFound", f"{a.obs.route.complaint}; the release waits for one", "Warning")
    a.status.why = a.obs.route.complaint


def occupied(a: _Attempt) -> str:
    """Where ours is to be, another release is."""
    return f"waits until the release of {a.obs.route.busy}, in the same rule of the route, is over"


def unanswered(a: _Attempt) -> None:
    """A check that gets no answer, or a wrong one, holds the release; told when it begins."""
    known = {entry.metric for entry in a.status.evidence if entry.verdict == "Error"}
    errors = [f for f in a.obs.verdict.findings if f.verdict == "Error"] if a.obs.verdict else []
    if a.status.stage in (*JUDGED, "Promoting") and any(f.metric not in known for f in errors):
        a.tell("MetricsUnavailable", "; ".join(f.sentence for f in errors), "Warning")


def preparing(a: _Attempt) -> None:
    """Pods first, traffic later."""
    if interrupted(a) or a.leaves_route_alone():
        return
    a.status.route_reverted_at = None
    first = next(step.weight or 0 for step in a.plan if step.weight)
    wanted, canary, route = a.pods(first), a.obs.canary, a.obs.route
    if a.obs.target.replicas == 0:
        a.status.stage_since = a.now
        a.status.why = "the Deployment is scaled to 0; judging begins when it has pods again"
    elif a.obs.route.problem:
        unrouted(a)
    elif a.obs.route.busy:
        a.status.stage_since = a.now
        a.status.why = occupied(a)
    elif not route.by_pods and canary.ready < wanted:
        a.status.why = canary.problem or f"canary pods ready: {canary.ready} of {wanted}"
        deadline = parse_duration(a.canary.spec.progress_deadline)
        if a.since(a.status.stage_since) >= deadline:
            why = f"not ready after {a.canary.spec.progress_deadline}: {a.status.why}"
            a.back("RolledBack", "ProgressDeadlineExceeded", why)
    elif not (route.uniform and route.settled):
        a.status.why = "waiting for the router to know the canary"
    elif (clear := quarantine(a)) and a.now < clear:
        a.status.why = f"waiting until {clear:%H:%M:%S}: the metrics still hold the release before"
    else:
        a.status.times.canary_ready = a.status.times.canary_ready or a.now
        start(a, 0)


def quarantine(a: _Attempt) -> datetime | None:
    """Until when the newest samples may still lack the last requests of the release before."""
    ended = a.canary.status.last_traffic_end
    if ended is None:
        return None
    return min(ended, a.status.stage_since or a.now) + parse_duration(a.canary.spec.analysis.metrics_delay)


def start(a: _Attempt, index: int) -> None:
    """Begins step `index`, or promotes after the last."""
    a.status.step = index
    if index >= len(a.plan):
        a.go("Promoting", "the judged version rolls out to the Deployment")
        a.status.times.unpaused = a.now
        a.tell("Promoting", f"{a.release.spec.revision} passed every step; the Deployment rolls out")
    elif a.plan[index].pause is not None:
        command = f"kubectl annotate canary {a.canary.metadata.name} --overwrite"
        go_on = f"{command} serinus.dev/resume={a.release.metadata.name}/{index}"
        a.go("Paused", f"waits for a person; go on with: {go_on}")
        a.tell("Paused", a.status.why)
    else:
        a.go("Stepping", f"going to {a.plan[index].weight} %")


def stepping(a: _Attempt) -> None:
    """Ready before weight; decide before the clock; evidence before the next step."""
    if interrupted(a) or short_of_pods(a):
        return
    step = a.plan[a.status.step]
    if step.weight is None:  # the plan was changed in mid-release
        start(a, a.status.step)
        return
    if a.leaves_route_alone():
        return
    if a.status.weight == 0 and a.status.route_reverted_at:  # the canary is added again
        a.status.stage_since, a.status.route_reverted_at = a.now, None
    if not room(a, step.weight):
        return
    fresh = a.status.step_since is None
    if not a.arrived():
        if a.obs.route.problem:
            unrouted(a)
        elif a.obs.route.busy:
            a.status.why = occupied(a)
        else:
            a.status.why = f"waiting for the router to take {step.weight} %"
    elif fresh:  # what was known before this weight says nothing about it
        reached(a, step.weight)
    else:
        judge_step(a, step)


def room(a: _Attempt, weight: int) -> bool:
    """There are enough pods for it. Without a router they get their share one by one."""
    enough, by_pods = a.obs.canary.ready >= a.pods(weight), a.obs.route.by_pods
    if enough or by_pods:
        a.status.weight = weight
    if enough or (by_pods and a.obs.canary.ready):
        a.status.times.first_exposed = a.status.times.first_exposed or (a.status.stage_since if by_pods else a.now)
    if not enough:
        if a.since(a.status.step_since) >= READINESS_GRACE:  # it was held: a pod that is moved, or one more, has as long again
            a.status.stage_since = a.now
        a.status.step_since = None
        a.status.why = a.obs.canary.problem or f"canary pods ready: {a.obs.canary.ready} of {a.pods(weight)}"
        if a.since(a.status.stage_since) >= parse_duration(a.canary.spec.progress_deadline):
            a.back("RolledBack", "ProgressDeadlineExceeded", f"no room for {weight} %: {a.status.why}")
    return enough


def reached(a: _Attempt, weight: int) -> None:
    """The router has taken it."""
    a.status.step_requests = a.status.exposure.requests
    if not a.status.steps or a.status.steps[-1].weight != weight:  # once, however often its pods were short
        a.status.steps = [*a.status.steps[1 - MOST_STEPS :], StepReached(weight=weight, at=a.now)]
    a.tell("StepReached", f"{a.release.spec.revision} has {weight} % of the traffic")


def judge_step(a: _Attempt, step: Step) -> None:
    """Goes on when there is evidence and, where the step has a duration, when that is over."""
    verdict = a.obs.verdict
    if verdict is None or verdict.kind == "NoData":
        a.status.why = verdict.sentence if verdict else "no look yet"
    elif verdict.doubt or (step.duration is None and not enough_seen(a, step, verdict)):
        a.status.why = verdict.sentence
    elif step.duration and a.since(a.status.step_since) < parse_duration(step.duration):
        a.status.why = f"{step.weight} % for {step.duration}; no harm seen"
    else:
        start(a, a.status.step + 1)


def enough_seen(a: _Attempt, step: Step, verdict: Verdict) -> bool:
    """Health is shown, some of it at this step's weight; or as long as the step may last nothing failed."""
    held = a.since(a.status.step_since)
    if step.max_duration and held >= parse_duration(step.max_duration):
        return True
    # A check that was changed in mid-release counts anew.
    a.status.step_requests = min(a.status.step_requests, a.status.exposure.requests)
    if verdict.kind != "Pass" or held < max(STEP_HOLD, parse_duration(step.min_duration or "0s")):
        return False
    return a.status.exposure.requests > a.status.step_requests or not a.status.evidence


def short_of_pods(a: _Attempt) -> bool:
    """Fewer pods are ready than the share needs: lower the share at once, blame the version after a grace."""
    had = a.status.steps[-1].weight if a.status.unready_since and a.status.steps else a.status.weight
    ready, wanted = a.obs.canary.ready, a.pods(had)
    if a.obs.route.by_pods or had == 0 or ready >= wanted:
        a.status.unready_since = a.status.lost_since = None
        return False
    a.status.unready_since = a.status.unready_since or a.now
    why = f"only {ready} of {wanted} canary pods are ready under traffic"
    lost = ready < min(wanted, a.status.most_ready)  # else they have only been asked for
    a.status.lost_since = (a.status.lost_since or a.now) if lost else None
    if a.status.lost_since and a.since(a.status.lost_since) >= READINESS_GRACE:
        a.back("RolledBack", "ReadinessLost", why)
        return True
    if a.since(a.status.unready_since) >= parse_duration(a.canary.spec.progress_deadline):
        a.back("RolledBack", "ProgressDeadlineExceeded", f"{why} after {a.canary.spec.progress_deadline}")
        return True
    a.status.weight = min(a.status.weight, carries(ready, a.replicas))
    a.status.step_since = None
    a.status.why = f"only {ready} of {wanted} canary pods are ready; the share is lowered to {a.status.weight} %"
    return True


def cap(a: _Attempt) -> None:
    """After the judging is over: canary pods that are lost leave their share to the Service's."""
    if a.status.weight > (carried := carries(a.obs.canary.ready, a.replicas)):
        a.status.weight, a.status.step_since = carried, None


def paused(a: _Attempt) -> None:
    """Judged as at a step, but only a person ends it."""
    if interrupted(a) or short_of_pods(a):
        return
    if a.plan[a.status.step].pause is None:  # the plan was changed in mid-release
        start(a, a.status.step)
        return
    if a.status.steps and not a.status.route_reverted_at:  # lowered for pods that have become ready again
        a.status.weight = a.status.steps[-1].weight
    a.arrived()  # only of a weight that was taken is it noticed that somebody puts the route back
    if a.obs.commands.resume == f"{a.release.metadata.name}/{a.status.step}":
        a.tell("Resumed", "resumed by hand")
        start(a, a.status.step + 1)


def promoting(a: _Attempt) -> None:
    """The judged template rolls out natively, while the canary carries what it carried."""
    target = a.obs.target
    if a.obs.route.reverted:  # the user's Service has the traffic, and its pods become the judged version: leave it so
        a.status.weight, a.status.step_since = 0, None
    cap(a)
    a.arrived()
    if a.status.outcome != "Skipped" and condemned(a):
        a.status.undo, a.status.stuck = True, False
        interrupted(a)  # it has a branch for each thing that condemns
    elif not target.exists:
        a.back("Aborted", "TargetDeleted", "the Deployment was deleted while the version was promoted")
    elif target.template == "serving":
        a.back("Aborted", "Reverted", "the serving version was put back while the new one was promoted")
    elif target.template == "other":
        a.back("Superseded", "NewerVersion", "a newer version was applied while this one was promoted")
    elif a.status.stuck and a.obs.commands.deleting:
        a.back("Aborted", "CanaryDeleted", "the Canary was deleted while the promotion was stuck")
    elif target.rolled_out and not target.paused and not a.blind():
        a.status.times.promoted = a.now
        a.tell("RolledOut", f"the Deployment runs {a.release.spec.revision}")
        why = "traffic goes back to the Service, now on the new version"
        a.go("Returning" if a.status.weight else "Draining", a.status.why if a.status.outcome == "Skipped" else why)
    elif not a.status.stuck and a.since(a.status.stage_since) >= parse_duration(a.canary.spec.promotion.deadline):
        a.status.stuck = True
        a.status.why = f"not rolled out after {a.canary.spec.promotion.deadline}: {target.problem or 'see the Deployment'}"
        a.tell("PromotionStuck", f"{a.status.why}; template changes are accepted again", "Warning")


def condemned(a: _Attempt) -> bool:
    """The version that rolls out is not wanted any more: by the evidence, or by a person."""
    failed = a.obs.canary.fault is not None or (a.obs.verdict is not None and a.obs.verdict.kind == "Fail")
    return failed or (a.obs.commands.abort == a.release.metadata.name and a.obs.target.template == "held")


def undoing(a: _Attempt) -> bool:
    """The serving version is on its way back into the Deployment. Another one now would leave bad pods behind the Service."""
    back = a.obs.target.template == "serving" and a.obs.target.rolled_out and not a.obs.target.paused
    return a.status.undo and a.obs.target.exists and not back


def overdue(a: _Attempt) -> None:
    """The serving version does not come back: a person has to look, and may apply another."""
    deadline = a.canary.spec.promotion.deadline
    late = a.since(a.status.times.decided) >= parse_duration(deadline)
    if undoing(a) and late and a.status.stage != "Ended" and not a.status.stuck:
        a.status.stuck = True
        problem = a.obs.target.problem or "see the Deployment"
        a.tell(
            "UndoStuck",
            f"{a.release.spec.serving_revision} is not back in the Deployment after {deadline}: {problem}; "
            "template changes are accepted again",
            "Warning",
        )


def returning(a: _Attempt) -> None:
    """The Deployment's new pods are cold: they get the traffic back in steps, judged."""
    verdict = a.obs.verdict
    last = max((step.weight for step in a.status.steps), default=100)
    cap(a)
    if a.obs.route.reverted:  # the Service, now on the judged version, has it all: leave it so
        a.status.weight, a.status.step_since = 0, None
        a.go("Draining", "the route was put back by somebody else; the canary's last requests end")
        return
    if a.status.times.returning is None:
        if a.status.return_after:
            a.status.return_after = min(a.status.return_after, a.now + RETURN_RETRY)
            if a.now < a.status.return_after:
                return
        a.status.times.returning = a.now
        a.status.weight, a.status.step_since = min(a.status.weight, way_back(last)[0]), None
    if verdict and verdict.kind == "Fail" and a.obs.canary.ready >= a.pods(last):
        a.status.times.returning, a.status.return_after = None, a.now + RETURN_RETRY
        a.status.weight, a.status.step_since = last, None
        a.status.why = f"the Deployment's own pods fail where the canary's do not: {verdict.sentence}"
        a.tell("ReturnFailed", f"{a.status.why}; trying again in {RETURN_RETRY.seconds} s", "Warning")
        return
    a.status.weight = (
        0 if a.obs.route.missing or a.obs.route.idle else min(a.status.weight, carries(a.obs.canary.ready, a.replicas))
    )
    counted = verdict is not None and verdict.kind in ("Pass", "Wait") and any(f.total for f in verdict.findings)
    if a.arrived() and (counted or a.since(a.status.step_since) >= RETURN_HOLD):
        a.status.weight, a.status.step_since = way_back(a.status.weight)[0] if a.status.weight else 0, None
    if a.status.weight == 0:
        a.go("Draining", "the Service has all the traffic; the canary's last requests end")


def draining(a: _Attempt) -> None:
    """Weight 0 first, seen by the router, then the pods' last requests."""
    if a.arrived() and a.since(a.status.step_since) >= parse_duration(a.canary.spec.promotion.drain):
        a.status.times.zero_verified = a.status.times.zero_verified or a.status.step_since
        if a.status.outcome is None:
            a.status.outcome, a.status.reason = "Promoted", "Promoted"
            a.status.why = f"{a.release.spec.revision} serves all traffic"
        a.go("Cleaning", a.status.why)


def rolling_back(a: _Attempt) -> None:
    """Weight 0 is written at every pass until the router says that it has it."""
    route = a.obs.route
    exposed = a.status.times.first_exposed is not None
    verified = route.weight == 0 and (not exposed or (a.arrived() and a.since(a.status.step_since) >= SETTLE))
    if verified or route.missing:
        times = a.status.times
        times.zero_written = times.zero_written or a.now
        times.zero_verified = a.now
        keep = a.status.outcome == "RolledBack" or a.status.reason == "AbortedByUser"
        a.status.why = story(a)
        a.tell(a.status.outcome or "RolledBack", a.status.why, "Warning" if keep else "Normal")
        a.go("Keeping" if keep and not a.obs.route.by_pods else "Cleaning", a.status.why)


def story(a: _Attempt) -> str:
    """The sentence somebody reads at night."""
    times, name = a.status.times, a.release.spec.revision
    if times.first_exposed is None:
        return f"{a.status.why}; {name} never had traffic"
    took = ((times.zero_verified or a.now) - (times.decided or a.now)).total_seconds()
    exposed = ((times.zero_verified or a.now) - times.first_exposed).total_seconds()
    return f"{a.status.why}, on {name}; traffic returned in {took:.1f} s, {exposed:.1f} s after its first"


def keeping(a: _Attempt) -> None:
    """Time to look at the bad pods, unless somebody has moved on already."""
    moved_on = a.obs.target.template != "held" or a.obs.commands.deleting or not a.obs.target.exists
    if moved_on or a.since(a.status.stage_since) >= parse_duration(a.canary.spec.rollback.keep_canary_for):
        a.go("Cleaning", a.status.why)


def cleaning(a: _Attempt) -> None:
    """Ends when the user's objects are as they were and nothing of ours is left."""
    target = a.obs.target
    waited = a.since(a.status.stage_since) >= parse_duration(a.canary.spec.promotion.deadline)
    if a.status.outcome == "Skipped" and not a.status.times.promoted and target.template == "held" and not target.paused:
        if target.exists and not target.rolled_out and not waited:
            return
        a.status.times.promoted = a.now if target.rolled_out else None
    # What had rolled out rolls back before the next is judged: else that would look like a version nobody judged.
    back = target.template == "serving" and (target.rolled_out or (a.obs.commands.deleting and waited))
    undone = not a.status.undo or not target.exists or back or target.template == "other"
    if a.obs.route.restored and a.obs.canary.gone and undone:
        a.status.times.ended = a.now
        if a.status.outcome == "Promoted":
            a.tell("Promoted", f"{a.release.spec.revision} serves all traffic")
        elif a.status.outcome == "Skipped":
            a.tell("Skipped", f"{a.release.spec.revision} went out without judgement: {a.status.why}", "Warning")
        a.go("Ended", a.status.why)


STAGES: dict[Stage, Callable[[_Attempt], None]] = {
    "Preparing": preparing,
    "Stepping": stepping,
    "Paused": paused,
    "Promoting": promoting,
    "Returning": returning,
    "Draining": draining,
    "RollingBack": rolling_back,
    "Keeping": keeping,
    "Cleaning": cleaning,
    "Ended": lambda _: None,
}


def alone(canary: Canary, status: ReleaseStatus) -> bool:
    """There is no version to compare the judged one with.

    While it rolls out, the serving side becomes the same version. By number of pods it never has more than half of the traffic,
    whatever the weight says.
    """
    return status.stage == "Promoting" or (status.weight == 100 and canary.spec.traffic.pod_ratio is None)


def exposure(status: ReleaseStatus, now: datetime) -> Exposure:
    """Requests and failures as the checks counted them, and the sum of share times seconds."""
    counted = [e for e in status.evidence if e.total is not None]
    most = max(counted, key=lambda e: e.total or 0, default=None)
    end = status.times.zero_verified or now
    ends = [step.at for step in status.steps[1:]] + [end]
    shares = (step.weight / 100 * max(0.0, (to - step.at).total_seconds()) for step, to in zip(status.steps, ends, strict=False))
    return Exposure(
        requests=most.total or 0 if most else 0,
        failures=max((e.bad or 0 for e in counted), default=0),
        share_seconds=round(sum(shares), 3),
    )


def evidence(status: ReleaseStatus, verdict: Verdict) -> list[Evidence]:
    """What the checks say. After the decision a source that no longer answers does not take away what it was made from."""
    known = {entry.metric: entry for entry in status.evidence} if status.times.decided else {}
    silent = ("Error", "NoData")
    return [known[f.metric] if f.verdict in silent and f.metric in known else f.evidence() for f in verdict.findings]


def desired(a: _Attempt) -> Desired:
    """What should be so in the stage that was reached."""
    stage, status, by_pods = a.status.stage, a.status, a.obs.route.by_pods
    first = next(step.weight or 0 for step in a.plan if step.weight)
    kept, skipped = a.obs.canary.replicas, status.outcome == "Skipped"
    if stage in ("RollingBack", "Keeping", "Cleaning", "Ended"):
        over = stage in ("Cleaning", "Ended")
        failed = status.outcome == "RolledBack" or status.reason == "AbortedByUser"
        return Desired(
            weight=None if over else 0,
            pods=None if over else 0 if by_pods else kept,
            released=skipped,
            frozen=undoing(a) and not status.stuck and stage != "Ended",
            undo=status.undo,
            failure=status.why if stage != "RollingBack" and failed and not status.undo else "",
        )
    if stage == "Preparing":
        idle = a.obs.target.replicas == 0 or by_pods
        # Who waits for another's rule has no place in any other: else each of two could wait for the other.
        out = a.obs.route.busy or a.leaves_route_alone()
        return Desired(weight=None if out else 0, pods=0 if idle else a.pods(first))
    if stage == "Promoting":
        # Once more pods are asked for, none is taken away before the traffic is.
        return Desired(
            weight=None if skipped else status.weight,
            pods=None if skipped else max(kept, a.pods(status.weight)),
            give=status.weight > 0 and not a.blind(),
            released=True,
            frozen=not status.stuck and not skipped,
        )
    if stage in ("Returning", "Draining"):
        return Desired(weight=None if skipped else status.weight, pods=None if skipped else kept, released=skipped)
    step = a.plan[status.step].weight if stage == "Stepping" else 0
    left_alone = status.weight == 0 and a.leaves_route_alone()
    pods = max(kept, a.pods(max(status.weight, step or 0, first)))
    return Desired(weight=None if left_alone else status.weight, pods=pods, give=not a.blind())


def advance(canary: Canary, release: Release, obs: Observation, now: datetime) -> Decision:
    """One decision. The same arguments give the same answer; nothing but the answer changes."""
    a = _Attempt(canary, release, obs, now, release.status.model_copy(deep=True))
    a.status.stage_since = a.status.stage_since or now
    for moment in ("stage_since", "step_since", "unready_since", "lost_since", "route_reverted_at"):  # of a clock that was fast
        known = getattr(a.status, moment)
        setattr(a.status, moment, min(known, now) if known else None)
    a.status.most_ready = max(a.status.most_ready, obs.canary.ready)
    contested(a)
    if obs.verdict and a.status.stage not in ("Cleaning", "Ended", "Returning", "Draining"):
        unanswered(a)
        a.status.evidence = evidence(a.status, obs.verdict)
    for _ in STAGES:
        before = (a.status.stage, a.status.step)
        STAGES[a.status.stage](a)
        if (a.status.stage, a.status.step) == before:
            break
    overdue(a)
    if a.status.times.first_exposed and a.status.stage != "Ended":
        a.status.exposure = exposure(a.status, now)
    a.status.why = fitted(a.status.why)  # sixteen checks may have much to say
    return Decision(a.status, desired(a), a.notes)

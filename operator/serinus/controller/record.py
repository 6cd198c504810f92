"""What is written down for people and for the next process: a new Release, and the Canary's status. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime

from serinus.api.base import API_VERSION, Metadata, fitted, short_name
from serinus.api.canary import Canary, CanaryStatus, Phase
from serinus.api.release import Release, ReleaseSpec, ReleaseStatus, Stage, Target
from serinus.controller.world import World
from serinus.kube import FIELD_MANAGER, Object
from serinus.rollout.machine import Decision
from serinus.rollout.rest import SKIP, AtRest, Begin, Rest
from serinus.workloads import template as templates

PHASES: dict[Stage, Phase] = {
    "Preparing": "Progressing",
    "Stepping": "Progressing",
    "Paused": "Paused",
    "Promoting": "Promoting",
    "Returning": "Promoting",
    "Draining": "Promoting",
    "RollingBack": "RollingBack",
    "Keeping": "RolledBack",
}


def release_name(canary: Canary, uid: str, generation: int, attempt: int) -> str:
    """Deterministic: a restart never records one attempt twice, and shipping an old version again is a new one."""
    digest = hashlib.sha256(uid.encode()).hexdigest()[:5]
    return f"{short_name(canary.metadata.name, 40)}-{digest}-{generation}-{attempt}"


def new_release(canary: Canary, world: World, seen: AtRest, begin: Begin, now: datetime) -> Release:
    """The attempt to deliver what the Deployment holds."""
    deployment, serving = world.deployment or {}, world.serving
    template = templates.plain(deployment["spec"]["template"])
    served = templates.plain(serving["spec"]["template"]) if serving else template
    name = release_name(canary, seen.uid, seen.generation, begin.attempt)
    return Release(
        metadata=Metadata(name=name, namespace=canary.metadata.namespace, labels=world.names.labels),
        spec=ReleaseSpec(
            canary=canary.metadata.name,
            target=Target(name=canary.spec.target_ref.name, uid=seen.uid, generation=seen.generation, replicas=seen.replicas),
            kind=begin.kind,
            attempt=begin.attempt,
            revision=seen.revision,
            serving_revision=seen.serving_revision,
            serving_replica_set=serving["metadata"]["name"] if serving else "",
            template=template,
            serving_template=served,
            images=templates.images(template),
            commit=templates.fact(templates.COMMIT, template, deployment),
            repository=templates.fact(templates.REPOSITORY, template, deployment, 512),
            changed_by=changed_by(deployment),
            requested_at=now,
        ),
        status=ReleaseStatus(stage=begin.stage, outcome=begin.outcome, reason=begin.outcome or "", why=begin.why),
    )


def begun(release: Release) -> ReleaseStatus:
    """A release's status, also where the process that created it ended before it wrote one.

    The API server takes no status with a create. A version that was on its way past the hold is seen to be so again; one
    that asks to go out unjudged is known by its template.
    """
    if release.status.stage_since is None and templates.wants_skip(release.spec.template):
        return ReleaseStatus(stage="Promoting", outcome="Skipped", reason="Skipped", why=SKIP)
    return release.status


def body(release: Release) -> Object:
    """As the API server wants it created."""
    metadata = {
        "name": release.metadata.name,
        "namespace": release.metadata.namespace,
        "labels": release.metadata.labels,
    }
    return {"apiVersion": API_VERSION, "kind": "Release", "metadata": metadata, "spec": release.spec.dump()}


def changed_by(deployment: Object) -> str:
    """The field manager that wrote the template last."""
    entries = [
        entry
        for entry in deployment.get("metadata", {}).get("managedFields") or []
        if "f:template" in (entry.get("fieldsV1", {}).get("f:spec") or {}) and entry.get("manager") != FIELD_MANAGER
    ]
    newest = max(entries, key=lambda entry: str(entry.get("time", "")), default=None)
    return str(newest["manager"])[:256] if newest else ""


def summary(canary: Canary, release: Release | None, world: World, decision: Decision | Rest, now: datetime) -> Object:
    """The Canary's status, as the API server would hold it."""
    status = canary.status.model_copy(deep=True)
    status.observed_generation = canary.metadata.generation
    if isinstance(decision, Rest):
        _at_rest(status, world, decision, release)
    elif release is not None:
        in_release(status, canary, release)
    conditions = {condition.type: condition for condition in status.conditions}
    dumped = status.dump()
    fresh = []
    for kind, value, reason, message in _conditions(status.phase, release, world, decision):
        old = conditions.get(kind)
        since = now if old is None or old.status != value else old.last_transition_time
        fresh.append(_condition(canary, kind, value, reason, message, since or now))
    dumped["conditions"] = fresh
    return dumped


def refused(canary: Canary, release: Release | None, message: str, now: datetime) -> Object:
    """The Canary's status when the API server did not take what a pass wrote: nothing goes on until that is mended."""
    status = canary.status.model_copy(deep=True)
    status.observed_generation = canary.metadata.generation
    if release is not None:
        in_release(status, canary, release)
    dumped = status.dump()
    old = next((condition for condition in status.conditions if condition.type == "Ready"), None)
    since = old.last_transition_time if old is not None and old.status == "False" else None
    ready = _condition(
        canary, "Ready", "False", "Refused", f"the API server refuses what Serinus writes: {message}", since or now
    )
    dumped["conditions"] = [ready, *(condition for condition in dumped["conditions"] if condition["type"] != "Ready")]
    return dumped


def _condition(canary: Canary, kind: str, value: str, reason: str, message: str, since: datetime) -> Object:
    return {
        "type": kind,
        "status": value,
        "reason": reason or "Unknown",
        "message": message[:4096],
        "observedGeneration": canary.metadata.generation,
        "lastTransitionTime": since.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    }


def _at_rest(status: CanaryStatus, world: World, decision: Rest, last: Release | None) -> None:
    status.phase, status.weight, status.step, status.why = decision.phase, 0, "", fitted(decision.why)
    if decision.settled and world.deployment is not None and world.serving is not None:
        status.serving_replica_set = world.serving["metadata"]["name"]
        status.target_uid = world.deployment["metadata"]["uid"]
        status.serving_revision = templates.revision(world.serving["spec"]["template"])
        status.new_revision = ""


def brief(why: str, limit: int = 72) -> str:
    """What fits into a column of `kubectl get`; the whole sentence stands in the conditions, the Release and the events."""
    first = why.split("; ")[0]
    return first if len(first) <= limit else f"{first[: limit - 1].rstrip()}…"


def in_release(status: CanaryStatus, canary: Canary, release: Release) -> None:
    """Writes what a release under way, or just ended, means for the Canary into its status."""
    spec, now = release.spec, release.status
    failed = now.outcome == "RolledBack" or now.reason in ("AbortedByUser", "RouteConflict")
    going: Phase = "Promoting" if now.outcome in ("Promoted", "Skipped") else "RollingBack"
    status.phase = "RolledBack" if failed else PHASES.get(now.stage, going)
    if now.stage == "RollingBack":
        status.phase = "RollingBack"
    elif now.stage == "Ended" and not failed:
        status.phase = "Stable"
    if canary.metadata.deletion_timestamp is not None:
        status.phase = "Terminating"
    status.release, status.why = release.metadata.name, brief(now.why)
    status.weight = now.weight
    status.step = f"{min(now.step + 1, len(canary.spec.plan()))}/{len(canary.spec.plan())}"
    status.serving_revision, status.new_revision = spec.serving_revision, spec.revision
    status.target_uid = spec.target.uid
    if now.times.promoted is not None or now.outcome == "Skipped":
        status.serving_revision, status.serving_replica_set = spec.revision, ""
    if now.times.zero_verified is not None and now.times.first_exposed is not None:
        status.last_traffic_end = now.times.zero_verified


def _conditions(
    phase: Phase, release: Release | None, world: World, decision: Decision | Rest
) -> Iterator[tuple[str, str, str, str]]:
    """(type, status, reason, message)."""
    resting = isinstance(decision, Rest)
    reason = decision.reason if isinstance(decision, Rest) else phase
    why = decision.why if isinstance(decision, Rest) else decision.status.why
    yield "Ready", "True" if phase == "Stable" else "False", reason, why
    under_way = not resting and phase not in ("Stable", "RolledBack")
    yield "Progressing", "True" if under_way else "False", reason, why
    route = world.route
    if route.by_pods:
        yield "RoutesAccepted", "True", "NoRouter", "the share follows the number of pods"
    elif route.problem:
        yield "RoutesAccepted", "False", "RouteNotFound" if route.missing else "RouteNotUsable", route.complaint
    elif resting or route.settled:
        yield "RoutesAccepted", "True", "Accepted", "every route is accepted by its Gateway"
    if not resting and release is not None and release.status.evidence:
        silent = [e for e in release.status.evidence if e.verdict in ("Error", "NoData")]
        if silent:
            yield "MetricsAvailable", "False", silent[0].verdict, "; ".join(e.sentence for e in silent)
        else:
            yield "MetricsAvailable", "True", "Answered", "every metric has numbers"
    if not resting and release is not None and release.status.route_reverts:
        yield "Conflicted", "True", "RouteReverted", "somebody else put the route back in mid-release"
    elif reason == "Conflicted":
        yield "Conflicted", "True", reason, why

"""Which states of a workload the docs name: what must not be so, whatever was done to it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from e2e.kubectl import Object

from serinus.api.base import CANARY_LABEL, FINALIZER, OWNED_LABEL, PROMOTING_ANNOTATION, short_name

#: Phases during which a release is under way.
BUSY = ("Progressing", "Paused", "Promoting", "RollingBack", "Terminating")


@dataclass
class Space:
    """What is in one namespace, where everything of the user's is called `name`."""

    name: str
    canaries: list[Object] = field(default_factory=list)
    releases: list[Object] = field(default_factory=list)
    deployments: list[Object] = field(default_factory=list)
    services: list[Object] = field(default_factory=list)
    budgets: list[Object] = field(default_factory=list)
    routes: list[Object] = field(default_factory=list)

    def deployment(self) -> Object | None:
        """The user's."""
        return next((d for d in self.deployments if d["metadata"]["name"] == self.name), None)

    def active(self) -> list[Object]:
        """Releases that are not over."""
        return [release for release in self.releases if release.get("status", {}).get("stage") != "Ended"]


def oddities(space: Space, let_go: bool = False) -> list[str]:
    """What no page names. Between two states some of it is so for a moment: ask again before believing it.

    With `let_go` there was a Canary that was content, and it was deleted; else people may have written what they liked.
    """
    found = [sentence for canary in space.canaries for sentence in unexplained(canary)]
    for canary in space.canaries:
        if "deletionTimestamp" not in canary["metadata"]:
            found += _phase(space, canary)
    if not space.active():
        found += _left(space)
    deployment = space.deployment()
    if let_go and deployment is not None:
        if _label(deployment):
            found.append("there is no Canary, and the Deployment has its label")
        if deployment["spec"].get("paused"):
            found.append("there is no Canary, and the Deployment is paused")
        if PROMOTING_ANNOTATION in (deployment["metadata"].get("annotations") or {}):
            found.append("there is no Canary, and the Deployment is frozen")
    return found


def unexplained(canary: Object) -> Iterator[str]:
    """Whether its conditions say what is wrong, or that it is fine, of its newest generation."""
    name, generation = canary["metadata"]["name"], canary["metadata"]["generation"]
    status = canary.get("status") or {}
    if "deletionTimestamp" in canary["metadata"]:
        return
    conditions = {c["type"]: c for c in status.get("conditions") or []}
    if status.get("observedGeneration") != generation:
        yield f"Canary {name}: observedGeneration is {status.get('observedGeneration')}, and not {generation}"
    elif "Ready" not in conditions:
        yield f"Canary {name} has no condition Ready"
    for kind, condition in conditions.items():
        if condition.get("observedGeneration") != generation and status.get("observedGeneration") == generation:
            yield f"Canary {name}: condition {kind} is of generation {condition.get('observedGeneration')}, not of {generation}"
        if not condition.get("message") or condition.get("reason") in (None, "", "Unknown"):
            yield f"Canary {name}: condition {kind} says nothing: {condition}"
    said = conditions.get("Ready", {})
    stable = status.get("phase") == "Stable" and said.get("reason") != "Refused"
    if said and (said["status"] == "True") != stable:
        yield f"Canary {name}: phase {status.get('phase')} and Ready {conditions['Ready']['status']} do not agree"


def _phase(space: Space, canary: Object) -> Iterator[str]:
    name, phase = canary["metadata"]["name"], (canary.get("status") or {}).get("phase")
    mine = [release for release in space.active() if release["spec"]["canary"] == name]
    deployment = space.deployment()
    paused = bool((deployment or {}).get("spec", {}).get("paused"))
    if len(mine) > 1:
        yield f"Canary {name} has {len(mine)} releases under way"
    if phase in BUSY and not mine:
        yield f"Canary {name} is {phase}, and no release is under way"
    if mine:
        return
    if phase == "Stable":
        if deployment is None:
            yield f"Canary {name} is Stable, and there is no Deployment"
        elif paused:
            yield f"Canary {name} is Stable, and the Deployment is paused"
        elif _label(deployment) != short_name(name) and deployment.get("status", {}).get("unavailableReplicas", 0) == 0:
            yield f"Canary {name} is Stable, and the Deployment's label is {_label(deployment)!r}"
    if phase == "RolledBack" and not paused:
        yield f"Canary {name} is RolledBack, and the Deployment is not held"


def _left(space: Space) -> Iterator[str]:
    """What is there for the length of a release only, and now is there without one."""
    for kind, things in (("Deployment", space.deployments), ("Service", space.services), ("budget", space.budgets)):
        for thing in things:
            if OWNED_LABEL in (thing["metadata"].get("labels") or {}) and "deletionTimestamp" not in thing["metadata"]:
                yield f"no release is under way, and {kind} {thing['metadata']['name']} of one is left"
    for route in space.routes:
        for rule in route["spec"].get("rules") or []:
            if f"{space.name}-canary" in [ref["name"] for ref in rule.get("backendRefs") or []]:
                yield f"no release is under way, and route {route['metadata']['name']} names the canary"
    annotations = (space.deployment() or {}).get("metadata", {}).get("annotations") or {}
    if PROMOTING_ANNOTATION in annotations and _adopted(space):
        yield "no release is under way, and the Deployment is frozen"


def _adopted(space: Space) -> bool:
    """Some Canary touches the Deployment: one that is stopped by an obstacle, or was let go of, touches nothing."""
    held = [canary for canary in space.canaries if FINALIZER in canary["metadata"].get("finalizers", [])]
    return any((canary.get("status") or {}).get("phase") != "Adopting" for canary in held)


def _label(deployment: Object) -> str:
    return str((deployment["metadata"].get("labels") or {}).get(CANARY_LABEL) or "")

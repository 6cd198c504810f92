"""One reading of everything that a decision about one Canary depends on, all at once, live from the API server.

Watches only wake the loop; what it acts on is read here. A stale view is the root of most controller bugs (Sieve, OSDI
2022), and at a few reads a pass, only while a release is under way, it is not worth one.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import datetime

from serinus.analysis.pods import judge_pods
from serinus.analysis.verdict import Verdict
from serinus.api.base import ABORT_ANNOTATION, CANARY_LABEL, RESUME_ANNOTATION, ROLE_LABEL, parse_duration, short_name
from serinus.api.canary import Canary
from serinus.api.release import Release
from serinus.kube import AUTOSCALERS, BUDGETS, DEPLOYMENTS, PODS, RELEASES, REPLICA_SETS, SERVICES, Kind, Kube, Object
from serinus.metrics.builtin import exporter_of
from serinus.rollout.machine import REVERT_WAIT
from serinus.rollout.observation import CanaryView, Commands, Observation, RouteView
from serinus.rollout.rest import AtRest, LastRelease
from serinus.traffic.backends import Pair
from serinus.traffic.gateway import GatewayRouter
from serinus.traffic.podratio import PodRatioRouter
from serinus.traffic.router import Router
from serinus.workloads import deployment as workload
from serinus.workloads import template as templates
from serinus.workloads.deployment import Names


@dataclass
class World:
    """What was read. `full` readings have the fields below the line too."""

    canary: Canary
    names: Names
    router: Router
    route: RouteView
    deployment: Object | None
    canary_deployment: Object | None
    pods: list[Object]
    # ----
    full: bool = False
    service: Object | None = None
    canary_service: Object | None = None
    canary_budget: Object | None = None
    replica_sets: list[Object] = field(default_factory=list)
    budgets: list[Object] = field(default_factory=list)
    autoscalers: list[Object] = field(default_factory=list)
    #: Only while a release is under way.
    services: list[Object] = field(default_factory=list)

    @property
    def namespace(self) -> str:
        """Where all of it is."""
        return self.canary.metadata.namespace

    @property
    def by_pods(self) -> bool:
        """There is no router."""
        return self.canary.spec.traffic.pod_ratio is not None

    def ours(self, thing: Object | None) -> bool:
        """It is there, and this Canary's: under the canary's names there may be somebody else's object."""
        return thing is not None and (thing["metadata"].get("labels") or {}).items() >= self.names.labels.items()

    @property
    def companions(self) -> list[tuple[Kind, Object]]:
        """What stands under the canary's names, whoever's it is."""
        things = ((DEPLOYMENTS, self.canary_deployment), (SERVICES, self.canary_service), (BUDGETS, self.canary_budget))
        return [(kind, thing) for kind, thing in things if thing is not None]

    @property
    def own(self) -> list[tuple[Kind, Object]]:
        """Those of `companions` that are this Canary's."""
        return [(kind, thing) for kind, thing in self.companions if self.ours(thing)]

    @property
    def exporter(self) -> str | None:
        """Whose counters tell the two versions apart: the gateway's, and without one the application's own."""
        if self.by_pods:
            return "app"
        return next((name for controller in self.router.controllers if (name := exporter_of(controller))), None)

    @property
    def selectors(self) -> tuple[str, ...]:
        """Which pods are the serving version's, and which the canary's."""
        serving = _selector(self.deployment)
        return (f"{serving},{ROLE_LABEL}!=canary", self._canary_pods) if serving else (self._canary_pods,)

    @property
    def _canary_pods(self) -> str:
        return f"{self.names.selector},{ROLE_LABEL}=canary"

    @property
    def label(self) -> str:
        """The label that tells canary pods from serving ones: the one that does already, as far as the canary is there."""
        match = _match(self.deployment)
        if self.ours(self.canary_deployment):
            return next((key for key, value in _match(self.canary_deployment).items() if match.get(key) != value), "app")
        selector = _selector_of(self.service)
        if self.ours(self.canary_service):
            return next((key for key, value in _selector_of(self.canary_service).items() if selector.get(key) != value), "app")
        return templates.telling_label(selector, match, self.by_pods, [_selector_of(other) for other in self._others]) or "app"

    @property
    def _others(self) -> list[Object]:
        """More Services that select the user's pods."""
        labels = ((self.deployment or {}).get("spec", {}).get("template", {}).get("metadata") or {}).get("labels") or {}
        known = (self.names.service, self.canary.spec.service.name)
        others = [service for service in self.services if service["metadata"]["name"] not in known]
        return [service for service in others if _selector_of(service) and _selector_of(service).items() <= labels.items()]

    @property
    def reached_by(self) -> list[str]:
        """Those of them that select the canary's pods as well. Without a router all are meant to."""
        label = self.label
        return [] if self.by_pods else [s["metadata"]["name"] for s in self._others if label not in _selector_of(s)]

    @property
    def serving(self) -> Object | None:
        """The ReplicaSet that serves."""
        if self.deployment is None:
            return None
        return workload.serving_replica_set(self.deployment, self.replica_sets, self.canary.status.serving_replica_set)


async def read(kube: Kube, canary: Canary, full: bool, release: Release | None = None) -> World:
    """Reads it. A full reading costs some eleven requests, the other five.

    Routes that the release has written to are read too, although the Canary may no longer name them.
    """
    namespace, names = canary.metadata.namespace, Names.of(canary)
    counts = (0, 0)
    router: Router
    if canary.spec.traffic.gateway_api is not None:
        pair = Pair(canary.spec.service.name, names.service, canary.spec.service.port, namespace)
        records = release.status.routes if release else []
        router = GatewayRouter(kube, namespace, canary.spec.traffic.gateway_api, pair, records)
    else:
        router = PodRatioRouter(lambda: counts)
    selector = f"{names.selector},{ROLE_LABEL}=canary"
    deployment, canary_deployment, pods, route = await asyncio.gather(
        kube.find(DEPLOYMENTS, namespace, canary.spec.target_ref.name),
        kube.find(DEPLOYMENTS, namespace, names.canary),
        kube.list(PODS, namespace, selector),
        router.observe(),
    )
    if isinstance(router, PodRatioRouter):
        counts = (sum(workload.serving(pod) for pod in pods), int((deployment or {}).get("status", {}).get("readyReplicas", 0)))
        route = await router.observe()
    world = World(canary, names, router, route, deployment, canary_deployment, pods)
    if full:
        world.full = True
        (
            world.service,
            world.canary_service,
            world.canary_budget,
            replica_sets,
            world.budgets,
            world.autoscalers,
        ) = await asyncio.gather(
            kube.find(SERVICES, namespace, canary.spec.service.name),
            kube.find(SERVICES, namespace, names.service),
            kube.find(BUDGETS, namespace, names.canary),
            kube.list(REPLICA_SETS, namespace, _selector(deployment)),
            kube.list(BUDGETS, namespace),
            kube.list(AUTOSCALERS, namespace),
        )
        world.replica_sets = replica_sets
        world.services = await kube.list(SERVICES, namespace) if release else []
    return world


def _match(deployment: Object | None) -> dict[str, str]:
    return (deployment or {}).get("spec", {}).get("selector", {}).get("matchLabels") or {}


def _selector_of(service: Object | None) -> dict[str, str]:
    return (service or {}).get("spec", {}).get("selector") or {}


def _selector(deployment: Object | None) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(_match(deployment).items()))


def carrying_pods(canary_deployment: Object | None, pods: list[Object]) -> int:
    """How many of the canary's pods can be given traffic: ready for long enough to be known to the gateway, and still ready."""
    available = int((canary_deployment or {}).get("status", {}).get("availableReplicas", 0))
    return min(available, sum(workload.serving(pod) for pod in pods))


def warm_at(world: World, canary: Canary) -> datetime | None:
    """When the newest of the canary's ready pods will have been so for `spec.analysis.warmUp`; None without one."""
    time = parse_duration(canary.spec.analysis.warm_up)
    conditions = [c for pod in world.pods if workload.ready(pod) for c in pod["status"]["conditions"] if c["type"] == "Ready"]
    since = [datetime.fromisoformat(c["lastTransitionTime"]) for c in conditions if c.get("lastTransitionTime")]
    return max(since) + time if time and since else None


def observation(world: World, release: Release, verdict: Verdict | None, now: datetime) -> Observation:
    """What was read, as the machine wants it."""
    canary, own = world.canary, world.canary_deployment if world.ours(world.canary_deployment) else None
    fault, _ = judge_pods(world.pods, now.timestamp())
    mine = own is not None and (own["metadata"].get("annotations") or {}).get("serinus.dev/release") == release.metadata.name
    annotations = canary.metadata.annotations
    # The router had taken our weight, or has had its time, and a route that we wrote lacks the canary: somebody else wrote it.
    status = release.status
    written = status.step_since is not None or (status.stage_since is not None and now - status.stage_since > REVERT_WAIT)
    reverted = world.route.lacking and status.weight > 0 and written
    return Observation(
        target=workload.view(world.deployment, release),
        canary=CanaryView(
            replicas=workload.replicas(own) if own else 0,
            ready=carrying_pods(own, world.pods) if mine else 0,
            gone=not (world.own or world.pods),
            fault=fault if mine else None,
            problem=workload.problem(own),
        ),
        route=replace(world.route, reverted=reverted),
        commands=Commands(
            resume=annotations.get(RESUME_ANNOTATION, ""),
            abort=annotations.get(ABORT_ANNOTATION, ""),
            deleting=canary.metadata.deletion_timestamp is not None,
        ),
        verdict=verdict,
    )


def at_rest(world: World, last: Release | None) -> AtRest:
    """What was read, as the rest decision wants it."""
    deployment, canary = world.deployment, world.canary
    if deployment is None or deployment["metadata"].get("deletionTimestamp"):
        return AtRest(exists=False)
    template, serving = deployment["spec"]["template"], world.serving
    served = serving["spec"]["template"] if serving else template
    others = {world.names.canary: world.canary_deployment, world.names.service: world.canary_service}
    problems = workload.obstacles(canary, deployment, world.service, others)
    if world.route.problem:
        problems.append(("RouteNotFound" if world.route.missing else "RouteNotUsable", world.route.complaint))
    status = canary.status
    same_uid = not status.target_uid or status.target_uid == deployment["metadata"]["uid"]
    return AtRest(
        uid=deployment["metadata"]["uid"],
        generation=deployment["metadata"]["generation"],
        replicas=workload.replicas(deployment),
        paused=bool(deployment["spec"].get("paused")),
        labelled=(deployment["metadata"].get("labels") or {}).get(CANARY_LABEL) == short_name(canary.metadata.name),
        serving=same_uid and templates.same(template, served),
        rolled_out=workload.rolled_out(deployment),
        observed=workload.observed(deployment),
        restart_only=templates.restart_only(template, served),
        skip=templates.wants_skip(template),
        revision=templates.revision(template),
        serving_revision=templates.revision(served),
        last=_last(last),
        problems=tuple(problems),
    )


def _last(release: Release | None) -> LastRelease | None:
    if release is None or release.status.outcome is None:
        return None
    target = release.spec.target
    return LastRelease(
        release.metadata.name,
        release.spec.revision,
        release.status.outcome,
        target.uid,
        target.generation,
        release.spec.attempt,
    )


async def releases(kube: Kube, canary: Canary) -> list[Release]:
    """This Canary's, oldest first."""
    found = await kube.list(RELEASES, canary.metadata.namespace, Names.of(canary).selector)
    parsed = [Release.model_validate(item) for item in found]

    def age(release: Release) -> tuple[datetime, datetime]:
        """By the API server's clock, and within its second by ours: another process's may have been fast."""
        return release.metadata.creation_timestamp or release.spec.requested_at, release.spec.requested_at

    return sorted(parsed, key=age)

"""Making it so: the writes of one pass. Each compares first, so that repeating it changes nothing and costs no request."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime

from serinus.api.base import CANARY_LABEL, FINALIZER, PROMOTING_ANNOTATION, short_name
from serinus.api.canary import Canary
from serinus.api.release import AutoscalerRecord, Release
from serinus.controller.world import World
from serinus.kube import (
    AUTOSCALERS,
    BUDGETS,
    CANARIES,
    DEPLOYMENTS,
    REPLICA_SETS,
    SERVICES,
    AlreadyExists,
    Kind,
    Kube,
    NotFound,
    Object,
)
from serinus.rollout.machine import Desired
from serinus.rollout.rest import Hold
from serinus.workloads import deployment as workload
from serinus.workloads import template as templates

log = logging.getLogger("serinus.effects")


async def canary_objects(kube: Kube, world: World, release: Release, pods: int) -> None:
    """The canary's Service, budget and Deployment. Its pods are scaled; its template never changes."""
    deployment, names = world.deployment, world.names
    if deployment is None:
        return
    if world.full:
        await _companions(kube, world, release)
    own = world.canary_deployment
    if own is None:
        if world.full:
            body = workload.canary_deployment(names, deployment, release, world.label, pods)
            await _create(kube, DEPLOYMENTS, world.namespace, body)
    elif not world.ours(own):
        return  # the deadline ends it, and adoption says whose name it is
    elif (own["metadata"].get("annotations") or {}).get("serinus.dev/release") != release.metadata.name:
        await kube.delete(DEPLOYMENTS, world.namespace, names.canary, own["metadata"]["uid"])  # of a release before
    elif workload.replicas(own) != pods:
        await kube.merge(DEPLOYMENTS, world.namespace, names.canary, {"spec": {"replicas": pods}})


async def _companions(kube: Kube, world: World, release: Release) -> None:
    """What has to be there before the canary's first pod."""
    deployment, service, names = world.deployment, world.service, world.names
    if deployment is None or service is None:
        return
    labels = release.spec.template.get("metadata", {}).get("labels") or {}
    if not world.by_pods and world.canary_service is None:
        await _create(kube, SERVICES, world.namespace, workload.canary_service(names, service, world.label, labels))
    budget = workload.canary_budget(names, world.budgets, deployment, world.label)
    if budget and world.canary_budget is None:
        await _create(kube, BUDGETS, world.namespace, budget)
    for replica_set in workload.misleading_replica_sets(deployment, world.replica_sets, world.serving):
        metadata = replica_set["metadata"]
        await kube.delete(REPLICA_SETS, world.namespace, metadata["name"], metadata["uid"])


async def _create(kube: Kube, kind: Kind, namespace: str, body: Object) -> None:
    try:
        await kube.create(kind, namespace, body)
    except AlreadyExists:
        return


async def remove_canary(kube: Kube, world: World) -> None:
    """All that is ours, once no route names it."""
    await asyncio.gather(
        *(kube.delete(kind, world.namespace, thing["metadata"]["name"], thing["metadata"]["uid"]) for kind, thing in world.own)
    )


async def put_away(kube: Kube, world: World) -> bool:
    """What is left of a release whose record somebody deleted: traffic goes back first, a pass later the pods go.

    False when nothing is left. What may be the user's, or another Canary's, is left alone.
    """
    ours = world.own
    holder = ((world.deployment or {}).get("metadata", {}).get("labels") or {}).get(CANARY_LABEL)
    another = holder not in (None, "", short_name(world.canary.metadata.name))
    adopted = FINALIZER in world.canary.metadata.finalizers
    if len(ours) < len(world.companions) or (not ours and (another or not adopted)):
        return False
    if not world.route.restored:
        await world.router.restore([])
    elif ours:
        await remove_canary(kube, world)
    else:
        return False
    return True


async def target(kube: Kube, world: World, release: Release, desired: Desired, hold: Hold, now: datetime) -> None:
    """The user's Deployment: held or released, frozen or not, and what `kubectl rollout status` says of it."""
    deployment = world.deployment
    view = workload.view(deployment, release)
    if deployment is None or not view.exists:
        return
    if desired.undo and view.template == "held":
        if not desired.frozen:
            await thaw(kube, world)
        await put_back(kube, world, release.spec.serving_template)
        return
    change = _released(deployment, release, view.template, desired, hold)
    if change:
        change.setdefault("metadata", {})["resourceVersion"] = deployment["metadata"]["resourceVersion"]
        world.deployment = await kube.merge(DEPLOYMENTS, world.namespace, deployment["metadata"]["name"], change)
    elif desired.failure and view.template == "held" and (c := workload.failure_conditions(deployment, desired.failure, now)):
        await kube.patch(
            DEPLOYMENTS,
            world.namespace,
            deployment["metadata"]["name"],
            [
                {"op": "test", "path": "/metadata/resourceVersion", "value": deployment["metadata"]["resourceVersion"]},
                {"op": "add", "path": "/status/conditions", "value": c},
            ],
            "status",
        )


def _released(deployment: Object, release: Release, template: str, desired: Desired, hold: Hold) -> Object:
    """The merge patch that pauses or unpauses and freezes; {} when all is so already."""
    change: Object = {}
    paused = bool(deployment["spec"].get("paused"))
    putting_back = desired.undo and template == "serving"
    ours = putting_back or template == "held"
    let_go = putting_back or (desired.released and template == "held")
    if let_go and paused:
        change["spec"] = {"paused": None}
    elif not let_go and not paused and hold == "pause":
        change["spec"] = {"paused": True}
    frozen = (deployment["metadata"].get("annotations") or {}).get(PROMOTING_ANNOTATION)
    wanted = release.metadata.name if desired.frozen and ours else None
    if frozen != wanted:
        change["metadata"] = {"annotations": {PROMOTING_ANNOTATION: wanted}}
    return change


async def thaw(kube: Kube, world: World) -> None:
    """Template changes are accepted again, whatever else is refused or stands in the way."""
    metadata = (world.deployment or {}).get("metadata", {})
    ours = (metadata.get("labels") or {}).get(CANARY_LABEL) in (None, short_name(world.canary.metadata.name))
    if ours and PROMOTING_ANNOTATION in (metadata.get("annotations") or {}):
        change = {"metadata": {"annotations": {PROMOTING_ANNOTATION: None}, "resourceVersion": metadata["resourceVersion"]}}
        world.deployment = await kube.merge(DEPLOYMENTS, world.namespace, metadata["name"], change)


async def put_back(kube: Kube, world: World, template: Object) -> None:
    """The serving template, into the Deployment. The admission policy pauses it in the same write."""
    if world.deployment is None:
        return
    metadata = world.deployment["metadata"]
    operations = [
        {"op": "test", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]},
        {"op": "replace", "path": "/spec/template", "value": templates.plain(template)},
    ]
    world.deployment = await kube.patch(DEPLOYMENTS, world.namespace, metadata["name"], operations)


async def adopt(kube: Kube, world: World, pause: bool | None, label: bool) -> None:
    """At rest: the label and the pause, in one write."""
    deployment = world.deployment
    if deployment is None:
        return
    change: Object = {}
    if label:
        change["metadata"] = {"labels": {CANARY_LABEL: short_name(world.canary.metadata.name)}}
    if pause is not None and pause != bool(deployment["spec"].get("paused")):
        change["spec"] = {"paused": True if pause else None}
    if change:
        change.setdefault("metadata", {})["resourceVersion"] = deployment["metadata"]["resourceVersion"]
        world.deployment = await kube.merge(DEPLOYMENTS, world.namespace, deployment["metadata"]["name"], change)


async def let_go(kube: Kube, world: World) -> None:
    """After the Canary: no label, no freeze; paused only where an unjudged version is to stay held."""
    deployment, canary = world.deployment, world.canary
    if deployment is None:
        return
    label = (deployment["metadata"].get("labels") or {}).get(CANARY_LABEL)
    if label not in (None, short_name(canary.metadata.name)):
        return  # another Canary's
    serving = world.serving
    same = serving is None or templates.same(deployment["spec"]["template"], serving["spec"]["template"])
    if not same and serving and canary.spec.on_delete == "RestoreServing" and deployment["spec"].get("paused"):
        await put_back(kube, world, serving["spec"]["template"])
        same = True
    deployment = world.deployment or deployment
    change: Object = {
        "metadata": {
            "resourceVersion": deployment["metadata"]["resourceVersion"],
            "labels": {CANARY_LABEL: None},
            "annotations": {PROMOTING_ANNOTATION: None},
        }
    }
    if same:
        change["spec"] = {"paused": None}
    await kube.merge(DEPLOYMENTS, world.namespace, deployment["metadata"]["name"], change)


def floors(world: World, release: Release) -> list[AutoscalerRecord]:
    """The autoscalers of the Deployment, as they are now."""
    name = release.spec.target.name
    found = [
        hpa
        for hpa in world.autoscalers
        if hpa["spec"]["scaleTargetRef"].get("kind") == "Deployment" and hpa["spec"]["scaleTargetRef"].get("name") == name
    ]
    return [
        AutoscalerRecord(name=hpa["metadata"]["name"], min_replicas=hpa["spec"].get("minReplicas"), floor=_floor(release, hpa))
        for hpa in found[:8]
    ]


async def raise_floors(kube: Kube, world: World, release: Release) -> None:
    """While the canary has the traffic the serving pods look idle; a rollback must land on as many as there were."""
    for record in release.status.autoscalers:
        for hpa in world.autoscalers:
            floor = _allowed(record.floor, hpa)
            if hpa["metadata"]["name"] == record.name and (hpa["spec"].get("minReplicas") or 1) < floor:
                await kube.merge(AUTOSCALERS, world.namespace, record.name, {"spec": {"minReplicas": floor}})


def _floor(release: Release, hpa: Object) -> int:
    return _allowed(max(hpa["spec"].get("minReplicas") or 1, release.spec.target.replicas), hpa)


def _allowed(floor: int, hpa: Object) -> int:
    """Never above its maximum: the API server would not take that."""
    return min(floor, int(hpa["spec"]["maxReplicas"]))


async def give_back_floors(kube: Kube, world: World, release: Release) -> None:
    """As it was, unless somebody set another minimum meanwhile."""
    for record in release.status.autoscalers:
        for hpa in world.autoscalers:
            now = hpa["spec"].get("minReplicas")
            ours = now == _allowed(record.floor, hpa)
            if hpa["metadata"]["name"] == record.name and ours and now != record.min_replicas:
                await kube.merge(AUTOSCALERS, world.namespace, record.name, {"spec": {"minReplicas": record.min_replicas}})


async def hold_finalizer(kube: Kube, canary: Canary) -> None:
    """Nothing is touched before the finalizer that will put it back stands."""
    if FINALIZER not in canary.metadata.finalizers:
        canary.metadata.finalizers.append(FINALIZER)
        await _finalizers(kube, canary)


async def drop_finalizer(kube: Kube, canary: Canary) -> None:
    """The Canary may go."""
    if FINALIZER in canary.metadata.finalizers:
        canary.metadata.finalizers.remove(FINALIZER)
        try:
            await _finalizers(kube, canary)
        except NotFound:
            return


async def _finalizers(kube: Kube, canary: Canary) -> None:
    metadata = {"finalizers": canary.metadata.finalizers, "resourceVersion": canary.metadata.resource_version}
    changed = await kube.merge(CANARIES, canary.metadata.namespace, canary.metadata.name, {"metadata": metadata})
    canary.metadata.resource_version = changed["metadata"]["resourceVersion"]

"""The controllers that a release needs, beside tests/apiserver.py: Deployments, pods, garbage, and a Gateway.

Nothing happens by itself: `step` moves every one of them on by one.
"""

from __future__ import annotations

import hashlib
import json

from tests.apiserver import Server, merged

from serinus.kube import DEPLOYMENTS, PODS, REPLICA_SETS, ROUTES, SERVICES, Kind, Object
from serinus.workloads.template import HASH_LABEL, plain

WHO = "controllers"
#: The image of pods that never become ready.
STUCK = "web:stuck"
REVISION = "deployment.kubernetes.io/revision"


class Controllers:
    """All of them, for one API server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        #: What the proxies use: the rules of each route as the Gateway took them last.
        self.taken: dict[str, list[Object]] = {}
        self._still: list[str] = []

    def copy(self, server: Server) -> Controllers:
        """The same, for a copy of the server."""
        other = Controllers(server)
        other.taken = dict(self.taken)
        return other

    def step(self) -> None:
        """Every controller, once. Pods become ready, and go, one step after they were made or deleted."""
        before = self._seen()
        if before == self._still:
            return
        self._pods()
        self._garbage()
        for deployment in self._server.all(DEPLOYMENTS):
            self._roll(deployment)
        for kind in ROUTES.values():
            for route in self._server.all(kind):
                self._accept(kind, route)
        self._still = before if self._seen() == before else []

    def _seen(self) -> list[str]:
        """What any of them would notice a change by."""
        kinds = (DEPLOYMENTS, REPLICA_SETS, PODS, SERVICES, *ROUTES.values())
        return [thing["metadata"]["resourceVersion"] for key, (thing, _) in self._server.objects.items() if key[0] in kinds]

    def _pods(self) -> None:
        for pod in self._server.all(PODS):
            if "deletionTimestamp" in pod["metadata"]:
                self._server.delete(PODS, pod["metadata"]["namespace"], _name(pod), who=WHO)
            elif not ready(pod) and pod["spec"]["containers"][0]["image"] != STUCK:
                self._status(PODS, pod, {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]})

    def _garbage(self) -> None:
        """What an owner that is gone leaves behind."""
        for kind, owner in ((REPLICA_SETS, DEPLOYMENTS), (PODS, REPLICA_SETS)):
            there = {item["metadata"]["uid"] for item in self._server.all(owner)}
            for item in self._server.all(kind):
                if item["metadata"]["ownerReferences"][0]["uid"] not in there:
                    self._server.delete(kind, item["metadata"]["namespace"], item["metadata"]["name"], who=WHO)

    def _roll(self, deployment: Object) -> None:
        """The Deployment and ReplicaSet controllers: new pods first, the old ones go when all new ones are ready."""
        spec, wanted, paused = deployment["spec"], deployment["spec"]["replicas"], deployment["spec"].get("paused", False)
        own = sorted(self._owned(REPLICA_SETS, deployment), key=_revision)
        current = next((rs for rs in own if plain(rs["spec"]["template"]) == plain(spec["template"])), None)
        if not paused and (current is None or current is not own[-1]):
            self._renew(deployment, current, _revision(own[-1]) + 1 if own else 1)
            own = sorted(self._owned(REPLICA_SETS, deployment), key=_revision)
            current = own[-1]
        sizes = {_name(rs): rs["spec"]["replicas"] for rs in own}
        active = [name for name, size in sizes.items() if size] or [*sizes][-1:]
        if current is not None and not paused:
            enough = sum(ready(pod) for pod in self._owned(PODS, current)) >= wanted
            sizes = {name: 0 if enough else size for name, size in sizes.items()} | {_name(current): wanted}
        elif len(active) == 1:
            sizes[active[0]] = wanted
        pods = {_name(rs): self._fill(rs, sizes[_name(rs)]) for rs in own}
        total = [pod for each in pods.values() for pod in each]
        updated, good = len(pods[_name(current)]) if current else 0, sum(ready(pod) for pod in total)
        counts = {"replicas": len(total), "updatedReplicas": updated, "readyReplicas": good, "availableReplicas": good}
        known = deployment.get("status", {}).get("conditions") or []
        said = _progress(known, paused, updated == len(total) == wanted == good)
        generation = deployment["metadata"]["generation"]
        self._status(DEPLOYMENTS, deployment, {"observedGeneration": generation, **counts, "conditions": [said]})

    def _renew(self, deployment: Object, current: Object | None, revision: int) -> None:
        """The ReplicaSet of the Deployment's template becomes its newest."""
        metadata, template = deployment["metadata"], plain(deployment["spec"]["template"])
        digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:8]
        name, note = f"{metadata['name']}-{digest}", {"annotations": {REVISION: str(revision)}}
        if current is not None:
            self._server.change(REPLICA_SETS, metadata["namespace"], name, lambda old: merged(old, {"metadata": note}), WHO)
            return
        template["metadata"]["labels"][HASH_LABEL] = digest
        body = {"metadata": _child(deployment, name, template) | note, "spec": {"replicas": 0, "template": template}}
        self._server.create(REPLICA_SETS, metadata["namespace"], body, WHO)

    def _fill(self, replica_set: Object, size: int) -> list[Object]:
        """As many pods as asked for. Returns them."""
        pods, space, name = self._owned(PODS, replica_set), replica_set["metadata"]["namespace"], _name(replica_set)
        if replica_set["spec"]["replicas"] != size:
            scale = {"spec": {"replicas": size}}
            self._server.change(REPLICA_SETS, space, name, lambda old: merged(old, scale), WHO)
        for pod in pods[size:]:
            self._server.delete(PODS, space, _name(pod), who=WHO)
        free = (pod for i in range(99) if (PODS, space, pod := f"{name}-{i}") not in self._server.objects)
        for _ in range(size - len(pods)):
            template = replica_set["spec"]["template"]
            body = {"metadata": _child(replica_set, next(free), template), "spec": template["spec"]}
            self._server.create(PODS, space, body, WHO)
        left = self._owned(PODS, replica_set)
        good = sum(ready(pod) for pod in left)
        self._status(REPLICA_SETS, replica_set, {"replicas": len(left), "readyReplicas": good, "availableReplicas": good})
        return left

    def _owned(self, kind: Kind, owner: Object) -> list[Object]:
        uid = owner["metadata"]["uid"]
        found = [item for item in self._server.all(kind) if item["metadata"]["ownerReferences"][0]["uid"] == uid]
        return [item for item in found if "deletionTimestamp" not in item["metadata"]]

    def _accept(self, kind: Kind, route: Object) -> None:
        """The Gateway: takes the rules, and says so of this very generation."""
        rules = route["spec"]["rules"]
        services = {ref["name"] for rule in rules for ref in rule["backendRefs"]}
        there = services <= {_name(service) for service in self._server.all(SERVICES, route["metadata"]["namespace"])}
        generation = {"observedGeneration": route["metadata"]["generation"], "message": ""}
        accepted = {"type": "Accepted", "status": "True", "reason": "Accepted", **generation}
        reason = {"status": "True", "reason": "ResolvedRefs"} if there else {"status": "False", "reason": "BackendNotFound"}
        self.taken[_name(route)] = rules
        parent = {"controllerName": "gateway", "conditions": [accepted, {"type": "ResolvedRefs", **reason, **generation}]}
        self._status(kind, route, {"parents": [parent]}, "gateway")

    def _status(self, kind: Kind, thing: Object, status: Object, who: str = WHO) -> None:
        if thing.get("status") != status:
            space = thing["metadata"]["namespace"]
            self._server.change(kind, space, _name(thing), lambda old: {**old, "status": status}, who, "status")


def ready(pod: Object) -> bool:
    """It is sent requests."""
    conditions = pod.get("status", {}).get("conditions") or []
    return "deletionTimestamp" not in pod["metadata"] and {"type": "Ready", "status": "True"} in conditions


def _name(thing: Object) -> str:
    return str(thing["metadata"]["name"])


def _revision(replica_set: Object) -> int:
    return int(replica_set["metadata"]["annotations"][REVISION])


def _child(owner: Object, name: str, template: Object) -> Object:
    """Metadata of what a controller makes of a template."""
    return {"name": name, "labels": template["metadata"]["labels"], "ownerReferences": [{"uid": owner["metadata"]["uid"]}]}


def _progress(known: list[Object], paused: bool, complete: bool) -> Object:
    """A lack of progress that was reported is not overwritten by the pause (checkPausedConditions in kube-controller-manager)."""
    failed = next((c for c in known if c["type"] == "Progressing" and c["reason"] == "ProgressDeadlineExceeded"), None)
    if paused:
        return failed or {"type": "Progressing", "status": "Unknown", "reason": "DeploymentPaused"}
    return {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable" if complete else "ReplicaSetUpdated"}

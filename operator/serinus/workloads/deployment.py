"""Deployments, pure: reading the user's, and building the canary's objects beside it.

`Progressing=False` with reason ProgressDeadlineExceeded is what makes `kubectl rollout status` fail at once:
https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#failed-deployment
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from serinus.api.base import CANARY_LABEL, OWNED_LABEL, short_name
from serinus.api.canary import Canary
from serinus.api.release import Release
from serinus.kube import Object
from serinus.rollout.observation import TargetView
from serinus.workloads.template import canary_template, canary_value, same, telling_label

REVISION = "deployment.kubernetes.io/revision"
#: Seconds that a canary pod is ready before it counts. A gateway learns of a ready pod a moment after the API server does; weight
#: that is there before is answered with 503. Kubernetes counts whole seconds, so it is one at least.
KNOWN_AFTER = 2


@dataclass(frozen=True)
class Names:
    """What the canary's objects are called."""

    canary: str
    service: str
    owner: str

    @staticmethod
    def of(canary: Canary) -> Names:
        """For one Canary."""
        target, service = canary.spec.target_ref.name, canary.spec.service.name
        return Names(short_name(f"{target}-canary"), short_name(f"{service}-canary"), canary.metadata.name)

    @property
    def labels(self) -> dict[str, str]:
        """On everything we make."""
        return {OWNED_LABEL: short_name(self.owner)}

    @property
    def selector(self) -> str:
        """Selects it."""
        return f"{OWNED_LABEL}={short_name(self.owner)}"


def ready(pod: Object) -> bool:
    """Its readiness probes say so."""
    conditions = pod.get("status", {}).get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def serving(pod: Object) -> bool:
    """It may still be sent requests."""
    return ready(pod) and not pod["metadata"].get("deletionTimestamp")


def replicas(deployment: Object) -> int:
    """What is asked for."""
    asked = deployment["spec"].get("replicas")
    return 1 if asked is None else int(asked)


def observed(deployment: Object) -> bool:
    """Its status is about what it holds now."""
    generation: int = deployment["metadata"].get("generation", 0)
    return bool(deployment.get("status", {}).get("observedGeneration", 0) >= generation)


def rolled_out(deployment: Object) -> bool:
    """Every replica runs the template it holds and is available; none of an older one is left.

    As `kubectl rollout status` decides it, and not while paused on a template that has no ReplicaSet.
    """
    status, wanted = deployment.get("status", {}), replicas(deployment)
    return bool(
        observed(deployment)
        and status.get("updatedReplicas", 0) == wanted
        and status.get("replicas", 0) == wanted
        and status.get("availableReplicas", 0) == wanted
    )


def serving_replica_set(deployment: Object, replica_sets: list[Object], known: str) -> Object | None:
    """The ReplicaSet that serves.

    While it is held: the one remembered from when the Deployment was last rolled out. Else the one with most available
    pods; else, at zero replicas, the newest.
    """
    own = owned(deployment, replica_sets)
    filled = [rs for rs in own if rs["spec"].get("replicas")]
    for replica_set in filled or own:
        if deployment["spec"].get("paused") and replica_set["metadata"]["name"] == known:
            return replica_set
    return max(own, key=lambda rs: (rs.get("status", {}).get("availableReplicas", 0), _revision(rs)), default=None)


def owned(deployment: Object, replica_sets: list[Object]) -> list[Object]:
    """Those whose controller is this very Deployment."""
    uid = deployment["metadata"]["uid"]
    return [rs for rs in replica_sets if any(o.get("uid") == uid for o in rs["metadata"].get("ownerReferences") or [])]


def _revision(replica_set: Object) -> int:
    text = (replica_set["metadata"].get("annotations") or {}).get(REVISION, "0")
    return int(text) if text.isdigit() else 0


def misleading_replica_sets(deployment: Object, replica_sets: list[Object], serving: Object | None) -> list[Object]:
    """Empty ReplicaSets that a paused Deployment, scaled to 0 and back, would fill instead of the serving one.

    Those newer than the serving one, and those that equal the held template.
    """
    if serving is None:
        return []
    newest = _revision(serving)
    held = deployment["spec"]["template"]
    return [
        rs
        for rs in owned(deployment, replica_sets)
        if rs["metadata"]["name"] != serving["metadata"]["name"]
        and not rs["spec"].get("replicas")
        and not rs.get("status", {}).get("replicas")
        and (_revision(rs) > newest or same(rs["spec"]["template"], held))
    ]


def view(deployment: Object | None, release: Release) -> TargetView:
    """The Deployment as this release sees it."""
    if deployment is None or deployment["metadata"].get("deletionTimestamp"):
        return TargetView(exists=False, paused=False)
    if deployment["metadata"]["uid"] != release.spec.target.uid:
        return TargetView(exists=False, paused=False)
    template = deployment["spec"]["template"]
    which: Literal["held", "serving", "other"] = "other"
    if same(template, release.spec.template):
        which = "held"
    elif same(template, release.spec.serving_template):
        which = "serving"
    return TargetView(
        template=which,
        paused=bool(deployment["spec"].get("paused")),
        replicas=replicas(deployment),
        ready=int(deployment.get("status", {}).get("readyReplicas", 0)),
        rolled_out=rolled_out(deployment),
        problem=problem(deployment),
    )


def problem(deployment: Object | None) -> str:
    """What the Deployment controller complains of, e.g. a quota; '' if of nothing."""
    for condition in (deployment or {}).get("status", {}).get("conditions") or []:
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return str(condition.get("message", "pods cannot be created"))
    return ""


def canary_deployment(names: Names, deployment: Object, release: Release, label: str, pods: int) -> Object:
    """The new version's own Deployment.

    It has no ownerReference: a foreground delete of the Canary would collect it before the traffic is off it.
    """
    spec = deployment["spec"]
    template = canary_template(release.spec.template, label, names.owner)
    selector: Object = {
        "matchLabels": {
            **(spec["selector"].get("matchLabels") or {}),
            label: canary_value(label, release.spec.template.get("metadata", {}).get("labels", {})),
        }
    }
    if spec["selector"].get("matchExpressions"):
        selector["matchExpressions"] = [e for e in spec["selector"]["matchExpressions"] if e.get("key") != label]
    body: Object = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": names.canary,
            "labels": names.labels,
            "annotations": {"serinus.dev/release": release.metadata.name},
        },
        "spec": {
            "replicas": pods,
            "selector": selector,
            "template": template,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "100%", "maxUnavailable": 0}},
            "revisionHistoryLimit": 0,
        },
    }
    body["spec"]["minReadySeconds"] = max(KNOWN_AFTER, spec.get("minReadySeconds") or 0)
    return body


def canary_service(names: Names, service: Object, label: str, labels: dict[str, str]) -> Object:
    """The canary's Service: the user's ports and annotations, the canary's pods."""
    spec = service["spec"]
    ports = [{key: value for key, value in port.items() if key != "nodePort"} for port in spec.get("ports") or []]
    annotations = dict(service["metadata"].get("annotations") or {})
    annotations.pop("kubectl.kubernetes.io/last-applied-configuration", None)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": names.service, "labels": names.labels, "annotations": annotations},
        "spec": {"ports": ports, "selector": {**(spec.get("selector") or {}), label: canary_value(label, labels)}},
    }


def canary_budget(names: Names, budgets: list[Object], deployment: Object, label: str) -> Object | None:
    """As strict a PodDisruptionBudget as the user's own, if there is one for these pods."""
    labels = deployment["spec"]["template"].get("metadata", {}).get("labels") or {}
    for budget in budgets:
        match = (budget["spec"].get("selector") or {}).get("matchLabels") or {}
        if label in match and all(labels.get(key) == value for key, value in match.items()):
            limits = {key: budget["spec"][key] for key in ("minAvailable", "maxUnavailable") if key in budget["spec"]}
            selector = {"matchLabels": {**match, label: canary_value(label, labels)}}
            return {
                "apiVersion": "policy/v1",
                "kind": "PodDisruptionBudget",
                "metadata": {"name": names.canary, "labels": names.labels},
                "spec": {**limits, "selector": selector},
            }
    return None


def failure_conditions(deployment: Object, sentence: str, now: datetime) -> list[Object] | None:
    """The Deployment's conditions with ours among them; None when it stands there already."""
    moment = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    conditions = [dict(c) for c in deployment.get("status", {}).get("conditions") or []]
    ours = {
        "type": "Progressing",
        "status": "False",
        "reason": "ProgressDeadlineExceeded",
        "message": f"Serinus: {sentence}",
        "lastUpdateTime": moment,
        "lastTransitionTime": moment,
    }
    for condition in conditions:
        if condition["type"] == "Progressing" and condition.get("message") == ours["message"]:
            return None
    return [c for c in conditions if c["type"] != "Progressing"] + [ours]


def obstacles(canary: Canary, deployment: Object, service: Object | None, others: dict[str, Any]) -> list[tuple[str, str]]:
    """What must be mended before anything is touched: (reason, sentence). `others`: name -> an object of that name."""
    name, service_name = canary.spec.target_ref.name, canary.spec.service.name
    names, spec, found = Names.of(canary), deployment["spec"], []
    by_pods = canary.spec.traffic.pod_ratio is not None
    holder = (deployment["metadata"].get("labels") or {}).get(CANARY_LABEL)
    if holder and holder != short_name(canary.metadata.name):
        found.append(("Conflicted", f"Deployment {name} is delivered by Canary {holder}; one Deployment, one Canary"))
    if service is None:
        return [*found, ("ServiceNotFound", f"there is no Service {service_name}; create it, or mend spec.service.name")]
    if canary.spec.service.port not in [port.get("port") for port in service["spec"].get("ports") or []]:
        found.append(("PortNotFound", f"Service {service_name} has no port {canary.spec.service.port}; mend spec.service.port"))
    label = telling_label(service["spec"].get("selector") or {}, spec["selector"].get("matchLabels") or {}, by_pods)
    if label is None:
        sentence = "share no label, so that canary pods could not be told from serving ones; let both select by e.g. app"
        found.append(("NoSharedLabel", f"the selectors of Service {service_name} and Deployment {name} {sentence}"))
    if spec.get("revisionHistoryLimit") == 0:
        found.append(("NoHistory", f"Deployment {name} has revisionHistoryLimit 0: at 0 replicas its serving version is lost"))
    if (spec.get("strategy") or {}).get("type") == "Recreate":
        found.append(
            ("Recreate", f"Deployment {name} has strategy Recreate, which takes every pod down before the new ones start")
        )
    for taken, thing in others.items():
        if thing is not None and (thing["metadata"].get("labels") or {}).get(OWNED_LABEL) != short_name(names.owner):
            found.append(("NameTaken", f"{thing['kind']} {taken} exists and is not ours; rename or delete it"))
    return found

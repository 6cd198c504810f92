"""Pod templates, pure: comparing them, naming them, and making the canary's out of the user's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from serinus.api.base import OWNED_LABEL, ROLE_LABEL, SKIP_ANNOTATION, short_name
from serinus.kube import Object

HASH_LABEL = "pod-template-hash"
RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
#: Preferred for telling canary pods from serving ones, in this order, when several labels would do.
IDENTITY = ("app.kubernetes.io/name", "app", "app.kubernetes.io/instance", "k8s-app", "name")
#: Where commit and repository are looked for, on the pod template and then on the Deployment.
COMMIT = ("serinus.dev/commit", "org.opencontainers.image.revision", "app.kubernetes.io/commit", "git-commit", "commit")
REPOSITORY = ("serinus.dev/repository", "org.opencontainers.image.source", "app.kubernetes.io/repository", "repository")


def plain(template: Object) -> Object:
    """The template without what the Deployment controller adds to it in a ReplicaSet. A copy."""
    return deepcopy(_bare(template))


def _bare(template: Object) -> Object:
    """The same, sharing its parts with `template`: to look at."""
    if "metadata" not in template:
        return template
    metadata = {key: value for key, value in template["metadata"].items() if key != "creationTimestamp"}
    if "labels" in metadata:
        metadata["labels"] = {key: value for key, value in metadata["labels"].items() if key != HASH_LABEL}
    return {**template, "metadata": metadata}


def same(one: Object, other: Object) -> bool:
    """As the Deployment controller compares (EqualIgnoreHash): both were defaulted by the same API server on reading."""
    return _bare(one) == _bare(other)


def restart_only(one: Object, other: Object) -> bool:
    """They differ by `kubectl rollout restart` alone."""
    first, second = plain(one), plain(other)
    for template in (first, second):
        metadata = template.setdefault("metadata", {})
        annotations = metadata.get("annotations") or {}
        annotations.pop(RESTARTED_AT, None)
        metadata["annotations"] = annotations
    return first == second


def revision(template: Object) -> str:
    """Ten hexadecimal digits that stand for the template's content."""
    return hashlib.sha256(json.dumps(_bare(template), sort_keys=True).encode()).hexdigest()[:10]


def images(template: Object) -> list[str]:
    """The images of its containers, in order."""
    return [c.get("image", "")[:512] for c in template.get("spec", {}).get("containers", [])][:32]


def wants_skip(template: Object) -> bool:
    """The template asks to go out unjudged."""
    value = (template.get("metadata", {}).get("annotations") or {}).get(SKIP_ANNOTATION, "")
    return value not in ("", "false")


def fact(keys: tuple[str, ...], template: Object, deployment: Object, limit: int = 256) -> str:
    """The first of these annotations that is there."""
    for holder in (template.get("metadata", {}), deployment.get("metadata", {})):
        annotations = holder.get("annotations") or {}
        for key in keys:
            if annotations.get(key):
                return str(annotations[key])[:limit]
    return ""


Selector = dict[str, str]


def telling_label(service: Selector, match_labels: Selector, by_pods: bool, others: Sequence[Selector] = ()) -> str | None:
    """The label whose value is changed on canary pods; None where there is no such label.

    With a router it is one that the Service and the Deployment select by, so that the user's Service never reaches a
    canary pod by accident; of several, one that most of the `others` hold, the selectors of more Services of these pods.
    Without a router the canary must stay behind the Service: a label that only the Deployment selects by, or, where there
    is none, our own label beside them.
    """
    if by_pods:
        candidates = {key for key in match_labels if key not in service} or {ROLE_LABEL}
    else:
        candidates = {key for key, value in match_labels.items() if service.get(key) == value}
    ranked = [key for key in (*IDENTITY, *sorted(candidates)) if key in candidates]
    return max(ranked, key=lambda key: sum(key in other for other in others), default=None)


def canary_value(label: str, labels: dict[str, str]) -> str:
    """The changed value, within the 63 characters that a label's value may have."""
    return "canary" if label == ROLE_LABEL else short_name(f"{labels.get(label, '')}-canary")


def canary_template(template: Object, label: str, owner: str) -> Object:
    """The user's template, told apart by `label`; its selectors of itself follow."""
    copy = plain(template)
    labels: dict[str, str] = copy.setdefault("metadata", {}).setdefault("labels", {})
    old, new = labels.get(label), canary_value(label, labels)
    labels.update({label: new, ROLE_LABEL: "canary", OWNED_LABEL: short_name(owner)})
    _follow(copy.get("spec", {}).get("affinity"), label, old, new)
    _follow(copy.get("spec", {}).get("topologySpreadConstraints"), label, old, new)
    return copy


def _follow(node: Any, label: str, old: str | None, new: str) -> None:
    """Rewrites every labelSelector below `node` that means the pods themselves."""
    if isinstance(node, list):
        for item in node:
            _follow(item, label, old, new)
    elif isinstance(node, dict):
        selector = node.get("labelSelector") or {}
        if old is not None and (selector.get("matchLabels") or {}).get(label) == old:
            selector["matchLabels"][label] = new
        for expression in selector.get("matchExpressions") or []:
            if expression.get("key") == label and old in (expression.get("values") or []):
                expression["values"] = [new if value == old else value for value in expression["values"]]
        for value in node.values():
            _follow(value, label, old, new)

"""kopf's part: it watches, and each event wakes the Canaries it may concern. Events are hints; the loop reads for itself.

No handler here patches anything: kopf leaves no annotation and no finalizer of its own on users' objects.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import kopf

from serinus.api.base import OWNED_LABEL, short_name
from serinus.api.canary import Canary
from serinus.controller.queue import Key, Queue


class Index:
    """Which Canary an object belongs to, by the names in Canaries' specs."""

    def __init__(self) -> None:
        self._by: dict[tuple[str, str, str], set[Key]] = defaultdict(set)
        self._of: dict[Key, list[tuple[str, str, str]]] = {}

    def put(self, canary: Canary) -> Key:
        """Remembers what this Canary names."""
        key = Key(canary.metadata.namespace, canary.metadata.name)
        self.drop(key)
        space, spec = key.namespace, canary.spec
        places = [("deployments", space, spec.target_ref.name), ("owned", space, short_name(key.name))]
        if spec.traffic.gateway_api:
            places += [("httproutes", space, ref.name) for ref in spec.traffic.gateway_api.http_routes or []]
            places += [("grpcroutes", space, ref.name) for ref in spec.traffic.gateway_api.grpc_routes or []]
        for place in places:
            self._by[place].add(key)
        self._of[key] = places
        return key

    def drop(self, key: Key) -> None:
        """The Canary is gone."""
        for place in self._of.pop(key, []):
            self._by[place].discard(key)
            if not self._by[place]:
                del self._by[place]

    def find(self, plural: str, namespace: str, name: str, labels: dict[str, str]) -> set[Key]:
        """The Canaries that an object concerns."""
        found = set(self._by.get((plural, namespace, name), ()))
        if OWNED_LABEL in labels:
            found |= self._by.get(("owned", namespace, labels[OWNED_LABEL]), set())
        return found


def register(registry: kopf.OperatorRegistry, queue: Queue, index: Index) -> None:
    """Hangs the handlers into kopf's registry."""

    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    @kopf.on.event("serinus.dev", "v1alpha1", "canaries", registry=registry)
    async def canary(event: Any, body: kopf.Body, name: str, namespace: str | None, **_: Any) -> None:
        key = Key(namespace or "", name)
        if event["type"] == "DELETED":
            index.drop(key)
        else:
            index.put(Canary.model_validate(dict(body)))
        queue.wake(key)

    async def related(body: kopf.Body, resource: kopf.Resource, name: str, namespace: str | None, **_: Any) -> None:
        for key in index.find(resource.plural, namespace or "", name, dict(body.metadata.labels)):
            queue.wake(key)

    for group, plural in (
        ("apps", "deployments"),
        ("gateway.networking.k8s.io", "httproutes"),
        ("gateway.networking.k8s.io", "grpcroutes"),
    ):
        kopf.on.event(group, "v1", plural, id=f"wake-{plural}", registry=registry)(related)


def settings() -> kopf.OperatorSettings:
    """kopf, quiet and patient as a controller in the cluster should be."""
    chosen = kopf.OperatorSettings()
    chosen.posting.enabled = False  # our events are our own, with reasons
    chosen.persistence.finalizer = "serinus.dev/unused"
    chosen.networking.request_timeout = 30
    chosen.networking.connect_timeout = 5
    chosen.watching.connect_timeout = 10
    chosen.scanning.disabled = False
    return chosen

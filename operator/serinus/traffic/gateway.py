"""The Gateway API router: HTTPRoute and GRPCRoute, by the same code.

Source: https://gateway-api.sigs.k8s.io/reference/spec/ (v1). `backendRefs` is an atomic list: whoever writes one entry
owns them all in managedFields. So the managedFields from before the first write are kept in the Release and given back
at its end; without that, the user's next `kubectl apply --server-side` or `helm upgrade` would conflict.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Set
from contextlib import suppress
from typing import Any, Literal, TypeVar

from serinus.api.canary import GatewayAPI
from serinus.api.release import RouteRecord
from serinus.kube import FIELD_MANAGER, ROUTES, Conflict, Kube, Object
from serinus.rollout.observation import RouteView
from serinus.traffic.backends import (
    Pair,
    busy,
    has_canary,
    is_idle,
    names_service,
    operations,
    restored,
    shares,
    split,
    taken,
    user_weights,
)

RouteKind = Literal["HTTPRoute", "GRPCRoute"]
T = TypeVar("T")


class GatewayRouter:
    """Every route that the Canary names. A route that is gone carries no traffic and is skipped."""

    def __init__(self, kube: Kube, namespace: str, gateway: GatewayAPI, pair: Pair, records: list[RouteRecord]) -> None:
        self._kube, self._namespace, self._pair = kube, namespace, pair
        self._names: list[tuple[RouteKind, str]] = [("HTTPRoute", ref.name) for ref in gateway.http_routes or []]
        self._names += [("GRPCRoute", ref.name) for ref in gateway.grpc_routes or []]
        self._records: dict[tuple[RouteKind, str], RouteRecord] = {(record.kind, record.name): record for record in records}
        self._names += [key for key in self._records if key not in self._names]
        self._routes: dict[tuple[RouteKind, str], Object] = {}

    async def observe(self) -> RouteView:
        """One GET a route, all at once."""
        found = await asyncio.gather(*(self._kube.find(ROUTES[kind], self._namespace, name) for kind, name in self._names))
        self._routes = {key: route for key, route in zip(self._names, found, strict=True) if route is not None}
        if not self._routes:
            return RouteView(uniform=False, settled=False, problem="missing")
        parts = [share for route in self._routes.values() for share in shares(_rules(route), self._pair)]
        problems = [p for (kind, name), route in self._routes.items() if (p := problem(kind, name, route, self._pair))]
        idle = not problems and all(is_idle(_rules(route), self._pair) for route in self._routes.values())
        if idle:
            problems.append(
                f"Service {self._pair.service} has weight 0 in every rule of its routes: there is no traffic to share"
            )
        missing = [key[1] for key in self._names if key not in self._routes]
        weights = set(parts)
        having = [route for route in self._routes.values() if has_canary(_rules(route), self._pair)]
        return RouteView(
            weight=max((part or 0 for part in parts), default=0),
            uniform=len(weights) <= 1 and None not in weights,
            settled=all(settled(route) for route in self._routes.values()),
            accepted=all(settled(route, {"Accepted"}) for route in self._routes.values()),
            lacking=any(self._lacks(key) for key in self._routes),
            foreign=any(not (_is_ours(route) or is_idle(_rules(route), self._pair)) for route in having),
            generation=sum(int(route["metadata"].get("generation", 0)) for route in self._routes.values()),
            idle=idle,
            restored=not having,
            problem=problems[0] if problems else (f"route {missing[0]} does not exist" if missing else ""),
            busy=next((name for route in self._routes.values() if (name := busy(_rules(route), self._pair))), ""),
        )

    def _lacks(self, key: tuple[RouteKind, str]) -> bool:
        """Somebody wrote it since it was put on record, and it lacks the canary, though there is a place for it."""
        record, route = self._records.get(key), self._routes[key]
        rules = _rules(route)
        if record is None or has_canary(rules, self._pair) or busy(rules, self._pair) or not names_service(rules, self._pair):
            return False
        return _specs(route["metadata"].get("managedFields") or []) != _specs(record.managed_fields)

    @property
    def controllers(self) -> list[str]:
        """The names of the Gateway controllers that have taken the routes on."""
        parents = (p for route in self._routes.values() for p in route.get("status", {}).get("parents") or [])
        return sorted({parent.get("controllerName", "") for parent in parents})

    def capture(self, known: list[RouteRecord]) -> list[RouteRecord]:
        """Adds the routes that do not carry the canary yet, as they are now; keeps what is known of the others."""
        records = self._records = {(record.kind, record.name): record for record in known}
        for (kind, name), route in self._routes.items():
            rules = _rules(route)
            if not has_canary(rules, self._pair) and names_service(rules, self._pair) and not busy(rules, self._pair):
                records[kind, name] = RouteRecord.model_validate(
                    {
                        "kind": kind,
                        "name": name,
                        "weights": user_weights(_rules(route), self._pair),
                        "managedFields": route["metadata"].get("managedFields") or [],
                    }
                )
        return list(records.values())

    async def take(self, weight: int) -> bool:
        """Only where the canary has more: what is added or given elsewhere may be refused, and was not asked for."""
        return await self._write({key: taken(_rules(route), self._pair, weight) for key, route in self._routes.items()})

    async def write(self, weight: int) -> bool:
        """Where the canary is, or is to be."""
        wanted = {}
        for key, route in self._routes.items():
            rules = _rules(route)
            if has_canary(rules, self._pair) or not self._is_left_alone(key):
                wanted[key] = split(rules, self._pair, weight)
        return await self._write(wanted)

    async def _write(self, wanted: dict[tuple[RouteKind, str], list[dict[str, Any]]]) -> bool:
        """All routes at once: no one of them waits for another's answer."""
        patches = {}
        for key, rules in wanted.items():
            if patch := operations(_rules(self._routes[key]), rules):
                patches[key] = patch
        await _all(self._kube.patch(ROUTES[kind], self._namespace, name, patch) for (kind, name), patch in patches.items())
        return bool(patches)

    def _is_left_alone(self, key: tuple[RouteKind, str]) -> bool:
        """Without the canary it is not on record yet, or busy."""
        return key not in self._records or bool(busy(_rules(self._routes[key]), self._pair))

    async def restore(self, records: list[RouteRecord]) -> bool:
        """The rules first, then who owns them."""
        known = {(record.kind, record.name): record for record in records}
        return any(await _all(self._restore(key, known.get(key)) for key in self._routes))

    async def _restore(self, key: tuple[RouteKind, str], record: RouteRecord | None) -> bool:
        (kind, name), route = key, self._routes[key]
        before = _rules(route)
        patch = operations(before, restored(before, self._pair, record.weights if record else {}))
        if patch:
            route = await self._kube.patch(ROUTES[kind], self._namespace, name, patch)
        if record and (fields := owners(route, record)):
            version = {"op": "test", "path": "/metadata/resourceVersion", "value": route["metadata"]["resourceVersion"]}
            give_back = {"op": "replace", "path": "/metadata/managedFields", "value": fields}
            with suppress(Conflict):  # somebody wrote in between: theirs is the last word on who owns what
                await self._kube.patch(ROUTES[kind], self._namespace, name, [version, give_back])
        return bool(patch)


async def _all(several: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Their results, when all have ended: what one of them raises keeps no other from its end."""
    results = await asyncio.gather(*several, return_exceptions=True)
    found = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        found.append(result)
    return found


def _rules(route: Object) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = route.get("spec", {}).get("rules") or []
    return rules


def _specs(fields: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Who owns what beside the status."""
    return [entry for entry in fields if entry.get("subresource") != "status"]


def _is_ours(route: Object) -> bool:
    """What stands in the rules was written by us last: who changes a list of them takes it over, whole."""
    entries = (entry for entry in _specs(route["metadata"].get("managedFields") or []) if entry.get("manager") == FIELD_MANAGER)
    return any("f:rules" in entry.get("fieldsV1", {}).get("f:spec", {}) for entry in entries)


def settled(route: Object, wanted: Set[str] = frozenset({"Accepted", "ResolvedRefs"})) -> bool:
    """Every parent has accepted this very generation, with all its references resolved if that is among `wanted`."""
    generation = route["metadata"].get("generation", 0)
    parents = route.get("status", {}).get("parents") or []
    return bool(parents) and all(
        {c["type"] for c in parent.get("conditions", []) if c["status"] == "True" and c.get("observedGeneration") == generation}
        >= wanted
        for parent in parents
    )


def problem(kind: str, name: str, route: Object, pair: Pair) -> str:
    """Why this route cannot split the Service's traffic, or ''."""
    if not names_service(_rules(route), pair):
        return f"{kind} {name} has no backendRef to Service {pair.service} port {pair.port}"
    parents = route.get("status", {}).get("parents") or []
    if not parents:
        return f"{kind} {name} is accepted by no Gateway; is its parentRef right and a Gateway controller running?"
    for parent in parents:
        for condition in parent.get("conditions", []):
            current = condition.get("observedGeneration") == route["metadata"].get("generation", 0)
            if current and condition["type"] in ("Accepted", "ResolvedRefs") and condition["status"] == "False":
                return f"{kind} {name}: {condition['reason']}: {condition.get('message', '')}"
    return ""


def owners(route: Object, record: RouteRecord) -> list[dict[str, Any]] | None:
    """managedFields as before our first write; None when there is nothing to give back or somebody else wrote since."""
    now = route["metadata"].get("managedFields") or []
    if not any(entry.get("manager") == FIELD_MANAGER for entry in now):
        return None
    # An entry of ours is another Canary's, from its release in the same route: nobody is to be left with it.
    kept = (entry for entry in record.managed_fields if entry.get("manager") != FIELD_MANAGER)
    before = [entry for entry in kept if entry.get("subresource") != "status"]
    times = {(entry.get("manager"), entry.get("operation")): entry.get("time") for entry in before}
    statuses = [entry for entry in now if entry.get("subresource") == "status"]
    for entry in now:
        mine = entry.get("manager") == FIELD_MANAGER or entry.get("subresource") == "status"
        if not mine and times.get((entry.get("manager"), entry.get("operation"))) != entry.get("time"):
            return None
    return before + statuses

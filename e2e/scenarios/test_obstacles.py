"""What cannot be adopted is left alone, and the Canary says what to mend."""

from __future__ import annotations

from typing import Any

import pytest
from e2e import follow, kubectl, shop
from e2e.kubectl import Object

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

NAME = "checkout"


def complaint(space: str, name: str, reason: str) -> str:
    """The message of Ready=False with this reason."""

    def look() -> Object | None:
        found = follow.condition(kubectl.get("canary", name, space), "Ready")
        return found if found.get("status") == "False" and found.get("reason") == reason else None

    found: Object = kubectl.until(f"Ready is False, {reason}", look, timeout=20)
    return str(found["message"])


def test_what_is_missing_is_named_and_nothing_touched(space: str) -> None:
    canary = shop.canary(NAME, space, shop.steps("1s", 100))
    kubectl.apply(canary)
    assert f"there is no Deployment {NAME}" in complaint(space, NAME, "TargetNotFound")

    things = shop.deployment(NAME, space, replicas=1, MESSAGE="v1")
    del things["metadata"]["labels"]
    kubectl.apply(things)
    assert f"there is no Service {NAME}" in complaint(space, NAME, "ServiceNotFound")

    service: dict[str, Any] = shop.service(NAME, space)
    service["spec"]["ports"][0]["port"] = 81
    kubectl.apply(service)
    assert "has no port 80" in complaint(space, NAME, "PortNotFound")

    kubectl.run("delete", "service", NAME, "-n", space)
    kubectl.apply(shop.service(NAME, space))
    assert "route" in complaint(space, NAME, "RouteNotFound")

    stray = shop.route(NAME, space)
    stray["spec"]["rules"][0]["backendRefs"][0]["name"] = "another"
    kubectl.apply(stray)
    assert f"has no backendRef to Service {NAME} port 80" in complaint(space, NAME, "RouteNotUsable")
    deployment = kubectl.get("deployment", NAME, space) or {}
    assert "serinus.dev/canary" not in (deployment["metadata"].get("labels") or {}), "nothing was touched"

    kubectl.apply(shop.route(NAME, space))
    follow.phase(NAME, space, "Stable", timeout=30)
    deployment = kubectl.get("deployment", NAME, space) or {}
    assert deployment["metadata"]["labels"]["serinus.dev/canary"] == NAME


def test_second_canary_on_one_deployment_is_refused(space: str) -> None:
    follow.serve(space, replicas=1)
    kubectl.apply(shop.canary(NAME, space, shop.steps("1s", 100)))
    follow.phase(NAME, space, "Stable")
    second = shop.canary("second", space, shop.steps("1s", 100))
    for ref in (second["spec"]["targetRef"], second["spec"]["service"], second["spec"]["traffic"]["gatewayAPI"]["httpRoutes"][0]):
        ref["name"] = NAME
    kubectl.apply(second)
    assert f"delivered by Canary {NAME}" in complaint(space, "second", "Conflicted")
    assert follow.condition(kubectl.get("canary", "second", space), "Conflicted")["status"] == "True"
    kubectl.run("delete", "canary", "second", "-n", space, "--wait", "--timeout=30s")
    deployment = kubectl.get("deployment", NAME, space) or {}
    assert deployment["metadata"]["labels"]["serinus.dev/canary"] == NAME, "its deletion takes nothing from the first"

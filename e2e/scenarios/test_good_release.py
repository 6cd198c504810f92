"""A good version is promoted, nobody notices, and everything of the user's is as it was."""

from __future__ import annotations

from typing import Any

import pytest
from e2e import follow, install, kubectl, schemas, shop, sink
from e2e.kubectl import Object

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

NAME = "checkout"
ORDER = ("requested", "canaryReady", "firstExposed", "unpaused", "promoted", "zeroVerified", "ended")


def owners(thing: Object | None) -> list[Any]:
    """managedFields without the Gateway's own status entries, whose times move."""
    entries = (thing or {})["metadata"].get("managedFields") or []
    return [entry for entry in entries if entry.get("subresource") != "status"]


def autoscaler(space: str) -> Object:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": NAME}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": NAME, "namespace": space},
        "spec": {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 5},
    }


def budget(space: str) -> Object:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": NAME, "namespace": space},
        "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": NAME}}},
    }


def reasons(space: str, kind: str) -> set[str]:
    """Of the events on the object of this kind."""
    return {e["reason"] for e in kubectl.items("events", space) if e["involvedObject"]["kind"] == kind}


def test_good_release(space: str) -> None:
    follow.serve(space)
    kubectl.apply(autoscaler(space), budget(space))
    load = follow.Load(space, shop.host(NAME, space))
    load.start()
    before = follow.whole("httproute", NAME, space)
    kubectl.apply(shop.canary(NAME, space, shop.steps("3s", 10, 50, 100)))
    follow.phase(NAME, space, "Stable")

    said = follow.set_env(space, MESSAGE="v2")
    assert install.HOLD == "pause" or f"Serinus holds this version of {NAME}" in said, "whoever applies it is told at once"

    release = follow.reached(space, "v2", "Stepping")
    floored = kubectl.get("hpa", NAME, space) or {}
    assert floored["spec"]["minReplicas"] == 3, "a rollback lands on as many pods as there were"
    own = kubectl.get("pdb", f"{NAME}-canary", space) or {}
    assert own["spec"]["minAvailable"] == 2
    assert own["spec"]["selector"]["matchLabels"] == {"app": f"{NAME}-canary"}

    release = follow.ended(space, "v2")
    answers = load.stop()
    assert release["status"]["outcome"] == "Promoted", release["status"]
    assert answers.summary["failed"] == 0, answers.failures
    assert [step["weight"] for step in release["status"]["steps"]] == [10, 50, 100]
    moments = follow.times(release)
    assert [*sorted(ORDER, key=lambda name: moments[name])] == [*ORDER], moments
    assert answers.first["v2"] >= moments["firstExposed"], "no traffic before it is on record"
    last = answers.within(moments["zeroVerified"] + 1, moments["ended"])
    assert set(last) <= {"v2 200"}, "the old version is gone"
    assert release["status"]["exposure"]["requests"] > 0

    deployment = kubectl.get("deployment", NAME, space) or {}
    follow.unheld(space)
    assert deployment["status"]["updatedReplicas"] == deployment["status"]["availableReplicas"] == 3
    assert "serinus.dev/promoting" not in (deployment["metadata"].get("annotations") or {})
    for kind in ("deployment", "service", "pdb"):
        assert kubectl.get(kind, f"{NAME}-canary", space) is None, kind
    after = follow.whole("httproute", NAME, space)
    assert after["spec"] == before["spec"]
    assert owners(after) == owners(before), "the user's next apply conflicts with nobody"
    assert (kubectl.get("hpa", NAME, space) or {})["spec"]["minReplicas"] == 1, "the floor is given back"
    assert (kubectl.get("pdb", NAME, space) or {})["spec"] == budget(space)["spec"]
    follow.phase(NAME, space, "Stable")

    for kind in ("Canary", "Deployment"):
        assert reasons(space, kind) >= {"NewVersion", "StepReached", "Promoting", "Promoted"}, kind
    expected = ["service.deployed", "service.upgraded"]
    kubectl.until("both events arrive", lambda: sink.kinds(space) == expected, timeout=20)
    schemas.validate([entry["event"] for entry in sink.received(space)])


def test_the_users_own_tools_work_after_a_release(space: str) -> None:
    """Server-side apply of the route and of the Deployment, by the manager that made them."""
    things = (shop.deployment(NAME, space, 2, MESSAGE="v1", DRAIN="0s"), shop.service(NAME, space), shop.route(NAME, space))
    kubectl.apply(*things, server_side=True)
    kubectl.run("rollout", "status", f"deployment/{NAME}", "-n", space, "--timeout=60s")
    kubectl.apply(shop.canary(NAME, space, shop.steps("1s", 50, 100), metrics=[], metricsDelay="1s"))
    follow.phase(NAME, space, "Stable")
    for version in ("v2", "v3"):
        kubectl.apply(shop.deployment(NAME, space, 2, MESSAGE=version, DRAIN="0s"), *things[1:], server_side=True)
        assert follow.ended(space, version)["status"]["outcome"] == "Promoted"
        follow.phase(NAME, space, "Stable")

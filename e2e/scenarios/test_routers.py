"""Other ways to split traffic: none but the pods themselves, gRPC, and one route that two Services share."""

from __future__ import annotations

import pytest
from e2e import follow, kubectl, shop
from e2e.kubectl import Object

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

NAME = "checkout"


def test_without_a_router(space: str) -> None:
    follow.serve(space)
    load = follow.Load(space, shop.host(NAME, space), rate=50, duration=200)
    load.start()
    canary = shop.canary(NAME, space, shop.steps("2s", 25, 50), metrics=[])
    canary["spec"]["traffic"] = {"podRatio": {}}
    kubectl.apply(canary)
    follow.phase(NAME, space, "Stable")
    follow.set_env(space, MESSAGE="v2")
    release = follow.ended(space, "v2")
    assert release["status"]["outcome"] == "Promoted", release["status"]
    follow.phase(NAME, space, "Stable")

    follow.set_env(space, MESSAGE="v3", CRASH="1")
    release = follow.ended(space, "v3")
    assert release["status"]["outcome"] == "RolledBack", release["status"]
    assert release["status"]["reason"] == "CrashLoop"
    answers = load.stop()
    assert answers.summary["failed"] == 0, answers.failures
    assert set(answers.summary["n"]) == {"v1 200", "v2 200"}


def weights(thing: Object | None) -> list[tuple[str, int]]:
    return [(ref["name"], ref.get("weight", 1)) for ref in (thing or {})["spec"]["rules"][0]["backendRefs"]]


def test_grpc_route(space: str) -> None:
    kubectl.apply(shop.deployment(NAME, space, 1, MESSAGE="v1"), shop.service(NAME, space))
    route = shop.route(NAME, space) | {"kind": "GRPCRoute"}
    kubectl.apply(route)
    kubectl.run("rollout", "status", f"deployment/{NAME}", "-n", space, "--timeout=60s")
    canary = shop.canary(NAME, space, [{"weight": 30, "duration": "1s"}, {"pause": {}}], metrics=[])
    canary["spec"]["traffic"] = {"gatewayAPI": {"grpcRoutes": [{"name": NAME}]}}
    kubectl.apply(canary)
    follow.phase(NAME, space, "Stable")
    before = kubectl.get("grpcroute", NAME, space) or {}
    follow.set_env(space, MESSAGE="v2")
    release = follow.reached(space, "v2", "Paused")
    assert weights(kubectl.get("grpcroute", NAME, space)) == [(NAME, 70), (f"{NAME}-canary", 30)]
    kubectl.run("annotate", "canary", NAME, "-n", space, f"serinus.dev/resume={release['metadata']['name']}/1")
    assert follow.ended(space, "v2")["status"]["outcome"] == "Promoted"
    assert (kubectl.get("grpcroute", NAME, space) or {})["spec"] == before["spec"]


def test_two_canaries_share_one_route(space: str) -> None:
    """One goes out while the other goes back, in the same backendRefs."""
    pair = ("cart", "stock")
    for name in pair:
        kubectl.apply(shop.deployment(name, space, 1, MESSAGE="v1"), shop.service(name, space))
    route = shop.route("both", space)
    route["spec"]["rules"] = [{"backendRefs": [{"name": "cart", "port": 80, "weight": 3}, {"name": "stock", "port": 80}]}]
    kubectl.apply(route)
    load = follow.Load(space, shop.host("both", space), rate=50)
    load.start()
    before = (kubectl.get("httproute", "both", space) or {})["spec"]
    for name in pair:
        kubectl.run("rollout", "status", f"deployment/{name}", "-n", space, "--timeout=60s")
        canary = shop.canary(name, space, [{"weight": 50, "duration": "1s"}, {"pause": {}}], metrics=[])
        canary["spec"]["traffic"]["gatewayAPI"]["httpRoutes"][0]["name"] = "both"
        kubectl.apply(canary)
        follow.phase(name, space, "Stable")
    for name in pair:
        follow.set_env(space, name, MESSAGE=f"{name}-v2")
    found = {name: follow.reached(space, f"{name}-v2", "Paused") for name in pair}
    shares = dict(weights(kubectl.get("httproute", "both", space)))
    assert shares["cart"] == shares["cart-canary"] == 3 * shares["stock"] == 3 * shares["stock-canary"], shares

    name = found["cart"]["metadata"]["name"]
    kubectl.run("annotate", "canary", "cart", "-n", space, f"serinus.dev/resume={name}/1")
    name = found["stock"]["metadata"]["name"]
    kubectl.run("annotate", "canary", "stock", "-n", space, f"serinus.dev/abort={name}")
    assert follow.ended(space, "cart-v2")["status"]["outcome"] == "Promoted"
    assert follow.ended(space, "stock-v2")["status"]["outcome"] == "Aborted"
    after = (kubectl.get("httproute", "both", space) or {})["spec"]
    assert after == before
    answers = load.stop()
    assert answers.summary["failed"] == 0, answers.failures

"""Other ways to split traffic: none but the pods themselves, gRPC, and one route that two Services share."""

from __future__ import annotations

import json

import pytest
from e2e import follow, kubectl, shop
from e2e.kubectl import Object

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

NAME, PAIR = "checkout", ("cart", "stock")


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


def weights(thing: Object | None, rule: int = 0) -> list[tuple[str, int]]:
    return [(ref["name"], ref.get("weight", 1)) for ref in (thing or {})["spec"]["rules"][rule]["backendRefs"]]


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


def pair_of_services(space: str, rules: list[Object], steps: list[Object]) -> Object:
    """cart and stock, each with a Canary, behind one route; its spec."""
    for name in PAIR:
        kubectl.apply(shop.deployment(name, space, 1, MESSAGE="v1"), shop.service(name, space))
    route = shop.route("both", space)
    route["spec"]["rules"] = rules
    kubectl.apply(route)
    for name in PAIR:
        kubectl.run("rollout", "status", f"deployment/{name}", "-n", space, "--timeout=60s")
        canary = shop.canary(name, space, steps, metrics=[])
        canary["spec"]["traffic"]["gatewayAPI"]["httpRoutes"][0]["name"] = "both"
        kubectl.apply(canary)
        follow.phase(name, space, "Stable")
    return (kubectl.get("httproute", "both", space) or {})["spec"]


def annotate(space: str, name: str, verb: str, value: str) -> None:
    kubectl.run("annotate", "canary", name, "-n", space, f"serinus.dev/{verb}={value}")


def test_two_canaries_side_by_side_in_one_route(space: str) -> None:
    """One goes out while the other goes back."""
    path = [{"path": {"type": "PathPrefix", "value": "/stock"}}]
    rules = [{"matches": path, "backendRefs": [{"name": "stock", "port": 80}]}, {"backendRefs": [{"name": "cart", "port": 80}]}]
    before = pair_of_services(space, rules, [{"weight": 50, "duration": "1s"}, {"pause": {}}])
    load = follow.Load(space, shop.host("both", space), rate=50)
    load.start()
    for name in PAIR:
        follow.set_env(space, name, MESSAGE=f"{name}-v2")
    found = {name: follow.reached(space, f"{name}-v2", "Paused")["metadata"]["name"] for name in PAIR}
    live = kubectl.get("httproute", "both", space)
    assert weights(live, 0) == [("stock", 50), ("stock-canary", 50)]
    assert weights(live, 1) == [("cart", 50), ("cart-canary", 50)]
    annotate(space, "cart", "resume", f"{found['cart']}/1")
    annotate(space, "stock", "abort", found["stock"])
    assert follow.ended(space, "cart-v2")["status"]["outcome"] == "Promoted"
    assert follow.ended(space, "stock-v2")["status"]["outcome"] == "Aborted"
    after = follow.whole("httproute", "both", space)
    assert after["spec"] == before
    assert "serinus" not in {entry["manager"] for entry in after["metadata"]["managedFields"]}
    answers = load.stop()
    assert answers.summary["failed"] == 0, answers.failures


def test_two_canaries_in_one_rule_take_turns(space: str) -> None:
    rules = [{"backendRefs": [{"name": "cart", "port": 80, "weight": 3}, {"name": "stock", "port": 80}]}]
    before = pair_of_services(space, rules, shop.steps("2s", 50))
    load = follow.Load(space, shop.host("both", space), rate=50)
    load.start()
    for name in PAIR:
        follow.set_env(space, name, MESSAGE=f"{name}-v2")
    found = [follow.ended(space, f"{name}-v2") for name in PAIR]
    assert [release["status"]["outcome"] for release in found] == ["Promoted", "Promoted"]
    first, second = sorted((follow.times(release) for release in found), key=lambda moments: moments["firstExposed"])
    assert second["firstExposed"] > first["zeroVerified"]
    assert (kubectl.get("httproute", "both", space) or {})["spec"] == before
    answers = load.stop()
    assert answers.summary["failed"] == 0, answers.failures


def test_route_put_back_by_a_gitops_tool(space: str) -> None:
    """Traffic is safe at once, it is said, and after a while the release goes on; that it gives up after a few: test_machine."""
    follow.serve(space, replicas=1)
    load = follow.Load(space, shop.host(NAME, space), rate=50)
    load.start()
    kubectl.apply(shop.canary(NAME, space, shop.steps("2s", 50, 100), metrics=[]))
    follow.phase(NAME, space, "Stable")
    follow.set_env(space, MESSAGE="v2")
    follow.taken(space, "v2", 50)
    kubectl.run("replace", "--filename=-", stdin=json.dumps(shop.route(NAME, space)))
    follow.says(space, "Conflicted", "True", "RouteReverted")
    follow.told(space, "RouteReverted")
    assert weights(kubectl.get("httproute", NAME, space)) == [(NAME, 1)], "not fought over"
    assert follow.ended(space, "v2")["status"]["outcome"] == "Promoted"
    assert weights(kubectl.get("httproute", NAME, space)) == [(NAME, 1)]
    answers = load.stop()
    assert answers.summary["failed"] == 0, answers.failures


def test_one_of_two_rules_put_back_again_and_again(space: str) -> None:
    """Worked in a few times, then told and left alone; when the tool has given up, the release goes on."""
    follow.serve(space, replicas=1)
    refs = {"backendRefs": [{"name": NAME, "port": 80}]}
    route = shop.route(NAME, space)
    route["spec"]["rules"] = [{"matches": [{"path": {"type": "PathPrefix", "value": "/api"}}], **refs}, refs]
    kubectl.apply(route)
    kubectl.apply(shop.canary(NAME, space, [*shop.steps("2s", 50), {"pause": {}}], metrics=[]))
    follow.phase(NAME, space, "Stable")
    before = (kubectl.get("httproute", NAME, space) or {})["spec"]
    follow.set_env(space, MESSAGE="v2")
    release = follow.reached(space, "v2", "Paused")
    patch = json.dumps([{"op": "replace", "path": "/spec/rules/1/backendRefs", "value": refs["backendRefs"]}])
    put_back = []

    def tool() -> bool:
        if len(weights(kubectl.get("httproute", NAME, space), 1)) > 1:
            put_back.append(kubectl.run("patch", "httproute", NAME, "-n", space, "--type=json", "--patch", patch))
        return len(put_back) > 20 or weights(kubectl.get("httproute", NAME, space)) == [(NAME, 1)]

    kubectl.until("the route is left alone", tool)
    follow.says(space, "Conflicted", "True", "RouteReverted")
    assert 2 <= len(put_back) <= 20
    kubectl.run("annotate", "canary", NAME, "-n", space, f"serinus.dev/resume={release['metadata']['name']}/1")
    assert follow.ended(space, "v2")["status"]["outcome"] == "Promoted"
    assert (kubectl.get("httproute", NAME, space) or {})["spec"] == before

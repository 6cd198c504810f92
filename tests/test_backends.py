"""backendRefs: the canary in, its share, and out again, whatever else stands in the route."""

from __future__ import annotations

import asyncio
from copy import deepcopy
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serinus.api.canary import GatewayAPI
from serinus.api.release import RouteRecord
from serinus.traffic.backends import Pair, has_canary, names_service, operations, restored, shares, split, user_weights
from serinus.traffic.gateway import GatewayRouter, owners, settled

PAIR = Pair("web", "web-canary", 80, "shop")


def ref(name: str, **more: Any) -> dict[str, Any]:
    return {"group": "", "kind": "Service", "name": name, "port": 80, **more}


def apply(rules: list[Any], patch: list[Any]) -> list[Any]:
    """What the API server does with our patch, tests included."""
    document = {"spec": {"rules": deepcopy(rules)}}
    for operation in patch:
        *path, last = [int(p) if p.isdigit() else p for p in operation["path"].strip("/").split("/")]
        place: Any = document
        for part in path:
            place = place[part]
        if operation["op"] == "test":
            assert place[last] == operation["value"]
        else:
            place[last] = operation["value"]
    return document["spec"]["rules"]


def test_the_canary_stands_beside_the_service_and_nothing_else_moves() -> None:
    rules = [
        {"matches": [{"path": {"value": "/api"}}], "filters": [{"type": "X"}], "backendRefs": [ref("other", weight=1)]},
        {"backendRefs": [ref("web", weight=1, filters=[{"type": "Y"}])]},
    ]
    after = split(rules, PAIR, 10)
    assert after[0] == rules[0]
    assert after[1]["backendRefs"] == [
        ref("web", weight=90, filters=[{"type": "Y"}]),
        ref("web-canary", weight=10, filters=[{"type": "Y"}]),
    ]
    assert shares(after, PAIR) == [10]


def test_other_backends_keep_their_share() -> None:
    rules = [{"backendRefs": [ref("old", weight=3), ref("web", weight=1)]}]
    weights = [r["weight"] for r in split(rules, PAIR, 25)[0]["backendRefs"]]
    assert weights == [300, 75, 25]


def test_a_weight_that_changes_is_tested_by_name_only() -> None:
    rules = split([{"backendRefs": [ref("web", weight=1)]}], PAIR, 10)
    patch = operations(rules, split(rules, PAIR, 0))
    assert {o["path"] for o in patch if o["op"] == "test"} == {
        "/spec/rules/0/backendRefs/0/name",
        "/spec/rules/0/backendRefs/1/name",
    }


def test_nothing_to_change_is_no_request() -> None:
    rules = split([{"backendRefs": [ref("web", weight=1)]}], PAIR, 10)
    assert operations(rules, split(rules, PAIR, 10)) == []


def test_the_same_name_elsewhere_is_not_ours() -> None:
    for other in (ref("web", namespace="else"), ref("web", kind="Import", group="x"), ref("web", port=81)):
        other = {**other}
        assert shares([{"backendRefs": [other]}], PAIR) == []


refs = st.builds(
    lambda name, weight: ref(name, **({} if weight is None else {"weight": weight})),
    st.sampled_from(["web", "old", "third"]),
    st.one_of(st.none(), st.integers(0, 1000)),
)


@given(st.lists(st.builds(lambda r: {"backendRefs": r}, st.lists(refs, max_size=4)), max_size=4), st.lists(st.integers(0, 100)))
def test_whatever_the_route_it_comes_back_as_it_was(rules: list[Any], weights: list[int]) -> None:
    known = user_weights(rules, PAIR)
    now = deepcopy(rules)
    for weight in weights:
        now = apply(now, operations(now, split(now, PAIR, weight)))
        assert all(share == weight for share in shares(now, PAIR))
    after = apply(now, operations(now, restored(now, PAIR, known)))
    assert after == rules
    assert not has_canary(after, PAIR)


def edited(*refs: dict[str, Any]) -> list[Any]:
    """A rule in mid-release, at 50 %."""
    return split([{"backendRefs": list(refs)}], PAIR, 50)


def test_a_rule_that_is_inserted_in_mid_release_moves_no_weight_of_the_others() -> None:
    given = [ref("web", weight=9), ref("old", weight=1)]
    known = user_weights([{"backendRefs": given}], PAIR)
    health = {"backendRefs": [ref("health")]}
    rules = [health, *edited(*given)]
    for weight in (50, 50, 100):
        rules = split(rules, PAIR, weight)
    assert [r["weight"] for r in rules[1]["backendRefs"]] == [0, 900, 100]
    assert restored(rules, PAIR, known) == [health, {"backendRefs": given}]


def test_a_weight_that_the_user_edits_in_mid_release_is_his() -> None:
    rules = edited(ref("web", weight=9), ref("old", weight=1))
    rules[0]["backendRefs"][2]["weight"] = 300
    rules = split(rules, PAIR, 10)
    assert [r["weight"] for r in rules[0]["backendRefs"]] == [810, 90, 300]
    assert [r["weight"] for r in restored(rules, PAIR, {"0/0": 9, "0/1": 1})[0]["backendRefs"]] == [9, 3]


def parts(rules: list[Any]) -> dict[str, Fraction]:
    """Of the first rule's traffic, what each backend has; the canary's is the Service's."""
    found: dict[str, Fraction] = {}
    for each in rules[0]["backendRefs"]:
        name = "web" if each["name"] == "web-canary" else each["name"]
        part = Fraction(each.get("weight", 1), sum(r.get("weight", 1) for r in rules[0]["backendRefs"]))
        found[name] = found.get(name, Fraction()) + part
    return found


@pytest.mark.parametrize(
    "weights",
    [(95, 5, 10), (95, 5, 33), (0, 5, 300), (95, 5, 0)],
    ids=["added", "edited to a third", "the Service is drained", "the other is drained"],
)
def test_a_weight_that_is_no_multiple_of_a_hundred_keeps_its_share_too(weights: tuple[int, int, int]) -> None:
    names = ("web", "web-canary", "old")
    rules = [{"backendRefs": [ref(name, weight=weight) for name, weight in zip(names, weights, strict=True)]}]
    for now in (split(rules, PAIR, 5), split(split(rules, PAIR, 5), PAIR, 50), restored(rules, PAIR, {"0/0": -1})):
        assert parts(now) == parts(rules)


@given(st.lists(st.integers(0, 1_000_000), min_size=2, max_size=4), st.integers(0, 100))
def test_weights_stay_within_what_gateway_api_allows(weights: list[int], share: int) -> None:
    rules = [{"backendRefs": [ref(f"old{n}" if n else "web", weight=weight) for n, weight in enumerate(weights)]}]
    now = split(rules, PAIR, share)
    assert max(r["weight"] for r in now[0]["backendRefs"]) <= 1_000_000
    assert shares(now, PAIR) == ([share] if weights[0] else [])
    assert split(now, PAIR, share) == now
    assert restored(now, PAIR, user_weights(rules, PAIR)) == rules


def test_where_the_users_service_was_taken_out_of_the_rule_ours_can_be_taken_to_0() -> None:
    rules = [{"backendRefs": [ref("renamed", weight=95), ref("web-canary", weight=5)]}]
    assert shares(rules, PAIR) == [5]
    assert shares(split(rules, PAIR, 0), PAIR) == []


def test_where_nothing_but_ours_is_left_in_the_rule_it_can_be_taken_to_0_and_out() -> None:
    rules = [{"backendRefs": [ref("web-canary", weight=50)]}, {"backendRefs": [ref("web", weight=1)]}]
    assert 100 in shares(rules, PAIR)
    assert shares(split(rules, PAIR, 0), PAIR) == [0, 0]
    back = restored(rules, PAIR, {"0/0": 1})
    assert [each["name"] for each in back[0]["backendRefs"]] == ["web"]
    assert back[1] == rules[1]


@pytest.mark.parametrize("share", [0, 50, 90, 100])
def test_what_ours_has_stays_the_services_though_another_is_put_between(share: int) -> None:
    service, ours, old = split([{"backendRefs": [ref("web", weight=1), ref("old", weight=1)]}], PAIR, share)[0]["backendRefs"]
    moved = [{"backendRefs": [service, ref("new", weight=100), ours, old]}]
    assert parts(split(moved, PAIR, 0)) == parts(moved)
    assert parts(restored(moved, PAIR, {"0/0": 1, "0/1": 1})) == parts(moved)


@pytest.mark.parametrize("names", [("web-canary", "web"), ("renamed", "web-canary")], ids=["swapped", "renamed"])
@pytest.mark.parametrize("share", [50, 100])
def test_no_rule_is_left_without_traffic(names: tuple[str, str], share: int) -> None:
    weights = {"web-canary": share}
    rules = [{"backendRefs": [ref(name, weight=weights.get(name, 100 - share)) for name in names]}]
    for now in (split(rules, PAIR, 0), restored(rules, PAIR, {"0/0": 1})):
        assert sum(each.get("weight", 1) for each in now[0]["backendRefs"]) > 0


def test_a_weight_that_is_raised_to_the_highest_can_still_be_taken_back() -> None:
    rules = split([{"backendRefs": [ref("web", weight=1_000_000), ref("old", weight=1_000_000)]}], PAIR, 10)
    rules[0]["backendRefs"][0]["weight"] = 1_000_000
    for now in (split(rules, PAIR, 0), restored(rules, PAIR, {"0/0": 1})):
        assert max(each["weight"] for each in now[0]["backendRefs"]) <= 1_000_000


@given(
    st.lists(st.tuples(st.sampled_from(["web", "web-canary", "old"]), st.integers(0, 1_000_000)), max_size=4),
    st.integers(0, 100),
    st.dictionaries(st.sampled_from(["0/0", "0/1", "0/2"]), st.integers(-1, 1_000_000)),
)
def test_whatever_somebody_made_of_the_rule_traffic_can_be_taken_back_and_ours_be_taken_out(
    refs: list[tuple[str, int]], weight: int, known: dict[str, int]
) -> None:
    rules = [{"backendRefs": [ref(name, weight=given) for name, given in refs]}]
    for now in (rules, split(rules, PAIR, weight)):
        assert not any(shares(split(now, PAIR, 0), PAIR))
        after = restored(now, PAIR, known)
        assert not has_canary(after, PAIR)
        assert all(0 <= each.get("weight", 1) <= 1_000_000 for each in after[0]["backendRefs"])


class Routes:
    """An API server that has these routes, by their names; `fields` are the managedFields of them all."""

    def __init__(self, rules: dict[str, list[Any]], fields: list[Any] | None = None) -> None:
        metadata = {"generation": 1, "managedFields": fields or []}
        self.routes = {name: {"metadata": {**metadata, "name": name}, "spec": {"rules": some}} for name, some in rules.items()}
        self.written: set[str] = set()

    async def find(self, kind: Any, namespace: str, name: str) -> Any:
        return self.routes[name]

    async def patch(self, kind: Any, namespace: str, name: str, operations: list[Any]) -> None:
        self.written |= {f"{name}{operation['path']}" for operation in operations if operation["op"] != "test"}

    async def taken(self, records: list[RouteRecord]) -> set[str]:
        """What a router writes to take all traffic back."""
        named = GatewayAPI.model_validate({"httpRoutes": [{"name": name} for name in self.routes]})
        router = GatewayRouter(self, "shop", named, PAIR, records)  # type: ignore[arg-type]
        await router.observe()
        await router.take(0)
        return self.written


def test_traffic_is_taken_back_though_another_rule_is_busy() -> None:
    """It was inserted in mid-release, with another Canary's release in it."""
    busy = [ref("web", weight=100), ref("shop", weight=95), ref("shop-canary", weight=5)]
    routes = Routes({"web": [*edited(ref("web", weight=1)), {"backendRefs": busy}]})
    weights = {f"web/spec/rules/0/backendRefs/{number}/weight" for number in (0, 1)}
    assert asyncio.run(routes.taken([])) == weights


def test_taking_traffic_back_adds_nothing_to_a_route_that_somebody_has_put_back() -> None:
    rules = {"web": edited(ref("web", weight=1)), "api": [{"backendRefs": [ref("web", weight=1)]}]}
    routes = Routes(rules, [{"manager": "argocd", "operation": "Apply", "time": "2"}])
    records = [RouteRecord.model_validate({"kind": "HTTPRoute", "name": name, "weights": {}}) for name in rules]
    assert {path.partition("/")[0] for path in asyncio.run(routes.taken(records))} == {"web"}


def test_a_service_that_was_given_no_traffic_in_one_rule_holds_up_none_in_another() -> None:
    rules = [{"backendRefs": [ref("web", weight=0), ref("old", weight=1)]}, {"backendRefs": [ref("web")]}]
    assert shares(split(rules, PAIR, 10), PAIR) == [10]


def test_another_port_in_the_canary_hides_no_share() -> None:
    """spec.service.port edited in mid-release: what the canary has is seen, taken, and taken out."""
    other = replace(PAIR, port=8080)
    rules = edited(ref("web", weight=1))
    assert names_service(rules, other)
    assert shares(rules, other) == [50]
    assert shares(split(rules, other, 0), other) == [0]
    assert restored(rules, other, {"0/0": 1}) == [{"backendRefs": [ref("web", weight=1)]}]


def test_an_entry_of_ours_that_somebody_moved_is_traffic_all_the_same() -> None:
    rules = edited(ref("web", weight=1), ref("old", weight=1))
    service, ours, old = rules[0]["backendRefs"]
    moved = [{"backendRefs": [service, old, ours]}]
    assert shares(moved, PAIR) == [None, 25]
    assert shares(split(moved, PAIR, 0), PAIR) == [0]


def test_a_route_that_is_busy_is_not_on_record_yet() -> None:
    """Else it would pass for one that was put back when the other release has ended."""
    busy = [ref("web", weight=100), ref("shop", weight=95), ref("shop-canary", weight=5)]
    routes = Routes({"web": [{"backendRefs": busy}]})

    async def captured() -> list[RouteRecord]:
        named = GatewayAPI.model_validate({"httpRoutes": [{"name": "web"}]})
        router = GatewayRouter(routes, "shop", named, PAIR, [])  # type: ignore[arg-type]
        await router.observe()
        return router.capture([])

    assert asyncio.run(captured()) == []


def test_settled_means_this_generation_everywhere() -> None:
    def parent(accepted: int, resolved: int, status: str = "True") -> dict[str, Any]:
        pairs = (("Accepted", accepted), ("ResolvedRefs", resolved))
        return {"conditions": [{"type": t, "status": status, "observedGeneration": g} for t, g in pairs]}

    def route(*parents: Any) -> dict[str, Any]:
        return {"metadata": {"generation": 3}, "status": {"parents": list(parents)}}

    assert settled(route(parent(3, 3)))
    assert not settled(route(parent(3, 2)))
    assert not settled(route(parent(3, 3), parent(2, 2)))
    assert not settled(route(parent(3, 3, "False")))
    assert not settled(route())
    assert settled(route(parent(3, 2)), {"Accepted"})
    assert not settled(route(parent(2, 3)), {"Accepted"})
    assert not settled(route(), {"Accepted"})


def test_managed_fields_are_given_back_unless_somebody_wrote_since() -> None:
    user = {"manager": "kubectl", "operation": "Apply", "time": "1"}
    ours = {"manager": "serinus", "operation": "Update", "time": "2"}
    router = {"manager": "traefik", "operation": "Update", "subresource": "status", "time": "9"}
    record = RouteRecord.model_validate({"kind": "HTTPRoute", "name": "web", "weights": {}, "managedFields": [user, router]})
    assert owners({"metadata": {"managedFields": [ours, router]}}, record) == [user, router]
    assert owners({"metadata": {"managedFields": [user, router]}}, record) is None, "nothing of ours is left"
    later = {**user, "time": "5"}
    assert owners({"metadata": {"managedFields": [later, ours, router]}}, record) is None

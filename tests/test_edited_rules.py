"""Rules that somebody edits in mid-release, and rules of several releases: each of these held something up, or moved traffic."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from tests.apiserver import Call, Gate, Server, merged, patched
from tests.controllers import Controllers
from tests.model import START, canary, release
from tests.test_backends import PAIR, Routes, edited, ref
from tests.test_killed_anywhere import (
    GOOD,
    KEY,
    PAUSED,
    RESUME,
    Scenario,
    World,
    annotate,
    live,
    moment,
    nothing_unforeseen,
    seconds,
    virtual_time,
)
from tests.test_tampered import Long, Tampered, add_route, after, lose, reroute, service

from serinus.api.canary import GatewayAPI
from serinus.kube import ROUTES, KubeError, Object
from serinus.rollout.machine import advance
from serinus.rollout.observation import CanaryView, Observation, TargetView
from serinus.traffic.backends import Pair, restored, shares, split
from serinus.traffic.gateway import GatewayRouter

__all__ = ["nothing_unforeseen", "virtual_time"]  # fixtures

HTTP = ROUTES["HTTPRoute"]


def named(names: Any) -> GatewayAPI:
    return GatewayAPI.model_validate({"httpRoutes": [{"name": name} for name in names]})


def rules_of(world: World, name: str = "web") -> list[Any]:
    found: list[Any] = world.server.get(HTTP, KEY.namespace, name)["spec"]["rules"]
    return found


def within_limits(server: Server) -> Gate:
    """The API server's own validation of an HTTPRoute. Of a write that is refused nobody hears."""

    def gate(call: Call, work: Callable[[], Any]) -> Any:
        if call[1] != HTTP.plural or call[0] not in ("patch", "merge"):
            return work()
        before, watch, heard = server.copy(), server.watch, list[tuple[Any, ...]]()
        server.watch = lambda *change: heard.append(change)
        try:
            result = work()
        finally:
            server.watch = watch
        for rule in server.get(HTTP, KEY.namespace, call[2])["spec"]["rules"]:
            if len(rule.get("backendRefs") or []) > 16:
                server.objects = before.objects
                raise KubeError(422, "spec.rules[1].backendRefs: Too many: 17: must have at most 16 items")
        for change in heard:
            watch(*change)
        return result

    return gate


def full_rule(world: World) -> None:
    """One more rule, with as many backends as there may be."""
    names = [f"old{number}" for number in range(15)]
    for name in names:
        service(world, name)
    refs = [{"name": name, "port": 80} for name in ("web", *names)]
    world.write(HTTP, {"spec": {"rules": [*rules_of(world), {"backendRefs": refs}]}})


def lived(*deeds: Any, gate: Callable[[Server], Gate] = within_limits, kind: type[Tampered] = Tampered, last: float = 0) -> World:
    """The world when all is done; with `last`, so many seconds after the last deed, whatever goes on then."""
    server = Server(moment)
    began: list[float] = []

    def then(world: World) -> bool:
        began.append(seconds())
        return seconds() >= began[0] + last

    there = [*deeds, (then, lambda _: None)] if last else [*deeds]
    world = kind(Scenario(tuple(there), "", ""), server, Controllers(server))
    try:
        return live(world, gate(server))
    except AssertionError as unrest:
        if not last or "never came to rest" not in str(unrest):
            raise
        return world


def test_a_full_rule_that_is_inserted_in_mid_release_holds_no_rollback_up() -> None:
    def deed(world: World) -> None:
        full_rule(world)
        annotate("abort", "{}")(world)

    assert lived(GOOD, (PAUSED, deed)).stages[-2:] == ["Ended", "Aborted"]


def test_a_full_rule_that_is_inserted_as_the_last_requests_end_holds_no_end_up() -> None:
    draining = (lambda world: world.status().get("stage") == "Draining", full_rule)
    assert lived(GOOD, RESUME, draining).stages[-1] == "Promoted"


@pytest.mark.parametrize("one", [True, False], ids=["two rules", "two routes"])
def test_taking_traffic_gives_none_elsewhere(one: bool) -> None:
    """One of two was taken to 0 already; the share is lowered because a pod was lost, by a process that has not looked."""
    taken, whole = (split([{"backendRefs": [ref("web", weight=1)]}], PAIR, share) for share in (0, 100))
    routes = Routes({"web": [*taken, *whole]} if one else {"web": taken, "api": whole})

    async def take() -> None:
        router = GatewayRouter(routes, "shop", named(routes.routes), PAIR, [])  # type: ignore[arg-type]
        await router.observe()
        await router.take(50)

    asyncio.run(take())
    assert routes.written
    assert not {path for path in routes.written if path.startswith("web/spec/rules/0/")}


@pytest.mark.parametrize("returning", [False, True], ids=["paused", "returning"])
def test_a_service_that_is_drained_in_mid_release_holds_nothing_silently(returning: bool) -> None:
    def deed(world: World) -> None:
        service(world, "blue")
        for name in ("web", "api"):
            reroute(world, name, web=0, web_canary=0, blue=100)

    if returning:
        world = after(GOOD, RESUME, (lambda world: world.status().get("stage") == "Returning", deed))
        assert world.stages[-1] == "Promoted"
    else:
        world = lived(GOOD, (PAUSED, deed), RESUME, last=60)
        assert "there is no traffic" in str(world.canary()["status"]["conditions"])


@pytest.mark.parametrize("returning", [False, True], ids=["paused", "returning"])
def test_a_service_that_is_renamed_in_one_of_two_rules_holds_nothing_up(returning: bool) -> None:
    refs: Object = {"backendRefs": [{"name": "web", "port": 80, "weight": 1}]}

    def begin(world: World) -> None:
        world.write(HTTP, {"spec": {"rules": [refs, refs]}})
        GOOD[1](world)

    def rename(world: World) -> None:
        service(world, "web2")
        first, second = rules_of(world)
        second["backendRefs"][0]["name"] = "web2"
        world.write(HTTP, {"spec": {"rules": [first, second]}})

    def half(world: World) -> bool:
        return world.status().get("stage") == "Returning" and world.status()["weight"] == 50 and world.given() == 50

    deeds = ((GOOD[0], begin), RESUME, (half, rename)) if returning else ((GOOD[0], begin), (PAUSED, rename), RESUME)
    assert lived(*deeds, kind=Long).stages[-1] == "Promoted"


def dangling(world: World) -> None:
    """A backend is put into the route whose Service does not exist."""
    first = rules_of(world)[0]["backendRefs"]
    world.write(HTTP, {"spec": {"rules": [{"backendRefs": [*first, ref("nobody", weight=3)]}]}})


@pytest.mark.parametrize("deed", [dangling, full_rule])
def test_nothing_in_a_route_keeps_the_canary_its_traffic_on_the_way_back(deed: Callable[[World], None]) -> None:
    def half(world: World) -> bool:
        return world.status().get("stage") == "Returning" and world.status()["weight"] == 50

    assert lived(GOOD, RESUME, (half, deed), kind=Long).stages[-1] == "Promoted"


@pytest.mark.parametrize("order", [(0, 2, 1), (1, 2, 0), (2, 1, 0), (1, 0, 2)])
def test_another_port_of_the_service_is_another_backend(order: tuple[int, ...]) -> None:
    """The Service, ours, and the Service at port 81, put in another order in mid-release."""
    rules = split([{"backendRefs": [ref("web", weight=1), ref("web", port=81, weight=1)]}], PAIR, 50)
    mixed = [{"backendRefs": [rules[0]["backendRefs"][index] for index in order]}]
    for now in (split(mixed, PAIR, 0), split(mixed, PAIR, 50), restored(mixed, PAIR, {"0/0": 1, "0/1": 1})):
        at_port = {
            port: sum(each.get("weight", 1) for each in now[0]["backendRefs"] if each["port"] == port) for port in (80, 81)
        }
        assert at_port[80] == at_port[81]


def test_weights_of_several_of_ours_stay_within_what_gateway_api_allows() -> None:
    rules = [{"backendRefs": [ref("old", weight=0), ref("web-canary", weight=1_000_000), ref("web-canary", weight=1)]}]
    assert max(each["weight"] for each in split(rules, PAIR, 0)[0]["backendRefs"]) <= 1_000_000


def test_two_of_ours_beside_the_service_are_counted_together() -> None:
    rules = [{"backendRefs": [ref("web", weight=50), ref("web-canary", weight=25), ref("web-canary", weight=25)]}]
    assert max(share or 0 for share in shares(rules, PAIR)) == 50


class Written(Routes):
    """What is written is there."""

    async def patch(self, kind: Any, namespace: str, name: str, operations: list[Any]) -> Any:
        patched(self.routes[name], operations)
        return self.routes[name]


def test_two_releases_that_share_two_routes_never_wait_for_one_another() -> None:
    """They began at once: each was first in one of the two."""
    both = [{"backendRefs": [ref("web", weight=1), ref("shop", weight=1)]}]
    pairs = {name: Pair(name, f"{name}-canary", 80, "shop") for name in ("web", "shop")}
    api = Written({"r1": split(both, pairs["web"], 0), "r2": split(both, pairs["shop"], 0)})
    attempts = {name: release(2) for name in pairs}

    async def step(name: str, now: int) -> bool:
        router = GatewayRouter(api, "shop", named(api.routes), pairs[name], attempts[name].status.routes)  # type: ignore[arg-type]
        route = await router.observe()
        seen = Observation(TargetView(replicas=2), CanaryView(replicas=2, ready=2, gone=False), route)
        decision = advance(canary(service={"name": name, "port": 80}), attempts[name], seen, START + timedelta(seconds=now))
        status = attempts[name].status = decision.status
        if decision.desired.weight is None:
            await router.restore(status.routes)
        else:
            status.routes = router.capture(status.routes)
            await router.write(decision.desired.weight)
        return bool(route.busy)

    async def run() -> list[bool]:
        for now in range(20):
            held = [await step(name, now) for name in pairs]
        return held

    assert sorted(asyncio.run(run())) == [False, True]


def test_a_route_that_refuses_to_be_put_back_keeps_no_traffic_in_another() -> None:
    """The Release was deleted at 50 %, and an admission policy refuses all writes of one route."""
    frozen: list[bool] = []

    def gate(_: Server) -> Gate:
        def refuse(call: Call, work: Callable[[], Any]) -> Any:
            if frozen and call[:3] == ("patch", HTTP.plural, "web"):
                raise KubeError(403, "denied by policy: route web is frozen")
            return work()

        return refuse

    def deed(world: World) -> None:
        frozen.append(True)
        lose(world)

    world = lived(GOOD, (PAUSED, deed), gate=gate, last=60)
    assert "canary" not in str(rules_of(world, "api"))


def test_a_release_that_waits_for_another_in_its_rule_says_so() -> None:
    def deed(world: World) -> None:
        for name in ("shop", "shop-canary"):
            service(world, name)
        add_route(world, "shared", web=100, shop=95, shop_canary=5)
        RESUME[1](world)

    world = lived(GOOD, (PAUSED, deed), last=60)
    assert "release of shop" in str(world.canary()["status"]["conditions"])


@pytest.mark.parametrize("weight", [0, 1, 5])
def test_a_release_moves_no_traffic_between_the_other_backends(weight: int) -> None:
    """`old` and `blue` stand 95 to 5, in millionths, as a tool writes them; the Service has next to nothing there."""
    rules = [{"backendRefs": [ref("web", weight=weight), ref("old", weight=950_000), ref("blue", weight=50_000)]}]
    now = {each["name"]: each["weight"] for each in split(rules, PAIR, 0)[0]["backendRefs"]}
    assert round(100 * now["blue"] / (now["old"] + now["blue"])) == 5


def test_what_is_taken_is_never_more_than_was_there() -> None:
    for most in (0, 10, 50, 90):
        rules = edited(ref("web", weight=1), ref("old", weight=1))
        assert max(share or 0 for share in shares(rules, PAIR)) == 50
        routes = Routes({"web": rules})

        async def take(most: int = most, routes: Routes = routes) -> bool:
            router = GatewayRouter(routes, "shop", named(routes.routes), PAIR, [])  # type: ignore[arg-type]
            await router.observe()
            return await router.take(most)

        assert asyncio.run(take()) == (most < 50)


class Quick(Long):
    """From the beginning on a tool takes the canary out of the route's last rule before the Gateway's word is seen."""

    times = 0

    def tick(self) -> None:
        super().tick()
        *rules, last = rules_of(self)
        if "Ended" not in self.stages and len(last["backendRefs"]) > 1:
            self.times += 1
            mine = {"spec": {"rules": [*rules, {"backendRefs": [ref("web", weight=1)]}]}}
            self.server.change(HTTP, *KEY, lambda old: merged(old, mine), "argocd")


@pytest.mark.parametrize("rules", [1, 2])
def test_a_quick_tool_is_not_fought_for_ever_before_there_is_traffic(rules: int) -> None:
    def begin(world: World) -> None:
        world.write(HTTP, {"spec": {"rules": [{"backendRefs": [ref("web", weight=1)]}] * rules}})
        GOOD[1](world)

    world = lived((GOOD[0], begin), kind=Quick)
    assert isinstance(world, Quick)
    assert (world.stages[-1], world.status()["reason"]) == ("Aborted", "RouteConflict")
    assert 0 < world.times <= 60


def test_a_tool_is_not_fought_for_ever_while_another_route_does_not_exist() -> None:
    def begin(world: World) -> None:
        rule: Object = {"backendRefs": [ref("web", weight=1)]}
        world.write(HTTP, {"spec": {"rules": [rule, rule]}})
        GOOD[1](world)

    class Tool(Contested):
        stage, wanted = "Paused", [ref("web", weight=1)]

    gone = (PAUSED, lambda world: world.server.delete(HTTP, KEY.namespace, "api"))
    world = lived((GOOD[0], begin), gone, kind=Tool, last=90)
    assert isinstance(world, Tool)
    assert world.status()["routeReverts"] == 1


def test_an_edit_counts_once_however_often_what_answers_it_is_refused() -> None:
    """A rule of sixteen backends has no room for ours: after ten refusals the release was set back, as if by a GitOps tool."""
    world = lived(GOOD, (PAUSED, full_rule), last=180)
    assert (world.status().get("routeReverts", 0), world.status()["weight"]) == (0, 50)
    assert "Too many" in str(world.canary()["status"]["conditions"])


def test_who_leaves_only_ours_in_the_rule_has_not_put_the_route_back() -> None:
    """The share that was asked for is taken with ours left in: without it the route would look as if somebody put it back."""

    def deed(world: World) -> None:
        world.write(HTTP, {"spec": {"rules": [{"backendRefs": rules_of(world)[0]["backendRefs"][1:]}]}})

    world = lived(GOOD, (PAUSED, deed), last=60)
    assert (world.status().get("routeReverts", 0), world.given()) == (0, 50)


class Contested(Long):
    """From a stage on a tool writes the second of two rules as it wants it, each time that somebody else has changed it."""

    stage, wanted, times = "", [ref("web")], 0

    def tick(self) -> None:
        super().tick()
        first, second = rules_of(self)
        there = second["backendRefs"]
        if self.stage in self.stages and "Ended" not in self.stages and len(there) > 1 and there != self.wanted:
            self.times += 1
            self.write(HTTP, {"spec": {"rules": [first, {"backendRefs": self.wanted}]}})


@pytest.mark.parametrize("from_stage", ["Paused", "Promoting"])
@pytest.mark.parametrize("put_back", [[ref("web", weight=1)], [ref("web", weight=100), ref("web-canary", weight=0)]])
def test_a_tool_that_puts_one_of_two_rules_back_is_not_fought_for_ever(put_back: list[Object], from_stage: str) -> None:
    def begin(world: World) -> None:
        rule: Object = {"backendRefs": [ref("web", weight=1)]}
        world.write(HTTP, {"spec": {"rules": [rule, rule]}})
        GOOD[1](world)

    class Tool(Contested):
        stage, wanted = from_stage, put_back

    world = lived((GOOD[0], begin), RESUME, kind=Tool)
    assert isinstance(world, Tool)
    assert world.stages[-1] == ("Aborted" if from_stage == "Paused" else "Promoted")
    assert 0 < world.times <= 60

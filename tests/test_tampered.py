"""What people do to the canary's own objects in mid-release: the release goes on, or goes back, and ends. The real loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.apiserver import Call, Gate, Server, merged
from tests.controllers import STUCK, Controllers
from tests.test_killed_anywhere import (
    BAD,
    GOOD,
    KEY,
    PAUSED,
    REST,
    RESUME,
    STABLE,
    Deed,
    Scenario,
    World,
    annotate,
    delete,
    live,
    moment,
    nothing_unforeseen,
    objects,
    outcome,
    phase,
    seconds,
    ship,
    sound,
    virtual_time,
)

from serinus.controller import telemetry
from serinus.kube import (
    AUTOSCALERS,
    CANARIES,
    DEPLOYMENTS,
    EVENTS,
    RELEASES,
    ROUTES,
    SERVICES,
    Conflict,
    Kind,
    KubeError,
    Object,
    Unreachable,
)
from serinus.rollout.machine import REVERT_WAIT

__all__ = ["nothing_unforeseen", "virtual_time"]  # fixtures


def foreign(world: World, kind: Kind) -> None:
    """Somebody puts an object of their own in the place of the canary's."""
    labels = {"app": "theirs"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "web", "image": "theirs:1"}]}}
    spec = (
        {"selector": {"matchLabels": labels}, "replicas": 1, "template": template}
        if kind == DEPLOYMENTS
        else {"selector": labels}
    )
    world.server.delete(kind, KEY.namespace, "web-canary")
    world.server.create(kind, KEY.namespace, {"kind": "Theirs", "metadata": {"name": "web-canary"}, "spec": spec})


class Tampered(World):
    """Where a Release may be deleted, the receiver knows of more than is on record."""

    def at_rest(self) -> bool:
        done = self.next == len(self.scenario.deeds) and seconds() - self.busy >= REST
        return done and {*self.owed()} <= {event for _, event in self.inbox}


class Long(Tampered):
    """Where nothing is written for a while in the midst of a release."""

    def at_rest(self) -> bool:
        return "Ended" in self.stages and super().at_rest()


def after(*deeds: Deed, gate: Gate = sound, kind: type[Tampered] = Tampered) -> World:
    """The world when all is done, and nothing happens any more."""
    server = Server(moment)
    return live(kind(Scenario(deeds, "", ""), server, Controllers(server)), gate)


def without_service(then: Callable[[World], object]) -> Callable[[World], object]:
    """Somebody deletes the canary's Service, and then this is done."""

    def deed(world: World) -> None:
        world.server.delete(SERVICES, KEY.namespace, "web-canary")
        then(world)

    return deed


@pytest.mark.parametrize(
    ("then", "end"),
    [(RESUME[1], "Promoted"), (annotate("abort", "{}"), "Aborted")],
    ids=["goes on", "goes back"],
)
def test_a_canary_service_that_was_deleted_is_made_again(then: Callable[[World], object], end: str) -> None:
    world = after(GOOD, (PAUSED, without_service(then)))
    assert world.stages[-2:] == ["Ended", end]
    assert not [key for key in outcome(world) if "canary" in key]


def lose(world: World) -> None:
    """Somebody deletes the Release that is under way."""
    world.server.delete(RELEASES, KEY.namespace, world.release()["metadata"]["name"])


def untouched(world: World) -> None:
    """Nothing of a release is left, and the routes are the user's again."""
    assert not [key for key in outcome(world) if "canary" in key]
    for route in world.server.all(ROUTES["HTTPRoute"]):
        assert [ref["name"] for ref in route["spec"]["rules"][0]["backendRefs"]] == ["web"]


def test_a_release_that_was_deleted_is_begun_anew_with_the_traffic_back() -> None:
    world = after(GOOD, (PAUSED, lose), RESUME)
    assert world.stages[-2:] == ["Ended", "Promoted"]
    untouched(world)


def test_a_release_that_was_deleted_while_nothing_moved_is_missed() -> None:
    """Unjudged pods that never become ready: no number grows, and no step ends for minutes."""
    world = after(
        (phase("Stable"), ship(STUCK, skip="true")),
        (phase("Promoting"), lose),
        (lambda world: bool(world.server.all(RELEASES)), ship("web:2", skip="true")),
    )
    assert world.stages[-2:] == ["Ended", "Skipped"]
    untouched(world)


def test_what_a_deleted_release_left_is_put_away_though_an_obstacle_stands() -> None:
    def deed(world: World) -> None:
        world.write(SERVICES, {"spec": {"selector": None}})
        lose(world)

    untouched(after(GOOD, (PAUSED, deed), (phase("Adopting"), lambda _: None)))


def test_what_a_deleted_release_left_is_put_away_before_the_canary_goes() -> None:
    def deed(world: World) -> None:
        lose(world)
        delete(world)

    world = after(GOOD, (PAUSED, deed))
    untouched(world)
    deployment = world.server.get(DEPLOYMENTS, *KEY)
    assert not deployment["spec"].get("paused")
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == "web:1"


def test_a_rollback_does_not_wait_for_a_reference_of_the_users_that_never_resolves() -> None:
    def deed(world: World) -> None:
        route = world.server.get(ROUTES["HTTPRoute"], *KEY)
        refs = [*route["spec"]["rules"][0]["backendRefs"], {"name": "nobody", "port": 80, "weight": 3}]
        world.write(ROUTES["HTTPRoute"], {"spec": {"rules": [{"backendRefs": refs}]}})
        annotate("abort", "{}")(world)

    world = after(GOOD, (PAUSED, deed))
    assert world.stages[-2:] == ["Ended", "Aborted"]
    assert not [key for key in outcome(world) if "canary" in key]


@pytest.mark.parametrize(("kind", "other"), [(SERVICES, DEPLOYMENTS), (DEPLOYMENTS, SERVICES)], ids=["Service", "Deployment"])
def test_what_somebody_put_in_the_canarys_place_stays_theirs_and_nothing_waits_for_it_to_go(kind: Kind, other: Kind) -> None:
    def deed(world: World) -> None:
        foreign(world, kind)
        annotate("abort", "{}")(world)

    world = after(GOOD, (PAUSED, deed))
    assert world.stages[-2] == "Ended"
    assert "theirs" in str(world.server.get(kind, KEY.namespace, "web-canary"))
    assert world.server.find(other, KEY.namespace, "web-canary") is None


def test_routes_that_come_back_between_two_reads_of_a_pass_are_known_as_put_back() -> None:
    """Seen on a cluster: what the first reading said was decided, and written into the routes that the second found."""
    server, missed = Server(moment), 0
    kind, lost = ROUTES["HTTPRoute"], [body for of, body in objects() if of == ROUTES["HTTPRoute"]]

    def lose_routes(_: World) -> None:
        for route in lost:
            server.delete(kind, KEY.namespace, route["metadata"]["name"])

    def gate(call: Call, work: Callable[[], Any]) -> Any:
        nonlocal missed
        routes = call[:2] == ("get", kind.plural)
        if routes and missed == len(lost):
            missed += 1
            for route in lost:
                server.create(kind, KEY.namespace, route)
        found = work()
        missed += routes and found is None
        return found

    deeds = (GOOD, (PAUSED, lose_routes), (lambda world: world.status().get("routeReverts") == 1, RESUME[1]))
    world = live(Tampered(Scenario(deeds, "", ""), server, Controllers(server)), gate)
    assert missed == len(lost) + 1
    assert world.stages[-2:] == ["Ended", "Promoted"]
    assert {event["reason"] for event in server.all(EVENTS) if "Route" in event["reason"]} == {"RouteReverted"}
    untouched(world)


def test_a_write_that_is_refused_is_said_and_goes_on_once_it_is_taken() -> None:
    """Such as by a quota on Services."""
    why, told = "exceeded quota: services", []

    def gate(call: Call, work: Callable[[], Any]) -> Any:
        if call[:2] == ("create", "services") and not told:
            raise KubeError(403, why)
        return work()

    def said(world: World) -> bool:
        ready = [c for c in world.canary()["status"]["conditions"] if c["type"] == "Ready" and c["reason"] == "Refused"]
        return bool(ready) and why in ready[0]["message"] and ready[0]["status"] == "False" and phase("Progressing")(world)

    world = after(GOOD, (said, lambda _: told.append(True)), RESUME, gate=gate)
    assert world.stages[-2:] == ["Ended", "Promoted"]
    events = [event for event in world.server.all(EVENTS) if event["reason"] == "Refused"]
    assert [why in event["message"] for event in events] == [True]
    assert "Refused" not in str(world.canary()["status"])


def test_a_port_that_is_edited_in_mid_release_hides_no_traffic() -> None:
    taken = []

    def deed(world: World) -> None:
        world.write(CANARIES, {"spec": {"service": {"name": "web", "port": 8080}}})
        annotate("abort", "{}")(world)

    def ended(world: World) -> bool:
        if "Keeping" in world.stages:
            taken.append(world.taken())
        return "Ended" in world.stages

    after(GOOD, (PAUSED, deed), (ended, lambda _: None))
    assert taken[0] == 0, "the proxies have weight 0 when that is said to be seen"


def test_one_of_two_routes_that_is_put_back_again_and_again_ends_the_release() -> None:
    server, times = Server(moment), 0

    class Contested(Long):
        def tick(self) -> None:
            nonlocal times
            super().tick()
            refs = self.server.get(ROUTES["HTTPRoute"], KEY.namespace, "api")["spec"]["rules"][0]["backendRefs"]
            if len(refs) > 1 and (times or "Paused" in self.stages):
                times += 1
                mine = {"spec": {"rules": [{"backendRefs": [{"name": "web", "port": 80, "weight": 1}]}]}}
                self.server.change(ROUTES["HTTPRoute"], KEY.namespace, "api", lambda old: merged(old, mine), "argocd")

    world = live(Contested(Scenario((GOOD, RESUME), "", ""), server, Controllers(server)), sound)
    assert (world.stages[-1], world.status()["reason"]) == ("Aborted", "RouteConflict")
    assert times <= 4 * (REVERT_WAIT.seconds + 1), "four times, each until the router has had its time to take it"
    assert not world.wrong


def test_an_autoscaler_whose_maximum_is_below_the_replicas_stops_no_release() -> None:
    server = Server(moment)

    def gate(call: Call, work: Callable[[], Any]) -> Any:
        before, result = server.copy(), work()
        if call[:2] == ("merge", AUTOSCALERS.plural):
            spec = server.get(AUTOSCALERS, *KEY)["spec"]
            if spec["minReplicas"] > spec["maxReplicas"]:
                server.objects = before.objects
                raise KubeError(422, "spec.maxReplicas: Invalid value: must be greater than or equal to `minReplicas`")
        return result

    def shrink(world: World) -> None:
        world.write(AUTOSCALERS, {"spec": {"maxReplicas": 1}})
        ship("web:2")(world)

    world = live(Tampered(Scenario(((STABLE, shrink), RESUME), "", ""), server, Controllers(server)), gate)
    assert world.stages[-1] == "Promoted"
    assert server.get(AUTOSCALERS, *KEY)["spec"]["minReplicas"] == 1


def test_the_autoscalers_floor_comes_back_though_all_else_is_gone_already() -> None:
    def deed(world: World) -> None:
        world.server.delete(DEPLOYMENTS, KEY.namespace, "web-canary")
        mine = {"spec": {"rules": [{"backendRefs": [{"name": "web", "port": 80, "weight": 1}]}]}}
        for name in ("web", "api"):
            world.server.change(ROUTES["HTTPRoute"], KEY.namespace, name, lambda old: merged(old, mine), "argocd")
        annotate("abort", "{}")(world)

    world = after(GOOD, (PAUSED, deed))
    assert world.server.get(AUTOSCALERS, *KEY)["spec"]["minReplicas"] == 1


def test_a_fix_cannot_come_in_between_while_a_bad_version_is_taken_out() -> None:
    """It would be judged beside the bad one's pods, and they would serve all that time."""
    server, refused = Server(moment), []

    class Fixed(Tampered):
        def tick(self) -> None:
            template = self.server.get(DEPLOYMENTS, *KEY)["spec"]["template"]
            if self.status().get("undo") and template["spec"]["containers"][0]["image"] == "web:1" and not refused:
                with pytest.raises(KubeError, match="promoting") as error:
                    ship("web:3")(self)
                refused.append(str(error.value))
            super().tick()

    scenario = Scenario((BAD, RESUME), "", "", harmful=lambda world: world.unpaused())
    world = live(Fixed(scenario, server, Controllers(server)), sound)
    assert refused
    assert world.stages[-1] == "RolledBack"
    assert {pod["spec"]["containers"][0]["image"] for pod in world.pods("web")} == {"web:1"}
    assert phase("Stable")(world)


def test_a_release_that_was_recorded_by_a_fast_clock_is_not_taken_for_the_newest() -> None:
    calls = 0

    def gate(call: Call, work: Callable[[], Any]) -> Any:
        nonlocal calls
        calls += 1
        assert calls < 20_000, "a hot loop"
        return work()

    def ahead(world: World) -> None:
        name = world.release()["metadata"]["name"]
        late = {"spec": {"requestedAt": "2026-01-01T00:10:00.000000Z"}}
        world.server.change(RELEASES, KEY.namespace, name, lambda old: merged(old, late))
        ship("web:bad")(world)

    def rolled_back(world: World) -> bool:
        return "RolledBack" in [release["status"].get("outcome") for release in world.server.all(RELEASES)]

    world = after(GOOD, RESUME, (lambda world: STABLE(world) and "Ended" in world.stages, ahead), (rolled_back, print), gate=gate)
    assert world.stages[-1] == "RolledBack"


def test_a_note_is_told_though_the_answer_to_the_last_write_of_its_pass_was_lost() -> None:
    lost = []

    def gate(call: Call, work: Callable[[], Any]) -> Any:
        result = work()
        release = server.find(RELEASES, KEY.namespace, call[2]) if call[1] == RELEASES.plural else None
        if call[0] == "patch" and release and release["status"]["stage"] == "Ended" and not lost:
            lost.append(call)
            raise Unreachable(0, "no answer")
        return result

    server = Server(moment)
    live(Tampered(Scenario((GOOD, RESUME), "", ""), server, Controllers(server)), gate)
    assert lost
    assert "Promoted" in {event["reason"] for event in server.all(EVENTS)}


def reasons(world: World) -> set[str]:
    return {event["reason"] for event in world.server.all(EVENTS)}


def service(world: World, name: str) -> None:
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    body = {"kind": "Service", "metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": ports}}
    world.server.create(SERVICES, KEY.namespace, body)


def backends(**weights: int) -> Object:
    """A route's patch."""
    refs = [{"name": name.replace("_", "-"), "port": 80, "weight": weight} for name, weight in weights.items()]
    return {"spec": {"rules": [{"backendRefs": refs}]}}


def reroute(world: World, name: str, **weights: int) -> None:
    world.server.change(ROUTES["HTTPRoute"], KEY.namespace, name, lambda old: merged(old, backends(**weights)))


def add_route(world: World, name: str, **weights: int) -> None:
    """And the Canary names it from now on."""
    body = {"kind": "HTTPRoute", "metadata": {"name": name}, **backends(**weights)}
    world.server.create(ROUTES["HTTPRoute"], KEY.namespace, body)
    named = [{"name": each} for each in ("web", "api", name)]
    world.write(CANARIES, {"spec": {"traffic": {"gatewayAPI": {"httpRoutes": named}}}})


def test_a_service_that_is_renamed_in_the_route_holds_no_rollback_up() -> None:
    def deed(world: World) -> None:
        service(world, "web2")
        for name in ("web", "api"):
            reroute(world, name, web2=50, web_canary=50)
        annotate("abort", "{}")(world)

    world = after(GOOD, (PAUSED, deed), (lambda world: "Ended" in world.stages, lambda _: None))
    assert world.stages[-2:] == ["Ended", "Aborted"]
    assert "canary" not in str([route["spec"] for route in world.server.all(ROUTES["HTTPRoute"])])


def test_a_route_whose_owner_points_it_elsewhere_is_not_fought_over() -> None:
    def deed(world: World) -> None:
        service(world, "other")
        reroute(world, "api", other=1)

    world = after(GOOD, (PAUSED, deed), RESUME, kind=Long)
    assert world.stages[-1] == "Promoted"
    assert "RouteReverted" not in reasons(world)


def test_a_route_that_comes_in_mid_release_and_is_busy_is_waited_for() -> None:
    began = []

    def deed(world: World) -> None:
        for name in ("shop", "shop-canary"):
            service(world, name)
        add_route(world, "shared", web=100, shop=95, shop_canary=5)
        began.append(seconds())

    def later(world: World) -> bool:
        return bool(began) and seconds() > began[0] + 120

    deeds = (GOOD, (PAUSED, deed), RESUME, (later, lambda world: reroute(world, "shared", web=1, shop=1)))
    world = after(*deeds, kind=Long)
    assert world.stages[-1] == "Promoted"
    assert world.status()["routeReverts"] <= 1


def test_a_new_route_whose_first_write_is_refused_was_not_put_back() -> None:
    """As when the process is killed between the record and the write."""
    lost = []

    def gate(call: Call, work: Callable[[], Any]) -> Any:
        if call[:3] == ("patch", "httproutes", "third") and not lost:
            lost.append(call)
            raise Conflict(422, "")
        return work()

    resume = (lambda _: bool(lost), RESUME[1])
    world = after(GOOD, (PAUSED, lambda world: add_route(world, "third", web=1)), resume, gate=gate, kind=Long)
    assert world.stages[-1] == "Promoted"
    assert "RouteReverted" not in reasons(world)


def test_a_route_that_is_added_as_the_traffic_goes_back_is_left_as_it_is() -> None:
    def deed(world: World) -> None:
        add_route(world, "third", web=1)
        annotate("abort", "{}")(world)

    world = after(GOOD, (PAUSED, deed), kind=Long)
    third = world.server.get(ROUTES["HTTPRoute"], KEY.namespace, "third")
    assert not world.wrong
    assert third["spec"] == backends(web=1)["spec"]
    assert "serinus" not in {entry["manager"] for entry in third["metadata"]["managedFields"]}


def test_an_undo_that_is_refused_accepts_another_version_after_the_deadline() -> None:
    """Another admission does not take the old template any more."""
    fixed, began = [], []

    def gate(call: Call, work: Callable[[], Any]) -> Any:
        if call[:3] == ("patch", "deployments", "web") and not call[3]:
            raise KubeError(403, "denied by policy: image web:1 is too old")
        return work()

    class Fixing(Tampered):
        def tick(self) -> None:
            if self.status().get("undo") and not began:
                began.append(seconds())
            if began and seconds() > began[0] + 60 and not fixed:
                fixed.append(True)
                ship("web:3")(self)  # raises while it is frozen
            super().tick()

    def short(world: World) -> None:
        world.write(CANARIES, {"spec": {"promotion": {"deadline": "30s"}}})
        ship("web:bad")(world)

    server = Server(moment)
    deeds = ((STABLE, short), RESUME, (lambda _: bool(fixed), lambda _: None))
    scenario = Scenario(deeds, "", "", harmful=lambda world: world.unpaused())
    live(Fixing(scenario, server, Controllers(server)), gate)
    assert fixed


def test_nothing_is_frozen_at_rest_whatever_stands_in_the_way() -> None:
    """Such as when a process was killed as it ended a release."""

    def deed(world: World) -> None:
        world.server.delete(SERVICES, *KEY)
        world.write(DEPLOYMENTS, {"metadata": {"annotations": {"serinus.dev/promoting": "x"}}})

    world = after((STABLE, deed), (phase("Adopting"), lambda _: None))
    assert "serinus.dev/promoting" not in (world.server.get(DEPLOYMENTS, *KEY)["metadata"].get("annotations") or {})


def test_the_autoscalers_floor_comes_back_though_its_maximum_was_raised_meanwhile() -> None:
    def shrink(world: World) -> None:
        world.write(AUTOSCALERS, {"spec": {"maxReplicas": 2}})
        world.write(DEPLOYMENTS, {"spec": {"replicas": 3}})

    def grow(world: World) -> None:
        world.write(AUTOSCALERS, {"spec": {"maxReplicas": 10}})

    deeds = ((STABLE, shrink), (lambda world: len(world.pods("web")) == 3, ship("web:2")), (PAUSED, grow), RESUME)
    assert after(*deeds, kind=Long).server.get(AUTOSCALERS, *KEY)["spec"]["minReplicas"] == 1


def test_what_was_decided_of_a_release_that_was_deleted_is_not_told_of_another() -> None:
    lost = []

    def gate(call: Call, work: Callable[[], Any]) -> Any:
        release = server.find(RELEASES, KEY.namespace, call[2]) if call[:2] == ("patch", RELEASES.plural) else None
        status = (release or {}).get("status", {})
        second = bool(release) and "web:3" in release["spec"]["images"]
        if second and not lost and status.get("stage") == "Stepping" and status.get("stepSince"):
            lost.append(call)
            server.delete(RELEASES, KEY.namespace, call[2])
        return work()

    def promoted() -> float:
        return telemetry.releases.labels(*KEY, "Promoted")._value.get()

    server, before = Server(moment), promoted()
    again = (lambda world: STABLE(world) and "Promoted" in world.stages, ship("web:3"))
    deeds = (GOOD, RESUME, again, (lambda world: PAUSED(world) and bool(lost), annotate("resume", "{}/1")))
    live(Tampered(Scenario(deeds, "", ""), server, Controllers(server)), gate)
    assert lost
    assert promoted() - before == 2


def test_without_a_router_a_step_writes_its_record_now_and_then() -> None:
    times = []

    def gate(call: Call, work: Callable[[], Any]) -> Any:
        if call[:2] == ("patch", RELEASES.plural) and world.status().get("stage") == "Stepping":
            times.append(seconds())
        return work()

    def begin(world: World) -> None:
        traffic = {"gatewayAPI": None, "podRatio": {}}
        world.write(
            CANARIES, {"spec": {"traffic": traffic, "steps": [{"weight": 100, "duration": "60s"}], "analysis": {"metrics": []}}}
        )
        ship("web:2")(world)

    server = Server(moment)
    world = Long(Scenario(((STABLE, begin),), "", ""), server, Controllers(server))
    live(world, gate)
    assert 2 < len(times) < 20


@pytest.mark.parametrize(
    "edited",
    [
        lambda refs: [ref for ref in refs if ref["name"] == "web-canary"],
        lambda refs: refs[::-1],
        lambda refs: [refs[0], {"name": "other", "port": 80, "weight": 100}, refs[1]],
    ],
    ids=["only ours is left", "swapped", "another between"],
)
def test_whatever_became_of_the_rule_the_release_ends_and_the_service_keeps_its_part(
    edited: Callable[[list[Object]], list[Object]],
) -> None:
    def deed(world: World) -> None:
        refs = edited(world.server.get(ROUTES["HTTPRoute"], *KEY)["spec"]["rules"][0]["backendRefs"])
        world.write(ROUTES["HTTPRoute"], {"spec": {"rules": [{"backendRefs": refs}]}})
        annotate("abort", "{}")(world)

    world = after(GOOD, (PAUSED, deed))
    assert world.stages[-2:] == ["Ended", "Aborted"]
    refs = world.server.get(ROUTES["HTTPRoute"], *KEY)["spec"]["rules"][0]["backendRefs"]
    weights = {ref["name"]: ref.get("weight", 1) for ref in refs}
    assert "web-canary" not in weights
    assert weights["web"] == weights.get("other", weights["web"])
    assert weights["web"] > 0


def test_a_release_waits_by_name_for_a_service_that_was_given_no_traffic() -> None:
    def give(world: World, weight: int) -> None:
        spec = {"spec": {"rules": [{"backendRefs": [{"name": "web", "port": 80, "weight": weight}]}]}}
        for route in ("web", "api"):
            world.server.change(ROUTES["HTTPRoute"], KEY.namespace, route, lambda old: merged(old, spec))

    def begin(world: World) -> None:
        give(world, 0)
        ship("web:2")(world)

    def waits(world: World) -> bool:
        conditions = world.server.get(CANARIES, *KEY)["status"]["conditions"]
        return any("weight 0 in every rule" in condition["message"] for condition in conditions)

    world = after((STABLE, begin), (waits, lambda world: give(world, 1)), RESUME)
    assert world.stages[-1] == "Promoted"


def test_a_maximum_that_is_lowered_as_a_release_begins_stops_nothing() -> None:
    def lower(world: World) -> None:
        world.write(AUTOSCALERS, {"spec": {"maxReplicas": 1}})

    def gate(call: Call, work: Callable[[], Any]) -> Any:
        before, result = server.copy(), work()
        if call[:2] == ("create", SERVICES.plural):
            lower(world)
        if call[:2] == ("merge", AUTOSCALERS.plural):
            spec = server.get(AUTOSCALERS, *KEY)["spec"]
            if spec["minReplicas"] > spec["maxReplicas"]:
                server.objects = before.objects
                raise KubeError(422, "spec.maxReplicas: Invalid value: must be greater than or equal to `minReplicas`")
        return result

    server = Server(moment)
    world: World = Tampered(Scenario((GOOD, RESUME), "", ""), server, Controllers(server))
    live(world, gate)
    assert world.stages[-1] == "Promoted"
    assert server.get(AUTOSCALERS, *KEY)["spec"]["minReplicas"] == 1

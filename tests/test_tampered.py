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

from serinus.kube import (
    AUTOSCALERS,
    CANARIES,
    DEPLOYMENTS,
    EVENTS,
    RELEASES,
    ROUTES,
    SERVICES,
    Kind,
    KubeError,
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


def after(*deeds: Deed, gate: Gate = sound) -> World:
    """The world when all is done, and nothing happens any more."""
    server = Server(moment)
    return live(Tampered(Scenario(deeds, "", ""), server, Controllers(server)), gate)


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

    class Contested(Tampered):
        def at_rest(self) -> bool:
            return "Ended" in self.stages and super().at_rest()

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

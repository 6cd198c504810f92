"""Deployments and pod templates: reading the user's, making the canary's."""

from __future__ import annotations

from typing import Any

import pytest
from tests.model import canary, release

from serinus.controller.world import World, carrying_pods
from serinus.kube import Object
from serinus.rollout.observation import RouteView
from serinus.traffic.podratio import PodRatioRouter
from serinus.workloads import template as templates
from serinus.workloads.deployment import (
    KNOWN_AFTER,
    Names,
    canary_budget,
    canary_deployment,
    canary_service,
    misleading_replica_sets,
    obstacles,
    rolled_out,
    serving_replica_set,
)

NAMES = Names("web-canary", "web-canary", "web")
NO_ROUTER = PodRatioRouter(lambda: (0, 0))


def template(image: str = "web:1", **labels: str) -> Object:
    labels = {"app": "web", **labels}
    constraint = {"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": "zone"}
    containers = [{"name": "web", "image": image}]
    return {"metadata": {"labels": labels}, "spec": {"containers": containers, "topologySpreadConstraints": [constraint]}}


def deployment(**spec: Any) -> Object:
    body = {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template(), **spec}
    return {"kind": "Deployment", "metadata": {"name": "web", "uid": "u", "generation": 1}, "spec": body, "status": {}}


def replica_set(name: str, revision: int, pods: int = 0, image: str = "web:1") -> Object:
    metadata = {
        "name": name,
        "uid": name,
        "ownerReferences": [{"uid": "u"}],
        "annotations": {"deployment.kubernetes.io/revision": str(revision)},
    }
    body = {"replicas": pods, "template": template(image, **{templates.HASH_LABEL: name})}
    return {"metadata": metadata, "spec": body, "status": {"replicas": pods, "availableReplicas": pods}}


def test_canary_pods_are_out_of_reach_of_the_users_service() -> None:
    attempt = release(template=template("web:2"), serving_template=template())
    made = canary_deployment(NAMES, deployment(), attempt, "app", 2)
    labels = made["spec"]["template"]["metadata"]["labels"]
    assert labels["app"] == "web-canary"
    assert made["spec"]["selector"]["matchLabels"] == {"app": "web-canary"}
    assert made["spec"]["template"]["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"] == {
        "app": "web-canary"
    }
    assert "ownerReferences" not in made["metadata"]
    service = canary_service(
        NAMES,
        {"metadata": {}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "nodePort": 3}]}},
        "app",
        {"app": "web"},
    )
    assert service["spec"] == {"ports": [{"port": 80}], "selector": {"app": "web-canary"}}


def test_canary_pods_are_ready_for_a_while_before_they_count() -> None:
    """A gateway learns of them later than the API server does, and answers 503 for weight that is there before."""
    attempt = release(template=template("web:2"), serving_template=template())
    for users, made in ((0, KNOWN_AFTER), (1, KNOWN_AFTER), (30, 30)):
        assert canary_deployment(NAMES, deployment(minReadySeconds=users), attempt, "app", 2)["spec"]["minReadySeconds"] == made


@pytest.mark.parametrize(("available", "ready", "carrying"), [(0, 2, 0), (1, 2, 1), (2, 2, 2), (2, 1, 1), (2, 0, 0)])
def test_pods_carry_traffic_while_they_are_both_available_and_ready(available: int, ready: int, carrying: int) -> None:
    pods = [
        {"metadata": {}, "status": {"conditions": [{"type": "Ready", "status": "True" if i < ready else "False"}]}}
        for i in range(2)
    ]
    assert carrying_pods({"status": {"availableReplicas": available}}, pods) == carrying
    assert carrying_pods(None, pods) == 0


def test_the_label_that_tells_them_apart() -> None:
    tell = templates.telling_label
    assert tell({"app": "web"}, {"app": "web", "tier": "x"}, by_pods=False) == "app"
    assert tell({"tier": "x"}, {"app": "web"}, by_pods=False) is None
    assert tell({"app": "web"}, {"app": "web", "tier": "x"}, by_pods=True) == "tier"
    assert tell({"app": "web"}, {"app": "web"}, by_pods=True) == "serinus.dev/role"


def test_of_several_labels_the_one_that_keeps_most_services_from_the_canary_tells_it_apart() -> None:
    both = {"app.kubernetes.io/name": "web", "app": "web"}
    assert templates.telling_label(both, both, by_pods=False) == "app.kubernetes.io/name"
    assert templates.telling_label(both, both, by_pods=False, others=[{"app": "web"}]) == "app"
    assert templates.telling_label(both, both, by_pods=False, others=[{"tier": "x"}]) == "app.kubernetes.io/name"


def service(called: str, **selector: str) -> Object:
    return {"metadata": {"name": called}, "spec": {"selector": selector}}


def test_a_service_that_reaches_the_canary_at_any_weight_is_named() -> None:
    subject, mine = canary(), service("web", app="web")
    held = deployment(template={"metadata": {"labels": {"app": "web", "tier": "shop"}}})
    others = [service("both", app="web", tier="shop"), service("tier", tier="shop"), service("db", app="db"), service("none")]
    world = World(subject, Names.of(subject), NO_ROUTER, RouteView(), held, None, [], service=mine, services=[mine, *others])
    assert world.label == "app"
    assert world.reached_by == ["tier"]


def test_the_label_stays_what_it_was_for_a_canary_that_is_there() -> None:
    """Though a Service that came since would rather have another."""
    subject, both = canary(), {"app": "web", "name": "web"}
    held = deployment(selector={"matchLabels": both}, template={"metadata": {"labels": both}})
    mine = service("web", **both)
    world = World(subject, Names.of(subject), NO_ROUTER, RouteView(), held, None, [], service=mine)
    world.services = [mine, service("late", name="web")]
    assert world.label == "name"
    attempt = release(template=held["spec"]["template"], serving_template=template())
    world.canary_service = canary_service(NAMES, mine, "app", both)
    assert world.label == "app"
    world.canary_service, world.canary_deployment = None, canary_deployment(NAMES, held, attempt, "app", 1)
    assert world.label == "app"


def test_long_values_stay_within_a_label() -> None:
    assert len(templates.canary_value("app", {"app": "x" * 63})) <= 63


def test_the_same_template_by_content() -> None:
    assert templates.same(template(), template(**{templates.HASH_LABEL: "abc"}))
    assert not templates.same(template(), template("web:2"))
    restarted = template()
    restarted["metadata"]["annotations"] = {templates.RESTARTED_AT: "now"}
    assert templates.restart_only(template(), restarted)
    assert not templates.restart_only(template("web:2"), restarted)


def test_who_serves_while_it_is_held() -> None:
    old, new = replica_set("old", 1, 3), replica_set("new", 2, 1, "web:2")
    held = deployment(paused=True)
    assert serving_replica_set(held, [old, new], "")["metadata"]["name"] == "old"  # type: ignore[index]
    assert serving_replica_set(held, [old, new], "new")["metadata"]["name"] == "new"  # type: ignore[index]
    empty = [replica_set("old", 1), replica_set("new", 2)]
    assert serving_replica_set(held, empty, "old")["metadata"]["name"] == "old"  # type: ignore[index]


def test_empty_replica_sets_that_would_be_filled_by_mistake() -> None:
    old, serving, newer = replica_set("older", 1, 0, "web:0"), replica_set("serving", 2, 3), replica_set("bad", 3, 0, "web:2")
    same_as_held = replica_set("again", 1, 0, "web:3")
    held = deployment(template=template("web:3"), paused=True)
    found = misleading_replica_sets(held, [old, serving, newer, same_as_held], serving)
    assert {rs["metadata"]["name"] for rs in found} == {"bad", "again"}


def test_rolled_out_as_kubectl_sees_it() -> None:
    done = deployment()
    done["status"] = {"observedGeneration": 1, "updatedReplicas": 3, "replicas": 3, "availableReplicas": 3}
    assert rolled_out(done)
    for key, value in (("observedGeneration", 0), ("updatedReplicas", 2), ("replicas", 4), ("availableReplicas", 2)):
        assert not rolled_out({**done, "status": {**done["status"], key: value}})


def test_a_budget_as_strict_as_the_users() -> None:
    mine = {"spec": {"selector": {"matchLabels": {"app": "web"}}, "minAvailable": 2}}
    other = {"spec": {"selector": {"matchLabels": {"app": "db"}}, "minAvailable": 1}}
    made = canary_budget(NAMES, [other, mine], deployment(), "app")
    assert made is not None
    assert made["spec"] == {"minAvailable": 2, "selector": {"matchLabels": {"app": "web-canary"}}}
    assert canary_budget(NAMES, [other], deployment(), "app") is None


def test_a_pod_has_one_budget_at_most() -> None:
    """The eviction API refuses a pod that two select: https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/"""
    by_tier = {"spec": {"selector": {"matchLabels": {"tier": "shop"}}, "minAvailable": 1}}
    held = deployment(template={"metadata": {"labels": {"app": "web", "tier": "shop"}}})
    assert canary_budget(NAMES, [by_tier], held, "app") is None, "canary pods are under the user's own"


def test_every_obstacle_has_a_reason_and_a_sentence() -> None:
    service = {"spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}
    subject = canary()

    def reasons(d: Object, s: Object | None = service, taken: Object | None = None) -> list[str]:
        return [reason for reason, sentence in obstacles(subject, d, s, {"web-canary": taken}) if sentence]

    labelled = deployment()
    labelled["metadata"]["labels"] = {"serinus.dev/canary": "other"}
    assert reasons(deployment()) == []
    assert reasons(labelled) == ["Conflicted"]
    assert reasons(deployment(), None) == ["ServiceNotFound"]
    assert reasons(deployment(), {"spec": {"selector": {"app": "web"}, "ports": []}}) == ["PortNotFound"]
    assert reasons(deployment(), {"spec": {"selector": {"x": "y"}, "ports": [{"port": 80}]}}) == ["NoSharedLabel"]
    assert reasons(deployment(revisionHistoryLimit=0)) == ["NoHistory"]
    assert reasons(deployment(strategy={"type": "Recreate"})) == ["Recreate"]
    assert reasons(deployment(), taken={"kind": "Deployment", "metadata": {}}) == ["NameTaken"]

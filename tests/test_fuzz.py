"""The fuzzer's own judgement, of manifests and of what is left; and that the models take whatever the CRDs take."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest
from e2e.fuzz import life, schema
from e2e.fuzz.state import Space, oddities

from serinus.api.base import Resource, parse_duration
from serinus.api.canary import Canary
from serinus.api.metrictemplate import MetricTemplate

MODELS: dict[str, type[Resource]] = {"Canary": Canary, "MetricTemplate": MetricTemplate}
KINDS = tuple(MODELS)


def judged(kind: str, spec: Any, old: Any = None) -> list[str]:
    told = schema.read(kind)
    complete, _ = schema.completed(told, spec)
    return [str(fault) for fault in schema.faults(told, complete, old)]


def rules(node: Any) -> set[str]:
    """Of all CEL rules below this node."""
    if isinstance(node, list):
        return set().union(*map(rules, node))
    if not isinstance(node, dict):
        return set()
    own = {schema.key(rule["rule"]) for rule in node.get("x-kubernetes-validations") or []}
    return own.union(*map(rules, node.values()))


def test_every_rule_of_the_crds_has_a_twin_and_every_twin_a_rule():
    assert set().union(*(rules(schema.read(kind)) for kind in KINDS)) == set(schema.TWINS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_manifests_to_begin_from_are_sound_and_have_every_field(kind):
    seen = set()

    def fields(node: Any, value: Any, place: str) -> set[str]:
        if node["type"] == "array":
            return set().union(*(fields(node["items"], child, place) for child in value))
        if node["type"] != "object" or "properties" not in node:
            return set()
        below = (fields(child, value[name], f"{place}.{name}") for name, child in node["properties"].items() if name in value)
        return {f"{place}.{name}" for name in value}.union(*below)

    def known(node: Any, place: str) -> set[str]:
        if node["type"] == "array":
            return known(node["items"], place)
        own = node.get("properties") or {}
        return {f"{place}.{name}" for name in own}.union(*(known(child, f"{place}.{name}") for name, child in own.items()))

    for base in schema.BASES[kind]:
        assert judged(kind, base) == []
        seen |= fields(schema.read(kind), base, "spec")
    assert seen == known(schema.read(kind), "spec")


def changed(kind: str, what: str, number: int = 0) -> Any:
    """The one mutant that reads so."""
    told = schema.read(kind)
    (found,) = {str(m): m for m in schema.mutants(told, schema.BASES[kind][number]) if str(m) == what}.values()
    return found.spec


@pytest.mark.parametrize("kind", MODELS)
def test_whatever_was_changed_can_be_changed_again_and_again(kind):
    """Each was seen after half an hour: a list, and then a truth, where a mapping belongs."""
    told = schema.read(kind)
    for seed in range(1500):
        random, spec = Random(seed), schema.BASES[kind][seed % len(schema.BASES[kind])]  # noqa: S311
        for _ in range(6):
            spec = schema.mutant(random, told, spec).spec


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("spec.steps[0].weight is 101", "weight"),
        ("spec.steps[0].weight is 0", "weight"),
        ("spec.service.name is None", "name"),
        ("spec.service.port is 65536", "port"),
        ("spec.service.port is missing", "port"),
        ("spec.targetRef.name has 64 characters", "name"),
        ("spec.targetRef.name is 'a\\n'", "name"),
        ("spec.analysis.interval is '499ms'", "spec.analysis.interval must be between 500ms and 10m"),
        ("spec.analysis.metrics[0].harm is '100%'", "harm must be above 0% and below 100%"),
        ("spec.analysis.metrics[0].ratio.bad is '\\xa0'", "bad"),
        ("spec.steps is the other way round", "the weights in spec.steps must rise"),
        ("spec.steps has 21 entries", "steps"),
        ("spec.steps is missing", "spec needs exactly one of steps or stepWeights"),
        ("spec.traffic is empty", "spec.traffic needs exactly one router: gatewayAPI or podRatio"),
        ("spec.rollback.keepCanaryFor is '87600000h'", "keepCanaryFor"),
        ("spec is None", "spec"),
    ],
)
def test_what_is_past_a_bound_is_a_fault_that_names_the_field(what, names):
    (fault,) = judged("Canary", changed("Canary", what))
    assert f"({names})" in fault


@pytest.mark.parametrize(
    "what",
    [
        "spec.steps[0].weight is 1",
        "spec.service.port is 65535",
        "spec.targetRef.name has 63 characters",
        "spec.targetRef.kind is None",
        "spec.analysis.metrics is None",
        "spec.analysis is None",
        "spec.analysis.metrics has 16 entries",
        "spec.analysis.metrics[2].query has 4096 characters",
        "spec.service has a surplus field",
        "spec.releaseHistoryLimit is 100",
    ],
)
def test_what_is_within_the_bounds_is_none(what):
    assert judged("Canary", changed("Canary", what)) == []


def test_what_cannot_change_is_judged_beside_what_was():
    old = schema.BASES["Canary"][0]
    new = {**old, "service": {"name": "other", "port": 80}}
    assert judged("Canary", new) == []
    assert judged("Canary", new, old) == ["spec (spec.service.name cannot change: make a new Canary)"]


def test_fields_that_nobody_knows_are_named_and_left_out():
    complete, surplus = schema.completed(
        schema.read("Canary"), {**schema.BASES["Canary"][1], "stepss": [1], "rollback": {"x": 1}}
    )
    assert surplus == [("spec", "stepss"), ("spec", "rollback", "x")]
    assert "stepss" not in complete
    assert complete["rollback"] == {"keepCanaryFor": "30s"}


@pytest.mark.parametrize("kind", KINDS)
def test_the_models_take_whatever_the_crds_take(kind):
    """Else the API server stores what no pass can read."""
    told, taken = schema.read(kind), 0
    for base in schema.BASES[kind]:
        for mutant in schema.mutants(told, base):
            complete, _ = schema.completed(told, mutant.spec)
            if not schema.faults(told, complete):
                model = MODELS[kind].model_validate({"metadata": {"name": "x", "namespace": "y"}, "spec": complete})
                taken += 1
                if isinstance(model, Canary):
                    for length in durations(model):
                        assert datetime.now(UTC) + parse_duration(length), mutant
    assert taken > 300


def durations(canary: Canary) -> list[str]:
    spec = canary.spec
    analysis, promotion = spec.analysis, spec.promotion
    steps = [step.duration for step in spec.plan() if step.duration]
    others = [analysis.interval, analysis.no_data_after, analysis.metrics_delay, promotion.deadline, promotion.drain]
    return [*steps, *others, spec.rollback.keep_canary_for, spec.progress_deadline]


# ---- what is done to shops, and what may not be so afterwards ----


def test_the_same_seed_does_the_same():
    plans = [life.plan(life.dice(7, 1)) for _ in range(2)]
    assert plans[0] == plans[1]
    assert life.plan(life.dice(7, 2)) != plans[0]
    assert {act.what for number in range(100) for act in life.plan(life.dice(7, number))} == set(life.KINDS)


def things(phase: str = "Stable", stage: str = "Ended", paused: bool = False, **more: Any) -> Space:
    """A shop at rest, but for what is said."""
    ready = {"type": "Ready", "status": str(phase == "Stable"), "reason": phase, "message": "so", "observedGeneration": 2}
    canary = {
        "metadata": {"name": "checkout", "generation": 2, "finalizers": ["serinus.dev/traffic"]},
        "status": {"phase": phase, "observedGeneration": 2, "conditions": [ready]},
    }
    release = {"metadata": {"name": "r"}, "spec": {"canary": "checkout"}, "status": {"stage": stage}}
    deployment = {
        "metadata": {"name": "checkout", "labels": {"serinus.dev/canary": "checkout"}, "annotations": {}},
        "spec": {"paused": paused},
    }
    route = {"metadata": {"name": "checkout"}, "spec": {"rules": [{"backendRefs": [{"name": "checkout"}]}]}}
    return replace(Space("checkout", [canary], [release], [deployment], [], [], [route]), **more)


def test_what_the_docs_name_is_not_odd():
    assert oddities(things()) == []
    assert oddities(things("RolledBack", paused=True)) == []
    assert oddities(things("Progressing", "Stepping", paused=True)) == []
    assert oddities(things("Adopting", paused=True)) == []


def left(name: str) -> Any:
    return {"metadata": {"name": name, "labels": {"serinus.dev/owned-by": "checkout"}}, "spec": {}}


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (things(paused=True), "is Stable, and the Deployment is paused"),
        (things("RolledBack"), "is RolledBack, and the Deployment is not held"),
        (things("Paused"), "is Paused, and no release is under way"),
        (things(deployments=[]), "is Stable, and there is no Deployment"),
        (things(deployments=[*things().deployments, left("checkout-canary")]), "Deployment checkout-canary of one is left"),
        (things(services=[left("checkout-canary")]), "Service checkout-canary of one is left"),
        (things(budgets=[left("checkout-canary")]), "budget checkout-canary of one is left"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_the_docs_do_not_name_is_odd(space, words):
    assert words in "; ".join(oddities(space))


def test_what_a_release_wrote_is_odd_without_one():
    space = things()
    space.deployments[0]["metadata"]["annotations"]["serinus.dev/promoting"] = "r"
    space.deployments[0]["metadata"]["labels"] = {}
    space.routes[0]["spec"]["rules"][0]["backendRefs"].append({"name": "checkout-canary"})
    found = "; ".join(oddities(space))
    assert "the Deployment is frozen" in found
    assert "label is ''" in found
    assert "route checkout names the canary" in found


def test_a_canary_has_to_say_what_is_so_of_its_newest_generation():
    def said(**status: Any) -> str:
        space = things()
        space.canaries[0]["status"] |= status
        return "; ".join(oddities(space))

    ready = things().canaries[0]["status"]["conditions"][0]
    assert "observedGeneration is 1, and not 2" in said(observedGeneration=1)
    assert "has no condition Ready" in said(conditions=[])
    assert "says nothing" in said(conditions=[{**ready, "message": ""}])
    assert "says nothing" in said(conditions=[{**ready, "reason": "Unknown"}])
    assert "is of generation 1" in said(conditions=[{**ready, "observedGeneration": 1}])
    assert "do not agree" in said(conditions=[{**ready, "status": "False"}])


def test_nothing_of_serinus_stays_where_the_canary_was_let_go_of():
    kept = oddities(things(paused=True, canaries=[]), let_go=True)
    assert kept == ["there is no Canary, and the Deployment has its label", "there is no Canary, and the Deployment is paused"]
    free = things(canaries=[])
    free.deployments[0]["metadata"]["labels"] = {}
    assert oddities(free, let_go=True) == []


def test_what_somebody_writes_on_a_deployment_that_was_let_go_of_is_theirs():
    space = things()
    space.deployments[0]["metadata"]["annotations"]["serinus.dev/promoting"] = ""
    space.canaries[0]["metadata"] |= {"finalizers": ["example.com/theirs"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
    assert oddities(space) == []

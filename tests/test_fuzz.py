"""The fuzzer's own judgement of manifests, and that the models take whatever the CRDs take."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from e2e.fuzz import schema

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

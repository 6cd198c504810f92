"""Templates: variables, escaping, and what a Canary's check comes to."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serinus.api.canary import Metric
from serinus.api.metrictemplate import MetricTemplate
from serinus.metrics.provider import MetricError, MetricMisconfigured
from serinus.metrics.templates import BUILT_IN, LimitQuery, RatioQuery, render, resolve, variables


def metric(**fields: Any) -> Metric:
    return Metric.model_validate({"name": "errors", **fields})


def template(**spec: Any) -> MetricTemplate:
    return MetricTemplate.model_validate({"metadata": {"name": "gateway", "namespace": "platform"}, "spec": spec})


RATIO = {"bad": 'errors{svc="{{ service }}", code=~"{{codes}}"}', "total": 'requests{svc="{{ service }}"}'}
ARGS = [{"name": "codes", "default": "5.."}]


def test_render_replaces_with_and_without_spaces() -> None:
    assert render('a{x="{{a}}", y="{{  b }}"}[{{ w }}]', {"a": "1", "b": "2", "w": "5m"}) == 'a{x="1", y="2"}[5m]'


def test_an_unknown_variable_is_named_with_the_known_ones() -> None:
    with pytest.raises(MetricError, match=r"no variable 'nmespace'; known are canary, namespace"):
        render('a{n="{{ nmespace }}"}', {"namespace": "x", "canary": "y"})


@pytest.mark.parametrize("query", ['a{n="{{ }}"}', 'a{n="{{ a-b }}"}', 'a{n="{{ a"}', "{{"])
def test_what_only_looks_like_a_variable_is_found(query: str) -> None:
    with pytest.raises(MetricMisconfigured, match="is not a variable"):
        render(query, {"a": "x"})


def test_values_are_escaped_for_the_quotes_they_stand_in() -> None:
    value = """a"b'c\\d"""
    assert render('x{y="{{ v }}"}', {"v": value}) == r"""x{y="a\"b'c\\d"}"""
    assert render("x{y='{{ v }}'}", {"v": value}) == r"""x{y='a"b\'c\\d'}"""
    assert render("x{y=`{{ v }}`}", {"v": value}) == f"x{{y=`{value}`}}"
    assert render(r'x{y="\"{{ v }}", z="{{ v }}"}', {"v": '"'}) == r'x{y="\"\"", z="\""}'


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ('x{y="{{ v }}"}', "a\nb"),
        ('x{y="{{ v }}"}', "a\x00"),
        ("x{y=`{{ v }}`}", "a`b"),
        ("x[{{ v }}]", "5m] or vector(0) or x[5m"),
        ("x > {{ v }}", ""),
        ("# it's\nx > {{ v }}", '1 or "'),
    ],
)
def test_values_that_cannot_stand_there_are_refused(query: str, value: str) -> None:
    with pytest.raises(MetricMisconfigured):
        render(query, {"v": value})


@given(st.text(), st.sampled_from("\"'"))
def test_no_value_gets_out_of_its_string(value: str, quote: str) -> None:
    try:
        text = render(f"x{{y={quote}{{{{ v }}}}{quote}}}", {"v": value})
    except MetricMisconfigured:
        return
    inside = re.fullmatch(rf"x\{{y={quote}((?:[^\\{quote}]|\\.)*){quote}\}}", text)
    assert inside
    assert re.sub(r"\\(.)", r"\1", inside[1]) == value


def test_the_built_in_variables_are_all_there() -> None:
    values = variables(
        namespace="shop", canary="checkout", deployment="checkout-canary", service="checkout-canary",
        serving_service="checkout", port=80, release="checkout-abc",
    )  # fmt: skip
    assert set(values) == set(BUILT_IN)
    assert re.fullmatch(values["pods"], "checkout-canary-5d4f9c6b7-x7k2p")
    assert not re.fullmatch(values["pods"], "checkout-5d4f9c6b7-x7k2p")


def test_a_check_of_the_canary_s_own() -> None:
    own = metric(ratio={"bad": 'e{s="{{ service }}"}', "total": "t"}, harm="1%")
    assert resolve(own, None, "shop") == RatioQuery("errors", 'e{s="{{ service }}"}', "t", 0.01)
    assert resolve(metric(query="q", max=5), None, "shop") == LimitQuery("errors", "q", None, 5, 0)


def test_arguments_and_defaults_and_the_canary_s_own_harm() -> None:
    shared = template(ratio=RATIO, args=ARGS, harm="2%", sharedWith=["shop"])
    ref = {"name": "gateway", "namespace": "platform"}
    plain = resolve(metric(templateRef=ref), shared, "shop")
    assert plain == RatioQuery(
        "errors", 'errors{svc="{{ service }}", code=~"5.."}', 'requests{svc="{{ service }}"}', 0.02
    )  # fmt: skip
    own = resolve(metric(templateRef={**ref, "args": {"codes": '5"'}}, harm="0.5%"), shared, "shop")
    assert isinstance(own, RatioQuery)
    assert (own.harm, own.bad) == (0.005, 'errors{svc="{{ service }}", code=~"5\\""}')
    assert render(own.bad, dict.fromkeys(BUILT_IN, "c")) == 'errors{svc="c", code=~"5\\""}'


def test_limits_are_merged() -> None:
    limits = template(query="q", max=5, min=1)
    result = resolve(metric(templateRef={"name": "gateway"}, max=9, failureLimit=2), limits, "shop")
    assert result == LimitQuery("errors", "q", 1, 9, 2)


REF = {"templateRef": {"name": "gateway"}}
QUERY = template(query="q", args=ARGS, max=1)


def ref(**more: Any) -> dict[str, Any]:
    return {"templateRef": {"name": "gateway", **more}}


@pytest.mark.parametrize(
    ("check", "found", "sentence"),
    [
        (REF, None, "errors: there is no MetricTemplate gateway in namespace shop"),
        (ref(namespace="platform"), QUERY, "not shared with namespace shop"),
        (REF, template(ratio=RATIO, args=ARGS), "a ratio needs harm"),
        (REF, template(ratio=RATIO, args=ARGS, harm="0%"), "must be above 0%"),
        (REF, template(ratio=RATIO, args=[{"name": "codes"}], harm="1%"), "argument 'codes' is missing"),
        (REF, template(ratio=RATIO, harm="1%"), "no variable 'codes'; known are"),
        (ref(args={"cods": "4.."}), QUERY, "no argument 'cods'"),
        (ref(args={"codes": "{{ pods }}"}), QUERY, "a variable in it"),
        (REF, template(query="q", args=[{"name": "pods", "default": "x"}], max=1), "is a built-in variable"),
        (REF, template(query="q"), "a query needs min, max or worse"),
        (REF | {"min": 3}, template(query="q", max=1), r"min \(3\) is above max \(1\)"),
        (REF | {"harm": "1%"}, template(query="q", max=1), "harm judges a ratio"),
        (REF | {"max": 1}, template(ratio=RATIO, args=ARGS, harm="1%"), "judge a query"),
        (REF | {"failureLimit": 1}, template(ratio=RATIO, args=ARGS, harm="1%"), "judge a query"),
        ({"query": "{{ servce }}", "max": 1}, None, "no variable 'servce'"),
        ({"query": "{{ }}", "max": 1}, None, "is not a variable"),
        ({}, None, "neither a ratio nor a query"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(check: dict[str, Any], found: MetricTemplate | None, sentence: str) -> None:
    with pytest.raises(MetricMisconfigured, match=sentence):
        resolve(metric(**check), found, "shop")


def test_a_template_can_be_shared_with_all() -> None:
    ref = {"name": "gateway", "namespace": "platform"}
    assert resolve(metric(templateRef=ref), template(query="q", max=1, sharedWith=["*"]), "shop")
    assert resolve(metric(templateRef=ref), template(query="q", max=1), "platform")

"""From a Canary's check and a MetricTemplate to queries. Pure.

Variables stand in queries as ``{{ name }}``. A value is written for the place where its variable stands: escaped within a
string, and a bare word anywhere else, so that it can never become PromQL of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from serinus.api.base import parse_duration, parse_percent
from serinus.api.canary import Metric, Ratio
from serinus.api.metrictemplate import MetricTemplate
from serinus.metrics.builtin import EXPORTERS, HARM, Kind, builtin
from serinus.metrics.provider import MetricMisconfigured

#: The variables that every query may use, and what they are.
BUILT_IN: Mapping[str, str] = {
    "namespace": "the Canary's namespace",
    "canary": "the Canary's name",
    "deployment": "the workload of the version that is judged",
    "service": "the Service of the version that is judged",
    "servingService": "the Service of the version that serves",
    "port": "the Service's port",
    "pods": "a regular expression for the names of the judged version's pods",
    "release": "the Release's name",
}

#: Those that differ between the version that is judged and the one that serves.
_OF_ONE_VERSION = ("deployment", "pods", "service")
#: How much worse than the serving version's a number has to be, unless the Canary says so: a tenth.
TOLERANCE = 0.1

_VARIABLE = re.compile(r"\{\{\s*([A-Za-z][A-Za-z0-9_]*)\s*\}\}")
_BARE = re.compile(r"-?[A-Za-z0-9_:.]+")


@dataclass(frozen=True, slots=True)
class RatioQuery:
    """Two counters and the share above which their ratio does harm (0.01 for 1 %)."""

    name: str
    bad: str
    total: str
    harm: float


@dataclass(frozen=True, slots=True)
class LimitQuery:
    """A plain number and its limits."""

    name: str
    query: str
    min: float | None
    max: float | None
    failure_limit: int
    #: Compared with the serving version's number: which way is worse, and by how much (0.1 for a tenth of it).
    worse: Literal["higher", "lower"] | None = None
    tolerance: float = TOLERANCE


ResolvedCheck = RatioQuery | LimitQuery


def variables(
    *, namespace: str, canary: str, deployment: str, service: str, serving_service: str, port: int, release: str
) -> dict[str, str]:
    """The values of the built-in variables; see `BUILT_IN`.

    `pods` follows the names that Deployments give: ``<deployment>-<template hash>-<five characters>``. Names of more than 46
    characters are cut by Kubernetes and do not match; use labels for those.
    """
    return {
        "namespace": namespace,
        "canary": canary,
        "deployment": deployment,
        "service": service,
        "servingService": serving_service,
        "port": str(port),
        "pods": deployment.replace(".", r"\.") + "-[0-9a-z]+-[0-9a-z]+",
        "release": release,
    }


def render(query: str, variables: Mapping[str, str]) -> str:
    """Replaces every ``{{ name }}``.

    Raises MetricMisconfigured for a variable that is not there, and for a value that cannot stand where its variable does.
    """
    parts = []
    for text, name, quote in _pieces(query):
        if name is None:
            if quote != "#" and "{{" in text:
                wrong = text[text.index("{{") :][:60]
                raise MetricMisconfigured(f"{wrong!r} is not a variable such as {{{{ namespace }}}}", query)
            parts.append(text)
        elif name in variables:
            parts.append(_written(name, variables[name], quote))
        else:
            raise MetricMisconfigured(f"there is no variable {name!r}; known are {', '.join(sorted(variables))}", query)
    return "".join(parts)


def resolve(metric: Metric, template: MetricTemplate | None, namespace: str, exporter: str | None = None) -> ResolvedCheck:
    """The check of a Canary in `namespace`, with its template's queries, arguments and limits; the Canary's own limits win.

    `exporter` is the one of its gateway, None where that is not known. The built-in variables stay in the queries for `render`.
    Raises MetricMisconfigured with a sentence about what is wrong.
    """
    try:
        return _resolve(metric, template, namespace, exporter)
    except MetricMisconfigured as wrong:
        raise MetricMisconfigured(f"{metric.name}: {wrong}") from None


def _resolve(metric: Metric, template: MetricTemplate | None, namespace: str, exporter: str | None) -> ResolvedCheck:
    if metric.builtin is not None:
        return _ready_made(metric, metric.builtin, metric.exporter or exporter)
    if metric.template_ref is None:
        return _check(metric, metric.ratio, metric.query, metric.harm, metric.min, metric.max, {})
    home = metric.template_ref.namespace or namespace
    if template is None:
        raise MetricMisconfigured(f"there is no MetricTemplate {metric.template_ref.name} in namespace {home}")
    spec = template.spec
    if home != namespace and not {namespace, "*"} & set(spec.shared_with):
        raise MetricMisconfigured(
            f"MetricTemplate {home}/{metric.template_ref.name} is not shared with namespace {namespace} (spec.sharedWith)"
        )
    if spec.ratio and any(each is not None for each in (metric.min, metric.max, metric.failure_limit, metric.worse)):
        raise MetricMisconfigured("min, max, failureLimit and worse judge a query, and the template has a ratio")
    if spec.query and metric.harm is not None:
        raise MetricMisconfigured("harm judges a ratio, and the template has a query")
    least = metric.min if metric.min is not None else spec.min
    most = metric.max if metric.max is not None else spec.max
    return _check(metric, spec.ratio, spec.query, metric.harm or spec.harm, least, most, _arguments(metric, template))


def _ready_made(metric: Metric, kind: Kind, exporter: str | None) -> ResolvedCheck:
    if exporter is None:
        raise MetricMisconfigured(
            f"the route's Gateway controller is none whose metrics are known: say exporter ({', '.join(EXPORTERS)})"
        )
    slower_than = parse_duration(metric.slower_than).total_seconds() if metric.slower_than else None
    pair = builtin(kind, exporter, slower_than)
    return _check(metric, Ratio(bad=pair.bad, total=pair.total), None, metric.harm or HARM[kind], None, None, {})


def _check(
    metric: Metric,
    ratio: Ratio | None,
    query: str | None,
    harm: str | None,
    least: float | None,
    most: float | None,
    arguments: Mapping[str, str],
) -> ResolvedCheck:
    # Built-in variables become themselves again, so that an unknown one is found now and not with the first release.
    known = {name: f"{{{{ {name} }}}}" for name in BUILT_IN} | dict(arguments)
    if ratio is not None:
        if harm is None:
            raise MetricMisconfigured("a ratio needs harm, the rate below which no version is blamed")
        share = parse_percent(harm)
        if not 0 < share < 1:
            raise MetricMisconfigured(f"harm is {harm}; it must be above 0% and below 100%")
        return RatioQuery(metric.name, _partly(ratio.bad, known), _partly(ratio.total, known), share)
    if query is None:
        raise MetricMisconfigured("neither a ratio nor a query")
    if least is None and most is None and metric.worse is None:
        raise MetricMisconfigured("a query needs min, max or worse")
    if least is not None and most is not None and least > most:
        raise MetricMisconfigured(f"min ({least:g}) is above max ({most:g})")
    text, tolerance = _partly(query, known), parse_percent(metric.tolerance) if metric.tolerance else TOLERANCE
    if metric.worse and not any(name in _OF_ONE_VERSION for _, name, _ in _pieces(text)):
        raise MetricMisconfigured(
            f"worse compares two versions, and the query has no variable that tells them apart ({', '.join(_OF_ONE_VERSION)})",
            text,
        )
    return LimitQuery(metric.name, text, least, most, metric.failure_limit or 0, metric.worse, tolerance)


def _arguments(metric: Metric, template: MetricTemplate) -> dict[str, str]:
    given = dict((metric.template_ref.args if metric.template_ref else None) or {})
    result = {}
    for argument in template.spec.args:
        if argument.name in BUILT_IN:
            raise MetricMisconfigured(f"the template's argument {argument.name!r} is a built-in variable")
        value = given.pop(argument.name, argument.default)
        if value is None:
            raise MetricMisconfigured(f"the argument {argument.name!r} is missing (templateRef.args)")
        if "{{" in value:
            raise MetricMisconfigured(f"the argument {argument.name!r} has a variable in it: {value!r}")
        result[argument.name] = value
    if given:
        known = ", ".join(a.name for a in template.spec.args) or "none"
        raise MetricMisconfigured(f"the template has no argument {sorted(given)[0]!r}; known are {known}")
    return result


def _partly(query: str, known: Mapping[str, str]) -> str:
    """`render`, with the built-in variables left where they are."""
    parts = []
    for text, name, quote in _pieces(query):
        if name is None or name in BUILT_IN:
            parts.append(text)
        elif name in known:
            parts.append(_written(name, known[name], quote))
        else:
            raise MetricMisconfigured(f"there is no variable {name!r}; known are {', '.join(sorted(known))}", query)
    # What only looks like a variable is found as well.
    whole = "".join(parts)
    render(whole, dict.fromkeys(BUILT_IN, "x"))
    return whole


def _pieces(query: str) -> Iterator[tuple[str, str | None, str]]:
    """`query` in pieces: (text, the variable's name or None, the quote it stands in, "#" in a comment, or "")."""
    quote, start, i = "", 0, 0
    while i < len(query):
        match = _VARIABLE.match(query, i) if quote != "#" else None
        if match:
            if start < i:
                yield query[start:i], None, quote
            yield match.group(), match.group(1), quote
            start = i = match.end()
            continue
        character = query[i]
        if character == "\\" and quote in ('"', "'"):
            i += 2
            continue
        closes = character == quote if quote not in ("", "#") else quote == "#" and character == "\n"
        opens = quote == "" and character in "\"'`#"
        i += 1
        if opens or closes:
            # A piece lies wholly within or wholly without a string.
            if start < i:
                yield query[start:i], None, quote
            start = i
            quote = character if opens else ""
    if start < len(query):
        yield query[start:], None, quote


def _written(name: str, value: str, quote: str) -> str:
    """`value` as it may stand within `quote`. PromQL's strings: https://prometheus.io/docs/prometheus/latest/querying/basics/."""
    if not value.isprintable():
        raise MetricMisconfigured(f"the value of {name!r} has a line break or a control character in it")
    if quote in ('"', "'"):
        return value.replace("\\", "\\\\").replace(quote, "\\" + quote)
    if quote == "`" and "`" in value:
        raise MetricMisconfigured(f"the value of {name!r} has a ` in it, and stands between two of them")
    if quote == "" and not _BARE.fullmatch(value):
        raise MetricMisconfigured(
            f"the value of {name!r} ({value[:60]!r}) stands outside quotes, where only a word or number may"
        )
    return value

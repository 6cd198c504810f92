"""What the CRDs in crds/ say, judged a second time: which manifests are within their bounds, and values at and past each bound.

The API server's own judgement is the one under test, so nothing of it is used here: types, bounds and defaults are read from
the schema, and every CEL rule has its twin in Python, found by the rule's text.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import yaml
from e2e import kubectl

Schema = dict[str, Any]
Place = tuple[str | int, ...]

CRDS = {"Canary": "canaries", "MetricTemplate": "metrictemplates"}


@functools.cache
def read(kind: str, folder: Path = kubectl.ROOT / "crds") -> Schema:
    """The schema of `spec`."""
    crd = yaml.safe_load((folder / f"{CRDS[kind]}.yaml").read_text())
    schema: Schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return schema


@dataclass(frozen=True)
class Fault:
    """Why a manifest is outside of what is documented. A refusal has to say one of `names`."""

    place: Place
    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"{written(self.place)} ({' or '.join(self.names)})"


def written(place: Place) -> str:
    """As the API server writes it: spec.steps[0].weight."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f"{'.' if text else ''}{part}"
    return text


# ---- judging ----


def completed(schema: Schema, value: Any, place: Place = ("spec",)) -> tuple[Any, list[Place]]:
    """`value` with defaults and without fields that the schema does not know, as it would be stored; and those fields."""
    surplus: list[Place] = []
    if isinstance(value, dict) and schema.get("type") == "object":
        known: dict[str, Schema] = schema.get("properties") or {}
        result: dict[str, Any] = {}
        for key, child in value.items():
            if child is None and key in known:
                continue  # as if it were not there
            if key in known:
                result[key], more = completed(known[key], child, (*place, key))
                surplus += more
            elif "additionalProperties" in schema:
                result[key] = child
            else:
                surplus.append((*place, key))
        for key, child in known.items():
            if key not in result and "default" in child:
                result[key], _ = completed(child, deepcopy(child["default"]), (*place, key))
        return result, surplus
    if isinstance(value, list) and schema.get("type") == "array":
        pairs = [completed(schema["items"], child, (*place, number)) for number, child in enumerate(value)]
        return [pair[0] for pair in pairs], [found for pair in pairs for found in pair[1]]
    return value, surplus


def faults(schema: Schema, value: Any, old: Any = None, place: Place = ("spec",)) -> list[Fault]:
    """Everything that is wrong with a completed value. `old` is what it replaces, for rules about changes."""
    found = list(_shape(schema, value, place))
    if found:
        return found  # the API server too asks the rules of sound objects only
    return [
        Fault(spot, (rule["message"],))
        for spot, node, child, before in _nodes(schema, value, old, place)
        for rule in node.get("x-kubernetes-validations") or []
        if not _holds(rule["rule"], child, before)
    ]


def _nodes(schema: Schema, value: Any, old: Any, place: Place) -> Iterator[tuple[Place, Schema, Any, Any]]:
    yield place, schema, value, old
    if isinstance(value, dict):
        before = old if isinstance(old, dict) else {}
        for key, child in value.items():
            if key in (schema.get("properties") or {}):
                yield from _nodes(schema["properties"][key], child, before.get(key), (*place, key))
    elif isinstance(value, list) and "items" in schema:
        for number, child in enumerate(value):
            yield from _nodes(schema["items"], child, None, (*place, number))


TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "number": lambda v: isinstance(v, int | float) and not isinstance(v, bool),
    "boolean": lambda v: isinstance(v, bool),
}


def _shape(schema: Schema, value: Any, place: Place) -> Iterator[Fault]:
    if not TYPES[schema["type"]](value) or not _bounded(schema, value) or value not in schema.get("enum", [value]):
        yield Fault(place, (next((str(part) for part in reversed(place) if isinstance(part, str)), "spec"),))
    elif isinstance(value, list):
        for number, child in enumerate(value):
            yield from _shape(schema["items"], child, (*place, number))
    elif isinstance(value, dict):
        yield from (Fault((*place, key), (key,)) for key in schema.get("required") or [] if key not in value)
        for key, child in value.items():
            below = (schema.get("properties") or {}).get(key) or schema.get("additionalProperties")
            if below:
                yield from _shape(below, child, (*place, key))


def _bounded(schema: Schema, value: Any) -> bool:
    if isinstance(value, int | float):
        whole = schema["type"] != "integer" or -(2**63) <= value < 2**63
        return whole and bool(schema.get("minimum", value) <= value <= schema.get("maximum", value))
    least, most = {"str": ("minLength", "maxLength"), "list": ("minItems", "maxItems"), "dict": ("", "maxProperties")}[
        type(value).__name__
    ]
    size = len(value)
    return bool(schema.get(least, 0) <= size <= schema.get(most, size)) and (not isinstance(value, str) or matches(schema, value))


def matches(schema: Schema, value: str) -> bool:
    """The pattern, as Go's RE2 understands it: $ is the end of the text, and not before a line break there."""
    pattern: str = schema.get("pattern", "")
    return re.search(re.sub(r"\$$", r"\\Z", pattern), value) is not None


def disagreement(kind: str, spec: Any, old: Any, code: int, message: str, stored: Any) -> str:
    """How the API server's answer to this spec differs from what the schema says; '' if it does not."""
    schema = read(kind)
    complete, surplus = completed(schema, spec)
    found = faults(schema, complete, old)
    wrong = [*map(str, found), *(f"{written(place)} is unknown" for place in surplus)]
    if code in (404, 409):
        return ""  # about another object, or another version of this one
    if code >= 500:
        return f"answered with {code}: {message}"
    if code <= 299 and wrong:
        return f"outside of its bounds, and accepted: {', '.join(wrong)}"
    if code <= 299 and not same(complete, stored):
        return f"accepted, and stored as something else: {stored}"
    if code > 299 and not wrong:
        return f"within its bounds, and refused: {message}"
    names = [name for fault in found for name in fault.names] + [str(place[-1]) for place in surplus]
    if code > 299 and not any(name in message for name in names):
        return f"refused without naming {' or '.join(sorted(set(names)))}: {message}"
    return ""


def same(one: Any, other: Any) -> bool:
    """Equal; large numbers as far as they survive JSON."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    numbers = isinstance(one, int | float) and isinstance(other, int | float)
    return math.isclose(one, other, rel_tol=1e-15) if numbers else bool(one == other)


# ---- the CEL rules' twins ----


def nanoseconds(text: str) -> int:
    """Go's time.ParseDuration of what the schema's pattern lets through: each part is cut to whole nanoseconds.

    Raises OverflowError where Go's does.
    """
    units = {"ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)", text)
    total = sum(int(Fraction(number) * units[unit]) for number, unit in parts)
    if total >= 2**63:
        raise OverflowError(text)
    return total


def rises(weights: list[int]) -> bool:
    """Each one more than the one before."""
    return weights == sorted(set(weights))


def one_of(self: Any, *names: str) -> bool:
    """Exactly one of these fields."""
    return sum(name in self for name in names) == 1


def in_order(self: Any) -> bool:
    """min is not above max."""
    return "min" not in self or "max" not in self or self["min"] <= self["max"]


def harm(self: Any) -> bool:
    """Above 0% and below 100%."""
    return "harm" not in self or 0 < share(self["harm"]) < 100


def share(percent: str) -> float:
    """50% -> 50.0."""
    return float(percent.replace("%", ""))


def interval(self: Any) -> bool:
    """Between 500ms and 10m."""
    return 5 * 10**8 <= nanoseconds(self.get("interval", "1s")) <= 600 * 10**9


#: The rule's text, without white space, to its twin: (self, oldSelf) -> it holds. Rules about changes ask for an oldSelf.
TWINS: dict[str, Callable[[Any, Any], bool]] = {
    "has(self.steps)!=has(self.stepWeights)": lambda s, _: one_of(s, "steps", "stepWeights"),
    "!has(self.steps)||self.steps.exists(s,has(s.weight))": lambda s, _: (
        "steps" not in s or any("weight" in step for step in s["steps"])
    ),
    "!has(self.steps)||self.steps.filter(s,has(s.weight)).map(s,s.weight).isSorted()&&self.steps.all(s,"
    "!has(s.weight)||self.steps.exists_one(o,has(o.weight)&&o.weight==s.weight))": lambda s, _: rises(
        [step["weight"] for step in s.get("steps", []) if "weight" in step]
    ),
    "!has(self.stepWeights)||self.stepWeights.isSorted()"
    "&&self.stepWeights.all(w,self.stepWeights.exists_one(o,o==w))": lambda s, _: rises(s.get("stepWeights", [])),
    "self.targetRef.name==oldSelf.targetRef.name": lambda s, o: s["targetRef"]["name"] == o["targetRef"]["name"],
    "has(self.traffic.podRatio)==has(oldSelf.traffic.podRatio)": lambda s, o: (
        ("podRatio" in s["traffic"]) == ("podRatio" in o["traffic"])
    ),
    "self.service.name==oldSelf.service.name": lambda s, o: s["service"]["name"] == o["service"]["name"],
    "(has(self.gatewayAPI)?1:0)+(has(self.podRatio)?1:0)==1": lambda s, _: one_of(s, "gatewayAPI", "podRatio"),
    "(has(self.httpRoutes)?size(self.httpRoutes):0)+(has(self.grpcRoutes)?size(self.grpcRoutes):0)>0": lambda s, _: bool(
        s.get("httpRoutes") or s.get("grpcRoutes")
    ),
    "has(self.weight)!=has(self.pause)": lambda s, _: one_of(s, "weight", "pause"),
    "!has(self.duration)||has(self.weight)": lambda s, _: "duration" not in s or "weight" in s,
    "(!has(self.minDuration)&&!has(self.maxDuration))||(has(self.weight)&&!has(self.duration))": lambda s, _: (
        not {"minDuration", "maxDuration"} & set(s) or ("weight" in s and "duration" not in s)
    ),
    "!has(self.minDuration)||!has(self.maxDuration)||duration(self.minDuration)<=duration(self.maxDuration)": lambda s, _: (
        not {"minDuration", "maxDuration"} <= set(s) or nanoseconds(s["minDuration"]) <= nanoseconds(s["maxDuration"])
    ),
    "!has(self.falseRollbacks)||(double(self.falseRollbacks.replace('%',''))>0.0"
    "&&double(self.falseRollbacks.replace('%',''))<=50.0)": lambda s, _: 0 < share(s.get("falseRollbacks", "1%")) <= 50,
    "!has(self.severe)||double(self.severe.replace('%',''))<=100.0": lambda s, _: share(s.get("severe", "0%")) <= 100,
    "!has(self.interval)||(duration(self.interval)>=duration('500ms')&&duration(self.interval)<=duration('10m'))": lambda s, _: (
        interval(s)
    ),
    "!has(self.metrics)||self.metrics.all(m,self.metrics.exists_one(o,"
    "(has(o.name)?o.name:o.builtin)==(has(m.name)?m.name:m.builtin)))": lambda s, _: (
        len({m.get("name", m.get("builtin")) for m in s.get("metrics", [])}) == len(s.get("metrics", []))
    ),
    "(has(self.builtin)?1:0)+(has(self.templateRef)?1:0)+(has(self.ratio)?1:0)+(has(self.query)?1:0)==1": lambda s, _: one_of(
        s, "builtin", "templateRef", "ratio", "query"
    ),
    "has(self.name)||has(self.builtin)": lambda s, _: bool({"name", "builtin"} & set(s)),
    "(has(self.builtin)&&self.builtin=='slow')==has(self.slowerThan)": lambda s, _: (
        (s.get("builtin") == "slow") == ("slowerThan" in s)
    ),
    "!has(self.slowerThan)||duration(self.slowerThan)>duration('0s')": lambda s, _: (
        "slowerThan" not in s or nanoseconds(s["slowerThan"]) > 0
    ),
    "!has(self.exporter)||has(self.builtin)": lambda s, _: "exporter" not in s or "builtin" in s,
    "!has(self.builtin)||(!has(self.min)&&!has(self.max)&&!has(self.failureLimit))": lambda s, _: (
        "builtin" not in s or not {"min", "max", "failureLimit"} & set(s)
    ),
    "!has(self.query)||self.source=='prometheus'": lambda s, _: "query" not in s or s["source"] == "prometheus",
    "!has(self.podMetrics)||self.source=='direct'": lambda s, _: "podMetrics" not in s or s["source"] == "direct",
    "!has(self.ratio)||(!has(self.min)&&!has(self.max)&&!has(self.failureLimit))": lambda s, _: (
        "ratio" not in s or not {"min", "max", "failureLimit"} & set(s)
    ),
    "!has(self.harm)||!has(self.query)": lambda s, _: not ("harm" in s and "query" in s),
    "!has(self.ratio)||has(self.harm)": lambda s, _: "ratio" not in s or "harm" in s,
    "!has(self.query)||has(self.min)||has(self.max)||has(self.worse)": lambda s, _: (
        "query" not in s or bool({"min", "max", "worse"} & set(s))
    ),
    "(has(self.query)||has(self.templateRef))||!has(self.worse)": lambda s, _: (
        "worse" not in s or bool({"query", "templateRef"} & set(s))
    ),
    "!has(self.tolerance)||has(self.worse)": lambda s, _: "tolerance" not in s or "worse" in s,
    "!has(self.min)||!has(self.max)||self.min<=self.max": lambda s, _: in_order(s),
    "!has(self.harm)||(double(self.harm.replace('%',''))>0.0&&double(self.harm.replace('%',''))<100.0)": lambda s, _: harm(s),
    "has(self.ratio)!=has(self.query)": lambda s, _: one_of(s, "ratio", "query"),
    "!has(self.harm)||has(self.ratio)": lambda s, _: "harm" not in s or "ratio" in s,
    "!has(self.ratio)||(!has(self.min)&&!has(self.max))": lambda s, _: "ratio" not in s or not {"min", "max"} & set(s),
}


def key(rule: str) -> str:
    """A rule's text as TWINS has it."""
    return re.sub(r"\s+", "", rule)


def _holds(rule: str, value: Any, old: Any) -> bool:
    if "oldSelf" in rule and old is None:
        return True
    try:
        return TWINS[key(rule)](value, old)
    except OverflowError:
        return False


# ---- values at and past every bound ----


@dataclass(frozen=True)
class Mutant:
    """A manifest's spec with one thing changed."""

    place: Place
    what: str
    spec: Any

    def __str__(self) -> str:
        return f"{written(self.place)} {self.what}"


GONE = object()
#: What a careless or hostile person writes into a string.
HOSTILE = (
    "",
    " ",
    "\n",
    "a\n",
    "\t",
    "\x00",
    "\x0b",
    "\u00a0",
    "\u2028",
    "ä",
    "🐤",
    "\u202eyranac",
    "-a",
    "a-",
    "a..b",
    "A",
    "1",
    "0",
    "-1",
    "null",
    "true",
    "../../etc",
    "{{ namespace }}",
    "{{ nothing }}",
    "{{",
    '"} or vector(1) #',
    "'; drop table",
    "%s%n",
    "${x}",
    "<b>",
    "1e9",
    "NaN",
    "0%",
    "100%",
    "99.999999%",
    "0.000001%",
    "1.%",
    "1000%",
    "0s",
    "-1s",
    "1",
    "1d",
    "1h1h",
    "499ms",
    "500ms",
    "10m",
    "10m1ms",
    "99999h",
    "87600000h",
    "9999999999h",
    "99999999999999999999999999999h",
    "0.00000000000000000000000001ms",
    "00000000000000000000000000001s",
)
NUMBERS = (0, -1, 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 1.5, 1e308, -1e308, 5e-324)
OTHERS: tuple[Any, ...] = (None, True, 7, 1.5, "x", [], ["x"], {}, {"x": "y"})


def fitting(schema: Schema, length: int) -> str:
    """A text of this length that the pattern is likely to take."""
    pattern = schema.get("pattern", "")
    if "ms|s" in pattern:
        return f"{'1'.rjust(length - 1, '0')}s"
    if "%" in pattern:
        return f"1.{'0' * (length - 3)}%"
    return "a" * length if pattern.startswith("^") else "ä" * (length - 1) + "a"  # characters are not bytes


def values(schema: Schema, value: Any) -> Iterator[tuple[str, Any]]:
    """(what, value) to put in the place of `value`, which may have been changed to another type before."""
    kind = schema["type"]
    if kind in ("array", "object") and not TYPES[kind](value):
        value = [] if kind == "array" else {}
    yield from ((f"is {other!r}", other) for other in OTHERS if not TYPES[kind](other))
    if kind == "string":
        yield from _texts(schema)
    elif kind in ("integer", "number"):
        bounds = {schema[b] + d for b in ("minimum", "maximum") if b in schema for d in (-1, 0, 1)}
        yield from ((f"is {number}", number) for number in (*NUMBERS, *sorted(bounds)))
    elif kind == "array":
        yield from _lists(schema, value)
    elif kind == "object":
        yield "has a surplus field", {**value, "surplus": "x"}
        yield "is empty", {}
        if "additionalProperties" in schema:
            for length in _near(schema.get("maxProperties", 8)):
                yield f"has {length} fields", {f"k{number}": "x" for number in range(length)}


def _texts(schema: Schema) -> Iterator[tuple[str, str]]:
    yield from ((f"is {text!r}", text) for text in HOSTILE)
    for length in _near(schema.get("minLength", 1), schema.get("maxLength", 64)):
        yield f"has {length} characters", fitting(schema, length)
    for each in schema.get("enum") or []:
        yield f"is {each}", each
        yield f"is {each.swapcase()}", each.swapcase()


def _lists(schema: Schema, value: list[Any]) -> Iterator[tuple[str, list[Any]]]:
    for length in _near(schema.get("minItems", 0), schema.get("maxItems", 8)):
        yield f"has {length} entries", [_another(value[0] if value else "x", number) for number in range(length)]
    yield "is empty", []
    yield "has an entry twice", [*value, *value[-1:]]
    yield "is the other way round", value[::-1]
    yield "has null in it", [*value, None]


def _near(*bounds: int) -> list[int]:
    """At each bound, and one to either side."""
    return sorted({bound + d for bound in bounds for d in (-1, 0, 1) if bound + d > 0})


def _another(entry: Any, number: int) -> Any:
    """Like `entry`, and unlike the others."""
    if isinstance(entry, dict):
        return {k: _another(v, number) if k in ("name", "weight") else deepcopy(v) for k, v in entry.items()}
    if isinstance(entry, str):
        return f"x{number}"
    return number + 1 if isinstance(entry, int) else entry


def mutants(schema: Schema, spec: Any) -> Iterator[Mutant]:
    """`spec` with every field in turn given every value, left out, and given company."""
    for place, node, value, _ in _nodes(schema, spec, None, ("spec",)):
        for what, new in values(node, value):
            yield Mutant(place, what, _with(spec, place[1:], new))
        if len(place) > 1:
            yield Mutant(place, "is missing", _with(spec, place[1:], GONE))


def mutant(random: Random, schema: Schema, spec: Any) -> Mutant:
    """One of them."""
    place, node, value, _ = random.choice(list(_nodes(schema, spec, None, ("spec",))))
    what, new = random.choice([*values(node, value), *([("is missing", GONE)] if len(place) > 1 else [])])
    return Mutant(place, what, _with(spec, place[1:], new))


def _with(spec: Any, place: Place, new: Any) -> Any:
    if not place:
        return deepcopy(new)
    changed = deepcopy(spec)
    node = changed
    for part in place[:-1]:
        node = node[part]
    if new is GONE:
        del node[place[-1]]
    else:
        node[place[-1]] = deepcopy(new)
    return changed


# ---- manifests to begin from: together they have every field ----

METRICS = [
    {"name": "failed", "ratio": {"bad": "vector(0)", "total": "vector(1)"}, "harm": "1%", "baseline": "none"},
    {"name": "slow", "templateRef": {"name": "slow", "namespace": "elsewhere", "args": {"within": "0.3"}}, "harm": "5%"},
    {"name": "depth", "query": "vector(1)", "min": -1, "max": 99.5, "failureLimit": 2},
    {"name": "heap", "query": 'max(heap{pod=~"{{ pods }}"})', "worse": "higher", "tolerance": "20%"},
    {"builtin": "errors", "source": "direct", "podMetrics": {"port": 9090, "path": "/metrics"}},
    {"name": "very-slow", "builtin": "slow", "slowerThan": "1.2s", "exporter": "traefik"},
]
BASES: dict[str, list[dict[str, Any]]] = {
    "Canary": [
        {
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "checkout"},
            "service": {"name": "checkout", "port": 80},
            "traffic": {"gatewayAPI": {"httpRoutes": [{"name": "checkout"}], "grpcRoutes": [{"name": "checkout.rpc"}]}},
            "steps": [
                {"weight": 5, "minDuration": "10s", "maxDuration": "1h"},
                {"weight": 25, "duration": "1h30m"},
                {"pause": {}},
                {"weight": 100, "duration": "0.5m"},
            ],
            "analysis": {
                "interval": "1s",
                "metrics": METRICS,
                "noData": "pass",
                "noDataAfter": "2m",
                "metricsDelay": "15s",
                "falseRollbacks": "0.5%",
                "severe": "50%",
                "independentErrors": True,
                "warmUp": "10s",
            },
            "rollback": {"keepCanaryFor": "0s"},
            "promotion": {"deadline": "10m", "drain": "3s"},
            "progressDeadline": "5m",
            "onDelete": "LeaveHeld",
            "releaseHistoryLimit": 10,
        },
        {
            "targetRef": {"name": "checkout"},
            "service": {"name": "checkout", "port": 80},
            "traffic": {"podRatio": {}},
            "stepWeights": [5, 25, 50],
        },
    ],
    "MetricTemplate": [
        {
            "description": "Share of 5xx",
            "ratio": {"bad": 'bad{service="{{ service }}"}', "total": 'all{service="{{ service }}"}'},
            "harm": "1%",
            "args": [{"name": "gateway", "default": "traefik"}, {"name": "code"}],
            "sharedWith": ["*", "shop"],
        },
        {"query": "depth", "min": 0, "max": 2.5},
    ],
}

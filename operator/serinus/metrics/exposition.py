"""A /metrics page, read and asked as Prometheus would be asked. Pure.

For reading a gateway's or pods' own counters each second, without waiting for a scrape. The formats:
https://prometheus.io/docs/instrumenting/exposition_formats/ and https://prometheus.io/docs/specs/om/open_metrics_spec/.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping

from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from serinus.analysis.counters import Labels
from serinus.metrics.provider import MetricUnusable
from serinus.metrics.selector import NAME, Difference, Expression, Selector

#: What a page holds: (a metric's name, its labels) -> its value.
Samples = dict[tuple[str, Labels], float]

#: What to ask a page for, as an Accept header.
ACCEPT = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=1"

_SUFFIXES = ("_total", "_bucket", "_count", "_sum", "_created", "_gcount", "_gsum", "_info")
_NAME_OF_LINE = re.compile(r'[ \t]*(?:([A-Za-z_:][A-Za-z0-9_:]*)|\{[ \t]*"((?:[^"\\]|\\.)*)")')
_SAMPLE = re.compile(r'[A-Za-z_:][A-Za-z0-9_:]*(?:[ \t]*\{|[ \t]+[-+.0-9NnIi])|\{[ \t]*"(?:[^"\\]|\\.)*"[ \t]*[,}]')
_USUAL_LINE = re.compile(
    r'([A-Za-z_:][A-Za-z0-9_:]*)(?:\{((?:[A-Za-z_][A-Za-z0-9_]*="[^"\\]*"(?:,|(?=\})))*)\})?'
    r" ([-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)(?: -?[0-9]+)?"
)
_PAIR = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="([^"]*)"')
_FAMILY_OF_COMMENT = re.compile(r"#[ \t]*(?:TYPE|HELP|UNIT)[ \t]+(\S+)")


def names(expression: Expression) -> frozenset[str]:
    """The metrics that `expression` reads. '' stands for one that only matchers name; `parse` then needs every metric."""
    sides = (expression,) if isinstance(expression, Selector) else (expression.minuend, expression.subtrahend)
    return frozenset(side.name for side in sides)


def parse(
    body: bytes, content_type: str | None, wanted: Collection[str] | None, target: Mapping[str, str] | None = None
) -> Samples:
    """The samples of the metrics named in `wanted`; of all with None or with '' among them.

    `content_type` is the answer's header. `target` are labels that every sample gets, as a scrape adds namespace and pod; a label
    of the page's own with such a name becomes ``exported_<name>``. Labels without a value are left out, as Prometheus does.
    Raises MetricUnusable for what is no such page; it names what was found. Lines that are not wanted are not looked at.
    """
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind not in ("", "text/plain", "application/openmetrics-text"):
        raise MetricUnusable(f"the page is {_kind(kind, body)}, not metrics as text")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise MetricUnusable("the page is not text in UTF-8: are these metrics?") from None
    strict = kind == "application/openmetrics-text"
    known = None if wanted is None or "" in wanted else frozenset(wanted)
    try:
        _look(text)
        added = dict(target or {})
        if strict:
            return _samples(openmetrics(_families(text, known)), known, added)  # type: ignore[no-untyped-call]
        found, rest = _quickly(text, known, added)
        # Of two lines for one series Prometheus takes the first.
        return _samples(plain(rest), known, added) | found if rest else found
    except MetricUnusable:
        raise
    except Exception as failure:  # the parsers raise whatever they stumble over
        raise MetricUnusable(f"the page cannot be read as metrics: {' '.join(str(failure).split())[:200]}") from None


def evaluate(expression: Expression, samples: Samples) -> dict[Labels, float]:
    """What an instant query of `expression` gives: with ``__name__`` for a selector, without it for a difference.

    Raises MetricUnusable for a counter that is negative or not a number, and for the pairs that Prometheus refuses: several
    series on one side that only the ignored labels tell apart.
    """
    if isinstance(expression, Selector):
        return _selected(expression, samples)
    return _difference(expression, samples)


def _selected(selector: Selector, samples: Samples) -> dict[Labels, float]:
    found = {}
    # What is cheap to compare first, and each value of a label once: a gateway's buckets repeat them ten times.
    matchers = [(matcher, dict[str, bool]()) for matcher in sorted(selector.matchers, key=lambda matcher: len(matcher.op))]
    for (name, labels), value in samples.items():
        if selector.name and name != selector.name:
            continue
        present = dict(labels)
        present[NAME] = name
        for matcher, known in matchers:
            of_label = present.get(matcher.label, "")
            matches = known.get(of_label)
            if matches is None:
                matches = known[of_label] = matcher.matches(of_label)
            if not matches:
                break
        else:
            if not value >= 0 or math.isinf(value):
                shown = "not a number" if math.isnan(value) else "negative" if value < 0 else "infinite"
                raise MetricUnusable(f"{_shown(name, labels)} is {shown} ({value:g}), which no counter can be")
            found[tuple(sorted(present.items()))] = value
    return found


def _difference(difference: Difference, samples: Samples) -> dict[Labels, float]:
    ignored = {*difference.ignoring, NAME}
    subtrahends: dict[Labels, float] = {}
    for labels, value in _selected(difference.subtrahend, samples).items():
        rest = _without(labels, ignored)
        if rest in subtrahends:
            raise MetricUnusable(f"several series of {difference.subtrahend} are alike but for {_listed(difference)}")
        subtrahends[rest] = value
    found: dict[Labels, float] = {}
    for labels, value in _selected(difference.minuend, samples).items():
        rest = _without(labels, ignored)
        if rest not in subtrahends:
            continue
        if rest in found:
            raise MetricUnusable(f"several series of {difference.minuend} are alike but for {_listed(difference)}")
        found[rest] = value - subtrahends[rest]
    return found


def _without(labels: Labels, ignored: Collection[str]) -> Labels:
    return tuple(pair for pair in labels if pair[0] not in ignored)


def _listed(difference: Difference) -> str:
    return ", ".join(difference.ignoring) or "their names"


def _shown(name: str, labels: Labels) -> str:
    return name + "{" + ",".join(f'{label}="{value}"' for label, value in labels)[:200] + "}"


# --- Reading ----------------------------------------------------------------------------------------------------------------


def _kind(kind: str, body: bytes) -> str:
    if kind in ("text/html", "application/xhtml+xml") or body.lstrip()[:1] == b"<":
        return "a web page"
    if "protobuf" in kind:
        return "in protobuf"
    return f"of type {kind[:60]}"


def _look(text: str) -> None:
    """Whether this can be metrics at all; only wanted lines are parsed later, and a page of something else has none."""
    for line in text.split("\n", 10_000):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("<"):
            raise MetricUnusable("the page is a web page, not metrics as text")
        if not _SAMPLE.match(line):
            raise MetricUnusable(f"the page is not metrics as text: it has the line {line[:60]!r}")
        return


def _quickly(text: str, wanted: frozenset[str] | None, target: dict[str, str]) -> tuple[Samples, str]:
    """The samples in lines without anything unusual, and the other wanted lines, for the parser, which takes ten times as long.

    Types are left out for it: it renames counters that do not end in _total, and Prometheus does not.
    """
    found: Samples = {}
    rest = []
    for line in text.split("\n"):
        match = _USUAL_LINE.fullmatch(line)
        name = match[1] if match else _name(line)
        if not name or (wanted is not None and name not in wanted):
            continue
        pairs = _PAIR.findall(match[2] or "") if match else []
        own = dict(pairs)
        if match is None or len(own) < len(pairs):
            rest.append(line + "\n")
        else:
            found.setdefault((name, _labels(own, target)), float(match[3]))
    return found, "".join(rest)


def _labels(own: Mapping[str, str], target: dict[str, str]) -> Labels:
    if target:
        own = {f"exported_{label}" if label in target else label: value for label, value in own.items() if value} | target
    return tuple(sorted((label, value) for label, value in own.items() if value))


def _families(text: str, wanted: frozenset[str] | None) -> str:
    """The lines of the families that wanted metrics belong to. OpenMetrics' parser wants them whole and with their types."""
    if wanted is None:
        return text
    roots = {name.removesuffix(suffix) for name in wanted for suffix in ("", *_SUFFIXES)}
    kept, ended = [], False
    for line in text.split("\n"):
        ended = ended or line.strip() == "# EOF"
        comment = _FAMILY_OF_COMMENT.match(line)
        name = comment[1].strip('"') if comment else _name(line)
        if name and (name in roots or any(name.removesuffix(suffix) in roots for suffix in _SUFFIXES)):
            kept.append(line + "\n")
    # A page that was cut off has no end.
    return "".join(kept) + ("# EOF\n" if ended else "")


def _name(line: str) -> str:
    match = _NAME_OF_LINE.match(line)
    if not match:
        return ""
    return match[1] or match[2].replace('\\"', '"').replace("\\\\", "\\")


def _samples(families: Iterable[Metric], wanted: frozenset[str] | None, target: dict[str, str]) -> Samples:
    found: Samples = {}
    for family in families:
        for sample in family.samples:
            if wanted is None or sample.name in wanted:
                found.setdefault((sample.name, _labels(sample.labels, target)), float(sample.value))
    return found

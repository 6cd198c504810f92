"""Pages of metrics, shaped as the exporters write them, and the ready-made checks asked of them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from serinus.metrics.builtin import EXPORTERS, Kind, builtin, exporter_of
from serinus.metrics.exposition import Samples, evaluate, names, parse
from serinus.metrics.provider import MetricMisconfigured, MetricUnusable
from serinus.metrics.selector import Expression, quoted
from serinus.metrics.selector import parse as read
from serinus.metrics.templates import render, variables

TEXT = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PAGES = Path(__file__).parent / "data" / "expositions"
POD = {"namespace": "shop", "pod": "checkout-canary-5d4f9c6b7-x7k2p"}


def expression(query: str, service: str = "checkout-canary") -> Expression:
    values = variables(
        namespace="shop", canary="checkout", deployment=service, service=service, serving_service="checkout", port=80, release="r"
    )
    parsed = read(render(query, values))
    assert parsed is not None
    return parsed


def sums(
    page: str, kind: Kind, slower_than: float | None, service: str, target: Mapping[str, str] | None = None
) -> tuple[float, float]:
    pair = builtin(kind, page, slower_than)
    asked = [expression(query, service) for query in (pair.bad, pair.total)]
    wanted = {name for each in asked for name in names(each)}
    samples = parse((PAGES / f"{page}.txt").read_bytes(), TEXT, wanted, target)
    assert {name for name, _ in samples} <= wanted
    bad, total = (sum(evaluate(each, samples).values()) for each in asked)
    return bad, total


@pytest.mark.parametrize(
    ("page", "kind", "slower_than", "canary", "serving"),
    [
        ("traefik", "errors", None, (6, 96), (1, 951)),
        ("traefik", "slow", 0.3, (14, 96), (15, 951)),
        ("traefik", "slow", 5.0, (0, 96), (0, 951)),
        ("istio", "errors", None, (6, 96), (1, 951)),
        ("istio", "slow", 0.25, (3, 96), (10, 951)),
        ("linkerd", "errors", None, (10, 100), (1, 951)),
        ("linkerd", "slow", 0.3, (7, 96), (10, 951)),
    ],
)
def test_ready_made_checks_count_each_version(
    page: str, kind: Kind, slower_than: float | None, canary: tuple[int, int], serving: tuple[int, int]
) -> None:
    assert sums(page, kind, slower_than, "checkout-canary") == canary
    assert sums(page, kind, slower_than, "checkout") == serving


def test_ready_made_checks_of_the_application_s_own() -> None:
    assert sums("app", "errors", None, "checkout-canary", POD) == (6, 96)
    assert sums("app", "slow", 0.25, "checkout-canary", POD) == (2, 96)
    assert sums("app", "errors", None, "checkout", POD) == (0, 0)


@pytest.mark.parametrize(("page", "limit"), [("traefik", 0.4), ("istio", 0.3), ("app", 0.3)])
def test_a_bucket_that_is_not_there_is_no_data_and_not_nothing_slow(page: str, limit: float) -> None:
    query = builtin("slow", page, limit)
    samples = parse((PAGES / f"{page}.txt").read_bytes(), TEXT, None, POD)
    assert evaluate(expression(query.bad), samples) == {}
    assert evaluate(expression(query.total), samples)


def test_whole_numbers_of_buckets_in_both_forms() -> None:
    assert builtin("slow", "linkerd", 0.3).bad.endswith(',le=~"300(?:[.]0)?"}')
    assert builtin("slow", "traefik", 0.3).bad.endswith(',le="0.3"}')
    assert builtin("slow", "istio", 0.0005).bad.endswith(',le="0.5"}')
    body = b'http_request_duration_seconds_count 5\nhttp_request_duration_seconds_bucket{le="1.0"} 3\n'
    assert evaluate(expression(builtin("slow", "app", 1).bad), parse(body, TEXT, None, POD)) == {tuple(sorted(POD.items())): 2}


@pytest.mark.parametrize(
    ("kind", "exporter", "slower_than", "sentence"),
    [
        ("errors", "envoy-gateway", None, r"cannot tell versions apart: set spec\.mergeBackends"),
        ("slow", "nginx-gateway-fabric", 0.3, "use the exporter app"),
        ("errors", "haproxy", None, "no exporter 'haproxy'; known are traefik, istio"),
        ("slow", "traefik", None, "slow needs slowerThan"),
        ("slow", "traefik", 0.0, "must be above 0"),
        (
            "slow",
            "linkerd",
            0.25,
            r"linkerd does not count requests slower than 0\.25 s; the nearest it counts are 0\.1 s, 0\.2 s, 0\.3 s",
        ),
        ("saturation", "traefik", None, "no ready-made check 'saturation'; known are errors, slow"),
    ],
)
def test_what_cannot_be_had(kind: Kind, exporter: str, slower_than: float | None, sentence: str) -> None:
    with pytest.raises(MetricMisconfigured, match=sentence):
        builtin(kind, exporter, slower_than)


def test_every_exporter_s_queries_are_ones_that_are_understood() -> None:
    for name, exporter in EXPORTERS.items():
        if exporter.blind:
            continue
        for pair in (builtin("errors", name), builtin("slow", name, 0.1), builtin("slow", name, 1)):
            for query in (pair.bad, pair.total):
                assert "" not in names(expression(query))


def test_controllers() -> None:
    assert exporter_of("traefik.io/gateway-controller") == "traefik"
    assert exporter_of("example.com/other") is None
    assert all(exporter_of(name) in EXPORTERS for name in ("istio.io/gateway-controller", "linkerd.io/policy-controller"))


# --- Reading pages ----------------------------------------------------------------------------------------------------------


def test_text_is_read_as_prometheus_reads_it() -> None:
    body = b"""# TYPE hits counter
hits{a="1",empty="",pod="own"} 3
hits{pod="own",a="1"} 4
hits_more 9
 hits{a="x # y\\"\\\\\\n}"} 5 1700000000000
{"hits",b="2"} 7
"""
    assert parse(body, TEXT, {"hits"}, {"pod": "p"}) == {
        ("hits", (("a", "1"), ("exported_pod", "own"), ("pod", "p"))): 3,
        ("hits", (("a", 'x # y"\\\n}'), ("pod", "p"))): 5,
        ("hits", (("b", "2"), ("pod", "p"))): 7,
    }
    assert parse(body, None, ["hits_more"]) == {("hits_more", ()): 9}
    assert len(parse(body, "", None)) == len(parse(body, TEXT, {""})) == 4
    assert parse(b"", TEXT, {"hits"}) == parse(b"# nothing yet\n", TEXT, {"hits"}) == {}


def test_openmetrics() -> None:
    body = b"""# TYPE hits counter
# HELP hits Hits.
hits_total{a="1"} 3.0 # {trace_id="x"} 1.0
hits_created{a="1"} 1700000000.0
# TYPE other gauge
other 1
# TYPE took_seconds histogram
# UNIT took_seconds seconds
took_seconds_bucket{le="1.0"} 2 # {trace_id="y"} 0.5
took_seconds_bucket{le="+Inf"} 3
took_seconds_count 3
took_seconds_sum 4.5
# EOF
"""
    wanted = {"hits_total", "took_seconds_count", "took_seconds_bucket"}
    samples = parse(body, OPENMETRICS, wanted)
    assert samples[("hits_total", (("a", "1"),))] == 3
    assert {name for name, _ in samples} == wanted
    slow = read('took_seconds_count - ignoring(le) took_seconds_bucket{le="1.0"}')
    assert slow is not None
    assert evaluate(slow, samples) == {(): 1}
    with pytest.raises(MetricUnusable, match="cannot be read as metrics"):
        parse(body.removesuffix(b"# EOF\n"), OPENMETRICS, wanted)


@pytest.mark.parametrize(
    ("body", "kind", "sentence"),
    [
        (b"<html>404</html>", "text/html; charset=utf-8", "the page is a web page, not metrics"),
        (b"<html>404</html>", TEXT, "the page is a web page, not metrics"),
        (b"\x0a\x03abc", "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily", "the page is in protobuf"),
        (b'{"error": "no"}', "application/json", "the page is of type application/json"),
        (b'{"error": "no"}', TEXT, "not metrics as text: it has the line"),
        (b"404 page not found\n", TEXT, "it has the line '404 page not found'"),
        (b"not found\n", TEXT, "it has the line 'not found'"),
        (b"\xff\xfe\x00", TEXT, "not text in UTF-8"),
        (b"hits many\n", TEXT, "it has the line|cannot be read"),
        (b'hits{a="1} 3\n', TEXT, "cannot be read as metrics"),
        (b'other 1\nhits{a="1"} x\n', TEXT, "cannot be read as metrics"),
    ],
)
def test_what_is_no_page_of_metrics_is_named(body: bytes, kind: str, sentence: str) -> None:
    with pytest.raises(MetricUnusable, match=sentence):
        parse(body, kind, {"hits"})


@pytest.mark.parametrize(
    ("value", "sentence"), [("-3", r"hits\{a=\"1\"\} is negative \(-3\)"), ("NaN", "not a number"), ("+Inf", "infinite")]
)
def test_what_no_counter_can_be_is_named(value: str, sentence: str) -> None:
    samples = parse(f'hits{{a="1"}} {value}\ntemperature -4\n'.encode(), TEXT, None)
    hits, temperature = read("hits"), read('hits{a="2"}')
    assert hits
    assert temperature
    with pytest.raises(MetricUnusable, match=sentence):
        evaluate(hits, samples)
    assert evaluate(temperature, samples) == {}


def test_many_to_many_is_refused_as_prometheus_does() -> None:
    samples: Samples = {("a", (("x", "1"),)): 5.0, ("b", (("le", "1"), ("x", "1"))): 2.0, ("b", (("le", "2"), ("x", "1"))): 3.0}
    for text in ("a - ignoring(le) b", "b - ignoring(le) a"):
        asked = read(text)
        assert asked
        with pytest.raises(MetricUnusable, match="several series of b are alike but for le"):
            evaluate(asked, samples)
    asked = read("a - b")
    assert asked
    assert evaluate(asked, samples) == {}


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(["a", "b", "le"]), st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1)),
    st.integers(0, 2**40),
)
def test_what_is_written_is_read(labels: dict[str, str], value: int) -> None:
    inside = ",".join(f'{k}="{escaped(v)}"' for k, v in labels.items())
    samples = parse(f"hits{{{inside}}} {value}\n".encode(), TEXT, {"hits"})
    assert samples == {("hits", tuple(sorted(labels.items()))): value}
    asked = read("hits{" + ",".join(f"{k}={quoted(v)}" for k, v in labels.items()) + "}")
    assert asked is not None
    assert list(evaluate(asked, samples).values()) == [value]


def escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


@settings(deadline=None)
@given(
    st.one_of(
        st.binary(),
        st.text(st.characters(exclude_categories=["Cs"])).map(str.encode),
        st.text(alphabet='hits{}a="1 #\n\\.,TYPEOF').map(str.encode),
    ),
    st.sampled_from([TEXT, OPENMETRICS, None]),
)
def test_whatever_the_page_is_it_is_read_or_refused(body: bytes, kind: str | None) -> None:
    for wanted in ({"hits"}, None):
        with contextlib.suppress(MetricUnusable):
            parse(body, kind, wanted)


LINES = st.lists(
    st.one_of(
        st.from_regex(
            r'hits(?:\{(?:[ab]="(?:x|\\\\|\\n| |,|\}|=)*",?){0,3}\})?[ \t]{1,2}-?[0-9]{1,3}(?:\.5|e3)?(?: 17)?', fullmatch=True
        ),
        st.sampled_from(
            ['hits{a="1"} 3', "hits 1", 'hits{a="1",a="2"} 1', 'hits{a="1"b="2"} 1', "hits{} 2", "hits{,} 1", "hits NaN", "# x"]
        ),
    ),
    max_size=3,
)


@settings(deadline=None, max_examples=300)
@given(LINES)
def test_usual_lines_are_read_as_the_parser_reads_them(lines: list[str]) -> None:
    text = "".join(line + "\n" for line in lines)
    try:
        expected: Samples = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                key = (sample.name, tuple(sorted((k, v) for k, v in sample.labels.items() if v)))
                expected.setdefault(key, float(sample.value))
    except ValueError:
        return
    read_ = parse(text.encode(), TEXT, {"hits"})
    assert read_.keys() == expected.keys()
    # Where a series is there twice, the first of the usual lines wins over an unusual one.
    assert len(lines) > len(expected) or all(repr(read_[key] + 0.0) == repr(expected[key] + 0.0) for key in expected)

"""Plain PromQL selectors: what is one, what it matches, and that it is written back as it was."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serinus.metrics.selector import Difference, Matcher, Selector, compiled, parse, quoted, tokens

TRAEFIK = 'traefik_service_requests_total{service=~".+-svc-shop-web-[0-9]+@kubernetesgateway",code=~"5.."}'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("up", Selector("up")),
        ("up{}", Selector("up")),
        (" up { } # the end", Selector("up")),
        ("a:b_c{x='1', y!=\"2\",}", Selector("a:b_c", (Matcher("x", "=", "1"), Matcher("y", "!=", "2")))),
        ('{x="1"}', Selector("", (Matcher("x", "=", "1"),))),
        ('{__name__="up",x!~"1|2"}', Selector("up", (Matcher("x", "!~", "1|2"),))),
        ('{__name__=~"up|down"}', Selector("", (Matcher("__name__", "=~", "up|down"),))),
        ('{"my.metric", "a.b"="c"}', Selector("my.metric", (Matcher("a.b", "=", "c"),))),
        ("count{by='1'}", Selector("count", (Matcher("by", "=", "1"),))),
        (r'a{b="\x41\101\u00e9\U0001F600\n\t\\\""}', Selector("a", (Matcher("b", "=", 'AAé😀\n\t\\"'),))),
        (r"a{b='\'',c=`\n`}", Selector("a", (Matcher("b", "=", "'"), Matcher("c", "=", r"\n")))),
        ('a{b=~"(?i)x|y"}', Selector("a", (Matcher("b", "=~", "(?i:x|y)"),))),
    ],
)
def test_selectors(text: str, expected: Selector) -> None:
    assert parse(text) == expected
    assert parse(str(expected)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "1", "inf", "NaN", "sum(up)", "sum by (x) (up)", "up[5m]", "up offset 5m", "up @ 3", "up + up", "-up", "up - 1",
        "up - up - up",         "up - on(x) up", "up - ignoring(x) group_left up", "up - bool up",
        "(up)", "up up", "up{", "up}", "up{x}", "up{x=}", "up{,}",
        'up{x=="1"}', 'up{"a","b"}', 'up{"a"}', '{}', '{x=""}', '{x=~".*"}', 'up{__name__="up"}', 'up{x="a\nb"}', r'up{x="\q"}',
        r'up{x="\xff"}', r'up{x="\ud800"}', '{{ x }}', "up{x='{{'", 'up{x="1"} > 0', "x" * 9000,
    ],
)  # fmt: skip
def test_everything_else_is_left_to_prometheus(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize(
    "pattern",
    [
        r"\pL", r"\z", r"\Z", r"\Qa\E", "[[:alpha:]]", "(?=a)", "(?<!a)", "(?>a)", "a++", "a{,2}", "a{1001}", "a{1,1001}",
        "(?P<n>a)", "(?m)a", r"(a)\1", "a**", "(", ")", "a)", "(?:a", "[z-a]", "[a", "a{3,2}", "a{", "*a", "^*", "a|*", "[a&&b]",
        "(?U)a", "\\",
        "(a+)+", "(a|aa)+", "(?:a?){20}", ".*.*.*.*x", "a?" * 30, "(?:a|aa)" * 30,
    ],
)  # fmt: skip
def test_patterns_that_python_reads_otherwise_or_slowly_are_left_to_prometheus(pattern: str) -> None:
    assert parse("a{b=~" + quoted(pattern) + "}") is None
    assert parse("a{b!~" + quoted(pattern) + "}") is None


@pytest.mark.parametrize("pattern", [".*.*.*x", "(?:a|aa)" * 15 + "b", "a?" * 15 + "b", "[^x]+[^y]+[^z]+!"])
def test_the_dearest_pattern_still_answers_soon(pattern: str) -> None:
    assert parse("a{b=~" + quoted(pattern) + "}") is not None
    started = time.process_time()
    compiled(pattern).fullmatch("a" * 100)
    assert time.process_time() - started < 2


def test_differences() -> None:
    parsed = parse('a{x="1"} - ignoring(le) b{x="1",le="0.3"}')
    assert parsed == Difference(
        Selector("a", (Matcher("x", "=", "1"),)), Selector("b", (Matcher("x", "=", "1"), Matcher("le", "=", "0.3"))), ("le",)
    )
    assert str(parsed) == 'a{x="1"} - ignoring(le) b{x="1",le="0.3"}'
    assert parse("a-b") == Difference(Selector("a"), Selector("b"))
    assert parse('a - ignoring ( le, "x.y", ) b') == Difference(Selector("a"), Selector("b"), ("le", "x.y"))
    assert parse(str(parse("a - ignoring(le, 'x.y') b"))) == parse("a - ignoring(le, 'x.y') b")


def test_matching() -> None:
    web = parse(TRAEFIK)
    assert isinstance(web, Selector)
    series = {
        "__name__": "traefik_service_requests_total",
        "service": "httproute-shop-web-gw-traefik-shop-ep-web-0-abc-svc-shop-web-1@kubernetesgateway",
        "code": "503",
    }
    assert web.matches(series)
    assert not web.matches(series | {"code": "50"})
    assert not web.matches(series | {"code": "5033"})
    assert not web.matches(series | {"service": series["service"].replace("-web-1", "-web-canary-1")})
    assert not web.matches({k: v for k, v in series.items() if k != "code"})
    assert not web.matches(series | {"__name__": "traefik_service_requests_tls_total"})


def test_a_missing_label_is_empty() -> None:
    for text, expected in (
        ('a{x=""}', True),
        ('a{x!=""}', False),
        ('a{x=~"y?"}', True),
        ('a{x!~"y?"}', False),
        ('a{x!="y"}', True),
    ):
        selector = parse(text)
        assert isinstance(selector, Selector)
        assert selector.matches({"__name__": "a"}) is expected


def test_patterns_are_anchored_and_dots_match_line_breaks() -> None:
    assert Matcher("x", "=~", "a|bc").matches("bc")
    assert not Matcher("x", "=~", "a|bc").matches("ac")
    assert Matcher("x", "=~", "a.c").matches("a\nc")
    assert not Matcher("x", "=~", r"\d").matches("٣")


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_value_comes_back(value: str) -> None:
    selector = Selector("a", (Matcher("b", "=", value),))
    assert parse(str(selector)) == selector


@settings(deadline=None)
@given(st.text(alphabet="a\"'`\\{}()[]=~!,-#:.*+?|x0 \n"))
def test_no_text_breaks_it(text: str) -> None:
    for candidate in (text, "a{b=~" + quoted(text) + "}", "a{" + text + "}"):
        parsed = parse(candidate)
        if parsed is not None:
            assert parse(str(parsed)) == parsed


@settings(deadline=None)
@given(st.from_regex(r"(?:[ab.]|\\\.|\[ab\]|\(a\|b\)|\.\+|a\?|\|){0,8}", fullmatch=True), st.text("ab.", max_size=6))
def test_the_pieces_of_a_pattern_make_it_whole(pattern: str, value: str) -> None:
    if parse("m{b=~" + quoted(pattern) + "}") is None:
        return
    whole = "".join(token.text for token in tokens(pattern))
    assert bool(re.fullmatch(whole, value)) == bool(re.fullmatch(pattern, value))

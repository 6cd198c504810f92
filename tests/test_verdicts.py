"""The benchmark of rules measures what the product does: the same test, the same numbers again, and it can fail."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from e2e.verdicts import grid, picture, report
from e2e.verdicts.rules import HARM, Bets, Scene, _keys, _surprise, all_rules, threshold, wald
from e2e.verdicts.worlds import INDEPENDENT, WORLDS, Array, Counted, Load, World, draw
from hypothesis import given, settings
from hypothesis import strategies as st

from serinus.analysis.sequential import Counts, Rule, begun, evidence, judge, look

RULES = [
    Rule(HARM),
    Rule(HARM, severe=0.5),
    Rule(HARM, independent=True),
    Rule(0.2, 0.05, severe=0.3),
    Rule(0.1, independent=True),
]


@st.composite
def looks(draw: st.DrawFn) -> list[tuple[int, int, int, int]]:
    """Of one release: looks in which nothing is bad, or one version has no requests, or more bad events than requests."""
    sides = st.tuples(st.integers(0, 60), st.integers(0, 200)).map(lambda seen: (min(seen), seen[1]))
    rare = st.tuples(st.sampled_from([0, 0, 0, 1, 2]), st.sampled_from([0, 2, 20, 500]))
    side = st.one_of(sides, rare)
    return [(*mine, *others) for mine, others in draw(st.lists(st.tuples(side, side), min_size=12, max_size=12))]


@pytest.mark.parametrize("rule", RULES, ids=repr)
@settings(deadline=None, max_examples=60)
@given(releases=st.lists(looks(), min_size=1, max_size=6), alone_from=st.integers(0, 14))
def test_many_releases_at_once_are_judged_as_the_product_judges_one(
    rule: Rule, releases: list[list[tuple[int, int, int, int]]], alone_from: int
) -> None:
    rule = replace(rule, harm=max(rule.harm, 0.05))  # wealth is dealt out anew after 1000 requests
    tests, tallies = Bets(rule, len(releases)), [begun() for _ in releases]
    for number, row in enumerate(zip(*releases, strict=True)):
        alone, weight = number >= alone_from, (5, 25, 25, 25)[number // 3]
        columns = np.array(row, float).T
        tests.look(*(columns[:2] if alone else columns), weight=weight)
        fails = tests.fails()
        for i, (bad, total, beside_bad, beside_total) in enumerate(row):
            beside = None if alone else Counts(beside_bad, beside_total)
            tallies[i] = look(rule, tallies[i], Counts(bad, total), beside, weight=weight)
            assert tests.log_wealth[:, i] == pytest.approx(tallies[i].log_wealth, rel=1e-9, abs=1e-9)
            assert tests.evidence[i] == pytest.approx(evidence(tallies[i]), rel=1e-9, abs=1e-9)
            assert list(tests.pending[:, i]) == tallies[i].pending
            finding = judge("errors", rule, tallies[i])
            assert finding.verdict == "Error" or bool(fails[i]) == (finding.verdict == "Fail"), finding.sentence


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
@pytest.mark.parametrize("rule", RULES[:3], ids=repr)
def test_drawn_releases_alarm_at_the_very_look_the_product_fails_them(world: World, rule: Rule) -> None:
    load, seconds = Load(rate=40, share=0.1, base=0.02, canary=0.08 if not world.shared else 0.06), 5
    counted = draw(np.random.default_rng(7), load, world, (120, 12))
    when = all_rules(Scene.of(counted, load, seconds), rule.alpha)[
        "severe" if rule.severe else "independent" if rule.independent else "serinus"
    ]
    for i in range(12):
        tally, failed = begun(), float("inf")
        for number in range(1, 120 // seconds + 1):
            mine = [int(side[(number - 1) * seconds : number * seconds, i].sum()) for side in counted]
            tally = look(rule, tally, Counts(*mine[:2]), Counts(*mine[2:]), weight=10)
            if judge("errors", rule, tally).verdict == "Fail":
                failed = number * seconds
                break
        assert when[i] == failed


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_worlds_have_the_rates_they_say(world: World) -> None:
    load = Load(rate=50, share=0.2, base=0.02, canary=0.02)
    counted = draw(np.random.default_rng(3), load, world, (600, 400))
    mine, others = counted.bad.sum() / counted.total.sum(), counted.beside_bad.sum() / counted.beside_total.sum()
    assert (mine, others) == pytest.approx((0.02, 0.02), rel=0.03)
    assert counted.total.mean() == pytest.approx(10, rel=0.01)
    assert counted.beside_total.mean() == pytest.approx(40, rel=0.01)
    assert (counted.bad <= counted.total).all()
    assert not (counted.bad % world.burst).any()


def scene_of(bad: list[int], total: list[int], look: int = 1) -> Scene:
    columns = [np.array([each]).T for each in (bad, total, [0] * len(bad), total)]
    return Scene.of(Counted(*columns), Load(1, 0.5, 0.001, 0.5), look)


def test_a_threshold_alarms_at_its_fifth_failing_look_and_needs_two_scrapes() -> None:
    bad = [0] * 600
    bad[70] = 3
    assert threshold(scene_of(bad, [1] * 600), 10, 60, 5)[0] == 120  # second 71 is in the windows that end at 80 to 130
    assert threshold(scene_of(bad, [1] * 600), 1, 20, 1)[0] == 71
    assert np.isnan(threshold(scene_of(bad, [1] * 600, 30), 1, 20, 1)[0])  # a scrape each 30 s
    assert np.isinf(threshold(scene_of(bad, [0] * 600), 60, 60, 5)[0])


def test_walds_test_is_the_sum_of_what_each_request_is_worth() -> None:
    scene = scene_of([0, 0, 1, 0], [1, 1, 1, 1])
    assert wald(scene, 0.01)[0] == 3  # ln 500 less twice ln 2 is more than ln 100


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 3), st.integers(0, 4)), min_size=3, max_size=12))
def test_ranks_are_those_of_every_pair(points: list[tuple[int, int, int, int]]) -> None:
    columns: list[Array] = [np.array([each]) for each in zip(*points, strict=True)]
    total, beside_total = columns[1], columns[3]
    bad, beside_bad = np.minimum(columns[0], total), np.minimum(columns[2], beside_total)
    mine = [b / t for b, t in zip(bad[0], total[0], strict=True) if t]
    others = [b / t for b, t in zip(beside_bad[0], beside_total[0], strict=True) if t]
    surprise = _surprise(np.concatenate([_keys(bad, total, 1), _keys(beside_bad, beside_total, 0)], axis=1))[0]
    every = sorted([*mine, *others])
    size = len(every)
    ties = sum((n := len(list(same))) ** 3 - n for _, same in itertools.groupby(every))
    variance = len(mine) * len(others) / 12 * (size + 1 - ties / max(1, size * (size - 1)))
    if variance <= 0:
        assert surprise == -np.inf
        return
    above = sum((a > b) + (a == b) / 2 for a in mine for b in others)
    assert surprise == pytest.approx((above - len(mine) * len(others) / 2 - 0.5) / variance**0.5)


def test_bounds_are_exact() -> None:
    assert grid.at_least(1, 10, 0.1) == pytest.approx(1 - 0.9**10)
    assert grid.at_least(2, 3, 0.5) == pytest.approx(0.5)
    assert grid.surprising(133, 10_000, 0.01)
    assert not grid.surprising(125, 10_000, 0.01)
    assert not grid.surprising(100, 10_000, 0.01)


SMALL = replace(grid.QUICK, bases=(0.02,), shares=(0.05,), rates=(100,), good=400, bad=40)


def rows(of: grid.Grid) -> list[grid.Row]:
    return [row for job in grid.rows_of(of) for row in job]


def test_the_same_seed_gives_the_same_rows_in_any_grid() -> None:
    assert rows(SMALL) == rows(SMALL)
    few = rows(replace(SMALL, canaries=SMALL.canaries[:1]))
    assert few == [row for row in rows(SMALL) if row.good or row.load.canary == SMALL.canaries[0]]


def test_batches_are_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "BATCH", 150)
    for row in rows(replace(SMALL, canaries=())):
        assert row.releases == 400
        assert 0 <= row.failed <= 6000 * 0.05
        assert 0 < row.seconds <= 600


@pytest.fixture(scope="module")
def quick() -> report.Results:
    return report.Results(grid.QUICK, rows(grid.QUICK), grid.troubles_of(grid.QUICK))


def test_the_quick_form_shows_what_each_rule_is_worth(quick: report.Results) -> None:
    assert not quick.too_often("serinus")
    assert quick.too_often("threshold1")  # 2 % is above its line in every good release
    bursts = {row.world for row in quick.too_often("independent")}
    assert bursts == {WORLDS[1].name, WORLDS[2].name}  # and not where errors are independent
    for name in ("independent", "severe"):
        assert quick.time(name) <= quick.time("serinus")
    assert quick.time("wald") <= quick.time("serinus") < quick.time("threshold10") < quick.time("threshold60")
    assert not quick.too_often("wald", INDEPENDENT.name)


def test_a_page_and_a_picture_come_of_it(quick: report.Results) -> None:
    page, drawn = report.page(quick), picture.picture(quick)
    assert page == report.page(quick)
    assert max(map(len, page.splitlines())) < 400
    assert len(page.splitlines()) < 200
    assert all(name in page for name in report.NAMES.values())
    assert drawn.startswith("<svg")
    assert "nan" not in (page + drawn).lower()


def test_a_test_that_ignores_alpha_is_found() -> None:
    wrong = replace(grid.QUICK, bases=(0.02,), canaries=(), alpha=0.5)
    seen = report.Results(wrong, rows(wrong), [])
    assert seen.too_often("serinus")
    assert "**no**" in report.page(seen)

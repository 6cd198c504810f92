"""A plain number of two versions, pair by pair."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from itertools import product

import pytest

from serinus.analysis import sequential
from serinus.analysis.finding import Finding
from serinus.analysis.paired import PairedCheck, judge_pairs, pair
from serinus.api.release import Tally

NOW = datetime(2026, 3, 1, 10, tzinfo=UTC)
WITHIN = Finding("heap", "Pass", "heap is 1 (no limit)", value=1)


def check(worse: str = "higher", tolerance: float = 0.1, alpha: float = 0.01) -> PairedCheck:
    return PairedCheck(worse, tolerance, alpha)  # type: ignore[arg-type]


def after(which: PairedCheck, *pairs: tuple[float, float]) -> Tally:
    tally = sequential.begun()
    for judged, serving in pairs:
        tally = pair(which, tally, judged, serving, NOW)
    return tally


@pytest.mark.parametrize(
    ("worse", "judged", "serving", "lost"),
    [
        ("higher", 111, 100, 1),
        ("higher", 110, 100, 0),
        ("higher", 90, 100, 0),
        ("lower", 89, 100, 1),
        ("lower", 90, 100, 0),
        ("lower", 200, 100, 0),
        ("higher", -89, -100, 1),
        ("higher", -90, -100, 0),
        ("lower", -111, -100, 1),
        ("higher", 0, 0, 0),
        ("higher", 1e-9, 0, 1),
    ],
)
def test_worse_is_what_the_check_says_and_more_than_the_tolerance(worse: str, judged: float, serving: float, lost: int) -> None:
    assert after(check(worse), (judged, serving)).bad == lost


@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_a_version_that_is_worse_by_the_toss_of_a_coin_fails_no_oftener_than_alpha(alpha: float) -> None:
    which, pairs = check(alpha=alpha), 12
    failed = 0
    for tosses in product((90.0, 120.0), repeat=pairs):
        tally = sequential.begun()
        for toss in tosses:
            tally = pair(which, tally, toss, 100, NOW)
            if judge_pairs(which, tally, WITHIN).verdict == "Fail":
                failed += 1
                break
    assert failed / 2**pairs <= alpha
    assert failed, "a test that can fail"


def test_how_many_pairs_convince() -> None:
    verdicts = [judge_pairs(check(), after(check(), *[(130.0, 100.0)] * n), WITHIN) for n in range(1, 9)]
    assert [each.verdict for each in verdicts] == ["Wait"] * 7 + ["Fail"]
    assert verdicts[-1].fault_began == NOW.timestamp()
    assert "higher than the serving version's by more than 10 % in 8 of 8 pairs" in verdicts[-1].sentence


def test_it_is_content_after_a_few_pairs_unless_in_doubt() -> None:
    good = [judge_pairs(check(), after(check(), *[(100.0, 100.0)] * n), WITHIN).verdict for n in range(1, 5)]
    assert good == ["Wait", "Wait", "Wait", "Pass"]
    doubted = judge_pairs(check(), after(check(), *[(130.0, 100.0)] * 5), WITHIN)
    assert (doubted.verdict, doubted.doubt) == ("Wait", True)


def test_beyond_its_limits_it_waits_or_fails_as_the_limits_say() -> None:
    beyond = Finding("heap", "Wait", "heap is 9, look 1 of 2 that are tolerated", value=9)
    assert judge_pairs(check(), after(check(), *[(1.0, 1.0)] * 9), beyond).verdict == "Wait"
    assert math.isfinite(sequential.evidence(after(check(), *[(2.0, 1.0)] * 2000)))

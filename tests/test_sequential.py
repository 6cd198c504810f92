"""The mathematics of the sequential test: what it promises, by enumeration where that is possible and by simulation elsewhere."""

from __future__ import annotations

import math
import random
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serinus.analysis.sequential import (
    ALPHA,
    PRIOR,
    STAKES,
    Counts,
    Rule,
    begun,
    dispersion,
    evidence,
    health,
    judge,
    look,
    tolerated,
)
from serinus.api.canary import Analysis
from serinus.api.release import Tally

RULE = Rule(harm=0.01)
RULES = [RULE, Rule(harm=0.01, independent=True)]


def looked(*looks: tuple[Counts, Counts | None], rule: Rule = RULE, tally: Tally | None = None, weight: int = 0) -> Tally:
    tally = tally or begun()
    for judged, beside in looks:
        tally = look(rule, tally, judged, beside, weight=weight)
    return tally


def test_the_bets_are_a_prior() -> None:
    assert sum(PRIOR) == pytest.approx(1)
    assert all(0 <= stake < 1 for stake in STAKES)
    assert evidence(begun()) == pytest.approx(0)


def test_what_is_tolerated_is_split_over_the_checks() -> None:
    checks = [{"name": name, "query": "x", "max": 1} for name in ("a", "b")]
    given = Analysis.model_validate({"metrics": checks, "falseRollbacks": "2%", "severe": "50%", "independentErrors": True})
    assert tolerated(given, 0.03) == Rule(harm=0.03, alpha=0.01, severe=0.5, independent=True)
    assert tolerated(Analysis.model_validate({"metrics": checks[:1]}), 0.03) == Rule(harm=0.03, alpha=0.01)


counts = st.integers(1, 500)


@pytest.mark.parametrize("size", [1, 5, 20])
@given(judged=counts, beside=counts, clumps=st.integers(0, 8))
def test_one_look_multiplies_each_bet_by_one_in_the_mean_however_errors_clump(
    size: int, judged: int, beside: int, clumps: int
) -> None:
    """Exact: each clump of bad events falls to the judged version with its share of the requests, and every way is counted."""
    share = judged / (judged + beside)
    big = 10_000  # requests enough for any clump, in the same shares
    means = [0.0] * len(PRIOR)
    for mine in range(clumps + 1):
        chance = math.comb(clumps, mine) * share**mine * (1 - share) ** (clumps - mine)
        bad, other = Counts(size * mine, judged * big), Counts(size * (clumps - mine), beside * big)
        means = [m + chance * math.exp(w) for m, w in zip(means, looked((bad, other)).log_wealth, strict=True)]
    assert means == pytest.approx([1.0] * len(PRIOR))


@given(judged=counts, beside=counts, events=st.integers(0, 8))
def test_the_variant_for_independent_errors_is_a_martingale_when_they_are(judged: int, beside: int, events: int) -> None:
    share, means, big = judged / (judged + beside), [0.0] * len(PRIOR), 10_000
    for mine in range(events + 1):
        chance = math.comb(events, mine) * share**mine * (1 - share) ** (events - mine)
        seen = looked((Counts(mine, judged * big), Counts(events - mine, beside * big)), rule=RULES[1])
        means = [m + chance * math.exp(w) for m, w in zip(means, seen.log_wealth, strict=True)]
    assert means == pytest.approx([1.0] * len(PRIOR))


@pytest.mark.parametrize("rule", RULES, ids=["by look", "independent"])
@given(total=st.integers(1, 12), rate=st.floats(0, 0.01))
def test_alone_a_rate_of_at_most_harm_multiplies_each_bet_by_at_most_one(rule: Rule, total: int, rate: float) -> None:
    means = [0.0] * len(PRIOR)
    for bad in range(total + 1):
        chance = math.comb(total, bad) * rate**bad * (1 - rate) ** (total - bad)
        means = [
            m + chance * math.exp(w) for m, w in zip(means, looked((Counts(bad, total), None), rule=rule).log_wealth, strict=True)
        ]
    assert max(means) <= 1 + 1e-9


some_looks = st.lists(
    st.tuples(st.integers(1, 200), st.integers(1, 200), st.floats(0, 1), st.floats(0, 1)).map(
        lambda x: (Counts(round(x[0] * x[2]), x[0]), Counts(round(x[1] * x[3]), x[1]))
    ),
    max_size=12,
)


@pytest.mark.parametrize("rule", RULES, ids=["by look", "independent"])
@given(looks=some_looks, order=st.randoms(use_true_random=False))
def test_the_order_of_looks_does_not_matter(rule: Rule, looks: list[tuple[Counts, Counts]], order: random.Random) -> None:
    shuffled = list(looks)
    order.shuffle(shuffled)
    first, second = looked(*looks, rule=rule), looked(*shuffled, rule=rule)
    assert first.log_wealth == pytest.approx(second.log_wealth)
    assert first.model_dump(exclude={"log_wealth", "spread"}) == second.model_dump(exclude={"log_wealth", "spread"})
    assert dispersion(first) == pytest.approx(dispersion(second))


@pytest.mark.parametrize("rule", RULES, ids=["by look", "independent"])
@given(looks=some_looks, judged=counts, beside=counts)
def test_a_look_without_bad_events_changes_no_wealth(
    rule: Rule, looks: list[tuple[Counts, Counts]], judged: int, beside: int
) -> None:
    before = looked(*looks, rule=rule)
    assert look(rule, before, Counts(0, judged), Counts(0, beside)).log_wealth == before.log_wealth
    nothing = look(rule, before, Counts(0, 0), Counts(0, 0))
    assert (nothing.log_wealth, nothing.looks) == (before.log_wealth, before.looks)


@given(looks=some_looks.filter(bool), at=st.integers(0, 11))
def test_looks_in_which_one_version_had_no_requests_are_judged_with_the_next(looks: list[tuple[Counts, Counts]], at: int) -> None:
    """Also two scrapes of one pod of which one has its bad events and the other its requests."""
    at %= len(looks)
    judged, beside = looks[at]
    halves = [(Counts(judged.bad, 0), Counts(0, 0)), (Counts(0, judged.total), Counts(0, 0)), (Counts(0, 0), beside)]
    split = looked(*looks[:at], *halves, *looks[at + 1 :])
    assert split.model_dump(exclude={"log_wealth"}) == looked(*looks).model_dump(exclude={"log_wealth"})
    assert split.log_wealth == pytest.approx(looked(*looks).log_wealth)


@given(looks=some_looks)
def test_a_process_that_starts_anew_goes_on_from_what_is_on_record(looks: list[tuple[Counts, Counts]]) -> None:
    tally = begun(at=datetime(2026, 1, 1, tzinfo=UTC))
    for judged, beside in looks:
        tally = Tally.model_validate(look(RULE, tally, judged, beside).dump())
    assert tally.dump() == looked(*looks).dump() | ({"asOf": tally.dump()["asOf"]})


amounts = st.just(0.0) | st.floats(1e-3, 1e12)


@given(looks=some_looks, mine=amounts, total=amounts, other=amounts, all_=amounts)
def test_no_numbers_make_it_overflow_and_each_look_gets_an_answer(
    looks: list[tuple[Counts, Counts]], mine: float, total: float, other: float, all_: float
) -> None:
    for rule in (*RULES, Rule(harm=0.999999, severe=0.5), Rule(harm=1e-6, alpha=0.01 / 16)):
        tally = look(rule, looked(*looks, rule=rule), Counts(mine, total), Counts(other, all_))
        tally = look(rule, tally, Counts(mine, total), None)
        assert math.isfinite(evidence(tally))
        assert judge("x", rule, tally).verdict in ("Pass", "Fail", "Wait", "NoData", "Error")


def poisson_clumps(rng: random.Random, mean: float, size: int) -> int:
    """Bad events in one look, in clumps of `size`."""
    bound, product, clumps = math.exp(-mean / size), rng.random(), 0
    while product > bound:
        product *= rng.random()
        clumps += 1
    return clumps * size


@pytest.mark.parametrize("size", [1, 20])
def test_good_releases_are_rarely_rolled_back_however_often_one_looks(size: int) -> None:
    """Half the traffic, 1 % of requests fail on either side, 300 looks; bursts of twenty fall on one side each."""
    rng, failed = random.Random(7), 0  # noqa: S311
    for _ in range(400):
        tally = begun()
        for _ in range(300):
            tally = look(RULE, tally, Counts(poisson_clumps(rng, 2, size), 200), Counts(poisson_clumps(rng, 2, size), 200))
            if judge("errors", RULE, tally).verdict == "Fail":
                failed += 1
                break
    assert failed <= 12  # 4 are promised; 13 or more would be seen once in four thousand runs


def test_a_bad_version_is_found_within_few_looks() -> None:
    """5 % of 100 requests a second, a third of them fail, looks of 5 s: two of them convince."""
    tally, looks = begun(), 0
    while judge("errors", RULE, tally).verdict != "Fail":
        tally, looks = look(RULE, tally, Counts(8, 25), Counts(0, 475)), looks + 1
    assert looks == 2


def test_one_bad_request_is_no_verdict_however_small_the_share() -> None:
    once = looked((Counts(1, 1), Counts(0, 999)))
    assert evidence(once) > -math.log(ALPHA)
    assert judge("x", RULE, once).verdict == "Wait"
    assert judge("x", RULE, once).doubt
    assert judge("x", RULE, looked((Counts(1, 1), Counts(0, 999)), (Counts(1, 1), Counts(0, 999)))).verdict == "Fail"


def test_severe_is_acted_on_at_once_and_only_where_the_other_version_does_better() -> None:
    severe = Rule(harm=0.01, severe=0.5)
    assert judge("x", severe, looked((Counts(10, 20), Counts(0, 20)), rule=severe)).verdict == "Fail"
    assert judge("x", severe, looked((Counts(10, 20), Counts(0, 20)))).verdict == "Wait"
    assert judge("x", severe, looked((Counts(9, 19), Counts(0, 20)), rule=severe)).verdict == "Wait"
    assert judge("x", severe, looked((Counts(10, 20), Counts(5, 20)), rule=severe)).verdict == "Wait"
    assert judge("x", severe, looked((Counts(10, 20), None), rule=severe)).verdict == "Fail"


def test_a_version_is_doubted_before_it_is_blamed_and_no_longer_when_its_rate_falls() -> None:
    found = judge("x", RULE, looked((Counts(3, 10), Counts(0, 90))))
    assert (found.verdict, found.doubt) == ("Wait", True)
    assert not judge("x", RULE, looked((Counts(3, 10), Counts(0, 90)), (Counts(0, 400), Counts(0, 3600)))).doubt
    assert not judge("x", RULE, looked((Counts(1, 10), Counts(9, 90)))).doubt


def test_no_version_is_blamed_below_harm() -> None:
    tally = looked(*[(Counts(4, 1000), Counts(0, 9000))] * 40)
    found = judge("errors", RULE, tally)
    assert evidence(tally) > 50
    assert found.verdict == "Pass"
    assert "worse, and below harm" in found.sentence


def test_clumps_of_the_other_version_ask_for_more_before_a_version_is_called_healthy() -> None:
    even = looked(*[(Counts(0, 20), Counts(2, 200))] * 20)
    clumped = looked(*[(Counts(0, 20), Counts(0, 200))] * 19, (Counts(0, 20), Counts(40, 200)))
    assert dispersion(even) == 1
    assert dispersion(clumped) > 10
    assert health(0.01, even) > health(0.01, clumped) > 0


@pytest.mark.parametrize("rule", RULES, ids=["by look", "independent"])
@given(looks=some_looks, judged=counts, beside=counts)
def test_wealth_that_is_dealt_out_anew_is_neither_more_nor_less(
    rule: Rule, looks: list[tuple[Counts, Counts]], judged: int, beside: int
) -> None:
    before = looked(*looks, rule=rule, weight=5)
    after = look(rule, before, Counts(0, judged), Counts(0, beside), weight=25)
    assert evidence(after) == pytest.approx(evidence(before), abs=1e-9)
    assert (after.weight, after.recent) == (25, [0.0, judged])


@pytest.mark.parametrize(("before", "after"), [(50_000, 5), (50_000, 50), (2_000_000, 5)])
def test_a_fault_that_begins_late_is_seen_in_few_looks(before: int, after: int) -> None:
    """At once with more traffic or in the middle of a step, however long all was well."""
    good, bad = (Counts(0, 25), Counts(1, 475)), (Counts(8, 25), Counts(1, 475))
    tally = looked(*[good] * (before // 25), weight=5)
    assert judge("x", RULE, tally).verdict == "Pass"
    tally = looked(bad, tally=tally, weight=after)
    assert after == 5 or judge("x", RULE, tally).verdict != "Pass", "what went well at 5 % says nothing about 50 %"
    looks = 1
    while judge("x", RULE, tally).verdict != "Fail":
        tally, looks = looked(bad, tally=tally, weight=after), looks + 1
    assert looks <= 12


def test_a_version_that_nobody_can_be_compared_with_any_more_is_doubted() -> None:
    tally = looked(*[(Counts(0, 50), Counts(0, 50))] * 4)
    found = judge("x", RULE, looked((Counts(40, 50), Counts(0, 0)), tally=tally))
    assert (found.verdict, found.doubt) == ("Wait", True)
    assert "50 of them wait for a request of the serving version" in found.sentence


def test_how_errors_clump_is_not_forgotten_where_nothing_is_compared() -> None:
    clumped = looked(*[(Counts(0, 20), Counts(0, 200))] * 19, (Counts(0, 20), Counts(40, 200)))
    assert dispersion(looked(*[(Counts(0, 20), None)] * 300, tally=clumped)) == pytest.approx(dispersion(clumped))


def test_sentences() -> None:
    assert judge("errors", RULE, begun()).sentence == "errors: no requests yet (harm limit 1 %)"
    tally = looked((Counts(8, 25), Counts(1, 475)), (Counts(9, 25), Counts(0, 475)), (Counts(9, 25), Counts(0, 475)))
    assert judge("errors", RULE, tally).sentence == (
        "errors 35 % of 75 requests, the serving version 0.07 % of 1425; "
        "4479 to 1 that it is worse, 100 to 1 needed (harm limit 1 %)"
    )
    alone = looked((Counts(1, 1), None))
    assert judge("errors", RULE, alone).sentence == (
        "errors 100 % of 1 request, not enough evidence yet: 76.14 to 1 that it is worse, 100 to 1 needed (harm limit 1 %)"
    )
    lonely = judge("errors", RULE, looked((Counts(1, 5), Counts(0, 0))))
    assert (lonely.verdict, lonely.sentence) == (
        "NoData",
        "errors 20 % of 5 requests: no requests of the serving version to compare with (harm limit 1 %)",
    )


@pytest.mark.parametrize("counts", [Counts(math.nan, 5), Counts(1, math.inf), Counts(-1, 5), Counts(6, 5)])
@pytest.mark.parametrize("first", [True, False])
def test_numbers_that_are_no_counts_are_errors(counts: Counts, first: bool) -> None:
    pair = (counts, Counts(0, 5)) if first else (Counts(0, 5), counts)
    assert judge("errors", RULE, looked(pair)).verdict == "Error"


@pytest.mark.parametrize("harm", [0.0, 1.0, -0.1])
def test_a_harm_that_is_no_share_is_an_error(harm: float) -> None:
    assert judge("errors", Rule(harm=harm), begun()).verdict == "Error"


def test_a_look_costs_no_more_than_a_millisecond() -> None:
    tally, began = begun(), time.perf_counter()
    for _ in range(1000):
        tally = look(RULE, tally, Counts(3, 25), Counts(1, 475))
        judge("errors", RULE, tally)
    assert time.perf_counter() - began < 1.0

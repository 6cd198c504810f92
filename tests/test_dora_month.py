"""A month by hand: every figure equals what tests/data/dora/month.md works out on paper, in whatever order the facts come."""

from __future__ import annotations

from datetime import date, timedelta
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.dora.month import BERLIN, CATALOG, FACTS

from serinus.dora.facts import Fact
from serinus.dora.figures import Durations, Window
from serinus.dora.metrics import Book, Five, Scope, measure

OCTOBER = Window.of_days(date(2026, 10, 1), date(2026, 11, 1), BERLIN)
BOOK = Book.of(FACTS, CATALOG)
FIVE = measure(BOOK, OCTOBER)


def numbers(durations: Durations) -> tuple[int, float | None, float | None, float | None, int | None]:
    return durations.n, durations.median, durations.p75, durations.p90, durations.total


def test_the_month_has_745_hours() -> None:
    assert OCTOBER.interval.end - OCTOBER.interval.start == (31 * 24 + 1) * 3600
    [(_, changed)] = [day for day in OCTOBER.days() if day[0] == date(2026, 10, 25)]
    assert changed.end - changed.start == 25 * 3600


def test_deployment_frequency() -> None:
    frequency = FIVE.frequency
    assert set(frequency.keys) == {"c1", "c2", "c3", "c4", "c6", "c10", "c12", "c13", "p1", "p2", "p3", "p4", "p5", "s1", "l1"}
    assert (frequency.n, frequency.days, frequency.per_day) == (15, 31, 15 / 31)
    assert (frequency.deployment_days, frequency.days_a_week) == (11, 77 / 31)
    deployments = {day.day.day: day.deployments for day in frequency.daily if day.deployments}
    assert deployments == {1: 2, 2: 2, 5: 1, 6: 1, 7: 1, 13: 1, 14: 1, 15: 1, 20: 1, 25: 2, 28: 2}
    standings = {day.day.day: dict(day.standings) for day in frequency.daily if day.standings}
    assert standings == {
        1: {"Promoted": 2},
        2: {"Promoted": 1, "Skipped": 1},
        5: {"Promoted": 1},
        6: {"Promoted": 1},
        7: {"Promoted": 1, "Superseded": 1},
        12: {"RolledBack": 1},
        13: {"Promoted": 1, "Superseded": 1},
        14: {"Promoted": 1},
        15: {"Promoted": 1},
        20: {"Promoted": 1},
        25: {"Promoted": 2},
        28: {"Promoted": 2},
        30: {"Running": 1},
    }


def test_every_change_is_of_the_first_release_that_brought_it_to_everybody() -> None:
    assert {(d.change, d.release, d.lead, d.bake) for d in FIVE.lead_time.deliveries} == {
        ("#1", "c1", 7200, 1500),
        ("#2", "c2", 86400, 1800),
        ("#3", "s1", 86400, 1800),
        ("#4", "c4", 9000, 1800),
        ("#5", "c6", 86400, 1800),
        ("#6", "c6", 2220, 1800),
        ("#7", "c10", 82800, 1800),
        ("#8", "c10", 3600, 1800),
        ("#9", "c12", 7200, 1500),
        ("#10", "c13", 79200, 1500),
        ("#11", "c13", None, 1500),
        ("#21", "p1", 7200, None),
        ("#22", "p2", 432000, 1800),
        ("#23", "p2", 7200, 1800),
        ("#25", "p3", 7200, 1800),
        ("#26", "p4", 9000, 1800),
        ("#27", "p5", 2100, 1500),
    }


def test_lead_time() -> None:
    lead = FIVE.lead_time
    assert numbers(lead.opened) == (16, 8100, 83700, 86400, 915120)
    assert numbers(lead.first_commit) == (2, 48900, 71250, 84660, 97800)
    assert numbers(lead.bake) == (16, 1800, 1800, 1800, 27300)
    assert {stage: numbers(durations) for stage, durations in lead.stages.items()} == {
        "wait": (2, 38550, 57075, 68190, 77100),
        "review": (16, 3600, 4950, 79200, 280740),
        "build": (3, 1200, 172050, 274560, 345300),
        "queue": (16, 1650, 2625, 41490, 180540),
        "rollout": (16, 2100, 2100, 2220, 31440),
    }
    assert sum(d.total or 0 for d in lead.stages.values()) == lead.opened.total
    assert lead.stages["build"].keys == ("#2", "#23", "#22")
    assert (lead.undated, lead.untracked) == (("#11",), ("l1",))


def test_change_failure_rate() -> None:
    rate = FIVE.failure_rate.rate
    users = {f"c{n}" for n in (1, 2, 3, 4, 5, 6, 8, 9, 10, 12, 13)} | {f"p{n}" for n in range(1, 7)} | {"s1", "s2", "l1"}
    assert (set(rate.of), set(rate.keys)) == (users, {"c2", "c5", "c8", "p2", "p4", "s1"})
    assert (rate.count, rate.n, rate.ratio) == (6, 20, 0.3)
    assert (rate.low, rate.high) == (pytest.approx(0.1455, abs=5e-5), pytest.approx(0.5190, abs=5e-5))
    assert {f.release: f.share for f in FIVE.failure_rate.failures} == {
        "c2": 1,
        "c5": 0.05,
        "c8": 0.05,
        "p2": 1,
        "p4": 1,
        "s1": 1,
    }
    assert next(f.incidents for f in FIVE.failure_rate.failures if f.release == "c2") == ("i1", "i2")


def test_recovery() -> None:
    recovery = FIVE.recovery
    assert numbers(recovery.every) == (4, 270, 945, 2106, 3460)
    assert numbers(recovery.caught) == (2, 140, 190, 220, 280)
    assert numbers(recovery.escaped) == (2, 1590, 2235, 2622, 3180)
    assert (recovery.caught.keys, recovery.escaped.keys) == (("c5", "c8"), ("c2", "p2"))
    assert (recovery.open, recovery.undated, recovery.unlinked) == (("p4",), ("s1",), ("i3", "i4", "i6"))


def test_rework() -> None:
    rate = FIVE.rework.rate
    assert {r.release: r.kind for r in FIVE.rework.rework} == {"c3": "undo", "c10": "hotfix", "p5": "hotfix", "s2": "hotfix"}
    assert (rate.count, rate.n, rate.ratio) == (4, 20, 0.2)
    assert (rate.low, rate.high) == (pytest.approx(0.0807, abs=5e-5), pytest.approx(0.4160, abs=5e-5))


@pytest.mark.parametrize(
    ("team", "promoted", "users", "failed", "rework"),
    [("shop", 9, 13, "c2 c5 c8 s1", "c3 c10 s2"), ("pay", 5, 6, "p2 p4", "p5"), ("old", 1, 1, "", ""), ("nobody", 0, 0, "", "")],
)
def test_by_team(team: str, promoted: int, users: int, failed: str, rework: str) -> None:
    five = measure(BOOK, OCTOBER, Scope(team=team))
    assert (five.frequency.n, five.failure_rate.rate.n) == (promoted, users)
    assert {f.release for f in five.failure_rate.failures} == set(failed.split())
    assert {r.release for r in five.rework.rework} == set(rework.split())


def test_by_environment() -> None:
    assert measure(BOOK, OCTOBER, Scope(environment="staging")).frequency.keys == ("st1",)
    assert measure(BOOK, OCTOBER, Scope(environment="production")).frequency == FIVE.frequency


def parts(five: Five) -> tuple[set[str], set[str], set[str], set[str], set[tuple[str, str]]]:
    lead = {(d.change, d.release) for d in five.lead_time.deliveries}
    rework = {r.release for r in five.rework.rework}
    failed, unlinked = {f.release for f in five.failure_rate.failures}, set(five.recovery.unlinked)
    return set(five.frequency.keys), failed, rework, unlinked, lead


@pytest.mark.parametrize("length", [1, 4, 7])
def test_windows_side_by_side_add_up(length: int) -> None:
    days = [date(2026, 10, 1) + timedelta(days=n) for n in range(0, 31, length)]
    pieces = [Window.of_days(d, min(d + timedelta(days=length), date(2026, 11, 1)), BERLIN) for d in days]
    several = [parts(measure(BOOK, piece)) for piece in pieces]
    for kind, whole in enumerate(parts(FIVE)):
        assert set().union(*(part[kind] for part in several)) == whole
        assert sum(len(part[kind]) for part in several) == len(whole)


def test_services_add_up() -> None:
    several = [parts(measure(BOOK, OCTOBER, Scope(service=service))) for service in CATALOG.services]
    for kind, whole in enumerate(parts(FIVE)):
        assert sum(len(part[kind]) for part in several) == len(whole)


@settings(max_examples=60)
@given(st.randoms(use_true_random=False), st.lists(st.sampled_from(FACTS), max_size=40))
def test_any_order_with_any_repeats_gives_the_same(random: Random, repeats: list[Fact]) -> None:
    facts = [*FACTS, *repeats]
    random.shuffle(facts)
    assert measure(Book.of(facts, CATALOG), OCTOBER) == FIVE


def test_what_a_fact_says_survives_json() -> None:
    assert measure(Book.of([Fact.parse(fact.dump()) for fact in FACTS], CATALOG), OCTOBER) == FIVE

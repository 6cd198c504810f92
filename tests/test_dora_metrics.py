"""The five figures where other tools go wrong, and at their edges."""

from __future__ import annotations

import statistics
from datetime import UTC, date, datetime
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.data.dora.month import at, commit, image, said

from serinus.dora.facts import ArtifactSays, ChangeSays, Fact, IncidentSays, MarkSays, ReleaseSays
from serinus.dora.figures import Durations, Rate, Window, quantile, wilson
from serinus.dora.metrics import Book, Five, Scope, measure

UTC_ZONE = ZoneInfo("UTC")
OCTOBER = Window.of_days(date(2026, 10, 1), date(2026, 11, 1), UTC_ZONE)


def release(key: str, **says: Any) -> Fact:
    return said("serinus", key, "01 00:00", key, ReleaseSays, **{"service": "web", "environment": "production"} | says)


def promoted(key: str, requested: str, exposed: str, moment: str, **says: Any) -> Fact:
    return release(key, requested=requested, exposed=exposed, promoted=moment, **{"outcome": "Promoted"} | says)


def incident(key: str, began: str, resolved: str = "", **says: Any) -> Fact:
    more = {"resolved": resolved} if resolved else {}
    says = {"service": "web", "environment": "production", "began": began, "detected": began} | more | says
    return said("alerts", key, "01 00:00", key, IncidentSays, **says)


def mark(about: str, verdict: str, when: str = "20 09:00") -> Fact:
    return said("page", f"{about}/{when}", when, about, MarkSays, verdict=verdict, by="ada")


def five(*facts: Fact, window: Window = OCTOBER, scope: Scope | None = None) -> Five:
    return measure(Book.of(facts), window, scope)


R1 = promoted("r1", "05 08:55", "05 09:00", "05 09:30", artifact="A")


# Medians and rates.


def test_the_median_of_an_even_number_is_the_mean_of_the_middle_two() -> None:
    """DevLake takes the lower one."""
    assert Durations.of([10, 40, 20, 31], "abcd").median == 25.5


@given(st.lists(st.integers(0, 10**7), min_size=1))
def test_the_median_is_that_of_the_standard_library(values: list[int]) -> None:
    assert quantile(sorted(values), 50) == statistics.median(values)


@given(st.lists(st.integers(0, 10**7), min_size=2), st.sampled_from([75, 90]))
def test_the_quantiles_are_those_of_the_standard_library(values: list[int], percent: int) -> None:
    expected = statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
    assert quantile(sorted(values), percent) == pytest.approx(expected)


def test_nothing_is_none_and_not_0() -> None:
    """DevLake draws empty months as 0."""
    nothing = five()
    for durations in (
        nothing.lead_time.opened,
        nothing.lead_time.bake,
        nothing.recovery.every,
        *nothing.lead_time.stages.values(),
    ):
        assert durations == Durations(0, None, None, None, None, ())
    for rate in (nothing.failure_rate.rate, nothing.rework.rate):
        assert rate == Rate(0, 0, None, None, None, (), ())
    assert (nothing.frequency.n, nothing.frequency.per_day, nothing.frequency.days) == (0, 0, 31)


@pytest.mark.parametrize(
    ("count", "n", "low", "high"),
    [(0, 10, 0, 0.2775), (1, 56, 0.0032, 0.0945), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1), (1, 28, 0.0063, 0.1771)],
)
def test_wilsons_interval(count: int, n: int, low: float, high: float) -> None:
    assert wilson(count, n) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@given(st.integers(0, 500), st.integers(1, 500))
def test_the_interval_holds_the_rate(count: int, n: int) -> None:
    count = min(count, n)
    low, high = wilson(count, n) or (1, 0)
    assert 0 <= low <= count / n <= high <= 1


# Windows.


def test_a_window_has_its_first_moment_and_not_its_last() -> None:
    edges = [promoted("first", "01 00:00", "01 00:00", "01 00:00"), promoted("last", "31 10:00", "31 10:00", "11-01 00:00")]
    assert five(*edges).frequency.keys == ("first",)
    assert five(*edges).failure_rate.rate.of == ("first", "last")


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", date(2026, 3, 29), 23),
        ("Europe/Berlin", date(2026, 10, 25), 25),
        ("Africa/Cairo", date(2026, 4, 24), 23),
    ],
)
def test_a_day_has_the_hours_that_it_has_there(zone: str, day: date, hours: int) -> None:
    """In Cairo the hour that is missing is the one after midnight."""
    window = Window.of_days(day, date.fromordinal(day.toordinal() + 1), ZoneInfo(zone))
    assert window.interval.end - window.interval.start == hours * 3600
    assert [d for d, _ in window.days()] == [day]


def test_days_lie_side_by_side_and_cover_the_window() -> None:
    window = Window(datetime(2026, 10, 24, 12, tzinfo=UTC), datetime(2026, 10, 27, 3, tzinfo=UTC), ZoneInfo("America/New_York"))
    parts = [part for _, part in window.days()]
    assert (parts[0].start, parts[-1].end) == (window.interval.start, window.interval.end)
    assert all(one.end == two.start for one, two in pairwise(parts))


def test_a_week_begins_on_monday() -> None:
    assert Window.of_week(2026, 47, UTC_ZONE).start == datetime(2026, 11, 16, tzinfo=UTC)
    with pytest.raises(ValueError, match="Invalid week"):
        Window.of_week(2025, 53, UTC_ZONE)
    with pytest.raises(ValueError, match="before it starts"):
        Window(OCTOBER.end, OCTOBER.start, UTC_ZONE)


def test_less_than_a_week_cannot_tell_the_days_a_week() -> None:
    """Middleware 593: a frequency that was extrapolated."""
    day = five(R1, window=Window.of_days(date(2026, 10, 5), date(2026, 10, 6), UTC_ZONE)).frequency
    assert (day.n, day.per_day, day.deployment_days, day.days_a_week) == (1, 1, 1, None)


# Releases and failures.


def test_several_incidents_of_one_release_are_one_failure_over_with_the_last() -> None:
    """DevLake 8890, GitLab 444295."""
    one = five(
        R1, incident("i1", "05 09:40", "05 09:50"), incident("i2", "05 09:45", "05 10:00"), incident("i3", "05 09:46", "05 09:47")
    )
    assert (one.failure_rate.rate.count, one.recovery.every.median) == (1, 1200)
    still = five(R1, incident("i1", "05 09:40", "05 09:50"), incident("i2", "05 09:45"))
    assert (still.recovery.every.n, still.recovery.open) == (0, ("r1",))


def test_an_incident_that_no_release_explains_is_no_failure() -> None:
    """DevLake 7487."""
    apart = five(R1, incident("i1", "05 20:00", "05 21:00"))
    assert (apart.failure_rate.rate.count, apart.recovery.every.n, apart.recovery.unlinked) == (0, 0, ("i1",))


@pytest.mark.parametrize(
    ("outcome", "more", "failed"),
    [
        ("RolledBack", {}, True),
        ("Aborted", {}, True),
        ("Superseded", {}, False),
        ("Superseded", {"harmed": True}, True),
        ("Promoted", {"promoted": "05 09:30"}, False),
        ("RolledBack", {"promoted": "05 09:30"}, True),
    ],
)
def test_what_counts_as_failed_once_users_had_it(outcome: str, more: dict[str, Any], failed: bool) -> None:
    exposed = five(release("r1", outcome=outcome, requested="05 08:55", exposed="05 09:00", **more))
    assert (exposed.failure_rate.rate.count, exposed.failure_rate.rate.n) == (int(failed), 1)
    unseen = five(release("r1", outcome=outcome, requested="05 08:55", harmed=True))
    assert (unseen.failure_rate.rate.n, unseen.recovery.every.n) == (0, 0)


def test_a_person_may_say_otherwise() -> None:
    rolled = release("r1", outcome="RolledBack", exposed="05 09:00", detected="05 09:01", returned="05 09:02")
    assert five(rolled).recovery.caught.median == 60
    fine = five(rolled, mark("release/r1", "fine"))
    assert (fine.failure_rate.rate.count, fine.failure_rate.rate.n, fine.recovery.every.n) == (0, 1, 0)
    assert five(rolled, mark("release/r1", "fine"), mark("release/r1", "planned", "21 09:00")).failure_rate.rate.count == 0
    assert five(rolled, mark("release/r1", "fine"), mark("release/r1", "unmarked", "21 09:00")).failure_rate.rate.count == 1
    assert five(R1, mark("release/r1", "failed")).recovery.undated == ("r1",)


def test_a_failure_is_over_when_no_user_has_it_though_the_ticket_is_closed_later() -> None:
    back = promoted("r1", "05 08:55", "05 09:00", "05 09:30", outcome="RolledBack", returned="05 09:45")
    over = five(back, incident("i1", "05 09:40", "05 12:00"))
    assert (over.recovery.escaped.median, over.recovery.escaped.keys) == (300, ("r1",))


def test_what_was_over_before_anybody_noticed_took_no_time_that_can_be_told() -> None:
    aborted = release("r1", outcome="Aborted", exposed="05 09:00", returned="05 09:05", detected="05 09:06")
    assert (five(aborted).recovery.every.n, five(aborted).recovery.undated) == (0, ("r1",))


def test_seconds_are_whole_and_stages_add_up() -> None:
    change = said(
        "github",
        "1",
        "01 00:00",
        "#1",
        ChangeSays,
        repository="acme/web",
        merge_commit=commit("a"),
        opened="05 08:00:00.900",
        first_review="05 08:10:00.100",
        merged="05 08:20:00.500",
    )
    [delivery] = five(change, promoted("r1", "05 08:55", "05 09:00", "05 09:30:00.800", commit=commit("a"))).lead_time.deliveries
    assert delivery.lead == sum(delivery.stages.values()) == 5400


def test_a_milestone_out_of_order_has_no_stage() -> None:
    facts = [
        said(
            "github",
            "1",
            "01 00:00",
            "#1",
            ChangeSays,
            merge_commit=commit("a"),
            opened="05 08:00",
            merged="05 08:20",
            first_review="05 08:30",
        ),
        said("ci", "1", "01 00:00", image("a"), ArtifactSays, commit=commit("a"), built="05 08:10"),
    ]
    [delivery] = five(*facts, promoted("r1", "05 08:55", "05 09:00", "05 09:30", artifact=image("a"))).lead_time.deliveries
    assert delivery.stages == {"wait": 1800, "queue": 1500, "rollout": 2100}


def test_a_change_opened_after_it_was_delivered_has_no_lead_time() -> None:
    """Four Keys drops it; here it is named."""
    late = said("github", "1", "01 00:00", "#1", ChangeSays, merge_commit=commit("a"), opened="06 08:00", merged="06 09:00")
    lead = five(late, promoted("r1", "05 08:55", "05 09:00", "05 09:30", commit=commit("a"))).lead_time
    assert (lead.opened.n, lead.undated, len(lead.deliveries)) == (0, ("#1",), 1)


def test_a_restart_is_no_deployment() -> None:
    restart = promoted("r1", "05 08:55", "05 09:00", "05 09:30", restart=True, outcome="RolledBack")
    assert (five(restart).frequency.n, five(restart).failure_rate.rate.n) == (0, 0)


# Rework.


def rework(*facts: Fact) -> dict[str, str]:
    return {r.release: r.kind for r in five(*facts).rework.rework}


def test_going_back_to_the_same_image_is_a_deployment_and_an_undo() -> None:
    """Pelorus does not see it."""
    series = [promoted(f"r{n}", f"0{n} 08:55", f"0{n} 09:00", f"0{n} 09:30", artifact=image(a)) for n, a in enumerate("ABA", 1)]
    assert five(*series).frequency.n == 3
    assert rework(*series) == {"r3": "undo"}


def test_an_undo_to_what_served_before_anything_was_recorded() -> None:
    first = promoted("r1", "05 08:55", "05 09:00", "05 09:30", artifact="B", serving_artifact="A")
    assert rework(first, promoted("r2", "06 08:55", "06 09:00", "06 09:30", artifact="A", serving_artifact="B")) == {"r2": "undo"}
    assert rework(first, promoted("r2", "06 08:55", "06 09:00", "06 09:30", artifact="A", serving_artifact="A")) == {}


def test_a_second_try_of_what_never_served_is_no_undo() -> None:
    failed = release("r2", artifact="B", serving_artifact="A", outcome="RolledBack", requested="06 08:55", exposed="06 09:00")
    assert rework(R1, failed, promoted("r3", "07 08:55", "07 09:00", "07 09:30", artifact="B", serving_artifact="A")) == {}


def test_the_fix_of_what_escaped_is_rework_and_the_next_release_is_not() -> None:
    harm = incident("i1", "05 09:40", "05 09:50")
    fix = promoted("r2", "05 14:00", "05 14:05", "05 14:30", artifact="B")
    inside = release("r3", requested="05 09:45", exposed="05 09:46", outcome="Superseded", artifact="C")
    after = promoted("r4", "06 14:00", "06 14:05", "06 14:30", artifact="D")
    assert rework(R1, harm, fix, inside, after) == {"r2": "hotfix", "r3": "hotfix"}


def test_what_was_under_way_before_the_failure_is_not_its_fix() -> None:
    under_way = promoted("r2", "05 09:35", "05 09:45", "05 10:00", artifact="B")
    assert rework(R1, incident("i1", "05 09:40", "05 09:50"), under_way) == {}


def test_after_what_was_caught_nothing_is_rework() -> None:
    caught = release(
        "r1", outcome="RolledBack", requested="05 08:55", exposed="05 09:00", detected="05 09:01", returned="05 09:02"
    )
    alert = incident("i1", "05 09:01", "05 18:00", release="r1")
    assert rework(caught, alert, promoted("r2", "05 14:00", "05 14:05", "05 14:30")) == {}


def test_an_incident_that_nobody_closes_does_not_make_all_that_follows_rework() -> None:
    releases = [promoted(f"r{n}", f"1{n} 08:55", f"1{n} 09:00", f"1{n} 09:30", artifact=f"v{n}") for n in range(4)]
    assert rework(incident("i1", "10 20:00"), *releases) == {"r1": "hotfix"}


def test_an_incident_of_no_release_makes_rework_of_what_was_asked_for_while_it_was_open_only() -> None:
    inside, after = promoted("r1", "05 09:10", "05 09:15", "05 09:30"), promoted("r2", "06 09:00", "06 09:05", "06 09:30")
    assert rework(incident("i1", "05 09:00", "05 10:00"), inside, after) == {"r1": "hotfix"}
    assert rework(incident("i1", "05 09:00", "05 10:00"), after) == {}


@pytest.mark.parametrize(
    ("says", "expected"),
    [
        ({"labels": ("HotFix",)}, {"r1": "hotfix"}),
        ({"branch": "hotfix/tax"}, {"r1": "hotfix"}),
        ({"branch": "revert-12-feature"}, {"r1": "hotfix"}),
        ({"branch": "feature/revert", "labels": ("fix",)}, {}),
    ],
)
def test_a_hotfix_by_its_label_or_branch(says: dict[str, Any], expected: dict[str, str]) -> None:
    change = said("github", "1", "01 00:00", "#1", ChangeSays, merge_commit=commit("a"), **says)
    assert rework(change, promoted("r1", "05 08:55", "05 09:00", "05 09:30", commit=commit("a"))) == expected


def test_a_person_may_say_that_it_was_planned() -> None:
    series = [promoted(f"r{n}", f"0{n} 08:55", f"0{n} 09:00", f"0{n} 09:30", artifact=a) for n, a in enumerate("ABA", 1)]
    assert rework(*series, mark("release/r3", "planned"), mark("release/r2", "rework")) == {"r2": "mark"}


# Windows and what lies outside them.


def test_what_lies_outside_the_window_and_belongs_to_nothing_in_it_changes_nothing() -> None:
    """DevLake 4989."""
    inside = [R1, incident("i1", "05 09:40", "05 09:50"), promoted("r2", "06 08:55", "06 09:00", "06 09:30", artifact="C")]
    outside = [
        promoted("r0", "09-01 08:55", "09-01 09:00", "09-01 09:30", artifact="Z"),
        incident("i0", "09-02 09:00", "09-02 10:00"),
    ]
    outside.append(promoted("r9", "11-05 08:55", "11-05 09:00", "11-05 09:30", artifact="D"))
    assert five(*inside, *outside) == five(*inside)


def test_a_failure_is_of_the_week_in_which_users_first_had_it() -> None:
    harm = [promoted("r1", "04 23:00", "04 23:30", "04 23:59", artifact="A"), incident("i1", "05 00:10", "05 00:20")]
    before = Window.of_days(date(2026, 9, 28), date(2026, 10, 5), UTC_ZONE)
    after = Window.of_days(date(2026, 10, 5), date(2026, 10, 12), UTC_ZONE)
    assert [five(*harm, window=w).failure_rate.rate.count for w in (before, after)] == [1, 0]
    assert [five(*harm, window=w).recovery.every.n for w in (before, after)] == [1, 0]


def test_a_book_gives_the_same_whatever_was_measured_before() -> None:
    book = Book.of([R1, incident("i1", "05 09:40", "05 09:50")])
    first = measure(book, OCTOBER)
    measure(book, Window(at("05 09:00"), at("05 09:01"), UTC_ZONE), Scope(service="web"))
    assert measure(book, OCTOBER) == first
    assert measure(book, OCTOBER, Scope(service="nothing")).failure_rate.rate.n == 0

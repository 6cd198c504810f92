"""What the page shows."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from random import Random

import pytest
from pydantic import TypeAdapter
from sqlalchemy import Engine
from tests.data.dora.month import BERLIN, CATALOG, FACTS
from tests.stores import engine, postgres, url

from serinus.dora.facts import ChangeSays, Fact, ReleaseSays
from serinus.dora.figures import Window
from serinus.dora.metrics import Scope, five
from serinus.dora.review import BUCKETS, Page
from serinus.dora.service.page import page
from serinus.dora.store.keeper import Keeper
from serinus.dora.store.log import Log

__all__ = ["engine", "postgres", "url"]  # fixtures

EVERYTHING = Scope()
#: The last day of October's last whole week.
SUNDAY, MONDAY = datetime(2026, 10, 25, 20, tzinfo=UTC), date(2026, 10, 19)


def shown(engine: Engine, facts: list[Fact], scope: Scope = EVERYTHING, monday: date = MONDAY, now: datetime = SUNDAY) -> Page:
    log, keeper = Log(engine), Keeper(engine, CATALOG, BERLIN)
    log.append(facts, now)
    keeper.catch_up()
    found = page(log, keeper, scope, monday, now, CATALOG, BERLIN)
    adapter = TypeAdapter(Page)
    assert adapter.validate_json(adapter.dump_json(found)) == found
    return found


@pytest.mark.parametrize("scope", [Scope(), Scope(service="checkout"), Scope(team="shop")])
def test_its_four_weeks_are_the_figures_of_these_four_weeks(engine: Engine, scope: Scope) -> None:
    found = shown(engine, FACTS, scope)
    window = Window.of_days(date(2026, 9, 28), date(2026, 10, 26), BERLIN)
    wanted = five(Keeper(engine, CATALOG, BERLIN).shelf(scope, window), window, scope)
    four = found.review.four
    assert (four.days, four.deployments, four.lead.median) == (28, wanted.frequency.n, wanted.lead_time.opened.median)
    assert [row.failure for row in found.failures] == sorted(wanted.failure_rate.failures, key=lambda f: f.when, reverse=True)
    assert sum(bucket.caught + bucket.escaped for bucket in found.review.recoveries) == wanted.recovery.every.n
    assert [day.deployments for day in found.review.days[-28:]] == [day.deployments for day in wanted.frequency.daily]
    assert sum(line.figures.deployments for line in found.review.lines[-4:]) == wanted.frequency.n
    assert sum(row.figures.deployments for row in found.review.services) == wanted.frequency.n


def test_of_nothing_it_says_nothing(engine: Engine) -> None:
    found = shown(engine, [])
    assert "nothing to judge yet" in found.review.sentence
    assert [clause.met for clause in found.review.contract] == [False, None, None, None]
    assert found.releases == found.failures == found.slowest == found.review.services == ()
    assert found.freshness.received is None


def test_a_week_that_runs_counts_the_days_that_have_begun(engine: Engine) -> None:
    found = shown(engine, FACTS, monday=MONDAY, now=datetime(2026, 10, 21, 9, tzinfo=UTC))
    assert found.running
    assert (found.review.week.days, found.review.four.days) == (3, 24)
    assert found.review.days[-1].day == date(2026, 10, 21)


def test_the_line_of_time_has_names(engine: Engine) -> None:
    found = shown(engine, FACTS)
    assert all(release.service for release in found.releases)
    assert any(release.version for release in found.releases)
    assert {row.failure.release for row in found.failures if row.version}


def of(number: int, day: datetime, took: timedelta, outcome: str) -> list[Fact]:
    image, commit = f"registry.example/web:v{number}", f"{number:040x}"
    said: list[tuple[str, ReleaseSays | ChangeSays]] = [
        (
            f"c{number}",
            ChangeSays(repository="acme/web", opened=day - took, merged=day - took / 2, merge_commit=commit, title=f"T{number}"),
        ),
        (
            f"r{number}",
            ReleaseSays(
                service="web",
                environment="production",
                artifact=image,
                commit=commit,
                repository="acme/web",
                requested=day,
                exposed=day,
                outcome=outcome,  # type: ignore[arg-type]
                promoted=day + timedelta(minutes=5) if outcome == "Promoted" else None,
                detected=None if outcome == "Promoted" else day + timedelta(seconds=10),
                returned=None if outcome == "Promoted" else day + timedelta(seconds=19),
            ),
        ),
    ]
    return [Fact.of("test", key, day, key, says) for key, says in said]


@pytest.mark.parametrize(
    ("a_day", "took", "bad", "said"),
    [
        (2, timedelta(hours=1), 0, "Deployment frequency is furthest from the contract: 2 deployments a day against 8"),
        (9, timedelta(hours=9), 0, "Lead time is furthest from the contract: 9 h 5 min against 2 h 30 min; most of it is"),
        (9, timedelta(hours=1), 5, "The change failure rate is furthest from the contract: "),
        (9, timedelta(hours=1), 0, "The contract is met, as far as can be told: nothing sure is known of recovery time."),
        (9, timedelta(hours=1), 125, "The contract is met."),
    ],
)
def test_one_sentence_says_what_is_furthest_from_the_contract(
    engine: Engine, a_day: int, took: timedelta, bad: int, said: str
) -> None:
    start = datetime(2026, 9, 28, 6, tzinfo=UTC)
    facts = [
        fact
        for number in range(a_day * 28)
        for fact in of(
            number,
            start + timedelta(days=number // a_day, minutes=20 * (number % a_day)),
            took,
            "RolledBack" if bad and number % bad == bad - 1 else "Promoted",
        )
    ]
    Random(1).shuffle(facts)  # noqa: S311
    found = shown(engine, facts)
    assert found.review.sentence.startswith(said)
    assert found.review.services[0].service == "web"
    assert len(found.slowest) == 10
    assert found.slowest[0].title.startswith("T")
    if bad:
        assert found.review.recoveries[0].below == BUCKETS[0]
        assert found.review.recoveries[0].caught == found.review.four.failed.count

"""Weeks, added up, say what the figures of the same window say."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise, product
from random import Random

import pytest
from sqlalchemy import Engine, select
from tests.data.dora.month import BERLIN, CATALOG, FACTS
from tests.stores import engine, postgres, url

from serinus.dora.catalog import Catalog, Service
from serinus.dora.figures import Durations, Rate, Window
from serinus.dora.metrics import Five, Scope, five
from serinus.dora.rollup import Numbers, Share, Spread, add_up
from serinus.dora.store.keeper import Keeper
from serinus.dora.store.log import Log
from serinus.dora.store.schema import attempts, weeks

__all__ = ["engine", "postgres", "url"]  # fixtures

NOW = datetime(2026, 11, 1, tzinfo=UTC)
SCOPES = [Scope(), *(Scope(service=name) for name in CATALOG.services), Scope(team="shop"), Scope(environment="staging")]
#: October has weeks with and without a change of the clock.
MONDAYS = [date(2026, 9, 28) + timedelta(weeks=week) for week in range(6)]


def spread(found: Durations) -> Spread:
    return Spread(found.n, found.median, found.p75, found.p90, found.total)


def share(found: Rate) -> Share:
    return Share(found.count, found.n, found.ratio, found.low, found.high)


def numbers(found: Five) -> Numbers:
    """The same, of the figures with all their keys."""
    frequency, lead, recovery = found.frequency, found.lead_time, found.recovery
    standings: dict[str, int] = {}
    for day in frequency.daily:
        for standing, count in day.standings.items():
            standings[standing] = standings.get(standing, 0) + count
    return Numbers(
        frequency.days,
        frequency.n,
        frequency.per_day,
        frequency.deployment_days,
        spread(lead.opened),
        spread(lead.first_commit),
        spread(lead.bake),
        {stage: spread(durations) for stage, durations in lead.stages.items()},
        share(found.failure_rate.rate),
        spread(recovery.every),
        spread(recovery.caught),
        spread(recovery.escaped),
        share(found.rework.rate),
        len(lead.untracked),
        len(lead.undated),
        len(recovery.open),
        len(recovery.unlinked),
        standings,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("seed", range(3))
def test_any_weeks_in_any_scope_add_up_to_its_figures(engine: Engine, seed: int) -> None:
    log, keeper, facts = Log(engine), Keeper(engine, CATALOG, BERLIN), list(FACTS)
    Random(seed).shuffle(facts)  # noqa: S311
    for start in range(0, len(facts), 30):
        log.append(facts[start : start + 30], NOW)
        keeper.catch_up()
    seen = 0
    for (first, end), scope in product(((a, b) for a in MONDAYS for b in MONDAYS if a <= b), SCOPES):
        window = Window.of_days(first, end, BERLIN)
        found = keeper.weeks(scope, first, end)
        wanted = five(keeper.shelf(scope, window), window, scope)
        assert asdict(add_up([kept.week for kept in found], (end - first).days)) == asdict(numbers(wanted))
        seen += wanted.frequency.n + wanted.failure_rate.rate.count
    assert seen > 100


def test_weeks_name_their_failures_and_their_slowest_changes(engine: Engine) -> None:
    log, keeper = Log(engine), Keeper(engine, CATALOG, BERLIN)
    log.append(FACTS, NOW)
    keeper.catch_up()
    for scope in SCOPES:
        window = Window.of_days(MONDAYS[0], MONDAYS[-1], BERLIN)
        wanted = five(keeper.shelf(scope, window), window, scope)
        named = [failure for *_, failure in keeper.failures(scope, keeper.weeks(scope, MONDAYS[0], MONDAYS[-1], ()))]
        assert named == sorted(wanted.failure_rate.failures, key=lambda f: f.when, reverse=True)
        for first, end in pairwise(MONDAYS):
            window = Window.of_days(first, end, BERLIN)
            carried = five(keeper.shelf(scope, window), window, scope).lead_time.deliveries
            dated = sorted((d for d in carried if d.lead is not None), key=lambda d: (-(d.lead or 0), d.change))
            assert keeper.slowest(scope, keeper.weeks(scope, first, end, ("lead",))) == dated[:10]


def test_other_settings_make_all_of_it_anew(engine: Engine) -> None:
    """A catalog that knows one more repository, or days that begin elsewhere."""
    log, keeper = Log(engine), Keeper(engine, CATALOG, BERLIN)
    log.append(FACTS, NOW)
    read = keeper.catch_up()
    assert keeper.catch_up() == frozenset()
    other = Catalog({**CATALOG.services, "legacy": Service("new")}, CATALOG.production)
    assert Keeper(engine, other, BERLIN).catch_up() == read
    with engine.connect() as connection:
        kept = connection.execute(select(attempts.c.key)).all(), connection.execute(select(weeks.c.monday)).all()
    assert all(kept)
    assert Keeper(engine, other, BERLIN).catch_up() == frozenset()

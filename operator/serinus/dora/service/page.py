"""What the page shows: read from the store, put together in `serinus.dora.review`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from serinus.dora.catalog import Catalog
from serinus.dora.facts import ChangeSays, IncidentSays, known
from serinus.dora.failures import Failure
from serinus.dora.figures import Window, maybe
from serinus.dora.metrics import Attempt, Delivery, Scope
from serinus.dora.review import JUDGED, LINE, Failed, Incident, Page, Released, Slow, iso, review
from serinus.dora.store.keeper import Keeper
from serinus.dora.store.log import Log

#: Releases and incidents on the line of time.
MOST_RELEASES, MOST_INCIDENTS = 200, 100


def page(log: Log, keeper: Keeper, scope: Scope, monday: date, now: datetime, catalog: Catalog, zone: ZoneInfo) -> Page:
    """Of the week that begins on `monday`; `now` says how much of it there is."""
    after = monday + timedelta(weeks=1)
    window, today = Window.of_days(monday, after, zone), now.astimezone(zone).date()
    judged = monday - timedelta(weeks=JUDGED - 1)
    four = keeper.weeks(scope, judged, after)
    line = keeper.weeks(scope, monday - timedelta(weeks=LINE - 1), judged, ("lead", "caught", "escaped")) + four
    failures = keeper.failures(scope, four)
    releases, loose = keeper.newest(scope, window, MOST_RELEASES + 1)
    start, end = window.interval
    return Page(
        scope,
        str(zone),
        iso(monday),
        start,
        end,
        today,
        monday <= today < after,
        review(line, four, monday, today, catalog),
        _slowest(log, keeper.slowest(scope, [kept for kept in four if kept.week.monday == monday])),
        _ledger(failures, keeper.attempts(failure.release for *_, failure in failures)),
        tuple(map(_released, releases[:MOST_RELEASES])),
        len(releases) > MOST_RELEASES,
        _incidents(log, catalog, releases, loose),
        keeper.freshness(),
    )


def _slowest(log: Log, deliveries: Sequence[Delivery]) -> tuple[Slow, ...]:
    changes = known(log.about("change", {delivery.change for delivery in deliveries}), ChangeSays)
    # One that has just been forgotten is not read anew yet.
    return tuple(Slow(d, changes[d.change].says.title, changes[d.change].says.url) for d in deliveries if d.change in changes)


def _ledger(failures: Sequence[tuple[str, str, Failure]], attempts: dict[str, Attempt]) -> tuple[Failed, ...]:
    return tuple(
        Failed(service, environment, attempts[f.release].version if f.release in attempts else "", f, f.seconds)
        for service, environment, f in failures
    )


def _released(a: Attempt) -> Released:
    at = (a.reached or 0) if a.promoted is None else a.promoted
    return Released(a.key, a.service, a.environment, a.version, a.standing, at, a.reached, a.promoted, a.failure is not None)


def _incidents(log: Log, catalog: Catalog, releases: Sequence[Attempt], loose: Sequence[str]) -> tuple[Incident, ...]:
    of = {key: release.key for release in releases if release.failure for key in release.failure.incidents}
    keys = [*of, *loose][:MOST_INCIDENTS]
    found = []
    for key, incident in known(catalog.named(log.about("incident", keys)), IncidentSays).items():
        says = incident.says
        began = maybe(says.began or says.detected)
        release = of.get(key, "")
        found.append(Incident(key, says.service, says.title, says.url, says.severity, began, maybe(says.over), release))
    return tuple(sorted(found, key=lambda incident: incident.began or 0, reverse=True))

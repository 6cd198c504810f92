"""What Prometheus reads of the measuring service: the page's figures, and who may have them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine
from tests.data.dora.fleet import fleet
from tests.data.dora.month import BERLIN, CATALOG, FACTS
from tests.stores import engine, postgres, url
from tests.test_dora_service import READING, SECRETS, ask, serving

from serinus.api.crdgen import ROOT
from serinus.dora.catalog import Catalog
from serinus.dora.contract import DEPLOYMENTS_A_DAY, FAILURES, LEAD_TIME, RECOVERY
from serinus.dora.facts import Fact, ReleaseSays
from serinus.dora.metrics import Scope
from serinus.dora.review import Page
from serinus.dora.rollup import SAMPLES, Brief, Kept, Numbers
from serinus.dora.series import MOST, NAMES
from serinus.dora.service.page import page
from serinus.dora.service.scrape import Scrape
from serinus.dora.store.keeper import Keeper
from serinus.dora.store.log import Log
from serinus.dora.store.schema import connect

__all__ = ["engine", "postgres", "url"]  # fixtures

#: The last day of October's last whole week.
SUNDAY, MONDAY = datetime(2026, 10, 25, 20, tzinfo=UTC), date(2026, 10, 19)
Series = dict[tuple[str, ...], float]


def series(text: bytes | str) -> Series:
    """(name, values of labels, by the labels' names) -> value."""
    found = {}
    for family in text_string_to_metric_families(text if isinstance(text, str) else text.decode()):
        for sample in family.samples:
            key = (sample.name.removeprefix("serinus_dora_"), *(value for _, value in sorted(sample.labels.items())))
            assert key not in found
            found[key] = sample.value
    return found


class Counting(Keeper):
    """Counts how often weeks are read."""

    reads = 0

    def weeks(self, scope: Scope, first: date, end: date, samples: Sequence[str] = SAMPLES) -> list[Kept]:
        self.reads += 1
        return super().weeks(scope, first, end, samples)


def filled(engine: Engine, facts: Sequence[Fact], known: Catalog = CATALOG) -> tuple[Counting, Scrape]:
    log, keeper = Log(engine), Counting(engine, known, BERLIN)
    log.append(facts, SUNDAY)
    keeper.catch_up()
    return keeper, Scrape(log, keeper, known, BERLIN)


def without(found: dict[tuple[str, ...], float | None]) -> Series:
    return {key: value for key, value in found.items() if value is not None}


def wanted(figures: Brief | Numbers, scope: str, service: str) -> Series:
    key = (scope, service)
    failed, rework = figures.failed, figures.rework
    counts = (figures.deployments, figures.lead.n, failed.n, figures.recovery.n, rework.n)
    values = (figures.per_day, figures.lead.median, failed.ratio, figures.recovery.median, rework.ratio)
    ends = {"change_failure_ratio": failed, "rework_ratio": rework}
    return without(
        {
            **{(name, *key): value for name, value in zip(NAMES.values(), values, strict=True)},
            **{("n", name, *key): n for name, n in zip(NAMES.values(), counts, strict=True)},
            **{("low", name, *key): share.low for name, share in ends.items()},
            **{("high", name, *key): share.high for name, share in ends.items()},
        }
    )


def shown(engine: Engine, now: datetime = SUNDAY, monday: date = MONDAY, known: Catalog = CATALOG) -> Page:
    return page(Log(engine), Keeper(engine, known, BERLIN), Scope(), monday, now, known, BERLIN)


@pytest.mark.parametrize("now", [SUNDAY, datetime(2026, 10, 21, 9, tzinfo=UTC)], ids=["a whole week", "a Wednesday"])
def test_the_series_are_the_pages_four_weeks(engine: Engine, now: datetime) -> None:
    _, scrape = filled(engine, [*fleet(3, 300, SUNDAY), *FACTS])
    review, found = shown(engine, now).review, series(scrape.text(now))
    figures = (*NAMES.values(), "n", "low", "high")
    assert {key: value for key, value in found.items() if key[0] in figures} == {
        **wanted(review.four, "all", ""),
        **{key: value for row in review.services for key, value in wanted(row.figures, "service", row.service).items()},
    }
    before = review.before
    assert [found.get(("before", name)) for name in NAMES.values()] == [
        before.per_day, before.lead.median, before.failed.ratio, before.recovery.median, before.rework.ratio
    ]  # fmt: skip
    assert found["before_n", "change_failure_ratio"] == before.failed.n
    assert found["before_low", "rework_ratio"] == before.rework.low
    assert found["before_high", "change_failure_ratio"] == before.failed.high
    assert {key[2]: value for key, value in found.items() if key[0] == "gap"} == {
        row.service: row.gap for row in review.services if row.gap is not None
    }
    assert found["days",] == review.four.days == (28 if now == SUNDAY else 24)
    assert found["services",] == len(review.services)


def test_every_series_is_explained(engine: Engine) -> None:
    _, scrape = filled(engine, FACTS)
    page = (ROOT / "docs" / "dora.md").read_text()
    names = {line.split()[2] for line in scrape.text(SUNDAY).decode().splitlines() if line.startswith("# TYPE serinus_")}
    assert len(names) >= 20
    assert [name for name in sorted(names) if f"`{name}`" not in page] == []


def test_targets_are_the_contracts(engine: Engine) -> None:
    _, scrape = filled(engine, [])
    targets = {key[1]: value for key, value in series(scrape.text(SUNDAY)).items() if key[0] == "target"}
    names = ("deployment_frequency", "lead_time_seconds", "change_failure_ratio", "recovery_seconds")
    assert targets == dict(zip(names, (DEPLOYMENTS_A_DAY, LEAD_TIME, FAILURES, RECOVERY), strict=True))


def test_what_is_not_known_has_no_series_and_a_count_of_none_is_0(engine: Engine) -> None:
    _, scrape = filled(engine, [])
    found = series(scrape.text(SUNDAY))
    assert {key for key in found if key[0] in (*NAMES.values(), "low", "high", "before_low", "gap")} == {
        ("deployment_frequency", "all", "")
    }
    assert found["deployment_frequency", "all", ""] == found["n", "lead_time_seconds", "all", ""] == 0
    assert ("newest_fact_timestamp_seconds",) not in found
    assert (found["facts_total",], found["quarantine", "github"]) == (0, 0)


def test_how_current_it_is(engine: Engine) -> None:
    keeper, scrape = filled(engine, FACTS)
    log = Log(engine)
    found = series(scrape.text(SUNDAY))
    assert (found["facts_total",], found["unread_facts",], found["waiting_services",]) == (log.count(), 0, 0)
    assert found["newest_fact_timestamp_seconds",] == SUNDAY.timestamp()
    log.append(list(fleet(1, 10, SUNDAY)), SUNDAY + timedelta(minutes=5))
    log.hold("github", {}, b"{", 400, "no JSON", SUNDAY)
    found = series(scrape.text(SUNDAY))
    assert found["unread_facts",] > 0
    assert found["newest_fact_timestamp_seconds",] == SUNDAY.timestamp() + 300
    assert (found["quarantine", "github"], found["quarantine", "gitlab"]) == (1, 0)
    keeper.catch_up()
    assert series(scrape.text(SUNDAY))["unread_facts",] == 0


def test_figures_are_put_together_once_for_a_change_or_a_day(engine: Engine) -> None:
    keeper, scrape = filled(engine, FACTS)
    first = series(scrape.text(SUNDAY))
    for _ in range(5):
        assert series(scrape.text(SUNDAY)).items() >= {k: v for k, v in first.items() if "process" not in k[0]}.items()
    assert keeper.reads == 1
    Log(engine).append(list(fleet(1, 20, SUNDAY)), SUNDAY)
    keeper.catch_up()
    assert series(scrape.text(SUNDAY))["n", "change_failure_ratio", "all", ""] > first["n", "change_failure_ratio", "all", ""]
    assert keeper.reads >= 2
    before = keeper.reads
    tomorrow = series(scrape.text(SUNDAY + timedelta(days=1)))
    assert (keeper.reads, tomorrow["days",]) == (before + 1, 22)


def test_services_with_series_of_their_own_are_bounded(tmp_path: Path) -> None:
    at = SUNDAY - timedelta(days=1)
    says = [ReleaseSays(service=f"s{n}", environment="production", exposed=at, promoted=at, outcome="Promoted") for n in range(9)]
    engine = connect(f"sqlite:///{tmp_path}/dora.db")
    _, scrape = filled(engine, [Fact.of("test", str(n), at, str(n), each) for n, each in enumerate(says)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("serinus.dora.series.MOST", 4)
        found = series(scrape.text(SUNDAY))
    assert len({key[2] for key in found if key[:2] == ("deployment_frequency", "service")}) == 4
    assert (found["services",], found["deployment_frequency", "all", ""]) == (9, 9 / 28)
    assert 100 <= MOST <= 5000
    engine.dispose()


def test_a_name_is_only_ever_a_labels_value(engine: Engine) -> None:
    evil = 'a"} 1\nserinus_dora_target{figure="x'
    at = SUNDAY - timedelta(days=1)
    says = ReleaseSays(service=evil, environment="production", exposed=at, promoted=at, outcome="Promoted")
    _, scrape = filled(engine, [Fact.of("test", "1", at, "r1", says)])
    assert series(scrape.text(SUNDAY))["deployment_frequency", "service", evil] == 1 / 28


def test_the_secret_for_metrics_opens_them_and_nothing_else(tmp_path: Path) -> None:
    secrets = SECRETS | {"SERINUS_DORA_SECRET_METRICS": "scr4pe"}
    with serving(f"sqlite:///{tmp_path}/dora.db", tmp_path, secrets) as (address, _):
        for token, status in (("scr4pe", 200), (READING, 200), ("", 401), ("guessed", 401)):
            given, text = ask("GET", f"{address}/metrics", reading=token)
            assert given == status, token
        assert ask("GET", f"{address}/review", reading="scr4pe")[0] == 401
        assert ask("POST", f"{address}/login", b'{"token": "scr4pe"}', reading="")[0] == 401
        _, text = ask("GET", f"{address}/metrics", reading="scr4pe")
    found = series(text)
    assert found["facts_total",] == 0
    assert found["process_resident_memory_bytes",] > 0


def test_without_that_secret_a_token_that_is_empty_opens_nothing(tmp_path: Path) -> None:
    with serving(f"sqlite:///{tmp_path}/dora.db", tmp_path) as (address, _):
        assert ask("GET", f"{address}/metrics", headers={"Authorization": "Bearer "})[0] == 401

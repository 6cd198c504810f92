"""What is kept beside the facts is what a book of all of them says: on both databases, in any order, after any kill."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import cycle
from random import Random
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import Engine, select
from tests.data.dora.month import BERLIN, CATALOG, FACTS, at, said
from tests.stores import engine, postgres, url

from serinus.dora.catalog import Catalog, Service
from serinus.dora.facts import ArtifactSays, ChangeSays, CommitSays, Fact, IncidentSays, MarkSays, ReleaseSays, RunSays
from serinus.dora.figures import Window
from serinus.dora.metrics import Book, Five, Scope, five, measure
from serinus.dora.service.config import Config
from serinus.dora.service.page import page
from serinus.dora.store import keeper
from serinus.dora.store.keeper import Keeper
from serinus.dora.store.log import Log
from serinus.dora.store.pipelines import Follower
from serinus.dora.store.schema import connect, progress

__all__ = ["engine", "postgres", "url"]  # fixtures

OCTOBER = Window.of_days(date(2026, 10, 1), date(2026, 11, 1), BERLIN)
SCOPES = [Scope(), *(Scope(service=name) for name in CATALOG.services), Scope(team="shop"), Scope(environment="staging")]
NOW = datetime(2026, 11, 1, tzinfo=UTC)


def kept(keeping: Keeper) -> list[Five]:
    return [five(keeping.shelf(scope, OCTOBER), OCTOBER, scope) for scope in SCOPES]


def of_all(facts: Iterable[Fact]) -> list[Five]:
    book = Book.of(facts, CATALOG)
    return [measure(book, OCTOBER, scope) for scope in SCOPES]


@pytest.mark.parametrize("seed", range(6))
def test_in_any_order_and_in_any_parts_it_says_what_a_book_of_all_facts_says(engine: Engine, seed: int) -> None:
    log, keeping, chance = Log(engine), Keeper(engine, CATALOG, BERLIN), Random(seed)  # noqa: S311
    facts = [*FACTS, *chance.sample(FACTS, 20)]
    chance.shuffle(facts)
    while facts:
        part, facts = facts[: (size := chance.randint(1, 40))], facts[size:]
        log.append(part, NOW)
        keeping.catch_up()
    assert kept(keeping) == of_all(FACTS)


def test_on_the_way_it_says_what_is_known_so_far(engine: Engine) -> None:
    log, keeping, facts = Log(engine), Keeper(engine, CATALOG, BERLIN), list(FACTS)
    Random(7).shuffle(facts)  # noqa: S311
    for end in range(0, len(facts), 15):
        log.append(facts[max(0, end - 15) : end], NOW)
        keeping.catch_up()
        assert kept(keeping) == of_all(facts[:end])


def test_killed_between_any_two_steps_it_goes_on(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(Exception):
        pass

    monkeypatch.setattr(keeper, "BATCH", 25)
    Log(engine).append(FACTS, NOW)
    steps = ("_look", "_read")
    for number in range(1, 40):
        left = [number % 4]

        def once(step: object, *some: object, left: list[int] = left) -> object:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return step(*some)  # type: ignore[operator]

        keeping = Keeper(engine, CATALOG, BERLIN)
        for name in steps:
            monkeypatch.setattr(keeping, name, partial(once, getattr(keeping, name)))
        try:
            keeping.catch_up()
        except Killed:
            continue
        break
    Keeper(engine, CATALOG, BERLIN).catch_up()
    assert kept(Keeper(engine, CATALOG, BERLIN)) == of_all(FACTS)


def test_only_services_that_new_facts_are_about_are_read_anew(engine: Engine) -> None:
    log, keeping = Log(engine), Keeper(engine, CATALOG, BERLIN)
    log.append(FACTS, NOW)
    assert {"checkout", "search", "pay", "legacy"} <= keeping.catch_up()
    assert keeping.catch_up() == frozenset()
    log.append([said("pager", "late", "20 12:00", "i-late", IncidentSays, service="pay", began="20 12:00")], NOW)
    assert keeping.catch_up() == {"pay"}


def test_a_mark_moves_an_incident_from_one_service_to_another(engine: Engine) -> None:
    def release(key: str, service: str) -> Fact:
        says = {"service": service, "environment": "production", "requested": "05 09:00", "promoted": "05 09:00"}
        return said("test", key, "05 09:00", key, ReleaseSays, **says, outcome="Promoted")

    def mark(number: int, verdict: str, name: str = "") -> Fact:
        return said("page", f"m{number}", f"06 09:0{number}", "incident/i", MarkSays, verdict=verdict, release=name, by="mona")

    facts = [release("a", "pay"), release("b", "search")]
    facts += [said("pager", "1", "05 09:10", "i", IncidentSays, service="pay", environment="production", began="05 09:10")]
    log, keeping = Log(engine), Keeper(engine, CATALOG, BERLIN)
    for more in ([*facts], [mark(1, "release", "b")], [mark(2, "unrelated")], [mark(3, "unmarked")]):
        facts = [*facts, *(fact for fact in more if fact not in facts)]
        log.append(facts, NOW)
        keeping.catch_up()
        assert kept(keeping) == of_all(facts), more
    assert at("05 09:00") < NOW


def test_made_anew_it_is_the_same(engine: Engine) -> None:
    Log(engine).append(FACTS, NOW)
    keeping = Keeper(engine, CATALOG, BERLIN)
    keeping.catch_up()
    before = kept(keeping)
    keeping.rebuild()
    assert kept(keeping) == before


def test_what_is_new_in_a_repository_wakes_whoever_was_read_with_it_and_nobody_else(engine: Engine) -> None:
    """Also where the release names an image, and only the image its repository."""
    log, keeping = Log(engine), Keeper(engine, CATALOG, BERLIN)
    image, commit = "registry.example/web:1", "c" * 40
    log.append(
        [
            Fact.of("test", "1", NOW, "r1", ReleaseSays(service="web", environment="production", artifact=image, promoted=NOW)),
            Fact.of("test", "2", NOW, image, ArtifactSays(repository="acme/web", commit=commit)),
            Fact.of("test", "3", NOW, "r2", ReleaseSays(service="api", repository="acme/api", promoted=NOW)),
        ],
        NOW,
    )
    assert keeping.catch_up() >= {"web", "api"}
    for number, (repository, service) in enumerate({"acme/web": "web", "acme/api": "api"}.items()):
        log.append([Fact.of("hub", str(number), NOW, f"#{number}", ChangeSays(repository=repository, opened=NOW))], NOW)
        assert keeping.catch_up() == {service}


def test_releases_that_name_no_repository_wake_nobody_else(engine: Engine) -> None:
    """Else each of them would have all services read anew whose releases do not say where they are from."""
    log, keeping = Log(engine), Keeper(engine, CATALOG, BERLIN)
    keeping.catch_up()
    for number, service in enumerate(("web", "api", "web")):
        log.append([Fact.of("test", f"{number}", NOW, f"r{number}", ReleaseSays(service=service, promoted=NOW))], NOW)
        assert keeping.catch_up() == {service}


def test_a_service_that_tools_call_by_several_names_is_one(engine: Engine) -> None:
    other = replace(CATALOG, services={n: replace(s, also=(f"shop/{n}", n.upper())) for n, s in CATALOG.services.items()})
    log, keeping, names, facts = Log(engine), Keeper(engine, other, BERLIN), cycle(("{}", "shop/{}", "{}")), list[Fact]()
    for fact in FACTS:
        if isinstance(fact.says, ReleaseSays | IncidentSays) and fact.says.service in CATALOG.services:
            called = next(names).format(fact.says.service)
            fact = fact.model_copy(update={"says": fact.says.model_copy(update={"service": called})})
        facts.append(fact)
    log.append(facts, NOW)
    keeping.catch_up()
    assert kept(keeping) == of_all(FACTS)
    assert [measure(Book.of(facts, other), OCTOBER, scope) for scope in SCOPES] == of_all(FACTS)


def test_what_is_old_goes_and_what_remains_says_what_a_book_of_it_says(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the figures of what came later stay, since each service's last release of before then does."""
    monkeypatch.setattr(keeper, "BATCH", 7)
    log, keeping = Log(engine), Keeper(engine, CATALOG, BERLIN)
    log.append(FACTS, NOW)
    keeping.catch_up()
    later = Window.of_days(date(2026, 10, 19), date(2026, 11, 1), BERLIN)
    before = [five(keeping.shelf(scope, later), later, scope) for scope in SCOPES]
    keeping.forget(datetime(2026, 10, 12, tzinfo=UTC))
    assert keeping.catch_up()
    left = list(log.all())
    assert 0 < len(left) < len(FACTS)
    assert kept(keeping) == of_all(left)
    assert [five(keeping.shelf(scope, later), later, scope) for scope in SCOPES] == before
    keeping.forget(datetime(2026, 10, 12, tzinfo=UTC))
    assert (list(log.all()), keeping.catch_up()) == (left, frozenset()), "once more changes nothing"


@pytest.mark.parametrize("marked", [False, True])
def test_what_comes_after_something_old_went_is_read_though_that_was_the_newest_fact(engine: Engine, marked: bool) -> None:
    """As after history was imported that is older than what is kept: a number that was given is not given again."""
    log, keeping, follower = Log(engine), Keeper(engine, CATALOG, BERLIN), Follower(engine, CATALOG)
    old = NOW - timedelta(days=500)
    log.append([Fact.of("hub", f"run{n}", old, f"run/{n}", RunSays(repository="acme/shop", finished=old)) for n in range(9)], NOW)
    if marked:
        log.append([Fact.of("cd", "old", old, "old", ReleaseSays(service="pay", requested=old, outcome="Skipped"))], NOW)
        log.append([Fact.of("page", "m", old, "release/old", MarkSays(verdict="fine", by="mona"))], NOW)
    keeping.catch_up()
    follower.catch_up()
    follower.forget(NOW - timedelta(days=400))
    keeping.forget(NOW - timedelta(days=400))
    log.append([Fact.of("cd", "1", NOW, "new", ReleaseSays(service="pay", environment="production", promoted=NOW))], NOW)
    keeping.catch_up()
    follower.catch_up()
    assert list(keeping.attempts(["new"])) == ["new"]
    assert keeping.freshness().unread == 0


def _quarterly(*, undone: bool) -> list[Fact]:
    """A service that is seldom released: 199 days ago, and yesterday with what waited; `undone`: back and forth before that."""
    from_here = {"repository": "acme/quiet"}

    def day(ago: float) -> datetime:
        return NOW - timedelta(days=ago)

    def commit(number: int, ago: float) -> Iterator[Fact]:
        parents = (str(number - 1) * 40,) if number else ()
        yield Fact.of(
            "git", f"c{number}", day(ago), str(number) * 40, CommitSays(**from_here, parents=parents, committed=day(ago))
        )
        merged = {"base": "main", "opened": day(ago + 1), "merged": day(ago), "merge_commit": str(number) * 40}
        yield Fact.of("hub", f"m{number}", day(ago), f"acme/quiet#{number}", ChangeSays(**from_here, **merged))

    def release(key: str, number: int, ago: float) -> Fact:
        moments = dict.fromkeys(("requested", "exposed", "promoted"), day(ago))
        says = ReleaseSays(service="quiet", environment="production", commit=str(number) * 40, **from_here, **moments)
        return Fact.of("cd", key, day(ago), key, says)

    facts = [*commit(0, 210), release("r0", 0, 209), *commit(1, 200), release("r1", 1, 199)]
    facts += [release("back", 0, 198)] if undone else []
    incident = {"service": "quiet", "environment": "production", "began": day(198.999), "resolved": day(198.9)}
    facts += [] if undone else [Fact.of("pager", "i", day(198.9), "i", IncidentSays(**incident))]
    return [*facts, *commit(2, 150), *commit(3, 130), *commit(4, 2), release("r2", 4, 1)]


@pytest.mark.parametrize("undone", [False, True])
def test_what_yesterdays_release_brought_stays_though_it_waited_for_longer_than_is_kept(engine: Engine, undone: bool) -> None:
    """With it that the release mends what the last one did, long ago."""
    log, keeping = Log(engine), Keeper(engine, CATALOG, BERLIN)
    log.append(_quarterly(undone=undone), NOW)
    keeping.catch_up()
    window, scope = Window.of_days(date(2026, 10, 25), date(2026, 11, 2), BERLIN), Scope(service="quiet")
    before = five(keeping.shelf(scope, window), window, scope)
    assert (before.lead_time.opened.n, before.lead_time.untracked) == (3, ())
    assert before.rework.rate.count == (0 if undone else 1)
    keeping.forget(NOW - timedelta(days=120))
    keeping.catch_up()
    left = {fact.key for fact in log.all()}
    assert ("r1" in left, "r0" in left, "acme/quiet#0" in left) == (True, False, undone)
    assert five(keeping.shelf(scope, window), window, scope) == before


@pytest.mark.parametrize("forgets", [False, True])
def test_two_at_once_agree(engine: Engine, url: str, forgets: bool) -> None:
    """As `serinus dora report` beside a service: what one notices while the other reads is in no figure of what that has read."""
    other = connect(url)
    log, first, second = Log(engine), Keeper(engine, CATALOG, BERLIN), Keeper(other, CATALOG, BERLIN)

    def release(number: int, ago: int) -> Fact:
        moment = NOW - timedelta(days=ago)
        says = ReleaseSays(service="pay", environment="production", promoted=moment, outcome="Promoted")
        return Fact.of("cd", str(number), moment, f"r{number}", says)

    log.append([release(1, 200), release(2, 190)], NOW)
    second.catch_up()
    log.append([release(3, 1)], NOW)
    read = first._facts

    def meanwhile(*some: Any) -> object:
        found = read(*some)
        first._facts = read  # type: ignore[method-assign]
        if forgets:
            second.forget(NOW - timedelta(days=120))
            log.append([release(4, 1)], NOW)
        else:
            log.append([release(4, 1)], NOW)
            second._look()  # and there it is killed
        return found

    first._facts = meanwhile  # type: ignore[method-assign, assignment]
    first.catch_up()
    first.catch_up()
    assert sorted(first.attempts(f"r{n}" for n in range(5))) == (["r2", "r3", "r4"] if forgets else ["r1", "r2", "r3", "r4"])
    with engine.connect() as connection:
        assert len(connection.execute(select(progress)).all()) == 1
    other.dispose()


@pytest.mark.parametrize("services", [{"a": ("web",), "b": ("web",)}, {"a": ("b",), "b": ()}])
def test_a_name_that_would_lead_to_two_services_is_refused(services: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(ValueError, match="a name leads to one service"):
        Catalog({name: Service(also=also) for name, also in services.items()})
    with pytest.raises(ValidationError, match="a name leads to one service"):
        Config.model_validate({"catalog": {"services": {name: {"also": list(also)} for name, also in services.items()}}})


def test_the_page_is_there_while_what_was_forgotten_is_not_read_anew_yet(engine: Engine) -> None:
    log, keeping, monday = Log(engine), Keeper(engine, CATALOG, BERLIN), date(2026, 4, 13)
    log.append(_quarterly(undone=False), NOW)
    keeping.catch_up()
    assert page(log, keeping, Scope(), monday, NOW, CATALOG, BERLIN).slowest
    keeping.forget(NOW)
    assert not page(log, keeping, Scope(), monday, NOW, CATALOG, BERLIN).slowest

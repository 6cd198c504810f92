"""The log of facts, on both databases."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine
from sqlalchemy import event as events
from tests.stores import engine, postgres, url

from serinus.dora.facts import ChangeSays, Fact, ReleaseSays
from serinus.dora.store import log as log_module
from serinus.dora.store.log import Log
from serinus.dora.store.schema import connect, metadata, micros, moment

__all__ = ["engine", "postgres", "url"]  # fixtures

NOW = datetime(2026, 11, 27, 9, 0, 0, 123456, UTC)


def fact(number: int, key: str = "r", source: str = "test") -> Fact:
    says = ReleaseSays(service=f"shop/{key}", promoted=NOW + timedelta(microseconds=number))
    return Fact.of(source, str(number), NOW + timedelta(seconds=number), key, says)


def test_the_migrations_make_the_tables_that_the_code_uses(engine: Engine) -> None:
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_connecting_again_changes_nothing(url: str) -> None:
    for _ in range(2):
        engine = connect(url)
        Log(engine).append([fact(1)], NOW)
        assert Log(engine).count() == 1
        engine.dispose()


def test_facts_come_back_as_they_were(engine: Engine) -> None:
    log = Log(engine)
    given = [fact(1), fact(2, "other"), Fact.of("hub", "1", NOW, "c", ChangeSays(title="ünïcode \U0001f426", labels=("a", "b")))]
    log.append(given, NOW)
    assert list(log.all(batch=2)) == given
    assert log.about("release", ["other", "none"]) == [given[1]]
    assert [found for _, found in log.since(0, 1)] == given[:1]


def test_a_repeat_is_dropped_and_the_rest_of_its_batch_kept(engine: Engine) -> None:
    log = Log(engine)
    log.append([fact(1)], NOW)
    log.append([fact(1), fact(2), fact(2), fact(1, source="another")], NOW)
    assert {(f.source, f.id) for f in log.all()} == {("test", "1"), ("test", "2"), ("another", "1")}
    assert log.count() == 3


def test_more_than_one_statement_holds(engine: Engine) -> None:
    log = Log(engine)
    log.append([fact(n) for n in range(1234)], NOW)
    assert log.count() == 1234


def test_a_batch_is_written_as_a_whole_or_not_at_all(engine: Engine) -> None:
    log, bad = Log(engine), fact(3).model_copy(update={"key": None})
    with pytest.raises(Exception, match=r"(?i)null"):
        log.append([fact(1), bad], NOW)
    assert log.count() == 0


def test_whoever_reads_on_from_a_number_misses_nothing_of_writers_side_by_side(engine: Engine) -> None:
    log, seen, done = Log(engine), list[str](), threading.Event()

    def write(start: int) -> None:
        for number in range(start, start + 100):
            log.append([fact(number)], NOW)

    def read() -> None:
        seq = 0
        while True:
            last = done.is_set()
            for number, found in log.since(seq, 1000):
                seen.append(found.id)
                seq = number
            if last:
                return

    reader, writers = threading.Thread(target=read), [threading.Thread(target=write, args=(n,)) for n in (0, 1000, 2000)]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert len(seen) == len(set(seen)) == 300


def test_sqlite_is_never_left_to_refuse_a_writer(engine: Engine) -> None:
    if engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL has a lock for it")
    # As on a disk so slow that its patience is over.
    events.listen(engine, "checkout", lambda connection, *_: connection.execute("PRAGMA busy_timeout=0"))
    log = Log(engine)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: log.append([fact(n)], NOW), range(100)))
        list(pool.map(lambda n: log.hold("github", {}, b"", 422, "no", NOW), range(20)))
    assert log.count() == 100
    assert len(log.held()) == 20


def test_what_is_refused_is_kept_and_can_be_read_after_all(engine: Engine) -> None:
    log = Log(engine)
    number = log.hold("github", {"x-github-event": "push"}, b"\x00\xff", 422, "no commits", NOW)
    (held,) = log.held()
    assert (held.seq, held.received, held.body, held.reason) == (number, NOW, b"\x00\xff", "no commits")
    for _ in range(2):  # killed in between
        log.release(number, [fact(1)], NOW)
    assert log.held() == []
    assert log.count() == 1


def test_the_quarantine_keeps_the_newest(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "HELD", 3)
    for number in range(5):
        Log(engine).hold("github", {}, b"", 422, str(number), NOW)
    assert [held.reason for held in Log(engine).held()] == ["2", "3", "4"]


@pytest.mark.parametrize("given", [NOW, datetime(1969, 12, 31, 23, 59, 59, 999999, UTC), datetime(9999, 12, 31, tzinfo=UTC)])
def test_moments_are_exact(given: datetime) -> None:
    assert moment(micros(given)) == given

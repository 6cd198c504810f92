"""The tables. Moments are whole microseconds since 1970, so that both databases sort and compare them alike.

A change here needs a migration in ``versions/``; tests/test_dora_store.py compares the two.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Engine,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    any_,
    bindparam,
    create_engine,
    func,
    select,
)
from sqlalchemy import event as events
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from serinus.dora.rollup import SAMPLES

metadata = MetaData()
#: SQLite counts by itself in INTEGER columns only.
_COUNTED = BigInteger().with_variant(Integer, "sqlite")

facts = Table(
    "facts",
    metadata,
    Column("seq", _COUNTED, primary_key=True, autoincrement=True),
    Column("source", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("about", Text, nullable=False),
    Column("key", Text, nullable=False),
    #: JSON: what it says, without defaults.
    Column("says", Text, nullable=False),
    Column("received", BigInteger, nullable=False),
    UniqueConstraint("source", "id", name="facts_once"),
    Index("facts_about", "about", "key"),
)
#: Requests that were refused for what they hold, to be looked at and tried again.
quarantine = Table(
    "quarantine",
    metadata,
    Column("seq", _COUNTED, primary_key=True, autoincrement=True),
    Column("received", BigInteger, nullable=False),
    Column("reader", Text, nullable=False),
    #: JSON: name to value, without secrets.
    Column("headers", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("status", Integer, nullable=False),
    Column("reason", Text, nullable=False),
)

# What follows from the facts, and can be made anew from them.

#: Where a thing is needed: by a `service`, a `repository`, an `artifact` or a `release` of that name.
links = Table(
    "links",
    metadata,
    Column("about", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    #: By the name first: a planner without statistics takes all of a kind to be few.
    Index("links_name", "name", "kind", "about"),
)
#: Releases with all that follows: JSON of serinus.dora.metrics.Attempt. Moments are seconds.
attempts = Table(
    "attempts",
    metadata,
    Column("key", Text, primary_key=True),
    Column("service", Text, nullable=False),
    Column("environment", Text, nullable=False),
    #: When it counts last; 0: never.
    Column("at", BigInteger, nullable=False),
    Column("data", Text, nullable=False),
    Index("attempts_service", "service", "at"),
    Index("attempts_at", "at"),
)
#: Incidents that no release explains, and when they began.
loose = Table(
    "loose",
    metadata,
    Column("key", Text, primary_key=True),
    Column("service", Text, nullable=False),
    Column("environment", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Index("loose_service", "service", "at"),
)
#: What a service did in a week: arrays of 32 bit integers, little endian, and JSON. `monday`: as date.toordinal has it.
weeks = Table(
    "weeks",
    metadata,
    Column("monday", Integer, primary_key=True),
    Column("service", Text, primary_key=True),
    Column("environment", Text, primary_key=True),
    Column("days", LargeBinary, nullable=False),
    *(Column(name, LargeBinary, nullable=False) for name in SAMPLES),
    Column("slowest", Text, nullable=False),
    Column("failures", Text, nullable=False),
    Index("weeks_service", "service"),
)
#: One row: up to which fact all of that is made, of which services not yet (JSON, each with a word), and with which settings.
progress = Table(
    "progress",
    metadata,
    Column("seq", BigInteger, nullable=False),
    Column("services", Text, nullable=False),
    Column("settings", Text, nullable=False),
)

# And what serinus.dora.store.pipelines makes of them. Moments are seconds; NULL: nobody says.

#: Runs of pipelines, and their jobs, which have a `parent`. `run`: the run whatever its `attempt`.
runs = Table(
    "runs",
    metadata,
    Column("key", Text, primary_key=True),
    Column("repository", Text, nullable=False),
    Column("parent", Text, nullable=False),
    Column("run", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("name", Text, nullable=False),
    Column("commit", Text, nullable=False),
    Column("result", Text, nullable=False),
    Column("queued", BigInteger),
    Column("started", BigInteger),
    Column("finished", BigInteger),
    Index("runs_finished", "repository", "finished"),
    Index("runs_commit", "commit"),
)
#: Changes that were merged.
merges = Table(
    "merges",
    metadata,
    Column("key", Text, primary_key=True),
    Column("repository", Text, nullable=False),
    Column("base", Text, nullable=False),
    Column("commit", Text, nullable=False),
    Column("merged", BigInteger, nullable=False),
    Index("merges_commit", "commit", "repository"),
    Index("merges_repository", "repository", "base"),
)
#: Uploads of results of tests; their tests are in the facts.
suites = Table(
    "suites",
    metadata,
    Column("key", Text, primary_key=True),
    Column("repository", Text, nullable=False),
    Column("suite", Text, nullable=False),
    Column("commit", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("milliseconds", BigInteger),
    Column("failed", BigInteger, nullable=False),
    Column("flaky", BigInteger, nullable=False),
    Index("suites_at", "repository", "at"),
)
#: Coverage of a part of a repository at a commit.
coverage = Table(
    "coverage",
    metadata,
    Column("key", Text, primary_key=True),
    Column("repository", Text, nullable=False),
    Column("part", Text, nullable=False),
    Column("commit", Text, nullable=False),
    Column("branch", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("lines", BigInteger, nullable=False),
    Column("lines_covered", BigInteger, nullable=False),
    Column("branches", BigInteger),
    Column("branches_covered", BigInteger),
    Index("coverage_at", "repository", "part", "at"),
)
#: One row: up to which fact these are made.
followed = Table("followed", metadata, Column("seq", BigInteger, nullable=False))

#: SQLite has one writer at a time, and a process has one such database.
_writers = threading.Lock()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(moment: datetime) -> int:
    """Exact."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def moment(known: int) -> datetime:
    """The inverse, in UTC."""
    return _EPOCH + timedelta(microseconds=known)


def among(connection: Connection, column: Column[str], names: Iterable[str]) -> ColumnElement[bool]:
    """The column is one of these, of which there may be any number: they are one parameter."""
    known = list(names)
    if connection.dialect.name == "postgresql":
        return column == any_(bindparam(None, known, ARRAY(Text)))
    each: Any = func.json_each(bindparam(None, known, JSON)).table_valued("value")
    return column.in_(select(each.c.value))


def connect(url: str) -> Engine:
    """An engine with the newest tables. `url` is SQLAlchemy's: ``sqlite:////data/dora.db``, ``postgresql+psycopg://…``.

    SQLite keeps a write-ahead log and syncs it with every commit: what was acknowledged survives a power cut.
    https://sqlite.org/pragma.html#pragma_synchronous
    """
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":
        events.listen(engine, "connect", _durable)
    migrate(engine)
    return engine


def _durable(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=60000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One transaction that writes.

    SQLite lets a writer who finds another at work ask again every 100 ms until its time is out, and on a slow disk others come
    first each time. So the threads of this process wait for one another; only another process (`serinus dora import`) is asked
    for in that way. https://sqlite.org/c3ref/busy_timeout.html
    """
    if engine.dialect.name != "sqlite":
        with engine.begin() as connection:
            yield connection
        return
    with _writers, engine.begin() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # else what is read before the first write may be of before another's
        yield connection


def migrate(engine: Engine, revision: str = "head") -> None:
    """Brings the tables to a revision. Repeating it changes nothing."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)

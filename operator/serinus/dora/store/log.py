"""The log: facts are appended, never changed; they go when they are old. And the quarantine beside it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, ScalarSelect, delete, func, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from serinus.dora.facts import Fact
from serinus.dora.store.schema import among, facts, micros, moment, quarantine, writing

#: Requests in quarantine. Each has at most 1 MiB.
HELD = 1_000
#: The advisory lock of whoever appends: https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
_TURN = 0x5E21


@dataclass(frozen=True)
class Held:
    """A request in quarantine."""

    seq: int
    received: datetime
    reader: str
    headers: Mapping[str, str]
    body: bytes
    status: int
    reason: str


class Log:
    """Every call is one transaction. Safe to use from several threads and processes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._one_by_one = engine.dialect.name == "postgresql"

    def append(self, known: Sequence[Fact], received: datetime) -> None:
        """Writes them, all or none; a (source, id) that is there already is left as it is. Durable when it returns.

        Several writers take turns, so that whoever reads on from a number never misses one that is committed later.
        """
        rows = [
            {
                "source": fact.source,
                "id": fact.id,
                "at": micros(fact.at),
                "about": fact.about,
                "key": fact.key,
                "says": fact.says.model_dump_json(exclude_defaults=True),
                "received": micros(received),
            }
            for fact in known
        ]
        if not rows:
            return
        with writing(self._engine) as connection:
            if self._one_by_one:
                connection.execute(select(func.pg_advisory_xact_lock(_TURN)))
            add = postgresql.insert(facts) if self._one_by_one else sqlite.insert(facts)
            connection.execute(add.on_conflict_do_nothing(), rows)

    def since(self, seq: int, limit: int) -> list[tuple[int, Fact]]:
        """The next facts after `seq` with their own numbers, at most `limit`. Numbers grow, but may have gaps."""
        wanted = select(facts).where(facts.c.seq > seq).order_by(facts.c.seq).limit(limit)
        with self._engine.connect() as connection:
            return [(row.seq, _fact(row)) for row in connection.execute(wanted)]

    def told(self, kinds: Iterable[str], seq: int, limit: int) -> tuple[int, list[tuple[str, str]]]:
        """(kind, key) of the next facts of these kinds after `seq`, at most `limit`.

        And before them: up to which number there are no others.
        """
        with self._engine.connect() as connection:
            newest = connection.execute(select(func.max(facts.c.seq))).scalar_one() or 0
            wanted = select(facts.c.seq, facts.c.about, facts.c.key).where(
                facts.c.seq > seq, facts.c.seq <= newest, facts.c.about.in_(list(kinds))
            )
            rows = connection.execute(wanted.order_by(facts.c.seq).limit(limit)).all()
        return (rows[-1].seq if len(rows) == limit else newest), [(row.about, row.key) for row in rows]

    def about(self, kind: str, keys: Iterable[str]) -> list[Fact]:
        """All that is said about these things."""
        with self._engine.connect() as connection:
            wanted = select(facts).where(facts.c.about == kind, among(connection, facts.c.key, keys))
            return [_fact(row) for row in connection.execute(wanted)]

    def silent(self, kinds: Iterable[str], before: datetime, batch: int) -> Iterator[list[tuple[str, str]]]:
        """(kind, key) of all of which nothing has been said since `before`, in batches. What came last of all is not silent."""
        last: tuple[str, str] = ("", "")
        thing = (facts.c.about, facts.c.key)
        silent = func.max(facts.c.at) < micros(before), func.max(facts.c.seq) < _newest()
        wanted = select(*thing).group_by(*thing).having(*silent).order_by(*thing).limit(batch)
        wanted = wanted.where(facts.c.about.in_(list(kinds)))
        while True:
            with self._engine.connect() as connection:
                found = [(about, key) for about, key in connection.execute(wanted.where(tuple_(*thing) > tuple_(*last)))]
            if not found:
                return
            yield found
            last = found[-1]

    def first(self, connection: Connection, things: Iterable[tuple[str, str]]) -> int:
        """When the first was said about these (kind, key), in microseconds since 1970; 0 if nothing was."""
        by_kind: dict[str, list[str]] = defaultdict(list)
        for kind, key in things:
            by_kind[kind].append(key)
        wanted = select(func.min(facts.c.at))
        moments = [
            connection.execute(wanted.where(facts.c.about == kind, among(connection, facts.c.key, keys))).scalar()
            for kind, keys in by_kind.items()
        ]
        return min((moment for moment in moments if moment is not None), default=0)

    def later(self, connection: Connection, kind: str, keys: Iterable[str], since: int) -> list[str]:
        """Those of these things about which something was said since then, in microseconds since 1970."""
        wanted = select(facts.c.key).distinct().where(facts.c.about == kind, facts.c.at >= since)
        return list(connection.execute(wanted.where(among(connection, facts.c.key, keys))).scalars())

    def forget(self, connection: Connection, kind: str, keys: Iterable[str], before: datetime) -> None:
        """Deletes what was said about these things before then: somebody may have said more in the meantime.

        But not what came last of all: SQLite gives the next fact the number after the largest that is there, and one that was
        given before is never looked at again.
        """
        older = facts.c.at < micros(before), facts.c.seq < _newest()
        connection.execute(delete(facts).where(facts.c.about == kind, among(connection, facts.c.key, keys), *older))

    def all(self, batch: int = 10_000) -> Iterator[Fact]:
        """Everything, in the order it came, with a bounded number in memory."""
        seq = 0
        while rows := self.since(seq, batch):
            yield from (fact for _, fact in rows)
            seq = rows[-1][0]

    def ping(self) -> None:
        """Raises SQLAlchemyError if the database does not answer."""
        with self._engine.connect() as connection:
            connection.execute(select(1))

    def count(self) -> int:
        """How many facts there are."""
        with self._engine.connect() as connection:
            return connection.execute(select(func.count()).select_from(facts)).scalar_one()

    # ---- quarantine ----

    def hold(self, reader: str, headers: Mapping[str, str], body: bytes, status: int, reason: str, received: datetime) -> int:
        """Keeps a request that was refused, and of all of them the newest `HELD`. Returns its number."""
        row = {
            "received": micros(received),
            "reader": reader,
            "headers": json.dumps(dict(headers), sort_keys=True),
            "body": body,
            "status": status,
            "reason": reason,
        }
        with writing(self._engine) as connection:
            key = connection.execute(quarantine.insert().values(row)).inserted_primary_key
            assert key is not None  # noqa: S101  # of an insert there is one
            connection.execute(delete(quarantine).where(quarantine.c.seq <= key[0] - HELD))
        return int(key[0])

    def held(self, limit: int = 1000, number: int | None = None) -> list[Held]:
        """What is there, oldest first; or that one alone."""
        wanted = select(quarantine).order_by(quarantine.c.seq).limit(limit)
        with self._engine.connect() as connection:
            rows = connection.execute(wanted if number is None else wanted.where(quarantine.c.seq == number)).all()
        return [Held(r.seq, moment(r.received), r.reader, json.loads(r.headers), r.body, r.status, r.reason) for r in rows]

    def quarantined(self) -> dict[str, int]:
        """How many requests of each source are there."""
        with self._engine.connect() as connection:
            counted = select(quarantine.c.reader, func.count().label("number")).group_by(quarantine.c.reader)
            return {row.reader: row.number for row in connection.execute(counted)}

    def release(self, seq: int, known: Sequence[Fact], received: datetime) -> None:
        """It was read after all: its facts are written and it leaves the quarantine. Killed in between it is read again."""
        self.append(known, received)
        with writing(self._engine) as connection:
            connection.execute(delete(quarantine).where(quarantine.c.seq == seq))


def _newest() -> ScalarSelect[int]:
    """The largest number of all."""
    return select(func.max(facts.alias().c.seq)).scalar_subquery()


def _fact(row: Any) -> Fact:
    kept = {"source": row.source, "id": row.id, "about": row.about, "key": row.key}
    return Fact.parse({**kept, "at": moment(row.at), "says": json.loads(row.says)})

"""What follows from the facts, kept up to date: for each service that new facts are about, its releases are read anew.

Reading is `serinus.dora.metrics.Book`, of the facts that one service needs. So a fact costs as much as its service's history,
memory is that of one service, and whatever order facts come in, what is kept is what a book of all of them says.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from itertools import islice
from secrets import token_hex
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import TypeAdapter
from sqlalchemy import Connection, Engine, delete, exists, func, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from serinus.dora.catalog import Catalog, repository_name
from serinus.dora.facts import Fact
from serinus.dora.failures import Failure
from serinus.dora.figures import Window, maybe
from serinus.dora.metrics import Attempt, Book, Delivery, Scope, Shelf
from serinus.dora.review import Freshness
from serinus.dora.rollup import FAILED, LEDGER, SAMPLES, SLOWEST, Kept, Week
from serinus.dora.rollup import weeks as weeks_of
from serinus.dora.store import weeks as stored
from serinus.dora.store.links import SAID_LATER, Link, homes, links_of, needed_by, subject, things
from serinus.dora.store.log import Log
from serinus.dora.store.schema import among, attempts, followed, links, loose, progress, weeks, writing
from serinus.dora.store.schema import facts as facts_table

#: Raised when the rules by which figures follow from facts change: what was made by older ones is made anew.
REVISION = 2
#: The advisory lock of whoever writes how far they are.
_TURN = 0x5E22
#: In `links`: the repositories that a service was read with, so that what is new in one of them wakes it.
_READER = "reader"
#: Facts that are looked at at once.
BATCH = 5_000
#: What figures follow from, beside marks, which are of one of these.
DELIVERED = ("artifact", "change", "commit", "incident", "release")
_ATTEMPT = TypeAdapter(Attempt)


class Keeper:
    """One for a store: two at once, as a service and a report beside it, do the same work twice, and agree."""

    def __init__(self, engine: Engine, catalog: Catalog, zone: ZoneInfo) -> None:
        self._engine, self._log, self._catalog, self._zone = engine, Log(engine), catalog, zone
        self._settings = _fingerprint(catalog, zone)

    def catch_up(self) -> frozenset[str]:
        """Until no fact is left that is not in it. Returns the services that were read anew. Killed, it goes on where it was.

        What was made with another catalog or time zone is made anew.
        """
        self._forget_others()
        while self._look():
            pass
        with self._engine.connect() as connection:
            _, waiting = _progress(connection)
        for service in sorted(waiting):
            self._read(service)
        return frozenset(waiting)

    def rebuild(self) -> None:
        """From the first fact."""
        with self._turn() as connection:
            _forget(connection)
        self.catch_up()

    def forget(self, before: datetime) -> None:
        """All that nothing was said about since then goes, but for what each service had last: what comes next begins there.

        `catch_up` reads anew whose figures that were. Killed, the next call goes on.
        """
        self.catch_up()  # else it is not known what was last
        kept = self._last(before)
        for several in self._log.silent(DELIVERED, before, BATCH):
            with self._turn() as connection:
                self._drop(connection, set(several) - kept, before)

    def _last(self, before: datetime) -> set[tuple[str, str]]:
        """What the figures of later releases are computed from, however long ago it was said.

        Of each service and environment the newest release of before then that all had, with what it was built from and the
        incidents that it failed by; of an undo, also what it took back. Where others came after it, also what its repositories
        had since: by that is told what those others brought.
        """
        last, followed = self._newest(before)
        with self._engine.connect() as connection:
            kept = _built(connection, {attempt.key for attempt in last}) | {("release", attempt.key) for attempt in last}
            kept |= {("incident", key) for attempt in last if attempt.failure for key in attempt.failure.incidents}
            for service, releases in followed.items():
                since = self._log.first(connection, {("release", key) for key in releases} | _built(connection, releases))
                repositories = needed_by(connection, _READER, "repository", {service})
                for kind in ("artifact", "change", "commit"):
                    there = things(connection, kind, "repository", repositories)
                    kept |= {(kind, key) for key in self._log.later(connection, kind, there, since)}
        return kept

    def _newest(self, before: datetime) -> tuple[list[Attempt], dict[str, set[str]]]:
        """The last releases of before then; and by their services the keys of those of them that others came after."""
        last: list[Attempt] = []
        followed: dict[str, set[str]] = defaultdict(set)
        done: set[tuple[str, str]] = set()
        line = (attempts.c.service, attempts.c.environment)
        with self._engine.connect() as connection:
            later = select(*line).distinct().where(attempts.c.at >= before.timestamp())
            alive = {(row.service, row.environment) for row in connection.execute(later)}
            earlier = select(attempts).where(attempts.c.at < before.timestamp()).order_by(attempts.c.at.desc())
            for row in connection.execute(earlier):
                where = (row.service, row.environment)
                attempt = None if where in done else _ATTEMPT.validate_json(row.data)
                if attempt is None or attempt.promoted is None:
                    continue
                last.append(attempt)
                if where in alive:
                    followed[row.service].add(row.key)
                if attempt.rework is None or attempt.rework.kind != "undo":
                    done.add(where)
        return last, followed

    def _drop(self, connection: Connection, gone: set[tuple[str, str]], before: datetime) -> None:
        known: set[Link] = set()
        by_kind = {kind: [key for about, key in gone if about == kind] for kind in DELIVERED}
        for kind, keys in by_kind.items():
            here = links.c.about == kind, among(connection, links.c.key, keys)
            known |= {Link(*row) for row in connection.execute(select(*links.c).where(*here))}
            self._log.forget(connection, kind, keys, before)
            self._log.forget(connection, "mark", [f"{kind}/{key}" for key in keys], before)
        services = self._needing(connection, known, gone)
        for kind, keys in by_kind.items():
            connection.execute(delete(links).where(links.c.about == kind, among(connection, links.c.key, keys)))
        seq, waiting = _progress(connection)
        self._note(connection, seq, waiting | _again(services))

    def _forget_others(self) -> None:
        with self._engine.connect() as connection:
            made = connection.execute(select(progress.c.settings)).scalar()
        if made is not None and made != self._settings:
            with self._turn() as connection:
                _forget(connection)

    def shelf(self, scope: Scope, window: Window) -> Shelf:
        """What the figures of a window and a scope are computed from."""
        start, end = window.interval
        services = self._services(scope)
        found, alone = [], []
        with self._engine.connect() as connection:
            for rows in (attempts, loose):
                wanted = select(rows).where(rows.c.at >= start)
                wanted = wanted if services is None else wanted.where(rows.c.service.in_(services))
                for row in connection.execute(wanted):
                    if not scope.covers(row.service, row.environment, self._catalog):
                        continue
                    if rows is attempts:
                        found.append(_ATTEMPT.validate_json(row.data))
                    elif row.at < end:
                        alone.append((row.at, row.key))
        return Shelf.of(found, alone)

    def weeks(self, scope: Scope, first: date, end: date, samples: Sequence[str] = SAMPLES) -> list[Kept]:
        """The weeks of a scope whose Monday is in [first, end), without what they name. Of samples those asked for."""
        with self._engine.connect() as connection:
            found = stored.read(connection, first, end, samples, self._services(scope))
        return [kept for kept in found if scope.covers(kept.service, kept.environment, self._catalog)]

    def slowest(self, scope: Scope, found: Sequence[Kept]) -> list[Delivery]:
        """The slowest changes among these weeks, which are all of one Monday and have their lead times."""
        most = sorted((k for k in found if len(k.week.samples["lead"])), key=lambda k: -int(k.week.samples["lead"].max()))
        services = sorted({kept.service for kept in most[:SLOWEST]})
        with self._engine.connect() as connection:
            named = stored.slowest(connection, most[0].week.monday, services) if most else []
        several = [d for service, env, those in named if scope.covers(service, env, self._catalog) for d in those]
        return sorted(several, key=lambda delivery: (-(delivery.lead or 0), delivery.change))[:SLOWEST]

    def failures(self, scope: Scope, found: Sequence[Kept]) -> list[tuple[str, str, Failure]]:
        """The newest failures of these weeks, each with its service and environment."""
        newest: list[tuple[str, str, Failure]] = []
        for monday in sorted({kept.week.monday for kept in found}, reverse=True):
            if len(newest) >= LEDGER:
                break
            services = sorted({k.service for k in found if k.week.monday == monday and k.week.days[:, FAILED].any()})
            with self._engine.connect() as connection:
                named = stored.failures(connection, monday, services)
            newest += [(s, e, f) for s, e, those in named if scope.covers(s, e, self._catalog) for f in those]
        return sorted(newest, key=lambda row: row[2].when, reverse=True)[:LEDGER]

    def newest(self, scope: Scope, window: Window, limit: int) -> tuple[list[Attempt], list[str]]:
        """The newest releases that count in the window, and incidents of it that no release explains; at most `limit` of each."""
        found: list[Attempt] = []
        alone: list[str] = []
        start, end = window.interval
        services = self._services(scope)
        with self._engine.connect() as connection:
            for rows in (attempts, loose):
                wanted = select(rows).where(rows.c.at >= start, rows.c.at < end).order_by(rows.c.at.desc(), rows.c.key)
                wanted = wanted if services is None else wanted.where(rows.c.service.in_(services))
                several = connection.execute(wanted.execution_options(yield_per=limit))  # not all of a week for the first of them
                covered = (r for r in several if scope.covers(r.service, r.environment, self._catalog))
                for row in islice(covered, limit):
                    if rows is attempts:
                        found.append(_ATTEMPT.validate_json(row.data))
                    else:
                        alone.append(row.key)
                several.close()
        return found, alone

    def attempts(self, keys: Iterable[str]) -> dict[str, Attempt]:
        """These releases, as far as they are known."""
        with self._engine.connect() as connection:
            wanted = select(attempts.c.data).where(among(connection, attempts.c.key, keys))
            return {a.key: a for a in map(_ATTEMPT.validate_json, connection.execute(wanted).scalars())}

    def freshness(self) -> Freshness:
        """How far it is, and what is made of pipelines."""
        newest = select(facts_table.c.seq, facts_table.c.received).order_by(facts_table.c.seq.desc()).limit(1)
        with self._engine.connect() as connection:
            row = connection.execute(newest).first()
            seq, waiting = _progress(connection)
            pipelines = connection.execute(select(followed.c.seq)).scalar()
        if row is None:
            return Freshness(0, None, 0, 0)
        behind = row.seq - (seq if pipelines is None else min(seq, pipelines))
        return Freshness(row.seq, row.received // 1_000_000, behind, len(waiting))

    def _services(self, scope: Scope) -> list[str] | None:
        """None: whatever there is."""
        if scope.service:
            return [scope.service]
        return [name for name, service in self._catalog.services.items() if service.team == scope.team] if scope.team else None

    # ---- which services new facts are about ----

    def _look(self) -> bool:
        """At some new facts; remembers which services are to be read anew. False when there are none."""
        with self._turn() as connection:
            seq, waiting = _progress(connection)
            new = self._log.since(seq, BATCH)
            if not new:
                return False
            facts = self._catalog.named(fact for _, fact in new)
            known = {link for fact in facts for link in links_of(fact)}
            named = self._remember(connection, known)
            services = self._needing(connection, known, {subject(fact) for fact in facts}) | named
            self._note(connection, new[-1][0], waiting | _again(services))
        return True

    @contextmanager
    def _turn(self) -> Iterator[Connection]:
        """A transaction that writes how far it is, one of all processes at a time."""
        with writing(self._engine) as connection:
            if self._engine.dialect.name == "postgresql":
                connection.execute(select(func.pg_advisory_xact_lock(_TURN)))
            yield connection

    def _note(self, connection: Connection, seq: int, waiting: Mapping[str, str]) -> None:
        connection.execute(delete(progress))
        row = {"seq": seq, "services": json.dumps(waiting, sort_keys=True), "settings": self._settings}
        connection.execute(insert(progress).values(row))

    def _remember(self, connection: Connection, known: Iterable[Link]) -> set[str]:
        """Returns the service of no name, '', if something that was its is another's now."""
        rows = [vars(link) for link in sorted(known, key=lambda link: (link.about, link.key, link.kind, link.name))]
        add = postgresql.insert if self._engine.dialect.name == "postgresql" else sqlite.insert
        if rows:
            connection.execute(add(links).on_conflict_do_nothing(), rows)
        other = links.alias()
        same = [getattr(other.c, name) == getattr(links.c, name) for name in ("about", "key", "kind")]
        said = exists().where(*same, other.c.name != "")
        left = [connection.execute(delete(links).where(links.c.kind == kind, links.c.name == "", said)) for kind in SAID_LATER]
        return {""} if left[0].rowcount else set()

    def _needing(self, connection: Connection, known: Iterable[Link], subjects: Iterable[tuple[str, str]]) -> set[str]:
        """The services whose figures these things are part of."""
        named: dict[str, set[str]] = defaultdict(set)
        for link in known:
            if link.name or link.about != "release":  # where a release is from that does not say so is no other's business
                named[link.kind].add(link.name)
        about: dict[str, set[str]] = defaultdict(set)
        for kind, key in subjects:
            about[kind].add(key)
        # A commit may be known to be of a repository by another word than this one.
        named["repository"] |= homes(connection, named["commit"])
        unnamed = named["repository"] & {""}
        built = things(connection, "artifact", "repository", unnamed) | about["artifact"]
        built |= things(connection, "artifact", "commit", named["commit"])
        releases = about["release"] | needed_by(connection, "incident", "release", about["incident"])
        for kind, names in (
            ("repository", unnamed),
            ("commit", named["commit"]),
            ("artifact", needed_by(connection, "artifact", "artifact", built)),
        ):
            releases |= things(connection, "release", kind, names)
        services = {name for name, s in self._catalog.services.items() if repository_name(s.repository) in named["repository"]}
        services |= things(connection, _READER, "repository", named["repository"] - unnamed)
        services |= needed_by(connection, "incident", "service", about["incident"])
        return services | needed_by(connection, "release", "service", releases)

    # ---- one service ----

    def _read(self, service: str) -> None:
        with self._engine.connect() as connection:
            turn = _progress(connection)[1].get(service)
            facts, repositories = self._facts(connection, service)
        book = Book.of(facts, self._catalog)
        mine = [attempt for attempt in book.attempts.values() if attempt.service == service]
        unexplained = [
            {"key": i.key, "service": service, "environment": i.says.environment, "at": at}
            for i in book.knowledge.incidents.values()
            if i.says.service == service and not book.blames[i.key].release
            if (at := maybe(i.says.began or i.says.detected)) is not None
        ]
        rows = [
            {
                "key": attempt.key,
                "service": service,
                "environment": attempt.environment,
                "at": max(attempt.reached or 0, attempt.promoted or 0),
                "data": _ATTEMPT.dump_json(attempt).decode(),
            }
            for attempt in mine
        ]
        by_week = list(self._weeks(mine, unexplained))
        with self._turn() as connection:
            seq, waiting = _progress(connection)
            if waiting.get(service) != turn or turn is None:  # another has noticed more, or has read it
                return
            stored.write(connection, service, by_week)
            connection.execute(delete(links).where(links.c.about == _READER, links.c.key == service))
            if reads := [vars(Link(_READER, service, "repository", name)) for name in sorted(repositories)]:
                connection.execute(insert(links), reads)
            for table, found in ((attempts, rows), (loose, unexplained)):
                connection.execute(delete(table).where(table.c.service == service))
                # What was another service's is this one's by a newer word.
                connection.execute(delete(table).where(among(connection, table.c.key, (str(row["key"]) for row in found))))
                if found:
                    connection.execute(insert(table), found)
            del waiting[service]
            self._note(connection, seq, waiting)

    def _weeks(self, mine: list[Attempt], unexplained: list[dict[str, Any]]) -> Iterator[tuple[str, Week]]:
        environments = {attempt.environment for attempt in mine} | {row["environment"] for row in unexplained}
        for environment in sorted(environments):
            loose_here = [(row["at"], row["key"]) for row in unexplained if row["environment"] == environment]
            shelf = Shelf.of([attempt for attempt in mine if attempt.environment == environment], loose_here)
            yield from ((environment, week) for week in weeks_of(shelf, self._zone))

    def _facts(self, connection: Connection, service: str) -> tuple[list[Fact], set[str]]:
        """All that its releases, and the incidents that may be theirs, are known by; and the repositories they are of."""
        releases = things(connection, "release", "service", {service})
        incidents = things(connection, "incident", "service", {service}) | things(connection, "incident", "release", releases)
        # An incident may be of another service's release: then it is not this one's, and has to be seen not to be.
        facts = self._log.about("release", releases | needed_by(connection, "incident", "release", incidents))
        facts += self._log.about("incident", incidents)
        facts += self._log.about("mark", [f"release/{key}" for key in releases] + [f"incident/{key}" for key in incidents])
        artifacts = things(connection, "artifact", "artifact", needed_by(connection, "release", "artifact", releases))
        facts += self._log.about("artifact", artifacts)
        # What was built from a repository may be what a service runs whose manifests are elsewhere.
        repositories = needed_by(connection, "release", "repository", releases)
        repositories |= needed_by(connection, "artifact", "repository", artifacts)
        repositories |= {repository_name(self._catalog.service(service).repository)}
        commits = needed_by(connection, "release", "commit", releases) | needed_by(connection, "artifact", "commit", artifacts)
        repositories |= homes(connection, commits)
        for kind in ("change", "commit"):
            keys = things(connection, kind, "repository", repositories | {""}) | things(connection, kind, "commit", commits)
            facts += self._log.about(kind, keys)
        return facts, repositories - {""}


def _built(connection: Connection, releases: set[str]) -> set[tuple[str, str]]:
    """What these releases are built from: artifacts, commits and changes."""
    artifacts = things(connection, "artifact", "artifact", needed_by(connection, "release", "artifact", releases))
    commits = needed_by(connection, "release", "commit", releases) | needed_by(connection, "artifact", "commit", artifacts)
    found = {(kind, key) for kind in ("commit", "change") for key in things(connection, kind, "commit", commits)}
    return found | {("artifact", key) for key in artifacts}


def _fingerprint(catalog: Catalog, zone: ZoneInfo) -> str:
    """Of all that what follows from the facts depends on beside them."""
    known = TypeAdapter(Catalog).dump_python(catalog, mode="json")
    known["production"] = sorted(known["production"])
    return hashlib.sha256(json.dumps([REVISION, str(zone), known], sort_keys=True).encode()).hexdigest()


def _forget(connection: Connection) -> None:
    for table in (links, attempts, loose, weeks, progress):
        connection.execute(delete(table))


def _again(services: Iterable[str]) -> dict[str, str]:
    """Each with a word of its own for this time: whoever reads it can tell whether there has been more to read since."""
    return {service: token_hex(8) for service in services}


def _progress(connection: Connection) -> tuple[int, dict[str, str]]:
    """Up to which fact it is, and which services wait, each with the word that it got when it last had to."""
    row = connection.execute(select(progress)).first()
    if row is None:
        return 0, {}
    waiting = json.loads(row.services)
    return row.seq, waiting if isinstance(waiting, dict) else dict.fromkeys(waiting, "")  # as versions before had it

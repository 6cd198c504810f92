"""Runs of pipelines, results of tests and coverage, kept as rows beside the facts, and read by query.

A repository may have a hundred thousand runs in a window. Whatever is asked is then a scan of their rows, of which numbers are
kept, and a bounded number of facts. Rows follow from all facts about a thing, in whatever order they came.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Engine, Select, Table, Text, case, delete, func, insert, literal_column, select

from serinus.dora.catalog import Catalog, repository_name
from serinus.dora.commits import plain
from serinus.dora.facts import ChangeSays, CoverageSays, Fact, Known, RunSays, TestsSays, known
from serinus.dora.figures import Durations, Interval, Window, maybe, seconds
from serinus.dora.metrics import Delivery, Scope
from serinus.dora.pipelines import (
    Coverage,
    Covered,
    Job,
    Pipelines,
    Shorten,
    Split,
    Splits,
    Tally,
    Timing,
    Ways,
    share,
    split,
    splits,
    way,
)
from serinus.dora.store.log import Log
from serinus.dora.store.schema import among, coverage, followed, links, merges, runs, suites, writing
from serinus.dora.suites import Suite, Suites, Upload, flaky, slowest

KINDS = ("run", "change", "tests", "coverage")
#: Facts that are looked at at once, and things of which all is in memory at once: an upload of tests may be large.
BATCH, _THINGS = 5_000, 200
#: What is told of at most: workflows or jobs, suites, parts of which coverage is known, changes whose build is split.
TIMINGS, SUITES, PARTS, DELIVERIES = 100, 50, 100, 500
#: Uploads whose tests are read: for the slowest, for those that say themselves what is flaky, of commits with several; of one.
SLOWEST, RETRIED, COMMITS, OF_COMMIT = 200, 200, 100, 10
#: Written out: a parameter that stands in two places is two to PostgreSQL, which then does not see that it groups by it.
_EMPTY = literal_column("''", Text)
#: Rows that are in memory at once.
_STREAM = 10_000
#: GitHub's, with the attempt at its end.
_ATTEMPT = re.compile(r"(.+/runs/\d+)/(\d{1,6})")
#: Where nobody has merged anything.
_USUAL = frozenset({"main", "master"})


class Follower:
    """One for a store, beside its Keeper."""

    def __init__(self, engine: Engine, catalog: Catalog) -> None:
        self._engine, self._log, self._catalog = engine, Log(engine), catalog

    # ---- keeping up ----

    def catch_up(self) -> None:
        """Until no fact is left that is not in it. Killed, it goes on where it was."""
        while self._look():
            pass

    def forget(self, before: datetime) -> None:
        """Runs and results of tests of before then. Coverage stays: it is little, and the newest is asked for however old."""
        for several in self._log.silent(("run", "tests"), before, BATCH):
            with writing(self._engine) as connection:
                for table, kind in ((runs, "run"), (suites, "tests")):
                    keys = [key for about, key in several if about == kind]
                    connection.execute(delete(table).where(among(connection, table.c.key, keys)))
                    self._log.forget(connection, kind, keys, before)

    def rebuild(self) -> None:
        """From the first fact."""
        with writing(self._engine) as connection:
            for table in (runs, merges, suites, coverage, followed):
                connection.execute(delete(table))
        self.catch_up()

    def _look(self) -> bool:
        with writing(self._engine) as connection:
            seq = connection.execute(select(followed.c.seq)).scalar() or 0
            until, things = self._log.told(KINDS, seq, BATCH)
            if until == seq:
                return False
            for table, kind, rows in (
                (runs, RunSays, _runs),
                (merges, ChangeSays, _merges),
                (suites, TestsSays, _suites),
                (coverage, CoverageSays, _coverage),
            ):
                keys = sorted({key for about, key in things if about == kind.about})
                for start in range(0, len(keys), _THINGS):
                    part = keys[start : start + _THINGS]
                    facts = self._log.about(kind.about, part)
                    connection.execute(delete(table).where(table.c.key.in_(part)))
                    if made := list(rows(facts)):
                        connection.execute(insert(table), made)
            connection.execute(delete(followed))
            connection.execute(insert(followed).values(seq=until))
        return True

    # ---- what it says ----

    def report(self, scope: Scope, window: Window, deliveries: Sequence[Delivery]) -> Pipelines:
        """Of the repositories of a scope's services. `deliveries`: those of the window, whose lead time is to be split."""
        interval = window.interval
        with self._engine.connect() as connection:
            where = self._repositories(connection, scope)
            workflows, more_workflows = _timings(connection, where, interval, jobs=False)
            jobs, more_jobs = _timings(connection, where, interval, jobs=True)
            return Pipelines(
                tuple(where),
                workflows,
                jobs,
                more_workflows + more_jobs,
                _shorten(connection, where, interval),
                _build(connection, deliveries),
                self._suites(connection, where, interval),
                tuple(_covered(connection, where, interval, _parts(scope))),
            )

    def _repositories(self, connection: Connection, scope: Scope) -> list[str]:
        """Of a service: what the catalog says, else what its releases and their artifacts do."""
        if not scope.service and not scope.team:
            found = {name for table in (runs, suites, coverage) for name in _distinct(connection, table)}
            return sorted(found)
        services = [scope.service] if scope.service else []
        services = services or [name for name, service in self._catalog.services.items() if service.team == scope.team]
        if scope.team:
            services = [name for name in services if self._catalog.service(name).team == scope.team]
        found = set()
        for service in services:
            at_home = repository_name(self._catalog.service(service).repository)
            found |= {at_home} if at_home else _of_releases(connection, service)
        return sorted(found - {""})

    def _suites(self, connection: Connection, where: Sequence[str], interval: Interval) -> Suites:
        found, more = _by_suite(connection, where, interval)
        newest = _in(suites, where, interval, suites.c.at).order_by(suites.c.at.desc(), suites.c.key)
        read = self._uploads(connection, newest.limit(SLOWEST))
        slow = slowest(read)
        return Suites(found, more, slow, flaky(self._doubtful(connection, where, interval)), len(read))

    def _doubtful(self, connection: Connection, where: Sequence[str], interval: Interval) -> list[Upload]:
        """Uploads that tell of retries, and those of commits of which there are several, in one of which a test failed."""
        inside = _in(suites, where, interval, suites.c.at)
        retried = inside.where(suites.c.flaky > 0).order_by(suites.c.at.desc(), suites.c.key).limit(RETRIED)
        of = (suites.c.repository, suites.c.suite, suites.c.commit)
        several = (
            select(*of, func.max(suites.c.at).label("last"))
            .where(suites.c.repository.in_(where), suites.c.at >= interval.start, suites.c.at < interval.end)
            .group_by(*of)
            .having(func.count() > 1, func.sum(suites.c.failed) > 0)
            .order_by(func.max(suites.c.at).desc())
            .limit(COMMITS)
        )
        found = {upload.key: upload for upload in self._uploads(connection, retried)}
        for group in connection.execute(several).all():
            same = [column == getattr(group, column.name) for column in of]
            wanted = inside.where(*same).order_by(suites.c.at.desc(), suites.c.key).limit(OF_COMMIT)
            found |= {upload.key: upload for upload in self._uploads(connection, wanted)}
        return [found[key] for key in sorted(found)]

    def _uploads(self, connection: Connection, wanted: Select[Any]) -> list[Upload]:
        rows = {row.key: row.at for row in connection.execute(wanted)}
        things = known(self._log.about("tests", rows), TestsSays)
        return [Upload(key, rows[key], thing.says.model_copy(update=_named(thing))) for key, thing in things.items()]


def _named(thing: Known[TestsSays]) -> dict[str, str]:
    return {"repository": repository_name(thing.says.repository), "commit": plain(thing.says.commit)}


# Rows from facts.


def _runs(facts: Iterable[Fact]) -> Iterator[dict[str, Any]]:
    for key, thing in known(facts, RunSays).items():
        says = thing.says
        attempt = _ATTEMPT.fullmatch(says.parent or key)
        yield {
            "key": key,
            "repository": repository_name(says.repository),
            "parent": says.parent,
            "run": attempt[1] if attempt else says.parent or key,
            "attempt": int(attempt[2]) if attempt else 1,
            "name": says.name,
            "commit": plain(says.commit),
            "result": says.result,
            "queued": maybe(says.queued),
            "started": maybe(says.started),
            "finished": maybe(says.finished),
        }


def _merges(facts: Iterable[Fact]) -> Iterator[dict[str, Any]]:
    for key, thing in known(facts, ChangeSays).items():
        says = thing.says
        if says.merged is not None and says.merge_commit:
            yield {
                "key": key,
                "repository": repository_name(says.repository),
                "base": says.base,
                "commit": plain(says.merge_commit),
                "merged": seconds(says.merged),
            }


def _suites(facts: Iterable[Fact]) -> Iterator[dict[str, Any]]:
    several = list(facts)
    moments = _newest(several)
    for key, thing in known(several, TestsSays).items():
        says = thing.says
        yield {
            "key": key,
            "repository": repository_name(says.repository),
            "suite": says.suite,
            "commit": plain(says.commit),
            "at": seconds(moments[key]),
            "milliseconds": says.milliseconds,
            "failed": says.failed or 0,
            "flaky": says.flaky or 0,
        }


def _coverage(facts: Iterable[Fact]) -> Iterator[dict[str, Any]]:
    several = list(facts)
    moments = _newest(several)
    for key, thing in known(several, CoverageSays).items():
        says = thing.says
        if says.lines is not None and says.lines_covered is not None:
            yield {
                "key": key,
                "repository": repository_name(says.repository),
                "part": says.part,
                "commit": plain(says.commit),
                "branch": says.branch,
                "at": seconds(moments[key]),
                "lines": says.lines,
                "lines_covered": says.lines_covered,
                "branches": says.branches,
                "branches_covered": says.branches_covered,
            }


def _newest(facts: Iterable[Fact]) -> dict[str, datetime]:
    moments: dict[str, datetime] = {}
    for fact in facts:
        moments[fact.key] = max(moments.get(fact.key, fact.at), fact.at)
    return moments


# Queries.


def _distinct(connection: Connection, table: Table) -> list[str]:
    """The repositories there are, by steps through the index: not each of a million rows is looked at."""
    found: list[str] = []
    while True:
        wanted = select(func.min(table.c.repository))
        name = connection.execute(wanted.where(table.c.repository > found[-1]) if found else wanted).scalar()
        if name is None:
            return found
        found.append(name)


def _of_releases(connection: Connection, service: str) -> set[str]:
    mine, also = links.alias(), links.alias()
    wanted = (
        select(also.c.name)
        .distinct()
        .join(mine, (mine.c.about == "release") & (mine.c.kind == "service") & (mine.c.key == also.c.key))
        .where(mine.c.name == service, also.c.about == "release", also.c.kind == "repository")
    )
    return set(connection.execute(wanted).scalars())


def _in(table: Table, where: Sequence[str], interval: Interval, moment: Any) -> Select[Any]:
    return select(table).where(table.c.repository.in_(where), moment >= interval.start, moment < interval.end)


def _timings(connection: Connection, where: Sequence[str], interval: Interval, *, jobs: bool) -> tuple[tuple[Timing, ...], int]:
    """The most frequent workflows or jobs, and how many more there are."""
    above = runs.alias()
    workflow = func.coalesce(above.c.name, _EMPTY) if jobs else runs.c.name
    job = runs.c.name if jobs else runs.c.parent
    source = runs.outerjoin(above, above.c.key == runs.c.parent) if jobs else runs
    inside = (
        runs.c.repository.in_(where),
        runs.c.finished >= interval.start,
        runs.c.finished < interval.end,
        runs.c.parent != "" if jobs else runs.c.parent == "",
    )
    name = (runs.c.repository.label("repository"), workflow.label("workflow"), job.label("job"))
    each = (
        select(*name, runs.c.run, func.count().label("n"), func.max(runs.c.attempt).label("attempt"))
        .select_from(source)
        .where(*inside)
        .group_by(*name, runs.c.run)
        .subquery()
    )
    again = case((((each.c.n > 1) | (each.c.attempt > 1)) if not jobs else each.c.n > 1, 1), else_=0)
    of = (each.c.repository, each.c.workflow, each.c.job)
    counted = select(*of, func.count().label("runs"), func.sum(again).label("again"), func.sum(each.c.n).label("n")).group_by(*of)
    ranked = connection.execute(counted.order_by(func.sum(each.c.n).desc(), *of).limit(TIMINGS)).all()
    every = connection.execute(select(func.count()).select_from(counted.subquery())).scalar_one() if ranked else 0
    tallies = {(row.repository, row.workflow, row.job): Tally() for row in ranked}
    columns = (*name, runs.c.key, runs.c.result, runs.c.queued, runs.c.started, runs.c.finished)
    wanted = select(*columns).select_from(source).where(*inside).execution_options(yield_per=_STREAM)
    for repository, flow, step, key, result, queued, started, finished in connection.execute(wanted):
        if tally := tallies.get((repository, flow, step)):
            tally.add(key, result, queued, started, finished)
    found = tuple(
        tallies[row.repository, row.workflow, row.job].timing(
            row.repository, row.workflow, row.job, int(row.runs), int(row.again)
        )
        for row in ranked
    )
    return found, every - len(found)


_JOB = (runs.c.commit, runs.c.key, runs.c.parent, runs.c.name, runs.c.queued, runs.c.started, runs.c.finished)


def _shorten(connection: Connection, where: Sequence[str], interval: Interval) -> Shorten:
    """Over the jobs of merged commits that ended in the window, commit after commit."""
    above = runs.alias()
    merged = select(merges.c.commit).where(merges.c.repository == runs.c.repository, merges.c.commit == runs.c.commit).exists()
    wanted = (
        select(runs.c.repository, *_JOB, func.coalesce(above.c.name, _EMPTY).label("workflow"))
        .select_from(runs.outerjoin(above, above.c.key == runs.c.parent))
        .where(
            runs.c.repository.in_(where),
            runs.c.finished >= interval.start,
            runs.c.finished < interval.end,
            runs.c.started.is_not(None),
            runs.c.result != "skipped",
            runs.c.commit != "",
            merged,
        )
        .order_by(runs.c.repository, runs.c.commit)
        .execution_options(yield_per=_STREAM)
    )
    ways = Ways()
    for _, several in groupby(connection.execute(wanted), key=lambda row: (row.repository, row.commit)):
        ways.add(way(_jobs(several)))
    return ways.shorten()


def _jobs(rows: Iterable[Any]) -> Iterator[Job]:
    """The jobs, and the runs of which no jobs are there."""
    several = list(rows)
    with_jobs = {row.parent for row in several if row.parent}
    for row in several:
        if row.key not in with_jobs:
            yield Job(row.key, row.workflow or ("" if row.parent else row.name), row.name, row.queued, row.started, row.finished)


def _build(connection: Connection, deliveries: Sequence[Delivery]) -> Splits:
    """Of the newest deliveries."""
    newest = deliveries[-DELIVERIES:]
    known_merges = select(merges).where(among(connection, merges.c.key, (one.change for one in newest)))
    merged = {row.key: row for row in connection.execute(known_merges)}
    built = among(connection, runs.c.commit, {row.commit for row in merged.values()})
    above = runs.alias()
    wanted = (
        select(runs.c.repository, *_JOB, func.coalesce(above.c.name, _EMPTY).label("workflow"))
        .select_from(runs.outerjoin(above, above.c.key == runs.c.parent))
        .where(built, runs.c.started.is_not(None), runs.c.finished.is_not(None), runs.c.result != "skipped")
        .order_by(runs.c.repository, runs.c.commit)
    )
    several = groupby(connection.execute(wanted), key=lambda row: (row.repository, row.commit))
    jobs = {of: list(_jobs(those)) for of, those in several}
    found = []
    for one in newest:
        row = merged.get(one.change)
        known_jobs = jobs.get((row.repository, row.commit)) if row is not None else None
        if row is not None and known_jobs and (part_ := _split(one, row, known_jobs)):
            found.append(part_)
    return splits(found)


def _split(delivery: Delivery, row: Any, jobs: Iterable[Job]) -> Split | None:
    segments = [segment for segment in way(jobs) if segment.end > row.merged]
    built = delivery.stages.get("build")
    if not segments:
        return None
    end = row.merged + built if built is not None else min(segments[-1].end, delivery.promoted)
    if end < row.merged:
        return None
    parts = split(Interval(row.merged, end), segments)
    by = "artifact" if built is not None else "runs"
    return Split(delivery.change, delivery.release, row.commit, by, end - row.merged, parts)  # type: ignore[arg-type]


def _by_suite(connection: Connection, where: Sequence[str], interval: Interval) -> tuple[tuple[Suite, ...], int]:
    of = (suites.c.repository, suites.c.suite)
    inside = (suites.c.repository.in_(where), suites.c.at >= interval.start, suites.c.at < interval.end)
    counted = select(*of, func.count().label("n")).where(*inside).group_by(*of)
    ranked = connection.execute(counted.order_by(func.count().desc(), *of).limit(SUITES)).all()
    every = connection.execute(select(func.count()).select_from(counted.subquery())).scalar_one() if ranked else 0
    tallies = {(row.repository, row.suite): Tally() for row in ranked}
    wanted = select(*of, suites.c.key, suites.c.failed, suites.c.milliseconds, suites.c.at).where(*inside)
    for repository, suite, key, failed, milliseconds, at in connection.execute(wanted.execution_options(yield_per=_STREAM)):
        if tally := tallies.get((repository, suite)):
            took = None if milliseconds is None else at - (milliseconds + 500) // 1000
            tally.add(key, "failure" if failed else "success", None, took, at)
    found = []
    for (repository, suite), tally in tallies.items():
        timing = tally.timing(repository, suite, "", 0, 0)
        failures = share(tally.bad, tally.n, timing.success.keys)
        took = Durations.of(tally.took, timing.took.keys)
        found.append(Suite(repository, suite, tally.n, took, failures))
    return tuple(found), every - len(found)


def _parts(scope: Scope) -> frozenset[str] | None:
    """Of a service: what is said of it, by its name with or without its namespace, and of its whole repository. None: all."""
    return frozenset({"", scope.service, scope.service.rpartition("/")[2]}) if scope.service else None


def _covered(
    connection: Connection, where: Sequence[str], interval: Interval, parts: frozenset[str] | None
) -> Iterator[Coverage]:
    bases = _bases(connection, where)
    of = (coverage.c.repository, coverage.c.part)
    wanted = select(*of).distinct().where(coverage.c.repository.in_(where), coverage.c.at < interval.end).order_by(*of)
    wanted = wanted if parts is None else wanted.where(coverage.c.part.in_(sorted(parts)))
    for repository, part in connection.execute(wanted.limit(PARTS)).all():
        base = bases.get(repository, "")
        branches = {base} if base else _USUAL
        merged = select(merges.c.commit).where(
            merges.c.repository == repository, merges.c.commit == coverage.c.commit, merges.c.base == base
        )
        main = coverage.c.branch.in_(sorted(branches)) | merged.exists()
        those = select(coverage).where(coverage.c.repository == repository, coverage.c.part == part, main)
        backwards = those.order_by(coverage.c.at.desc(), coverage.c.key).limit(1)
        newest = connection.execute(backwards.where(coverage.c.at < interval.end)).first()
        if newest is None:
            continue
        before = connection.execute(backwards.where(coverage.c.at < interval.start)).first()
        if before is None:
            forwards = those.order_by(coverage.c.at, coverage.c.key).limit(1)
            before = connection.execute(forwards.where(coverage.c.at < interval.end)).first()
        yield Coverage.of(repository, part, _upload(newest), None if before is None else _upload(before))


def _upload(row: Any) -> Covered:
    return Covered(row.commit, row.at, row.lines, row.lines_covered, row.branches, row.branches_covered)


def _bases(connection: Connection, where: Sequence[str]) -> Mapping[str, str]:
    """The branch into which most changes were merged, by repository."""
    wanted = (
        select(merges.c.repository, merges.c.base)
        .where(merges.c.repository.in_(where), merges.c.base != "")
        .group_by(merges.c.repository, merges.c.base)
        .order_by(func.count(), merges.c.base)
    )
    return {row.repository: row.base for row in connection.execute(wanted)}

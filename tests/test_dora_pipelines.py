"""Pipelines: what merged commits wait for, tests that are flaky, coverage; as numbers, and kept in both databases."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import median
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, delete
from tests.bodies import SECRET
from tests.stores import engine, postgres, url
from tests.test_dora_service import SECRETS, ask, serving

from serinus.dora.catalog import Catalog, Service
from serinus.dora.facts import ArtifactSays, Case, ChangeSays, CoverageSays, Fact, ReleaseSays, RunSays, Says, TestsSays
from serinus.dora.figures import Interval, Window
from serinus.dora.metrics import Book, Scope, measure
from serinus.dora.pipelines import KINDS, WAITING, Job, Pipelines, Tally, Ways, kind_of, split, way
from serinus.dora.store import pipelines as kept
from serinus.dora.store.keeper import Keeper
from serinus.dora.store.log import Log
from serinus.dora.store.pipelines import Follower
from serinus.dora.store.schema import followed
from serinus.dora.suites import Upload, flaky, slowest

__all__ = ["engine", "postgres", "url"]  # fixtures

START = datetime(2026, 10, 1, tzinfo=UTC)
OCTOBER = Window.of_days(date(2026, 10, 1), date(2026, 11, 1), ZoneInfo("UTC"))
CATALOG = Catalog({"shop/checkout": Service("shop", "github.com/acme/shop"), "pay": Service("money", "acme/pay")})


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def sha(number: int) -> str:
    return f"{number:040x}"


# --- the way of a commit


def jobs(*several: tuple[str, int | None, int, int]) -> list[Job]:
    return [Job(f"{name}{number}", "ci", name, *moments) for number, (name, *moments) in enumerate(several)]  # type: ignore[arg-type]


def told(several: Iterable[Job]) -> list[tuple[str, int, int]]:
    return [(segment.stage.removeprefix("ci / "), segment.start, segment.end) for segment in way(several)]


def test_the_way_goes_over_the_jobs_that_the_end_depended_on():
    found = told(jobs(("lint", 0, 5, 20), ("test", 0, 10, 100), ("build", 100, 130, 200), ("deploy", 200, 200, 250)))
    assert found == [
        (WAITING, 0, 10),
        ("test", 10, 100),
        (WAITING, 100, 130),
        ("build", 130, 200),
        ("deploy", 200, 250),
    ]


def test_a_job_that_was_created_with_its_pipeline_did_not_wait_for_a_runner_while_another_ran():
    """So GitLab has it: both are created at once, and the second waits for the first."""
    assert told(jobs(("test", 0, 10, 100), ("build", 0, 104, 200))) == [
        (WAITING, 0, 10),
        ("test", 10, 100),
        (WAITING, 100, 104),
        ("build", 104, 200),
    ]


def test_what_nobody_waited_for_is_not_on_the_way():
    nightly = jobs(("test", 0, 0, 60), ("nightly", 80_000, 80_005, 90_000))
    assert told(nightly) == [("test", 0, 60)]
    assert told([]) == []
    assert told(jobs(("odd", 0, 50, 10))) == [], "it ended before it began"


JOBS = st.lists(
    st.tuples(st.sampled_from("abc"), st.none() | st.integers(0, 90), st.integers(0, 99), st.integers(0, 99)), max_size=12
)


@given(JOBS, st.integers(0, 99), st.integers(0, 99))
def test_whatever_the_jobs_the_way_has_no_overlaps_and_its_parts_add_up(several, start, end):
    segments = way(jobs(*several))
    assert all(one.start < one.end for one in segments)
    assert all(one.end <= two.start for one, two in pairwise(segments))
    last, began = max(((finished, started) for _, _, started, finished in several if started <= finished), default=(0, 0))
    if began < last:  # a last job that took no time is no part of the way, which then ends before it
        assert segments[-1].end == last
    interval = Interval(min(start, end), max(start, end))
    parts = split(interval, segments)
    assert set(parts) == set(KINDS)
    assert min(parts.values()) >= 0
    assert sum(parts.values()) == interval.end - interval.start


@pytest.mark.parametrize(
    ("workflow", "job", "kind"),
    [
        ("ci", "unit tests (3.11)", "tests"),
        ("ci", "pytest", "tests"),
        ("Build", "lint", "tests"),
        ("ci", "docker-image", "build"),
        ("ci", "push-latest", "build"),
        ("Tests", "linux", "tests"),
        ("ci", "contest", "other"),
        ("release", "deploy", "other"),
    ],
)
def test_what_a_job_does_is_told_by_its_name(workflow: str, job: str, kind: str) -> None:
    assert kind_of(workflow, job) == kind


def test_first_to_shorten_is_what_most_was_waited_for_together():
    """The build takes longer, but only one commit in four waited for it."""
    ways = Ways()
    for number in range(8):
        several = [("test", 0, 20, 320)] + ([("build", 320, 320, 920)] if number % 4 == 0 else [])
        ways.add(way(jobs(*several)))
    found = ways.shorten()
    assert (found.commits, found.whole.median, found.whole.total) == (8, 320.0, 8 * 320 + 2 * 600)
    assert [(stage.stage, stage.n, stage.total) for stage in found.stages] == [
        ("ci / test", 8, 2400.0),
        ("ci / build", 2, 1200.0),
        (WAITING, 8, 160.0),
    ]
    assert found.first == (
        "Shorten ci / test first: 8 of 8 merged commits waited for it, 5 min in the median, of 5.33 min from the first job to"
        " the last. It is 64% of all that they waited; then ci / build, 32%."
    )
    assert Ways().shorten().first == ""
    queue = Ways()
    queue.add(way(jobs(("test", 0, 60, 70))))
    assert queue.shorten().first.startswith("Shorten the wait for a runner first: 1 of 1 merged commits waited for it, 60 s")


def test_of_a_hundred_thousand_runs_the_slowest_and_the_newest_failures_are_named():
    tally, values = Tally(), [(n * 7919) % 3600 for n in range(10_000)]
    for number, took in enumerate(values):
        tally.add(f"r{number}", "failure" if number % 10 == 0 else "success", number, number + 3, number + 3 + took)
    tally.add("skipped", "skipped", 0, 0, 0)
    tally.add("cancelled", "cancelled", 0, None, 9)
    timing = tally.timing("acme/shop", "ci", "", 10_000, 20)
    assert (timing.n, timing.took.n, timing.took.median, timing.waited.median) == (10_002, 10_000, median(values), 3.0)
    assert (timing.success.count, timing.success.n, timing.success.ratio) == (9000, 10_000, 0.9)
    assert 0.89 < (timing.success.low or 0) < 0.9 < (timing.success.high or 0) < 0.91
    assert timing.took.keys[0] == f"r{max(range(10_000), key=lambda n: (values[n], f'r{n}'))}"
    assert len(timing.took.keys) == len(timing.success.keys) == 10
    assert (timing.retried.count, timing.retried.n) == (20, 10_000)


# --- suites


def upload(number: int, commit: int, **says: object) -> Upload:
    known = {"repository": "acme/shop", "suite": "unit", "commit": sha(commit), "tests": 100, "ran": "x", "failed": 0}
    return Upload(f"u{number}", number, TestsSays.model_validate(known | says))


def case(name: str, outcome: str = "passed", milliseconds: int = 0) -> dict[str, object]:
    return {"name": name, "outcome": outcome, "milliseconds": milliseconds}


def test_flaky_is_what_failed_and_passed_with_the_same_code():
    failed = upload(1, 7, failed=1, cases=[case("t", "failed")])
    for other in (upload(2, 7), upload(2, 7, ran="", cases=[case("t")])):
        (found,) = flaky([failed, other])
        assert (found.test, found.contradicted, found.retried, found.commits, found.last) == ("t", 1, 0, (sha(7),), 2)
    for other in (
        upload(2, 8),  # of another commit
        upload(2, 7, suite="e2e"),
        upload(2, 7, ran="y"),  # a shard with other tests
        upload(2, 7, cases=[case("t", "skipped")]),
        upload(2, 7, failed=1, cases=[case("t", "failed")]),
        upload(2, 7, failed=300),  # of which not all are told
    ):
        assert flaky([failed, other]) == ()


def test_flaky_is_what_passed_when_it_was_tried_again_and_commits_are_counted_once():
    several = [upload(n, n // 2, flaky=1, cases=[case("t", "flaky")]) for n in range(40)]
    several += [upload(100, 1, flaky=1, cases=[case("s", "flaky")])]
    found = flaky(several)
    assert [(one.test, one.retried) for one in found] == [("t", 20), ("s", 1)]
    assert found[0].commits == tuple(sha(n) for n in range(19, 9, -1))


def test_slowest_tests_by_their_median():
    found = slowest(
        [
            upload(n, n, cases=[case("a", milliseconds=1000 * n), case("b", milliseconds=1500), case("c", "skipped", 9999)])
            for n in (1, 2)
        ]
    )
    assert [(one.test, one.n, one.median, one.longest) for one in found] == [("a", 2, 1.5, 2.0), ("b", 2, 1.5, 1.5)]


# --- kept


def run(number: int, began: float, *, commit: int = 0, took: int = 60, attempt: int = 1, result: str = "success") -> list[Fact]:
    """A run with two jobs, test and build, each told twice: when it was queued and when it was over."""
    key = f"github.com/acme/shop/runs/{number}/{attempt}"
    found = [_fact(key, began, "ci", commit, result, began, began + 5, began + 5 + took)]
    half = took // 2
    for name, start, end in (("test", 5, 5 + half), ("build", 5 + half, 5 + took)):
        job = f"github.com/acme/shop/jobs/{number}{attempt}{name}"
        queued = began if name == "test" else began + start
        found.append(_fact(job, began, name, commit, result, queued, began + start, began + end, parent=key))
    return found


def _fact(
    key: str, began: float, name: str, commit: int, result: str, queued: float, start: float, end: float, parent: str = ""
) -> Fact:
    says = RunSays(
        repository="github.com/acme/shop",
        parent=parent,
        name=name,
        commit=sha(commit),
        branch="main",
        result=result,  # type: ignore[arg-type]
        queued=at(queued),
        started=at(start),
        finished=at(end),
    )
    return Fact.of("github", f"{key}/over", at(end), key, says)


def change(number: int, commit: int, merged: float, base: str = "main") -> Fact:
    says = ChangeSays(
        repository="github.com/acme/shop", number=str(number), base=base, opened=at(merged - 3600), merged=at(merged),
        merge_commit=sha(commit),
    )  # fmt: skip
    return Fact.of("github", f"c{number}", at(merged), f"github.com/acme/shop#{number}", says)


def said(number: int, moment: float, key: str, says: Says) -> Fact:
    return Fact.of("test", f"{key}-{number}", at(moment), key, says)


def reported(engine: Engine, facts: Iterable[Fact], scope: Scope | None = None) -> Pipelines:
    Log(engine).append(list(facts), START)
    keeper, follower = Keeper(engine, CATALOG, ZoneInfo("UTC")), Follower(engine, CATALOG)
    keeper.catch_up()
    follower.catch_up()
    scope = scope or Scope("shop/checkout")
    return follower.report(scope, OCTOBER, keeper.shelf(scope, OCTOBER).deliveries.within(OCTOBER.interval))


def test_workflows_and_jobs_of_a_service(engine: Engine) -> None:
    facts = [fact for n in range(4) for fact in run(n, n * 1000, took=60 + 10 * n, result="failure" if n == 3 else "success")]
    facts += run(3, 3500, attempt=2, took=30)
    facts += run(9, 40 * 86400)  # in another month
    found = reported(engine, facts)
    assert found.repositories == ("acme/shop",)
    (workflow,) = found.workflows
    assert (workflow.workflow, workflow.job, workflow.n, workflow.took.median, workflow.waited.median) == ("ci", "", 5, 70.0, 5.0)
    assert (workflow.success.count, workflow.success.n, workflow.success.keys) == (4, 5, ("github.com/acme/shop/runs/3/1",))
    assert (workflow.retried.count, workflow.retried.n) == (1, 4)
    timings = {
        job.job: (job.workflow, job.n, job.waited.median, job.took.p90, job.retried.count, job.retried.n) for job in found.jobs
    }
    assert timings == {"test": ("ci", 5, 5.0, 43.0, 1, 4), "build": ("ci", 5, 0.0, 43.0, 1, 4)}
    assert reported(engine, [], Scope("pay")).workflows == ()
    assert reported(engine, [], Scope(team="shop")).workflows == found.workflows == reported(engine, [], Scope()).workflows
    assert reported(engine, [], Scope("pay", "shop")).repositories == ()


def test_a_service_that_is_in_no_catalog_has_the_repository_of_its_releases(engine: Engine) -> None:
    release = ReleaseSays(service="other", repository="https://github.com/acme/shop", promoted=at(9))
    assert len(reported(engine, [*run(1, 0), said(1, 9, "r", release)], Scope("other")).workflows) == 1


def test_what_is_first_to_shorten_is_of_merged_commits(engine: Engine) -> None:
    facts = [*run(1, 0, commit=1, took=1000), *run(2, 5000, commit=2, took=100), change(7, 2, 5000)]
    found = reported(engine, facts).shorten
    assert (found.commits, found.whole.median) == (1, 105.0)
    assert [(stage.stage, stage.total) for stage in found.stages] == [("ci / build", 50.0), ("ci / test", 50.0), (WAITING, 5.0)]


def test_the_lead_times_build_is_split_by_the_runs_of_the_merge_commit(engine: Engine) -> None:
    """And the lead time itself stays what it was."""
    facts = [*run(1, 10, commit=5, took=100), change(7, 5, 0)]
    artifact = ArtifactSays(repository="acme/shop", commit=sha(5), built=at(200))
    release = ReleaseSays(service="shop/checkout", artifact="sha256:" + "a" * 64, requested=at(300), promoted=at(400))
    facts += [said(1, 200, "sha256:" + "a" * 64, artifact), said(1, 400, "r", release)]
    build = reported(engine, facts).build
    (one,) = build.changes
    assert (one.change, one.by, one.whole) == ("github.com/acme/shop#7", "artifact", 200)
    assert one.parts == {"waiting": 5, "tests": 50, "build": 50, "other": 95}
    assert measure(Book.of(facts, CATALOG), OCTOBER).lead_time.stages["build"].median == build.whole.median == 200.0
    bare = [fact for fact in facts if fact.about != "artifact"]
    assert [fact.about for fact in facts if fact not in bare] == ["artifact"]


def test_without_an_artifact_the_split_ends_with_the_last_job(engine: Engine) -> None:
    facts = [*run(1, 10, commit=5, took=100), change(7, 5, 0)]
    release = ReleaseSays(service="shop/checkout", commit=sha(5), requested=at(300), promoted=at(400))
    (one,) = reported(engine, [*facts, said(1, 400, "r", release)]).build.changes
    assert (one.by, one.whole, one.parts) == ("runs", 115, {"waiting": 5, "tests": 50, "build": 50, "other": 10})


def test_old_runs_and_results_go_and_what_was_told_of_since_stays(engine: Engine) -> None:
    kept = [*run(2, 20 * 86400), change(1, 1, 0), said(1, 0, "acme/shop/coverage/1", CoverageSays(lines=2, lines_covered=1))]
    result = said(1, 0, "acme/shop/tests/1", upload(1, 1, failed=1).says)
    again = Fact.of("github", "again", at(15 * 86400), result.key, RunSays(name="other kind, same key"))
    Log(engine).append([*run(1, 0), result, again, *kept], START)
    follower = Follower(engine, CATALOG)
    follower.catch_up()
    follower.forget(at(10 * 86400))
    assert {fact.key for fact in Log(engine).all()} == {again.key, *(fact.key for fact in kept)}
    assert [row.n for row in reported(engine, []).workflows] == [1]


def test_suites_and_what_is_flaky_in_them(engine: Engine) -> None:
    def tests(number: int, **says: object) -> Fact:
        return said(number, 100 * number, f"acme/shop/tests/{number}", upload(number, 1, **says).says)

    facts = [
        tests(1, milliseconds=60_400, failed=1, cases=[case("t", "failed"), case("slow", milliseconds=30_000)]),
        tests(2, milliseconds=90_600, cases=[case("slow", milliseconds=40_000)]),
        tests(3, milliseconds=30_000, flaky=1, cases=[case("u", "flaky")]),
    ]
    found = reported(engine, facts).suites
    (suite,) = found.suites
    assert (suite.suite, suite.n, suite.took.median, suite.took.p90) == ("unit", 3, 60.0, 84.8)
    assert (suite.failed.count, suite.failed.n, suite.failed.keys) == (1, 3, ("acme/shop/tests/1",))
    assert (found.slowest[0].test, found.slowest[0].median, found.read) == ("slow", 35.0, 3)
    assert {one.test: (one.retried, one.contradicted) for one in found.flaky} == {"t": (0, 1), "u": (1, 0)}


def test_coverage_is_the_base_branchs_and_changes_over_the_window(engine: Engine) -> None:
    def covered(number: int, moment: float, lines: int, *, branch: str = "", part: str = "", commit: int = 0) -> Fact:
        says = CoverageSays(
            repository="github.com/acme/shop",
            commit=sha(commit or number),
            branch=branch,
            part=part,
            lines=200,
            lines_covered=lines,
        )
        return said(number, moment, f"acme/shop@{sha(number)}/{part}", says)

    facts = [
        change(7, 3, 100, "trunk"),
        change(8, 99, 100, "release/1"),
        change(9, 98, 100, "trunk"),
        covered(1, -86400, 100, branch="trunk"),
        covered(2, 50, 10, branch="feature"),
        covered(3, 100, 150),  # of a merge commit
        covered(4, 200, 20, branch="main"),
        covered(5, 300, 30, commit=99),  # merged, but elsewhere
        covered(6, 40 * 86400, 199, branch="trunk"),
        covered(10, 300, 90, branch="trunk", part="checkout"),
        covered(11, 300, 90, branch="trunk", part="pay"),
    ]
    whole, part = reported(engine, facts).coverage
    assert (whole.part, whole.newest.commit, whole.ratio, whole.change) == ("", sha(3), 0.75, 0.25)
    assert (part.part, part.ratio, part.change, part.branch_ratio) == ("checkout", 0.45, 0.0, None)
    assert [one.part for one in reported(engine, [], Scope()).coverage] == ["", "checkout", "pay"]


@pytest.mark.parametrize("seed", range(3))
def test_in_any_order_in_any_parts_and_after_any_kill_it_is_the_same(
    engine: Engine, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = Random(seed)  # noqa: S311
    facts = [fact for n in range(30) for fact in run(n, n * 900, commit=n, took=30 + n)]
    facts += [change(n, n, n * 900) for n in range(0, 30, 3)]
    early = [
        fact.model_copy(update={"id": f"{fact.id}-early", "at": fact.at - timedelta(seconds=9), "says": _early(fact)})
        for fact in facts[:60]
    ]
    facts += early
    chance.shuffle(facts)
    monkeypatch.setattr(kept, "BATCH", 17)
    follower = Follower(engine, CATALOG)
    left = facts
    while left:
        part, left = left[: (size := chance.randint(1, 40))], left[size:]
        Log(engine).append(part, START)
        follower._look()
    follower.catch_up()
    before = follower.report(Scope(), OCTOBER, ())
    assert before.workflows[0].n == 30
    assert before.shorten.commits == 10
    with engine.begin() as connection:  # as if it had died before it noted how far it was
        connection.execute(delete(followed))
    follower.catch_up()
    assert follower.report(Scope(), OCTOBER, ()) == before
    follower.rebuild()
    assert follower.report(Scope(), OCTOBER, ()) == before


def _early(fact: Fact) -> Says:
    assert isinstance(fact.says, RunSays)
    return fact.says.model_copy(update={"result": "", "finished": None})


def test_facts_of_these_kinds_wake_no_service_and_come_back_as_lines(engine: Engine) -> None:
    facts = [
        *run(1, 0),
        said(1, 0, "t", TestsSays(repository="acme/shop", cases=(Case(name="n", outcome="flaky", milliseconds=3),))),
        said(1, 0, "c", CoverageSays(repository="acme/shop", lines=3, lines_covered=0)),
    ]
    Log(engine).append(facts, START)
    assert Keeper(engine, CATALOG, ZoneInfo("UTC")).catch_up() == frozenset()
    assert [Fact.parse(json.loads(json.dumps(fact.dump()))) for fact in Log(engine).all()] == facts


def test_it_is_asked_for_by_http(tmp_path: Path) -> None:
    secrets = SECRETS | {"SERINUS_DORA_SECRET_GENERIC": SECRET, "SERINUS_DORA_SECRET_JUNIT": SECRET}
    bearer = {"Authorization": f"Bearer {SECRET}"}
    day = "start=2026-10-01&end=2026-10-02"
    with serving(f"sqlite:///{tmp_path}/dora.db", tmp_path, secrets) as (address, _):
        said_ = {"key": "r", "repository": "acme/shop", "name": "ci", "result": "success"}
        said_ |= {"queued": "2026-10-01T10:00:00Z", "started": "2026-10-01T10:00:04Z", "finished": "2026-10-01T10:01:04Z"}
        assert ask("POST", f"{address}/ingest/generic", json.dumps({"run": said_}).encode(), bearer)[0] == 202
        where = f"repository=acme/shop&commit={sha(1)}&at=2026-10-01T10:00:00Z"
        xml = b'<testsuite name="unit" time="3"><testcase name="a"/></testsuite>'
        assert ask("POST", f"{address}/ingest/junit?{where}", xml, bearer)[0] == 202
        until = time.monotonic() + 20
        while not (found := ask("GET", f"{address}/pipelines?{day}")[1]["pipelines"])["suites"]["suites"]:
            assert time.monotonic() < until
        assert found["workflows"][0]["took"]["median"] == 60.0
        assert found["suites"]["suites"][0]["took"]["median"] == 3.0
        assert ask("GET", f"{address}/pipelines?{day}&team=none")[1]["pipelines"]["workflows"] == []
        assert ask("GET", f"{address}/pipelines?{day}", reading="guessed")[0] == 401
        assert ask("GET", f"{address}/pipelines?start=2026-10-02&end=2026-10-01")[0] == 422


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_hundred_thousand_runs_in_a_window_are_read_in_seconds(engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    """With two jobs each, and every tenth commit merged."""
    chance, log, began = Random(1), Log(engine), time.perf_counter()  # noqa: S311
    for first in range(0, 100_000, 1000):
        facts = [
            fact
            for n in range(first, first + 1000)
            for fact in run(n, n * 26, commit=n, took=chance.randrange(20, 900), result=chance.choice(["success", "failure"]))
        ]
        log.append([*facts, *(change(n, n, n * 26) for n in range(first, first + 1000, 10))], START)
    written = time.perf_counter()
    follower = Follower(engine, CATALOG)
    follower.catch_up()
    followed_, memory = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = follower.report(Scope("shop/checkout"), OCTOBER, ())
    took = time.perf_counter() - followed_
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024
    assert (found.workflows[0].n, found.jobs[0].n, found.shorten.commits) == (100_000, 100_000, 10_000)
    with capsys.disabled():
        sys.stderr.write(
            f"\n{engine.dialect.name}: 100,000 runs with 200,000 jobs: written in {written - began:.0f} s, followed in"
            f" {followed_ - written:.0f} s, told in {took:.1f} s; the peak of memory rose by {more:.0f} MiB\n"
        )
    assert took < 60
    assert more < 200

"""History from before: webhooks that were kept, a repository, a list of deployments."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from tests.bodies import STRUCTURED, merge_request, pull_request, workflow_run
from tests.test_dora_intake_uploads import SUREFIRE
from typer.testing import CliRunner

from serinus.cli import app
from serinus.dora import backfill, history
from serinus.dora.catalog import Catalog, Service
from serinus.dora.facts import ChangeSays, CommitSays, Fact, ReleaseSays, known
from serinus.dora.figures import Window
from serinus.dora.history import Unreadable
from serinus.dora.metrics import Book, Scope, measure
from serinus.dora.store.log import Log
from serinus.dora.store.schema import connect

START = datetime(2026, 10, 5, 9, tzinfo=UTC)
HEADERS = {"X-GitHub-Event": "pull_request", "X-GitHub-Delivery": "d-1", "Content-Type": "application/json"}


def imported(folder: Path, *words: object) -> tuple[int, str, list[Fact]]:
    """Exit code, output, and what the log has."""
    settings = folder / "dora.yaml"
    settings.write_text(json.dumps({"database": f"sqlite:///{folder}/dora.db"}))
    done = CliRunner().invoke(app, ["dora", "import", "--config", str(settings), *map(str, words)])
    engine = connect(f"sqlite:///{folder}/dora.db")
    facts = list(Log(engine).all())
    engine.dispose()
    return done.exit_code, done.output, facts


# --- webhooks


def test_a_folder_of_webhooks_with_their_headers_and_githubs_own_export(tmp_path: Path) -> None:
    folder = tmp_path / "hooks"
    (folder / "more").mkdir(parents=True)
    (folder / "a.json").write_text(json.dumps(pull_request()))
    (folder / "a.headers.json").write_text(json.dumps(HEADERS))
    (folder / "more" / "b.json").write_text(json.dumps(merge_request()))
    (folder / "more" / "b.headers.json").write_text(json.dumps({"X-Gitlab-Event": "Merge Request Hook"}))
    delivery = {
        "guid": "d-2",
        "request": {"headers": {**HEADERS, "X-GitHub-Delivery": "d-2"}, "payload": pull_request(number=13)},
    }
    run = {"request": {"headers": {"X-GitHub-Event": "workflow_run"}, "payload": workflow_run()}}
    (folder / "deliveries.json").write_text(json.dumps([delivery, run]))
    code, output, facts = imported(tmp_path, folder)
    assert (code, f"{folder}: 4 facts of 3 files, 0 refused" in output) == (0, True), output
    assert [fact.about for fact in facts] == ["change", "change", "run", "change"]
    again = imported(tmp_path, folder)
    assert again[2] == facts, "once more changes nothing"


def test_what_cannot_be_read_is_named_and_the_rest_is_taken(tmp_path: Path) -> None:
    folder = tmp_path / "hooks"
    folder.mkdir()
    for name, body in (("good", pull_request()), ("wrong", pull_request(number="x")), ("bare", pull_request())):
        (folder / f"{name}.json").write_text(json.dumps(body))
        if name != "bare":
            (folder / f"{name}.headers.json").write_text(json.dumps(HEADERS | {"X-GitHub-Delivery": name}))
    (folder / "odd.json").write_text("{}")
    (folder / "odd.headers.json").write_text("[]")
    (folder / "cut.json").write_text("{}")
    (folder / "cut.headers.json").write_text("{")
    code, output, facts = imported(tmp_path, folder)
    assert code == 1
    assert [fact.about for fact in facts] == ["change"]
    for reason in (
        "wrong.json: pull_request.number: Input should be a valid integer",
        "bare.json: its headers do not say who sent it: --source has to",
        "odd.headers.json: headers are an object",
        "cut.headers.json: no JSON",
        "4 refused",
    ):
        assert reason in output, output
    code, output, _ = imported(tmp_path, tmp_path / "hooks", "--source", "github")
    assert "bare.json: the header X-GitHub-Event is needed" in output
    (tmp_path / "none").mkdir()
    code, output, _ = imported(tmp_path, tmp_path / "none")
    assert (code, "has no payloads: <name>.json" in output) == (1, True), output


def test_files_and_events_that_tell_their_source_otherwise(tmp_path: Path) -> None:
    (tmp_path / "TEST-a.xml").write_bytes(SUREFIRE)
    beside = {"X-Serinus-Repository": "acme/shop", "X-Serinus-Commit": "a" * 40, "X-Serinus-At": "2026-10-05T09:00:00Z"}
    (tmp_path / "TEST-a.headers.json").write_text(json.dumps(beside))
    (path,) = backfill.payload_files(tmp_path)
    (payload,) = backfill.payloads(path)
    (fact,) = backfill.of_payload(payload, "junit", backfill.Settings())
    assert fact.about == "tests"
    event = backfill.Payload("x", STRUCTURED, b"{}")
    with pytest.raises(Unreadable, match="x: specversion"):
        backfill.of_payload(event, "", backfill.Settings())


# --- a repository


class Clone:
    """A repository in which an hour passes with each commit."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, START
        folder.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *words: str) -> str:
        moment = f"@{self.clock.timestamp():.0f} +0000"
        dates = {"GIT_AUTHOR_DATE": moment, "GIT_COMMITTER_DATE": moment}
        who = {"GIT_AUTHOR_NAME": "Mona Ü", "GIT_COMMITTER_NAME": "Mona", "GIT_AUTHOR_EMAIL": "m@x", "GIT_COMMITTER_EMAIL": "m@x"}
        who |= {"GIT_CONFIG_GLOBAL": os.devnull, "HOME": str(self.folder)}
        done = subprocess.run(  # noqa: S603
            ["git", *words],  # noqa: S607
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], **dates, **who},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def commit(self, message: str, *paths: str) -> str:
        for path in paths:
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / path).write_text(message)
        self.git("add", ".")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.tick()

    def merge(self, branch: str, message: str) -> str:
        self.git("merge", "--quiet", "--no-ff", branch, "-m", message)
        return self.tick()

    def tick(self) -> str:
        self.clock += timedelta(hours=1)
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def clone(tmp_path: Path) -> tuple[Clone, dict[str, str]]:
    """A merge of two commits, a squash, and a commit of nothing."""
    made, names = Clone(tmp_path / "clone"), {}
    names["first"] = made.commit("first", "a")
    made.git("checkout", "--quiet", "-b", "prices")
    names["p1"] = made.commit("p1", 'services/check out/ü "x"')
    names["p2"] = made.commit("p2 (#9)", "b")
    made.git("checkout", "--quiet", "main")
    names["direct"] = made.commit("direct", "c")
    names["merge"] = made.merge("prices", "Merge pull request #12 from acme/prices")
    names["squash"] = made.commit("Two digits (#13)", "b")
    names["empty"] = made.commit("Merge pull request #99 from nobody")
    made.git("remote", "add", "origin", "git@github.com:Acme/Shop.git")
    return made, names


def test_commits_and_changes_of_a_repository(tmp_path: Path, clone: tuple[Clone, dict[str, str]]) -> None:
    made, names = clone
    code, output, facts = imported(tmp_path, "--git", made.folder)
    assert (code, "github.com/acme/shop main: 9 facts of 7 commits" in output) == (0, True), output
    commits, changes = known(facts, CommitSays), known(facts, ChangeSays)
    assert set(commits) == set(names.values())
    assert commits[names["merge"]].says.parents == (names["direct"], names["p2"])
    assert commits[names["p1"]].says.paths == ('services/check out/ü "x"',)
    assert commits[names["p1"]].says.committed == START + timedelta(hours=1)
    assert set(changes) == {"github.com/acme/shop#12", "github.com/acme/shop#13"}
    merge, squash = (changes[f"github.com/acme/shop#{number}"].says for number in (12, 13))
    assert merge == ChangeSays(
        repository="github.com/acme/shop",
        number="12",
        branch="acme/prices",
        base="main",
        first_commit=START + timedelta(hours=1),
        merged=START + timedelta(hours=4),
        merge_commit=names["merge"],
        commits=(names["p2"], names["p1"]),
        paths=("b", 'services/check out/ü "x"'),
    )
    assert (squash.title, squash.author, squash.merge_commit, squash.paths) == ("Two digits", "Mona Ü", names["squash"], ("b",))
    assert imported(tmp_path, "--git", made.folder)[2] == facts, "once more changes nothing"
    made.commit("more", "d")
    assert len(imported(tmp_path, "--git", made.folder)[2]) == len(facts) + 1


def test_a_commit_is_of_the_change_that_brought_it_first(tmp_path: Path) -> None:
    """The second branch was begun on the first one, before that was merged."""
    made = Clone(tmp_path / "clone")
    made.commit("first", "a")
    made.git("checkout", "--quiet", "-b", "one")
    one = made.commit("one", "b")
    made.git("checkout", "--quiet", "-b", "two")
    two = made.commit("two", "c")
    made.git("checkout", "--quiet", "main")
    for number, branch in enumerate(("one", "two"), 1):
        made.merge(branch, f"Merge pull request #{number} from acme/{branch}")
    facts = [fact for _, several in backfill.of_repository(made.folder, "acme/shop", "main") for fact in several]
    changes = known(facts, ChangeSays)
    assert [changes[f"acme/shop#{number}"].says.commits for number in (1, 2)] == [(one,), (two,)]


def test_what_a_webhook_told_stays_and_the_repository_adds_to_it(tmp_path: Path, clone: tuple[Clone, dict[str, str]]) -> None:
    made, _ = clone
    _, _, facts = imported(tmp_path, "--git", made.folder)
    opened = START - timedelta(hours=5)
    told = ChangeSays(
        repository="github.com/acme/shop", number="12", title="Prices", opened=opened, merged=START + timedelta(hours=4)
    )
    hook = Fact.of("github", "d", START + timedelta(hours=4), "github.com/acme/shop#12", told)
    says = known([*facts, hook], ChangeSays)["github.com/acme/shop#12"].says
    assert (says.title, says.opened, len(says.commits)) == ("Prices", opened, 2)


def test_a_history_that_is_imported_has_figures(tmp_path: Path, clone: tuple[Clone, dict[str, str]]) -> None:
    made, names = clone
    deploys = tmp_path / "deploys.csv"
    deploys.write_text(
        "service,environment,commit,moment,outcome\n"
        f"shop,production,{names['direct']},2026-10-05T13:30:00Z,\n"
        f"shop,production,{names['empty']},2026-10-05T18:00:00+01:00,promoted\n"
        f"shop,production,{names['empty'][:8]},2026-10-06T10:00:00Z,RolledBack\n"
    )
    _, _, facts = imported(tmp_path, "--git", made.folder, "--deploys", deploys)
    assert imported(tmp_path, "--deploys", deploys)[2] == facts, "once more changes nothing"
    catalog = Catalog({"shop": Service(repository="acme/shop")})
    found = measure(Book.of(facts, catalog), Window.of_days(date(2026, 10, 1), date(2026, 11, 1), ZoneInfo("UTC")), Scope("shop"))
    assert (found.frequency.n, found.failure_rate.rate.count, found.failure_rate.rate.n) == (2, 1, 3)
    assert {one.change for one in found.lead_time.deliveries} == {"github.com/acme/shop#12", "github.com/acme/shop#13"}
    assert found.lead_time.first_commit.median == 7 * 3600, "from 10:00 to 17:00"


def test_what_is_wrong_with_a_repository_is_said(tmp_path: Path, clone: tuple[Clone, dict[str, str]]) -> None:
    made, _ = clone
    for words, reason in (
        (("--git", tmp_path / "none"), "cannot change to"),
        (("--git", made.folder, "--branch", "none"), "there is no branch none in"),
        (("--git", made.folder, "--branch=--all"), "there is no branch --all in"),
    ):
        code, output, _ = imported(tmp_path, *words)
        assert (code, reason in output) == (1, True), output
    made.git("checkout", "--quiet", "--detach")
    assert "no branch is checked out" in imported(tmp_path, "--git", made.folder)[1]
    assert imported(tmp_path, "--git", made.folder, "--branch", "main")[0] == 0
    made.git("remote", "remove", "origin")
    assert "has no origin: say which repository it is" in imported(tmp_path, "--git", made.folder, "--branch", "main")[1]


def test_clocks_that_were_wrong_stop_nothing(tmp_path: Path) -> None:
    made = Clone(tmp_path / "clone")
    made.clock = datetime(2090, 1, 1, tzinfo=UTC)
    made.commit("later", "a")
    made.clock = datetime(2500, 1, 1, tzinfo=UTC)
    made.commit("much later", "b")
    commits = [commit.committed.year for commit in backfill.log_of(made.folder, "main")]
    assert commits == [2090, 1970]


# --- a list of deployments


def test_every_column(tmp_path: Path) -> None:
    path = tmp_path / "deploys.csv"
    path.write_text(
        "\ufeffid,Service,environment,commit,moment,outcome,repository,artifact,by,why,requested,exposed,detected,returned\n"
        "7,shop,prod,4f1c0de,2026-10-05T10:00:00Z,rolledback,git@github.com:acme/shop.git,sha256:1,mona,errors,"
        "2026-10-05T09:00:00Z,2026-10-05T09:10:00Z,2026-10-05T09:50:00Z,2026-10-05T09:59:00Z\n"
        "8,shop,prod,4f1c0de,2026-10-05T10:00:00Z,aborted,,,,,,,,\n"
    )
    first, second = backfill.of_deploys(path)
    assert (first.key, second.key) == ("deploys/7", "deploys/8")
    assert first.says == ReleaseSays.model_validate(
        {
            "service": "shop",
            "environment": "prod",
            "commit": "4f1c0de",
            "repository": "github.com/acme/shop",
            "artifact": "sha256:1",
            "by": "mona",
            "why": "errors",
            "outcome": "RolledBack",
            "requested": "2026-10-05T09:00:00Z",
            "exposed": "2026-10-05T09:10:00Z",
            "detected": "2026-10-05T09:50:00Z",
            "returned": "2026-10-05T09:59:00Z",
        }
    )
    assert isinstance(second.says, ReleaseSays)
    assert (second.says.exposed, second.says.returned) == (None, None)


HEAD = "service,environment,commit,moment,outcome\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "needs the columns service, environment, commit, moment"),
        ("service,environment,commit,moment,colour\n", "has columns of no use: colour"),
        (f"{HEAD}shop,p,,2026-10-05T10:00:00Z,\n", "line 2: commit is empty"),
        (f"{HEAD}shop,p,4f,2026-10-05T10:00:00Z,\nshop,p,4f,yesterday,\n", "line 3: moment: a moment with its offset"),
        (f"{HEAD}shop,p,4f,2026-10-05T10:00:00Z,fine\n", "line 2: outcome: fine is none of promoted"),
        (f"{HEAD}shop,p\n", "line 2: it has more or fewer columns"),
        (f"{HEAD}a,b,c,d,e,f,g\n", "line 2: it has more or fewer columns"),
        (f"{HEAD}{'x' * 600},p,4f,2026-10-05T10:00:00Z,\n", "line 2: service: String should have at most 512"),
        (f'{HEAD}"{"x" * 200_000}"\n', "is no CSV in UTF-8: field larger"),
        ("\udcff", "is no CSV in UTF-8"),
    ],
)
def test_what_is_wrong_with_a_list_is_said_and_nothing_of_it_is_taken(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "deploys.csv"
    path.write_bytes(text.encode(errors="surrogateescape"))
    code, output, facts = imported(tmp_path, "--deploys", path)
    assert (code, facts) == (1, [])
    assert reason in output.replace("\n", ""), output


@pytest.mark.parametrize("moment", ["9999-12-31T23:59:59Z", "1969-12-31T23:59:59Z"])
def test_a_moment_around_which_no_weeks_are_is_not_imported(tmp_path: Path, moment: str) -> None:
    """One such fact in the log kept every figure from ever changing again."""
    for at, promoted in ((moment, "2026-11-27T09:00:00Z"), ("2026-11-27T09:00:00Z", moment)):
        fact = {"source": "x", "id": "1", "at": at, "about": "release", "key": "r", "says": {"promoted": promoted}}
        (tmp_path / "facts.jsonl").write_text(json.dumps(fact))
        with pytest.raises(Unreadable, match="a moment must be between 1970 and 2261"):
            list(history.of_file(tmp_path / "facts.jsonl"))

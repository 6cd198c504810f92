"""History from before the service was there: webhooks that were kept, a repository's commits, a list of deployments.

Ids follow from what is read, so reading it twice, or reading what a webhook told already, changes nothing.
"""

from __future__ import annotations

import csv
import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from serinus.dora.facts import ChangeSays, CommitSays, Fact, Outcome, ReleaseSays, Says
from serinus.dora.history import Unreadable
from serinus.dora.intake import READERS, Refused, Settings
from serinus.dora.intake.pushes import touched
from serinus.dora.intake.received import When, content_type, digest, header
from serinus.dora.repository import canonical

GIT, DEPLOYS = "git", "deploys"
_WHEN: TypeAdapter[datetime] = TypeAdapter(When)


# Webhooks that were kept.

#: The header by which it can be told who sent a request.
_SENDERS = {
    "x-github-event": "github",
    "x-gitlab-event": "gitlab",
    "x-webhook-id": "pagerduty",
    "ce-type": "cdevents",
}
_BESIDE = ".headers.json"


@dataclass(frozen=True, slots=True)
class Payload:
    """One request that was kept. Its `name` says where, for whoever has to look at it."""

    name: str
    headers: dict[str, str]
    body: bytes


def payload_files(folder: Path) -> list[Path]:
    """The bodies, by name; of a file `a.json` the headers are in `a.headers.json`. Raises Unreadable where there is none."""
    if not folder.is_dir():
        raise Unreadable(f"{folder} is no folder")
    found = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(_BESIDE))
    found = [path for path in found if path.suffix in (".json", ".xml", ".info", ".lcov")]
    if not found:
        raise Unreadable(f"{folder} has no payloads: <name>.json, and <name>{_BESIDE} with the headers beside it, are needed")
    return found


def payloads(path: Path) -> Iterator[Payload]:
    """Of a file: one request, or the deliveries that GitHub's API tells, one or a list of them. Raises Unreadable.

    https://docs.github.com/en/rest/repos/webhooks#get-a-delivery-for-a-repository-webhook: `request` has headers and payload.
    """
    try:
        body = path.read_bytes()
        beside = path.with_name(path.stem + _BESIDE)
        headers = _headers(json.loads(beside.read_bytes()), str(beside)) if beside.exists() else None
    except OSError as error:
        raise Unreadable(f"{error.filename} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as wrong:
        raise Unreadable(f"{path.with_name(path.stem + _BESIDE)}: no JSON: {wrong}") from None
    if headers is not None:
        yield Payload(str(path), headers, body)
        return
    exported = list(_deliveries(path, body))
    yield from exported or [Payload(str(path), {}, body)]


def _deliveries(path: Path, body: bytes) -> Iterator[Payload]:
    try:
        known = json.loads(body)
    except (ValueError, RecursionError):
        return
    for number, one in enumerate(known if isinstance(known, list) else [known]):
        request = one.get("request") if isinstance(one, dict) else None
        if isinstance(request, dict) and isinstance(request.get("payload"), dict):
            where = f"{path}, delivery {one.get('guid', number)}"
            yield Payload(where, _headers(request.get("headers"), where), json.dumps(request["payload"]).encode())


def _headers(known: Any, where: str) -> dict[str, str]:
    if not isinstance(known, dict) or not all(isinstance(value, str) for value in known.values()):
        raise Unreadable(f"{where}: headers are an object of names and texts")
    return {str(name): value for name, value in known.items()}


def of_payload(payload: Payload, source: str, settings: Settings) -> list[Fact]:
    """What it says; `source`, where its headers do not tell who sent it. Its signature is not looked at. Raises Unreadable."""
    name = source or next((found for sign, found in _SENDERS.items() if header(payload.headers, sign)), "")
    if not name and content_type(payload.headers).startswith("application/cloudevents"):
        name = "cdevents"
    if name not in READERS:
        raise Unreadable(f"{payload.name}: its headers do not say who sent it: --source has to, with one of {', '.join(READERS)}")
    try:
        return READERS[name].facts(payload.headers, payload.body, settings)
    except Refused as refused:
        raise Unreadable(f"{payload.name}: {refused.reason}") from None


# A repository's history.

#: Letters of a name, and commits of one change.
_LONGEST, _MOST = 512, 1000
_RECORD, _FIELD = b"\x1e", b"\x1f"
_FORMAT = "--format=%x1e%H%x1f%P%x1f%aI%x1f%cI%x1f%an%x1f%s"
_MERGED = re.compile(r"Merge pull request #(\d{1,9})(?: from (\S+))?")
_SQUASHED = re.compile(r"(.*) \(#(\d{1,9})\)")


@dataclass(frozen=True, slots=True)
class Commit:
    """One of the log."""

    hash: str
    parents: tuple[str, ...]
    authored: datetime
    committed: datetime
    author: str
    subject: str
    paths: tuple[str, ...]


def count_commits(folder: Path, branch: str) -> int:
    """How many there are. Raises Unreadable."""
    return int(_git(folder, "rev-list", "--count", _revision(folder, branch)).strip() or 0)


def origin_of(folder: Path) -> str:
    """Its address, as other sources name it; '' where it has none."""
    try:
        return canonical(_git(folder, "remote", "get-url", "origin").strip())
    except Unreadable:
        return ""


def branch_of(folder: Path) -> str:
    """What is checked out. Raises Unreadable."""
    found = _git(folder, "rev-parse", "--abbrev-ref", "HEAD").strip()
    if found == "HEAD":
        raise Unreadable(f"no branch is checked out in {folder}: say which one is released from, as in --branch main")
    return found


def log_of(folder: Path, branch: str) -> Iterator[Commit]:
    """Parents before their children, of a merge the paths that it brought. Raises Unreadable."""
    words = ["log", "--reverse", "--topo-order", "-z", _FORMAT, "--name-only", "--diff-merges=first-parent"]
    words.append(_revision(folder, branch))
    with subprocess.Popen(_command(folder, *words), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:  # noqa: S603
        assert process.stdout is not None  # noqa: S101  # it is piped
        left = b""
        while part := process.stdout.read(1 << 20):
            *whole, left = (left + part).split(_RECORD)
            yield from (_commit(record, folder) for record in whole if record)
        if left:
            yield _commit(left, folder)
    if process.returncode:
        raise Unreadable(f"git log of {branch} in {folder} ended with status {process.returncode}")


def _commit(record: bytes, folder: Path) -> Commit:
    head, _, names = record.partition(b"\0")
    fields = [part.decode(errors="replace") for part in head.split(_FIELD, 5)]
    if len(fields) != 6:
        raise Unreadable(f"git log in {folder}: a commit's author or subject has a character that stands between them")
    commit, parents, written, taken, author, subject = fields
    authored, committed = _perhaps(written), _perhaps(taken)
    paths = touched(name.decode(errors="replace").lstrip("\n") for name in names.split(b"\0") if name)
    when = committed or authored or datetime(1970, 1, 1, tzinfo=UTC)
    return Commit(commit, tuple(parents.split()), authored or when, when, author, subject, paths)


def _perhaps(written: str) -> datetime | None:
    """Clocks of those who commit are not always right: what is no moment here is none."""
    try:
        return _WHEN.validate_python(written)
    except ValidationError:
        return None


@dataclass(slots=True)
class _Behind:
    """What is known of a branch so far: parents and moments of its commits, its own line, and what changes have brought to it."""

    main: frozenset[str]
    parents: dict[str, tuple[str, ...]] = field(default_factory=dict)
    authored: dict[str, datetime] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)

    def brought(self, tips: tuple[str, ...]) -> list[str]:
        """The commits behind `tips` that the branch had not before, at most a thousand, newest first."""
        found: dict[str, None] = {}
        left = list(tips)
        while left and len(found) < _MOST:
            one = left.pop()
            if one not in found and one not in self.main and one not in self.taken and one in self.parents:
                found[one] = None
                left.extend(self.parents[one])
        self.taken.update(found)
        return sorted(found, key=lambda one: (self.authored[one], one), reverse=True)


def of_repository(folder: Path, repository: str, branch: str) -> Iterator[tuple[Commit, list[Fact]]]:
    """Each commit, and what it says: itself, and the change that it merged. Raises Unreadable.

    When a change was opened, a repository does not know: its lead time is then counted from its first commit only.
    """
    behind = _Behind(frozenset(_git(folder, "rev-list", "--first-parent", _revision(folder, branch)).split()))
    for commit in log_of(folder, branch):
        behind.parents[commit.hash], behind.authored[commit.hash] = commit.parents, commit.authored
        says = CommitSays(repository=repository, parents=commit.parents, committed=commit.committed, paths=commit.paths)
        said: list[tuple[str, Says]] = [(commit.hash, says)]
        if commit.hash in behind.main and (change := _change(commit, repository, branch, behind)):
            said.append((f"{repository}#{change.number}", change))
        yield commit, [Fact.of(GIT, f"{key}@{commit.hash}", commit.committed, key, says) for key, says in said]


def _change(commit: Commit, repository: str, branch: str, behind: _Behind) -> ChangeSays | None:
    merge, squash = _MERGED.match(commit.subject), _SQUASHED.fullmatch(commit.subject[:_LONGEST])
    says: dict[str, Any] = {"repository": repository, "base": branch, "merged": commit.committed, "merge_commit": commit.hash}
    says["paths"] = commit.paths
    if merge and len(commit.parents) > 1:
        own = behind.brought(commit.parents[1:])
        first = min((behind.authored[one] for one in own), default=None)
        says |= {"branch": (merge[2] or "")[:_LONGEST], "first_commit": first, "commits": tuple(own)}
        return ChangeSays(**says, number=merge[1])
    if squash and len(commit.parents) == 1:
        return ChangeSays(**says, number=squash[2], title=squash[1], author=commit.author[:_LONGEST])
    return None


def _revision(folder: Path, branch: str) -> str:
    """Here, or at its origin. Never an option, whatever it begins with. Raises Unreadable."""
    for name in (f"refs/heads/{branch}", f"refs/remotes/origin/{branch}"):
        if _git(folder, "for-each-ref", "--format=%(refname)", name).strip() == name:
            return name
    raise Unreadable(f"there is no branch {branch} in {folder}, nor at its origin")


def _command(folder: Path, *words: str) -> list[str]:
    return ["git", "-C", str(folder), "-c", "core.quotePath=false", *words]


def _git(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(_command(folder, *words), capture_output=True, text=True, errors="replace", check=False)  # noqa: S603
    except FileNotFoundError:
        raise Unreadable("git is not on this machine, and is needed to read a repository's history") from None
    if done.returncode:
        raise Unreadable(f"git {words[0]} in {folder}: {(done.stderr.strip().splitlines() or ['it failed'])[-1]}")
    return done.stdout


# A list of deployments.

COLUMNS = ("service", "environment", "commit", "moment")
MORE = ("outcome", "id", "repository", "artifact", "by", "why", "requested", "exposed", "detected", "returned")
_OUTCOMES: dict[str, Outcome] = {
    "": "Promoted",
    "promoted": "Promoted",
    "rolledback": "RolledBack",
    "aborted": "Aborted",
    "superseded": "Superseded",
}


def of_deploys(path: Path) -> Iterator[Fact]:
    """One release a line. Raises Unreadable that names the line and the column."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            rows = csv.DictReader(lines)
            names = [name.strip().lower() for name in rows.fieldnames or []]
            missing, odd = [name for name in COLUMNS if name not in names], [n for n in names if n not in COLUMNS + MORE]
            if missing or odd:
                wrong = f"needs the columns {', '.join(missing)}" if missing else f"has columns of no use: {', '.join(odd)}"
                raise Unreadable(f"{path} {wrong}; there are {', '.join(COLUMNS + MORE)}")
            rows.fieldnames = names
            for row in rows:
                yield _deploy(row, f"{path}, line {rows.line_num}")
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as broken:
        raise Unreadable(f"{path} is no CSV in UTF-8: {broken}") from None


def _deploy(row: dict[Any, Any], where: str) -> Fact:
    if None in row or None in row.values():
        raise Unreadable(f"{where}: it has more or fewer columns than the first line")
    told: dict[str, str] = {name: value.strip() for name, value in row.items()}
    for name in ("service", "commit", "moment"):
        if not told[name]:
            raise Unreadable(f"{where}: {name} is empty")
    written = told.get("outcome", "").lower()
    if written not in _OUTCOMES:
        raise Unreadable(f"{where}: outcome: {written:.40} is none of {', '.join(filter(None, _OUTCOMES))}")
    outcome = _OUTCOMES[written]
    moments = {name: _moment(told[name], f"{where}: {name}") for name in MORE[6:] if told.get(name)}
    at = _moment(told["moment"], f"{where}: moment")
    if outcome == "Promoted":
        moments = {"exposed": at, **moments, "promoted": at}
    elif outcome == "RolledBack":
        # Without the other moments: users had it at some time before.
        moments = {"exposed": at, "returned": at, **moments}
    name = told.get("id") or digest("\0".join(told[column] for column in COLUMNS).encode())[:32]
    says = {column: told.get(column, "") for column in ("service", "environment", "commit", "artifact", "by", "why")}
    try:
        release = ReleaseSays(**says, **moments, outcome=outcome, repository=canonical(told.get("repository", "")))
        return Fact.of(DEPLOYS, name, at, f"deploys/{name}", release)
    except ValidationError as wrong:
        first = wrong.errors()[0]
        raise Unreadable(f"{where}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _moment(written: str, where: str) -> datetime:
    try:
        return _WHEN.validate_python(written)
    except ValidationError:
        raise Unreadable(f"{where}: a moment with its offset is needed, such as 2026-11-27T09:00:00Z") from None

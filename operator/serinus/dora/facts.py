"""What is known: facts about releases, changes, incidents, commits, pipeline runs, and what their tests said. Pure.

A fact is what one source said at one moment about one thing; it never changes and is never taken back. What is known of a thing
follows from all facts about it, in whatever order they came: of each field the newest word counts (`Fact.at`, then `Fact.id`),
and of the firsts (`Saying.firsts`) the earliest moment. So the log can be read again from the beginning, on another store or in
another order, and gives the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from serinus.api.base import fitted


def _utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("a moment needs its offset from UTC, as in 2026-11-27T09:00:00Z")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("there is no such moment in UTC") from None


Moment = Annotated[datetime, AfterValidator(_utc)]
#: Names and ids. What is longer is not one.
Key = Annotated[str, StringConstraints(min_length=1, max_length=512)]
Word = Annotated[str, StringConstraints(max_length=512)]
#: Prose is cut rather than refused.
Prose = Annotated[str, AfterValidator(fitted)]

Count = Annotated[int, Field(ge=0, le=2**53)]
#: Tests that one fact may tell of: the slowest, the failed, the flaky.
SLOWEST, FAILED, FLAKY = 50, 200, 200
CASES = SLOWEST + FAILED + FLAKY

Outcome = Literal["Promoted", "RolledBack", "Aborted", "Superseded", "Skipped"]


class Saying(BaseModel):
    """What a fact says. None, and an empty list or text, say nothing about that field."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    #: What it is about.
    about: ClassVar[str]
    #: Fields of which the earliest moment counts, whoever said it when.
    firsts: ClassVar[frozenset[str]] = frozenset()


class ReleaseSays(Saying):
    """One attempt to bring one version of one service to one environment."""

    about = "release"

    service: Word = ""
    environment: Word = ""
    #: What is delivered, and what served before: a purl, a digest, a revision.
    artifact: Word = ""
    serving_artifact: Word = ""
    commit: Word = ""
    repository: Word = ""
    by: Word = ""
    #: The same version in new pods: no deployment.
    restart: bool | None = None
    outcome: Outcome | None = None
    why: Prose = ""
    #: There was evidence that it did harm, also where somebody was faster than the verdict.
    harmed: bool | None = None
    requested: Moment | None = None
    #: Its first user.
    exposed: Moment | None = None
    #: All users.
    promoted: Moment | None = None
    fault_began: Moment | None = None
    detected: Moment | None = None
    #: Verified: no user any more.
    returned: Moment | None = None
    #: Share (0 to 1) times seconds, and what was counted meanwhile.
    share_seconds: float | None = None
    requests: float | None = None
    failures: float | None = None


class ChangeSays(Saying):
    """A pull or merge request."""

    about = "change"
    firsts = frozenset({"first_commit", "first_review"})

    repository: Word = ""
    number: Word = ""
    title: Prose = ""
    url: Word = ""
    author: Word = ""
    #: Its own branch, and the one that it goes into.
    branch: Word = ""
    base: Word = ""
    labels: tuple[Word, ...] = ()
    first_commit: Moment | None = None
    opened: Moment | None = None
    first_review: Moment | None = None
    merged: Moment | None = None
    closed: Moment | None = None
    #: What was closed earlier is open again.
    reopened: Moment | None = None
    #: The commit on the base branch by which it can be told that a release has it: of a merge, a squash, or the last of a rebase.
    merge_commit: Word = ""
    #: Its own commits, as far as they are known.
    commits: tuple[Word, ...] = ()
    #: The files it touches, where a repository holds several services.
    paths: tuple[Word, ...] = ()


class CommitSays(Saying):
    """A commit on a branch that is released from. The key is its hash."""

    about = "commit"

    repository: Word = ""
    parents: tuple[Word, ...] = ()
    committed: Moment | None = None
    paths: tuple[Word, ...] = ()


class ArtifactSays(Saying):
    """What an artifact was built from, by which a manifest's commit leads to the code's. The key is its purl, digest or image."""

    about = "artifact"

    repository: Word = ""
    commit: Word = ""
    built: Moment | None = None


class IncidentSays(Saying):
    """Something that users noticed, or an alert did."""

    about = "incident"
    firsts = frozenset({"detected"})

    service: Word = ""
    environment: Word = ""
    title: Prose = ""
    url: Word = ""
    severity: Word = ""
    #: The release that it names itself, by its key.
    release: Word = ""
    began: Moment | None = None
    detected: Moment | None = None
    resolved: Moment | None = None
    #: What was resolved earlier is not: it lasts until a later `resolved`.
    reopened: Moment | None = None

    @property
    def over(self) -> datetime | None:
        """Since when it is resolved for good, as far as is known."""
        open_again = self.resolved is not None and self.reopened is not None and self.reopened > self.resolved
        return None if open_again else self.resolved


class MarkSays(Saying):
    """A person's word, which counts more than any computed one. The key is `release/<key>` or `incident/<key>`."""

    about = "mark"

    #: A release `failed` or was `fine`; it was `rework` or `planned`; an incident is of `release`, or of none: `unrelated`.
    verdict: Literal["failed", "fine", "rework", "planned", "release", "unrelated", "unmarked"]
    release: Word = ""
    by: Word = ""
    reason: Prose = ""


class RunSays(Saying):
    """A pipeline's run, or a job of one: `parent` is the run's key."""

    about = "run"

    repository: Word = ""
    parent: Word = ""
    name: Word = ""
    commit: Word = ""
    branch: Word = ""
    url: Word = ""
    result: Literal["", "success", "failure", "cancelled", "skipped"] = ""
    queued: Moment | None = None
    started: Moment | None = None
    finished: Moment | None = None


class Case(BaseModel):
    """One test of a suite. `flaky`: it passed, and only when it was tried again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Word
    outcome: Literal["passed", "failed", "flaky", "skipped"]
    milliseconds: Annotated[int, Field(ge=0, le=10**10)]


class TestsSays(Saying):
    """One run of a suite of tests, as it was uploaded. Bounded: not each of 20,000 tests that passed is told."""

    about = "tests"
    __test__: ClassVar[bool] = False  # whatever its name is to a collector of tests

    repository: Word = ""
    commit: Word = ""
    branch: Word = ""
    #: The pipeline's run and job, as its tool names them.
    run: Word = ""
    job: Word = ""
    suite: Word = ""
    #: All that are named, of which `failed` (also by an error), `skipped` and `flaky`.
    tests: Count | None = None
    failed: Count | None = None
    skipped: Count | None = None
    flaky: Count | None = None
    milliseconds: Count | None = None
    #: A digest of the names of those that were not skipped: of two runs with the same, each test ran in both.
    ran: Word = ""
    #: The slowest, and those that failed or are flaky, as far as there was room for them.
    cases: Annotated[tuple[Case, ...], Field(max_length=CASES)] = ()


class CoverageSays(Saying):
    """What the tests of a commit went through."""

    about = "coverage"

    repository: Word = ""
    commit: Word = ""
    branch: Word = ""
    #: Of several parts of a repository, such as a service, which one.
    part: Word = ""
    lines: Count | None = None
    lines_covered: Count | None = None
    branches: Count | None = None
    branches_covered: Count | None = None


Says = ReleaseSays | ChangeSays | CommitSays | ArtifactSays | IncidentSays | MarkSays | RunSays | TestsSays | CoverageSays
_ALL = (ReleaseSays, ChangeSays, CommitSays, ArtifactSays, IncidentSays, MarkSays, RunSays, TestsSays, CoverageSays)
_KINDS: dict[str, type[Saying]] = {kind.about: kind for kind in _ALL}
About = Literal["release", "change", "commit", "artifact", "incident", "mark", "run", "tests", "coverage"]


class Fact(BaseModel):
    """One word of one source. (`source`, `id`) is unique: the same again is a repeat, and dropped."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Key
    id: Key
    #: When it happened, by the source's clock.
    at: Moment
    about: About
    key: Key
    says: Says

    @staticmethod
    def of(source: str, id: str, at: datetime, key: str, says: Says) -> Fact:  # noqa: A002
        """Its kind follows from what it says. Raises ValidationError."""
        return Fact.model_validate({"source": source, "id": id, "at": at, "about": says.about, "key": key, "says": says})

    @staticmethod
    def parse(known: dict[str, Any]) -> Fact:
        """From JSON data. Raises ValidationError, or ValueError for a kind that there is none of."""
        kind = _KINDS.get(known.get("about", ""))
        if kind is None:
            raise ValueError(f"there are no facts about {known.get('about')!r}")
        return Fact.model_validate(known | {"says": kind.model_validate(known.get("says"))})

    def dump(self) -> dict[str, Any]:
        """As JSON data, without what it does not say."""
        says = self.says.model_dump(mode="json", exclude_defaults=True)
        return {**self.model_dump(mode="json", exclude={"says"}), "says": says}


S = TypeVar("S", bound=Saying)


class Known(BaseModel, Generic[S]):
    """A thing, and what all facts about it come to. `facts`: their (source, id), oldest first, for whoever wants to see them."""

    model_config = ConfigDict(frozen=True)

    key: str
    says: S
    facts: tuple[tuple[str, str], ...]


def known(facts: Iterable[Fact], kind: type[S]) -> dict[str, Known[S]]:
    """What there is of one kind, by key. The order of `facts` is no matter, and a repeat is none."""
    about: dict[str, dict[tuple[str, str], Fact]] = {}
    for fact in facts:
        if fact.about == kind.about:
            about.setdefault(fact.key, {})[fact.source, fact.id] = fact
    return {key: _folded(key, kind, several.values()) for key, several in sorted(about.items())}


def _folded(key: str, kind: type[S], facts: Iterable[Fact]) -> Known[S]:
    ordered = sorted(facts, key=lambda fact: (fact.at, fact.source, fact.id))
    fields: dict[str, Any] = {}
    for fact in ordered:
        for name, value in _said(fact.says):
            fields[name] = min(fields.get(name, value), value) if name in kind.firsts else value
    return Known[kind](key=key, says=kind(**fields), facts=tuple((f.source, f.id) for f in ordered))  # type: ignore[valid-type]


def _said(says: Saying) -> Iterator[tuple[str, Any]]:
    for name in type(says).model_fields:
        value = getattr(says, name)
        if value not in (None, "", ()):
            yield name, value

"""Where things are needed: which services' figures a fact is part of, by what it names. Rows of the table `links`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sqlalchemy import Column, Connection, select

from serinus.dora.catalog import artifact_names, repository_name
from serinus.dora.commits import plain
from serinus.dora.facts import ArtifactSays, ChangeSays, CommitSays, Fact, IncidentSays, MarkSays, ReleaseSays
from serinus.dora.store.schema import among, links

#: What a first fact may leave open.
SAID_LATER = ("service", "repository")


@dataclass(frozen=True)
class Link:
    """Where a thing is needed."""

    about: str
    key: str
    kind: str
    name: str


def subject(fact: Fact) -> tuple[str, str]:
    """Of a mark: what it marks."""
    about, _, key = fact.key.partition("/") if fact.about == "mark" else (fact.about, "", fact.key)
    return about, key


def links_of(fact: Fact) -> Iterator[Link]:
    """What it names."""
    about, key = subject(fact)
    # What does not say of which service or repository it is is of none, '', until another fact does.
    yield from (Link(about, key, kind, name) for kind, name in _needed(fact) if name or kind in SAID_LATER)


def _needed(fact: Fact) -> Iterator[tuple[str, str]]:
    says = fact.says
    if isinstance(says, ReleaseSays):
        yield "service", says.service
        yield "repository", repository_name(says.repository)
        yield "commit", _short(says.commit)
        yield from (("artifact", name) for name in artifact_names(says.artifact))
    elif isinstance(says, IncidentSays):
        yield "service", says.service
        yield "release", says.release
    elif isinstance(says, ChangeSays):
        yield "repository", repository_name(says.repository)
        yield from (("commit", _short(commit)) for commit in (says.merge_commit, *says.commits))
    elif isinstance(says, CommitSays):
        yield "repository", repository_name(says.repository)
        yield "commit", _short(fact.key)
    elif isinstance(says, ArtifactSays):
        yield "repository", repository_name(says.repository)
        yield "commit", _short(says.commit)
        yield from (("artifact", name) for name in artifact_names(fact.key))
    elif isinstance(says, MarkSays) and fact.key.startswith("incident/"):
        yield "release", says.release


def _short(commit: str) -> str:
    """The beginning, by which a short hash and the full one are found alike."""
    return plain(commit)[:7]


def homes(connection: Connection, commits: Iterable[str]) -> set[str]:
    """The repositories that these commits are known to be of."""
    names = set(commits)
    found = [
        needed_by(connection, kind, "repository", things(connection, kind, "commit", names)) for kind in ("change", "commit")
    ]
    return (found[0] | found[1]) - {""}


def things(connection: Connection, about: str, kind: str, names: Iterable[str]) -> set[str]:
    """The things of a kind that are needed by any of these."""
    return _linked(connection, about, kind, links.c.key, links.c.name, names)


def needed_by(connection: Connection, about: str, kind: str, keys: Iterable[str]) -> set[str]:
    """What these things are needed by."""
    return _linked(connection, about, kind, links.c.name, links.c.key, keys)


def _linked(
    connection: Connection, about: str, kind: str, wanted: Column[str], by: Column[str], known: Iterable[str]
) -> set[str]:
    """One end of the links whose other end is among the known."""
    names = set(known)
    query = select(wanted).where(links.c.about == about, links.c.kind == kind, among(connection, by, names))
    return set(connection.execute(query).scalars()) if names else set()

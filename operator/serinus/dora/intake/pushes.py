"""What a push says about commits. Pure.

A push names its commits but not their parents. What is said here as a parent is always an ancestor, so that "which commits has
this release that the one before had not" comes out right, though git's own graph has more joints.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from serinus.dora.facts import CommitSays
from serinus.dora.intake.received import Refused

_HASH = re.compile(r"[0-9a-fA-F]{40}|[0-9a-fA-F]{64}")
#: Longer ones are not kept; nobody selects a service by them.
_LONGEST_PATH = 512


@dataclass(frozen=True, slots=True)
class Pushed:
    """One commit of a push. `new`: it was on no branch before; where the forge does not say so, it is False."""

    hash: str
    committed: datetime | None
    paths: tuple[str, ...]
    new: bool


def told(repository: str, before: str, after: str, commits: Sequence[Pushed]) -> list[tuple[str, CommitSays]]:
    """(hash, what is said of it) of `commits`, oldest first, of which `after` is the newest. `before` is '' for none.

    A new commit follows the one before it. Others came from another branch, by a merge, and have their own past there: of them
    only what they touch is said, and the next commit of this branch has them as parents.
    """
    said: list[tuple[str, CommitSays]] = []
    tips = [before] if before else []
    for commit in commits:
        if commit.hash == after:
            continue
        parents = tuple(tips) if commit.new else ()
        said.append(
            (commit.hash, CommitSays(repository=repository, parents=parents, committed=commit.committed, paths=commit.paths))
        )
        tips = [commit.hash] if commit.new else [*tips, commit.hash]
    head = next((commit for commit in commits if commit.hash == after), Pushed(after, None, (), False))
    says = CommitSays(repository=repository, parents=tuple(tips), committed=head.committed, paths=head.paths)
    return [*said, (after, says)] if tips or head.committed else said


def released(ref: str, default: str, branches: Iterable[str]) -> bool:
    """Whether `ref` (refs/heads/main) is the default branch, or one that a pattern of `branches` (release/*) names.

    Work in progress says nothing: its branches hold the main branch's commits in an order of their own.
    """
    branch = ref.removeprefix("refs/heads/")
    return branch != ref and (branch == default or any(fnmatch.fnmatchcase(branch, pattern) for pattern in branches))


def commit_hash(text: str, field: str) -> str:
    """In small letters; '' for the hash of zeros, which means none. Raises Refused(422) for what is no hash."""
    if not _HASH.fullmatch(text):
        raise Refused(422, f"{field}: expected a commit's hash of 40 or 64 digits")
    return text.lower() if text.strip("0") else ""


def touched(*lists: Iterable[str]) -> tuple[str, ...]:
    """All paths of the lists, each once, in order."""
    return tuple(sorted({path for paths in lists for path in paths if 0 < len(path) <= _LONGEST_PATH}))

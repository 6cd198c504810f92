"""Commits: which one a hash means, and which of them come with a new tip. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import takewhile

#: Shorter ones are not taken for the beginning of a hash.
SHORTEST = 7
#: SHA-1's; SHA-256 has 64.
_WHOLE = 40


def plain(written: str) -> str:
    """``main@sha1:0AB..``, as some tools write revisions, -> ``0ab..``."""
    return written.rsplit(":", 1)[-1].lower()


@dataclass(frozen=True, slots=True)
class Hashes:
    """All hashes that anybody has mentioned, sorted, and the repositories in which they were (none: nobody said)."""

    ordered: Sequence[str]
    repositories: Mapping[str, frozenset[str]]

    @staticmethod
    def of(mentioned: Iterable[tuple[str, str]]) -> Hashes:
        """From pairs of hash and repository."""
        repositories: dict[str, set[str]] = defaultdict(set)
        for written, repository in mentioned:
            if written:
                repositories[plain(written)].add(repository)
        known = {name: frozenset(filter(None, where)) for name, where in repositories.items()}
        return Hashes(sorted(known), known)

    def full(self, written: str, repository: str = "") -> str:
        """The one hash of `repository` that begins as `written`; empty where several do, and where nobody has mentioned it."""
        name = plain(written)
        if not name:
            return ""
        if not SHORTEST <= len(name) < _WHOLE:
            return name if self._may_be_of(name, repository) else ""
        after = (self.ordered[i] for i in range(bisect_left(self.ordered, name), len(self.ordered)))
        same = [h for h in takewhile(lambda h: h.startswith(name), after) if self._may_be_of(h, repository)]
        if not same:
            return ""
        longest = max(same, key=len)
        return longest if all(longest.startswith(h) for h in same) else ""

    def begun(self, name: str) -> bool:
        """Whether any hash begins so."""
        at = bisect_left(self.ordered, name)
        return at < len(self.ordered) and self.ordered[at].startswith(name)

    def _may_be_of(self, name: str, repository: str) -> bool:
        where = self.repositories.get(name)
        return where is not None and (not repository or not where or repository in where)


@dataclass(frozen=True, slots=True)
class Span:
    """What a new tip has that older ones have not: `commits`, also such of which only a child is known.

    `whole`: its line of first parents is known back to what the older ones have. `met`: which of the older tips it has behind
    it, as far as they are no other's ancestors.
    """

    commits: tuple[str, ...]
    whole: bool
    met: frozenset[str]


@dataclass(frozen=True, slots=True)
class Graph:
    """Commits and their parents. `generation` is greater than that of every known ancestor."""

    parents: Mapping[str, tuple[str, ...]]
    generation: Mapping[str, int]

    @staticmethod
    def of(parents: Mapping[str, tuple[str, ...]]) -> Graph:
        """Commits in a circle, which only a wrong fact can claim, are left out."""
        children: dict[str, list[str]] = defaultdict(list)
        missing: dict[str, int] = {}
        for commit, above in parents.items():
            there = {parent for parent in above if parent in parents}
            missing[commit] = len(there)
            for parent in there:
                children[parent].append(commit)
        ready = [commit for commit, count in missing.items() if not count]
        generation = dict.fromkeys(ready, 0)
        for commit in ready:
            for child in children[commit]:
                missing[child] -= 1
                generation[child] = max(generation.get(child, 0), generation[commit] + 1)
                if not missing[child]:
                    ready.append(child)
        return Graph(parents, {commit: generation[commit] for commit in ready})

    def __contains__(self, commit: str) -> bool:
        return commit in self.generation

    def since(self, tip: str, before: Iterable[str]) -> Span:
        """What `tip` reaches and none of `before` does, as ``git rev-list tip --not before`` has it. All of them in the graph.

        Descends from both sides by generation until only what `before` reaches is left: the cost is the span's, not history's.
        """
        tips = frozenset(before)
        old = {tip: False} | dict.fromkeys(tips, True)
        queue = sorted((-self.generation[commit], commit) for commit in old)
        new = int(not old[tip])
        found: dict[str, None] = {}
        met: set[str] = set()
        while new:
            _, commit = heappop(queue)
            if not old[commit]:
                new -= 1
                found[commit] = None
            for parent in self.parents[commit]:
                if parent not in self:
                    if not old[commit]:
                        found[parent] = None
                elif parent not in old:
                    old[parent] = old[commit]
                    new += not old[commit]
                    heappush(queue, (-self.generation[parent], parent))
                elif old[commit] and not old[parent]:
                    old[parent] = True
                    new -= 1
                elif old[parent] and not old[commit]:
                    met.add(parent)
        return Span(tuple(found), self._meets(tip, old), tips & met)

    def _meets(self, tip: str, old: Mapping[str, bool]) -> bool:
        """Whether its line of first parents comes to an old commit, rather than to where nothing is known any more."""
        while tip in self and not old[tip]:
            tip = next(iter(self.parents[tip]), "")
        return tip in self

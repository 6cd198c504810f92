"""What belongs together: a release and the changes that it brings, an incident and the release that caused it. Pure.

Every link says how it was found, and why. Where nothing can be told, nothing is linked, and that has a reason too.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple

from serinus.dora.catalog import Catalog, artifact_names, repository_name
from serinus.dora.commits import Graph, Hashes, Span, plain
from serinus.dora.facts import (
    ArtifactSays,
    ChangeSays,
    CommitSays,
    Fact,
    IncidentSays,
    Known,
    MarkSays,
    ReleaseSays,
    known,
)
from serinus.dora.figures import maybe, seconds

How = Literal["commit", "artifact", "merge time"]
Confidence = Literal["high", "medium", "low"]
Question = Literal["failure", "rework", "incident"]

_QUESTIONS: dict[str, tuple[Question, ...]] = {
    "failed": ("failure",),
    "fine": ("failure",),
    "rework": ("rework",),
    "planned": ("rework",),
    "release": ("incident",),
    "unrelated": ("incident",),
    "unmarked": ("failure", "rework", "incident"),
}


@dataclass(frozen=True, slots=True)
class Mark:
    """A person's last word on one question, and the fact that has it."""

    verdict: str
    release: str
    by: str
    reason: str
    at: datetime
    fact: tuple[str, str]

    @property
    def sentence(self) -> str:
        """Who said so, and why."""
        return f"{self.by or 'somebody'} said so" + (f": {self.reason}" if self.reason else "")


@dataclass(frozen=True)
class Knowledge:
    """Everything that is known, by kind and key."""

    releases: Mapping[str, Known[ReleaseSays]]
    changes: Mapping[str, Known[ChangeSays]]
    commits: Mapping[str, Known[CommitSays]]
    artifacts: Mapping[str, Known[ArtifactSays]]
    incidents: Mapping[str, Known[IncidentSays]]
    #: By the question that they answer, and the key of what they are about: `release/<key>` or `incident/<key>`.
    marks: Mapping[tuple[Question, str], Mark]

    @staticmethod
    def of(facts: Iterable[Fact]) -> Knowledge:
        """From all facts, in any order."""
        every = list(facts)
        return Knowledge(
            known(every, ReleaseSays),
            known(every, ChangeSays),
            known(every, CommitSays),
            known(every, ArtifactSays),
            known(every, IncidentSays),
            _marks(every),
        )


def _marks(facts: Iterable[Fact]) -> dict[tuple[Question, str], Mark]:
    """The newest of each question, as a whole: that a release was rework says nothing about whether it failed."""
    newest: dict[tuple[Question, str], tuple[datetime, str, str, MarkSays]] = {}
    for fact in facts:
        if isinstance(fact.says, MarkSays):
            for question in _QUESTIONS[fact.says.verdict]:
                word = (fact.at, fact.source, fact.id, fact.says)
                there = newest.get((question, fact.key))
                if there is None or there[:3] < word[:3]:
                    newest[question, fact.key] = word
    return {
        about: Mark(says.verdict, says.release, says.by, says.reason, at, (source, identity))
        for about, (at, source, identity, says) in newest.items()
        if says.verdict != "unmarked"
    }


# Releases and changes.


@dataclass(frozen=True, slots=True)
class Carried:
    """A change that a release carries, and how that can be told."""

    change: str
    how: How
    reason: str


@dataclass(frozen=True, slots=True)
class Cargo:
    """What a release carries that no release before it has brought to everybody. `code`: the commit that was built.

    `tracked`: it could be told which changes these are; none is then an answer. `reason` says why not, or how.
    """

    carried: tuple[Carried, ...]
    repository: str
    code: str
    built: int | None
    tracked: bool
    reason: str


@dataclass(frozen=True, slots=True)
class _Code:
    repository: str
    commit: str
    how: How
    reason: str
    built: int | None = None


class _Merged(NamedTuple):
    """When a commit came into a branch, in seconds since 1970."""

    at: int
    base: str


@dataclass(frozen=True)
class _Sources:
    """Indices of what links are found by."""

    catalog: Catalog
    changes: Mapping[str, Known[ChangeSays]]
    commits: Mapping[str, Known[CommitSays]]
    hashes: Hashes
    graph: Graph
    artifacts: Mapping[str, Known[ArtifactSays]]
    #: Changes by the commit that brings them, and by every commit that they are known by.
    by_tip: Mapping[str, Sequence[str]]
    by_commit: Mapping[str, Sequence[str]]
    #: Merged changes by repository and base branch, in order.
    merges: Mapping[tuple[str, str], Sequence[tuple[int, str]]]


@dataclass
class _Line:
    """The releases of one service to one environment, in order, as far as they have been read."""

    taken: set[str] = field(default_factory=set)
    #: By repository: the commits that all users have had, without those that others of them have behind them.
    tips: dict[str, frozenset[str]] = field(default_factory=dict)
    #: And when the newest of them was merged: an undo does not take back what came after.
    merged: dict[str, _Merged] = field(default_factory=dict)
    begun: set[str] = field(default_factory=set)


def link_changes(knowledge: Knowledge, catalog: Catalog) -> dict[str, Cargo]:
    """What each release carries, by its key. Restarts carry nothing and are not there.

    A change is of the first release of a service and environment that brings it to everybody; a release that did not get as far
    carries what it would have brought. The cost is that of the commits between releases, once for each service and environment.
    """
    sources = _sources(knowledge, catalog)
    cargo: dict[str, Cargo] = {}
    for several in lines(knowledge.releases.values()).values():
        line = _Line()
        for release in several:
            cargo[release.key] = _carry(line, release, sources)
    return cargo


def lines(releases: Iterable[Known[ReleaseSays]]) -> dict[tuple[str, str], list[Known[ReleaseSays]]]:
    """Releases by service and environment, without restarts, in the order in which all users had them, or might have had."""
    found: dict[tuple[str, str], list[tuple[int, str, Known[ReleaseSays]]]] = defaultdict(list)
    for release in releases:
        says = release.says
        moment = maybe(says.promoted or says.exposed or says.requested)
        if moment is not None and not says.restart:
            found[says.service, says.environment].append((moment, release.key, release))
    return {line: [release for _, _, release in sorted(several, key=lambda e: e[:2])] for line, several in found.items()}


def _sources(knowledge: Knowledge, catalog: Catalog) -> _Sources:
    hashes = Hashes.of(_mentioned(knowledge))

    def full(written: str, repository: str) -> str:
        return hashes.full(written, repository_name(repository)) or plain(written)

    commits = {plain(key): commit for key, commit in knowledge.commits.items()}
    graph = Graph.of({key: tuple(full(p, c.says.repository) for p in c.says.parents) for key, c in commits.items()})
    by_tip: dict[str, list[str]] = defaultdict(list)
    by_commit: dict[str, list[str]] = defaultdict(list)
    merges: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    for key, change in knowledge.changes.items():
        says = change.says
        merge = full(says.merge_commit, says.repository)
        own = [full(commit, says.repository) for commit in says.commits]
        for commit in dict.fromkeys([merge, *own]):
            by_commit[commit].append(key)
        by_tip[_tip(merge, own, graph)].append(key)
        if says.merged is not None:
            merges[repository_name(says.repository), says.base].append((seconds(says.merged), key))
    for several in merges.values():
        several.sort()
    artifacts = {name: artifact for key, artifact in knowledge.artifacts.items() for name in artifact_names(key)}
    return _Sources(catalog, knowledge.changes, commits, hashes, graph, artifacts, by_tip, by_commit, merges)


def _mentioned(knowledge: Knowledge) -> Iterator[tuple[str, str]]:
    for key, commit in knowledge.commits.items():
        repository = repository_name(commit.says.repository)
        yield key, repository
        yield from ((parent, repository) for parent in commit.says.parents)
    for change in knowledge.changes.values():
        repository = repository_name(change.says.repository)
        yield from ((commit, repository) for commit in (change.says.merge_commit, *change.says.commits))
    for artifact in knowledge.artifacts.values():
        yield artifact.says.commit, repository_name(artifact.says.repository)


def _tip(merge: str, own: Sequence[str], graph: Graph) -> str:
    """The commit that has the whole change behind it; a merge or a squash has, also where its own commits are nowhere else."""
    if merge in graph:
        return merge
    return max((c for c in own if c in graph), key=lambda c: (graph.generation[c], c), default=merge or (own[-1] if own else ""))


def _carry(line: _Line, release: Known[ReleaseSays], sources: _Sources) -> Cargo:
    code = _code(release, sources)
    repository, commit = code.repository, code.commit
    if not commit:
        return Cargo((), repository, "", code.built, False, code.reason)
    tips = line.tips.get(repository, frozenset())
    span = sources.graph.since(commit, tips) if tips and commit in sources.graph else None
    merged = _merged(commit, sources)
    way = _way(line, code, span, merged, sources)
    carried = _chosen(sources, line, release, code, way)
    if release.says.promoted is not None:
        line.begun.add(repository)
        line.taken.update(c.change for c in carried)
        if merged:
            line.merged[repository] = max(line.merged.get(repository, merged), merged)
        if commit in sources.graph and (span is None or span.commits):
            line.tips[repository] = (tips - span.met if span else tips) | {commit}
    note = f"{code.reason}; {way.note}" if code.reason else way.note
    return Cargo(carried, repository, commit, code.built, way.tracked, note)


class _Way(NamedTuple):
    """How the other changes of a release were found, beside that of its very commit. `note` is of all, `reason` of each."""

    note: str
    tracked: bool = True
    how: How = "commit"
    reason: str = ""
    others: Sequence[str] = ()


def _way(line: _Line, code: _Code, span: Span | None, merged: _Merged | None, sources: _Sources) -> _Way:
    if code.repository not in line.begun:
        return _Way("the first release that is known carries only the change that is its very commit")
    if span is not None and span.whole:
        count = len(span.commits)
        others = [key for found in span.commits for key in sources.by_tip.get(found, ())]
        reason = f"its commit is up to {code.commit[:7]}, and no release before had it"
        return _Way(f"commits up to {code.commit[:7]} that no release before had: {count}", True, code.how, reason, others)
    since = line.merged.get(code.repository)
    base = (merged.base or since.base) if merged and since else ""
    if merged and since and base:
        others = _between(sources.merges.get((code.repository, base), ()), since.at, merged.at)
        reason = f"merged into {base} after the change of the release before, and not after this one's"
        return _Way(f"{reason}; the commits in between are not known", True, "merge time", reason, others)
    return _Way("neither commits nor merges lead back to the release before", False)


def _chosen(sources: _Sources, line: _Line, release: Known[ReleaseSays], code: _Code, way: _Way) -> tuple[Carried, ...]:
    """Those of its repository and paths that no release has brought before, the one of its very commit first."""
    very = (sources.by_tip if code.commit in sources.graph else sources.by_commit).get(code.commit, ())
    found: list[Carried] = []
    for key in dict.fromkeys([*very, *way.others]):
        change = sources.changes[key]
        if key in line.taken or repository_name(change.says.repository) not in ("", code.repository):
            continue
        touches = _touches(release.says.service, change, sources)
        if touches is False:
            continue
        why = "it is the very commit of this release" if key in very else way.reason
        why += f" ({code.reason})" if code.reason else ""
        why += " (its files are not known)" if touches is None else ""
        found.append(Carried(key, code.how if key in very else way.how, why))
    return tuple(found)


def _touches(service: str, change: Known[ChangeSays], sources: _Sources) -> bool | None:
    """Whether it touches the service's paths; None: its files are not known."""
    owner = sources.catalog.service(service)
    if not owner.paths:
        return True
    says = change.says
    paths = says.paths or [
        path
        for written in (says.merge_commit, *says.commits)
        if (commit := sources.commits.get(sources.hashes.full(written, repository_name(says.repository)))) is not None
        for path in commit.says.paths
    ]
    return any(owner.owns(path) for path in paths) if paths else None


def _code(release: Known[ReleaseSays], sources: _Sources) -> _Code:
    """The commit that was built, which need not be the one that the release names: that may be the manifests'."""
    says = release.says
    home = sources.catalog.repository(release)
    artifact = next((sources.artifacts[n] for n in artifact_names(says.artifact) if n in sources.artifacts), None)
    own = _resolved(says.commit, home, sources)
    if artifact is not None and artifact.says.commit:
        built = maybe(artifact.says.built)
        repository = repository_name(artifact.says.repository) or home
        commit = _resolved(artifact.says.commit, repository, sources)
        repository = repository or _repository_of(commit, sources)
        if commit and commit == own:
            return _Code(repository, commit, "commit", "", built)
        return _Code(repository, commit, "artifact", f"its artifact was built from {commit[:7]}", built)
    built = maybe(artifact.says.built) if artifact is not None else None
    elsewhere = repository_name(says.repository)
    if elsewhere and elsewhere != home:
        reason = f"its commit is one of {elsewhere}, and what its artifact was built from is not known"
        return _Code(home, "", "commit", reason, built)
    if not own:
        reason = f"{says.commit} is not the beginning of just one commit of {home or 'any repository'}"
        reason = reason if says.commit else "no commit of it is known"
        return _Code(home, "", "commit", reason, built)
    return _Code(home or _repository_of(own, sources), own, "commit", "", built)


def _resolved(written: str, repository: str, sources: _Sources) -> str:
    """The full hash; what was written, where nobody else mentions it; empty where it is of another repository, or of several."""
    found = sources.hashes.full(written, repository)
    if found or not written:
        return found
    name = plain(written)
    return "" if sources.hashes.begun(name) else name


def _repository_of(commit: str, sources: _Sources) -> str:
    there = sources.commits.get(commit)
    if there is not None and there.says.repository:
        return repository_name(there.says.repository)
    changes = (sources.changes[key].says.repository for key in sources.by_commit.get(commit, ()))
    return repository_name(next(filter(None, changes), ""))


def _merged(commit: str, sources: _Sources) -> _Merged | None:
    changes = (sources.changes[key].says for key in sources.by_commit.get(commit, ()))
    merged = [_Merged(seconds(says.merged), says.base) for says in changes if says.merged is not None]
    if merged:
        return min(merged)
    there = sources.commits.get(commit)
    return _Merged(seconds(there.says.committed), "") if there is not None and there.says.committed is not None else None


def _between(merges: Sequence[tuple[int, str]], after: int, until: int) -> list[str]:
    """Merged in (after, until]."""
    return [key for _, key in merges[bisect_right(merges, after, key=_when) : bisect_right(merges, until, key=_when)]]


def _when(merge: tuple[int, str]) -> int:
    return merge[0]


# Incidents and releases.


@dataclass(frozen=True, slots=True)
class Blame:
    """The release that an incident is of; none: `release` is empty, and `reason` says why.

    `confidence` is high where a person, or the incident itself, named the release; medium where only one can have been it, by
    service, environment and time; low where several can, or where the incident does not say of which environment it is.
    `mark` is the person's word, if there is one.
    """

    incident: str
    release: str
    reason: str
    confidence: Confidence | None = None
    mark: Mark | None = None


@dataclass(frozen=True, slots=True)
class _Live:
    """A release that users had, from `since` until before `until`. `starts`: of its exposure, and of its promotion."""

    key: str
    environment: str
    starts: tuple[int, ...]
    until: int | None

    def began(self, moment: int) -> int | None:
        """The last of its starts, where it was live."""
        if self.until is not None and self.until <= moment:
            return None
        return max((start for start in self.starts if start <= moment), default=None)


def link_incidents(knowledge: Knowledge, catalog: Catalog) -> dict[str, Blame]:
    """The release that each incident is of, by the incident's key."""
    live: dict[str, list[_Live]] = defaultdict(list)
    for (service, environment), several in lines(knowledge.releases.values()).items():
        live[service].extend(_lives(environment, several))
    starts = {
        service: sorted((start, life.key) for life in several for start in life.starts) for service, several in live.items()
    }
    by_key = {life.key: life for several in live.values() for life in several}
    blames = {}
    for key, incident in knowledge.incidents.items():
        mark = knowledge.marks.get(("incident", f"incident/{key}"))
        if mark is not None:
            blames[key] = _by_person(key, mark, by_key)
        elif incident.says.release:
            blames[key] = _by_name(key, incident.says.release, by_key)
        else:
            near = _near(incident, starts.get(incident.says.service, ()), catalog.blame_within)
            blames[key] = _by_time(incident, [by_key[name] for name in near], catalog)
    return blames


def _lives(environment: str, releases: Sequence[Known[ReleaseSays]]) -> Iterator[_Live]:
    """A promoted release ends with the promotion of the next; one that went no further than a canary, with whatever came next."""
    next_promoted: int | None = None
    next_start: int | None = None
    for release in reversed(releases):
        says = release.says
        exposed, promoted, returned = maybe(says.exposed), maybe(says.promoted), maybe(says.returned)
        starts = tuple(moment for moment in (exposed, promoted) if moment is not None)
        if not starts:
            continue
        ended = promoted is None and says.outcome is not None and returned is None
        after = next_start if ended else next_promoted
        ends = [moment for moment in (returned, after) if moment is not None and moment >= min(starts)]
        yield _Live(release.key, environment, starts, min(ends, default=None))
        next_start = min(starts)
        next_promoted = next_promoted if promoted is None else promoted


def _near(incident: Known[IncidentSays], starts: Sequence[tuple[int, str]], within: int) -> list[str]:
    moment = maybe(incident.says.began or incident.says.detected)
    if moment is None:
        return []
    first, last = bisect_right(starts, moment - within, key=_when), bisect_right(starts, moment, key=_when)
    return list(dict.fromkeys(key for _, key in starts[first:last]))


def _by_person(incident: str, mark: Mark, live: Mapping[str, _Live]) -> Blame:
    if mark.verdict == "unrelated":
        return Blame(incident, "", f"of no release: {mark.sentence}", None, mark)
    if mark.release not in live:
        return Blame(incident, "", f"{mark.sentence}; no user is known to have had {mark.release or 'it'}", None, mark)
    return Blame(incident, mark.release, mark.sentence, "high", mark)


def _by_name(incident: str, release: str, live: Mapping[str, _Live]) -> Blame:
    if release not in live:
        return Blame(incident, "", f"it names {release}, which no user is known to have had, or which was a restart")
    return Blame(incident, release, "it names the release itself", "high")


def _by_time(incident: Known[IncidentSays], near: Sequence[_Live], catalog: Catalog) -> Blame:
    says = incident.says
    moment = maybe(says.began or says.detected)
    if moment is None or not says.service:
        return Blame(incident.key, "", "it does not say of which service it is" if moment is not None else "it says no moment")
    minutes = f"{catalog.blame_within / 60:g} min"
    candidates = sorted(
        (-began, life.key)
        for life in near
        if (life.environment == says.environment if says.environment else catalog.counts(life.environment))
        and (began := life.began(moment)) is not None
    )
    if not candidates:
        return Blame(incident.key, "", f"no release of {says.service} that users had began in the {minutes} before it")
    since, key = -candidates[0][0], candidates[0][1]
    reason = f"it began {moment - since} s after users got {key}, which was live"
    doubts = [f"{len(candidates)} releases were"] if len(candidates) > 1 else []
    doubts += [] if says.environment else ["it does not say of which environment it is"]
    if doubts:
        return Blame(incident.key, key, f"{reason}; {'; '.join(doubts)}", "low")
    return Blame(incident.key, key, reason, "medium")

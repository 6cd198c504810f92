"""Releases that failed, what that cost, and the releases that were made because of it. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from serinus.dora.catalog import Catalog, artifact_names
from serinus.dora.facts import IncidentSays, Known, ReleaseSays
from serinus.dora.figures import maybe, seconds
from serinus.dora.linking import Blame, Cargo, Knowledge, lines


@dataclass(frozen=True, slots=True)
class Failure:
    """A release that failed after users had it: once, however many incidents it made. Moments are seconds since 1970.

    `escaped`: everybody had it; else it was caught before. `share`: of the users, from 0 to 1: the mean over the time that it was
    exposed, and all of them once it was promoted; None where nobody counted. `detected`: by the release's own verdict or an
    incident, whichever was first. `recovered`: no user had it any more; where nobody saw that, the last incident was resolved.
    """

    release: str
    why: str
    escaped: bool
    share: float | None
    began: int | None
    detected: int | None
    recovered: int | None
    incidents: tuple[str, ...]

    @property
    def seconds(self) -> int | None:
        """From detection to recovery; None where one is not known, or where it was over before anybody noticed."""
        if self.detected is None or self.recovered is None or self.recovered < self.detected:
            return None
        return self.recovered - self.detected

    @property
    def when(self) -> tuple[int, str]:
        """To put failures in order: when it was detected, or began; and its release."""
        return self.detected or self.began or 0, self.release

    @property
    def open(self) -> bool:
        """It was detected, and is not over as far as anybody has said."""
        return self.detected is not None and self.recovered is None


def reached(says: ReleaseSays) -> int | None:
    """When its first user had it: its exposure, or its promotion where there was no canary. In seconds since 1970."""
    return maybe(says.exposed or says.promoted)


def asked(says: ReleaseSays) -> int | None:
    """When it was asked for, or the first that is known of it."""
    return maybe(says.requested or says.exposed or says.promoted)


def find_failures(knowledge: Knowledge, blames: Mapping[str, Blame]) -> dict[str, Failure]:
    """The failed releases by key. Restarts, and what no user ever had, cannot fail."""
    incidents: dict[str, list[Known[IncidentSays]]] = defaultdict(list)
    for key, blame in blames.items():
        if blame.release:
            incidents[blame.release].append(knowledge.incidents[key])
    found = {}
    for key, release in knowledge.releases.items():
        if not release.says.restart and reached(release.says) is not None:
            why = _why(release, incidents.get(key, ()), knowledge)
            if why:
                found[key] = _failure(release, why, incidents.get(key, ()))
    return found


def _why(release: Known[ReleaseSays], incidents: Sequence[Known[IncidentSays]], knowledge: Knowledge) -> str:
    mark = knowledge.marks.get(("failure", f"release/{release.key}"))
    if mark is not None:
        return f"it failed: {mark.sentence}" if mark.verdict == "failed" else ""
    says, reasons = release.says, []
    if says.outcome == "RolledBack":
        reasons.append("rolled back after users had it")
    if says.outcome == "Aborted":
        reasons.append("aborted after users had it")
    if says.outcome == "Superseded" and says.harmed:
        reasons.append("superseded when it had done harm")
    if incidents:
        reasons.append(f"incident {', '.join(incident.key for incident in incidents)}")
    return "; ".join(reasons)


def _failure(release: Known[ReleaseSays], why: str, incidents: Sequence[Known[IncidentSays]]) -> Failure:
    says = release.says
    begun = [i.says.began for i in incidents] + [says.fault_began]
    detected = [i.says.detected or i.says.began for i in incidents] + [says.detected]
    resolved = [i.says.over for i in incidents if i.says.over is not None]
    recovered = says.returned or (max(resolved) if resolved and len(resolved) == len(incidents) else None)
    return Failure(
        release.key,
        why,
        says.promoted is not None,
        _share(says),
        min((seconds(m) for m in begun if m is not None), default=None),
        min((seconds(m) for m in detected if m is not None), default=None),
        maybe(recovered),
        tuple(incident.key for incident in incidents),
    )


def _share(says: ReleaseSays) -> float | None:
    if says.promoted is not None:
        return 1.0
    if says.share_seconds is None or says.exposed is None or says.returned is None or says.returned <= says.exposed:
        return None
    return min(1.0, says.share_seconds / (says.returned - says.exposed).total_seconds())


# What was made because of it.

Kind = Literal["undo", "hotfix", "mark"]


@dataclass(frozen=True, slots=True)
class Rework:
    """A release that was not planned: it goes back to what served before (undo), or mends what escaped (hotfix)."""

    release: str
    kind: Kind
    why: str


@dataclass(frozen=True, slots=True)
class _Trouble:
    """A time in which a release is made to mend something, in seconds since 1970. `failed`: the release that it is of, if any."""

    what: str
    begin: int
    end: int | None
    failed: str


def find_rework(
    knowledge: Knowledge,
    catalog: Catalog,
    cargo: Mapping[str, Cargo],
    blames: Mapping[str, Blame],
    failures: Mapping[str, Failure],
) -> dict[str, Rework]:
    """The releases that were rework, by key. A person's word counts more than what is computed."""
    found: dict[str, Rework] = {}
    incidents: dict[str, list[Known[IncidentSays]]] = defaultdict(list)
    for key, incident in knowledge.incidents.items():
        if blames[key].release not in failures:
            incidents[incident.says.service].append(incident)
    for (service, environment), several in lines(knowledge.releases.values()).items():
        troubles = [t for r in several if r.key in failures for t in _of_failure(failures[r.key], r)]
        troubles += [
            trouble
            for incident in incidents.get(service, ())
            if incident.says.environment in ("", environment) and catalog.counts(environment)
            for trouble in _of_incident(incident)
        ]
        for rework in (*_labelled(several, cargo, knowledge), *_mending(several, troubles), *_undos(several)):
            found[rework.release] = rework
    for (question, about), mark in knowledge.marks.items():
        key = about.removeprefix("release/")
        if question == "rework":
            found.pop(key, None)
            if mark.verdict == "rework":
                found[key] = Rework(key, "mark", mark.sentence)
    return found


def _of_failure(failure: Failure, release: Known[ReleaseSays]) -> list[_Trouble]:
    """Of what was caught, nothing: nobody's release was needed to end it."""
    begin = failure.detected if failure.detected is not None else maybe(release.says.promoted)
    if begin is None or not failure.escaped:
        return []
    return [_Trouble(f"the failure of {failure.release}", begin, failure.recovered, failure.release)]


def _of_incident(incident: Known[IncidentSays]) -> list[_Trouble]:
    begin = maybe(incident.says.began or incident.says.detected)
    return [] if begin is None else [_Trouble(f"incident {incident.key}", begin, maybe(incident.says.over), "")]


def _mending(releases: Sequence[Known[ReleaseSays]], troubles: Iterable[_Trouble]) -> Iterator[Rework]:
    """What was asked for while there was trouble; and the first after an escaped failure that was promoted.

    A trouble that nobody says the end of ends with the first promotion of something that was asked for since.
    """
    ordered = sorted((moment, release.key, maybe(release.says.promoted)) for release, moment in _asked(releases))
    moments = [moment for moment, _, _ in ordered]
    places = {key: place for place, (_, key, _) in enumerate(ordered)}
    next_promoted: list[tuple[int, str] | None] = [None]
    for _, key, promoted in reversed(ordered):
        candidates = [c for c in (next_promoted[-1], None if promoted is None else (promoted, key)) if c is not None]
        next_promoted.append(min(candidates, default=None))
    next_promoted.reverse()
    for trouble in troubles:
        place = max(bisect_left(moments, trouble.begin), places.get(trouble.failed, -1) + 1)
        first = next_promoted[place]
        end = trouble.end if trouble.end is not None or first is None else first[0]
        stop = len(ordered) if end is None else bisect_left(moments, end)
        for _, key, _ in ordered[place:stop]:
            yield Rework(key, "hotfix", f"asked for during {trouble.what}")
        if first is not None and trouble.failed:
            yield Rework(first[1], "hotfix", f"the first to be promoted after {trouble.what}")


def _undos(releases: Sequence[Known[ReleaseSays]]) -> Iterator[Rework]:
    """What brings back an artifact that another has replaced; the same one again, in place of itself, is none."""
    promotions = sorted((seconds(r.says.promoted), r.key, r.says) for r in releases if r.says.promoted is not None)
    replaced: dict[str, int] = {}
    served = ""
    for moment, _, says in promotions:
        artifact, before = _artifact(says.artifact or says.commit), _artifact(says.serving_artifact) or served
        if before and before != artifact:
            replaced.setdefault(before, moment)
        served = artifact
    for release, moment in _asked(releases):
        artifact = _artifact(release.says.artifact or release.says.commit)
        serving = _artifact(release.says.serving_artifact) or _served(promotions, moment, release.key)
        if artifact and artifact != serving and artifact in replaced and replaced[artifact] <= moment:
            yield Rework(release.key, "undo", f"{artifact[:19]} had served before, and was replaced")


def _served(promotions: Sequence[tuple[int, str, ReleaseSays]], moment: int, by: str) -> str:
    """What the last promotion up to then brought, other than `by`."""
    place = bisect_right(promotions, moment, key=_when)
    last = next((says for _, key, says in reversed(promotions[max(place - 2, 0) : place]) if key != by), None)
    return "" if last is None else _artifact(last.artifact or last.commit)


def _labelled(releases: Sequence[Known[ReleaseSays]], cargo: Mapping[str, Cargo], knowledge: Knowledge) -> Iterator[Rework]:
    for release in releases:
        for carried in cargo[release.key].carried:
            says = knowledge.changes[carried.change].says
            if any(label.lower() == "hotfix" for label in says.labels):
                yield Rework(release.key, "hotfix", f"change {carried.change} is labelled hotfix")
            elif says.branch.startswith(("hotfix/", "revert")):
                yield Rework(release.key, "hotfix", f"change {carried.change} is of branch {says.branch}")


def _asked(releases: Iterable[Known[ReleaseSays]]) -> Iterator[tuple[Known[ReleaseSays], int]]:
    for release in releases:
        moment = asked(release.says)
        if moment is not None:
            yield release, moment


def _artifact(written: str) -> str:
    return next(iter(artifact_names(written)), "")


def _when(promotion: tuple[int, str, ReleaseSays]) -> int:
    return promotion[0]

"""The five figures: deployment frequency, lead time for changes, change failure rate, recovery time, rework rate. Pure.

Definitions: https://dora.dev/guides/dora-metrics/; what they leave open is decided where it is computed. `Book.of` reads all
facts once; `measure` takes slices of it, as often as one likes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

from serinus.dora.catalog import Catalog, version_name
from serinus.dora.facts import ChangeSays, Fact, IncidentSays, Known, Outcome, ReleaseSays
from serinus.dora.failures import Failure, Rework, find_failures, find_rework, reached
from serinus.dora.figures import Durations, Interval, Rate, Samples, Timeline, Window, maybe
from serinus.dora.linking import Blame, Cargo, Knowledge, link_changes, link_incidents

Standing = Outcome | Literal["Running"]
#: The way of a change, each stage named for what ends with its milestone: first review, merged, built, rollout asked for, 100 %.
Stage = Literal["wait", "review", "build", "queue", "rollout"]
STAGES: tuple[Stage, ...] = ("wait", "review", "build", "queue", "rollout")


@dataclass(frozen=True, slots=True)
class Scope:
    """What is measured: of one service, of one team's services, in one environment; empty: of all.

    Without an environment those count that the catalog calls production.
    """

    service: str = ""
    team: str = ""
    environment: str = ""

    def covers(self, service: str, environment: str, catalog: Catalog) -> bool:
        """Whether something of this service and environment is in it. What is of no known environment is in every one."""
        if self.service not in ("", service) or self.team not in ("", catalog.service(service).team):
            return False
        return environment in ("", self.environment) if self.environment else catalog.counts(environment)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A change that reached everybody with a release, and how long that took, in seconds.

    `lead`: from opened to 100 %. `since_commit`: from its first commit, as DORA has it. `stages` add up to `lead`: each is the
    time to its milestone from the last one that is known before it; a milestone that is not known, or out of order, has no stage.
    `bake`: from the release's first user to 100 %, which is a part of the last stage.
    """

    change: str
    release: str
    promoted: int
    lead: int | None
    since_commit: int | None
    stages: Mapping[Stage, int]
    bake: int | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """A release that is no restart, with all that follows from the facts. Moments are seconds since 1970."""

    key: str
    service: str
    environment: str
    #: For people; '' where nobody says.
    version: str
    standing: Standing
    reached: int | None
    promoted: int | None
    deliveries: tuple[Delivery, ...]
    tracked: bool
    failure: Failure | None
    rework: Rework | None


@dataclass(frozen=True)
class Book:
    """All that is known and what belongs together, read once and measured many times. It follows from the facts alone."""

    catalog: Catalog
    knowledge: Knowledge
    attempts: Mapping[str, Attempt]
    cargo: Mapping[str, Cargo]
    blames: Mapping[str, Blame]
    _by_service: Mapping[str, tuple[list[Attempt], list[Known[IncidentSays]]]]
    _shelves: dict[Scope, Shelf] = field(default_factory=dict, compare=False, repr=False)

    @staticmethod
    def of(facts: Iterable[Fact], catalog: Catalog | None = None) -> Book:
        """From all facts, in any order, repeats among them."""
        catalog = catalog or Catalog()
        knowledge = Knowledge.of(catalog.named(facts))
        cargo, blames = link_changes(knowledge, catalog), link_incidents(knowledge, catalog)
        failures = find_failures(knowledge, blames)
        rework = find_rework(knowledge, catalog, cargo, blames, failures)
        attempts = {
            key: _attempt(release, knowledge, cargo.get(key), failures.get(key), rework.get(key))
            for key, release in knowledge.releases.items()
            if not release.says.restart
        }
        by_service: dict[str, tuple[list[Attempt], list[Known[IncidentSays]]]] = defaultdict(lambda: ([], []))
        for attempt in attempts.values():
            by_service[attempt.service][0].append(attempt)
        for key, incident in knowledge.incidents.items():
            if not blames[key].release:
                by_service[incident.says.service][1].append(incident)
        return Book(catalog, knowledge, attempts, cargo, blames, dict(by_service))

    def shelf(self, scope: Scope) -> Shelf:
        """What is in the scope, in order of time. Made when it is first asked for."""
        if scope not in self._shelves:
            services = [scope.service] if scope.service else self._by_service
            several = [self._by_service[service] for service in services if service in self._by_service]
            covers = scope.covers
            self._shelves[scope] = Shelf.of(
                [a for attempts, _ in several for a in attempts if covers(a.service, a.environment, self.catalog)],
                _moments(i for _, loose in several for i in loose if covers(i.says.service, i.says.environment, self.catalog)),
            )
        return self._shelves[scope]


def _attempt(
    release: Known[ReleaseSays], knowledge: Knowledge, cargo: Cargo | None, failure: Failure | None, rework: Rework | None
) -> Attempt:
    says = release.says
    standing: Standing = says.outcome or ("Promoted" if says.promoted else "Running")
    deliveries: tuple[Delivery, ...] = ()
    if cargo is not None and says.promoted is not None:
        deliveries = tuple(_delivery(knowledge.changes[c.change], release, cargo.built) for c in cargo.carried)
    return Attempt(
        release.key,
        says.service,
        says.environment,
        version_name(says.artifact, says.commit),
        standing,
        reached(says),
        maybe(says.promoted),
        deliveries,
        cargo is not None and cargo.tracked,
        failure,
        rework,
    )


def _delivery(change: Known[ChangeSays], release: Known[ReleaseSays], built: int | None) -> Delivery:
    says, promoted = change.says, maybe(release.says.promoted)
    assert promoted is not None  # noqa: S101 - only what was promoted delivers
    opened, first_commit, exposed = maybe(says.opened), maybe(says.first_commit), maybe(release.says.exposed)
    milestones = (maybe(says.first_review), maybe(says.merged), built, maybe(release.says.requested), promoted)
    late = opened is not None and opened > promoted
    return Delivery(
        change.key,
        release.key,
        promoted,
        None if opened is None or late else promoted - opened,
        None if first_commit is None or first_commit > promoted else promoted - first_commit,
        {} if opened is None or late else _stages(opened, milestones, promoted),
        None if exposed is None or exposed > promoted else promoted - exposed,
    )


def _stages(opened: int, milestones: tuple[int | None, ...], promoted: int) -> dict[Stage, int]:
    found: dict[Stage, int] = {}
    before = opened
    for stage, moment in zip(STAGES, milestones, strict=True):
        if moment is not None and before <= moment <= promoted:
            found[stage] = moment - before
            before = moment
    return found


@dataclass(frozen=True, slots=True)
class Shelf:
    """What is in a scope, by the moments at which it counts. It can also be made from attempts that were kept elsewhere."""

    promoted: Timeline[str]
    untracked: Timeline[str]
    standings: Mapping[Standing, Timeline[str]]
    deliveries: Timeline[Delivery]
    lead: Samples
    since_commit: Samples
    bake: Samples
    stages: Mapping[Stage, Samples]
    reached: Timeline[str]
    failures: Timeline[Failure]
    rework: Timeline[Rework]
    loose: Timeline[str]

    @staticmethod
    def of(attempts: Sequence[Attempt], loose: Iterable[tuple[int, str]]) -> Shelf:
        """From attempts by their keys, and the incidents that no release explains: when each began, and its key."""
        promoted = [(a.promoted, a) for a in attempts if a.promoted is not None]
        users = [(a.reached, a) for a in attempts if a.reached is not None]
        standings: dict[Standing, list[tuple[int, str]]] = defaultdict(list)
        for moment, attempt in users:
            standings[attempt.standing].append((moment if attempt.promoted is None else attempt.promoted, attempt.key))
        delivered = Timeline.of((moment, d) for moment, a in promoted for d in a.deliveries)
        several = delivered.things
        return Shelf(
            Timeline.of((moment, a.key) for moment, a in promoted),
            Timeline.of((moment, a.key) for moment, a in promoted if not a.tracked),
            {standing: Timeline.of(those) for standing, those in sorted(standings.items())},
            delivered,
            Samples.of((d.promoted, d.lead, d.change) for d in several if d.lead is not None),
            Samples.of((d.promoted, d.since_commit, d.change) for d in several if d.since_commit is not None),
            Samples.of((d.promoted, d.bake, d.change) for d in several if d.bake is not None),
            {s: Samples.of((d.promoted, d.stages[s], d.change) for d in several if s in d.stages) for s in STAGES},
            Timeline.of((moment, a.key) for moment, a in users),
            Timeline.of((moment, a.failure) for moment, a in users if a.failure is not None),
            Timeline.of((moment, a.rework) for moment, a in users if a.rework is not None),
            Timeline.of(loose),
        )


def _moments(incidents: Iterable[Known[IncidentSays]]) -> Iterator[tuple[int, str]]:
    for incident in incidents:
        moment = maybe(incident.says.began or incident.says.detected)
        if moment is not None:
            yield moment, incident.key


@dataclass(frozen=True, slots=True)
class Day:
    """One day. `standings`: the releases that users had, each once: at its promotion, or at its exposure where there was none."""

    day: date
    deployments: int
    standings: Mapping[Standing, int]


@dataclass(frozen=True, slots=True)
class Frequency:
    """Releases promoted to everybody, hotfixes that skipped judgement among them, restarts not. Days without one count.

    `days_a_week`: days with a deployment, in seven; None for windows of less than seven days, which cannot tell.
    """

    n: int
    days: int
    per_day: float | None
    deployment_days: int
    days_a_week: float | None
    daily: tuple[Day, ...]
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LeadTime:
    """Of each change that a release of the window brought to everybody; once for every service and environment it went to.

    Keys are those of changes; `deliveries` has the releases beside them. `undated`: changes of which nobody says when they were
    opened, or that were opened when they had long been delivered. `untracked`: releases of which no changes can be told.
    """

    opened: Durations
    first_commit: Durations
    stages: Mapping[Stage, Durations]
    bake: Durations
    deliveries: tuple[Delivery, ...]
    undated: tuple[str, ...]
    untracked: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FailureRate:
    """Failed releases among those that reached their first user in the window."""

    rate: Rate
    failures: tuple[Failure, ...]


@dataclass(frozen=True, slots=True)
class Recovery:
    """Of the failures of the window. Keys are those of releases.

    `open`: not over yet. `undated`: nobody says when it was detected, or it was over before that. `unlinked`: incidents that
    began in the window and that no release explains.
    """

    every: Durations
    caught: Durations
    escaped: Durations
    open: tuple[str, ...]
    undated: tuple[str, ...]
    unlinked: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReworkRate:
    """Releases that were made to mend something, among those that reached their first user in the window."""

    rate: Rate
    rework: tuple[Rework, ...]


@dataclass(frozen=True, slots=True)
class Five:
    """The five figures of one scope in one window."""

    window: Window
    scope: Scope
    frequency: Frequency
    lead_time: LeadTime
    failure_rate: FailureRate
    recovery: Recovery
    rework: ReworkRate


def measure(book: Book, window: Window, scope: Scope | None = None) -> Five:
    """The five figures. The same book gives the same, whatever was measured before; windows side by side add up."""
    scope = scope or Scope()
    return five(book.shelf(scope), window, scope)


def five(shelf: Shelf, window: Window, scope: Scope) -> Five:
    """The five figures of what is on a shelf. `scope` says what that is."""
    interval = window.interval
    users, failures, rework = (shelf.reached.within(interval), shelf.failures.within(interval), shelf.rework.within(interval))
    return Five(
        window,
        scope,
        _frequency(shelf, window),
        _lead_time(shelf, interval),
        FailureRate(Rate.among(tuple(f.release for f in failures), users), failures),
        _recovery(failures, shelf.loose.within(interval)),
        ReworkRate(Rate.among(tuple(r.release for r in rework), users), rework),
    )


def _frequency(shelf: Shelf, window: Window) -> Frequency:
    daily = tuple(
        Day(day, shelf.promoted.count(part), {s: n for s, those in shelf.standings.items() if (n := those.count(part))})
        for day, part in window.days()
    )
    keys = shelf.promoted.within(window.interval)
    days, busy = len(daily), sum(day.deployments > 0 for day in daily)
    return Frequency(
        len(keys), days, len(keys) / days if days else None, busy, 7 * busy / days if days >= 7 else None, daily, keys
    )


def _lead_time(shelf: Shelf, interval: Interval) -> LeadTime:
    deliveries = shelf.deliveries.within(interval)
    return LeadTime(
        shelf.lead.within(interval),
        shelf.since_commit.within(interval),
        {stage: samples.within(interval) for stage, samples in shelf.stages.items()},
        shelf.bake.within(interval),
        deliveries,
        tuple(d.change for d in deliveries if d.lead is None),
        shelf.untracked.within(interval),
    )


def _recovery(failures: tuple[Failure, ...], unlinked: tuple[str, ...]) -> Recovery:
    over = [(f, f.seconds) for f in failures if f.seconds is not None]
    return Recovery(
        _durations(over),
        _durations([(f, s) for f, s in over if not f.escaped]),
        _durations([(f, s) for f, s in over if f.escaped]),
        tuple(f.release for f in failures if f.open),
        tuple(f.release for f in failures if f.seconds is None and not f.open),
        unlinked,
    )


def _durations(over: list[tuple[Failure, int]]) -> Durations:
    return Durations.of((s for _, s in over), (f.release for f, _ in over))

"""One pass over one Canary: read, decide, make it so, in the order of rollout/order.py."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from serinus.analysis.verdict import Verdict
from serinus.api.base import FINALIZER, RETRY_ANNOTATION
from serinus.api.canary import Canary
from serinus.api.release import Release, ReleaseStatus
from serinus.controller import effects, looks, telemetry
from serinus.controller.queue import Key
from serinus.controller.record import begun, body, new_release, refused, summary
from serinus.controller.sources import Around, Sources
from serinus.controller.tell import Teller
from serinus.controller.world import World, at_rest, observation, read, releases, warm_at
from serinus.events.outbox import owed
from serinus.kube import CANARIES, RELEASES, AlreadyExists, Conflict, Kube, KubeError, NotFound, Object, Unreachable
from serinus.rollout import rest
from serinus.rollout.machine import Decision, Desired, Note, advance, alone
from serinus.rollout.order import writes
from serinus.workloads import deployment as workload

log = logging.getLogger("serinus.loop")

#: Seconds between passes while a release is under way; events and looks bring them sooner.
TICK = 1.0
#: Seconds between writes of a Release's status that says nothing new but numbers that grow, or nothing at all: so it is noticed
#: that somebody deleted it. A write that changes nothing costs the API server no new version.
REFRESH = 10.0
#: Stages whose passes need everything: the canary's objects are made or removed.
FULL = ("Preparing", "Cleaning", "Ended")


@dataclass
class Memo:
    """What this process knows of a Canary beside the API server. Losing it costs a read."""

    release: Release | None = None
    #: As the API server has it.
    stored: ReleaseStatus | None = None
    stored_at: float = 0.0
    looks: looks.Looks | None = None
    #: Somebody waits for a read of all releases: the process has just started, or one has ended.
    relist: bool = True
    last: Release | None = None
    versions: dict[str, str] = field(default_factory=dict)
    #: Decided, and not told yet: a pass whose writes were refused is made again without deciding the same again.
    notes: list[Note] = field(default_factory=list)


class _Deleted(Exception):
    """Somebody deleted the Release that is under way."""


class Loop:
    """The passes. `wake` asks for another one."""

    def __init__(
        self,
        kube: Kube,
        sources: Sources,
        teller: Teller,
        hold: rest.Hold,
        wake: Callable[[Key], None],
        progress: telemetry.Progress,
    ) -> None:
        self._kube, self._sources, self._teller, self._hold, self._wake = kube, sources, teller, hold, wake
        self._progress = progress
        self.memos: dict[Key, Memo] = {}

    async def run(self, key: Key) -> float | None:
        """One pass. Returns the seconds until the next, None when only an event brings it."""
        with telemetry.passes.time():
            raw = await self._kube.find(CANARIES, key.namespace, key.name)
            self._progress.answer()
            if raw is None:
                self._forget(key)
                return None
            memo = self.memos.setdefault(key, Memo())
            canary = Canary.model_validate(raw)
            try:
                return await self._pass(key, canary, memo)
            except _Deleted:
                log.info("%s/%s: somebody deleted the Release that was under way", *key)
                return 0.0
            except KubeError as error:
                if refusal(error):
                    await self._refused(canary, memo.release, str(error))
                raise

    async def _pass(self, key: Key, canary: Canary, memo: Memo) -> float | None:
        if memo.relist:
            await self._relist(canary, memo)
        if memo.release is not None:
            return await self._attempt(key, canary, memo, memo.release)
        return await self._rest(key, canary, memo)

    async def _refused(self, canary: Canary, release: Release | None, message: str) -> None:
        """A quota, another admission, a missing right: it is said where people look, once."""
        status = refused(canary, release, message, datetime.now(UTC))
        with suppress(KubeError):
            if await self._status(canary, status):
                self._teller.refused(canary, status["conditions"][0])

    def _forget(self, key: Key) -> None:
        memo = self.memos.pop(key, None)
        if memo is not None:
            if memo.looks:
                memo.looks.stop()
            telemetry.forget(*key)

    async def _relist(self, canary: Canary, memo: Memo) -> None:
        """Which attempt is under way, and which was the last."""
        known = await releases(self._kube, canary)
        active = [release for release in known if release.status.stage != "Ended"]
        memo.release = active[-1] if active else None
        memo.stored = memo.release.status.model_copy(deep=True) if memo.release else None
        if memo.release:
            memo.release.status = begun(memo.release)
        ended = [release for release in known if release.status.stage == "Ended"]
        memo.last = ended[-1] if ended else None
        self._teller.take_over(known)
        await self._teller.prune(canary, ended)
        memo.relist = False

    # ---- a release is under way ----

    async def _attempt(self, key: Key, canary: Canary, memo: Memo, release: Release) -> float | None:
        world, decision = await self._decide(memo, canary, release, release.status.stage in FULL)
        # A route that does not resolve may lack the canary's Service, which somebody took away: it is made again.
        if (decision.status.stage in FULL or world.route.problem) and not world.full:
            world, decision = await self._decide(memo, canary, release, True)
        if release.status.stage_since is None:  # also where it was created and the answer, or the process, was lost
            self._teller.began(canary, release, world.deployment, world.reached_by)
        again = await self._apply(canary, memo, release, world, decision)
        self._look(key, canary, memo, release, world)
        if release.status.stage == "Ended":
            memo.relist = True
            return 0.0
        if again:
            return 0.02
        return 0.1 if release.status.stage == "RollingBack" else TICK

    async def _decide(self, memo: Memo, canary: Canary, release: Release, full: bool) -> tuple[World, Decision]:
        """What is written is what was read says: never a decision of one reading into the objects of another."""
        world = await read(self._kube, canary, full, release)
        now = datetime.now(UTC)
        obs = observation(world, release, self._verdict(memo, canary, release), now)
        return world, advance(canary, release, obs, now)

    async def _apply(self, canary: Canary, memo: Memo, release: Release, world: World, decision: Decision) -> bool:
        """Makes it so, in order. True if the next look at it should be at once."""
        desired, status, router = decision.desired, decision.status, world.router
        again = status.stage != release.status.stage or status.step != release.status.step
        order = writes(decision, world.route.weight)
        for write in order:
            if write == "Take" and await router.take(desired.weight or 0):
                again = True
                if desired.weight == 0:
                    status.times.zero_written = status.times.zero_written or datetime.now(UTC)
            elif write == "Record":
                if "Give" in order:
                    status.routes = router.capture(status.routes)
                if status.stage == "Preparing" and not status.autoscalers:
                    status.autoscalers = effects.floors(world, release)
                # No more is given on what this process knew when it looked last: it may have been frozen since.
                asked = workload.replicas(world.canary_deployment) if world.canary_deployment else 0
                more = asked < (desired.pods or 0) if world.by_pods else world.route.weight < (desired.weight or 0)
                await self._record(memo, release, decision, again or more)
            elif write == "Objects":
                await self._objects(world, release, desired)
            elif write == "Target":
                await effects.target(self._kube, world, release, desired, self._hold, datetime.now(UTC))
            elif write == "Give" and (status.stage != "Preparing" or world.canary_service is not None):
                again = await router.write(desired.weight or 0) or again
            elif write == "Restore":
                again = await router.restore(status.routes) or again
            elif write == "Tell":
                await self._say(canary, memo, release, world, decision)
        return again

    async def _objects(self, world: World, release: Release, desired: Desired) -> None:
        if desired.pods is not None:
            await effects.canary_objects(self._kube, world, release, desired.pods)
            if release.status.stage == "Preparing":
                await effects.raise_floors(self._kube, world, release)
        elif world.full and world.route.restored:
            await effects.remove_canary(self._kube, world)
            await effects.give_back_floors(self._kube, world, release)

    async def _record(self, memo: Memo, release: Release, decision: Decision, moved: bool) -> None:
        """What was decided, on record. Where another process has written since, its word stands."""
        release.status, untold = decision.status, list(memo.notes)
        memo.notes += decision.notes
        release.status.events = owed(release)
        self._teller.stamp(release, release.status)
        try:
            await self._store(memo, release, moved)
        except Conflict:
            memo.notes, memo.relist = untold, True
            raise

    async def _store(self, memo: Memo, release: Release, moved: bool) -> None:
        """Writes the Release's status when it says something new; numbers that only grow, now and then."""
        loop_time = asyncio.get_running_loop().time()
        if memo.stored is not None and not moved:
            growing = {"evidence", "exposure", "why", "step_requests"}
            same = release.status.model_dump(exclude=growing) == memo.stored.model_dump(exclude=growing)
            if same and loop_time - memo.stored_at < REFRESH:
                return
        metadata = release.metadata
        operations: list[Object] = [
            {"op": "test", "path": "/metadata/resourceVersion", "value": metadata.resource_version},
            {"op": "add", "path": "/status", "value": release.status.dump()},
        ]
        try:
            written = await self._kube.patch(RELEASES, metadata.namespace, metadata.name, operations, "status")
        except NotFound:
            memo.notes, memo.relist = [], True
            raise _Deleted from None
        metadata.resource_version = written["metadata"]["resourceVersion"]
        memo.stored, memo.stored_at = release.status.model_copy(deep=True), loop_time

    async def _say(self, canary: Canary, memo: Memo, release: Release, world: World, decision: Decision) -> None:
        status = summary(canary, release, world, decision, datetime.now(UTC))
        await self._status(canary, status)
        self._teller.notes(canary, release, world.deployment, memo.notes)
        memo.notes = []
        self._teller.owe(release)

    async def _status(self, canary: Canary, status: dict[str, object]) -> bool:
        """Writes it if it says something new."""
        telemetry.show(canary.metadata.namespace, canary.metadata.name, str(status["phase"]), int(str(status["weight"])))
        new = status != canary.status.dump()
        if new:
            operation = {"op": "add", "path": "/status", "value": status}
            await self._kube.patch(CANARIES, canary.metadata.namespace, canary.metadata.name, [operation], "status")
        return new

    # ---- looks ----

    def _verdict(self, memo: Memo, canary: Canary, release: Release) -> Verdict | None:
        return memo.looks.verdict if memo.looks and memo.looks.answers(canary, release) else None

    def _look(self, key: Key, canary: Canary, memo: Memo, release: Release, world: World) -> None:
        if memo.looks and not memo.looks.answers(canary, release):
            memo.looks.stop()
            memo.looks = None
        side = looks.wanted(release)
        if side is None:
            return
        status = release.status
        around = Around(alone(canary, status), status.weight, warm_at(world, canary), world.exporter, world.selectors)
        if memo.looks is None:
            record = release.status.evidence
            memo.looks = looks.Looks(release.metadata.name, canary.metadata.generation, *side, record, around)
            looks.begin(memo.looks, self._kube, self._sources, canary, lambda: self._wake(key))
        memo.looks.around = around

    # ---- none is ----

    async def _rest(self, key: Key, canary: Canary, memo: Memo) -> float | None:
        world = await read(self._kube, canary, full=True)
        if memo.notes and memo.last:  # the answer to its last write was lost
            self._teller.notes(canary, memo.last, world.deployment, memo.notes)
            memo.notes = []
        if await effects.put_away(self._kube, world):
            return TICK
        if canary.metadata.deletion_timestamp is not None:
            if FINALIZER in canary.metadata.finalizers:
                await effects.let_go(self._kube, world)
            await effects.remove_canary(self._kube, world)
            await effects.drop_finalizer(self._kube, canary)
            return None
        await effects.thaw(self._kube, world)  # of a release that a process before this one ended
        seen = at_rest(world, memo.last)
        decision = rest.decide(canary, seen, self._hold, canary.metadata.annotations.get(RETRY_ANNOTATION, ""))
        if decision.reason not in ("TargetNotFound",) and not seen.problems:
            await effects.hold_finalizer(self._kube, canary)
            await effects.adopt(self._kube, world, decision.pause, decision.label)
        if decision.begin is not None and world.deployment is not None:
            release = new_release(canary, world, seen, decision.begin, datetime.now(UTC))
            try:
                created = await self._kube.create(RELEASES, canary.metadata.namespace, body(release))
                release.metadata.uid = created["metadata"]["uid"]
                release.metadata.resource_version = created["metadata"]["resourceVersion"]
            except AlreadyExists:
                memo.relist = True  # another process, or this one before it was stopped
                return TICK
            memo.release, memo.stored = release, None
            return 0.0
        await self._status(canary, summary(canary, memo.last, world, decision, datetime.now(UTC)))
        self._teller.resting(canary, decision)
        memo.versions = _versions(world)
        waiting = bool(seen.problems) or not seen.exists or (seen.serving and not seen.rolled_out)
        return 15.0 if waiting and decision.phase == "Adopting" else None


def refusal(error: KubeError) -> bool:
    """The API server will not take it until somebody mends something: not another writer, and no passing trouble."""
    passing = isinstance(error, NotFound | Conflict | Unreachable) or error.status in (408, 409, 429) or error.status >= 500
    return not passing or "too large" in str(error)


def _versions(world: World) -> dict[str, str]:
    """What a slow second look compares: an event that was missed shows here."""
    return {"deployment": (world.deployment or {}).get("metadata", {}).get("resourceVersion", "")}

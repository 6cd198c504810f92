"""Telling people and receivers, beside the loop and never in its way: Kubernetes events, the log, the outbox.

The outbox is `Release.status.events`. An event is sent when its traffic is safe, and stays there until every sink has taken
it; a process that is killed in between sends it again, with the same id.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any

import aiohttp

from serinus.api.canary import Canary
from serinus.api.release import OutboxEvent, Release, ReleaseStatus
from serinus.controller import telemetry
from serinus.controller.config import Config
from serinus.events import cdevents, kubernetes
from serinus.events.outbox import deliverable
from serinus.events.sink import HttpSink, backoff, pause
from serinus.kube import EVENTS, RELEASES, AlreadyExists, Kube, KubeError, NotFound, Object
from serinus.rollout.machine import Note
from serinus.rollout.rest import Rest

log = logging.getLogger("serinus.release")

#: Tries of one Kubernetes event: it is a courtesy, not a record.
TRIES = 3


class Teller:
    """One for the process."""

    def __init__(self, kube: Kube, session: aiohttp.ClientSession, config: Config) -> None:
        self._kube, self._config = kube, config
        self._sinks = [HttpSink(session, url, config.headers(url)) for url in config.sinks]
        self._tasks: set[asyncio.Task[None]] = set()
        self._releases: dict[str, Release] = {}
        self._delivering: set[str] = set()
        #: (release uid, event id) -> when every sink had taken it. Known here before it is written there.
        self._delivered: dict[tuple[str, str], datetime] = {}
        self._said: dict[tuple[str, str], str] = {}

    # ---- people ----

    def began(self, canary: Canary, release: Release, deployment: Object | None, reached_by: list[str]) -> None:
        """A release was created. `reached_by`: the Services that no weight keeps from its pods."""
        spec = release.spec
        images = ", ".join(spec.images)
        message = f"{spec.revision} ({images}) is held and gets traffic step by step; {spec.serving_revision} serves"
        if release.status.outcome == "Skipped":
            message = f"{spec.revision} ({images}) goes out without judgement: {release.status.why}"
        notes = [Note("NewVersion", message)]
        if reached_by:
            whose = f"Service {', '.join(reached_by)} selects the canary's pods too: they get its requests whatever the weight"
            mend = f"let it select by a label by which Service {canary.spec.service.name} and the Deployment select"
            notes.append(Note("CanaryReached", f"{whose}; {mend}", "Warning"))
        self.notes(canary, release, deployment, notes)

    def notes(self, canary: Canary, release: Release, deployment: Object | None, notes: list[Note]) -> None:
        """One line in the log and an event on the Canary and on the Deployment for each."""
        for note in notes:
            data = {
                "canary": f"{canary.metadata.namespace}/{canary.metadata.name}",
                "release": release.metadata.name,
                "stage": release.status.stage,
                "weight": release.status.weight,
                "reason": note.reason,
            }
            log.log(logging.WARNING if note.type == "Warning" else logging.INFO, note.message, extra={"data": data})
            for about in _subjects(canary, deployment):
                self._spawn(
                    self._event(
                        about, note, release.metadata.uid, f"{note.reason}/{release.status.step}/{release.status.route_reverts}"
                    )
                )
        if release.status.stage == "Ended":
            self._ended(canary, release)

    def _ended(self, canary: Canary, release: Release) -> None:
        times, outcome = release.status.times, str(release.status.outcome)
        telemetry.releases.labels(canary.metadata.namespace, canary.metadata.name, outcome).inc()
        if outcome == "RolledBack" and times.decided and times.zero_verified and times.first_exposed:
            telemetry.rollback.observe((times.zero_verified - times.decided).total_seconds())
            telemetry.exposed.observe((times.zero_verified - times.first_exposed).total_seconds())

    def resting(self, canary: Canary, decision: Rest) -> None:
        """What stops adoption, once."""
        key = (canary.metadata.namespace, canary.metadata.name)
        said, self._said[key] = self._said.get(key), decision.reason
        if said == decision.reason or decision.phase != "Adopting":
            return
        log.warning(decision.why, extra={"data": {"canary": "/".join(key), "reason": decision.reason}})
        self._spawn(self._event(_subjects(canary, None)[0], Note(decision.reason, decision.why, "Warning"), "", ""))

    def refused(self, canary: Canary, condition: Object) -> None:
        """A write of ours was not taken; the queue has it in the log."""
        note = Note(condition["reason"], condition["message"], "Warning")
        self._spawn(self._event(_subjects(canary, None)[0], note, "", ""))

    async def _event(self, about: Object, note: Note, release: str, key: str) -> None:
        now, me = datetime.now(UTC), self._config.identity
        body = kubernetes.event(about, note.reason, note.message, note.type, release, now, me, key)
        for _ in range(TRIES):
            try:
                await self._kube.create(EVENTS, about["namespace"], body)
            except (AlreadyExists, NotFound):
                return
            except KubeError as error:
                log.debug("event %s: %s", note.reason, error)
                await asyncio.sleep(1)
            else:
                return

    # ---- receivers ----

    def stamp(self, release: Release, status: ReleaseStatus) -> None:
        """Writes what is known to be delivered into a status that is about to be stored."""
        for event in status.events:
            event.delivered_at = event.delivered_at or self._delivered.get((release.metadata.uid, event.id))

    def owe(self, release: Release) -> None:
        """Sees to it that the release's events are sent."""
        uid = release.metadata.uid
        # As it is on record: what a pass decides next is not, until that is stored. The version stays the loop's.
        self._releases[uid] = release.model_copy(update={"status": release.status.model_copy(deep=True)})
        if self._sinks and uid not in self._delivering and any(e.delivered_at is None for e in deliverable(release)):
            self._delivering.add(uid)
            self._spawn(self._deliver(uid))
        elif uid not in self._delivering:
            self._settled(release)

    def take_over(self, known: list[Release]) -> None:
        """What a process before this one left unsent."""
        for release in known:
            self.owe(release)

    async def prune(self, canary: Canary, ended: list[Release]) -> None:
        """Removes the oldest beyond the limit, never one whose events are still owed."""
        surplus = ended[: max(0, len(ended) - canary.spec.release_history_limit)]
        for release in surplus:
            if not self._sinks or all(event.delivered_at for event in release.status.events):
                await self._kube.delete(RELEASES, release.metadata.namespace, release.metadata.name, release.metadata.uid)

    async def _deliver(self, uid: str) -> None:
        """In order, each to every sink, for as long as it takes."""
        try:
            while (release := self._releases.get(uid)) is not None:
                due = [e for e in deliverable(release) if not (e.delivered_at or (uid, e.id) in self._delivered)]
                if not due:
                    return
                await self._send(release, due[0])
                await self._mark(release, due[0])
        finally:
            self._delivering.discard(uid)
            if (latest := self._releases.get(uid)) is not None:
                self._settled(latest)

    def _settled(self, release: Release) -> None:
        """Forgets one that has ended, and what was delivered of it once all of that is on record."""
        if release.status.stage == "Ended":
            uid = release.metadata.uid
            self._releases.pop(uid, None)
            if all(event.delivered_at for event in release.status.events):
                self._delivered = {key: when for key, when in self._delivered.items() if key[0] != uid}

    async def _send(self, release: Release, event: OutboxEvent) -> None:
        cdevent = cdevents.build(event, release, self._config.cluster)
        await asyncio.gather(*(self._until_taken(sink, cdevent) for sink in self._sinks))
        telemetry.delivered.labels(event.type).inc()
        log.info("event delivered", extra={"data": {"release": release.metadata.name, "type": event.type, "id": event.id}})

    async def _until_taken(self, sink: HttpSink, cdevent: Object) -> None:
        attempt = 1
        while (delivery := await sink.deliver(cdevent)).result != "taken":
            telemetry.errors.labels("sink").inc()
            await asyncio.sleep(pause(delivery, attempt, cdevent["context"]["id"]))
            attempt += 1

    async def _mark(self, release: Release, event: OutboxEvent, attempt: int = 1) -> None:
        """Writes down that it was taken. The next event does not wait for that when it fails."""
        now = self._delivered.setdefault((release.metadata.uid, event.id), datetime.now(UTC))
        known = self._releases.get(release.metadata.uid)
        current = known or release
        index = [e.id for e in current.status.events].index(event.id)
        stamped = event.model_copy(update={"delivered_at": now}).dump()["deliveredAt"]
        operations = [
            {"op": "test", "path": f"/status/events/{index}/id", "value": event.id},
            {"op": "add", "path": f"/status/events/{index}/deliveredAt", "value": stamped},
        ]
        if known is not None:  # else the loop's next write would pass for one that follows what another process wrote
            version = known.metadata.resource_version
            operations.insert(0, {"op": "test", "path": "/metadata/resourceVersion", "value": version})
        try:
            written = await self._kube.patch(RELEASES, release.metadata.namespace, release.metadata.name, operations, "status")
            current.metadata.resource_version = written["metadata"]["resourceVersion"]
            for entry in current.status.events:
                entry.delivered_at = now if entry.id == event.id else entry.delivered_at
        except NotFound:
            return
        except KubeError as error:  # a release that has ended is not stored again: without the mark it is never pruned
            log.info("%s: delivery not marked: %s", release.metadata.name, error)
            self._spawn(self._mark_later(release, event, attempt))

    async def _mark_later(self, release: Release, event: OutboxEvent, attempt: int) -> None:
        await asyncio.sleep(backoff(attempt, event.id))
        await self._mark(release, event, attempt + 1)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """What is not delivered stays in the outbox."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _subjects(canary: Canary, deployment: Object | None) -> list[Object]:
    """Object references for events."""
    about = [
        {
            "apiVersion": "serinus.dev/v1alpha1",
            "kind": "Canary",
            "namespace": canary.metadata.namespace,
            "name": canary.metadata.name,
            "uid": canary.metadata.uid,
        }
    ]
    if deployment is not None:
        metadata = deployment["metadata"]
        reference = {key: metadata[key] for key in ("namespace", "name", "uid")}
        about.append({"apiVersion": "apps/v1", "kind": "Deployment", **reference})
    return about

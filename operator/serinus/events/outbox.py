"""Which events a release owes, and which of them may go out. Pure.

The outbox is ``Release.status.events``: written in the same patch as the decision that it tells of, so no event is lost and
none is invented. Delivery is at least once; ids are derived from the release, so a receiver can drop repeats.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import datetime

from serinus.api.release import EventType, OutboxEvent, Release

#: The namespace of all ids: a name-based UUID (RFC 9562, version 5) of the group's name.
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "serinus.dev")

#: A version that went back after harm, or that a person or a newer version ended while it was exposed.
_WENT_BACK = ("RolledBack", "Aborted", "Superseded")


def event_id(release_uid: str, event_type: EventType) -> str:
    """The id of one release's event of one type: always the same UUID."""
    return str(uuid.uuid5(_NAMESPACE, f"{release_uid}/{event_type}"))


def chain_id(release_uid: str) -> str:
    """The CDEvents chain that all events of one release belong to."""
    return str(uuid.uuid5(_NAMESPACE, f"{release_uid}/chain"))


def owed(release: Release) -> list[OutboxEvent]:
    """Everything the release owes so far, in the order of delivery, with what is recorded of it already.

    To be stored as ``status.events``. Never drops or changes what is recorded.

    - ``deployed``: its first users reached it (not for a mere restart).
    - ``upgraded``: it was promoted (likewise).
    - ``incident.detected``, ``incident.resolved``: it was exposed, went back, and there was evidence of harm.
    - ``rolledback``: it was exposed and its traffic is back, whatever the reason.
    """
    recorded = {event.type: event for event in release.status.events}
    due = dict(_due(release))
    types: list[EventType] = ["deployed", "upgraded", "incident.detected", "rolledback", "incident.resolved"]
    result = []
    for name in types:
        if name in recorded:
            result.append(recorded[name])
        elif name in due:
            result.append(OutboxEvent(type=name, id=event_id(release.metadata.uid, name), at=due[name]))
    return result


def deliverable(release: Release) -> list[OutboxEvent]:
    """The recorded events that may go out now, in order; each only after those before it have been taken.

    Nothing that tells of a failure goes out before traffic is seen to be safe: telling is never in the way of a rollback.
    """
    safe = release.status.times.zero_verified is not None
    result = []
    for event in release.status.events:
        if event.delivered_at is not None:
            continue
        if event.type in ("rolledback", "incident.detected", "incident.resolved") and not safe:
            break
        result.append(event)
    return result


def _due(release: Release) -> Iterator[tuple[EventType, datetime]]:
    status, times = release.status, release.status.times
    deploys = release.spec.kind != "Restart"  # the same version in new pods: no deployment, though it can fail like one
    if deploys and times.first_exposed is not None:
        yield "deployed", times.first_exposed
    if deploys and times.promoted is not None and status.outcome not in _WENT_BACK:
        yield "upgraded", times.promoted
    if times.first_exposed is None or status.outcome not in _WENT_BACK:
        return
    harmed = status.outcome == "RolledBack" or any(e.verdict == "Fail" for e in status.evidence)
    detected = times.decided or times.zero_written or times.zero_verified
    if harmed and detected is not None:
        yield "incident.detected", detected
    if times.zero_verified is not None:
        yield "rolledback", times.zero_verified
        if harmed:
            yield "incident.resolved", times.zero_verified

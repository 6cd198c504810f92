"""CDEvents v0.5.1 about a release, in CloudEvents 1.0. Pure: the same release gives the same bytes.

https://github.com/cdevents/spec/tree/v0.5.1. The schemas are closed; what they have no place for stands in ``customData``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from cloudevents.core.bindings.http import HTTPMessage, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from serinus.api.release import EventType, OutboxEvent, Release, Times
from serinus.events.artifact import purl
from serinus.events.outbox import chain_id, event_id, owed

SPEC_VERSION = "0.5.1"
CONTENT_TYPE = "application/cloudevents+json"

_TYPES: dict[EventType, str] = {
    "deployed": "dev.cdevents.service.deployed.0.3.0",
    "upgraded": "dev.cdevents.service.upgraded.0.3.0",
    "rolledback": "dev.cdevents.service.rolledback.0.3.0",
    "incident.detected": "dev.cdevents.incident.detected.0.3.0",
    "incident.resolved": "dev.cdevents.incident.resolved.0.3.0",
}
#: What led to an event (PATH: the nearest of these that the release has).
_BEFORE: dict[EventType, tuple[EventType, ...]] = {
    "deployed": (),
    "upgraded": ("deployed",),
    "incident.detected": ("upgraded", "deployed"),
    "rolledback": ("incident.detected", "upgraded", "deployed"),
    "incident.resolved": ("rolledback", "incident.detected"),
}
#: What it is about (RELATION).
_ABOUT: dict[EventType, tuple[str, tuple[EventType, ...]]] = {
    "incident.detected": ("CAUSED_BY", ("upgraded", "deployed")),
    "rolledback": ("REVERTS", ("upgraded", "deployed")),
    "incident.resolved": ("RESOLVES", ("incident.detected",)),
}


def build(event: OutboxEvent, release: Release, cluster: str) -> dict[str, Any]:
    """The CDEvent as JSON data. `cluster` is the name by which receivers tell clusters apart.

    ``rolledback`` and ``incident.resolved`` name the artifact that serves afterwards, as the specification has it ("deployed
    with this service"); the others name the new one. ``customData.serinus`` has both.
    """
    source = f"/serinus/{quote(cluster, safe='')}"
    return {
        "context": {
            "specversion": SPEC_VERSION,
            "id": event.id,
            "source": source,
            "type": _TYPES[event.type],
            "timestamp": _rfc3339(event.at),
            "chainId": chain_id(release.metadata.uid),
            "links": _links(event, release),
        },
        "subject": _subject(event, release, source),
        "customData": {"serinus": _details(event, release)},
        "customDataContentType": "application/json",
    }


def to_cloudevent(cdevent: dict[str, Any]) -> HTTPMessage:
    """The CDEvent as an HTTP request in CloudEvents' structured mode: ``headers`` and ``body``."""
    context = cdevent["context"]
    attributes = {
        "specversion": "1.0",
        "id": context["id"],
        "source": context["source"],
        "type": context["type"],
        "subject": cdevent["subject"]["id"],
        "time": datetime.fromisoformat(context["timestamp"]),
        "datacontenttype": "application/json",
    }
    return to_structured(CloudEvent(attributes, cdevent), JSONFormat())


def _links(event: OutboxEvent, release: Release) -> list[dict[str, Any]]:
    there = {e.type for e in owed(release)}
    links: list[dict[str, Any]] = []
    before = next((t for t in _BEFORE[event.type] if t in there), None)
    if before is not None:
        links.append({"linkType": "PATH", "from": {"contextId": event_id(release.metadata.uid, before)}})
    kind, candidates = _ABOUT.get(event.type, ("", ()))
    about = next((t for t in candidates if t in there), None)
    if about is not None:
        target = {"contextId": event_id(release.metadata.uid, about)}
        links.append({"linkType": "RELATION", "linkKind": kind, "target": target})
    return links


def _subject(event: OutboxEvent, release: Release, source: str) -> dict[str, Any]:
    namespace = release.metadata.namespace
    service = f"{namespace}/{release.spec.target.name}"
    environment = {"id": namespace, "source": source}
    after = event.type in ("rolledback", "incident.resolved")
    artifact = _artifact(release, serving=after)
    if not event.type.startswith("incident."):
        return {"id": service, "source": source, "content": {"environment": environment, "artifactId": artifact}}
    return {
        "id": f"{namespace}/{release.metadata.name}",
        "source": source,
        "content": {
            "description": release.status.why or release.status.reason or "the new version did harm",
            "environment": environment,
            "service": {"id": service, "source": source},
            "artifactId": artifact,
        },
    }


def _artifact(release: Release, *, serving: bool) -> str:
    template = release.spec.serving_template if serving else release.spec.template
    images = _images(template)
    if not serving:
        # The release's own list may have digests where the template has tags.
        images = release.spec.images or images
    if images:
        return purl(images[0])
    revision = release.spec.serving_revision if serving else release.spec.revision
    return f"pkg:generic/{release.spec.target.name}" + (f"@{quote(revision, safe='')}" if revision else "")


def _images(template: dict[str, Any]) -> list[str]:
    spec = template.get("spec")
    containers = spec.get("containers") if isinstance(spec, dict) else None
    return [str(c["image"]) for c in containers or [] if isinstance(c, dict) and c.get("image")]


def _details(event: OutboxEvent, release: Release) -> dict[str, Any]:
    """What CDEvents have no place for. Of ``deployed`` only what was known then, so that a late repeat says the same."""
    spec, status = release.spec, release.status
    details: dict[str, Any] = {
        "release": release.metadata.name,
        "releaseUid": release.metadata.uid,
        "namespace": release.metadata.namespace,
        "canary": spec.canary,
        "deployment": spec.target.name,
        "kind": spec.kind,
        "attempt": spec.attempt,
        "revision": spec.revision,
        "servingRevision": spec.serving_revision,
        "artifactId": _artifact(release, serving=False),
        "servingArtifactId": _artifact(release, serving=True),
        "commit": spec.commit,
        "repository": spec.repository,
        "changedBy": spec.changed_by,
        "times": {"requested": _rfc3339(spec.requested_at), **_times(status.times, event)},
    }
    if event.type != "deployed":
        details |= {
            "outcome": status.outcome,
            "reason": status.reason,
            "why": status.why,
            "exposed": status.times.first_exposed is not None,
            "exposure": status.exposure.dump(),
            "steps": [step.dump() for step in status.steps],
            "evidence": [evidence.dump() for evidence in status.evidence],
        }
    return details


def _times(times: Times, event: OutboxEvent) -> dict[str, str]:
    """The moments up to the event, by their names in the Release."""
    moments = [(field.alias or name, getattr(times, name)) for name, field in Times.model_fields.items()]
    return {name: _rfc3339(moment) for name, moment in moments if moment is not None and moment <= event.at}


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

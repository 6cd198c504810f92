"""PagerDuty's webhooks, version 3. Pure.

https://developer.pagerduty.com/docs/webhooks-overview; signatures: https://developer.pagerduty.com/docs/verifying-webhook-signatures.
"""

from __future__ import annotations

from pydantic import Field

from serinus.dora.facts import Fact, IncidentSays
from serinus.dora.intake.received import (
    Headers,
    Payload,
    Perhaps,
    Refused,
    Secret,
    Telling,
    Text,
    When,
    configured,
    digest,
    header,
    mapping,
    parse,
    read,
    refusing,
    same,
    signature,
)
from serinus.dora.intake.settings import Settings

SOURCE = "pagerduty"
#: Signatures of one header that are looked at: while a secret is changed there are two.
_MOST = 8


class Reference(Payload):
    """Something named elsewhere."""

    summary: Text = ""


class Incident(Payload):
    """As it is after the event."""

    id: str = Field(min_length=1, max_length=128)
    title: Text = ""
    html_url: Text = ""
    urgency: Text = ""
    created_at: Perhaps = None
    service: Reference | None = None
    priority: Reference | None = None


class Kind(Payload):
    """What the event is about: incident, incident_note, service and others."""

    type: Text = ""


class Event(Payload):
    """What every event has."""

    id: str = Field(min_length=1, max_length=128)
    event_type: str
    occurred_at: When
    data: Kind | None = None


def verify(headers: Headers, body: bytes, secret: Secret) -> None:
    """Raises Refused(401) unless one of the signatures ``v1=<hex>[,v1=<hex>]`` is the body's, by `secret`."""
    configured(secret)
    given = [part.strip().partition("=") for part in header(headers, "X-PagerDuty-Signature").split(",")[:_MOST]]
    signatures = [value for version, _, value in given if version == "v1" and value]
    if not signatures:
        raise Refused(401, "the header X-PagerDuty-Signature: v1=<hex> is needed")
    expected = signature(body, secret)
    if not any(same(value, expected) for value in signatures):
        raise Refused(401, "X-PagerDuty-Signature has no signature of this body by the secret that was configured")


def delivered(headers: Headers, body: bytes) -> str:
    """The id by which a repeat is known: what is signed. ``X-Webhook-Id`` is not."""
    return digest(body)


@refusing
def facts(headers: Headers, body: bytes, settings: Settings) -> list[Fact]:
    """What the event says; nothing where it is not about an incident itself. Raises Refused."""
    data = mapping(mapping(parse(body)).get("event"), "event")
    event = read(Event, data, "event")
    if event.data is None or event.data.type != "incident" or not event.event_type.startswith("incident."):
        return []
    incident, at = read(Incident, data["data"], "event.data"), event.occurred_at
    triggered = event.event_type == "incident.triggered"
    began = incident.created_at or (at if triggered else None)
    severity = (incident.priority.summary if incident.priority else "") or incident.urgency
    says = IncidentSays(
        service=incident.service.summary if incident.service else "",
        title=incident.title,
        url=incident.html_url,
        severity=severity,
        began=began,
        detected=began,
        resolved=at if event.event_type == "incident.resolved" else None,
        reopened=at if event.event_type == "incident.reopened" else None,
    )
    telling = Telling(SOURCE, event.id)
    telling.say(at, incident.id, says)
    return telling.facts

"""Alertmanager's webhook, version 4. Pure.

https://prometheus.io/docs/alerting/latest/configuration/#webhook_config. Each alert of a group is an incident; its key is its
fingerprint and startsAt, so that an alert that fires again is another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

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
    at_most,
    bearer,
    digest,
    mapping,
    parse,
    read,
    refusing,
)
from serinus.dora.intake.settings import Settings

SOURCE = "alertmanager"


class Alert(Payload):
    """While it fires, endsAt is when it would be taken for resolved."""

    status: Literal["firing", "resolved"]
    labels: Annotated[dict[str, str], at_most(500)] = Field(default_factory=dict)
    annotations: Annotated[dict[str, str], at_most(500)] = Field(default_factory=dict)
    startsAt: When  # noqa: N815
    endsAt: Perhaps = None  # noqa: N815
    generatorURL: Text = ""  # noqa: N815
    fingerprint: str = Field(min_length=1, max_length=128)


class Group(Payload):
    """A notification. What truncatedAlerts counts comes with none: raise max_alerts, or leave it 0."""

    version: Literal["4"]
    alerts: Annotated[list[Alert], at_most(5000)]


def verify(headers: Headers, body: bytes, secret: Secret) -> None:
    """Raises Refused(401) unless the token is there (``http_config.authorization.credentials``)."""
    bearer(headers, secret)


def delivered(headers: Headers, body: bytes) -> str:
    """The body's digest: notifications have no id."""
    return digest(body)


@refusing
def facts(headers: Headers, body: bytes, settings: Settings) -> list[Fact]:
    """Began and resolved, of each alert; a repeated notification says the same. Raises Refused."""
    group = read(Group, mapping(parse(body)))
    telling = Telling(SOURCE, delivered(headers, body))
    for number, alert in enumerate(group.alerts):
        if alert.labels.get(settings.severity_label, "") not in settings.ignored_severities:
            _say(telling, number, alert, settings)
    return telling.facts


def _say(telling: Telling, number: int, alert: Alert, settings: Settings) -> None:
    resolved = alert.endsAt if alert.status == "resolved" else None
    if alert.status == "resolved" and resolved is None:
        raise Refused(422, f"alerts.{number}.endsAt: a resolved alert needs it")
    starts = alert.startsAt.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    key = f"{alert.fingerprint}/{starts}"
    says = IncidentSays(
        service=_service(alert.labels, settings),
        environment=_first(alert.labels, settings.environment_labels),
        title=alert.annotations.get("summary") or alert.labels.get("alertname", ""),
        url=alert.generatorURL if len(alert.generatorURL) <= 512 else "",
        severity=alert.labels.get(settings.severity_label, ""),
        began=alert.startsAt,
        detected=alert.startsAt,
        resolved=resolved,
    )
    telling.put(f"{key}/{alert.status}", resolved or alert.startsAt, key, says)


def _service(labels: Mapping[str, str], settings: Settings) -> str:
    name, namespace = _first(labels, settings.service_labels), labels.get(settings.namespace_label, "")
    return f"{namespace}/{name}" if name and namespace and "/" not in name else name


def _first(labels: Mapping[str, str], names: Sequence[str]) -> str:
    return next((labels[name] for name in names if labels.get(name)), "")

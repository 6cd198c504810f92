"""Alertmanager's and PagerDuty's webhooks as facts."""

from __future__ import annotations

from typing import Any

import pytest
from tests.bodies import SECRET, alerts, encoded, hmac_of, incident

from serinus.dora.facts import Fact, IncidentSays, known
from serinus.dora.intake import READERS, Refused, Settings


def alertmanager(body: Any, **settings: Any) -> list[Fact]:
    return READERS["alertmanager"].facts({}, encoded(body), Settings(**settings))


def pagerduty(body: Any) -> list[Fact]:
    return READERS["pagerduty"].facts({}, encoded(body), Settings())


def says(facts: list[Fact]) -> IncidentSays:
    (fact,) = facts
    assert isinstance(fact.says, IncidentSays)
    return fact.says


def at(clock: str) -> Any:
    return IncidentSays.model_validate({"began": f"2026-11-27T{clock}Z"}).began


BEGAN = "09:10:00.123456"


def test_an_alert_that_fires():
    (fact,) = alertmanager(alerts())
    assert (fact.source, fact.key, fact.at) == ("alertmanager", "9a3f/2026-11-27T09:10:00.123456Z", at(BEGAN))
    assert fact.says == IncidentSays(
        service="shop/checkout",
        environment="shop",
        title="5 % of requests fail",
        url="http://prometheus/graph",
        severity="page",
        began=at(BEGAN),
        detected=at(BEGAN),
    )


def test_an_alert_that_is_over_is_the_same_incident():
    facts = alertmanager(alerts("resolved", "2026-11-27T09:14:00Z")) + alertmanager(alerts())
    (one,) = known(facts, IncidentSays).values()
    assert (one.says.began, one.says.resolved) == (at(BEGAN), at("09:14:00"))


def test_the_end_of_an_alert_that_fires_is_a_guess_and_no_end():
    assert says(alertmanager(alerts("firing", "2026-11-27T09:14:00Z"))).resolved is None


def test_a_repeated_notification_says_the_same():
    body = alerts()
    again = body | {"groupKey": "another", "truncatedAlerts": 0}
    (first,), (second,) = alertmanager(body), alertmanager(again)
    assert (first.source, first.id) == (second.source, second.id)


def test_an_alert_that_fires_again_is_another_incident():
    later = alerts()
    later["alerts"][0]["startsAt"] = "2026-11-27T11:00:00Z"
    assert len(known(alertmanager(alerts()) + alertmanager(later), IncidentSays)) == 2


@pytest.mark.parametrize("severity", ["none", "info"])
def test_what_only_informs_is_no_incident(severity):
    assert alertmanager(alerts(severity=severity)) == []
    assert alertmanager(alerts(severity=severity), ignored_severities=[]) != []


def test_labels_can_be_named():
    body = alerts(team_service="prices", stage="prod", prio="1")
    found = says(
        alertmanager(
            body, service_labels=("team_service",), environment_labels=("stage",), namespace_label="", severity_label="prio"
        )
    )
    assert (found.service, found.environment, found.severity) == ("prices", "prod", "1")


def test_a_service_that_has_its_namespace_already_and_one_that_has_none():
    assert says(alertmanager(alerts(service="shop/checkout"))).service == "shop/checkout"
    assert says(alertmanager(alerts(namespace=""))).service == "checkout"
    body = alerts()
    body["alerts"][0]["labels"] = {"alertname": "Errors"}
    found = says(alertmanager(body))
    assert (found.service, found.environment) == ("", "")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": "3"}, "422: version: Input should be '4'"),
        ({"alerts": None}, "422: alerts: Input should be a valid list, and this is null"),
        ({"alerts": [{}]}, "422: alerts.0.status: Field required"),
    ],
)
def test_another_version_is_refused(change, reason):
    with pytest.raises(Refused) as caught:
        alertmanager(alerts() | change)
    assert str(caught.value).startswith(reason)


def test_an_alert_that_is_over_needs_its_end():
    with pytest.raises(Refused, match=r"422: alerts.0.endsAt: a resolved alert needs it"):
        alertmanager(alerts("resolved"))


# --- PagerDuty


def test_an_incident_that_was_triggered():
    (fact,) = pagerduty(incident())
    assert (fact.source, fact.id, fact.key) == ("pagerduty", "01-incident.triggered-2026-11-27T09:10:00Z", "PT4KHLK")
    assert fact.says == IncidentSays(
        service="checkout",
        title="Checkout is down",
        url="https://shop.pagerduty.com/incidents/PT4KHLK",
        severity="P1",
        began=at("09:09:00"),
        detected=at("09:09:00"),
    )


def test_an_incident_from_its_beginning_to_its_end_in_any_order():
    bodies = [
        incident(),
        incident("incident.acknowledged", "2026-11-27T09:11:00Z"),
        incident("incident.resolved", "2026-11-27T09:20:00Z"),
        incident("incident.reopened", "2026-11-27T09:25:00Z"),
    ]
    facts = [fact for body in bodies for fact in pagerduty(body)]
    for order in (facts, facts[::-1]):
        found = known(order, IncidentSays)["PT4KHLK"].says
        assert (found.began, found.detected) == (at("09:09:00"), at("09:09:00"))
        assert (found.resolved, found.reopened) == (at("09:20:00"), at("09:25:00"))


def test_without_a_priority_the_urgency_is_how_bad_it_is():
    assert says(pagerduty(incident(priority=None))).severity == "high"
    assert says(pagerduty(incident(priority=None, urgency=None, service=None))).severity == ""


def test_an_incident_that_was_triggered_before_its_creation_was_told():
    assert says(pagerduty(incident(created_at=None))).began == at("09:10:00")
    assert says(pagerduty(incident("incident.acknowledged", created_at=None))).began is None


@pytest.mark.parametrize(
    "body",
    [
        incident("pagey.ping", type="ping"),
        incident("service.updated", type="service"),
        incident("incident.annotated", type="incident_note"),
        {"event": {"id": "1", "event_type": "pagey.ping", "occurred_at": "2026-11-27T09:10:00Z", "data": None}},
    ],
)
def test_events_about_something_else_say_nothing(body):
    assert pagerduty(body) == []


def test_one_of_several_signatures_is_enough():
    body = encoded(incident())
    for value in (f"v1={'0' * 64},v1={hmac_of(body)}", f"v0=x, v1={hmac_of(body)}"):
        assert READERS["pagerduty"].receive({"X-PagerDuty-Signature": value}, body, SECRET)
    for value in (f"v2={hmac_of(body)}", "v1=", ",", ",".join(["v1=0"] * 1000 + [f"v1={hmac_of(body)}"])):
        with pytest.raises(Refused, match="401"):
            READERS["pagerduty"].receive({"X-PagerDuty-Signature": value}, body, SECRET)


def test_a_body_without_an_event_is_refused():
    with pytest.raises(Refused, match=r"422: event: expected an object, and this is null"):
        pagerduty({"messages": []})
    with pytest.raises(Refused, match=r"422: event.data.id: Input should be a valid string, and this is a number"):
        pagerduty(incident(id=7))

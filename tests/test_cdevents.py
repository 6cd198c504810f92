"""Events about a release: which are owed, what they say, and whether the published schemas accept them."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_structured
from cloudevents.core.formats.json import JSONFormat
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource

from serinus.api.release import OutboxEvent, Release
from serinus.events.artifact import purl
from serinus.events.cdevents import build, to_cloudevent
from serinus.events.kubernetes import cut, event
from serinus.events.outbox import chain_id, deliverable, event_id, owed

ROOT = Path(__file__).resolve().parents[1]
SPEC = Path(os.environ.get("CDEVENTS_SPEC_DIR") or ROOT / "../shared/data/cdevents-v0.5.1")
NOW = datetime(2026, 3, 1, 10, 0, tzinfo=UTC)
DIGEST = "sha256:" + "0b" * 32
OLD = "sha256:" + "1c" * 32

FORMATS = FormatChecker()


@FORMATS.checks("date-time")
def is_date_time(value: object) -> bool:
    return not isinstance(value, str) or bool(
        re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", value) and datetime.fromisoformat(value)
    )


@FORMATS.checks("uri-reference")
def is_uri_reference(value: object) -> bool:
    return not isinstance(value, str) or bool(re.fullmatch(r"([A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*", value))


@FORMATS.checks("uri")
def is_uri(value: object) -> bool:
    return is_uri_reference(value) and (not isinstance(value, str) or bool(re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", value)))


@pytest.fixture(scope="session")
def schemas() -> dict[str, Draft202012Validator]:
    """A validator by event type; the schemas refer to one another by $id, so all of them are in one registry."""
    if not SPEC.is_dir():
        pytest.skip(f"the CDEvents schemas are not there: set CDEVENTS_SPEC_DIR (looked in {SPEC.name})")
    contents = [json.loads(path.read_text()) for path in sorted((SPEC / "schemas").rglob("*.json"))]
    registry: Registry[Any] = Registry().with_resources([(c["$id"], Resource.from_contents(c)) for c in contents])
    found = {}
    for content in contents:
        types = content["properties"].get("context", {}).get("properties", {}).get("type", {}).get("enum", []) if (
            "properties" in content
        ) else []  # fmt: skip
        for name in types:
            found[name] = Draft202012Validator(content, registry=registry, format_checker=FORMATS)
    assert len(found) > 40
    return found


def at(seconds: float) -> str:
    return (NOW + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def release(times: dict[str, float] | None = None, spec: dict[str, Any] | None = None, **status: Any) -> Release:
    return Release.model_validate(
        {
            "metadata": {"name": "checkout-7d2e-1", "namespace": "shop", "uid": "7b0f0c2e-0000-4000-8000-000000000001"},
            "spec": {
                "canary": "checkout",
                "target": {"name": "checkout", "uid": "u", "generation": 3},
                "revision": "9c1f",
                "servingRevision": "7d2e",
                "template": {"spec": {"containers": [{"name": "app", "image": "registry.example/shop/checkout:2"}]}},
                "servingTemplate": {"spec": {"containers": [{"name": "app", "image": f"registry.example/shop/checkout@{OLD}"}]}},
                "images": [f"registry.example:5000/shop/checkout:2@{DIGEST}"],
                "commit": "abc",
                "requestedAt": at(0),
                **(spec or {}),
            },
            "status": {"times": {k: at(v) for k, v in (times or {}).items()}, **status},
        }
    )


BAD = {"canaryReady": 2, "firstExposed": 3, "faultBegan": 4, "decided": 8, "zeroWritten": 8.1, "zeroVerified": 8.5}
EVIDENCE = [{"metric": "errors", "verdict": "Fail", "bad": 10, "total": 30, "sentence": "errors 33 % of 30 requests"}]


def rolled_back(**status: Any) -> Release:
    return release(BAD, outcome="RolledBack", why="errors 33 % of 30 requests", evidence=EVIDENCE, stage="Keeping", **status)


def promoted() -> Release:
    return release({"canaryReady": 2, "firstExposed": 3, "promoted": 60, "zeroVerified": 70}, outcome="Promoted", stage="Ended")


# --- what is owed


def types(rel: Release) -> list[str]:
    return [e.type for e in owed(rel)]


@pytest.mark.parametrize(
    ("rel", "expected"),
    [
        (release(), []),
        (release({"canaryReady": 1}), []),
        (release({"firstExposed": 1}, stage="Stepping"), ["deployed"]),
        (promoted(), ["deployed", "upgraded"]),
        (release({"promoted": 9}, outcome="Skipped"), ["upgraded"]),
        (release({"firstExposed": 1, "promoted": 9}, {"kind": "Restart"}, outcome="Promoted"), []),
        (
            release({"firstExposed": 1, "decided": 2, "zeroVerified": 3}, {"kind": "Restart"}, outcome="RolledBack"),
            ["incident.detected", "rolledback", "incident.resolved"],
        ),
        (rolled_back(), ["deployed", "incident.detected", "rolledback", "incident.resolved"]),
        (release({"firstExposed": 1, "decided": 2}, outcome="RolledBack"), ["deployed", "incident.detected"]),
        (release({"decided": 2, "zeroVerified": 2}, outcome="RolledBack"), []),
        (release({"firstExposed": 1, "decided": 2, "zeroVerified": 3}, outcome="Aborted"), ["deployed", "rolledback"]),
        (release({"firstExposed": 1, "decided": 2, "zeroVerified": 3}, outcome="Superseded"), ["deployed", "rolledback"]),
        (
            release({"firstExposed": 1, "decided": 2, "zeroVerified": 3}, outcome="Superseded", evidence=EVIDENCE),
            ["deployed", "incident.detected", "rolledback", "incident.resolved"],
        ),
    ],
)
def test_owed(rel: Release, expected: list[str]) -> None:
    assert types(rel) == expected


def test_what_is_recorded_never_changes() -> None:
    first = release({"firstExposed": 3})
    recorded = [e.model_copy(update={"delivered_at": NOW}) for e in owed(first)]
    later = rolled_back()
    later.status.events = recorded
    later.status.times.first_exposed = NOW + timedelta(hours=1)
    again = owed(later)
    assert again[0] == recorded[0]
    assert [e.type for e in again] == ["deployed", "incident.detected", "rolledback", "incident.resolved"]
    later.status.events = again
    assert owed(later) == again


def test_ids_are_stable_and_distinct() -> None:
    assert event_id("u", "deployed") == "d782c087-2766-5a70-b001-341b510be7ee"
    assert (
        len({event_id("u", t) for t in ("deployed", "upgraded", "rolledback")} | {event_id("v", "deployed"), chain_id("u")}) == 5
    )


def test_nothing_that_tells_of_a_failure_goes_out_before_traffic_is_safe() -> None:
    rel = rolled_back()
    assert deliverable(rel) == []  # nothing is recorded yet
    rel.status.events = owed(rel)
    assert deliverable(rel) == rel.status.events
    rel.status.times.zero_verified = None
    assert [e.type for e in deliverable(rel)] == ["deployed"]
    rel.status.events[0].delivered_at = NOW
    assert deliverable(rel) == []


# --- what they say


@pytest.mark.parametrize("rel", [rolled_back(), promoted(), release({"firstExposed": 1}, {"images": [], "template": {}})])
@pytest.mark.parametrize("cluster", ["prod", "über cluster/1", ""])
def test_the_schemas_accept_every_event(schemas: dict[str, Draft202012Validator], rel: Release, cluster: str) -> None:
    events = owed(rel)
    assert events
    for outbox in events:
        data = json.loads(json.dumps(build(outbox, rel, cluster), allow_nan=False))
        schemas[data["context"]["type"]].validate(data)


def test_the_schemas_do_refuse_something(schemas: dict[str, Draft202012Validator]) -> None:
    rel = promoted()
    good = build(owed(rel)[0], rel, "prod")
    validator = schemas[good["context"]["type"]]
    for path, value in [
        (("context", "timestamp"), "yesterday"),
        (("context", "source"), "a b"),
        (("context", "links"), [{"linkType": "PATH"}]),
        (("context", "extra"), 1),
        (("subject", "content", "artifactId"), ""),
        (("subject", "content", "revision"), "9c1f"),
    ]:
        bad = json.loads(json.dumps(good))
        inner = bad
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
        assert not validator.is_valid(bad), path


def test_the_published_examples_are_accepted(schemas: dict[str, Draft202012Validator]) -> None:
    """Of the schemas' reading here, not of ours."""
    for name in ("service_deployed", "service_upgraded", "service_rolledback", "incident_detected", "incident_resolved"):
        example = json.loads((SPEC / "conformance" / f"{name}.json").read_text())
        schemas[example["context"]["type"]].validate(example)


def test_a_rollback_as_a_receiver_sees_it() -> None:
    rel = rolled_back()
    deployed, detected, back, resolved = (build(e, rel, "prod") for e in owed(rel))
    assert deployed["context"]["links"] == []
    assert {e["context"]["chainId"] for e in (deployed, detected, back, resolved)} == {chain_id(rel.metadata.uid)}
    assert detected["context"]["links"] == [
        {"linkType": "PATH", "from": {"contextId": deployed["context"]["id"]}},
        {"linkType": "RELATION", "linkKind": "CAUSED_BY", "target": {"contextId": deployed["context"]["id"]}},
    ]
    assert back["context"]["links"][0]["from"]["contextId"] == detected["context"]["id"]
    assert back["context"]["links"][1]["target"]["contextId"] == deployed["context"]["id"]
    assert resolved["context"]["links"][0]["from"]["contextId"] == back["context"]["id"]
    assert resolved["context"]["links"][1]["target"]["contextId"] == detected["context"]["id"]
    assert back["subject"]["id"] == "shop/checkout"
    assert back["subject"]["content"]["artifactId"].startswith("pkg:oci/checkout@sha256%3A1c1c")
    assert deployed["subject"]["content"]["artifactId"].startswith("pkg:oci/checkout@sha256%3A0b0b")
    assert detected["subject"]["id"] == resolved["subject"]["id"] == "shop/checkout-7d2e-1"
    assert detected["subject"]["content"]["description"] == "errors 33 % of 30 requests"
    assert detected["context"]["timestamp"] == at(8)
    told = back["customData"]["serinus"]
    assert (told["outcome"], told["exposed"], told["evidence"][0]["bad"]) == ("RolledBack", True, 10)
    assert told["times"]["faultBegan"] == at(4)


def test_deployed_says_the_same_before_and_after_the_rollback() -> None:
    before, after = release({"canaryReady": 2, "firstExposed": 3}, stage="Stepping"), rolled_back()
    first = owed(before)[0]
    assert to_cloudevent(build(first, before, "prod")).body == to_cloudevent(build(first, after, "prod")).body


def test_the_same_release_gives_the_same_bytes() -> None:
    def everything() -> list[HTTPMessage]:
        rel = rolled_back()
        return [to_cloudevent(build(e, rel, "prod")) for e in owed(rel)]

    assert everything() == everything()


def test_as_a_cloudevent() -> None:
    rel = promoted()
    data = build(owed(rel)[1], rel, "prod")
    message = to_cloudevent(data)
    assert message.headers["content-type"] == "application/cloudevents+json"
    body = json.loads(message.body)
    assert body["specversion"] == "1.0"
    assert body["type"] == "dev.cdevents.service.upgraded.0.3.0"
    assert (body["id"], body["source"], body["subject"]) == (data["context"]["id"], "/serinus/prod", "shop/checkout")
    assert (body["datacontenttype"], body["data"]) == ("application/json", data)
    assert datetime.fromisoformat(body["time"]) == NOW + timedelta(seconds=60)
    assert from_structured(message, JSONFormat()).get_data() == data


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("app", "pkg:oci/app"),
        ("app:2", "pkg:oci/app?tag=2"),
        ("shop/App:2", "pkg:oci/app?repository_url=shop/App&tag=2"),
        ("registry.example:5000/shop/app", "pkg:oci/app?repository_url=registry.example:5000/shop/app"),
        (f"registry.example/app@{DIGEST}", f"pkg:oci/app@{DIGEST.replace(':', '%3A')}?repository_url=registry.example/app"),
        (f"r.example/app:v1@{DIGEST}", f"pkg:oci/app@{DIGEST.replace(':', '%3A')}?repository_url=r.example/app&tag=v1"),
        ("", "pkg:generic/unknown"),
        ("what @ is", "pkg:generic/what%20%40%20is"),
    ],
)
def test_purl(image: str, expected: str) -> None:
    assert purl(image) == expected


@given(st.text(max_size=60))
def test_any_image_has_a_purl_in_plain_characters(image: str) -> None:
    assert re.fullmatch(r"pkg:(oci|generic)/[!-~]+", purl(image))


# --- Kubernetes events

REF = {"apiVersion": "serinus.dev/v1alpha1", "kind": "Canary", "namespace": "shop", "name": "checkout", "uid": "c"}


def told(message: str = "x", reason: str = "RolledBack", release_uid: str = "r", key: str = "", **ref: str) -> dict[str, Any]:
    return event(REF | ref, reason, message, "Warning", release_uid, NOW, "serinus-0", key)


def test_a_kubernetes_event() -> None:
    body = told("errors 33 %")
    assert re.fullmatch(r"checkout\.[0-9a-f]{16}", body["metadata"]["name"])
    assert body["metadata"]["namespace"] == "shop"
    assert body["involvedObject"] == REF
    assert (body["eventTime"], body["lastTimestamp"]) == ("2026-03-01T10:00:00.000000Z", "2026-03-01T10:00:00Z")
    assert body["reportingInstance"] == "serinus-0"


def test_a_repeat_has_the_same_name_and_anything_else_another() -> None:
    name = told()["metadata"]["name"]
    assert told()["metadata"]["name"] == name
    others = [told("y"), told(reason="Promoted"), told(release_uid="s"), told(key="1"), told(uid="d")]
    assert len({name, *(o["metadata"]["name"] for o in others)}) == 6
    assert told("after 0.8 s", key="1")["metadata"]["name"] == told("after 0.9 s", key="1")["metadata"]["name"]


def test_names_and_messages_are_cut() -> None:
    body = told("ü" * 2000, name="a" * 253)
    assert len(body["metadata"]["name"]) <= 253
    assert len(body["message"].encode()) <= 1024
    assert body["message"].endswith("ü…")


@given(st.text(), st.integers(3, 50))
def test_cut(message: str, limit: int) -> None:
    result = cut(message, limit)
    assert len(result.encode()) <= limit
    assert result == message or result.endswith("…")


def test_an_outbox_event_can_be_stored_and_read_again() -> None:
    for recorded in owed(rolled_back()):
        assert OutboxEvent.model_validate(recorded.dump()) == recorded

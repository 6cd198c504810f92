"""CDEvents as facts: Serinus' own, other tools', and the specification's examples."""

from __future__ import annotations

import base64
import itertools
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.bodies import BATCH, ENVIRONMENT, STRUCTURED, cdevent, encoded, sha, structured

from serinus.api.release import Release
from serinus.dora.facts import ArtifactSays, ChangeSays, Fact, IncidentSays, ReleaseSays, RunSays, known
from serinus.dora.intake import READERS, Refused, Settings
from serinus.events.cdevents import build, to_cloudevent
from serinus.events.outbox import owed

ROOT = Path(__file__).resolve().parents[1]
SPEC = Path(os.environ.get("CDEVENTS_SPEC_DIR") or ROOT / "../shared/data/cdevents-v0.5.1")
NOW = datetime(2026, 11, 27, 9, 0, tzinfo=UTC)
UID = "7b0f0c2e-0000-4000-8000-000000000001"


def read(body: Any, headers: dict[str, str] | None = None) -> list[Fact]:
    return READERS["cdevents"].facts(headers or {}, encoded(body), Settings())


def one(body: Any) -> Fact:
    (fact,) = read(body)
    return fact


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


# --- Serinus' own


def release(times: dict[str, float], spec: dict[str, Any] | None = None, **status: Any) -> Release:
    template = {"spec": {"containers": [{"name": "app", "image": "registry.example/shop/checkout:2"}]}}
    return Release.model_validate(
        {
            "metadata": {"name": "checkout-1", "namespace": "shop", "uid": UID},
            "spec": {
                "canary": "checkout",
                "target": {"name": "checkout", "uid": "u", "generation": 3},
                "revision": "9c1f",
                "servingRevision": "7d2e",
                "template": template,
                "servingTemplate": {"spec": {"containers": [{"name": "app", "image": "registry.example/shop/checkout:1"}]}},
                "commit": sha("e"),
                "repository": "https://github.com/Shop/Checkout.git",
                "changedBy": "mona",
                "requestedAt": at(0),
                **(spec or {}),
            },
            "status": {"times": {name: at(seconds) for name, seconds in times.items()}, **status},
        }
    )


def told(of: Release) -> list[Fact]:
    """What the operator sends of a release, as it sends it."""
    facts = []
    for event in owed(of):
        message = to_cloudevent(build(event, of, "prod"))
        facts += READERS["cdevents"].facts(message.headers, message.body, Settings())
    return facts


BAD = {"canaryReady": 2, "firstExposed": 3, "faultBegan": 4, "decided": 8, "zeroWritten": 8.1, "zeroVerified": 8.5}
ROLLED_BACK = release(
    BAD,
    outcome="RolledBack",
    why="errors 33 % of 30 requests",
    evidence=[{"metric": "errors", "verdict": "Fail"}],
    exposure={"requests": 30, "failures": 10, "shareSeconds": 0.4},
)
ALL = ReleaseSays(
    service="shop/checkout",
    environment="shop",
    artifact="pkg:oci/checkout?repository_url=registry.example/shop/checkout&tag=2",
    serving_artifact="pkg:oci/checkout?repository_url=registry.example/shop/checkout&tag=1",
    commit=sha("e"),
    repository="github.com/shop/checkout",
    by="mona",
    restart=False,
    outcome="RolledBack",
    why="errors 33 % of 30 requests",
    harmed=True,
    requested=at(0),
    exposed=at(3),
    fault_began=at(4),
    detected=at(8),
    returned=at(8.5),
    share_seconds=0.4,
    requests=30,
    failures=10,
)


def test_a_rollback_is_one_release_of_which_everything_is_known_in_any_order():
    facts = told(ROLLED_BACK)
    assert len(facts) == 4
    assert {(fact.about, fact.key) for fact in facts} == {("release", UID)}
    assert {fact.source for fact in facts} == {"cdevents:/serinus/prod"}
    for order in itertools.permutations(facts):
        assert known(order, ReleaseSays)[UID].says == ALL


def test_the_last_event_alone_says_everything():
    assert told(ROLLED_BACK)[-1].says == ALL


def test_what_was_only_deployed_has_no_end_yet():
    says = told(release({"canaryReady": 2, "firstExposed": 3}))[0].says
    assert isinstance(says, ReleaseSays)
    assert (says.exposed, says.outcome, says.harmed, says.promoted, says.returned) == (at(3), None, None, None, None)


def test_what_was_promoted_has_not_returned_though_its_canary_is_drained():
    facts = told(release({"firstExposed": 3, "decided": 50, "promoted": 60, "zeroVerified": 55}, outcome="Promoted"))
    says = known(facts, ReleaseSays)[UID].says
    assert (says.outcome, says.exposed, says.promoted) == ("Promoted", at(3), at(60))
    assert (says.returned, says.detected, says.harmed) == (None, None, None)


def test_a_hotfix_without_judgement_is_seen_by_all_at_once():
    says = known(told(release({"promoted": 9}, outcome="Skipped")), ReleaseSays)[UID].says
    assert (says.outcome, says.exposed, says.promoted) == ("Skipped", at(9), at(9))


@pytest.mark.parametrize(("evidence", "harmed", "detected"), [([], None, None), ([{"metric": "e", "verdict": "Fail"}], True, 8)])
def test_what_was_superseded_did_harm_only_if_there_is_evidence(evidence, harmed, detected):
    says = known(told(release(BAD, outcome="Superseded", evidence=evidence)), ReleaseSays)[UID].says
    assert (says.harmed, says.returned) == (harmed, at(8.5))
    assert says.detected == (at(detected) if detected else None)


def test_what_was_rolled_back_did_harm_without_numbers_too():
    """Its pods crashed, for instance."""
    says = known(told(release(BAD, outcome="RolledBack")), ReleaseSays)[UID].says
    assert (says.harmed, says.detected) == (True, at(8))


def test_a_restart_is_none_of_the_deployments():
    says = known(told(release(BAD, {"kind": "Restart"}, outcome="RolledBack")), ReleaseSays)[UID].says
    assert says.restart is True


# --- other tools'


def chained(kind: str, clock: str, **context: Any) -> Any:
    return cdevent(kind, ENVIRONMENT, f"2026-11-27T{clock}Z", chainId="c-1", **context)


def test_a_deployment_is_seen_by_all_users_at_once():
    fact = one(cdevent("service.upgraded", ENVIRONMENT))
    assert (fact.source, fact.id, fact.key) == ("cdevents:/ci", "service.upgraded-1", "service.upgraded-1")
    assert fact.says == ReleaseSays(
        service="checkout",
        environment="production",
        artifact="pkg:oci/checkout@sha256%3A0b",
        outcome="Promoted",
        exposed=NOW,
        promoted=NOW,
    )


def test_a_rollback_in_the_same_chain_takes_the_release_back():
    back = chained("service.rolledback", "09:05:00")
    back["subject"]["content"] = ENVIRONMENT | {"artifactId": "pkg:oci/checkout@sha256%3A1c"}
    facts = read(chained("service.deployed", "09:00:00")) + read(back)
    for order in (facts, facts[::-1]):
        (found,) = known(order, ReleaseSays).values()
        assert (found.says.outcome, found.says.promoted, found.says.returned) == ("RolledBack", at(0), at(300))
        # What serves afterwards is not what was delivered.
        assert found.says.artifact == "pkg:oci/checkout@sha256%3A0b"


def test_one_chain_may_go_to_several_environments():
    staging = cdevent("service.deployed", {"environment": {"id": "staging"}}, chainId="c-1", id="2")
    assert one(staging).key != one(chained("service.deployed", "09:00:00")).key


@pytest.mark.parametrize(
    "link",
    [
        {"linkType": "PATH", "from": {"contextId": "service.deployed-1"}},
        {"linkType": "RELATION", "linkKind": "REVERTS", "target": {"contextId": "service.deployed-1"}},
    ],
)
def test_a_rollback_with_a_link_takes_back_what_it_names(link):
    deployed = one(cdevent("service.deployed", ENVIRONMENT))
    back = one(cdevent("service.rolledback", ENVIRONMENT, links=[link]))
    assert back.key == deployed.key
    assert isinstance(back.says, ReleaseSays)
    assert back.says.outcome == "RolledBack"


def test_a_rollback_of_nobody_knows_what_is_an_incident_and_no_release():
    other = {"linkType": "RELATION", "linkKind": "CONTAINS", "target": {"contextId": "x"}}
    fact = one(cdevent("service.rolledback", ENVIRONMENT, links=[other]))
    assert fact.says == IncidentSays(
        service="checkout",
        environment="production",
        title="rolled back to pkg:oci/checkout@sha256%3A0b",
        began=NOW,
        resolved=NOW,
    )
    assert one(cdevent("service.rolledback", ENVIRONMENT, id="another")).key != fact.key


def incident(kind: str, clock: str, links: list[Any] | None = None, **content: Any) -> Any:
    full = {"environment": {"id": "production"}, "service": {"id": "checkout"}, "description": "slow"} | content
    data = cdevent(kind, full, f"2026-11-27T{clock}Z", links=links or [])
    return data | {"customData": {"severity": "high"}}


def test_an_incident_that_was_detected_reported_and_resolved():
    cause = {"linkType": "RELATION", "linkKind": "CAUSED_BY", "target": {"contextId": "deployed-1"}}
    facts = [
        one(incident("incident.detected", "09:10:00", [cause])),
        one(incident("incident.reported", "09:12:00", ticketURI="https://tickets.example/1")),
        one(incident("incident.resolved", "09:20:00", description="well again")),
    ]
    for order in (facts, facts[::-1]):
        assert known(order, IncidentSays)["/ci#checkout"].says == IncidentSays(
            service="checkout",
            environment="production",
            title="slow",
            url="https://tickets.example/1",
            severity="high",
            release="deployed-1",
            began=at(600),
            detected=at(600),
            resolved=at(1200),
        )


def test_an_incident_that_was_only_reported_was_detected_by_then():
    says = one(incident("incident.reported", "09:12:00")).says
    assert isinstance(says, IncidentSays)
    assert (says.began, says.detected) == (None, at(720))


def test_a_change_from_its_beginning_to_its_end():
    repository = {"repository": {"id": "Shop/Checkout", "source": "https://github.com/"}}
    facts = [
        one(cdevent("change.created", repository | {"description": "prices"})),
        one(cdevent("change.reviewed", repository, "2026-11-27T09:01:00Z")),
        one(cdevent("change.merged", repository, "2026-11-27T09:02:00Z")),
    ]
    assert known(facts, ChangeSays)["github.com/shop/checkout#checkout"].says == ChangeSays(
        repository="github.com/shop/checkout",
        number="checkout",
        title="prices",
        opened=at(0),
        first_review=at(60),
        merged=at(120),
        closed=at(120),
    )
    left = one(cdevent("change.abandoned", {})).says
    assert isinstance(left, ChangeSays)
    assert (left.merged, left.closed) == (None, NOW)


def test_an_artifact_that_was_packaged():
    change = {"id": sha("e"), "source": "https://github.com/Shop/Checkout"}
    assert one(cdevent("artifact.packaged", {"change": change})).says == ArtifactSays(
        repository="github.com/shop/checkout", commit=sha("e"), built=NOW
    )
    says = one(cdevent("artifact.packaged", {"change": {"id": "myChange123"}})).says
    assert isinstance(says, ArtifactSays)
    assert says.commit == ""


def test_a_pipeline_and_a_task_of_it():
    run = one(cdevent("pipelinerun.finished", {"pipelineName": "build", "outcome": "error", "uri": "https://ci.example/1"}))
    assert run.says == RunSays(name="build", url="https://ci.example/1", result="failure", finished=NOW)
    task = one(cdevent("taskrun.started", {"taskName": "test", "pipelineRun": {"id": "checkout"}, "url": "https://ci.example/2"}))
    assert task.says == RunSays(parent=run.key, name="test", url="https://ci.example/2", started=NOW)


def test_an_event_of_version_0_4_is_read_too():
    old = cdevent("pipelinerun.queued", {"pipelineName": "build", "url": "https://ci.example/1"})
    old["context"] |= {"version": "0.4.1", "type": "dev.cdevents.pipelinerun.queued.0.2.0"}
    old["context"].pop("specversion")
    old["subject"] |= {"type": "pipelineRun"}
    assert one(old).says == RunSays(name="build", url="https://ci.example/1", queued=NOW)


@pytest.mark.parametrize("kind", ["change.updated", "service.removed", "artifact.published", "ticket.created", "new.thing"])
def test_events_that_nobody_reads_are_taken_and_say_nothing(kind):
    assert read(cdevent(kind, {"environment": 7})) == []


# --- how they come


def test_structured_binary_batch_and_bare_say_the_same():
    data = cdevent("service.deployed", ENVIRONMENT)
    kind = data["context"]["type"]
    binary = {"Content-Type": "application/json", "ce-specversion": "1.0", "ce-type": kind, "ce-id": "1", "ce-source": "/ci"}
    in_base64 = structured(None) | {"data_base64": base64.b64encode(encoded(data)).decode()}
    expected = read(data)
    assert len(expected) == 1
    assert read(structured(data), STRUCTURED) == expected
    assert read(in_base64, STRUCTURED) == expected
    assert read(data, binary) == expected
    assert read([structured(data), structured(data)], BATCH) == expected * 2
    assert read([], BATCH) == []


def test_a_cloudevent_about_something_else_is_taken_and_says_nothing():
    assert read(structured({"any": "thing"}, "com.example.thing"), STRUCTURED) == []
    assert read({"any": "thing"}, {"ce-specversion": "1.0", "ce-type": "com.example.thing"}) == []


@pytest.mark.parametrize(
    ("headers", "body", "reason"),
    [
        ({"Content-Type": "application/cloudevents+avro"}, {}, "415: application/cloudevents+avro is not read"),
        (BATCH, {}, "422: the body: expected a list of events"),
        (BATCH, [structured({})] * 1001, "413: the batch has 1001 events"),
        (BATCH, [structured(cdevent("service.deployed", {})), 7], "422: 1: expected an object, and this is a number"),
        (BATCH, [structured({"context": {}})], "422: 0.data.context.id: Field required"),
        (STRUCTURED, structured({}) | {"specversion": "0.3"}, "422: specversion: CloudEvents 1.0 is read, and this is '0.3'"),
        (STRUCTURED, structured({}) | {"type": None}, "422: type: a CloudEvent needs it"),
        (STRUCTURED, structured(None) | {"data_base64": "%"}, "422: data_base64: expected JSON in base64"),
        (STRUCTURED, structured(None), "422: data: expected an object, and this is null"),
        ({"ce-specversion": "2.0"}, {}, "422: the header ce-specversion: CloudEvents 1.0 is read"),
        ({}, {}, "422: context: expected an object, and this is null"),
        ({}, cdevent("service.deployed", {}, "now"), "422: context.timestamp: a moment such as"),
        ({}, cdevent("service.deployed", {"environment": 7}), "422: subject.content.environment: Input should be"),
        (
            {},
            cdevent("service.deployed", ENVIRONMENT) | {"customData": {"serinus": {"releaseUid": "u"}}},
            "422: customData.serinus.namespace: Field required",
        ),
    ],
)
def test_what_is_wrong_with_an_event_is_said(headers, body, reason):
    with pytest.raises(Refused) as caught:
        read(body, headers)
    assert str(caught.value).startswith(reason)


def test_the_published_examples_are_all_taken():
    if not SPEC.is_dir():
        pytest.skip(f"the CDEvents examples are not there: set CDEVENTS_SPEC_DIR (looked in {SPEC.name})")
    told = {path.stem: read(json.loads(path.read_text())) for path in sorted((SPEC / "conformance").glob("*.json"))}
    assert len(told) > 40
    speak = {name for name, facts in told.items() if facts}
    assert speak == {
        *("artifact_packaged", "change_abandoned", "change_created", "change_merged", "change_reviewed"),
        *("incident_detected", "incident_reported", "incident_resolved"),
        *("pipelinerun_finished", "pipelinerun_queued", "pipelinerun_started", "taskrun_finished", "taskrun_started"),
        *("service_deployed", "service_rolledback", "service_upgraded"),
    }

"""Whatever is received gives facts or a refusal, and nothing else."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.bodies import BATCH, GOOD, SECRET, STRUCTURED

from serinus.dora.facts import Fact
from serinus.dora.intake import READERS, Refused, Settings
from serinus.dora.repository import canonical

EVENTS = [
    "pull_request",
    "pull_request_review",
    "push",
    "deployment",
    "deployment_status",
    "workflow_run",
    "workflow_job",
    "ping",
]
KINDS = ["push", "merge_request", "deployment", "pipeline", "build", "note"]
WORDS = [
    *("", "x" * 600, "x" * 3000, "0" * 40, "e" * 40, "ü\u2028", "1", "-1", "null", "4", "refs/heads/main", "https://["),
    *("firing", "resolved", "completed", "success", "git@github.com:a/b.git", "dev.cdevents.service.deployed"),
    *("2026-11-27T09:00:00Z", "2026-11-27 09:00:00 UTC", "2026-13-45T99:00:00Z", "2026-W01-1"),
    *("0001-01-01T00:00:00Z", "0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00"),
]
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=True),
    st.text(max_size=20),
    st.sampled_from(WORDS),
)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4))
MANY = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def check(source: str, headers: dict[str, str], body: bytes) -> list[Fact]:
    """Facts that can be kept, or none."""
    reader = READERS[source]
    reader.delivered(headers, body)
    refused, facts = None, []
    try:
        facts = reader.facts(headers, body, Settings())
    except Refused as failure:
        refused = failure
    assert refused is None or (400 <= refused.status < 500 and refused.reason and refused.reason.isprintable())
    for fact in facts:
        text = json.dumps(fact.dump(), allow_nan=False)
        assert "\\u0000" not in text
        assert text.encode()
        assert Fact.parse(json.loads(text)) == fact
        assert 1969 <= fact.at.year <= 2262
    return facts


def headers_for(source: str) -> st.SearchStrategy[dict[str, str]]:
    if source == "github":
        return st.fixed_dictionaries({"X-GitHub-Event": st.sampled_from(EVENTS)}, optional={"X-GitHub-Delivery": st.text()})
    if source == "cdevents":
        binary = {"ce-specversion": "1.0", "ce-type": "dev.cdevents.service.deployed.0.3.0"}
        return st.sampled_from([STRUCTURED, BATCH, binary, {}, {"Content-Type": "application/cloudevents+xml"}])
    return st.dictionaries(st.sampled_from(["Idempotency-Key", "X-Gitlab-Event-UUID", "X-Webhook-Id"]), st.text())


def paths(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield before
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from paths(inner, (*before, key))


def changed(body: Any, path: tuple[Any, ...], value: Any) -> Any:
    """`body` with `value` at `path`; `...` takes it away."""
    if not path:
        return None if value is ... else value
    body = copy.deepcopy(body)
    inner = body
    for key in path[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return body


@pytest.mark.parametrize("source", READERS)
@given(data=st.data())
@MANY
def test_any_json(source: str, data: st.DataObject) -> None:
    check(source, data.draw(headers_for(source)), json.dumps(data.draw(VALUES)).encode())


@pytest.mark.parametrize("source", READERS)
@given(data=st.data(), body=st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_bytes(source: str, data: st.DataObject, body: bytes) -> None:
    headers = data.draw(headers_for(source))
    check(source, headers, body)
    with pytest.raises(Refused):
        READERS[source].receive(headers, body, SECRET)


@given(headers=st.dictionaries(st.text(), st.text()), value=st.text())
def test_any_header(headers: dict[str, str], value: str) -> None:
    for source, name in [
        ("github", "X-Hub-Signature-256"),
        ("gitlab", "X-Gitlab-Token"),
        ("pagerduty", "X-PagerDuty-Signature"),
        ("generic", "Authorization"),
    ]:
        for attempt in (value, f"sha256={value}", f"v1={value}", f"Bearer {value}"):
            with pytest.raises(Refused, match="401"):
                READERS[source].verify(headers | {name: attempt}, b"{}", SECRET + "\0")


@pytest.mark.parametrize("number", range(len(GOOD)))
def test_each_field_of_each_good_request_is_taken_away_emptied_and_replaced(number: int) -> None:
    source, headers, body = GOOD[number]
    assert check(source, headers, json.dumps(body).encode())
    for path in paths(body):
        for value in (..., None, True, 0, -1, 2**64, 0.5, [], {}, [None], {"a": None}, [[]], *WORDS):
            check(source, headers, json.dumps(changed(body, path, value)).encode())


@given(data=st.data())
@MANY
def test_good_requests_that_were_changed_in_several_places(data: st.DataObject) -> None:
    source, headers, body = data.draw(st.sampled_from(GOOD))
    for _ in range(data.draw(st.integers(1, 4))):
        body = changed(body, data.draw(st.sampled_from(list(paths(body)))), data.draw(st.just(...) | VALUES))
    check(source, headers, json.dumps(body).encode())


@given(st.text())
def test_any_address_of_a_repository(address: str) -> None:
    assert canonical(address) == canonical(address).lower()

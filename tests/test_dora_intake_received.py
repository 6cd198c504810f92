"""What any received request has to be before its content is looked at."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import Field
from tests.bodies import GOOD, SECRET, alerts, cdevent, encoded, hmac_of, pull_request

from serinus.dora.intake import LARGEST, READERS, Refused, Settings
from serinus.dora.intake.received import DEEPEST, Payload, Perhaps, When, parse, read
from serinus.dora.repository import canonical


def refused(body: bytes) -> Refused:
    with pytest.raises(Refused) as caught:
        parse(body)
    return caught.value


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b" " * (LARGEST + 1), 413, "at most"),
        (b"", 400, "no JSON"),
        (b"payload=%7B%7D", 400, "no JSON"),
        (b'{"a": 1', 400, "no JSON"),
        (b'{"a": "\xff"}', 400, "UTF-8"),
        ("\ufeff{}".encode(), 400, "no JSON"),
        ("{}".encode("utf-16"), 400, "UTF-8"),
        (b'{"a": NaN}', 400, "NaN"),
        (b"[-Infinity]", 400, "Infinity"),
        (b"[1e999]", 400, "larger than any number"),
        (b"[" + b"9" * 21 + b"]", 400, "digits"),
        (b"[" + b"9" * 900_000 + b"]", 400, "digits"),
        (b'{"a": 1, "b": 2, "a": 3}', 400, "'a' is twice"),
        (b'["a\\u0000b"]', 400, "NUL"),
        (b'{"a\\u0000b": 1}', 400, "NUL"),
        (b'["\\ud800"]', 400, "surrogate"),
        (nested(DEEPEST + 2), 400, "nested"),
        (nested(500_000), 400, "nested"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 400, "nested"),
    ],
)
def test_what_cannot_be_taken_is_refused_with_the_reason(body, status, words):
    failure = refused(body)
    assert failure.status == status
    assert words in failure.reason


def test_what_is_just_within_the_bounds_is_taken():
    assert parse(b"[" + b"9" * 20 + b"]") == [int("9" * 20)]
    assert parse(nested(DEEPEST)) is not None
    assert len(parse(b'"' + b"a" * (LARGEST - 2) + b'"')) == LARGEST - 2


def test_a_hundred_thousand_names_in_one_object_are_looked_through_in_no_time():
    names = [f'"{number:x}":0' for number in range(80_000)]
    body = "{" + ",".join([*names, names[-1]]) + "}"
    assert "twice" in refused(body.encode()).reason


class Body(Payload):
    at: When
    maybe: Perhaps = None
    number: int = 0
    names: list[str] = Field(default_factory=list)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-27T09:00:00Z", datetime(2026, 11, 27, 9, tzinfo=UTC)),
        ("2026-11-27T10:00:00.5+01:00", datetime(2026, 11, 27, 9, 0, 0, 500_000, tzinfo=UTC)),
        ("2018-08-03T09:52:26.739266876+02:00", datetime(2018, 8, 3, 7, 52, 26, 739_266, tzinfo=UTC)),
        ("2016-08-12 15:23:28 UTC", datetime(2016, 8, 12, 15, 23, 28, tzinfo=UTC)),
        ("2021-04-28 21:50:00 +0200", datetime(2021, 4, 28, 19, 50, tzinfo=UTC)),
    ],
)
def test_moments_as_tools_write_them(text, expected):
    assert read(Body, {"at": text}).at == expected


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ([], "the body: expected an object, and this is a list"),
        ({}, "at: Field required"),
        ({"at": None}, "at: a moment such as 2026-11-27T09:00:00Z is needed, and this is null"),
        ({"at": 1700000000}, "at: a moment such as 2026-11-27T09:00:00Z is needed, and this is a number"),
        ({"at": "yesterday"}, "at: a moment such as 2026-11-27T09:00:00Z is needed, and this is a text"),
        ({"at": "2026-11-27T09:00:00"}, "at: a moment needs its offset from UTC, as in 2026-11-27T09:00:00Z, and this is a text"),
        ({"at": "0001-01-01T00:00:00+05:00"}, "at: a moment must be between 1970 and 2261, and this is a text"),
        ({"at": "9999-12-31T23:59:59-05:00"}, "at: a moment must be between 1970 and 2261, and this is a text"),
        ({"at": "2026-11-27T09:00:00Z", "number": True}, "number: Input should be a valid integer, and this is a truth value"),
        ({"at": "2026-11-27T09:00:00Z", "number": "1"}, "number: Input should be a valid integer, and this is a text"),
        ({"at": "2026-11-27T09:00:00Z", "names": ["a", {}]}, "names.1: Input should be a valid string, and this is an object"),
    ],
)
def test_a_wrong_field_is_named_with_what_was_expected(data, reason):
    with pytest.raises(Refused) as caught:
        read(Body, data)
    assert (caught.value.status, caught.value.reason) == (422, reason)


@pytest.mark.parametrize("nothing", [None, "", "0001-01-01T00:00:00Z"])
def test_a_moment_that_there_is_none_of(nothing):
    assert read(Body, {"at": "2026-11-27T09:00:00Z", "maybe": nothing}).maybe is None


def test_a_reason_is_short_and_in_one_line():
    failure = Refused(422, "a\nb\x1b[31m" + "x" * 9999)
    assert len(failure.reason) == 300
    assert failure.reason.isprintable()


@pytest.mark.parametrize(
    ("source", "headers", "body"),
    [
        ("cdevents", {}, cdevent("service.deployed", {}, links=[{}] * 250_000)),
        ("alertmanager", {}, {"version": "4", "alerts": [{}] * 250_000}),
        ("alertmanager", {}, alerts(**{f"{number:x}": 0 for number in range(80_000)})),  # type: ignore[arg-type]
        ("github", {"X-GitHub-Event": "pull_request"}, pull_request(labels=[0] * 300_000)),
        ("generic", {}, {"facts": [{}] * 250_000}),
        ("generic", {}, {f"{number:x}": 0 for number in range(80_000)}),
    ],
    ids=["links", "alerts", "labels of an alert", "labels", "facts", "fields"],
)
def test_a_million_small_things_are_refused_before_they_are_looked_at(source: str, headers: dict[str, str], body: Any):
    raw = encoded(body)
    assert len(raw) < LARGEST
    with pytest.raises(Refused, match=r"422: .*(at most|80000 fields are missing or wrong)"):
        READERS[source].facts(headers, raw, Settings())


# --- who sent it


def signed(source: str, body: bytes, secret: str = SECRET) -> dict[str, str]:
    return {
        "github": {"X-Hub-Signature-256": f"sha256={hmac_of(body, secret)}"},
        "gitlab": {"X-Gitlab-Token": secret},
        "pagerduty": {"X-PagerDuty-Signature": f"v1={hmac_of(body, secret)}"},
    }.get(source, {"Authorization": f"Bearer {secret}"})


@pytest.mark.parametrize(("source", "headers", "body"), GOOD)
def test_a_good_request_is_taken_in_any_case_of_its_headers(source: str, headers: dict[str, str], body: Any):
    raw = encoded(body)
    facts = READERS[source].receive(headers | signed(source, raw), raw, SECRET)
    assert facts
    lower = {name.lower(): value for name, value in (headers | signed(source, raw)).items()}
    assert READERS[source].receive(lower, raw, SECRET.encode()) == facts
    kept = {name.lower() for name in READERS[source].headers}
    only = {name: value for name, value in lower.items() if name in kept}
    assert READERS[source].facts(only, raw, Settings()) == facts
    assert all(fact.parse(json.loads(json.dumps(fact.dump()))) == fact for fact in facts)
    assert len({(fact.source, fact.id) for fact in facts}) == len(facts)


@pytest.mark.parametrize("source", READERS)
def test_unsigned_and_wrongly_signed_requests_are_refused(source: str):
    # Files that are uploaded have a bearer's token, which is not of what they hold.
    headers, body = next(((headers, encoded(body)) for name, headers, body in GOOD if name == source), ({}, b"<testsuite/>"))
    good = signed(source, body)
    (name, value), *_ = good.items()
    wrong = [{}, {name: ""}, {name: value + "0"}, {name: value[:-1]}, {name: "Bearer"}, {name: "sha256="}, {name: "v1="}]
    wrong += [{name: "ü\udc80"}, {name: value.upper()}, signed(source, body, "other"), {name: f"sha1={'0' * 40}"}]
    if source != "gitlab":
        wrong.append({name: value.replace("sha256=", "sha1=").replace("v1=", "v2=").replace("Bearer", "Basic")})
    for attempt in wrong:
        with pytest.raises(Refused) as caught:
            READERS[source].receive(headers | attempt, body, SECRET)
        assert caught.value.status == 401, attempt
        assert SECRET not in caught.value.reason
    for secret in ("", b""):
        with pytest.raises(Refused, match="no secret is configured"):
            READERS[source].receive(headers | signed(source, body, ""), body, secret)


@pytest.mark.parametrize("source", ["github", "pagerduty"])
def test_a_signature_is_of_the_whole_body(source: str):
    headers, body = next((headers, encoded(body)) for name, headers, body in GOOD if name == source)
    with pytest.raises(Refused) as caught:
        READERS[source].receive(headers | signed(source, body), body + b" ", SECRET)
    assert caught.value.status == 401


def test_a_body_that_is_too_large_is_refused_before_anything_is_computed():
    for reader in READERS.values():
        with pytest.raises(Refused) as caught:
            reader.receive({}, b" " * (reader.largest + 1), SECRET)
        assert caught.value.status == 413


def test_a_secret_with_other_letters_than_ascii():
    body = encoded({"zen": "x"})
    assert READERS["gitlab"].receive({"X-Gitlab-Token": "schlüssel"}, body, "schlüssel") == []


@pytest.mark.parametrize(("source", "headers", "body"), GOOD)
def test_a_repeat_gives_the_same_ids_and_another_request_others(source: str, headers: dict[str, str], body: Any):
    reader, raw = READERS[source], encoded(body)
    assert reader.delivered(headers, raw) == reader.delivered(dict(headers), bytes(raw))
    assert reader.delivered({}, raw) != reader.delivered({}, raw + b" ")
    assert reader.facts(headers, raw, Settings()) == reader.facts(headers, raw, Settings())


@pytest.mark.parametrize("name", ["", "a b", "x" * 129, "\0", "\udc80", "ü"])
def test_what_is_no_id_is_not_taken_for_one(name: str):
    reader, body = READERS["gitlab"], encoded({"zen": "x"})
    assert reader.delivered({"Idempotency-Key": name}, body) == reader.delivered({}, body)


# --- one name for one repository


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://github.com/Shop/Checkout", "github.com/shop/checkout"),
        ("https://user:token@GitHub.com:443/shop/checkout.git", "github.com/shop/checkout"),
        ("git@github.com:Shop/checkout.git", "github.com/shop/checkout"),
        ("ssh://git@github.com:22/shop/checkout.git/", "github.com/shop/checkout"),
        ("git+https://github.com/shop/checkout#main", "github.com/shop/checkout"),
        ("https://gitlab.example:8443/a/b/c?x=1", "gitlab.example:8443/a/b/c"),
        ("shop/Checkout", "shop/checkout"),
        ("https://[broken/x", ""),
        ("https://github.com:port/x", ""),
        ("", ""),
    ],
)
def test_a_repository_has_one_name(address, expected):
    assert canonical(address) == expected
    assert canonical(canonical(address)) == expected

"""Facts as people and scripts write them."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator
from tests.bodies import encoded, release, sha

from serinus.dora.facts import ArtifactSays, ChangeSays, CommitSays, Fact, IncidentSays, ReleaseSays, RunSays
from serinus.dora.intake import READERS, Refused, Settings, generic

SCHEMA = Draft202012Validator(generic.schema())


def read(body: Any) -> list[Fact]:
    return READERS["generic"].facts({}, encoded(body), Settings())


def test_the_least_that_a_script_has_to_say_of_a_release():
    (fact,) = read(release(commit=sha("e"), repository="git@github.com:Shop/checkout.git"))
    assert fact.source == "generic"
    assert fact.key == fact.id
    assert len(fact.id) == 64
    assert isinstance(fact.says, ReleaseSays)
    assert (fact.at, fact.says.commit, fact.says.repository) == (fact.says.promoted, sha("e"), "github.com/shop/checkout")


def test_the_same_again_has_the_same_id_in_whatever_order_its_fields_are_and_anything_else_another():
    (first,) = read({"release": {"service": "a", "promoted": "2026-11-27T09:00:00Z"}})
    (again,) = read({"release": {"promoted": "2026-11-27T10:00:00+01:00", "service": "a"}})
    (other,) = read({"release": {"promoted": "2026-11-27T09:00:01Z", "service": "a"}})
    assert first.id == again.id != other.id


def test_what_is_given_counts():
    (fact,) = read({"id": "deploy-7", "at": "2026-11-27T09:30:00Z", **release(key="r-7")})
    assert (fact.id, fact.key, fact.at.isoformat()) == ("deploy-7", "r-7", "2026-11-27T09:30:00+00:00")


def test_of_several_facts_all_are_taken_or_none():
    at = "2026-11-27T09:00:00Z"
    several = [
        release(),
        {"change": {"key": "shop/checkout#12", "opened": at, "merged": at, "labels": ["bug"]}},
        {"at": at, "commit": {"key": sha("e"), "parents": [sha("a")]}},
        {"artifact": {"key": "pkg:oci/checkout", "commit": sha("e"), "built": at}},
        {"incident": {"key": "i-1", "service": "checkout", "began": at}},
        {"run": {"name": "build", "result": "success", "started": at, "finished": at}},
    ]
    facts = read({"facts": several})
    kinds = [ReleaseSays, ChangeSays, CommitSays, ArtifactSays, IncidentSays, RunSays]
    assert [type(fact.says) for fact in facts] == kinds
    assert isinstance(facts[1].says, ChangeSays)
    assert facts[1].says.labels == ("bug",)
    for one in several:
        SCHEMA.validate(one)
    SCHEMA.validate({"facts": several})
    with pytest.raises(Refused, match=r"facts.6: exactly one of release, .* is needed, and there are 0"):
        read({"facts": [*several, {}]})


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({}, "422: exactly one of release, change, commit, artifact, incident, run is needed, and there are 0"),
        ({"release": None}, "422: exactly one of"),
        (release() | {"run": {}}, "422: exactly one of"),
        ({"release": {"service": "a"}}, "422: at: needed, because release says no moment"),
        ({"change": {"title": "x"}}, "422: change.key: Field required"),
        ({"release": {"promoted": 1700000000}}, "422: release.promoted: Input should be a valid datetime, and this is a number"),
        ({"release": {"promoted": "2026-11-27T09:00:00"}}, "422: release.promoted: a moment needs its offset from UTC"),
        ({"release": {"promoted": "0001-01-01T00:00:00+05:00"}}, "422: release.promoted: there is no such moment in UTC"),
        ({"release": {"promoted": "0001-01-01T00:00:00Z"}}, "422: release.promoted: a moment must be between 1970 and 2261"),
        (release() | {"at": "2262-01-01T00:00:00Z"}, "422: at: a moment must be between 1970 and 2261"),
        ({"release": {"restart": "yes"}}, "422: release.restart: Input should be a valid boolean, and this is a text"),
        ({"release": {"requests": "inf"}}, "422: release.requests: Input should be a valid number, and this is a text"),
        ({"release": {"outcome": "Fine"}}, "422: release.outcome: Input should be 'Promoted', "),
        ({"release": {"servcie": "a"}}, "422: release.servcie: Extra inputs are not permitted"),
        (release(service="x" * 513), "422: release.service: String should have at most 512 characters"),
        (release() | {"id": ""}, "422: id: String should have at least 1 character"),
        ({"facts": [release()] * 1001}, "422: facts: at most 1000 are taken, and there are 1001"),
        ({"facts": release()}, "422: facts: Input should be a valid array, and this is an object"),
        ([release()], "422: the body: expected an object, and this is a list"),
    ],
)
def test_what_is_wrong_is_said(body, reason):
    with pytest.raises(Refused) as caught:
        read(body)
    assert str(caught.value).startswith(reason)


def test_the_schema_knows_what_is_wrong_as_well():
    for body in ({}, release() | {"run": {}}, {"change": {"title": "x"}}, {"release": {"servcie": "a"}}, {"facts": release()}):
        assert not SCHEMA.is_valid(body), body


def test_a_person_s_word_needs_a_person():
    """Whoever has the token of a pipeline may not reclassify."""
    for body in ({"mark": {"key": "release/r", "verdict": "fine"}}, {"at": "2026-11-27T09:00:00Z", "mark": {"verdict": "fine"}}):
        with pytest.raises(Refused, match=r"422: mark: Extra inputs are not permitted"):
            read(body)

"""What happened, in a form that a person or a shell script can write. Pure.

One fact, or ``{"facts": [...]}`` with several. Each has exactly one of release, change, commit, artifact, incident and run, whose
fields are those of `serinus.dora.facts`, and may have ``id`` and ``at``::

    {"release": {"service": "checkout", "environment": "production", "commit": "4f1c…", "promoted": "2026-11-27T09:00:00Z"}}

The schema is `schema()`. Marks are not taken here: who may reclassify is a person with a right, not whoever has the token.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model

from serinus.dora.facts import (
    ArtifactSays,
    ChangeSays,
    CommitSays,
    Fact,
    IncidentSays,
    Key,
    Moment,
    ReleaseSays,
    RunSays,
    Saying,
)
from serinus.dora.intake.received import (
    YEARS,
    Headers,
    Refused,
    Secret,
    Telling,
    bearer,
    digest,
    mapping,
    parse,
    refusing,
    wrong,
)
from serinus.dora.intake.settings import Settings
from serinus.dora.repository import canonical

SOURCE = "generic"
#: Facts of one request.
MOST = 1000


def _keyed(name: str, says: type[Saying], key: Any) -> type[BaseModel]:
    return create_model(name, __base__=says, key=key, __doc__=says.__doc__)


_KEY = (Key, Field(description="By which later facts about the same thing are known."))
#: Of what happens once, the key may be left out, and is then the fact's id.
_KEY_OR_NOT = (Key | None, Field(default=None, description="By which later facts about the same thing are known; else its id."))

_KINDS: dict[str, tuple[type[Saying], type[BaseModel]]] = {
    "release": (ReleaseSays, _keyed("Release", ReleaseSays, _KEY_OR_NOT)),
    "change": (ChangeSays, _keyed("Change", ChangeSays, _KEY)),
    "commit": (CommitSays, _keyed("Commit", CommitSays, _KEY)),
    "artifact": (ArtifactSays, _keyed("Artifact", ArtifactSays, _KEY)),
    "incident": (IncidentSays, _keyed("Incident", IncidentSays, _KEY_OR_NOT)),
    "run": (RunSays, _keyed("Run", RunSays, _KEY_OR_NOT)),
}


class _Envelope(BaseModel):
    """What every fact has."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"oneOf": [{"required": [name]} for name in _KINDS]})

    id: Key | None = Field(default=None, description="The same again is a repeat, and dropped. Left out, what it says is its id.")
    at: Moment | None = Field(
        default=None,
        description="When it happened: of two facts about one thing the newer counts. Left out, the newest moment that it says.",
    )


Told = create_model(
    "Told",
    __base__=_Envelope,
    __doc__="One fact: exactly one of the kinds.",
    **{name: (kind | None, None) for name, (_, kind) in _KINDS.items()},  # type: ignore[call-overload]
)


class Several(BaseModel):
    """Several facts at once: all are taken, or none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    facts: list[Told] = Field(max_length=MOST)


def schema() -> dict[str, Any]:
    """The JSON Schema of a body."""
    found = TypeAdapter(Told | Several).json_schema()
    found["title"] = "Facts about releases, changes, commits, artifacts, incidents and pipeline runs"
    return found


def verify(headers: Headers, body: bytes, secret: Secret) -> None:
    """Raises Refused(401) unless the token is there."""
    bearer(headers, secret)


def delivered(headers: Headers, body: bytes) -> str:
    """The body's digest."""
    return digest(body)


@refusing
def facts(headers: Headers, body: bytes, settings: Settings) -> list[Fact]:
    """What the body says. Raises Refused."""
    data = mapping(parse(body))
    several = "facts" in data
    if isinstance(data.get("facts"), list) and len(data["facts"]) > MOST:
        raise Refused(422, f"facts: at most {MOST} are taken, and there are {len(data['facts'])}")
    model: type[BaseModel] = Several if several else Told
    try:
        told = model.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as failure:
        raise wrong(failure) from None
    telling = Telling(SOURCE, digest(body))
    for number, one in enumerate(told.facts if isinstance(told, Several) else [told]):
        _say(telling, f"facts.{number}" if several else "", one)
    return telling.facts


def _say(telling: Telling, where: str, told: Any) -> None:
    given = [name for name in _KINDS if getattr(told, name) is not None]
    before = f"{where}: " if where else ""
    if len(given) != 1:
        raise Refused(422, f"{before}exactly one of {', '.join(_KINDS)} is needed, and there are {len(given)}")
    fields = dict(getattr(told, given[0]))
    key = fields.pop("key")
    if fields.get("repository"):
        fields["repository"] = canonical(fields["repository"])
    moments = {f"{given[0]}.{name}": value for name, value in fields.items() if isinstance(value, datetime)}
    for name, moment in (moments | ({"at": told.at} if told.at else {})).items():
        if moment.year not in YEARS:
            raise Refused(422, f"{before}{name}: a moment must be between {YEARS.start} and {YEARS.stop - 1}")
    says = _KINDS[given[0]][0](**fields)
    at = told.at or max(moments.values(), default=None)
    if at is None:
        raise Refused(422, f"{before}at: needed, because {given[0]} says no moment")
    name = told.id or digest(json.dumps([given[0], key, says.model_dump(mode="json"), at.isoformat()]).encode())
    telling.put(name, at, key or name, says)  # type: ignore[arg-type]

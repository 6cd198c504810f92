"""How the service is set up: by a file of settings, and secrets from the environment or from files that Kubernetes mounts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from serinus.dora.catalog import Catalog
from serinus.dora.intake import READERS, Settings

#: `SERINUS_DORA_SECRET_GITHUB`, or a file `github` in the folder `SERINUS_DORA_SECRETS`.
_SECRET, _FOLDER = "SERINUS_DORA_SECRET_", "SERINUS_DORA_SECRETS"
#: Who may read, and who may read `/metrics` alone, by `Authorization: Bearer …`.
READING, METRICS = "reading", "metrics"


class Wrong(Exception):
    """The settings cannot be used; says what to mend."""


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ValueError, OSError):
        raise ValueError(f"there is no time zone {name}") from None
    return name


class Keeping(BaseModel):
    """For how many days."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pipelines: int = Field(default=400, ge=7, description="Runs of pipelines and results of tests.")
    deliveries: int | None = Field(
        default=None,
        ge=120,
        description="Releases, changes and incidents, from when something was last said about them. Without: for ever.",
    )


class Config(BaseModel):
    """Every setting. Without a secret a source is closed, and without the one for reading only this machine may read."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    database: str = Field(
        default="sqlite:///dora.db", description="SQLAlchemy's URL: sqlite:////data/dora.db, postgresql+psycopg://…"
    )
    zone: Annotated[str, AfterValidator(_zone)] = Field(
        default="UTC", description="Time zone of days and weeks, such as Europe/Zurich."
    )
    catalog: Catalog = Field(default_factory=Catalog)
    reading: Settings = Field(default_factory=Settings, description="How the words of sources are read.")
    keep: Keeping = Field(default_factory=Keeping, description="For how many days what is kept.")
    kubernetes: bool = Field(
        default=False, description="Ask the cluster's API server who may: TokenReview, then SubjectAccessReview (rights.py)."
    )
    audiences: list[str] = Field(
        default_factory=list, description="Tokens have to be for one of these; without, for the API server itself."
    )
    user_header: str = Field(
        default="",
        description="The header in which an authenticating proxy says who asks, such as X-Forwarded-User. Only such a proxy may"
        " then have the reading secret.",
    )
    secrets: Mapping[str, bytes] = Field(default_factory=dict, exclude=True)


def load(path: Path | None, environment: Mapping[str, str] = os.environ) -> Config:
    """From a YAML file, and the secrets of the environment. Raises Wrong."""
    try:
        known = yaml.safe_load(path.read_text()) if path else {}
        return Config.model_validate({**(known or {}), "secrets": _secrets(environment)})
    except OSError as error:
        raise Wrong(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValidationError) as error:
        raise Wrong(f"{path} is not as it has to be: {error}") from None


def _secrets(environment: Mapping[str, str]) -> dict[str, bytes]:
    folder = environment.get(_FOLDER)
    found = {}
    for name in (*READERS, READING, METRICS):
        file = Path(folder) / name if folder else None
        if value := environment.get(_SECRET + name.upper()):
            found[name] = value.encode()
        elif file and file.is_file():
            found[name] = file.read_bytes().strip()
    return {name: secret for name, secret in found.items() if secret}

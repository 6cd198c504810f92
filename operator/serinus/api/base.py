"""What every resource shares: bounded types, conditions, and the pydantic base classes.

Every string and list is bounded. The API server estimates the cost of CEL rules from those bounds and refuses a CRD
whose rules could be too dear.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel

GROUP = "serinus.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

#: On the user's Deployment: names the Canary that delivers it. The admission policies select by it.
CANARY_LABEL = f"{GROUP}/canary"
#: On everything that Serinus creates for one release: the Canary's name.
OWNED_LABEL = f"{GROUP}/owned-by"
#: On the pods of the new version, value ``canary``.
ROLE_LABEL = f"{GROUP}/role"
#: On the user's Deployment while a judged version rolls out: the Release's name. Template changes are refused meanwhile.
PROMOTING_ANNOTATION = f"{GROUP}/promoting"
#: On the pod template: this version goes out at once, without judgement, and is recorded as such.
SKIP_ANNOTATION = f"{GROUP}/skip"
#: On the Canary: ``<release>/<step>`` ends the pause of that step.
RESUME_ANNOTATION = f"{GROUP}/resume"
#: On the Canary: the name of the release to abort.
ABORT_ANNOTATION = f"{GROUP}/abort"
#: On the Canary: the name of the rolled-back release to try once more.
RETRY_ANNOTATION = f"{GROUP}/retry"
FINALIZER = f"{GROUP}/traffic"

Name = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
Label = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
#: Characters of a sentence that is kept.
LONGEST = 2048
Text = Annotated[str, Field(max_length=LONGEST)]
Short = Annotated[str, Field(max_length=256)]
#: Something printable is in it. Said without \S, of which Go and Rust, and so the API server and pydantic, think differently.
PromQL = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"[!-~]")]
#: At most some 4,500 years: added to today it is still a date.
Duration = Annotated[
    str,
    Field(
        max_length=32,
        pattern=r"^([0-9]{1,7}(\.[0-9]+)?(ms|s|m|h))+$",
        description="A length of time such as 30s, 5m or 1h30m; never negative.",
    ),
]
Percent = Annotated[
    str, Field(max_length=16, pattern=r"^[0-9]{1,3}(\.[0-9]{1,6})?%$", description="A percentage such as 1% or 0.05%.")
]


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


#: A moment with microseconds, written as Kubernetes' MicroTime.
Time = Annotated[datetime, PlainSerializer(_rfc3339, return_type=str), Field(json_schema_extra={"format": "date-time"})]

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str) -> timedelta:
    """``1h30m`` -> timedelta. Raises ValueError for anything the schema's pattern would refuse."""
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)", text)
    if not parts or "".join(n + u for n, u in parts) != text:
        raise ValueError(f"{text!r} is not a duration such as 30s, 5m or 1h30m")
    return timedelta(seconds=sum(float(n) * _UNITS[u] for n, u in parts))


def parse_percent(text: str) -> float:
    """``1%`` -> 0.01."""
    return float(text.removesuffix("%")) / 100


def fitted(sentence: str, limit: int = LONGEST) -> str:
    """`sentence`, cut where the API server would refuse the whole status for it."""
    return sentence if len(sentence) <= limit else f"{sentence[: limit - 1]}…"


def short_name(name: str, limit: int = 63) -> str:
    """`name`, cut to `limit` characters with a hash at its end so that two long names stay two."""
    if len(name) <= limit:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: limit - 9].rstrip('-.')}-{digest}"


class Model(BaseModel):
    """camelCase outside, snake_case inside. Unknown fields are ignored, so that a newer CRD never stops an older operator."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")

    def dump(self) -> dict[str, Any]:
        """As the API server would hold it: aliases, no nulls."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class Condition(Model):
    """As metav1.Condition."""

    type: Short
    status: Annotated[str, Field(pattern="^(True|False|Unknown)$", max_length=7)]
    reason: Short
    message: Annotated[str, Field(max_length=4096)] = ""
    observed_generation: int | None = None
    last_transition_time: Time | None = None


class Metadata(BaseModel):
    """The parts of ObjectMeta that the controller reads; everything else is left as it is."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="allow")

    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    finalizers: list[str] = Field(default_factory=list)
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None


class Resource(Model):
    """A custom resource: what the CRD generator and the client need to know of it."""

    kind: ClassVar[str]
    plural: ClassVar[str]
    short_names: ClassVar[list[str]] = []
    columns: ClassVar[list[dict[str, Any]]] = []

    metadata: Metadata

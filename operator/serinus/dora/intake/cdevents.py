"""CDEvents v0.5.1, and 0.3 and 0.4 as far as they say the same, in CloudEvents 1.0. Pure.

https://github.com/cdevents/spec/tree/v0.5.1; https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md.

Serinus' own events say all that is known of the release, in ``customData.serinus``. What other tools' events say is less: a
deployment is seen by all users at once, and a rollback takes back the release of its chain, or the event that its links name.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from serinus.api.release import Outcome
from serinus.dora.facts import ArtifactSays, ChangeSays, Fact, IncidentSays, ReleaseSays, RunSays
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
    content_type,
    digest,
    header,
    mapping,
    parse,
    read,
    refusing,
)
from serinus.dora.intake.settings import Settings
from serinus.dora.repository import canonical

SOURCE = "cdevents"
#: Events of one batch.
MOST = 1000

_TYPE = re.compile(r"dev\.cdevents\.([a-z]+)\.([a-z]+)\.\d+\.\d+\.\d+(?:-[a-z0-9.]+)?")
_HASH = re.compile(r"[0-9a-fA-F]{40}|[0-9a-fA-F]{64}")
_WENT_BACK = ("RolledBack", "Aborted", "Superseded")


def verify(headers: Headers, body: bytes, secret: Secret) -> None:
    """Raises Refused(401) unless the token is there."""
    bearer(headers, secret)


def delivered(headers: Headers, body: bytes) -> str:
    """The body's digest: a batch has no id of its own. The facts have their event's id."""
    return digest(body)


@refusing
def facts(headers: Headers, body: bytes, settings: Settings) -> list[Fact]:
    """What the event, or each event of the batch, says; nothing for those that are not read here. Raises Refused."""
    said: list[Fact] = []
    for where, data in _events(headers, body):
        said.extend(_facts(data, where))
    return said


# --- CloudEvents


def _events(headers: Headers, body: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where it is, the CDEvent) of each; not of CloudEvents that carry something else."""
    kind, data = content_type(headers), parse(body)
    if kind == "application/cloudevents-batch+json":
        if not isinstance(data, list):
            raise Refused(422, "the body: expected a list of events")
        if len(data) > MOST:
            raise Refused(413, f"the batch has {len(data)} events; at most {MOST} are taken at once")
        for number, one in enumerate(data):
            yield from _structured(str(number), mapping(one, str(number)))
    elif kind.startswith("application/cloudevents"):
        if kind != "application/cloudevents+json":
            raise Refused(415, f"{kind:.80} is not read; application/cloudevents+json is")
        yield from _structured("", mapping(data))
    elif header(headers, "ce-specversion"):
        _supported(header(headers, "ce-specversion"), "the header ce-specversion")
        if header(headers, "ce-type").startswith("dev.cdevents."):
            yield "", mapping(data)
    else:  # sent as it is
        yield "", mapping(data)


def _structured(where: str, event: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    before = f"{where}." if where else ""
    _supported(event.get("specversion"), f"{before}specversion")
    kind, data = event.get("type"), event.get("data")
    if not isinstance(kind, str):
        raise Refused(422, f"{before}type: a CloudEvent needs it")
    if not kind.startswith("dev.cdevents."):
        return
    if isinstance(event.get("data_base64"), str):
        try:
            data = parse(base64.b64decode(event["data_base64"], validate=True))
        except (binascii.Error, ValueError):
            raise Refused(422, f"{before}data_base64: expected JSON in base64") from None
    yield f"{before}data", mapping(data, f"{before}data")


def _supported(version: object, where: str) -> None:
    if version != "1.0":
        raise Refused(422, f"{where}: CloudEvents 1.0 is read, and this is {version!r:.40}")


# --- CDEvents


class Reference(Payload):
    """Something by its id, which is unique within its source."""

    id: str = Field(min_length=1)
    source: Text = ""


class Origin(Payload):
    """The event a link is from, or leads to."""

    contextId: str = Field(min_length=1)  # noqa: N815


class Link(Payload):
    """An embedded link."""

    linkType: Text = ""  # noqa: N815
    linkKind: Text = ""  # noqa: N815
    origin: Origin | None = Field(default=None, alias="from")
    target: Origin | None = None


class Context(Payload):
    """Of every event. 0.4 writes specversion as version; nothing depends on it."""

    id: str = Field(min_length=1)
    source: str = Field(min_length=1)
    type: str
    timestamp: When
    chainId: Text = ""  # noqa: N815
    links: Annotated[list[Link], at_most(256)] = Field(default_factory=list)


class Content(Payload):
    """What all kinds of subjects have, taken together; 0.4 writes uri as url."""

    environment: Reference | None = None
    artifactId: Text = ""  # noqa: N815
    service: Reference | None = None
    description: Text = ""
    ticketURI: Text = ""  # noqa: N815
    repository: Reference | None = None
    change: Reference | None = None
    pipelineName: Text = ""  # noqa: N815
    taskName: Text = ""  # noqa: N815
    pipelineRun: Reference | None = None  # noqa: N815
    outcome: Text = ""
    uri: Text = ""
    url: Text = ""


class Subject(Payload):
    """What it is about."""

    id: str = Field(min_length=1)
    source: Text = ""
    content: Content


class CDEvent(Payload):
    """One event."""

    context: Context
    subject: Subject
    customData: Any = None  # noqa: N815

    @property
    def key(self) -> str:
        """Of the subject."""
        return _key(self, Reference(id=self.subject.id, source=self.subject.source))


def _facts(data: dict[str, Any], where: str) -> list[Fact]:
    before = f"{where}." if where else ""
    context = read(Context, data.get("context"), f"{before}context")
    found = _TYPE.fullmatch(context.type)
    what = f"{found[1]}.{found[2]}" if found else ""
    custom = data.get("customData")
    own = custom.get("serinus") if isinstance(custom, dict) else None
    telling = Telling(f"{SOURCE}:{context.source}", context.id)
    if own is not None and what.startswith(("service.", "incident.")):
        _serinus(telling, context, read(Details, own, f"{before}customData.serinus"))
    elif what in _SAY:
        _SAY[what](telling, read(CDEvent, data, where), what)
    return telling.facts


def _key(event: CDEvent, thing: Reference) -> str:
    return f"{thing.source or event.subject.source or event.context.source}#{thing.id}"


# --- Serinus' own


class Times(Payload):
    """Of a release, as Release.status.times has them."""

    requested: Perhaps = None
    firstExposed: Perhaps = None  # noqa: N815
    faultBegan: Perhaps = None  # noqa: N815
    decided: Perhaps = None
    zeroWritten: Perhaps = None  # noqa: N815
    zeroVerified: Perhaps = None  # noqa: N815
    promoted: Perhaps = None


class Evidence(Payload):
    """Of one check."""

    verdict: Text = ""


class Exposure(Payload):
    """What the new version was given."""

    requests: float | None = None
    failures: float | None = None
    shareSeconds: float | None = None  # noqa: N815


class Details(Payload):
    """customData.serinus."""

    releaseUid: str = Field(min_length=1)  # noqa: N815
    namespace: str
    deployment: str
    kind: Text = ""
    artifactId: Text = ""  # noqa: N815
    servingArtifactId: Text = ""  # noqa: N815
    commit: Text = ""
    repository: Text = ""
    changedBy: Text = ""  # noqa: N815
    times: Times
    outcome: Outcome | None = None
    reason: Text = ""
    why: Text = ""
    exposure: Exposure | None = None
    evidence: Annotated[list[Evidence], at_most(256)] = Field(default_factory=list)


def _serinus(telling: Telling, context: Context, own: Details) -> None:
    """All of it, whichever event this is, so that one that is lost or late takes nothing away.

    There is no incident of its own: the release has when the fault began, was detected and was over.
    """
    times, exposure = own.times, own.exposure or Exposure()
    went_back = own.outcome in _WENT_BACK
    # As the outbox decides whether there was an incident.
    harmed = own.outcome == "RolledBack" or (went_back and any(one.verdict == "Fail" for one in own.evidence))
    says = ReleaseSays(
        service=f"{own.namespace}/{own.deployment}",
        environment=own.namespace,
        artifact=own.artifactId,
        serving_artifact=own.servingArtifactId,
        commit=own.commit,
        repository=canonical(own.repository),
        by=own.changedBy,
        restart=own.kind == "Restart",
        outcome=own.outcome,
        why=own.why or own.reason,
        harmed=True if harmed else None,
        requested=times.requested,
        exposed=times.firstExposed or times.promoted,  # a hotfix without judgement has its first user with all the others
        promoted=times.promoted,
        fault_began=times.faultBegan,
        detected=(times.decided or times.zeroWritten or times.zeroVerified) if harmed else None,
        returned=times.zeroVerified if went_back else None,
        share_seconds=exposure.shareSeconds,
        requests=exposure.requests,
        failures=exposure.failures,
    )
    telling.say(context.timestamp, own.releaseUid, says)


# --- other tools'


def _chained(event: CDEvent, service: str) -> str:
    """The release of this service and environment in the event's chain; '' without a chain."""
    environment = event.subject.content.environment
    return f"{event.context.chainId}/{environment.id if environment else ''}/{service}" if event.context.chainId else ""


def _linked(event: CDEvent, *kinds: str) -> str:
    """The id of the event that a link of one of `kinds` (PATH, or a RELATION's kind) names."""
    for link in event.context.links:
        other = link.origin if link.linkType == "PATH" else link.target
        if other is not None and (link.linkType if link.linkType == "PATH" else link.linkKind.upper()) in kinds:
            return other.contextId
    return ""


def _deployed(telling: Telling, event: CDEvent, _: str) -> None:
    content, at, service = event.subject.content, event.context.timestamp, event.subject.id
    says = ReleaseSays(
        service=service,
        environment=content.environment.id if content.environment else "",
        artifact=content.artifactId,
        outcome="Promoted",
        exposed=at,
        promoted=at,
    )
    telling.say(at, _chained(event, service) or event.context.id, says)


def _rolledback(telling: Telling, event: CDEvent, _: str) -> None:
    """Of which release it is not always said. Then it is an incident, which is blamed on the release that was live."""
    content, at, service = event.subject.content, event.context.timestamp, event.subject.id
    environment = content.environment.id if content.environment else ""
    release = _linked(event, "REVERTS", "REVERTED", "PATH") if not event.context.chainId else _chained(event, service)
    if release:
        back = ReleaseSays(service=service, environment=environment, outcome="RolledBack", returned=at)
        telling.say(at, release, back)
    else:
        title = f"rolled back to {content.artifactId}" if content.artifactId else "rolled back"
        says = IncidentSays(service=service, environment=environment, title=title, began=at, resolved=at)
        telling.say(at, _key(event, Reference(id=event.context.id)), says)


def _incident(telling: Telling, event: CDEvent, what: str) -> None:
    content, at = event.subject.content, event.context.timestamp
    service = content.service.id if content.service else ""
    custom = event.customData if isinstance(event.customData, dict) else {}
    severity = custom.get("severity")
    cause = _linked(event, "CAUSED_BY", "CAUSEDBY")
    says = IncidentSays(
        service=service,
        environment=content.environment.id if content.environment else "",
        title=content.description if what != "incident.resolved" else "",
        url=content.ticketURI,
        severity=severity if isinstance(severity, str) else "",
        release=(_chained(event, service) or cause) if cause else "",
        began=at if what == "incident.detected" else None,
        # A report comes after: of both, the first counts.
        detected=at if what != "incident.resolved" else None,
        resolved=at if what == "incident.resolved" else None,
    )
    telling.say(at, event.key, says)


def _change(telling: Telling, event: CDEvent, what: str) -> None:
    subject, at = event.subject, event.context.timestamp
    where = subject.content.repository
    repository = _repository(where) if where else ""
    says = ChangeSays(
        repository=repository,
        number=subject.id,
        title=subject.content.description,
        opened=at if what == "change.created" else None,
        first_review=at if what == "change.reviewed" else None,
        merged=at if what == "change.merged" else None,
        closed=at if what in ("change.merged", "change.abandoned") else None,
    )
    telling.say(at, f"{repository}#{subject.id}" if repository else event.key, says)


def _repository(where: Reference) -> str:
    """github.com/shop/checkout of the source https://github.com and the id shop/checkout."""
    host = where.source.rstrip("/")
    return canonical(where.id if "://" in where.id or not host else f"{host}/{where.id}")


def _packaged(telling: Telling, event: CDEvent, _: str) -> None:
    change, at = event.subject.content.change, event.context.timestamp
    commit = change.id if change and _HASH.fullmatch(change.id) else ""
    says = ArtifactSays(repository=canonical(change.source) if change else "", commit=commit, built=at)
    telling.say(at, event.subject.id, says)


Result = Literal["", "success", "failure", "cancelled", "skipped"]
_RESULTS: dict[str, Result] = {"success": "success", "failure": "failure", "error": "failure", "cancel": "cancelled"}


def _run(telling: Telling, event: CDEvent, what: str) -> None:
    content, at = event.subject.content, event.context.timestamp

    def when(*ends: str) -> datetime | None:
        return at if what.endswith(ends) else None

    says = RunSays(
        parent=_key(event, content.pipelineRun) if content.pipelineRun else "",
        name=content.pipelineName or content.taskName,
        url=content.uri or content.url,
        result=_RESULTS.get(content.outcome, "") if what.endswith(".finished") else "",
        queued=when(".queued"),
        started=when(".started"),
        finished=when(".finished"),
    )
    telling.say(at, event.key, says)


#: What has no place here says nothing: an update of a change, a service that was removed, an artifact that was published.
_SAY: dict[str, Callable[[Telling, CDEvent, str], None]] = {
    "service.deployed": _deployed,
    "service.upgraded": _deployed,
    "service.rolledback": _rolledback,
    "incident.detected": _incident,
    "incident.reported": _incident,
    "incident.resolved": _incident,
    "change.created": _change,
    "change.reviewed": _change,
    "change.merged": _change,
    "change.abandoned": _change,
    "artifact.packaged": _packaged,
    "pipelinerun.queued": _run,
    "pipelinerun.started": _run,
    "pipelinerun.finished": _run,
    "taskrun.started": _run,
    "taskrun.finished": _run,
}

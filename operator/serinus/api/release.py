"""Release: one attempt to deliver one version. Written by the controller only.

The spec says what is attempted and never changes. The status is the attempt's whole memory: a controller that starts
anew goes on from it. It is also the outbox: an event stays in ``events`` until its receivers have taken it.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from serinus.api.base import Label, Model, Resource, Short, Text, Time

Stage = Literal[
    "Preparing",  # canary pods start, weight 0
    "Stepping",  # at a step's weight, judged at every look
    "Paused",  # at a pause step, judged at every look
    "Promoting",  # the judged version rolls out to the user's Deployment
    "Returning",  # traffic goes back to the user's Service, now on the new version
    "Draining",  # weight 0 after a promotion
    "RollingBack",  # weight 0 is written, not yet seen
    "Keeping",  # traffic is safe; the canary's pods stay for whoever wants to look
    "Cleaning",  # the route is put back, then the canary's objects are removed
    "Ended",
]
Outcome = Literal["Promoted", "RolledBack", "Aborted", "Superseded", "Skipped"]
Kind = Literal["Deploy", "Restart", "Retry"]

#: An object that the CRD keeps as it is.
Opaque = Annotated[dict[str, Any], Field(json_schema_extra={"type": "object", "x-kubernetes-preserve-unknown-fields": True})]


class Target(Model):
    """The Deployment as it was when the attempt was noticed."""

    name: Label
    uid: Annotated[str, Field(max_length=64)]
    generation: int
    replicas: int = 1


class ReleaseSpec(Model):
    """What is attempted."""

    canary: Annotated[str, Field(max_length=253)]
    target: Target
    kind: Kind = "Deploy"
    attempt: Annotated[int, Field(ge=1)] = 1
    revision: Short
    serving_revision: Short = ""
    serving_replica_set: Annotated[str, Field(max_length=253)] = ""
    template: Opaque
    serving_template: Opaque
    images: Annotated[list[Annotated[str, Field(max_length=512)]], Field(max_length=32)] = Field(default_factory=list)
    commit: Short = ""
    repository: Annotated[str, Field(max_length=512)] = ""
    changed_by: Short = ""
    requested_at: Time


class Times(Model):
    """Moments of the attempt, as the controller's clock had them."""

    canary_ready: Time | None = None
    first_exposed: Time | None = None
    fault_began: Time | None = None
    decided: Time | None = None
    zero_written: Time | None = None
    zero_verified: Time | None = None
    unpaused: Time | None = None
    returning: Time | None = None
    promoted: Time | None = None
    ended: Time | None = None


#: Steps that are kept on record. A plan has at most 20, and may be changed in mid-release.
MOST_STEPS = 64


class StepReached(Model):
    """A weight that the router has accepted."""

    weight: int
    at: Time


class Tally(Model):
    """The sequential test of one check so far: all that its next look needs, so that a new process goes on from here.

    Counts are of the version that is judged, and of the one that it is compared with (`beside`).
    """

    #: Which check, version and beginning these numbers are of; others are another test.
    of: Short = ""
    #: The moment that the counts reach up to.
    as_of: Time | None = None
    bad: Annotated[float, Field(description="Bad events of the version that is judged.")] = 0
    total: Annotated[float, Field(description="All its events.")] = 0
    beside_bad: Annotated[float, Field(description="Bad events of the version beside it.")] = 0
    beside_total: Annotated[float, Field(description="All its events.")] = 0
    #: Of these, what no look has judged yet, because one of the two versions had no requests: bad, total, and beside.
    pending: Annotated[list[float], Field(max_length=4)] = Field(default_factory=lambda: [0.0] * 4)
    #: The judged version's newest at this weight, the older ones faded: bad, total.
    recent: Annotated[list[float], Field(max_length=2)] = Field(default_factory=lambda: [0.0] * 2)
    weight: Annotated[int, Field(description="The canary's share at the last look, in percent.")] = 0
    #: How often wealth was dealt out anew.
    stretches: int = 0
    #: The total at which it was so the last time.
    dealt_at: float = 0
    #: Looks in which both had requests.
    looks: int = 0
    #: Those of them in which there was a version to compare with.
    compared: int = 0
    #: ln of the wealth of each bet.
    log_wealth: Annotated[list[float], Field(max_length=16)] = Field(default_factory=list)
    #: Sum of bad squared by total over the looks at the other version: how much its errors clump.
    spread: float = 0
    #: Of one look, at least half of the requests failed and the other version's did not.
    severe: bool = False
    #: When the first bad event of the judged version was seen.
    fault_began: Time | None = None


class Evidence(Model):
    """The last numbers of one check."""

    metric: Short
    verdict: Literal["Pass", "Fail", "Wait", "NoData", "Error"]
    bad: float | None = None
    total: float | None = None
    value: float | None = None
    limit: Short = ""
    sentence: Text = ""
    #: Where the numbers are from: prometheus, or direct.
    source: Short = ""
    #: What the next look of this check needs.
    tally: Tally | None = None


class Exposure(Model):
    """What the new version was given while it was being judged."""

    requests: float = 0
    failures: float = 0
    share_seconds: Annotated[float, Field(description="Sum of share (0 to 1) times seconds.")] = 0


class RouteRecord(Model):
    """A route as it was before the first write, so that it can be put back exactly."""

    kind: Literal["HTTPRoute", "GRPCRoute"]
    name: Annotated[str, Field(max_length=253)]
    weights: Annotated[dict[str, int], Field(max_length=512, description="'rule/backendRef' to the user's weight; -1 for none.")]
    managed_fields: Annotated[list[Opaque], Field(max_length=64)] = Field(default_factory=list)


class AutoscalerRecord(Model):
    """A HorizontalPodAutoscaler whose minReplicas was raised for the length of the release."""

    name: Annotated[str, Field(max_length=253)]
    min_replicas: int | None = None
    #: What it was raised to: whoever sets another meanwhile keeps it.
    floor: int = 0


EventType = Literal["deployed", "upgraded", "rolledback", "incident.detected", "incident.resolved"]


class OutboxEvent(Model):
    """An event that receivers are owed. Its content follows from the Release; its id never changes."""

    type: EventType
    id: Annotated[str, Field(max_length=128)]
    at: Time
    delivered_at: Time | None = None


class ReleaseStatus(Model):
    """How far the attempt has come."""

    stage: Stage = "Preparing"
    outcome: Outcome | None = None
    reason: Short = ""
    why: Text = ""
    step: int = 0
    weight: Annotated[int, Field(ge=0, le=100)] = 0
    stage_since: Time | None = None
    #: When the router had accepted this step's weight.
    step_since: Time | None = None
    #: Requests that the checks had counted by then.
    step_requests: float = 0
    #: Since when fewer pods are ready than the weight needs.
    unready_since: Time | None = None
    #: Since when some of them are fewer than were ready before.
    lost_since: Time | None = None
    #: The most canary pods that were ready at once: more that are asked for later have not been lost.
    most_ready: int = 0
    #: The promotion, or putting the serving version back after it, missed its deadline; template changes are accepted again.
    stuck: bool = False
    #: The new version had begun to roll out when it failed: the serving template is put back into the Deployment.
    undo: bool = False
    #: After new pods failed while traffic was going back: not before this.
    return_after: Time | None = None
    #: How often somebody else put the route back in mid-release, and when last.
    route_reverts: int = 0
    route_reverted_at: Time | None = None
    #: How often the share was not what had been written, because somebody else had changed it since.
    share_changes: int = 0
    #: The routes' generations, added up, at the last of these changes.
    share_changed: int = 0
    times: Times = Field(default_factory=Times)
    steps: Annotated[list[StepReached], Field(max_length=MOST_STEPS)] = Field(default_factory=list)
    evidence: Annotated[list[Evidence], Field(max_length=16)] = Field(default_factory=list)
    exposure: Exposure = Field(default_factory=Exposure)
    routes: Annotated[list[RouteRecord], Field(max_length=64)] = Field(default_factory=list)
    autoscalers: Annotated[list[AutoscalerRecord], Field(max_length=8)] = Field(default_factory=list)
    events: Annotated[list[OutboxEvent], Field(max_length=16)] = Field(default_factory=list)


class Release(Resource):
    """One attempt."""

    kind: ClassVar[str] = "Release"
    plural: ClassVar[str] = "releases"
    short_names: ClassVar[list[str]] = ["rel"]
    columns: ClassVar[list[dict[str, Any]]] = [
        {"name": "Canary", "type": "string", "jsonPath": ".spec.canary"},
        {"name": "Revision", "type": "string", "jsonPath": ".spec.revision"},
        {"name": "Stage", "type": "string", "jsonPath": ".status.stage"},
        {"name": "Outcome", "type": "string", "jsonPath": ".status.outcome"},
        {"name": "Why", "type": "string", "jsonPath": ".status.why", "priority": 1},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]

    spec: ReleaseSpec
    status: ReleaseStatus = Field(default_factory=ReleaseStatus)

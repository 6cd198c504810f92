"""Canary: what to deliver progressively, how traffic is split, the steps, the checks. Written by the service's team."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from serinus.api.base import (
    Condition,
    Duration,
    Label,
    Model,
    Name,
    Percent,
    PromQL,
    Resource,
    Short,
    Text,
    Time,
)


def rules(*pairs: tuple[str, str]) -> dict[str, Any]:
    """CEL rules for the CRD: (expression, the sentence a person sees)."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in pairs]}


class TargetRef(Model):
    """The workload that is delivered. It stays the user's own."""

    api_version: Literal["apps/v1"] = "apps/v1"
    kind: Literal["Deployment"] = "Deployment"
    name: Label


class ServiceRef(Model):
    """The Service whose traffic is split."""

    name: Label
    port: Annotated[int, Field(ge=1, le=65535)]


class RouteRef(Model):
    """A route in the Canary's namespace that has the Service among its backendRefs."""

    name: Name


class GatewayAPI(Model):
    """Gateway API routes, v1: https://gateway-api.sigs.k8s.io/reference/spec/."""

    model_config = Model.model_config | {
        "json_schema_extra": rules(
            (
                "(has(self.httpRoutes) ? size(self.httpRoutes) : 0) + (has(self.grpcRoutes) ? size(self.grpcRoutes) : 0) > 0",
                "spec.traffic.gatewayAPI needs at least one entry in httpRoutes or grpcRoutes",
            )
        )
    }

    http_routes: Annotated[list[RouteRef], Field(max_length=8)] | None = None
    grpc_routes: Annotated[list[RouteRef], Field(max_length=8)] | None = None


class PodRatio(Model):
    """No router: canary pods join the Service, and their share follows their number (at most half)."""


class Traffic(Model):
    """Exactly one router."""

    model_config = Model.model_config | {
        "json_schema_extra": rules(
            (
                "(has(self.gatewayAPI) ? 1 : 0) + (has(self.podRatio) ? 1 : 0) == 1",
                "spec.traffic needs exactly one router: gatewayAPI or podRatio",
            )
        )
    }

    gateway_api: GatewayAPI | None = Field(default=None, alias="gatewayAPI")
    pod_ratio: PodRatio | None = None


class Pause(Model):
    """Waits until a person goes on: annotate the Canary with serinus.dev/resume=<release>/<step>."""


class Step(Model):
    """A share of traffic to reach, or a pause."""

    model_config = Model.model_config | {
        "json_schema_extra": rules(
            ("has(self.weight) != has(self.pause)", "each entry of spec.steps needs exactly one of weight or pause"),
            ("!has(self.duration) || has(self.weight)", "duration in spec.steps belongs to a weight, not to a pause"),
            (
                "(!has(self.minDuration) && !has(self.maxDuration)) || (has(self.weight) && !has(self.duration))",
                "minDuration and maxDuration in spec.steps bound a weight that has no duration",
            ),
            (
                "!has(self.minDuration) || !has(self.maxDuration) || duration(self.minDuration) <= duration(self.maxDuration)",
                "minDuration in spec.steps must not be above maxDuration",
            ),
        )
    }

    weight: Annotated[int, Field(ge=1, le=100, description="Percent of the Service's traffic.")] | None = None
    duration: Annotated[Duration, Field(description="This long; without it, as long as the evidence needs.")] | None = None
    min_duration: Annotated[Duration, Field(description="At least this long, however soon health is shown.")] | None = None
    max_duration: (
        Annotated[Duration, Field(description="Go on after this although health is not shown, as long as nothing failed.")] | None
    ) = None
    pause: Pause | None = None


class Ratio(Model):
    """Two counters, as PromQL without rate(): their increase since the release's own beginning is judged."""

    bad: PromQL
    total: PromQL


class TemplateRef(Model):
    """A MetricTemplate by name, here or in another namespace that shares it."""

    name: Label
    namespace: Label | None = None
    args: Annotated[dict[str, Short], Field(max_length=16)] | None = None


class PodMetrics(Model):
    """Where the pods of both versions show their own counters."""

    port: Annotated[int, Field(ge=1, le=65535, description="Of the pod; no Service is asked.")]
    path: Annotated[str, Field(max_length=256, pattern=r"^/[!-~]*$", description="Of the page, with its query.")] = "/metrics"


def _optional(schema: dict[str, Any]) -> None:
    # '' is no name: the API server must not fill it in.
    schema.pop("default")


class Metric(Model):
    """One check. Exactly one of builtin, templateRef, ratio and query."""

    model_config = Model.model_config | {
        "json_schema_extra": rules(
            (
                "(has(self.builtin) ? 1 : 0) + (has(self.templateRef) ? 1 : 0) + (has(self.ratio) ? 1 : 0)"
                " + (has(self.query) ? 1 : 0) == 1",
                "each entry of spec.analysis.metrics needs exactly one of builtin, templateRef, ratio or query",
            ),
            (
                "has(self.name) || has(self.builtin)",
                "each entry of spec.analysis.metrics needs a name, unless it is a builtin",
            ),
            (
                "(has(self.builtin) && self.builtin == 'slow') == has(self.slowerThan)",
                "slowerThan belongs to builtin: slow, which needs it",
            ),
            (
                "!has(self.slowerThan) || duration(self.slowerThan) > duration('0s')",
                "slowerThan must be above 0s",
            ),
            ("!has(self.exporter) || has(self.builtin)", "exporter belongs to a builtin"),
            (
                "(has(self.query) || has(self.templateRef)) || !has(self.worse)",
                "worse compares a query's numbers; a ratio is compared with the serving version anyway",
            ),
            ("!has(self.tolerance) || has(self.worse)", "tolerance belongs to worse"),
            (
                "!has(self.builtin) || (!has(self.min) && !has(self.max) && !has(self.failureLimit))",
                "min, max and failureLimit judge a query; a builtin is judged against harm",
            ),
            (
                "!has(self.query) || self.source == 'prometheus'",
                "source: direct reads counters; a query needs Prometheus",
            ),
            (
                "!has(self.podMetrics) || self.source == 'direct'",
                "podMetrics says where source: direct reads; Prometheus has its own",
            ),
            (
                "!has(self.ratio) || (!has(self.min) && !has(self.max) && !has(self.failureLimit))",
                "min, max and failureLimit judge a query; a ratio is judged against harm",
            ),
            ("!has(self.harm) || !has(self.query)", "harm judges a ratio; a query is judged by min and max"),
            ("!has(self.ratio) || has(self.harm)", "a ratio needs harm, the rate below which no version is blamed"),
            ("!has(self.query) || has(self.min) || has(self.max) || has(self.worse)", "a query needs min, max or worse"),
            ("!has(self.min) || !has(self.max) || self.min <= self.max", "min must not be above max"),
            (
                "!has(self.harm) || (double(self.harm.replace('%', '')) > 0.0 && double(self.harm.replace('%', '')) < 100.0)",
                "harm must be above 0% and below 100%",
            ),
        )
    }

    name: Annotated[
        Label, Field(json_schema_extra=_optional, description="Of a builtin: its kind, unless you say otherwise.")
    ] = ""
    builtin: (
        Annotated[
            Literal["errors", "slow"],
            Field(description="A ready-made check of failed requests, or of those slower than slowerThan; harm is 1% or 5%."),
        ]
        | None
    ) = None
    slower_than: Annotated[Duration, Field(description="A bucket of the exporter's histogram.")] | None = None
    exporter: (
        Annotated[
            Literal["traefik", "istio", "linkerd", "envoy-gateway", "envoy-gateway-merged", "nginx-gateway-fabric", "app"],
            Field(description="Whose counters a builtin reads; without it, those of the route's Gateway controller."),
        ]
        | None
    ) = None
    template_ref: TemplateRef | None = None
    ratio: Ratio | None = None
    query: PromQL | None = None
    min: float | None = None
    max: float | None = None
    failure_limit: Annotated[int, Field(ge=0, le=100, description="Consecutive failing looks that are tolerated.")] | None = None
    worse: (
        Annotated[
            Literal["higher", "lower"],
            Field(description="Compare a query's number with the serving version's own, pair by pair: which way is worse."),
        ]
        | None
    ) = None
    tolerance: (
        Annotated[Percent, Field(description="How much higher, or lower, than the serving version's is not worse yet; else 10%.")]
        | None
    ) = None
    harm: Annotated[Percent, Field(description="Never blame a version whose rate of bad events is below this.")] | None = None
    baseline: Annotated[
        Literal["serving", "none"],
        Field(
            description="What a ratio is compared with: the version that serves at the same moment, or only harm (where requests"
            " are not split at random, or are not counted at the same place)."
        ),
    ] = "serving"
    source: Annotated[
        Literal["prometheus", "direct"],
        Field(
            description="direct: read the gateway's own counters, or with podMetrics the pods', at every look, without waiting"
            " for a scrape. The same test judges them."
        ),
    ] = "prometheus"
    pod_metrics: Annotated[PodMetrics, Field(description="What direct reads instead of the gateway's page.")] | None = None

    @model_validator(mode="after")
    def _named(self) -> Metric:
        self.name = self.name or self.builtin or ""
        return self


class Analysis(Model):
    """How the new version is judged."""

    model_config = Model.model_config | {
        "json_schema_extra": rules(
            (
                "!has(self.interval) || (duration(self.interval) >= duration('500ms')"
                " && duration(self.interval) <= duration('10m'))",
                "spec.analysis.interval must be between 500ms and 10m",
            ),
            (
                "!has(self.metrics) || self.metrics.all(m, self.metrics.exists_one(o,"
                " (has(o.name) ? o.name : o.builtin) == (has(m.name) ? m.name : m.builtin)))",
                "every name in spec.analysis.metrics must be there once",
            ),
            (
                "!has(self.falseRollbacks) || (double(self.falseRollbacks.replace('%', '')) > 0.0"
                " && double(self.falseRollbacks.replace('%', '')) <= 50.0)",
                "spec.analysis.falseRollbacks must be above 0% and at most 50%",
            ),
            (
                "!has(self.severe) || double(self.severe.replace('%', '')) <= 100.0",
                "spec.analysis.severe must be at most 100%",
            ),
        )
    }

    interval: Annotated[
        Duration,
        Field(
            description="Time between two looks. Where Prometheus says when it scrapes, a look follows each scrape instead, if"
            " those are further apart."
        ),
    ] = "1s"
    metrics: Annotated[list[Metric], Field(max_length=16)] = Field(default_factory=list)
    false_rollbacks: Annotated[
        Percent, Field(description="The chance of rolling back a version that is no worse, over all checks and looks.")
    ] = "1%"
    severe: Annotated[
        Percent,
        Field(
            description="Act at once on a look in which at least this share of at least 20 requests failed, and the serving"
            " version's did not; 0% for never. Bursts that hit one version only are rolled back by it, beyond falseRollbacks."
        ),
    ] = "0%"
    independent_errors: Annotated[
        bool, Field(description="Errors do not come in clumps: each is evidence of its own, and verdicts are faster.")
    ] = False
    warm_up: Annotated[
        Duration, Field(description="Requests are not counted while a pod of the new version is ready for less than this.")
    ] = "0s"
    no_data: Annotated[
        Literal["hold", "fail", "pass"],
        Field(description="When a metric has had no data for noDataAfter: wait, roll back, or go on without it."),
    ] = "hold"
    no_data_after: Duration = "2m"
    metrics_delay: Annotated[
        Duration,
        Field(
            description="The oldest the newest sample can be (scrape interval and a little). A release that follows an exposed"
            " one waits this long before it is exposed, so that the old one's last errors are not held against it."
        ),
    ] = "15s"


class Rollback(Model):
    """What happens after traffic is back."""

    keep_canary_for: Annotated[Duration, Field(description="Time to look at the bad pods.")] = "30s"


class Promotion(Model):
    """How a judged version is rolled out to the user's own Deployment."""

    deadline: Annotated[
        Duration,
        Field(description="After this the promotion is reported as stuck and template changes are accepted again."),
    ] = "10m"
    drain: Annotated[Duration, Field(description="Between the canary's last traffic and its removal.")] = "3s"


class CanarySpec(Model):
    """What the service's team asks for."""

    model_config = Model.model_config | {
        "json_schema_extra": rules(
            ("has(self.steps) != has(self.stepWeights)", "spec needs exactly one of steps or stepWeights"),
            (
                "!has(self.steps) || self.steps.exists(s, has(s.weight))",
                "spec.steps needs at least one weight",
            ),
            (
                "!has(self.steps) || self.steps.filter(s, has(s.weight)).map(s, s.weight).isSorted()"
                " && self.steps.all(s, !has(s.weight) || self.steps.exists_one(o, has(o.weight) && o.weight == s.weight))",
                "the weights in spec.steps must rise",
            ),
            (
                "!has(self.stepWeights) || self.stepWeights.isSorted()"
                " && self.stepWeights.all(w, self.stepWeights.exists_one(o, o == w))",
                "the weights in spec.stepWeights must rise",
            ),
            ("self.targetRef.name == oldSelf.targetRef.name", "spec.targetRef.name cannot change: make a new Canary"),
            (
                "has(self.traffic.podRatio) == has(oldSelf.traffic.podRatio)",
                "the router in spec.traffic cannot change: make a new Canary",
            ),
            ("self.service.name == oldSelf.service.name", "spec.service.name cannot change: make a new Canary"),
        )
    }

    target_ref: TargetRef
    service: ServiceRef
    traffic: Traffic
    steps: Annotated[list[Step], Field(min_length=1, max_length=20)] | None = None
    step_weights: (
        Annotated[
            list[Annotated[int, Field(ge=1, le=100)]],
            Field(min_length=1, max_length=20, description="Short form of steps: weights without durations."),
        ]
        | None
    ) = None
    analysis: Analysis = Field(default_factory=Analysis)
    rollback: Rollback = Field(default_factory=Rollback)
    promotion: Promotion = Field(default_factory=Promotion)
    progress_deadline: Annotated[Duration, Field(description="How long the canary's pods may take to become ready.")] = "5m"
    on_delete: Annotated[
        Literal["RestoreServing", "LeaveHeld"],
        Field(
            description="What the Deployment holds after the Canary is deleted in mid-release: the template that serves, or the"
            " unjudged one, paused."
        ),
    ] = "RestoreServing"
    release_history_limit: Annotated[int, Field(ge=1, le=100)] = 10

    def plan(self) -> list[Step]:
        """The steps, whichever form they were written in."""
        return self.steps or [Step(weight=w) for w in self.step_weights or []]


Phase = Literal["Adopting", "Stable", "Progressing", "Paused", "Promoting", "RollingBack", "RolledBack", "Terminating"]


class CanaryStatus(Model):
    """What `kubectl get canaries` shows. Everything an attempt needs to go on stands in its Release."""

    phase: Phase = "Adopting"
    weight: Annotated[int, Field(ge=0, le=100)] = 0
    step: Short = ""
    serving_revision: Short = ""
    new_revision: Short = ""
    release: Annotated[str, Field(max_length=63)] = ""
    why: Text = ""
    #: The ReplicaSet that served when the Deployment was last fully rolled out and not held.
    serving_replica_set: Annotated[str, Field(max_length=253)] = ""
    #: The Deployment's uid; another one under the same name was created anew.
    target_uid: Annotated[str, Field(max_length=64)] = ""
    last_traffic_end: Time | None = None
    observed_generation: int = 0
    conditions: Annotated[
        list[Condition],
        Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
    ] = Field(default_factory=list)


class Canary(Resource):
    """One service, delivered progressively."""

    kind: ClassVar[str] = "Canary"
    plural: ClassVar[str] = "canaries"
    short_names: ClassVar[list[str]] = ["cn"]
    columns: ClassVar[list[dict[str, Any]]] = [
        {"name": "Phase", "type": "string", "jsonPath": ".status.phase"},
        {"name": "Weight", "type": "integer", "jsonPath": ".status.weight"},
        {"name": "Step", "type": "string", "jsonPath": ".status.step"},
        {"name": "Serving", "type": "string", "jsonPath": ".status.servingRevision"},
        {"name": "New", "type": "string", "jsonPath": ".status.newRevision"},
        {"name": "Why", "type": "string", "jsonPath": ".status.why"},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]

    spec: CanarySpec
    status: CanaryStatus = Field(default_factory=CanaryStatus)

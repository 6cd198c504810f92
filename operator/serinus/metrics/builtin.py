"""Ready-made checks for the exporters that gateways, meshes and applications have. Pure.

Counts are taken at one place for both versions: where requests are split. `EXPORTERS` says per exporter what is counted, from
which labels, and what it cannot see. Names were read in each exporter's source; Traefik's are tried in this project's tests.

**Slow requests** are all minus those within a bucket: ``count - ignoring(le) bucket{le="0.3"}``. A bucket that the exporter does
not have must not look like "nothing was slow". It cannot: a difference gives a series only where both sides have one, so without
the bucket the query gives nothing, and the check has no data. (``count - (bucket or 0)`` would call every request slow.) Where
nobody can change an exporter's buckets, what is none of them is refused unasked.

``le`` is written as the exporter writes it, "0.3" or "300", or as Prometheus 3 and OpenMetrics write whole numbers, "300.0". In
the minutes after Prometheus is upgraded from 2 to 3 both may be there at once; the query is then refused as many-to-many.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from serinus.metrics.provider import MetricMisconfigured

Kind = Literal["errors", "slow"]
#: The rate below which no version is blamed, unless the Canary says otherwise.
HARM: Mapping[Kind, str] = {"errors": "1%", "slow": "5%"}


@dataclass(frozen=True, slots=True)
class Pair:
    """Two queries with the ``{{ variables }}`` of `serinus.metrics.templates`: the events that are bad, and all of them."""

    bad: str
    total: str


@dataclass(frozen=True, slots=True)
class Exporter:
    """What one exporter counts.

    `requests` and `failed` select the counters, `duration` names the histogram, selected by `timed`. `unit` is how many of the
    histogram's units make a second. `buckets` are the upper limits, in seconds, unless somebody set others; `fixed` if nobody
    can. `blind` says, in place of all that, why it cannot tell two versions apart and what to use.
    """

    requests: str = ""
    failed: str = ""
    duration: str = ""
    timed: str = ""
    unit: float = 1
    buckets: tuple[float, ...] = ()
    fixed: bool = False
    blind: str = ""


_TRAEFIK = 'service=~".+-svc-{{ namespace }}-{{ service }}-[0-9]+@kubernetesgateway"'
_ISTIO = 'reporter="source",destination_service_namespace="{{ namespace }}",destination_service_name="{{ service }}"'
_LINKERD = 'direction="outbound",dst_namespace="{{ namespace }}",dst_service="{{ service }}"'
_MERGED = 'envoy_cluster_name=~"service/{{ namespace }}/{{ service }}/{{ port }}(?:/.+)?"'
_APP = 'namespace="{{ namespace }}",pod=~"{{ pods }}"'

_MILLISECONDS = 1000
_ENVOY_BUCKETS = (0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600, 1800, 3600)
_LINKERD_BUCKETS = tuple(n * size for size in (0.001, 0.01, 0.1, 1, 10) for n in (1, 2, 3, 4, 5))
_GO_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

#: The exporters by the name that a check gives.
EXPORTERS: Mapping[str, Exporter] = {
    # One series for each rule and backendRef, method, code and protocol; the label ends in the backendRef's index. gRPC's own
    # failures are 200 here. Joined by dashes, namespace a with Service b-c reads like namespace a-b with Service c.
    "traefik": Exporter(
        requests=f"traefik_service_requests_total{{{_TRAEFIK}}}",
        failed=f'traefik_service_requests_total{{{_TRAEFIK},code=~"5.."}}',
        duration="traefik_service_request_duration_seconds",
        timed=_TRAEFIK,
        buckets=(0.1, 0.3, 1.2, 5),
    ),
    # Standard metrics, as the caller's proxy or the gateway sees them. A request without an answer has the code 0, and what the
    # client gave up is among those: not counted as failed. gRPC's own failures are 200 here. Requests to the Service by other
    # routes are counted as well. A waypoint reports as "waypoint" instead.
    "istio": Exporter(
        requests=f"istio_requests_total{{{_ISTIO}}}",
        failed=f'istio_requests_total{{{_ISTIO},response_code=~"5.."}}',
        duration="istio_request_duration_milliseconds",
        timed=_ISTIO,
        unit=_MILLISECONDS,
        buckets=_ENVOY_BUCKETS,
    ),
    # The callers' proxies, each request as it ended; failures of gRPC and streams that broke are among the failed. Retries are
    # requests of their own. Time is until the first byte.
    "linkerd": Exporter(
        requests=f"response_total{{{_LINKERD}}}",
        failed=f'response_total{{{_LINKERD},classification="failure"}}',
        duration="response_latency_ms",
        timed=_LINKERD,
        unit=_MILLISECONDS,
        buckets=_LINKERD_BUCKETS,
        fixed=True,
    ),
    "envoy-gateway": Exporter(
        blind="Envoy Gateway puts all backendRefs of a rule into one Envoy cluster, so its counters cannot tell versions apart: "
        "set spec.mergeBackends in the EnvoyProxy (Envoy Gateway 1.9 or newer, experimental) and use the exporter "
        "envoy-gateway-merged, or use the exporter app, the application's own metrics",
    ),
    # Envoy's clusters with EnvoyProxy.spec.mergeBackends, one for each Service and port (irBackendClusterName in its source). A
    # Service that a policy sets apart, or that a selector leaves out, has none. Retries are requests of their own.
    "envoy-gateway-merged": Exporter(
        requests=f"envoy_cluster_upstream_rq_xx{{{_MERGED}}}",
        failed=f'envoy_cluster_upstream_rq_xx{{{_MERGED},envoy_response_code_class="5"}}',
        duration="envoy_cluster_upstream_rq_time",
        timed=_MERGED,
        unit=_MILLISECONDS,
        buckets=_ENVOY_BUCKETS,
    ),
    "nginx-gateway-fabric": Exporter(
        blind="NGINX Gateway Fabric counts requests for the whole of NGINX, and only NGINX Plus counts them by upstream: use the "
        "exporter app, the application's own metrics, or with NGINX Plus a ratio of your own over "
        "nginx_http_upstream_peer_responses_total",
    ),
    # By pod, so it cannot see what never reached one. Probes are counted if the application counts them.
    "app": Exporter(
        requests=f"http_requests_total{{{_APP}}}",
        failed=f'http_requests_total{{{_APP},code=~"5.."}}',
        duration="http_request_duration_seconds",
        timed=_APP,
        buckets=_GO_BUCKETS,
    ),
}

_CONTROLLERS = {
    "traefik.io/gateway-controller": "traefik",
    "gateway.envoyproxy.io/gatewayclass-controller": "envoy-gateway",
    "istio.io/gateway-controller": "istio",
    "istio.io/mesh-controller": "istio",
    "gateway.nginx.org/nginx-gateway-controller": "nginx-gateway-fabric",
    "linkerd.io/policy-controller": "linkerd",
}


def exporter_of(controller_name: str) -> str | None:
    """The exporter of a Gateway API controller, by the controllerName of its GatewayClass or of a route's status."""
    return _CONTROLLERS.get(controller_name)


def builtin(kind: Kind, exporter: str, slower_than: float | None = None) -> Pair:
    """The queries of a ready-made check; `slower_than`, in seconds, belongs to "slow".

    Raises MetricMisconfigured for an unknown exporter, for one that cannot tell versions apart, for a missing `slower_than`, and
    for one that is no bucket where buckets are fixed. Elsewhere a missing bucket ends as no data; `buckets` are the usual ones.
    """
    found = EXPORTERS.get(exporter)
    if found is None:
        raise MetricMisconfigured(f"there is no exporter {exporter!r}; known are {', '.join(EXPORTERS)}")
    if found.blind:
        raise MetricMisconfigured(found.blind)
    makers: Mapping[str, Callable[[], Pair]] = {
        "errors": lambda: Pair(found.failed, found.requests),
        "slow": lambda: _slow(exporter, found, slower_than),
    }
    if kind not in makers:
        raise MetricMisconfigured(f"there is no ready-made check {kind!r}; known are {', '.join(makers)}")
    return makers[kind]()


def _slow(name: str, exporter: Exporter, slower_than: float | None) -> Pair:
    if slower_than is None:
        raise MetricMisconfigured("slow needs slowerThan, a duration such as 300ms")
    if not 0 < slower_than < float("inf"):
        raise MetricMisconfigured(f"slowerThan is {slower_than:g} s; it must be above 0")
    if exporter.fixed and not any(abs(slower_than - bucket) < bucket * 1e-9 for bucket in exporter.buckets):
        near = sorted(exporter.buckets, key=lambda bucket: abs(bucket - slower_than))[:3]
        listed = ", ".join(f"{bucket:g} s" for bucket in sorted(near))
        raise MetricMisconfigured(
            f"{name} does not count requests slower than {slower_than:g} s; the nearest it counts are {listed}"
        )
    total = f"{exporter.duration}_count{{{exporter.timed}}}"
    bucket = f"{exporter.duration}_bucket{{{exporter.timed},{_le(slower_than * exporter.unit)}}}"
    return Pair(f"{total} - ignoring(le) {bucket}", total)


def _le(limit: float) -> str:
    """The matcher for a bucket. Both forms of whole numbers: text has "300", Prometheus 3 makes "300.0" of it."""
    limit = round(limit, 9)
    if limit == int(limit):
        return f'le=~"{int(limit)}(?:[.]0)?"'
    return f'le="{limit!r}"'

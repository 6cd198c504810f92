"""Where the numbers of a check come from: Prometheus, the gateway's own page, or the pods' own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from serinus.api.canary import Canary, Metric, PodMetrics
from serinus.kube import PODS, Kube
from serinus.metrics.direct import Page, Pages, pod_page, resolved
from serinus.metrics.provider import MetricMisconfigured, Provider, Snapshot
from serinus.workloads.deployment import serving


@dataclass(frozen=True)
class Around:
    """What a look has to know of the world, new with each pass.

    `alone`: there is no version to compare with. `weight` is the canary's, in percent. `warm_at`: before it nothing is counted.
    `exporter` is the one of the route's controller. `pods` are label selectors for the pods of both versions.
    """

    alone: bool = False
    weight: int = 0
    warm_at: datetime | None = None
    exporter: str | None = None
    pods: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sources:
    """All of them. `gateways` are the addresses of gateways' metrics."""

    prometheus: Provider
    gateways: tuple[str, ...] = ()
    pages: Pages = field(default_factory=Pages)

    async def counters(
        self, kube: Kube, canary: Canary, metric: Metric, around: Around, queries: Mapping[str, str], at: datetime | None = None
    ) -> Snapshot:
        """As `Provider.counters`, from the source that `metric` names. Only Prometheus has a past (`at`)."""
        if metric.source == "prometheus":
            return await self.prometheus.counters(queries, at)
        if metric.pod_metrics is not None:
            pages = await _pods(kube, canary.metadata.namespace, around.pods, metric.pod_metrics)
        elif self.gateways:
            pages = [page for found in await asyncio.gather(*map(resolved, self.gateways)) for page in found]
        else:
            raise MetricMisconfigured(
                "source: direct needs to know where the gateway's metrics are: set gateway.metricsURLs in the chart's values, or"
                " podMetrics here"
            )
        return await self.pages.counters(pages, queries)

    async def close(self) -> None:
        """Ends what is under way and the idle connections."""
        await self.prometheus.close()
        await self.pages.close()


async def _pods(kube: Kube, namespace: str, selectors: tuple[str, ...], where: PodMetrics) -> list[Page]:
    """The pages of all pods that serve: who is not ready gets no traffic, and who is being deleted may answer no more."""
    found = await asyncio.gather(*(kube.list(PODS, namespace, selector) for selector in selectors))
    pods = {pod["metadata"]["name"]: pod for each in found for pod in each}
    return [
        pod_page(pod["status"]["podIP"], where.port, where.path, {"namespace": namespace, "pod": name})
        for name, pod in sorted(pods.items())
        if pod.get("status", {}).get("podIP") and serving(pod)
    ]

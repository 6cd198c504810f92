"""`/metrics`: read from the store, put together in `serinus.dora.series`, and kept until a fact or a new day changes it."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from prometheus_client import CollectorRegistry, Metric, ProcessCollector, generate_latest
from prometheus_client.registry import Collector

from serinus.dora import rollup
from serinus.dora.catalog import Catalog
from serinus.dora.intake import READERS
from serinus.dora.metrics import Scope
from serinus.dora.review import JUDGED, Freshness
from serinus.dora.series import figures, health
from serinus.dora.store.keeper import Keeper
from serinus.dora.store.log import Log


class _Shown(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


class Scrape:
    """One for the process, for any thread. However often it is scraped, figures are put together once for each change."""

    def __init__(self, log: Log, keeper: Keeper, catalog: Catalog, zone: ZoneInfo) -> None:
        self._log, self._keeper, self._catalog, self._zone = log, keeper, catalog, zone
        self._lock = threading.Lock()
        self._kept: tuple[tuple[date, Freshness], bytes] | None = None
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)

    def text(self, now: datetime) -> bytes:
        """All series, as Prometheus reads them."""
        fresh = self._keeper.freshness()
        held = dict.fromkeys(READERS, 0) | self._log.quarantined()
        known = self._figures(now.astimezone(self._zone).date(), fresh)
        return known + generate_latest(_Shown(health(fresh, held))) + generate_latest(self._process)

    def _figures(self, today: date, fresh: Freshness) -> bytes:
        with self._lock:
            if self._kept is None or self._kept[0] != (today, fresh):
                monday = rollup.monday(today)
                first, after = monday - timedelta(weeks=2 * JUDGED - 1), monday + timedelta(weeks=1)
                weeks = self._keeper.weeks(Scope(), first, after, ("lead", "caught", "escaped"))
                found = generate_latest(_Shown(figures(weeks, monday, today, self._catalog)))
                self._kept = (today, fresh), found
            return self._kept[1]

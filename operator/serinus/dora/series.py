"""What Prometheus reads: the page's four weeks as series. Pure.

In all, and of each service; nothing is computed here that the review does not compute. What is not known has no series, and is
never 0. Names and units: https://prometheus.io/docs/practices/naming/.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import NamedTuple

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from serinus.dora.catalog import Catalog
from serinus.dora.review import JUDGED, Figure, Freshness, begun, contract, rows
from serinus.dora.rollup import Brief, Kept, Share, Spread, brief

PREFIX = "serinus_dora"
#: Each figure's own series, by which the others name it in their label `figure`.
NAMES: Mapping[Figure, str] = {
    "frequency": "deployment_frequency",
    "lead": "lead_time_seconds",
    "failed": "change_failure_ratio",
    "recovery": "recovery_seconds",
    "rework": "rework_ratio",
}
_WHAT: Mapping[Figure, str] = {
    "frequency": "Deployments a day",
    "lead": "Median lead time for changes, from opened to 100 %",
    "failed": "Failed releases among those that reached a user",
    "recovery": "Median time from detection to stable traffic",
    "rework": "Releases made to mend something among those that reached a user",
}
#: Services that have series of their own: those furthest from the contract.
MOST = 1_000
_LABELS = ("scope", "service")


class _Said(NamedTuple):
    """Of one figure."""

    value: float | None
    n: int
    low: float | None = None
    high: float | None = None


def figures(known: Sequence[Kept], monday: date, today: date, catalog: Catalog) -> Iterator[Metric]:
    """Of the four weeks up to and with that of `monday`. `known`: eight weeks, with lead times and recoveries."""
    first = monday - timedelta(weeks=JUDGED - 1)
    four = [kept for kept in known if kept.week.monday >= first]
    days = sum(begun(first + timedelta(weeks=week), today) for week in range(JUDGED))
    total = brief([kept.week for kept in four], days)
    before = _said(brief([kept.week for kept in known if kept.week.monday < first], 7 * JUDGED))
    services = rows(four, days, catalog)
    scopes = [(("all", ""), _said(total))]
    scopes += [(("service", row.service), _said(row.figures)) for row in services[:MOST]]

    for figure, name in NAMES.items():
        yield _gauge(name, _WHAT[figure], _LABELS, ((labels, said[figure].value) for labels, said in scopes))
    each = [((*labels, NAMES[figure]), said[figure]) for labels, said in scopes for figure in NAMES]
    text = "What a figure was computed from: deployments, changes, releases or failures"
    yield _gauge("n", text, (*_LABELS, "figure"), ((key, said.n) for key, said in each))
    yield _gauge("low", "Lower end of a ratio's 95 % interval", (*_LABELS, "figure"), ((key, said.low) for key, said in each))
    yield _gauge("high", "Upper end of a ratio's 95 % interval", (*_LABELS, "figure"), ((key, said.high) for key, said in each))
    gaps = ((("service", row.service), row.gap) for row in services[:MOST])
    yield _gauge("gap", "How many times worse than its target a service's worst figure is", _LABELS, gaps)

    targets = (((NAMES[clause.figure],), clause.target) for clause in contract(total))
    yield _gauge("target", "The contract's", ("figure",), targets)
    earlier = [((name,), before[figure]) for figure, name in NAMES.items()]
    yield _gauge("before", "The figure of the four weeks before, in all", ("figure",), ((key, s.value) for key, s in earlier))
    yield _gauge("before_n", "What that was computed from", ("figure",), ((key, said.n) for key, said in earlier))
    yield _gauge("before_low", "Lower end of its interval", ("figure",), ((key, said.low) for key, said in earlier))
    yield _gauge("before_high", "Upper end of its interval", ("figure",), ((key, said.high) for key, said in earlier))
    yield _gauge("days", "Days of the four weeks that have begun", (), [((), days)])
    yield _gauge("services", "Services with anything in the four weeks", (), [((), len(services))])


def health(fresh: Freshness, quarantine: Mapping[str, int]) -> Iterator[Metric]:
    """How current that is. `quarantine`: requests that could not be read, by their source."""
    facts = CounterMetricFamily(f"{PREFIX}_facts", "Facts taken in; with PostgreSQL, repeats too")
    facts.add_metric((), fresh.facts)
    yield facts
    yield _gauge("newest_fact_timestamp_seconds", "When the newest fact came", (), [((), fresh.received)])
    yield _gauge("unread_facts", "Facts that are not looked at yet", (), [((), fresh.unread)])
    yield _gauge("waiting_services", "Services that are still to be read anew", (), [((), fresh.waiting)])
    held = (((source,), number) for source, number in quarantine.items())
    yield _gauge("quarantine", "Signed requests that could not be read", ("source",), held)


def _said(found: Brief) -> dict[Figure, _Said]:
    return {
        "frequency": _Said(found.per_day, found.deployments),
        "lead": _spread(found.lead),
        "failed": _share(found.failed),
        "recovery": _spread(found.recovery),
        "rework": _share(found.rework),
    }


def _spread(found: Spread) -> _Said:
    return _Said(found.median, found.n)


def _share(found: Share) -> _Said:
    return _Said(found.ratio, found.n, found.low, found.high)


def _gauge(
    name: str, text: str, labels: Sequence[str], samples: Iterable[tuple[Sequence[str], float | None]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=labels)
    for values, value in samples:
        if value is not None:
            family.add_metric(values, value)
    return family

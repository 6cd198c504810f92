"""What the operator says of itself: Prometheus metrics, and whether it makes progress."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from prometheus_client import Counter, Gauge, Histogram

PHASES = ("Adopting", "Stable", "Progressing", "Paused", "Promoting", "RollingBack", "RolledBack", "Terminating")

phase = Gauge("serinus_canary_phase", "1 for the phase the Canary is in", ["namespace", "canary", "phase"])
weight = Gauge("serinus_canary_weight", "Percent of traffic on the new version", ["namespace", "canary"])
releases = Counter("serinus_releases", "Ended releases by outcome", ["namespace", "canary", "outcome"])
rollback = Histogram(
    "serinus_rollback_seconds",
    "From the decision to the router's word that it has weight 0",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60),
)
exposed = Histogram(
    "serinus_rollback_exposure_seconds",
    "From a rolled-back version's first traffic to weight 0",
    buckets=(1, 2, 3, 5, 8, 13, 20, 30, 60, 120, 300, 600),
)
look = Histogram("serinus_look_seconds", "One look at all of a release's metrics", buckets=(0.005, 0.01, 0.05, 0.1, 0.5, 1, 3))
passes = Histogram("serinus_pass_seconds", "One pass over one Canary", buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5))
errors = Counter("serinus_errors", "Errors by cause", ["cause"])
delivered = Counter("serinus_events_delivered", "Events taken by a sink", ["type"])


def show(namespace: str, name: str, now: str, percent: int) -> None:
    """Sets a Canary's gauges."""
    for known in PHASES:
        phase.labels(namespace, name, known).set(1 if known == now else 0)
    weight.labels(namespace, name).set(percent)


def forget(namespace: str, name: str) -> None:
    """Removes the series of a Canary that is gone."""
    for known in PHASES:
        phase.remove(namespace, name, known)
    weight.remove(namespace, name)


@dataclass
class Progress:
    """Proof of life: an event loop that turns, and an API server that answered not long ago."""

    #: Seconds without a successful round trip after which the process should be restarted.
    limit: float = 120.0
    turned: float = field(default_factory=time.monotonic)
    answered: float = field(default_factory=time.monotonic)
    ready: bool = False

    def answer(self) -> None:
        """The API server has just answered."""
        self.answered = time.monotonic()

    def problem(self) -> str:
        """What is wrong, in a sentence; '' while all is well."""
        now = time.monotonic()
        if now - self.turned > self.limit:
            return f"the event loop last turned {now - self.turned:.0f} s ago"
        if now - self.answered > self.limit:
            return f"the API server last answered {now - self.answered:.0f} s ago"
        return ""

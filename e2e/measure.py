"""A shop under load, and what its load generator and its Releases say of one release."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from e2e import kubectl, shop
from e2e.load.manifest import manifest

Object = dict[str, Any]


def epoch(text: str | None) -> float:
    """A Kubernetes time as seconds since the epoch; NaN for none."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() if text else float("nan")


@dataclass
class Traffic:
    """The load generator's log. Times are seconds since the epoch, when the request was sent."""

    counts: Counter[str] = field(default_factory=Counter)
    #: (sent, answered, status or error)
    failures: list[tuple[float, float, str]] = field(default_factory=list)
    #: Message -> when the first request was sent that it answered.
    first: dict[str, float] = field(default_factory=dict)
    seconds: dict[float, Counter[str]] = field(default_factory=dict)
    ended: bool = False

    @property
    def requests(self) -> int:
        """All of them."""
        return sum(self.counts.values())

    def failed(self, since: float = 0.0) -> int:
        """Failures of requests that were sent from then on."""
        return sum(sent >= since for sent, _, _ in self.failures)

    def between(self, start: float, end: float) -> int:
        """Requests in the whole seconds from start to end."""
        return sum(sum(n.values()) for t, n in self.seconds.items() if start <= t <= end)

    def reached(self, message: str, since: float) -> float:
        """When the first request went to that version: answered by it, or failed after `since`."""
        times = [sent for sent, _, _ in self.failures if sent >= since]
        if message in self.first:
            times.append(self.first[message])
        return min(times, default=float("nan"))


def traffic(log: str) -> Traffic:
    """Reads a log of e2e/load/load.py."""
    read = Traffic()
    for line in log.splitlines():
        if not line.startswith("{"):
            continue
        entry = json.loads(line)
        if "n" in entry:
            read.counts.update(entry["n"])
            read.seconds[entry["t"]] = Counter(entry["n"])
        elif "fail" in entry:
            read.failures.append((entry["fail"], entry["end"], str(entry["status"])))
        elif "first" in entry:
            read.first[entry["first"]] = entry["t"]
        elif "summary" in entry:
            read.ended = True
    return read


@dataclass
class Shop:
    """One Deployment with Service, route and Canary in a namespace, and its load."""

    space: str
    name: str = "checkout"
    replicas: int = 3
    rate: float = 100

    def open(self, steps: list[Object], **env: str) -> None:
        """Everything in place, serving, and adopted."""
        kubectl.apply(shop.service(self.name, self.space), shop.route(self.name, self.space))
        kubectl.apply(shop.deployment(self.name, self.space, self.replicas, **env))
        kubectl.run("-n", self.space, "rollout", "status", f"deployment/{self.name}", "--timeout=90s")
        kubectl.apply(shop.canary(self.name, self.space, steps))
        self.settled("Stable", 60)

    def settled(self, phase: str, timeout: float) -> Object:
        """Waits for a phase; returns the Canary."""

        def there() -> Object | None:
            found = kubectl.get("canary", self.name, self.space)
            return found if found and found.get("status", {}).get("phase") == phase else None

        return kubectl.until(f"Canary {self.space}/{self.name} is {phase}", there, timeout)

    def load(self, seconds: float) -> None:
        """Starts the load; it ends by itself."""
        kubectl.run("-n", self.space, "delete", "pod,configmap", "-l", f"app=load-{self.name}", "--now", "--ignore-not-found")
        host = shop.host(self.name, self.space)
        kubectl.apply(*manifest(f"load-{self.name}", namespace=self.space, host=host, rate=self.rate, duration=seconds))
        kubectl.until("the load has answers", lambda: self.traffic().requests, 60)

    def traffic(self) -> Traffic:
        """What the load has seen so far."""
        return traffic(kubectl.run("-n", self.space, "logs", f"load-{self.name}", check=False))

    def ship(self, **env: str) -> None:
        """A new version, as a pipeline applies it."""
        kubectl.apply(shop.deployment(self.name, self.space, self.replicas, **env))

    def release(self, timeout: float, ended: bool = True) -> Object:
        """The newest Release, once it has ended (or only begun)."""

        def newest() -> Object | None:
            found = [r for r in kubectl.items("releases", self.space) if r["spec"]["canary"] == self.name]
            last = max(found, key=lambda r: str(r["spec"]["requestedAt"]), default=None)
            return last if last and (not ended or last.get("status", {}).get("stage") == "Ended") else None

        return kubectl.until(f"the release of {self.space}/{self.name} ended", newest, timeout)

    def shipped(self, timeout: float, **env: str) -> Object:
        """Ships and waits for the Release of just that version."""
        known = {r["metadata"]["name"] for r in kubectl.items("releases", self.space)}
        self.ship(**env)

        def ended() -> Object | None:
            found = [
                r
                for r in kubectl.items("releases", self.space)
                if r["metadata"]["name"] not in known and r["spec"]["canary"] == self.name
            ]
            return found[0] if found and found[0].get("status", {}).get("stage") == "Ended" else None

        return kubectl.until(f"the release of {self.space}/{self.name} ended", ended, timeout, every=0.5)


def spread(values: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})" if values else "none"

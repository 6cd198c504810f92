"""What happens while a version goes out: the load on it, and the Releases that tell of it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from e2e import install, kubectl, shop
from e2e.kubectl import Object
from e2e.load.manifest import manifest


@dataclass
class Answers:
    """What the load's log says."""

    #: second -> "message status" -> number
    seconds: dict[int, Counter[str]] = field(default_factory=dict)
    #: (start, status) of each failed request
    failures: list[tuple[float, Any]] = field(default_factory=list)
    #: message -> start of the first request that it answered
    first: dict[str, float] = field(default_factory=dict)
    summary: Object = field(default_factory=dict)

    def within(self, begin: float, end: float) -> Counter[str]:
        """Answers to requests that started in these whole seconds."""
        found: Counter[str] = Counter()
        for second, counts in self.seconds.items():
            if int(begin) <= second <= int(end):
                found += counts
        return found

    def failed(self, begin: float = 0.0, end: float = float("inf")) -> list[tuple[float, Any]]:
        """Failed requests that started then."""
        return [failure for failure in self.failures if begin <= failure[0] <= end]


@dataclass
class Load:
    """A pod that sends requests; it ends by itself after `duration` seconds."""

    namespace: str
    host: str
    rate: float = 100
    duration: float = 120
    name: str = "load"
    url: str = "http://traefik.traefik/"

    def start(self) -> None:
        """Returns once requests are answered."""
        wanted = {"namespace": self.namespace, "host": self.host, "rate": self.rate, "duration": self.duration, "url": self.url}
        kubectl.apply(*manifest(self.name, **wanted))  # type: ignore[arg-type]
        kubectl.until("the load's first requests are answered", lambda: self.answers().first)

    def answers(self) -> Answers:
        """So far."""
        return parse(kubectl.logs(self.name, self.namespace))

    def stop(self) -> Answers:
        """Ends it and returns all of it; requests under way are waited for."""
        stop = "import os, signal; os.kill(1, signal.SIGTERM)"
        kubectl.run("exec", "-n", self.namespace, self.name, "--", "python3", "-c", stop, check=False)

        def whole() -> Answers | None:
            answers = self.answers()
            return answers if answers.summary else None

        found: Answers = kubectl.until("the load has ended", whole, timeout=30)
        return found


def parse(log: str) -> Answers:
    """The JSON lines that load.py describes."""
    answers = Answers()
    for line in log.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # the last line, half written, or a word of kubectl's
        if "n" in entry and "t" in entry:
            answers.seconds[entry["t"]] = Counter(entry["n"])
        elif "fail" in entry:
            answers.failures.append((entry["fail"], entry["status"]))
        elif "first" in entry:
            answers.first[entry["first"]] = entry["t"]
        elif "summary" in entry:
            answers.summary = entry["summary"]
    return answers


# ---- objects ----


def seconds(moment: str) -> float:
    """RFC 3339 -> seconds since the epoch."""
    return datetime.fromisoformat(moment).timestamp()


def times(release: Object) -> dict[str, float]:
    """The Release's moments, `requested` among them."""
    moments = {key: seconds(value) for key, value in release.get("status", {}).get("times", {}).items()}
    return {"requested": seconds(release["spec"]["requestedAt"]), **moments}


def message(release: Object) -> str:
    """MESSAGE of the version that it is about."""
    env = release["spec"]["template"]["spec"]["containers"][0].get("env") or []
    return str(next((entry.get("value", "") for entry in env if entry["name"] == "MESSAGE"), ""))


def whole(kind: str, name: str, namespace: str) -> Object:
    """With managedFields, which kubectl keeps to itself unless asked."""
    found: Object = json.loads(kubectl.run("get", kind, name, "-n", namespace, "-o", "json", "--show-managed-fields"))
    return found


def releases(namespace: str, of: str = "") -> list[Object]:
    """Oldest first; only those of the version whose MESSAGE is `of`, if given."""
    found = kubectl.items("releases", namespace)
    return sorted((r for r in found if not of or message(r) == of), key=lambda r: r["spec"]["requestedAt"])


def stage(release: Object) -> str:
    """Where it is."""
    return str(release.get("status", {}).get("stage", "Preparing"))


def reached(namespace: str, of: str, *stages: str, timeout: float = 60) -> Object:
    """Waits until the newest Release of the version `of` is in one of these stages."""

    def look() -> Object | None:
        found = releases(namespace, of)
        return found[-1] if found and stage(found[-1]) in stages else None

    try:
        release: Object = kubectl.until(f"{of} is {' or '.join(stages)}", look, timeout)
    except kubectl.Failed as failed:
        known = [(r["metadata"]["name"], r.get("status", {})) for r in releases(namespace)]
        raise kubectl.Failed(f"{failed}; Releases: {json.dumps(known)[-3000:]}") from None
    return release


def ended(namespace: str, of: str, timeout: float = 90) -> Object:
    """Waits until the newest Release of the version `of` is over."""
    return reached(namespace, of, "Ended", timeout=timeout)


def phase(name: str, namespace: str, *phases: str, timeout: float = 60) -> Object:
    """Waits until the Canary's status says so."""

    def look() -> Object | None:
        canary = kubectl.get("canary", name, namespace)
        return canary if canary and canary.get("status", {}).get("phase") in phases else None

    try:
        found: Object = kubectl.until(f"Canary {name} is {' or '.join(phases)}", look, timeout)
    except kubectl.Failed as failed:
        raise kubectl.Failed(f"{failed}; {json.dumps(kubectl.get('canary', name, namespace))[-3000:]}") from None
    return found


def condition(canary: Object | None, kind: str) -> Object:
    """One of its conditions, {} where it has none of that kind."""
    found = ((canary or {}).get("status") or {}).get("conditions") or []
    return next((c for c in found if c["type"] == kind), {})


def says(namespace: str, kind: str, status: str, reason: str, name: str = "checkout", timeout: float = 30) -> str:
    """Waits until the Canary has this condition; its message."""

    def look() -> Object | None:
        found = condition(kubectl.get("canary", name, namespace), kind)
        return found if (found.get("status"), found.get("reason")) == (status, reason) else None

    try:
        found: Object = kubectl.until(f"{kind} is {status}, {reason}", look, timeout)
    except kubectl.Failed as failed:
        raise kubectl.Failed(f"{failed}; {json.dumps(kubectl.get('canary', name, namespace))[-3000:]}") from None
    return str(found["message"])


def told(namespace: str, reason: str, kind: str = "Canary", timeout: float = 20) -> Object:
    """Waits for an event with this reason on an object of this kind; the newest."""

    def look() -> Object | None:
        found = [e for e in kubectl.items("events", namespace) if (e["involvedObject"]["kind"], e["reason"]) == (kind, reason)]
        return max(found, key=lambda e: str(e.get("eventTime") or e["metadata"]["creationTimestamp"]), default=None)

    found: Object = kubectl.until(f"an event {reason} on the {kind}", look, timeout)
    return found


def unheld(namespace: str, name: str = "checkout") -> None:
    """At rest the Deployment is the user's: not paused, unless pausing it is how versions are held."""

    def look() -> bool:
        return bool((kubectl.get("deployment", name, namespace) or {})["spec"].get("paused")) == (install.HOLD == "pause")

    kubectl.until(f"at rest, versions are held by {install.HOLD}", look, timeout=20)


def taken(namespace: str, of: str, weight: int, timeout: float = 60) -> Object:
    """Waits until the newest Release of the version `of` has seen the router take this weight."""

    def look() -> Object | None:
        found = releases(namespace, of)
        steps = found[-1].get("status", {}).get("steps", []) if found else []
        return found[-1] if weight in [step["weight"] for step in steps] else None

    release: Object = kubectl.until(f"{of} has {weight} %", look, timeout, every=0.05)
    return release


def set_env(namespace: str, name: str = "checkout", **env: str) -> str:
    """Ships a version as people do; "-" takes a variable away. Returns what kubectl printed, warnings too."""
    words = [f"{key}-" if value == "-" else f"{key}={value}" for key, value in env.items()]
    done = kubectl.call("kubectl", "set", "env", "-n", namespace, f"deployment/{name}", *words)
    return done.stdout + done.stderr


def serve(namespace: str, name: str = "checkout", replicas: int = 3, **env: str) -> None:
    """The shop's Deployment, Service and HTTPRoute, ready and answered for by the Gateway."""
    env = {"MESSAGE": "v1", **env}
    kubectl.apply(shop.deployment(name, namespace, replicas, **env), shop.service(name, namespace), shop.route(name, namespace))
    kubectl.run("rollout", "status", f"deployment/{name}", "-n", namespace, "--timeout=60s")

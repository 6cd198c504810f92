"""SIGKILL right after a transition: the next operator goes on, and nobody can tell from the outcome.

Two shops stand beside one another under load. In each case one gets a good version and the other a bad one, and the operator
is killed at a moment of each.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
from e2e import follow, install, kubectl, shop, sink
from e2e.cluster import addons
from e2e.kubectl import Object

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

SCRAPE = "1s"
STAGES = ("Preparing", "Stepping", "Promoting", "Returning", "Draining", "RollingBack", "Keeping", "Cleaning", "Ended")
GOOD_EVENTS = ["service.deployed", "service.upgraded"]
BAD_EVENTS = ["incident.detected", "incident.resolved", "service.deployed", "service.rolledback"]


@dataclass(frozen=True, order=True)
class Moment:
    """How far a release is; each write of its status that says more is a transition."""

    stage: int
    #: While it is stepping: which step, and how many weights the router has taken.
    step: int = 0
    taken: int = 0

    @staticmethod
    def of(release: Object) -> Moment:
        status, stage = release.get("status", {}), STAGES.index(follow.stage(release))
        if STAGES[stage] != "Stepping":
            return Moment(stage)
        return Moment(stage, status.get("step", 0), len(status.get("steps", [])))

    def __str__(self) -> str:
        return f"{STAGES[self.stage]}-{self.step}-{self.taken}" if STAGES[self.stage] == "Stepping" else STAGES[self.stage]


def moment(stage: str, step: int = 0, taken: int = 0) -> Moment:
    return Moment(STAGES.index(stage), step, taken)


#: Each transition of a good release of two steps, and of a bad one, once; which is beside which says nothing.
PAIRS = (
    (moment("Preparing"), moment("Preparing")),
    (moment("Stepping", 0, 0), moment("Stepping", 0, 0)),
    (moment("Stepping", 0, 1), moment("Stepping", 0, 1)),
    (moment("Stepping", 1, 2), moment("RollingBack")),
    (moment("Promoting"), None),
    (moment("Returning"), moment("Keeping")),
    (moment("Draining"), moment("Cleaning")),
    (moment("Cleaning"), moment("Ended")),
)


@dataclass
class Killer:
    """Kills the operator when a release reaches a moment."""

    #: The next operator waits until the dead one's Lease has run out, as it does when a node is lost.
    lease: bool = False
    victim: install.Running = field(default_factory=install.running)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def at(self, space: str, version: str, wanted: Moment) -> None:
        """Waits for it and kills. It is said if the moment had gone by."""

        def reached() -> bool:
            found = follow.releases(space, version)
            return bool(found) and Moment.of(found[-1]) >= wanted

        kubectl.until(f"{version} is at {wanted}", reached, timeout=90, every=0.02)
        with self.lock:  # if the other release's moment came just before, the operator dies twice
            self.victim.kill()
            now = Moment.of(follow.releases(space, version)[-1])
            late = "" if now == wanted else f", but it was {now} already"
            print(f"{version}: {'killed' if self.victim.process else 'its pod deleted'} at {wanted}{late}")
            if not self.lease:
                install.forget_lease()
            self.victim = install.running(but=self.victim.pod)


@dataclass
class Shop:
    """Gets one version after another, all good or all bad."""

    space: str
    name: str
    load: follow.Load
    shipped: int = 0

    @property
    def bad(self) -> bool:
        return self.name == "bad"

    def open(self) -> Shop:
        follow.serve(self.space, self.name, replicas=1, DRAIN="1s")
        self.load.start()
        # A bad one is seen to be bad at its first weight.
        canary = shop.canary(self.name, self.space, shop.steps("10s" if self.bad else "1s", 50, 100), metricsDelay="2s")
        canary["spec"] |= {"rollback": {"keepCanaryFor": "1s"}, "promotion": {"drain": "1s"}}
        kubectl.apply(canary)
        return self

    def ship(self, killer: Killer | None, wanted: Moment | None) -> Object:
        """One release, killed at the moment wanted; what is to be seen afterwards."""
        follow.phase(self.name, self.space, "Stable")
        self.shipped += 1
        began, version = time.time(), f"{self.name}-{self.shipped}"
        follow.set_env(self.space, self.name, MESSAGE=version, **({"FAIL_RATE": "0.5"} if self.bad else {}))
        if killer and wanted:
            killer.at(self.space, version, wanted)
        release = follow.ended(self.space, version, timeout=120)
        kubectl.until(f"{self.name} is at rest", self.at_rest)
        self.each_event_once(release)
        found = self.left(release)
        self.nobody_was_failed(began, follow.times(release))
        if self.bad:
            follow.set_env(self.space, self.name, MESSAGE="v1", FAIL_RATE="-")
        return found

    def at_rest(self) -> bool:
        """The passes after the release have written what they have to."""
        canary, deployment = (kubectl.get(kind, self.name, self.space) or {} for kind in ("canary", "deployment"))
        status, paused = canary["status"], bool(deployment["spec"].get("paused"))
        phase, hold = ("RolledBack", True) if self.bad else ("Stable", install.HOLD == "pause")
        return (status["phase"], paused) == (phase, hold) and not status.get("step")

    def nobody_was_failed(self, began: float, window: dict[str, float]) -> None:
        """But, of a bad version, while it was exposed."""
        now = time.time()
        kubectl.until("the load's log is as new", lambda: max(self.load.answers().seconds) > now, every=0.5)
        failed = self.load.answers().failed(began)
        if self.bad:
            failed = [f for f in failed if not window["firstExposed"] <= f[0] <= window["zeroVerified"]]
        assert not failed, f"{failed}, {window}"

    def each_event_once(self, release: Object) -> None:
        """What the Release owes has arrived; if it came twice, under the same id."""
        kinds = BAD_EVENTS if self.bad else GOOD_EVENTS

        def arrived() -> dict[str, str]:
            about = [entry["event"] for entry in sink.received(self.space)]
            mine = [e for e in about if e["customData"]["serinus"]["release"] == release["metadata"]["name"]]
            return {event["context"]["id"]: sink.kind(event) for event in mine}

        kubectl.until(f"the events of {self.name} arrive", lambda: len(arrived()) >= len(kinds), timeout=30)
        owed = {event["id"] for event in follow.releases(self.space, follow.message(release))[-1]["status"]["events"]}
        assert sorted(arrived().values()) == kinds
        assert set(arrived()) == owed

    def left(self, release: Object) -> Object:
        """What a release leaves behind, without names and moments of its own."""
        deployment, canary = (kubectl.get(kind, self.name, self.space) or {} for kind in ("deployment", "canary"))
        route = follow.whole("httproute", self.name, self.space)
        progressing = [c for c in deployment["status"]["conditions"] if c["type"] == "Progressing"]
        found: Object = {
            "deployment": deployment["spec"],
            "labels": deployment["metadata"]["labels"],
            "annotations": sorted(deployment["metadata"].get("annotations") or {}),
            "progressing": [(c["status"], c["reason"]) for c in progressing],
            "route": route["spec"],
            "owners": sorted(entry["manager"] for entry in route["metadata"]["managedFields"]),
            "canary": {key: canary["status"].get(key) for key in ("phase", "weight", "step", "servingRevision", "newRevision")},
            "conditions": sorted((c["type"], c["status"], c["reason"]) for c in canary["status"]["conditions"]),
            "releases": [record(each) for each in follow.releases(self.space, follow.message(release))],
            "ours": [kind for kind in ("deployment", "service", "pdb") if kubectl.get(kind, f"{self.name}-canary", self.space)],
        }
        text = json.dumps(found)
        for name in (follow.message(release), release["spec"]["revision"], release["spec"]["servingRevision"]):
            text = text.replace(f'"{name}"', '"…"')
        cleared: Object = json.loads(text)
        return cleared


def record(release: Object) -> list[Any]:
    spec, status = release["spec"], release["status"]
    outcome = [status[key] for key in ("stage", "outcome", "reason")]
    events = [event["type"] for event in status.get("events", [])]
    return [spec["kind"], spec["attempt"], *outcome, [step["weight"] for step in status["steps"]], events]


@pytest.fixture(scope="module")
def space(operator: None) -> Iterator[str]:
    """One namespace for all cases, in which counters are seen sooner: a case takes half its time."""
    addons.set_scrape_interval(SCRAPE)
    try:
        with kubectl.fresh_namespace("e2e-operator-killed") as made:
            yield made
    finally:
        addons.set_scrape_interval(addons.SCRAPE_INTERVAL)


@pytest.fixture(scope="module")
def shops(space: str) -> list[Shop]:
    def made(name: str) -> Shop:
        return Shop(space, name, follow.Load(space, shop.host(name, space), rate=30, duration=1200, name=f"load-{name}")).open()

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(made, ("good", "bad")))


def ship(shops: list[Shop], killer: Killer | None, *moments: Moment | None) -> list[Object]:
    """Both at once."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda pair: pair[0].ship(killer, pair[1]), zip(shops, moments, strict=True)))


@pytest.fixture(scope="module")
def undisturbed(shops: list[Shop]) -> list[Object]:
    """What the same releases leave when nothing is killed."""
    return ship(shops, None, None, None)


@pytest.mark.parametrize(("good", "bad"), PAIRS, ids=lambda m: str(m) if m else "alone")
def test_killed_right_after(shops: list[Shop], undisturbed: list[Object], good: Moment, bad: Moment | None) -> None:
    killer = Killer(lease=bad is None)
    for found, expected in zip(ship(shops, killer, good, bad), undisturbed, strict=True):
        differences = {key: (found[key], value) for key, value in expected.items() if found[key] != value}
        assert not differences, json.dumps(differences)

"""The operator dies at every write, and every write goes wrong: nobody can tell from the outcome.

The real loop, queue, teller and sink run against tests/apiserver.py under a virtual clock. A release is first walked
undisturbed; its writes are what there is to kill. A process that is killed leaves nothing but what the API server and the
receiver have: so before and after each write the world is copied, and from each copy another process goes on.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import selectors
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from types import SimpleNamespace, TracebackType
from typing import Any, Literal, get_args

import aiohttp
import pytest
from tests.apiserver import OPERATOR, READS, Call, Client, Gate, Server, merged
from tests.controllers import REVISION, Controllers, ready

from serinus.analysis.counters import Labels
from serinus.api.base import FINALIZER
from serinus.api.release import Outcome, Stage
from serinus.controller import looks, loop, tell
from serinus.controller.config import Config
from serinus.controller.loop import Loop
from serinus.controller.queue import Key, Queue
from serinus.controller.sources import Sources
from serinus.controller.telemetry import Progress
from serinus.controller.tell import Teller
from serinus.kube import (
    AUTOSCALERS,
    BUDGETS,
    CANARIES,
    DEPLOYMENTS,
    EVENTS,
    PODS,
    RELEASES,
    REPLICA_SETS,
    ROUTES,
    SERVICES,
    AlreadyExists,
    Conflict,
    Kind,
    KubeError,
    Object,
    Unreachable,
)
from serinus.metrics.provider import Snapshot

pytestmark = pytest.mark.timeout(300)  # a minute at most, when nothing else runs

START = datetime(2026, 1, 1, tzinfo=UTC)
HTTP = ROUTES["HTTPRoute"]
KEY = Key("shop", "web")
REPLICAS = 2
#: Seconds between two steps of the cluster, of which a successor needs some until it leads.
TICK, DOWN = 1.0, 2
#: Requests a second.
RATE = 100
#: Seconds without a write after which nothing more will happen, and after which a walk is given up.
REST, LIMIT = 8.0, 200.0

Fault = Literal["refused", "answer lost", "never arrives"]


# ---- time ----


class _Selector(selectors.SelectSelector):
    """Waits in no time."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise AssertionError("everything waits, and for nothing")
        self.now += timeout
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its clock goes on only when nothing is left to do."""

    def __init__(self, now: float) -> None:
        self._waits = _Selector()
        self._waits.now = now
        super().__init__(self._waits)

    def time(self) -> float:
        return self._waits.now


def seconds() -> float:
    return asyncio.get_running_loop().time()


def moment() -> datetime:
    return START + timedelta(seconds=seconds())


class Clock(datetime):
    """`datetime`, where it is asked for the time."""

    @classmethod
    def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
        return moment()


@pytest.fixture(autouse=True)
def virtual_time(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (loop, looks, tell):
        monkeypatch.setattr(module, "datetime", Clock)
    monkeypatch.setattr(looks, "time", SimpleNamespace(monotonic=seconds))


@pytest.fixture(autouse=True)
def nothing_unforeseen(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A refused write is foreseen, and warned of at most. What is logged as an error is not."""
    seen: list[str] = []
    handler = logging.Handler(logging.ERROR)
    monkeypatch.setattr(handler, "emit", lambda record: seen.append(record.getMessage()))
    logging.getLogger().addHandler(handler)
    logging.getLogger("serinus").setLevel(logging.ERROR)
    yield
    logging.getLogger("serinus").setLevel(logging.NOTSET)
    logging.getLogger().removeHandler(handler)
    assert not seen


# ---- the users' objects ----


def deployment(image: str, **annotations: str) -> Object:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": image}]}}
    if annotations:
        template["metadata"]["annotations"] = {f"serinus.dev/{key}": value for key, value in annotations.items()}
    spec = {"replicas": REPLICAS, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}


def objects() -> Iterator[tuple[Kind, Object]]:
    """A service with two routes, a disruption budget and an autoscaler, and its Canary."""
    yield DEPLOYMENTS, deployment("web:1")
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    yield SERVICES, {"kind": "Service", "metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": ports}}
    for name, refs in {"web": [{"name": "web", "port": 80}], "api": [{"name": "web", "port": 80, "weight": 1}]}.items():
        yield HTTP, {"kind": "HTTPRoute", "metadata": {"name": name}, "spec": {"rules": [{"backendRefs": refs}]}}
    match = {"matchLabels": {"app": "web"}}
    yield BUDGETS, {"kind": "PodDisruptionBudget", "metadata": {"name": "web"}, "spec": {"minAvailable": 1, "selector": match}}
    scaled = {"scaleTargetRef": {"kind": "Deployment", "name": "web"}, "minReplicas": 1, "maxReplicas": 4}
    yield AUTOSCALERS, {"kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"}, "spec": scaled}
    served = '{service="{{ service }}"}'
    spec = {
        "targetRef": {"name": "web"},
        "service": {"name": "web", "port": 80},
        "traffic": {"gatewayAPI": {"httpRoutes": [{"name": "web"}, {"name": "api"}]}},
        "steps": [{"weight": 50, "duration": "1s"}, {"pause": {}}, {"weight": 100, "duration": "1s"}],
        "analysis": {
            "severe": "50%",  # so that the bad one ends where its scenario says, however its looks are timed
            "metrics": [{"name": "errors", "ratio": {"bad": f"bad{served}", "total": f"total{served}"}, "harm": "1%"}],
            "metricsDelay": "1s",
        },
        "rollback": {"keepCanaryFor": "1s"},
        "promotion": {"drain": "1s"},
    }
    yield CANARIES, {"kind": "Canary", "metadata": {"name": "web"}, "spec": spec}


# ---- what people do ----

Deed = tuple[Callable[["World"], bool], Callable[["World"], object]]


def phase(name: str) -> Callable[[World], bool]:
    return lambda world: world.canary().get("status", {}).get("phase") == name


def ship(image: str, **annotations: str) -> Callable[[World], object]:
    template = deployment(image, **annotations)["spec"]["template"]
    return lambda world: world.write(DEPLOYMENTS, {"spec": {"template": template}})


def annotate(key: str, value: str) -> Callable[[World], object]:
    """`{}` becomes the release's name."""

    def deed(world: World) -> None:
        named = value.format(world.canary()["status"]["release"])
        world.write(CANARIES, {"metadata": {"annotations": {f"serinus.dev/{key}": named}}})

    return deed


def delete(world: World) -> None:
    world.server.delete(CANARIES, *KEY)


@dataclass(frozen=True)
class Scenario:
    """Releases that people make, and how they go."""

    deeds: tuple[Deed, ...]
    #: The stages that are put on record, and at each end the outcome.
    stages: str
    #: What receivers are told, in this order.
    told: str
    #: From when on a version `web:bad` answers half its requests with an error.
    harmful: Callable[[World], bool] = lambda world: world.reached(50)
    #: Where the policies are not installed, the Deployment is kept paused.
    hold: Literal["policy", "pause"] = "policy"
    #: While this is so, the receiver takes nothing.
    deaf: Callable[[World], bool] = lambda world: False
    #: Where it goes its own way, and is to be killed: up to there, and from there on, it goes as another does.
    own: Callable[[World], bool] = lambda world: True


STABLE, PAUSED = phase("Stable"), phase("Paused")
GOOD, BAD, RESUME = (STABLE, ship("web:2")), (STABLE, ship("web:bad")), (PAUSED, annotate("resume", "{}/1"))
TO_PAUSE = "Preparing Stepping Paused"
TO_END = f"{TO_PAUSE} Stepping Promoting Returning Draining Cleaning Ended Promoted"
TOLD_GOOD, TOLD_BAD = "deployed upgraded", "deployed detected rolledback resolved"
ROLLED_OUT = Scenario(
    (BAD, RESUME),
    f"{TO_PAUSE} Stepping Promoting RollingBack Cleaning Ended RolledBack",
    TOLD_BAD,
    harmful=lambda world: world.unpaused(),
    own=lambda world: world.unpaused(),
)
SCENARIOS = {
    "good": Scenario((GOOD, RESUME), TO_END, TOLD_GOOD),
    "bad": Scenario((BAD,), "Preparing Stepping RollingBack Keeping Cleaning Ended RolledBack", TOLD_BAD),
    "bad as it rolls out": ROLLED_OUT,
    "skipped": Scenario(((STABLE, ship("web:2", skip="true")),), "Promoting Draining Ended Skipped", "upgraded"),
    "superseded": Scenario(
        (GOOD, (PAUSED, ship("web:3")), (lambda world: PAUSED(world) and "Superseded" in world.stages, RESUME[1])),
        f"{TO_PAUSE} RollingBack Cleaning Ended Superseded {TO_END}",
        f"deployed rolledback {TOLD_GOOD}",
        own=lambda world: world.next == 2 and not ("Superseded" in world.stages and world.reached(50)),
    ),
    "aborted": Scenario(
        (GOOD, (PAUSED, annotate("abort", "{}"))),
        f"{TO_PAUSE} RollingBack Keeping Cleaning Ended Aborted",
        "deployed rolledback",
        own=lambda world: world.next == 2,
    ),
    "aborted as it rolls out": Scenario(
        (GOOD, RESUME, (lambda world: world.status().get("stage") == "Promoting", annotate("abort", "{}"))),
        f"{TO_PAUSE} Stepping Promoting RollingBack Cleaning Ended Aborted",
        "deployed rolledback",
        own=lambda world: world.unpaused(),
    ),
    "deleted": Scenario(
        (GOOD, (PAUSED, delete)),
        f"{TO_PAUSE} RollingBack Cleaning Ended Aborted",
        "deployed rolledback",
        own=lambda world: world.next == 2,
    ),
    "told when it is over": Scenario(
        (GOOD, RESUME),
        TO_END,
        TOLD_GOOD,
        deaf=lambda world: "Ended" not in world.stages,
        own=lambda world: "Ended" in world.stages,
    ),
    "good, without policies": Scenario((GOOD, RESUME), TO_END, TOLD_GOOD, hold="pause"),
    "bad as it rolls out, without policies": replace(ROLLED_OUT, hold="pause"),
}


# ---- the world ----


@dataclass
class World:
    """All that outlives a process. What must always be so is looked at with every write."""

    scenario: Scenario
    server: Server
    cluster: Controllers
    now: float = 0.0
    #: The next thing that people do.
    next: int = 0
    #: Service -> (time, requests, failures), as a Prometheus would have them.
    samples: dict[str, list[tuple[float, float, float]]] = field(default_factory=dict)
    #: What the receiver has taken: (type, id).
    inbox: list[tuple[str, str]] = field(default_factory=list)
    #: What must never be, and was.
    wrong: list[str] = field(default_factory=list)
    #: Stages and outcomes, as they were put on record.
    stages: list[str] = field(default_factory=list)
    #: When anything was written last.
    busy: float = 0.0

    @staticmethod
    def of(scenario: Scenario) -> World:
        server = Server(moment, policies=scenario.hold == "policy")
        return World(scenario, server, Controllers(server))

    def copy(self) -> World:
        server, now = self.server.copy(), seconds()
        samples = {service: list(known) for service, known in self.samples.items()}
        copies = {"samples": samples, "inbox": list(self.inbox), "wrong": list(self.wrong), "stages": list(self.stages)}
        return replace(self, server=server, cluster=self.cluster.copy(server), now=now, busy=now, **copies)

    # ---- what is ----

    def canary(self) -> Object:
        return self.server.find(CANARIES, *KEY) or {}

    def release(self) -> Object:
        """The newest attempt."""
        return max(self.server.all(RELEASES), key=lambda item: str(item["spec"]["requestedAt"]), default={})

    def status(self) -> Object:
        """Of the newest attempt."""
        status: Object = self.release().get("status", {})
        return status

    def reached(self, percent: int) -> bool:
        """The newest attempt has had so much traffic."""
        return percent in [step["weight"] for step in self.status().get("steps", [])]

    def unpaused(self) -> bool:
        """It is being promoted, or was."""
        return "unpaused" in self.status().get("times", {})

    def given(self) -> int:
        """The canary's share as it was written, the highest of all routes."""
        return max(_share(route["spec"]["rules"]) for route in self.server.all(HTTP))

    def taken(self) -> int:
        """The same, as the proxies have it."""
        return max((_share(rules) for rules in self.cluster.taken.values()), default=0)

    def owed(self) -> list[str]:
        """The events on record."""
        return [event["id"] for release in self.server.all(RELEASES) for event in release.get("status", {}).get("events", [])]

    def pods(self, app: str) -> list[Object]:
        """The ready ones behind a Service."""
        return [pod for pod in self.server.all(PODS, None, f"app={app}") if ready(pod)]

    # ---- what happens ----

    def write(self, kind: Kind, patch: Object) -> None:
        """As a person does it."""
        self.server.change(kind, *KEY, lambda old: merged(old, patch))

    def tick(self) -> None:
        """People, controllers, users' requests."""
        if self.next < len(self.scenario.deeds) and self.scenario.deeds[self.next][0](self):
            self.next += 1
            self.scenario.deeds[self.next - 1][1](self)
        self.cluster.step()
        share = self.taken() / 100
        for service, part in (("web-canary", share), ("web", 1 - share)):
            self._serve(service, RATE * TICK * part)

    def _serve(self, service: str, requests: float) -> None:
        pods = self.pods(service)
        self.must(bool(pods) or not requests, f"requests to {service} find a pod")
        harm = 0.5 * sum(_image(pod) == "web:bad" for pod in pods) / max(len(pods), 1)
        bad = harm if harm and self.scenario.harmful(self) else 0
        known = self.samples.setdefault(service, [])
        _, total, failed = known[-1] if known else (0, 0.0, 0.0)
        known.append((seconds(), total + requests, failed + requests * bad))

    def at_rest(self) -> bool:
        """Nothing more is going to happen."""
        done = self.next == len(self.scenario.deeds) and seconds() - self.busy >= REST
        return done and {*self.owed()} == {event for _, event in self.inbox}

    # ---- what must always be so ----

    def must(self, so: bool, what: str) -> None:
        if not so:
            self.wrong.append(f"not so after {seconds():.1f} s: {what}")

    def changed(self, kind: Kind, before: Object | None, after: Object | None, who: str) -> None:
        """Every write of every client, at the moment that it is made."""
        self.busy = seconds()
        name = (after or before or {})["metadata"]["name"]
        if who == OPERATOR and kind not in (CANARIES, EVENTS):
            held = FINALIZER in self.canary().get("metadata", {}).get("finalizers", [])
            self.must(held, "nothing is touched but under the finalizer that will put it back")
        if kind == PODS and before is None and after is not None:
            self._pod(after)
        elif who == OPERATOR and kind == HTTP and before is not None and after is not None:
            self._route(before, after)
        elif who == OPERATOR and kind == DEPLOYMENTS and name == "web-canary" and before is not None:
            left = after["spec"]["replicas"] if after else 0
            least = min(left, before["spec"]["replicas"])
            self.must(max(self.given(), self.taken()) <= 100 * left / REPLICAS or least == left, "traffic goes before pods")
        elif who == OPERATOR and kind == SERVICES and after is None:
            named = any("web-canary" in json.dumps(route["spec"]) for route in self.server.all(HTTP))
            self.must(not named, "no route names a Service that goes")
        elif kind == RELEASES and before is not None and after is not None:
            self._record(before.get("status", {}), after["status"])

    def _pod(self, pod: Object) -> None:
        """A version gets pods behind the user's Service when it has been judged, or was not to be."""
        image = _image(pod)
        if pod["metadata"]["labels"]["app"] != "web" or image == "web:1":
            return
        known = [r["status"] for r in self.server.all(RELEASES) if image in r["spec"]["images"] and "status" in r]
        judged = any(s["outcome"] == "Skipped" if "outcome" in s else s["steps"][-1:] for s in known)
        passed = any(s.get("outcome") == "Skipped" or 100 in [step["weight"] for step in s["steps"]] for s in known)
        self.must(bool(judged) and passed, f"{image} was judged before it serves")

    def _route(self, before: Object, after: Object) -> None:
        was, now = _share(before["spec"]["rules"]), _share(after["spec"]["rules"])
        status, name = self.status(), after["metadata"]["name"]
        self.must(now <= was or now <= 100 * len(self.pods("web-canary")) / REPLICAS, f"{now} % has the pods it needs")
        self.must(now <= was or now <= status.get("weight", 0), f"{now} % is on record before it is given")
        failures = [samples[-1][2] for samples in self.samples.values()]
        self.must(now <= was or not any(failures), f"{now} % is not given while the numbers show harm")
        recorded = name in [record["name"] for record in status.get("routes", [])]
        self.must(recorded, f"route {name} is on record as it was before it is written")

    def _record(self, before: Object, after: Object) -> None:
        if before.get("stage") != after["stage"]:
            self.stages += [after["stage"], after["outcome"]] if after["stage"] == "Ended" else [after["stage"]]
        self.must(self.given() <= after["weight"], "traffic is taken back before that is on record")
        if "zeroVerified" in after["times"] and "zeroVerified" not in before.get("times", {}):
            self.must(self.taken() == 0, "the proxies have weight 0 when that is said to be seen")
        self.must(before.get("outcome", after.get("outcome")) == after.get("outcome"), "an outcome stays")
        self.must(before.get("stage") != "Ended" or after["stage"] == "Ended", "what has ended stays so")
        kept = [event["id"] for event in after["events"]]
        self.must(all(event["id"] in kept for event in before.get("events", [])), "no event is dropped")

    def receive(self, kind: str, event: str) -> None:
        """The receiver takes an event."""
        if self.scenario.deaf(self):
            raise Unreachable(503, "")
        self.must(event in self.owed(), f"{kind} is on record before it is told")
        self.must(kind in TOLD_GOOD or self.taken() == 0, f"traffic is safe before {kind}")
        self.inbox.append((kind, event))


def _share(rules: list[Object]) -> int:
    weights = [(ref["name"], ref.get("weight", 1)) for rule in rules for ref in rule["backendRefs"]]
    every = sum(weight for _, weight in weights)
    return round(100 * sum(w for name, w in weights if name == "web-canary") / every) if every else 0


def _image(pod: Object) -> str:
    return str(pod["spec"]["containers"][0]["image"])


# ---- one process ----


class Counters:
    """Prometheus: `bad{service="…"}` and `total{service="…"}`."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def counters(self, queries: Mapping[str, str], at: datetime | None = None) -> Snapshot:
        moment = at or Clock.now()
        until = (moment - START).total_seconds()
        return Snapshot(moment, {name: self._series(query, until) for name, query in queries.items()})

    def _series(self, query: str, until: float) -> dict[Labels, float]:
        name, service = re.findall(r"[\w-]+", query)[::2]
        known = [sample for sample in self._world.samples.get(service, []) if sample[0] <= until and sample[1]]
        return {(("service", service),): known[-1][1 if name == "total" else 2]} if known else {}

    async def value(self, query: str, at: datetime) -> float | None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError


class Answer:
    """What `session.post` gives: taken, or a connection that breaks."""

    status, headers = 202, dict[str, str]()

    def __init__(self, take: Callable[[], None]) -> None:
        self._take = take
        self.content = self

    async def read(self, limit: int) -> bytes:
        return b""

    async def __aenter__(self) -> Answer:
        await asyncio.sleep(0)
        try:
            self._take()
        except KubeError as error:
            raise aiohttp.ClientConnectionError from error
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        return


class Process:
    """The operator, from its start to its end, but for kopf and the election."""

    def __init__(self, world: World, gate: Gate) -> None:
        self._world, self._gate = world, gate
        kube: Any = Client(world.server, gate)
        config = Config(sinks=("http://receiver",), hold=world.scenario.hold, identity="serinus-0")
        self.teller = Teller(kube, self, config)  # type: ignore[arg-type]
        self.queue = Queue(lambda key: self.loop.run(key))
        self.loop = Loop(kube, Sources(Counters(world)), self.teller, world.scenario.hold, self.queue.wake, Progress())

    def post(self, url: object, data: bytes, **_: object) -> Answer:
        """The receiver."""
        event = json.loads(data)["data"]
        known = (event["context"]["type"].split(".")[3], event["context"]["id"])
        return Answer(lambda: self._gate(("post", "event", known[0], ""), lambda: self._world.receive(*known)))

    def notice(self, kind: Kind, before: Object | None, after: Object | None, who: str) -> None:
        """kopf's watches."""
        self._world.changed(kind, before, after, who)
        if kind in (CANARIES, DEPLOYMENTS, HTTP):
            self.queue.wake(KEY)

    async def close(self) -> None:
        await self.queue.close()
        await self.teller.close()


def live(world: World, gate: Gate, down: int = 0) -> World:
    """A process, from `down` ticks after now until nothing happens any more."""

    async def main() -> None:
        world.server.watch = world.changed
        if not world.server.objects:
            for kind, body in objects():
                world.server.create(kind, KEY.namespace, body)
            for _ in range(4):
                world.cluster.step()
        for _ in range(down):
            await asyncio.sleep(TICK)
            world.tick()
        process = Process(world, gate)
        world.server.watch = process.notice
        process.queue.wake(KEY)
        until = seconds() + LIMIT
        while not world.at_rest():
            await asyncio.sleep(TICK)
            world.tick()
            assert seconds() < until, "it never came to rest"
        await process.close()

    with asyncio.Runner(loop_factory=lambda: VirtualLoop(world.now)) as runner:
        runner.run(main())
    return world


# ---- the walks ----

Work = Callable[[], Any]


class Walk:
    """A release from its beginning to its end, undisturbed. Knows every call, and what the world was like around writes."""

    def __init__(self, scenario: Scenario) -> None:
        self.world = World.of(scenario)
        self.calls: list[Call] = []
        #: Calls that are worth a fault: the writes, and the first GET and LIST of each stage.
        self.writes: list[int] = []
        self.reads: list[int] = []
        #: What there was to go on from for another process, once each, and where that was.
        self.copies: dict[tuple[int, int, int, float], tuple[str, World]] = {}
        self._read: set[tuple[str, ...]] = set()
        live(self.world, self)
        self.end = outcome(self.world)

    def __call__(self, call: Call, work: Work) -> Any:
        self.calls.append(call)
        if call[0] in READS:
            where = (call[0], *self.world.stages[-1:])
            if where not in self._read:
                self._read.add(where)
                self.reads.append(len(self.calls))
            return work()
        if call[1] == "events":  # a courtesy: whether it was told is no matter for the next process
            return work()
        if self.world.scenario.own(self.world):
            self.writes.append(len(self.calls))
        self._keep(f"killed before write {len(self.writes)}, {' '.join(call)}")
        result = work()
        self._keep(f"killed after write {len(self.writes)}, {' '.join(call)}")
        return result

    def _keep(self, where: str) -> None:
        world = self.world
        told = sum(key[0] == EVENTS for key in world.server.objects)
        point = (world.server.version - told, world.next, len(world.inbox), seconds())
        if point not in self.copies and world.scenario.own(world):
            self.copies[point] = where, world.copy()

    def check(self) -> None:
        """It went as it is meant to."""
        assert not self.world.wrong, self.world.wrong
        assert " ".join(self.world.stages) == self.world.scenario.stages
        assert " ".join(kind for kind, _ in self.world.inbox) == self.world.scenario.told


def answer(fault: Fault, call: Call, work: Work) -> Any:
    """What goes wrong.

    A refusal is 409 where somebody was faster, if only within the API server (a quota's own race, for a create), and 422 for
    a JSON Patch whose test failed.
    """
    if fault == "refused":
        raise AlreadyExists(409, "") if call[0] == "create" else Conflict(422 if call[0] == "patch" else 409, "")
    if fault == "answer lost":
        work()
    raise Unreachable(0, "no answer")


def faulty(walk: Walk, fault: Fault, n: int) -> Gate:
    """Goes wrong at the nth call of the walk, and never again."""
    count = 0

    def gate(call: Call, work: Work) -> Any:
        nonlocal count
        count += 1
        if count != n:
            return work()
        assert call == walk.calls[n - 1], f"{call} instead of {walk.calls[n - 1]}"
        return answer(fault, call, work)

    return gate


def sound(call: Call, work: Work) -> Any:
    return work()


_TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")
_NUMBER = re.compile(r"\d+(\.\d+)?")
#: What numbers there were, and what counts writes.
_VARIES = {"tally", "resourceVersion", "generation", "observedGeneration", "bad", "total", "exposure", "stepRequests", REVISION}


def normal(thing: Any, key: str = "") -> Any:
    """Without times, and without how many requests or writes it took."""
    if isinstance(thing, dict):
        parts = {name: normal(value, name) for name, value in sorted(thing.items()) if name not in _VARIES}
        return {name: part for name, part in parts.items() if part not in ({}, [])}
    if isinstance(thing, list):
        items = [normal(value) for value in thing]
        return sorted(items, key=str) if key == "managedFields" else items
    if isinstance(thing, str):
        return _NUMBER.sub("#", thing) if key in ("why", "message", "sentence") else _TIME.sub("T", thing)
    return thing


def outcome(world: World) -> dict[str, Any]:
    """Everything there is, by name, but Kubernetes' events, ReplicaSets that are history, and which pod it is."""
    found = {}
    for (kind, _, name), (thing, _) in world.server.objects.items():
        if kind == EVENTS or (kind == REPLICA_SETS and thing["spec"]["replicas"] == 0):
            continue
        known = found[f"{kind.plural}/{name}"] = normal(thing)
        for part in () if kind == HTTP else ("managedFields", "uid") if kind == PODS else ("managedFields",):
            del known["metadata"][part]
    return found


def differences(one: Any, other: Any, path: str = "") -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other}):
            yield from differences(one.get(key), other.get(key), f"{path}.{key}")
    elif one != other:
        yield f"{path}: {one!r} became {other!r}"


def told_apart(walk: Walk, gate: Gate, world: World, down: int = 0) -> Iterator[str]:
    """What somebody could tell the undisturbed walk from this one by."""
    try:
        live(world, gate, down)
    except AssertionError as error:
        yield str(error)
    yield from world.wrong
    yield from differences(walk.end, outcome(world))
    if list(dict.fromkeys(world.inbox)) != walk.world.inbox:
        yield f"the receiver has {world.inbox} instead of {walk.world.inbox}"
    told, known = ({key[2] for key in each.server.objects if key[0] == EVENTS} for each in (world, walk.world))
    if not down and known - told:
        yield f"what was refused is not told by the next pass: {sorted(known - told)}"
    if told - known:
        said = [world.server.get(EVENTS, KEY.namespace, name)["message"] for name in sorted(told - known)]
        yield f"Kubernetes' events tell of what was not so: {said}"


def compare(tries: Iterable[tuple[str, Iterator[str]]]) -> None:
    """Fails with the first few that differ, each with where that was."""
    found = ((where, list(differing)) for where, differing in tries)
    first = [f"{where}: {'; '.join(differing)[:2000]}" for where, differing in islice(filter(lambda f: f[1], found), 5)]
    assert not first, "\n\n".join(first)


def say(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with capsys.disabled():
        sys.stderr.write(f"\n{text}\n")


LONG = [pytest.param(name, marks=pytest.mark.long if number > 1 else ()) for number, name in enumerate(SCENARIOS)]


@pytest.mark.parametrize("name", LONG)
def test_killed_at_any_write_nobody_can_tell(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    walk = Walk(SCENARIOS[name])
    walk.check()
    tries = ((where, told_apart(walk, sound, world, DOWN)) for where, world in walk.copies.values())
    compare(tries)
    say(capsys, f"{name}: {len(walk.writes)} writes, killed at {len(walk.copies)} points between them")


@pytest.mark.long
@pytest.mark.parametrize("fault", get_args(Fault))
@pytest.mark.parametrize("name", ["good", "bad", "told when it is over"])
def test_any_write_goes_wrong_and_nobody_can_tell(name: str, fault: Fault, capsys: pytest.CaptureFixture[str]) -> None:
    walk = Walk(SCENARIOS[name])
    tries = (
        (f"{fault}: call {n}, {walk.calls[n - 1]}", told_apart(walk, faulty(walk, fault, n), World.of(SCENARIOS[name])))
        for n in walk.writes
    )
    compare(tries)
    say(capsys, f"{name}, {fault}: {len(walk.writes)} writes")


@pytest.mark.long
@pytest.mark.parametrize("name", ["good", "bad"])
def test_any_read_goes_unanswered_and_nobody_can_tell(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    walk = Walk(SCENARIOS[name])
    tries = (
        (
            f"unanswered: call {n}, {walk.calls[n - 1]}",
            told_apart(walk, faulty(walk, "never arrives", n), World.of(SCENARIOS[name])),
        )
        for n in walk.reads
    )
    compare(tries)
    say(capsys, f"{name}, unanswered: {len(walk.reads)} reads")


def test_the_walks_pass_through_every_stage() -> None:
    walked = {stage for scenario in SCENARIOS.values() for stage in scenario.stages.split()}
    assert walked == {*get_args(Stage), *get_args(Outcome)}

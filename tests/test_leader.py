"""Two processes and one Lease: whatever is slow or frozen, one acts at a time, and what the other did stands."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.aio.leaderelection import leaderelection
from tests.apiserver import Client, Server
from tests.controllers import Controllers
from tests.test_killed_anywhere import (
    KEY,
    START,
    Answer,
    Process,
    Scenario,
    VirtualLoop,
    World,
    moment,
    objects,
    phase,
    seconds,
    ship,
    sound,
    virtual_time,
)

from serinus.controller import leader, main
from serinus.controller.queue import Key
from serinus.controller.telemetry import Progress
from serinus.kube import CANARIES, DEPLOYMENTS, EVENTS, Conflict, Kind, NotFound, Object, Unreachable

__all__ = ["virtual_time"]  # a fixture


def turn(work: Awaitable[None]) -> None:
    """Until it is done, in no time."""

    async def run() -> None:
        await work

    with asyncio.Runner(loop_factory=lambda: VirtualLoop(0.0)) as runner:
        runner.run(run())


# ---- the election ----


@pytest.fixture
def quiet() -> Iterator[None]:
    """A Lease that is lost is an error in the log, and is meant to be lost here."""
    names = ("serinus.leader", "kubernetes.aio.leaderelection.leaderelection")
    for name in names:
        logging.getLogger(name).disabled = True
    yield
    for name in names:
        logging.getLogger(name).disabled = False


class Lease:
    """The one there is, as the API server keeps it."""

    known: Object | None = None
    version = 0

    def put(self, body: Object) -> Object:
        self.version += 1
        self.known = json.loads(json.dumps(body))
        self.known["metadata"]["resourceVersion"] = str(self.version)
        return self.known


class Asking:
    """A process's way to it, on which each answer takes so many seconds, and none more than ten."""

    def __init__(self, lease: Lease, takes: Callable[[], float]) -> None:
        self._lease, self._takes = lease, takes

    async def _wait(self) -> None:
        takes = self._takes()
        await asyncio.sleep(min(takes, 10))
        if takes >= 10:
            raise Unreachable(0, "no answer")

    async def get(self, *_: object) -> Object:
        await self._wait()
        if self._lease.known is None:
            raise NotFound(404, "")
        copy: Object = json.loads(json.dumps(self._lease.known))
        return copy

    async def create(self, kind: Kind, namespace: str, body: Object) -> Object:
        await self._wait()
        return self._lease.put(body)

    async def replace(self, kind: Kind, namespace: str, name: str, body: Object) -> Object:
        await self._wait()
        assert self._lease.known is not None
        if body["metadata"].get("resourceVersion") != self._lease.known["metadata"]["resourceVersion"]:
            raise Conflict(409, "")
        return self._lease.put(body)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    ("takes", "lingers"),
    [(lambda now: 9 if 20 < now < 70 else 0.01, 0), (lambda now: 10 if 20 < now < 31 else 0.01, 6)],
    ids=["each answer takes 9 s", "no answer for 11 s, and 6 s until the work has ended"],
)
def test_there_are_never_two_leaders(monkeypatch: pytest.MonkeyPatch, takes: Callable[[float], float], lingers: float) -> None:
    """The first one's way to the API server is slow for a while."""
    lease, active, most, led = Lease(), set[str](), 0, list[str]()
    monkeypatch.setattr(leaderelection, "time", SimpleNamespace(time=seconds))

    async def one(who: str) -> None:
        async def work() -> None:
            nonlocal most
            active.add(who)
            led.append(who)
            most = max(most, len(active))
            try:
                await asyncio.sleep(10**6)
            finally:
                await asyncio.sleep(lingers)
                active.discard(who)

        way: Any = Asking(lease, lambda: takes(seconds()) if who == "a" else 0.01)
        await leader.lead(leader.Lock(way, "serinus", "serinus", who, lambda: None), work)

    async def both() -> None:
        first = asyncio.ensure_future(one("a"))
        await asyncio.sleep(3)
        second = asyncio.ensure_future(one("b"))
        await asyncio.sleep(120)
        for task in (first, second):
            task.cancel()
        await asyncio.gather(first, second, return_exceptions=True)

    turn(both())
    assert led == ["a", "b"]
    assert most == 1


# ---- a process that was frozen, and does not know yet that another leads ----

STEPS = [{"weight": 50, "duration": "2s"}, {"weight": 100, "duration": "1s"}]


class Frozen(Process):
    """It stands still whenever it begins a pass or asks the metrics, as long as `thawed` is not set."""

    def __init__(self, world: World, gate: Any) -> None:
        super().__init__(world, gate)
        self.frozen, self.thawed = asyncio.Event(), asyncio.Event()
        self.thawed.set()
        run, ask = self.loop.run, self.loop._sources.prometheus.counters

        async def held(key: Key) -> float | None:
            await self.thawed.wait()
            return await run(key)

        async def asked(*some: Any, **more: Any) -> Any:
            await self.thawed.wait()
            return await ask(*some, **more)

        self.loop.run = held  # type: ignore[method-assign]
        self.loop._sources.prometheus.counters = asked  # type: ignore[method-assign]


class Deaf(Frozen):
    """What it sent to the receiver is answered when it goes on, and its next pass comes a little later."""

    def __init__(self, world: World, gate: Any) -> None:
        super().__init__(world, gate)
        run = self.loop.run

        async def late(key: Key) -> float | None:
            if not self.thawed.is_set():
                await self.thawed.wait()
                await asyncio.sleep(0.3)
            return await run(key)

        self.loop.run = late  # type: ignore[method-assign]

    def post(self, url: object, data: bytes, **more: object) -> Answer:
        return Late(self, super().post(url, data, **more))


class Late(Answer):
    """It comes when the process has been frozen and goes on."""

    def __init__(self, process: Deaf, answer: Answer) -> None:
        super().__init__(answer._take)
        self._process = process

    async def __aenter__(self) -> Answer:
        await self._process.frozen.wait()
        await self._process.thawed.wait()
        return await super().__aenter__()


def succeeded(image: str, until: Callable[[World], bool], process: type[Frozen]) -> tuple[World, Object, set[str]]:
    """One is frozen at 50 %, another goes on until `until`, and then for ten seconds both act.

    Returns the world, the record as it was before the first went on, and what was told after.
    """
    server = Server(moment)
    world = World(Scenario(((phase("Stable"), ship(image)),), "", ""), server, Controllers(server))
    before: Object = {}
    told = set[str]()

    async def reach(condition: Callable[[], bool]) -> None:
        limit = seconds() + 120
        while not condition():
            await asyncio.sleep(0.25)
            if seconds() % 1 == 0:
                world.tick()
            assert seconds() < limit, world.stages

    async def run() -> None:
        server.watch = world.changed
        for kind, body in objects():
            if kind == CANARIES:
                body["spec"] |= {"steps": STEPS, "rollback": {"keepCanaryFor": "20s"}}
            server.create(kind, KEY.namespace, body)
        for _ in range(4):
            world.cluster.step()
        first = process(world, sound)
        server.watch = first.notice
        first.queue.wake(KEY)
        await reach(lambda: world.reached(50))
        first.thawed.clear()
        first.frozen.set()
        frozen = seconds()
        await reach(lambda: seconds() >= frozen + 15)
        second = Process(world, sound)
        server.watch = second.notice
        second.queue.wake(KEY)
        await reach(lambda: until(world))
        world.wrong.clear()  # in between nobody acted, and requests failed
        before.update(world.status())
        known = {event["reason"] for event in server.all(EVENTS)}

        def noticed(kind: Kind, old: Object | None, new: Object | None, who: str) -> None:
            second.notice(kind, old, new, who)
            if kind in (CANARIES, DEPLOYMENTS):
                first.queue.wake(KEY)

        server.watch = noticed
        first.thawed.set()
        thawed = seconds()
        await reach(lambda: seconds() >= thawed + 10)
        told.update({event["reason"] for event in server.all(EVENTS)} - known)
        await first.close()
        await second.close()

    turn(run())
    return world, before, told


@pytest.mark.parametrize("kind", [Frozen, Deaf])
def test_a_promotion_is_not_written_over_by_a_process_that_was_frozen(kind: type[Frozen]) -> None:
    world, before, told = succeeded("web:2", lambda world: "Ended" in world.stages, kind)
    assert not world.wrong
    assert before["outcome"] == "Promoted"
    assert world.status()["outcome"] == "Promoted"
    assert world.status()["times"] == before["times"]
    assert told <= {"Promoted"}


@pytest.mark.parametrize("kind", [Frozen, Deaf])
def test_no_traffic_is_given_to_a_bad_version_by_a_process_that_was_frozen(kind: type[Frozen]) -> None:
    world, before, _ = succeeded("web:bad", lambda world: "Keeping" in world.stages, kind)
    assert not world.wrong
    assert before["outcome"] == "RolledBack"
    assert world.taken() == 0
    assert world.status()["outcome"] == "RolledBack"


# ---- the slow second look ----


def test_an_operator_for_some_namespaces_leaves_the_others_alone_and_finds_a_canary_whose_event_was_missed() -> None:
    server, woken = Server(lambda: START), set[Key]()
    for namespace in ("team-a", "team-b"):
        for kind, body in objects():
            labelled = {"labels": {"serinus.dev/canary": "web"}} if kind == DEPLOYMENTS and namespace == "team-b" else {}
            server.create(kind, namespace, {**body, "metadata": body["metadata"] | labelled})
    queue: Any = SimpleNamespace(wake=woken.add)
    loop: Any = SimpleNamespace(memos={})
    kube: Any = Client(server, sound)

    async def run() -> None:
        task = asyncio.ensure_future(main._resync(kube, queue, loop, Progress(), ("team-a",)))
        await asyncio.sleep(700)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    turn(run())
    assert woken == {Key("team-a", "web")}

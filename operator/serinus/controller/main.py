"""Starting and stopping: the web port, the election, kopf around the loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time

import aiohttp
import kopf

from serinus import logs
from serinus.api.base import CANARY_LABEL
from serinus.controller import web
from serinus.controller.config import Config
from serinus.controller.handlers import Index, register, settings
from serinus.controller.leader import Lock, lead
from serinus.controller.loop import Loop
from serinus.controller.queue import Key, Queue
from serinus.controller.sources import Sources
from serinus.controller.telemetry import Progress
from serinus.controller.tell import Teller
from serinus.kube import CANARIES, DEPLOYMENTS, Kube, KubeError, connect
from serinus.metrics.prometheus import Prometheus
from serinus.metrics.together import Together

log = logging.getLogger("serinus")

#: Seconds between two looks for events that a watch has missed: two requests each, however many Canaries there are.
RESYNC = 600.0


async def run(config: Config) -> None:
    """The operator. Returns when told to stop, or when it no longer leads."""
    logs.setup(config.log_level)
    progress, stop = Progress(), asyncio.Event()
    runner = await web.serve(progress, config.port)
    kube = await connect()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    turning = asyncio.get_running_loop().create_task(_turn(kube, progress))
    try:
        await _first_answer(kube, progress)
        progress.ready = True

        async def work() -> None:
            await _operate(config, kube, progress, stop)

        if config.leader_election:
            lock = Lock(kube, config.pod_namespace, config.lease, config.identity, progress.answer)
            leading = asyncio.ensure_future(lead(lock, work))
            stopping = asyncio.ensure_future(stop.wait())
            await asyncio.wait({leading, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not leading.done():  # kopf is on its way out, or this was a standby
                await asyncio.wait({leading}, timeout=8)
            leading.cancel()
            stopping.cancel()
            await asyncio.gather(leading, stopping, return_exceptions=True)
        else:
            await work()
    finally:
        turning.cancel()
        await runner.cleanup()
        await kube.close()


async def _turn(kube: Kube, progress: Progress) -> None:
    """Shows that the event loop turns and, when nothing else has asked for a while, that the API server answers."""
    while True:
        progress.turned = time.monotonic()
        if progress.turned - progress.answered > progress.limit / 3:
            with contextlib.suppress(KubeError):
                await kube.ping()
                progress.answer()
        await asyncio.sleep(1)


async def _first_answer(kube: Kube, progress: Progress) -> None:
    """Waits for the API server, and for our CRDs to be there. Liveness ends a wait without end."""
    while True:
        try:
            await kube.list(CANARIES, None)
        except KubeError as error:
            log.warning("cannot list Canaries yet: %s; are the CRDs of the chart installed?", error)
            await asyncio.sleep(2)
        else:
            progress.answer()
            return


async def _operate(config: Config, kube: Kube, progress: Progress, stop: asyncio.Event) -> None:
    """What the leader does."""
    log.info("leading", extra={"data": {"identity": config.identity, "hold": config.hold}})
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        teller = Teller(kube, session, config)
        prometheus = Together(Prometheus(config.prometheus_url))
        sources = Sources(prometheus, config.gateway_metrics_urls)
        index = Index()
        loop = Loop(kube, sources, teller, config.hold, lambda key: queue.wake(key), progress)
        queue = Queue(loop.run)
        registry = kopf.OperatorRegistry()
        register(registry, queue, index)
        resync = asyncio.get_running_loop().create_task(_resync(kube, queue, loop, progress, config.namespaces))
        stop_flag = asyncio.Event()
        relay = asyncio.get_running_loop().create_task(_relay(stop, stop_flag))
        try:
            await kopf.operator(
                registry=registry,
                settings=settings(),
                identity=config.identity,  # type: ignore[arg-type]  # a NewType of str that kopf keeps to itself
                standalone=True,
                clusterwide=not config.namespaces,
                namespaces=config.namespaces,
                stop_flag=stop_flag,
            )
        finally:
            for task in (resync, relay):
                task.cancel()
            await queue.close()
            await teller.close()
            await sources.close()


async def _relay(stop: asyncio.Event, flag: asyncio.Event) -> None:
    await stop.wait()
    flag.set()


async def _resync(kube: Kube, queue: Queue, loop: Loop, progress: Progress, namespaces: tuple[str, ...]) -> None:
    """A missed event is never sent again: compare what was last seen with what is there, in two requests."""
    while True:
        await asyncio.sleep(30)
        try:
            found = await kube.list(CANARIES, None)
            canaries = [c for c in found if not namespaces or c["metadata"]["namespace"] in namespaces]
            progress.answer()
            await asyncio.sleep(RESYNC - 30)
            deployments = await kube.list(DEPLOYMENTS, None, CANARY_LABEL)
        except KubeError as error:
            log.warning("resync: %s", error)
            continue
        versions = {(d["metadata"]["namespace"], d["metadata"]["name"]): d["metadata"]["resourceVersion"] for d in deployments}
        for canary in canaries:
            key = Key(canary["metadata"]["namespace"], canary["metadata"]["name"])
            memo = loop.memos.get(key)
            seen = memo.versions.get("deployment") if memo else None
            if memo is None or versions.get((key.namespace, canary["spec"]["targetRef"]["name"])) != seen:
                queue.wake(key)
        for key in set(loop.memos) - {Key(c["metadata"]["namespace"], c["metadata"]["name"]) for c in canaries}:
            queue.wake(key)

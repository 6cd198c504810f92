"""One leader at a time, by a Lease: https://kubernetes.io/docs/concepts/architecture/leases/#leader-election.

The election itself is the official client's. Its LeaseLock is not used: in 37.0.2 `create` sends a parameter that its own
validation refuses, requests have no timeout, and a transport error ends the election. This lock answers False instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.baselock import BaseLock

from serinus.kube import LEASES, Kube, KubeError, NotFound, Object

log = logging.getLogger("serinus.leader")

DURATION, DEADLINE, PERIOD = 15, 10, 4


class Lock(BaseLock):
    """A Lease. Nothing here raises: an election that cannot ask has not been won."""

    def __init__(self, kube: Kube, namespace: str, name: str, identity: str, answered: Callable[[], None]) -> None:
        super().__init__(name, namespace, identity)
        self._kube, self._answered = kube, answered
        self._lease: Object = {}
        #: When the Lease was last known to be ours: before the request was sent that renewed it.
        self.renewed: float | None = None

    async def get(self, name: str, namespace: str) -> Any:
        """(True, record) or (False, an ApiException whose body says 404)."""
        try:
            self._lease = await self._kube.get(LEASES, namespace, name)
        except NotFound:
            self._answered()
            return False, ApiException(status=404, reason="Not Found", body='{"code": 404}')
        except KubeError as error:
            return False, ApiException(status=error.status, reason=str(error), body=None)
        self._answered()
        spec = self._lease.get("spec", {})
        seconds = spec.get("leaseDurationSeconds")
        return True, LeaderElectionRecord(
            spec.get("holderIdentity") or None,
            str(seconds) if seconds else None,
            spec.get("acquireTime"),
            spec.get("renewTime"),
        )

    async def create(self, name: str, namespace: str, election_record: LeaderElectionRecord) -> bool:
        """True if the Lease is ours."""
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name},
            "spec": _spec(election_record),
        }
        asked = asyncio.get_running_loop().time()
        with contextlib.suppress(KubeError):
            await self._kube.create(LEASES, namespace, body)
            self.renewed = asked
            return True
        return False

    async def update(self, name: str, namespace: str, updated_record: LeaderElectionRecord) -> bool:
        """True if the Lease is ours (still)."""
        asked = asyncio.get_running_loop().time()
        try:
            await self._kube.replace(LEASES, namespace, name, {**self._lease, "spec": _spec(updated_record)})
        except KubeError as error:
            log.warning("the Lease could not be renewed: %s", error)
            return False
        self.renewed = asked
        return True

    async def expired(self) -> None:
        """Returns before another may take the Lease that was ours, however slow the API server is."""
        while True:
            now = asyncio.get_running_loop().time()
            left = DEADLINE + (now if self.renewed is None else self.renewed) - now
            if left <= 0:
                log.error("the Lease was not renewed for %s s; leaving, before another may take it", DEADLINE)
                return
            await asyncio.sleep(left)

    async def release(self) -> None:
        """Gives the Lease up, so that a successor need not wait for it to run out."""
        with contextlib.suppress(KubeError):
            lease = await self._kube.get(LEASES, self.namespace, self.name)
            if lease.get("spec", {}).get("holderIdentity") == self.identity:
                await self._kube.replace(LEASES, self.namespace, self.name, {**lease, "spec": {"leaseDurationSeconds": 1}})


def _spec(record: LeaderElectionRecord) -> Object:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    acquired = record.acquire_time if record.acquire_time and record.acquire_time.endswith("Z") else now
    return {
        "holderIdentity": record.holder_identity,
        "leaseDurationSeconds": int(record.lease_duration or DURATION),
        "acquireTime": acquired,
        "renewTime": now,
    }


async def lead(lock: Lock, work: Callable[[], Awaitable[None]]) -> None:
    """Waits to be elected, does `work`, and returns when it ends or the Lease is lost. Two leaders are worse than none."""
    done = asyncio.Event()
    failures: list[Exception] = []

    worker: asyncio.Task[None] | None = None

    async def started() -> None:
        nonlocal worker
        worker = asyncio.current_task()
        try:
            await work()
        except Exception as failure:
            failures.append(failure)
        finally:
            done.set()

    async def stopped() -> None:
        log.error("the Lease was lost; leaving, so that only its new holder acts")
        done.set()

    election = LeaderElection(Config(lock, DURATION, DEADLINE, PERIOD, started, stopped))
    running = asyncio.ensure_future(election.run())
    ended = asyncio.ensure_future(done.wait())
    expired = asyncio.ensure_future(lock.expired())
    try:
        await asyncio.wait({running, ended, expired}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        tasks = [running, ended, expired, *([worker] if worker else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)  # the Lease is given up when the work has ended, not before
        await lock.release()
    if failures:
        raise failures[0]

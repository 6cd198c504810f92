"""Which Canary needs a pass, and when. One pass at a time for each; none at rest.

Not a daemon or a timer a Canary: at rest a Canary costs no task and no request (docs/decisions/0003).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple

from serinus.controller import telemetry
from serinus.kube import Conflict, KubeError

log = logging.getLogger("serinus.queue")

#: Seconds before a failed pass is tried again: doubled each time, up to the second.
FIRST_RETRY, LAST_RETRY = 0.5, 30.0
#: After somebody else was first: read again at once.
CONFLICT_RETRY = 0.02


class Key(NamedTuple):
    """A Canary."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass
class _Entry:
    timer: asyncio.TimerHandle | None = None
    due: float = 0.0
    task: asyncio.Task[None] | None = None
    again: bool = False
    failures: int = 0


class Queue:
    """`work(key)` makes one pass and says in how many seconds the next is due; None: when something happens."""

    def __init__(self, work: Callable[[Key], Awaitable[float | None]]) -> None:
        self._work = work
        self._entries: dict[Key, _Entry] = {}
        self._closed = False

    def wake(self, key: Key, delay: float = 0.0) -> None:
        """A pass for `key` in `delay` seconds, or sooner if one is due sooner."""
        if self._closed:
            return
        entry = self._entries.setdefault(key, _Entry())
        if entry.task is not None:
            entry.again = entry.again or delay == 0
            return
        loop = asyncio.get_running_loop()
        due = loop.time() + delay
        if entry.timer is not None:
            if entry.due <= due:
                return
            entry.timer.cancel()
        entry.due, entry.timer = due, loop.call_later(delay, self._fire, key)

    def _fire(self, key: Key) -> None:
        entry = self._entries[key]
        entry.timer = None
        entry.task = asyncio.get_running_loop().create_task(self._run(key, entry), name=f"pass {key}")

    async def _run(self, key: Key, entry: _Entry) -> None:
        delay: float | None
        try:
            delay = await self._work(key)
            entry.failures = 0
        except Conflict as error:
            log.info("%s: somebody else wrote first, reading again: %s", key, error)
            entry.failures += 1
            delay = CONFLICT_RETRY if entry.failures < 20 else FIRST_RETRY
        except KubeError as error:
            delay = self._failed(key, entry, f"api-{error.status}", str(error))
        except Exception as error:
            log.exception("%s: the pass failed", key)
            delay = self._failed(key, entry, type(error).__name__, repr(error))
        entry.task = None
        if entry.again:
            entry.again, delay = False, 0.0
        if delay is None:
            self._entries.pop(key, None)
        else:
            self.wake(key, delay)

    def _failed(self, key: Key, entry: _Entry, cause: str, message: str) -> float:
        # Bounded also before the comparison: after a thousand failures the power is no number that a delay can be.
        delay = min(LAST_RETRY, FIRST_RETRY * 2 ** min(entry.failures, 10))
        entry.failures += 1
        telemetry.errors.labels(cause).inc()
        log.warning("%s: %s; trying again in %.1f s", key, message, delay)
        return float(delay)

    async def close(self) -> None:
        """Lets running passes end their current request, then stops them."""
        self._closed = True
        tasks = [entry.task for entry in self._entries.values() if entry.task]
        for entry in self._entries.values():
            if entry.timer:
                entry.timer.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

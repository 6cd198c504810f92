"""Passes that fail are made again, for as long as it takes."""

from __future__ import annotations

import asyncio

from tests.test_killed_anywhere import KEY, VirtualLoop, seconds, virtual_time

from serinus.controller.queue import Key, Queue
from serinus.kube import KubeError

__all__ = ["virtual_time"]  # fixtures
HOUR = 3600


def test_a_canary_whose_passes_fail_for_hours_is_tried_again_for_ever() -> None:
    """Such as a release that a quota refuses over a night: more than 1,024 passes, 30 s apart."""
    passes: list[float] = []

    async def work(_: Key) -> float | None:
        passes.append(seconds())
        if seconds() < 12 * HOUR:
            raise KubeError(403, "exceeded quota: services")
        return None

    async def main() -> None:
        queue = Queue(work)
        queue.wake(KEY)
        await asyncio.sleep(13 * HOUR)
        await queue.close()

    with asyncio.Runner(loop_factory=lambda: VirtualLoop(0.0)) as runner:
        runner.run(main())
    assert 12 * HOUR <= passes[-1] <= 12 * HOUR + 60

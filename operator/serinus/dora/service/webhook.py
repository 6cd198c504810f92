"""A report on its way to a webhook."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp

from serinus.events.sink import TIMEOUT, Delivery, pause, post

#: How often it is tried, and the longest pause between two tries, in seconds.
TRIES, LONGEST = 4, 60.0


async def send(url: str, body: bytes, wait: Callable[[float], Awaitable[object]] = asyncio.sleep) -> Delivery:
    """Posts JSON until it is taken or refused, or has been tried often enough. How the last try ended."""
    timeout = aiohttp.ClientTimeout(total=2 * TIMEOUT)
    async with aiohttp.ClientSession() as session:
        for attempt in range(1, TRIES + 1):
            delivery = await post(session, url, body, {"Content-Type": "application/json"}, timeout)
            if delivery.result != "retry" or attempt == TRIES:
                break
            await wait(min(pause(delivery, attempt), LONGEST))
    return delivery

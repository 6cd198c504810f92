"""Delivery of events by HTTP, at least once.

What a receiver does not take is never dropped: a Release is not pruned before its events are delivered. A receiver that
fails is asked again with growing pauses; one that refuses (a 4xx, a redirect) is told of in the log and in
``serinus_event_deliveries_total``, and asked again at the longest pause, since it takes a person to change either side.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp
from prometheus_client import Counter
from yarl import URL

from serinus.events.cdevents import to_cloudevent

#: Seconds for one delivery, all of it.
TIMEOUT = 5.0
#: The longest pause between two tries, in seconds.
LONGEST = 300.0
_FIRST = 1.0
#: Bytes of a response that are read; the rest is left with the connection.
_READ = 64 * 1024

Result = Literal["taken", "retry", "refused"]

DELIVERIES = Counter("serinus_event_deliveries_total", "Tries to deliver an event to a sink.", ["sink", "result"])
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Delivery:
    """How one try ended. `retry_after` is what the receiver asked for, in seconds."""

    result: Result
    sentence: str
    retry_after: float | None = None


def backoff(attempt: int, key: str = "") -> float:
    """Seconds to wait after failed try number `attempt` (from 1): doubling from 1 s to 5 min, less up to half of it.

    What is taken off is the same for the same event and attempt (`key` is the event's id), and spreads those of many:
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/, "equal jitter".
    """
    ceiling = min(LONGEST, _FIRST * 2.0 ** min(max(attempt, 1) - 1, 32))
    spread = int.from_bytes(hashlib.sha256(f"{key}/{attempt}".encode()).digest()[:8], "big") / 2**64
    return ceiling * (1 - spread / 2)


def pause(delivery: Delivery, attempt: int, key: str = "") -> float:
    """Seconds until the next try: `backoff`, at least what the receiver asked for, and slow at once if it refused."""
    if delivery.result == "taken":
        return 0.0
    if delivery.result == "refused":
        return LONGEST
    return min(LONGEST, max(backoff(attempt, key), delivery.retry_after or 0.0))


class HttpSink:
    """One receiver. The session is the caller's; the sink opens and closes nothing of its own.

    `headers` go with every event, an Authorization for instance. `name` is what logs and metrics call the sink; the address
    may hold a secret and is not shown.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        headers: Mapping[str, str] | None = None,
        name: str = "",
        timeout: float = TIMEOUT,
    ) -> None:
        self._session = session
        self._url = URL(url)
        self._headers = dict(headers or {})
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self.name = name or self._url.host or "sink"

    async def deliver(self, cdevent: dict[str, Any]) -> Delivery:
        """Tries once. Never raises for what the receiver or the network does."""
        delivery = await self._try(cdevent)
        DELIVERIES.labels(self.name, delivery.result).inc()
        if delivery.result != "taken":
            level = logging.WARNING if delivery.result == "refused" else logging.INFO
            log.log(level, "event %s to %s: %s", cdevent["context"]["id"], self.name, delivery.sentence)
        return delivery

    async def _try(self, cdevent: dict[str, Any]) -> Delivery:
        message = to_cloudevent(cdevent)
        return await post(self._session, self._url, message.body, {**self._headers, **message.headers}, self._timeout)


async def post(
    session: aiohttp.ClientSession, url: URL | str, body: bytes, headers: Mapping[str, str], timeout: aiohttp.ClientTimeout
) -> Delivery:
    """Tries once. Never raises for what the receiver or the network does; no sentence holds the address."""
    try:
        async with session.post(url, data=body, headers=headers, timeout=timeout, allow_redirects=False) as response:
            # Read, so that the connection can be used again. The status has said all that matters.
            with contextlib.suppress(TimeoutError, aiohttp.ClientError):
                await response.content.read(_READ)
            return _judge(response.status, response.headers.get("Retry-After"))
    except TimeoutError:
        return Delivery("retry", f"no answer within {timeout.total:g} s")
    except aiohttp.InvalidURL:
        return Delivery("refused", "its address is no URL")
    except (aiohttp.ClientError, OSError) as error:
        return Delivery("retry", f"cannot be reached ({type(error).__name__})")


def _judge(status: int, retry_after: str | None) -> Delivery:
    if 200 <= status < 300:
        return Delivery("taken", f"HTTP {status}")
    if status in (408, 425, 429) or status >= 500:
        return Delivery("retry", f"HTTP {status}", _parse_seconds(retry_after))
    if 300 <= status < 400:
        return Delivery("refused", f"HTTP {status}: redirects are not followed, its final address is needed")
    return Delivery("refused", f"HTTP {status}")


def _parse_seconds(text: str | None) -> float | None:
    """Retry-After in seconds (RFC 9110, 10.2.3); its other form, a date, is not used."""
    return min(float(text), LONGEST) if text and text.isascii() and text.isdigit() else None

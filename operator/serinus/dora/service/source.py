"""Where a command has the figures from: the database itself, or a service that is running."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, date, datetime
from typing import Protocol
from zoneinfo import ZoneInfo

import aiohttp
from pydantic import ValidationError

from serinus.dora.figures import Window
from serinus.dora.metrics import Scope, five
from serinus.dora.service.config import Config
from serinus.dora.service.figures import Figures
from serinus.dora.store.keeper import Keeper
from serinus.dora.store.schema import connect
from serinus.events.sink import backoff

#: Seconds for one answer, and how often a service that does not answer is asked.
TIMEOUT, TRIES = 30.0, 4


class Unread(Exception):
    """There are no figures; says why, and where."""


class Source(Protocol):
    """Both may raise Unread."""

    def today(self) -> date:
        """In the time zone whose days are counted."""

    def figures(self, scope: Scope, first: date, end: date) -> Figures:
        """From the first day's midnight to that of `end`."""


class Store:
    """The database of the settings."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def today(self) -> date:
        """In the configured time zone."""
        return datetime.now(UTC).astimezone(ZoneInfo(self._config.zone)).date()

    def figures(self, scope: Scope, first: date, end: date) -> Figures:
        """What follows from all that is in it."""
        zone = ZoneInfo(self._config.zone)
        keeper = Keeper(connect(self._config.database), self._config.catalog, zone)
        keeper.catch_up()
        window = Window.of_days(first, end, zone)
        return Figures.of(five(keeper.shelf(scope, window), window, scope))


class Remote:
    """A service's `/figures`, with a token where there is one."""

    def __init__(self, url: str, token: str = "", wait: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        self._url, self._wait = url.rstrip("/"), wait
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def today(self) -> date:
        """In the service's time zone: it is asked for the figures of no time at all."""
        now = datetime.now(UTC)
        return now.astimezone(ZoneInfo(self.figures(Scope(), now.date(), now.date()).zone)).date()

    def figures(self, scope: Scope, first: date, end: date) -> Figures:
        """As it answers."""
        words = {"service": scope.service, "team": scope.team, "environment": scope.environment}
        text = asyncio.run(self._read({"start": str(first), "end": str(end), **words}))
        try:
            return Figures.model_validate_json(text)
        except ValidationError as wrong:
            first_wrong = wrong.errors()[0]
            place = ".".join(map(str, first_wrong["loc"]))
            raise Unread(f"{self._url} answered with no figures of this version ({place}: {first_wrong['msg']})") from None

    async def _read(self, query: Mapping[str, str]) -> str:
        """Raises Unread. What may pass is asked again, with growing pauses."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT)) as session:
            for attempt in range(1, TRIES + 1):
                try:
                    async with session.get(
                        f"{self._url}/figures", params=query, headers=self._headers, allow_redirects=False
                    ) as answer:
                        status, text = answer.status, await answer.text()
                except (TimeoutError, aiohttp.ClientError, UnicodeDecodeError) as error:
                    status, text = 0, f"no answer ({type(error).__name__})"
                if status == 200:
                    return text
                if 0 < status < 500 and status != 429:
                    break
                if attempt < TRIES:
                    await self._wait(backoff(attempt))
        raise Unread(f"{self._url} gives no figures: {_reason(status, text)}")


def _reason(status: int, text: str) -> str:
    try:
        detail = json.loads(text)["detail"]
    except (ValueError, TypeError, KeyError):
        detail = text[:200].strip()
    return f"HTTP {status}, {detail}" if status else str(detail)

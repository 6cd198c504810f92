"""Taking facts in: whoever is told that they were taken can forget them.

Requests that come at once share a transaction. SQLite and PostgreSQL sync a file for each; a burst of ten thousand webhooks is
then some dozens of them instead of ten thousand.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from serinus.dora.facts import Fact
from serinus.dora.store.log import Log

log = logging.getLogger("serinus.dora")

#: Facts of one transaction, and requests that wait: beyond, whoever sends is asked to come again.
BATCH, WAITING = 2_000, 20_000

_Request = tuple[Sequence[Fact], "asyncio.Future[None]"]


class Full(Exception):
    """So many requests wait already."""


class Reception:
    """One for the process. `run` has to be running for `take` to return."""

    def __init__(self, store: Log, taken: Callable[[], None]) -> None:
        self._log, self._taken = store, taken
        self._waiting: asyncio.Queue[_Request] = asyncio.Queue(WAITING)

    async def take(self, facts: Sequence[Fact]) -> None:
        """Returns when they are durable. Raises Full, or SQLAlchemyError when the database does not take them."""
        if not facts:
            return
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            self._waiting.put_nowait((facts, answer))
        except asyncio.QueueFull:
            raise Full from None
        await answer

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            batch = [await self._waiting.get()]
            facts = len(batch[0][0])
            while facts < BATCH and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
                facts += len(batch[-1][0])
            await self._write(batch)
            self._taken()

    async def _write(self, batch: list[_Request]) -> None:
        try:
            await self._append([fact for facts, _ in batch for fact in facts])
        except DBAPIError as error:
            if len(batch) == 1 or error.connection_invalidated:
                _refuse(batch, error)
            else:  # one of them is at fault, and is to be no matter to the others
                for request in batch:
                    await self._write([request])
        except SQLAlchemyError as error:
            _refuse(batch, error)
        except Exception as error:  # such as a text that is none: whoever comes after would wait for ever
            if len(batch) == 1:
                _refuse(batch, error)
            else:
                for request in batch:
                    await self._write([request])
        else:
            for _, answer in batch:
                if not answer.done():  # whoever asked may have gone
                    answer.set_result(None)

    async def _append(self, facts: list[Fact]) -> None:
        await asyncio.to_thread(self._log.append, facts, datetime.now(UTC))


def _refuse(batch: list[_Request], error: Exception) -> None:
    log.error("%d requests could not be written: %s", len(batch), error)
    for _, answer in batch:
        if not answer.done():
            answer.set_exception(error)

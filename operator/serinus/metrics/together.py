"""Many canaries, few queries: who asks alike is asked for at once.

A thousand canaries that look once a second would ask a thousand queries a second. Here up to `MOST` of them form a chunk, which
is asked by one query (`serinus.metrics.grouping`) and dealt out. Members stay in their chunk from look to look, so that what was
learnt about it holds. A single canary waits for nobody.

What was at a moment that is past is asked together, too: a controller that starts with a thousand releases under way has as many
such questions. Moments are rounded up to whole seconds for it, so that nothing is counted twice.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from serinus.analysis.counters import Labels
from serinus.metrics.grouping import Group, group
from serinus.metrics.prometheus import Prometheus
from serinus.metrics.provider import MetricRefused, MetricUnusable, Snapshot
from serinus.metrics.selector import parse

#: Canaries' checks in one query. Each has four expressions in it.
MOST = 250
#: Seconds between two queries of a chunk of `MANY` members, and less of one with fewer; whoever comes meanwhile is in the next.
SPACING = 0.25
MANY = 50
#: Seconds after which a member that asks no more is forgotten.
FORGET = 30.0
#: A moment that is no further back is asked for as it is, and alone: rounded up it might be later than the look that asks.
RECENT = timedelta(seconds=1)

#: The queries of one look, by name.
Key = tuple[tuple[str, str], ...]
Answer = Snapshot | MetricRefused | MetricUnusable


@dataclass
class _Chunk:
    """Looks that are asked together: for the present, or for one moment (`at`)."""

    at: datetime | None = None
    #: When each last asked.
    members: dict[Key, float] = field(default_factory=dict)
    waiting: dict[Key, asyncio.Future[Snapshot]] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None
    #: What one of them asks is refused, so nobody joins them any more.
    closed: bool = False


class Together:
    """A `Provider` in front of `Prometheus`. Its answers are those that each look would have got alone."""

    def __init__(self, prometheus: Prometheus) -> None:
        self._prometheus = prometheus
        self._chunks: list[_Chunk] = []
        self._of: dict[tuple[Key, datetime | None], _Chunk] = {}

    async def counters(self, queries: Mapping[str, str], at: datetime | None = None) -> Snapshot:
        """As `Provider.counters`, but for `at`, of which see above. Only plain selectors and their differences are grouped."""
        if any(parse(query) is None for query in queries.values()):
            return await self._prometheus.counters(queries, at)
        if at is not None:
            whole = _rounded(at)
            if whole > datetime.now(UTC) - RECENT:
                return await self._prometheus.counters(queries, at)
            at = whole
        key = tuple(queries.items())
        chunk = self._join(key, at)
        answer = chunk.waiting.get(key)
        if answer is None:
            answer = chunk.waiting[key] = asyncio.get_running_loop().create_future()
            answer.add_done_callback(_seen)
        if chunk.task is None:
            chunk.task = asyncio.get_running_loop().create_task(self._serve(chunk), name="together")
        return await asyncio.shield(answer)

    async def value(self, query: str, at: datetime) -> float | None:
        """As `Provider.value`: a plain number is asked alone."""
        return await self._prometheus.value(query, at)

    async def close(self) -> None:
        """Ends what is under way."""
        tasks = [chunk.task for chunk in self._chunks if chunk.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._prometheus.close()

    def _join(self, key: Key, at: datetime | None) -> _Chunk:
        chunk = self._of.get((key, at))
        if chunk is None:
            open_ones = (one for one in self._chunks if one.at == at and not one.closed and len(one.members) < MOST)
            chunk = next(open_ones, None)
            if chunk is None:
                chunk = _Chunk(at)
                self._chunks.append(chunk)
            self._of[key, at] = chunk
        chunk.members[key] = time.monotonic()
        return chunk

    async def _serve(self, chunk: _Chunk) -> None:
        """Asks for as long as somebody waits."""
        try:
            while chunk.waiting:
                began = time.monotonic()
                waiting, chunk.waiting = chunk.waiting, {}
                self._forget(chunk, began)
                asked = list(waiting if chunk.at is not None else chunk.members | waiting)
                try:
                    answers = await self._ask(asked, chunk.at)
                except BaseException as failure:
                    _refuse(waiting, failure)
                    if not isinstance(failure, Exception):
                        raise
                else:
                    self._tell(chunk, waiting, answers)
                if chunk.at is not None:  # nobody asks twice what was
                    self._drop(chunk, asked)
                spacing = SPACING * min(1.0, (len(chunk.members) - 1) / MANY)
                await asyncio.sleep(began + spacing - time.monotonic())
        finally:
            chunk.task = None

    def _tell(self, chunk: _Chunk, waiting: Mapping[Key, asyncio.Future[Snapshot]], answers: Mapping[Key, Answer]) -> None:
        for key, future in waiting.items():
            answer = answers[key]
            if future.done():
                continue
            if isinstance(answer, Snapshot):
                future.set_result(answer)
            else:
                future.set_exception(answer)
        blamed = [key for key, answer in answers.items() if not isinstance(answer, Snapshot)]
        if chunk.at is None and len(blamed) < len(answers):  # where all are refused, nobody is to blame
            for key in blamed:
                alone = _Chunk(members={key: chunk.members.pop(key, time.monotonic())}, closed=True)
                if key in chunk.waiting:
                    alone.waiting[key] = chunk.waiting.pop(key)
                    alone.task = asyncio.get_running_loop().create_task(self._serve(alone), name="together")
                self._of[key, None] = alone
                self._chunks.append(alone)

    def _forget(self, chunk: _Chunk, now: float) -> None:
        if chunk.at is None:
            self._drop(chunk, [key for key, asked in chunk.members.items() if now - asked > FORGET])

    def _drop(self, chunk: _Chunk, keys: list[Key]) -> None:
        for key in keys:
            chunk.members.pop(key, None)
            self._of.pop((key, chunk.at), None)
        self._chunks = [one for one in self._chunks if one.members]

    async def _ask(self, keys: list[Key], at: datetime | None) -> dict[Key, Answer]:
        """What each gets. Where a query is refused, its halves are asked: one of them is to blame, or they do not go together."""
        try:
            return dict(await self._answers(keys, at))
        except (MetricRefused, MetricUnusable) as failure:
            if len(keys) == 1:
                return {keys[0]: failure}
            half = len(keys) // 2
            one, other = await asyncio.gather(self._ask(keys[:half], at), self._ask(keys[half:], at))
            return one | other

    async def _answers(self, keys: list[Key], at: datetime | None) -> dict[Key, Snapshot]:
        if len(keys) == 1:
            return {keys[0]: await self._prometheus.counters(dict(keys[0]), at)}
        groups = await asyncio.to_thread(_grouped, keys)
        snapshot = await self._prometheus.counters({f"g{i}": each.query for i, each in enumerate(groups)}, at)
        return await asyncio.to_thread(_dealt, keys, groups, snapshot)


Part = tuple[Key, str]


def _grouped(keys: list[Key]) -> list[Group[Part]]:
    parsed = (((key, name), parse(query)) for key in keys for name, query in key)
    return group({part: expression for part, expression in parsed if expression is not None})


def _dealt(keys: list[Key], groups: list[Group[Part]], snapshot: Snapshot) -> dict[Key, Snapshot]:
    series: dict[Key, dict[str, Mapping[Labels, float]]] = {key: {} for key in keys}
    for i, each in enumerate(groups):
        for (key, name), found in each.deal(snapshot.series[f"g{i}"]).items():
            series[key][name] = found
    return {key: Snapshot(snapshot.at, found, snapshot.sampled) for key, found in series.items()}


def _rounded(at: datetime) -> datetime:
    """Up, to a whole second."""
    return datetime.fromtimestamp(math.ceil(at.timestamp()), UTC)


def _refuse(waiting: Mapping[Key, asyncio.Future[Snapshot]], failure: BaseException) -> None:
    for answer in waiting.values():
        if not answer.done():
            if isinstance(failure, asyncio.CancelledError):
                answer.cancel()
            else:
                answer.set_exception(failure)


def _seen(answer: asyncio.Future[Snapshot]) -> None:
    if not answer.cancelled():
        answer.exception()  # seen, even if everybody who asked has gone

"""What is taken is durable, once, and a request that is at fault is no matter to the others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from tests.stores import engine, postgres, url

from serinus.dora.facts import Fact, ReleaseSays
from serinus.dora.service import reception
from serinus.dora.service.reception import Full, Reception
from serinus.dora.store.log import Log

__all__ = ["engine", "postgres", "url"]  # fixtures

NOW = datetime(2026, 11, 27, 9, tzinfo=UTC)


def fact(number: int) -> Fact:
    return Fact.of("test", str(number), NOW, "r", ReleaseSays(service="shop/web"))


def during(work: Callable[[Reception], Awaitable[None]], log: Log) -> int:
    """`work`, with a reception at work. Returns how many transactions there were."""
    transactions = 0

    def taken() -> None:
        nonlocal transactions
        transactions += 1

    async def run() -> None:
        taking = Reception(log, taken)
        task = asyncio.ensure_future(taking.run())
        await work(taking)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
    return transactions


def test_a_burst_shares_transactions_and_every_request_is_answered_when_it_is_durable(engine: Engine) -> None:
    log = Log(engine)

    async def burst(taking: Reception) -> None:
        async def one(number: int) -> None:
            await taking.take([fact(number)])
            if number % 100 == 0:
                assert str(number) in {found.id for found in log.about("release", ["r"])}

        await asyncio.gather(*(one(number) for number in range(1000)))

    assert during(burst, log) < 20
    assert log.count() == 1000


def test_a_request_that_the_database_does_not_take_is_refused_alone(engine: Engine) -> None:
    log, bad = Log(engine), fact(2).model_copy(update={"key": None})

    async def three(taking: Reception) -> None:
        answers = await asyncio.gather(*(taking.take([each]) for each in (fact(1), bad, fact(3))), return_exceptions=True)
        assert [isinstance(answer, SQLAlchemyError) for answer in answers] == [False, True, False]

    during(three, log)
    assert {found.id for found in log.all()} == {"1", "3"}


def test_nothing_to_take_is_taken_at_once() -> None:
    async def nothing(taking: Reception) -> None:
        await taking.take([])

    assert during(nothing, None) == 0  # type: ignore[arg-type]


def test_whoever_comes_when_too_many_wait_is_asked_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reception, "WAITING", 1)

    async def run() -> None:
        taking = Reception(None, lambda: None)  # type: ignore[arg-type]
        first = asyncio.ensure_future(taking.take([fact(1)]))
        await asyncio.sleep(0)
        with pytest.raises(Full):
            await taking.take([fact(2)])
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)

    asyncio.run(run())


def test_whatever_goes_wrong_with_one_request_those_that_come_after_are_taken(engine: Engine) -> None:
    """Also what no database says: else whoever posts would wait for ever, and nobody would see why."""
    log = Log(engine)
    append = log.append

    def odd(facts: Sequence[Fact], received: datetime) -> None:
        if any(found.id == "3" for found in facts):
            raise OverflowError("too large")
        append(facts, received)

    log.append = odd  # type: ignore[method-assign]

    async def several(taking: Reception) -> None:
        async with asyncio.timeout(10):
            answers = await asyncio.gather(*(taking.take([fact(n)]) for n in range(6)), return_exceptions=True)
            assert [type(answer) for answer in answers] == [OverflowError if n == 3 else type(None) for n in range(6)]
            await taking.take([fact(7)])

    during(several, log)
    assert {found.id for found in log.about("release", ["r"])} == {"0", "1", "2", "4", "5", "7"}

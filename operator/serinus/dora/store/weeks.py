"""The weeks of `serinus.dora.rollup` as rows: one for each service, environment and week."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from itertools import repeat
from typing import Any

import numpy as np
from pydantic import TypeAdapter
from sqlalchemy import Column, Connection, delete, insert, select

from serinus.dora.failures import Failure
from serinus.dora.metrics import Delivery
from serinus.dora.rollup import COUNTS, SAMPLES, STANDINGS, Kept, Seconds, Week
from serinus.dora.store.schema import among, weeks

#: Arrays as they are kept, on whatever machine.
_LITTLE = np.dtype("<i4")
_SLOWEST, _FAILURES = TypeAdapter(tuple[Delivery, ...]), TypeAdapter(tuple[Failure, ...])


def write(connection: Connection, service: str, known: Iterable[tuple[str, Week]]) -> None:
    """In place of all that the service had; `known`: each with its environment."""
    connection.execute(delete(weeks).where(weeks.c.service == service))
    rows = [_row(service, environment, week) for environment, week in known]
    if rows:
        connection.execute(insert(weeks), rows)


def _row(service: str, environment: str, week: Week) -> dict[str, Any]:
    return {
        "service": service,
        "environment": environment,
        "monday": week.monday.toordinal(),
        "days": week.days.astype(_LITTLE).tobytes(),
        **{name: week.samples[name].astype(_LITTLE).tobytes() for name in SAMPLES},
        "slowest": _SLOWEST.dump_json(week.slowest).decode(),
        "failures": _FAILURES.dump_json(week.failures).decode(),
    }


def read(
    connection: Connection, first: date, end: date, samples: Sequence[str] = SAMPLES, services: Sequence[str] | None = None
) -> list[Kept]:
    """Those whose Monday is in [first, end), without what they name. Of samples those asked for; services: None for all."""
    columns = [weeks.c.service, weeks.c.environment, weeks.c.monday, weeks.c.days, *(weeks.c[name] for name in samples)]
    wanted = select(*columns).where(weeks.c.monday >= first.toordinal(), weeks.c.monday < end.toordinal())
    wanted = wanted if services is None else wanted.where(weeks.c.service.in_(services))
    rows = connection.execute(wanted).all()
    if not rows:
        return []
    services_, environments, mondays, days, *rest = zip(*rows, strict=True)
    tables = _array(b"".join(days)).reshape(len(rows), 7, len(COUNTS) + len(STANDINGS))
    each = zip(*(_arrays(column) for column in rest), strict=True) if samples else repeat(())
    found = zip(services_, environments, mondays, tables, each, strict=False)
    return [
        Kept(service, environment, Week(date.fromordinal(monday), table, dict(zip(samples, arrays, strict=True))))
        for service, environment, monday, table, arrays in found
    ]


def slowest(connection: Connection, monday: date, services: Sequence[str]) -> list[tuple[str, str, tuple[Delivery, ...]]]:
    """Of a week, by service and environment: the slowest changes of each."""
    return [(s, e, _SLOWEST.validate_json(known)) for s, e, known in _named(connection, weeks.c.slowest, monday, services)]


def failures(connection: Connection, monday: date, services: Sequence[str]) -> list[tuple[str, str, tuple[Failure, ...]]]:
    """Of a week, by service and environment: the newest failures of each."""
    return [(s, e, _FAILURES.validate_json(known)) for s, e, known in _named(connection, weeks.c.failures, monday, services)]


def _named(connection: Connection, column: Column[str], monday: date, services: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    wanted = select(weeks.c.service, weeks.c.environment, column)
    wanted = wanted.where(weeks.c.monday == monday.toordinal(), among(connection, weeks.c.service, services), column != "[]")
    yield from ((service, environment, known) for service, environment, known in connection.execute(wanted))


def _arrays(several: Sequence[bytes]) -> Iterator[Seconds]:
    """All are read as one, and cut: thousands of small arrays are dear to make."""
    whole, start = _array(b"".join(several)), 0
    for data in several:
        end = start + len(data) // _LITTLE.itemsize
        yield whole[start:end]
        start = end


def _array(data: bytes) -> Seconds:
    return np.frombuffer(data, _LITTLE)

"""The weeks of `serinus.dora.rollup` as rows: one for each service, environment and week."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from pydantic import TypeAdapter
from sqlalchemy import Connection, delete, insert, select

from serinus.dora.failures import Failure
from serinus.dora.metrics import Delivery
from serinus.dora.rollup import COUNTS, SAMPLES, STANDINGS, Seconds, Week
from serinus.dora.store.schema import weeks

#: Arrays as they are kept, on whatever machine.
_LITTLE = np.dtype("<i4")
_SLOWEST, _FAILURES = TypeAdapter(tuple[Delivery, ...]), TypeAdapter(tuple[Failure, ...])
_ROWS = 200


@dataclass(frozen=True)
class Kept:
    """A week, and whose it is."""

    service: str
    environment: str
    week: Week


def write(connection: Connection, service: str, known: Iterable[tuple[str, Week]]) -> None:
    """In place of all that the service had; `known`: each with its environment."""
    connection.execute(delete(weeks).where(weeks.c.service == service))
    rows = [_row(service, environment, week) for environment, week in known]
    for start in range(0, len(rows), _ROWS):
        connection.execute(insert(weeks), rows[start : start + _ROWS])


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
    connection: Connection,
    first: date,
    end: date,
    samples: Sequence[str] = SAMPLES,
    services: Sequence[str] | None = None,
    details: bool = False,
) -> list[Kept]:
    """Those whose Monday is in [first, end). Of the samples those that are asked for; `details`: with slowest and failures."""
    columns = [weeks.c.service, weeks.c.environment, weeks.c.monday, weeks.c.days, *(weeks.c[name] for name in samples)]
    columns += [weeks.c.slowest, weeks.c.failures] if details else []
    wanted = select(*columns).where(weeks.c.monday >= first.toordinal(), weeks.c.monday < end.toordinal())
    wanted = wanted if services is None else wanted.where(weeks.c.service.in_(services))
    found = []
    for row in connection.execute(wanted.order_by(weeks.c.monday, weeks.c.service, weeks.c.environment)):
        service, environment, monday, days, *rest = row
        arrays = {name: _array(data) for name, data in zip(samples, rest, strict=False)}
        slowest = _SLOWEST.validate_json(rest[-2]) if details and rest[-2] != "[]" else ()
        failures = _FAILURES.validate_json(rest[-1]) if details and rest[-1] != "[]" else ()
        table = _array(days).reshape(7, len(COUNTS) + len(STANDINGS))
        found.append(Kept(service, environment, Week(date.fromordinal(monday), table, arrays, slowest, failures)))
    return found


def _array(data: bytes) -> Seconds:
    return np.frombuffer(data, _LITTLE)

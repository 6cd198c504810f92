"""History: facts from before the service was there, or from another store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from pydantic import ValidationError

from serinus.api.release import Release
from serinus.dora.facts import Fact
from serinus.dora.intake import READERS, Settings
from serinus.dora.intake.received import YEARS
from serinus.dora.store.log import Log
from serinus.dora.store.schema import connect
from serinus.events.cdevents import CONTENT_TYPE, build, to_cloudevent
from serinus.events.outbox import owed
from serinus.kube import RELEASES, KubeError, Object
from serinus.kube import connect as connect_to_cluster

#: Facts of one transaction.
BATCH = 5_000


class Unreadable(Exception):
    """Says which, and why."""


def write(database: str, facts: Iterable[Fact]) -> int:
    """Into the log. Returns how many were read; those that are there already are left as they are."""
    log, left, count = Log(connect(database)), iter(facts), 0
    while batch := list(islice(left, BATCH)):
        log.append(batch, datetime.now(UTC))
        count += len(batch)
    return count


def of_file(path: Path) -> Iterator[Fact]:
    """One JSON object a line. Raises Unreadable."""
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _parsed(line, f"{path}, line {number}")
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {error.strerror}") from None


def _parsed(line: str, where: str) -> Fact:
    try:
        known = json.loads(line)
        if not isinstance(known, dict):
            raise ValueError("no object")
        fact = Fact.parse(known)
        for moment in (fact.at, *(value for value in vars(fact.says).values() if isinstance(value, datetime))):
            if moment.year not in YEARS:  # around it no weeks can be counted
                raise ValueError(f"a moment must be between {YEARS.start} and {YEARS.stop - 1}, and this is {moment}")
        return fact
    except ValidationError as wrong:
        first = wrong.errors()[0]
        raise Unreadable(f"{where}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except ValueError as wrong:
        raise Unreadable(f"{where}: {wrong}") from None


def of_cluster(cluster: str) -> Iterator[Fact]:
    """What the operator told, or would have told, of every Release that is there: the very same events. Raises Unreadable."""
    try:
        found = asyncio.run(_releases())
    except KubeError as error:
        raise Unreadable(f"the Releases cannot be listed: {error}") from None
    for item in found:
        yield from of_release(Release.model_validate(item), cluster)


async def _releases() -> list[Object]:
    kube = await connect_to_cluster()
    try:
        return await kube.list(RELEASES, None)
    finally:
        await kube.close()


def of_release(release: Release, cluster: str) -> Iterator[Fact]:
    """By its own events, so that what is imported and what was sent are one."""
    for event in owed(release):
        message = to_cloudevent(build(event, release, cluster))
        headers = {"Content-Type": CONTENT_TYPE, **{key: str(value) for key, value in message.headers.items()}}
        yield from READERS["cdevents"].facts(headers, bytes(message.body), Settings())

"""`make bench-dora`: a million facts of 500 services in twelve weeks, told to `serinus dora serve` over HTTP, on both databases.

The service is a process of its own, on loopback. Measured: how fast facts are taken (durable), the ratio to plain inserts of the
same rows by the database's driver, the process' highest memory, how long until all that follows is made, the page's data, and how
long until one more fact is seen on the live page. Prints a table and keeps it in bench-results/; ends by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import psycopg
from e2e import kubectl
from tests.stores import programs, server

RESULTS = kubectl.ROOT / "bench-results"
DAYS, BATCH, AT_ONCE = 84, 500, 4
SECRET = "bench"  # noqa: S105
END = datetime(2026, 11, 23, tzinfo=UTC)
WEEK = "2026-W47"


def told(services: int, facts: int) -> Iterator[list[dict[str, Any]]]:
    """As tools would tell it, in order of time: five facts for each release. Batches as they are posted."""
    chance = Random(2026)  # noqa: S311
    releases = facts // 5
    batch: list[dict[str, Any]] = []
    for number in range(releases):
        at = END - timedelta(days=DAYS) + timedelta(days=DAYS) * (number / releases)
        service = chance.randrange(services)
        batch += release(number, service, at, chance)
        if len(batch) >= BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def release(number: int, service: int, at: datetime, chance: Random) -> list[dict[str, Any]]:
    """A change opened and merged, its commit, and a release that was asked for and ended: one in fifty is rolled back."""
    lead, canary = timedelta(seconds=chance.lognormvariate(8.8, 0.8)), timedelta(seconds=chance.uniform(60, 600))
    commit = hashlib.sha1(str(number).encode(), usedforsecurity=False).hexdigest()
    repository, change = f"forge.example/acme/s{service}", f"acme/s{service}#{number}"
    merged, exposed = at - lead / 4, at + timedelta(seconds=20)
    bad = chance.random() < 0.02
    end: dict[str, Any] = {"outcome": "Promoted", "promoted": said(exposed + canary)}
    if bad:
        end = {"outcome": "RolledBack", "detected": said(exposed + canary / 9), "returned": said(exposed + canary / 8)}
    known = {"service": f"shop/s{service}", "environment": "production", "commit": commit, "repository": repository}
    key = f"release-{number}"
    return [
        {"at": said(at - lead), "change": {"key": change, "repository": repository, "opened": said(at - lead), "title": key}},
        {"at": said(merged), "change": {"key": change, "merged": said(merged), "merge_commit": commit, "repository": repository}},
        {"at": said(merged), "commit": {"key": commit, "repository": repository, "committed": said(merged)}},
        {"at": said(at), "release": {"key": key, "requested": said(at), "exposed": said(exposed), **known}},
        {"at": said(exposed + canary), "release": {"key": key, **end}},
    ]


def said(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Line:
    """What was measured on one database."""

    store: str
    facts: int = 0
    taken: float = 0.0
    plain: float = 0.0
    caught_up: float = 0.0
    memory: int = 0
    page: list[float] = field(default_factory=list)
    live: list[float] = field(default_factory=list)


@contextlib.contextmanager
def serving(url: str, folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The service's address, and its process."""
    settings = folder / "dora.yaml"
    settings.write_text(json.dumps({"database": url}))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "from serinus.cli import app; app()", "dora", "serve", "--config", settings]
    environment = {**os.environ, "SERINUS_DORA_SECRET_GENERIC": SECRET}
    process = subprocess.Popen([*command, "--port", str(port), "--log-level", "warning"], env=environment)
    try:
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.terminate()
        process.wait(60)


async def until(session: aiohttp.ClientSession, address: str, seconds: float, **wanted: int) -> dict[str, Any]:
    """What `/review` says, once its freshness is as wanted."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(aiohttp.ClientError):
            async with session.get(f"{address}/review", params={"week": WEEK, "service": "shop/s0"}) as answer:
                page: dict[str, Any] = await answer.json()
            if all(page["freshness"][name] == value for name, value in wanted.items()):
                return page
        await asyncio.sleep(0.2)  # between two looks
    raise TimeoutError(f"not {wanted} after {seconds:.0f} s")


async def post(session: aiohttp.ClientSession, address: str, batch: Sequence[dict[str, Any]]) -> None:
    headers = {"Authorization": f"Bearer {SECRET}"}
    async with session.post(f"{address}/ingest/generic", json={"facts": batch}, headers=headers) as answer:
        assert answer.status == 202, await answer.text()


async def measure(address: str, process: subprocess.Popen[bytes], services: int, facts: int, line: Line) -> None:
    """All that is measured over HTTP."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(600)) as session:
        await until(session, address, 60, facts=0, waiting=0)
        batches = told(services, facts)

        async def sender() -> None:
            for batch in batches:
                await post(session, address, batch)
                line.facts += len(batch)

        began = time.monotonic()
        await asyncio.gather(*(sender() for _ in range(AT_ONCE)))
        line.taken = time.monotonic() - began
        await until(session, address, 3600, facts=line.facts, unread=0, waiting=0)
        line.caught_up = time.monotonic() - began
        for _ in range(21):
            began = time.monotonic()
            async with session.get(f"{address}/review", params={"week": WEEK}) as answer:
                page = await answer.json()
            line.page.append(time.monotonic() - began)
        assert len(page["review"]["services"]) == services, "every service is on the page"
        for number in range(11):
            line.live.append(await seen(session, address, number, services))
        line.memory = _peak(process.pid)


async def seen(session: aiohttp.ClientSession, address: str, number: int, services: int) -> float:
    """Seconds from posting a release until the live page that was told of it has it."""
    at = END - timedelta(hours=1) + timedelta(seconds=number)
    key, service = f"live-{number}", f"shop/s{number % services}"
    fact = {"at": said(at), "release": {"key": key, "service": service, "environment": "production", "promoted": said(at)}}
    async with session.get(f"{address}/live") as stream:
        await stream.content.readline()
        began = time.monotonic()
        await post(session, address, [fact])
        async for text in stream.content:
            if text.startswith(b"data:") and service in text.decode():
                break
        async with session.get(f"{address}/review", params={"week": WEEK, "service": service}) as answer:
            page = await answer.json()
    assert key in [release["key"] for release in page["releases"]], "it is on the page"
    return time.monotonic() - began


def _peak(pid: int) -> int:
    """The highest resident memory of a process, in MiB. https://docs.kernel.org/filesystems/proc.html"""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(row for row in status.splitlines() if row.startswith("VmHWM")).split()[1]) // 1024


#: The facts as they are kept, for the plain inserts.
ROWS = "SELECT source, id, at, about, key, says, received FROM facts ORDER BY seq"
COLUMNS = "source TEXT, id TEXT, at BIGINT, about TEXT, key TEXT, says TEXT, received BIGINT, UNIQUE (source, id)"


def plain_sqlite(folder: Path) -> float:
    """Seconds: the same rows, in batches as large, by the driver alone; as durable."""
    with contextlib.closing(sqlite3.connect(folder / "dora.db")) as connection:
        rows = connection.execute(ROWS).fetchall()
    with contextlib.closing(sqlite3.connect(folder / "plain.db")) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"CREATE TABLE plain (seq INTEGER PRIMARY KEY, {COLUMNS})")
        connection.execute("CREATE INDEX plain_about ON plain (about, key)")
        began = time.monotonic()
        for start in range(0, len(rows), BATCH):
            with connection:
                part = rows[start : start + BATCH]
                connection.executemany("INSERT INTO plain (source,id,at,about,key,says,received) VALUES (?,?,?,?,?,?,?)", part)
        return time.monotonic() - began


def plain_postgres(url: str) -> float:
    """The same."""
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        rows = connection.execute(ROWS).fetchall()
        connection.execute(f"CREATE TABLE plain (seq BIGSERIAL PRIMARY KEY, {COLUMNS})")
        connection.execute("CREATE INDEX plain_about ON plain (about, key)")
        connection.commit()
        began = time.monotonic()
        for start in range(0, len(rows), BATCH):
            with connection.cursor() as cursor:
                part = rows[start : start + BATCH]
                cursor.executemany("INSERT INTO plain (source,id,at,about,key,says,received) VALUES (%s,%s,%s,%s,%s,%s,%s)", part)
            connection.commit()
        return time.monotonic() - began


def table(lines: Sequence[Line], services: int) -> str:
    """The results."""
    head = f"serinus dora, {services} services, {DAYS // 7} weeks, {date.today():%Y-%m-%d}, {os.cpu_count()} cores"  # noqa: DTZ011
    found = [head, ""]
    for line in lines:
        rate, plain = line.facts / line.taken, line.facts / line.plain
        page, live = statistics.median(line.page) * 1000, statistics.median(line.live) * 1000
        rest = f"{sorted(line.page)[-2] * 1000:.0f} ms but for one of {len(line.page)}"
        slowest = max(line.live) * 1000
        found += [
            f"{line.store}: {line.facts:,} facts",
            f"  taken over HTTP, durable       {rate:10,.0f} a second",
            f"  plain inserts of the same rows {plain:10,.0f} a second: {plain / rate:.1f} times as many",
            f"  all that follows was made      {line.caught_up - line.taken:10.1f} s after the last one",
            f"  highest memory                 {line.memory:10} MiB (at most 300)",
            f"  the page's data, all services  {page:10.0f} ms in the median (at most 150); {rest}",
            f"  one more fact on the live page {live:10.0f} ms in the median, {slowest:.0f} ms at most (at most 1,000)",
            "",
        ]
    return "\n".join(found)


def main() -> int:
    """0 when all of it is within what it may be."""
    options = argparse.ArgumentParser(prog="python -m e2e.ledger", description=__doc__)
    options.add_argument("--facts", type=int, default=1_000_000)
    options.add_argument("--services", type=int, default=500)
    options.add_argument("--only", choices=["sqlite", "postgresql"])
    given = options.parse_args()
    lines = []
    with tempfile.TemporaryDirectory(prefix="serinus-bench-") as name:
        folder = Path(name)
        if given.only != "postgresql":
            line = Line("SQLite")
            with serving(f"sqlite:///{folder}/dora.db", folder) as (address, process):
                asyncio.run(measure(address, process, given.services, given.facts, line))
            line.plain = plain_sqlite(folder)
            lines.append(line)
            print(table(lines[-1:], given.services), flush=True)
        if given.only != "sqlite" and programs():
            line = Line("PostgreSQL")
            with server(durable=True) as url:
                with serving(url, folder) as (address, process):
                    asyncio.run(measure(address, process, given.services, given.facts, line))
                line.plain = plain_postgres(url)
            lines.append(line)
            print(table(lines[-1:], given.services), flush=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "dora.txt").write_text(table(lines, given.services))
    good = all(line.memory <= 300 and statistics.median(line.page) <= 0.15 and max(line.live) <= 1 for line in lines)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

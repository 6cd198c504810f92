"""The measuring service as a process of its own, over HTTP, on both databases."""

from __future__ import annotations

import asyncio
import io
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.bodies import SECRET, hmac_of, pull_request
from tests.reviewer import reviewing
from tests.stores import postgres, url

from serinus.dora.facts import Fact, ReleaseSays
from serinus.dora.service import app
from serinus.dora.service.config import Config
from serinus.dora.store.log import Log
from serinus.dora.store.schema import connect

__all__ = ["postgres", "url"]  # fixtures

READING = "r3ading"
SECRETS = {"SERINUS_DORA_SECRET_GITHUB": SECRET, "SERINUS_DORA_SECRET_READING": READING}
COMMAND = [sys.executable, "-c", "from serinus.cli import app; app()", "dora", "serve"]


@contextmanager
def serving(
    url: str, folder: Path, secrets: Mapping[str, str] = SECRETS, port: int = 0, **settings: Any
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Its address and its process, from when it answers."""
    file = folder / "dora.yaml"
    file.write_text(json.dumps({"database": url, **settings}))
    with socket.create_server(("127.0.0.1", port)) as free:
        port = free.getsockname()[1]
    environment = {"PATH": os.environ["PATH"], **secrets}
    command = [*COMMAND, "--config", file, "--port", str(port), "--log-level", "warning"]
    process = subprocess.Popen(command, env=environment)  # noqa: S603
    try:
        until = time.monotonic() + 60
        while not _answers(port):
            assert process.poll() is None, "it ended by itself"
            assert time.monotonic() < until, "it does not answer"
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.terminate()
        assert process.wait(30) in (0, -signal.SIGKILL, -signal.SIGTERM)


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        time.sleep(0.05)  # between two tries
        return False


def signed(body: bytes, delivery: str = "1", event: str = "pull_request") -> dict[str, str]:
    return {"X-GitHub-Event": event, "X-GitHub-Delivery": delivery, "X-Hub-Signature-256": f"sha256={hmac_of(body)}"}


async def asked(
    method: str, address: str, body: bytes = b"", headers: Mapping[str, str] | None = None, reading: str = READING
) -> tuple[int, Any]:
    """Status and answer: JSON, or text where it is none."""
    known = {"Content-Type": "application/json", "Authorization": f"Bearer {reading}", **(headers or {})}
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, address, data=io.BytesIO(body), headers=known) as answer,
    ):
        text = await answer.text()
        return answer.status, json.loads(text) if answer.content_type == "application/json" else text


def ask(*some: Any, **more: Any) -> tuple[int, Any]:
    return asyncio.run(asked(*some, **more))


def test_what_is_signed_is_taken_once_and_can_be_exported(url: str, tmp_path: Path) -> None:
    body = json.dumps(pull_request()).encode()
    with serving(url, tmp_path) as (address, _):
        for _ in range(2):
            assert ask("POST", f"{address}/ingest/github", body, signed(body)) == (202, {"facts": 1})
        status, lines = ask("GET", f"{address}/facts")
    assert status == 200
    (fact,) = map(json.loads, lines.splitlines())
    assert (fact["about"], fact["says"]["number"]) == ("change", "12")


def test_what_another_process_takes_in_is_noticed(url: str, tmp_path: Path) -> None:
    """`serinus dora import` writes beside the service."""
    now = datetime.now(UTC)
    with serving(url, tmp_path) as (address, _):
        engine = connect(url)
        until = time.monotonic() + 30
        while ask("GET", f"{address}/review")[1]["freshness"]["unread"]:
            assert time.monotonic() < until
        Log(engine).append([Fact.of("test", "1", now, "1", ReleaseSays(service="shop/web", promoted=now))], now)
        engine.dispose()
        while not ask("GET", f"{address}/review")[1]["releases"]:
            assert time.monotonic() < until


def test_what_is_older_than_it_is_kept_goes(url: str, tmp_path: Path) -> None:
    """All but what the service had last, where its next release begins."""
    now = datetime.now(UTC)
    moments = {"older": now - timedelta(days=300), "old": now - timedelta(days=200), "new": now - timedelta(days=20)}
    says = {key: ReleaseSays(service="shop/web", outcome="Promoted", promoted=at) for key, at in moments.items()}
    engine = connect(url)
    Log(engine).append([Fact.of("test", key, at, key, says[key]) for key, at in moments.items()], now)
    engine.dispose()
    with serving(url, tmp_path, keep={"deliveries": 120}) as (address, _):
        until = time.monotonic() + 30
        while len(lines := ask("GET", f"{address}/facts")[1].splitlines()) == 3:
            assert time.monotonic() < until
    assert [json.loads(line)["key"] for line in lines] == ["old", "new"]


def test_what_is_not_signed_or_not_for_sale_is_refused_and_not_kept(url: str, tmp_path: Path) -> None:
    body = json.dumps(pull_request()).encode()
    forged = signed(body) | {"X-Hub-Signature-256": f"sha256={hmac_of(body, 'another')}"}
    with serving(url, tmp_path) as (address, _):
        ingest = f"{address}/ingest"
        assert ask("POST", f"{ingest}/github", body)[0] == 401
        assert ask("POST", f"{ingest}/github", body, forged)[0] == 401
        assert ask("POST", f"{ingest}/gitlab", body) == (
            403,
            {"detail": "gitlab is closed: set SERINUS_DORA_SECRET_GITLAB to open it"},
        )
        assert ask("POST", f"{ingest}/none", body)[0] == 404
        large = b" " * (1024 * 1024 + 1)
        assert ask("POST", f"{ingest}/github", large, signed(large))[0] == 413
        assert ask("GET", f"{address}/quarantine") == (200, [])
        assert ask("GET", f"{address}/facts") == (200, "")
        assert ask("GET", f"{address}/healthz", reading="") == (200, {"status": "ok"})


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"[" * 5000, 400, "deeper than 64"),
        (b'{"action": "opened"', 400, "no JSON"),
        (json.dumps(pull_request(created_at=7)).encode(), 422, "created_at"),
        (json.dumps(pull_request(title=["<script>"])).encode(), 422, "title"),
    ],
    ids=["deep", "cut", "wrong moment", "wrong type"],
)
def test_what_is_signed_and_cannot_be_read_is_refused_with_a_reason_and_kept(
    tmp_path: Path, body: bytes, status: int, reason: str
) -> None:
    with serving(f"sqlite:///{tmp_path}/dora.db", tmp_path) as (address, _):
        given, answer = ask("POST", f"{address}/ingest/github", body, signed(body))
        assert (given, reason in answer["detail"]) == (status, True), answer
        _, (held,) = ask("GET", f"{address}/quarantine")
        assert (held["reader"], held["status"], held["reason"]) == ("github", status, answer["detail"])
        assert ask("POST", f"{address}/quarantine/{held['number']}/again")[0] == status, "it is as bad as before"
        good = json.dumps(pull_request()).encode()
        assert ask("POST", f"{address}/ingest/github", good, signed(good))[0] == 202, "the rest goes on"
        assert len(ask("GET", f"{address}/quarantine")[1]) == 1


def test_files_of_a_pipeline_are_taken_up_to_8_mib_and_refused_with_a_reason(url: str, tmp_path: Path) -> None:
    secrets = SECRETS | {"SERINUS_DORA_SECRET_JUNIT": SECRET, "SERINUS_DORA_SECRET_COVERAGE": SECRET}
    bearer = {"Authorization": f"Bearer {SECRET}", "Content-Type": "application/xml"}
    where = f"repository=acme/shop&commit={'a' * 40}"
    large = b'<testsuite><testcase name="a"/>' + b" " * (2 * 1024 * 1024) + b"</testsuite>"
    with serving(url, tmp_path, secrets) as (address, _):
        junit, coverage = f"{address}/ingest/junit", f"{address}/ingest/coverage"
        for _ in range(2):
            assert ask("POST", f"{junit}?{where}&suite=unit", large, bearer) == (202, {"facts": 1})
        assert ask("POST", f"{coverage}?{where}", b"SF:a\nLF:4\nLH:3\nend_of_record\n", bearer) == (202, {"facts": 1})
        facts = [json.loads(line) for line in ask("GET", f"{address}/facts")[1].splitlines()]
        assert [(fact["about"], fact["says"]["repository"]) for fact in facts] == [
            ("tests", "acme/shop"),
            ("coverage", "acme/shop"),
        ]
        assert ask("POST", f"{junit}?{where}", large, bearer | {"Authorization": "Bearer guessed"})[0] == 401
        assert ask("POST", f"{junit}?{where}&comit=1", b"<testsuite/>", bearer)[0] == 422
        assert ask("POST", f"{junit}?{where}", b"<testsuite>" + b" " * (8 * 1024 * 1024), bearer)[0] == 413
        assert ask("POST", f"{junit}?{where}", large[:-3], bearer)[0] == 400, "and too large to be kept"
        assert ask("POST", f"{junit}?{where}&job=j", b"<testsuite>", bearer)[0] == 400
        held = ask("GET", f"{address}/quarantine")[1]
        assert [(one["reader"], one["body"]) for one in held] == [("junit", "<testsuite/>"), ("junit", "<testsuite>")]
        again = ask("POST", f"{address}/quarantine/{held[1]['number']}/again")
        assert again[0] == 400, "as bad as before"
        assert "repository" not in again[1]["detail"], "where it is from was kept"


def test_who_may_read(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/dora.db"
    with serving(database, tmp_path) as (address, _):
        for path in ("facts", "quarantine"):
            assert ask("GET", f"{address}/{path}", reading="guessed")[0] == 401
            assert ask("GET", f"{address}/{path}")[0] == 200
        assert ask("POST", f"{address}/quarantine/1/again", reading="guessed")[0] == 401
    with serving(database, tmp_path, {}) as (address, _):
        assert ask("GET", f"{address}/facts", reading="")[0] == 200, "on this machine, where no secret is set"


def test_nobody_fills_its_memory_before_it_asks_who_they_are(tmp_path: Path) -> None:
    with serving(f"sqlite:///{tmp_path}/dora.db", tmp_path) as (address, _):
        large = b'{"about": "' + b"x" * (1024 * 1024) + b'"}'
        status, said = ask("POST", f"{address}/marks", large, {"Authorization": ""})
        assert (status, said) == (413, {"detail": "the body has more than 1048576 bytes"})
        assert ask("POST", f"{address}/marks", b"{}", {"Authorization": ""})[0] == 401


@pytest.mark.parametrize(
    ("method", "path", "body", "wrong"),
    [
        ("POST", "marks", rb'{"about": "release/\ud800", "verdict": "failed", "reason": "x"}', "body.about"),
        ("POST", "marks", rb'{"about": "release/a", "verdict": "failed", "reason": "\u0000"}', "body.reason"),
        ("POST", "marks", rb'{"about": "release/a", "verdict": "failed", "reason": NaN}', "body.reason"),
        ("POST", "quarantine/99999999999999999999/again", b"", "path.number"),
        ("GET", "figures?start=0001-01-01&end=9999-12-31", b"", "a window has at most 3660 days"),
        ("POST", f"ingest/junit?{'&'.join(f'x{n}=' for n in range(51))}", b"<x/>", "the query has more than 50 fields"),
    ],
)
def test_what_no_store_takes_and_what_would_take_minutes_is_refused(
    tmp_path: Path, method: str, path: str, body: bytes, wrong: str
) -> None:
    with serving(f"sqlite:///{tmp_path}/dora.db", tmp_path, SECRETS | {"SERINUS_DORA_SECRET_JUNIT": READING}) as (address, _):
        status, said = ask(method, f"{address}/{path}", body)
    detail = said["detail"]
    assert (status, detail if isinstance(detail, str) else ".".join(detail[0]["loc"])) == (422, wrong)


def test_it_says_what_is_wrong_with_its_settings(tmp_path: Path) -> None:
    settings = tmp_path / "dora.yaml"
    settings.write_text("databse: x\n")
    done = subprocess.run([*COMMAND, "--config", settings], capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 1
    assert "databse" in done.stderr


def test_figures_follow_what_comes_in_within_a_second(url: str, tmp_path: Path) -> None:
    """And a page that listens is told."""
    now = datetime.now(UTC)
    exposed, returned = (f"{moment:%Y-%m-%dT%H:%M:%SZ}" for moment in (now, now + timedelta(seconds=9)))
    says = {"key": "r1", "service": "shop/web", "environment": "shop", "outcome": "RolledBack"}
    says |= {"exposed": exposed, "detected": exposed, "returned": returned}
    body = json.dumps({"id": "1", "at": exposed, "release": says}).encode()
    days = f"start={now.date()}&end={now.date() + timedelta(days=1)}"

    async def told(address: str) -> tuple[str, float]:
        headers = {"Authorization": f"Bearer {READING}"}
        async with aiohttp.ClientSession() as session, session.get(f"{address}/live", headers=headers) as stream:
            assert await stream.content.readline() == b": listening\n"
            began = time.monotonic()
            sent = await asked("POST", f"{address}/ingest/generic", body, {"Authorization": f"Bearer {SECRET}"})
            assert sent[0] == 202, sent
            async for line in stream.content:
                if line.startswith(b"data:"):
                    return line.decode(), time.monotonic() - began
        raise AssertionError("the stream ended")

    with serving(url, tmp_path, SECRETS | {"SERINUS_DORA_SECRET_GENERIC": SECRET}) as (address, _):
        assert ask("GET", f"{address}/figures?{days}")[1]["failure_rate"]["rate"]["ratio"] is None
        data, took = asyncio.run(told(address))
        assert data == 'data: ["shop/web"]\n'
        assert took < 10, "a second, when nothing else runs"
        status, figures = ask("GET", f"{address}/figures?{days}")
        assert (status, figures["failure_rate"]["rate"]["ratio"], figures["recovery"]["every"]["median"]) == (200, 1.0, 9.0)
        assert ask("GET", f"{address}/figures?{days}", reading="guessed")[0] == 401
        assert ask("GET", f"{address}/figures?start=2026-02-01&end=2026-01-01")[0] == 422


def test_whatever_goes_wrong_while_it_keeps_up_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "RETRY", 0.01)
    known, calls = app.Service(Config(database=f"sqlite:///{tmp_path}/dora.db")), list[int]()

    def catch_up() -> frozenset[str]:
        calls.append(1)
        if len(calls) == 1:
            raise OverflowError("date value out of range")
        return frozenset({"web"})

    monkeypatch.setattr(known.keeper, "catch_up", catch_up)

    async def told() -> frozenset[str] | None:
        listener: asyncio.Queue[frozenset[str] | None] = asyncio.Queue()
        known.listeners.add(listener)
        keeping = asyncio.ensure_future(known.keep())
        try:
            return await asyncio.wait_for(listener.get(), 10)
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    assert asyncio.run(told()) == {"web"}
    known.engine.dispose()


def test_a_page_that_listens_does_not_keep_it_from_ending(tmp_path: Path) -> None:
    async def ended(address: str, process: subprocess.Popen[bytes]) -> float:
        headers = {"Authorization": f"Bearer {READING}"}
        async with aiohttp.ClientSession() as session, session.get(f"{address}/live", headers=headers) as stream:
            assert await stream.content.readline() == b": listening\n"
            began = time.monotonic()
            process.terminate()
            await stream.content.read()
            return time.monotonic() - began

    with serving(f"sqlite:///{tmp_path}/dora.db", tmp_path) as (address, process):
        assert asyncio.run(ended(address, process)) < 4, "and not only because time is up"
        assert process.wait(30) in (0, -signal.SIGTERM)


def test_a_person_reclassifies_and_it_is_kept_who_and_why(tmp_path: Path) -> None:
    moment = "2026-10-05T09:00:00Z"
    says = {"key": "r1", "service": "shop/web", "environment": "shop", "exposed": moment, "outcome": "RolledBack"}
    body = json.dumps({"id": "1", "at": moment, "release": says | {"detected": moment, "returned": moment}}).encode()
    rate = "figures?start=2026-10-01&end=2026-11-01"

    def failures(address: str) -> int:
        return int(ask("GET", f"{address}/{rate}")[1]["failure_rate"]["rate"]["count"])

    def marked(address: str, count: int, status: int = 202, reading: str = READING, **said: str) -> None:
        sent = json.dumps(said).encode()
        assert ask("POST", f"{address}/marks", sent, {"X-User": "mona"}, reading)[0] == status
        until = time.monotonic() + 10
        while failures(address) != count:
            assert time.monotonic() < until

    database = f"sqlite:///{tmp_path}/dora.db"
    secrets = SECRETS | {"SERINUS_DORA_SECRET_GENERIC": SECRET}
    with serving(database, tmp_path, secrets, user_header="X-User") as (address, _):
        assert ask("POST", f"{address}/ingest/generic", body, {"Authorization": f"Bearer {SECRET}"})[0] == 202
        marked(address, 1, about="release/r1", verdict="failed", reason="it did")
        marked(address, 0, about="release/r1", verdict="fine", reason="the load test broke it")
        marked(address, 0, 401, "guessed", about="release/r1", verdict="failed", reason="spite")
        marked(address, 0, 422, about="release/r1", verdict="unrelated", reason="of an incident only")
        marked(address, 0, 422, about="release/r1", verdict="failed")
        marked(address, 1, about="release/r1", verdict="unmarked", reason="as it was computed")
        facts = [json.loads(line) for line in ask("GET", f"{address}/facts")[1].splitlines()]
    told = [(fact["says"]["by"], fact["says"]["reason"]) for fact in facts if fact["about"] == "mark"]
    assert told == [("mona", "it did"), ("mona", "the load test broke it"), ("mona", "as it was computed")]


def test_in_a_cluster_the_api_server_says_who_may_and_who_marked(tmp_path: Path) -> None:
    moment = "2026-10-05T09:00:00Z"
    says = {"key": "r1", "service": "shop/web", "environment": "shop", "exposed": moment, "outcome": "RolledBack"}
    release = json.dumps({"id": "1", "at": moment, "release": says | {"detected": moment, "returned": moment}}).encode()
    said = json.dumps({"about": "release/r1", "verdict": "fine", "reason": "the load test broke it"}).encode()

    async def asks(address: str) -> None:
        assert (await asked("POST", f"{address}/ingest/generic", release, {"Authorization": f"Bearer {SECRET}"}))[0] == 202
        for path in ("facts", "quarantine", "figures?start=2026-10-01&end=2026-11-01", "live", "metrics"):
            for token, status in (("", 401), ("guessed", 401), ("n", 403)):
                assert (await asked("GET", f"{address}/{path}", reading=token))[0] == status, (path, token)
        for path in ("marks", "quarantine/1/again"):
            for token, status in (("", 401), ("guessed", 401), ("r", 403)):
                assert (await asked("POST", f"{address}/{path}", said, reading=token))[0] == status, (path, token)
        described = (await asked("GET", f"{address}/openapi.json"))[1]["paths"]
        guarded = {path for path in described if path not in ("/healthz", "/login", "/logout", "/ingest/{reader}")}
        assert {
            "/facts",
            "/figures",
            "/live",
            "/marks",
            "/metrics",
            "/quarantine",
            "/quarantine/{number}/again",
            "/review",
        } <= guarded
        for path in guarded:
            for method in described[path]:
                known = address + path.replace("{number}", "1")
                assert (await asked(method.upper(), known, said, reading=""))[0] == 401, path
        assert await asked("POST", f"{address}/marks", said, reading="m") == (202, {"facts": 1})
        assert (await asked("POST", f"{address}/quarantine/1/again", reading="m"))[0] == 404
        status, lines = await asked("GET", f"{address}/facts", reading="r")
        marks = [fact["says"] for fact in map(json.loads, lines.splitlines()) if fact["about"] == "mark"]
        assert [mark["by"] for mark in marks] == ["mona"]
        assert (await asked("GET", f"{address}/healthz", reading=""))[0] == 200
        assert (await asked("GET", f"{address}/metrics", reading="r"))[0] == 200

    async def run() -> None:
        async with reviewing() as reviewer:
            secrets = {"SERINUS_DORA_SECRET_GENERIC": SECRET, "KUBECONFIG": str(reviewer.kubeconfig(tmp_path))}
            service = serving(f"sqlite:///{tmp_path}/dora.db", tmp_path, secrets, kubernetes=True)
            address, _ = await asyncio.to_thread(service.__enter__)
            try:
                await asks(address)
            finally:
                await asyncio.to_thread(service.__exit__, None, None, None)

    asyncio.run(run())


async def burst(address: str, process: subprocess.Popen[bytes], deliveries: range, kill_after: int) -> set[str]:
    """Posts them, fifty at a time, and kills the process after so many answers. Returns what was acknowledged."""
    taken, left = set[str](), iter(deliveries)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=50)) as session:

        async def sender() -> None:
            for number in left:
                body = json.dumps(pull_request(number=number)).encode()
                headers = {"Content-Type": "application/json", **signed(body)}
                try:
                    async with session.post(f"{address}/ingest/github", data=body, headers=headers) as answer:
                        if answer.status == 202:
                            taken.add(str(number))
                except aiohttp.ClientError:
                    return
                if len(taken) >= kill_after:
                    process.kill()

        await asyncio.gather(*(sender() for _ in range(50)))
    return taken


@pytest.mark.long
@pytest.mark.timeout(900)
def test_nothing_that_was_acknowledged_is_lost_by_kill_9_in_a_burst(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ten times on each database: 10,000 webhooks, killed somewhere among them. Then what is there is there once."""
    moments, acknowledged = random.Random(20261127), set[str]()  # noqa: S311
    for turn in range(10):
        with serving(url, tmp_path) as (address, process):
            deliveries = range(turn * 10_000, turn * 10_000 + 10_000)
            acknowledged |= asyncio.run(burst(address, process, deliveries, moments.randrange(1, 3_000)))
    with serving(url, tmp_path) as (address, _):
        found = [json.loads(line)["key"] for line in ask("GET", f"{address}/facts")[1].splitlines()]
    there = {each.rpartition("#")[2] for each in found}
    assert acknowledged <= there
    assert len(found) == len(there)
    with capsys.disabled():
        sys.stderr.write(f"\n{len(acknowledged)} acknowledged in 10 bursts, {len(there)} there\n")

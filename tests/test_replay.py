"""`serinus replay` against a server that remembers a period: which looks it asks for, and what it says of them."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import yaml
from tests.model import release
from typer.testing import CliRunner

from serinus.api.release import Release, StepReached, Times
from serinus.cli.app import app
from serinus.cli.files import Manifests, UsageError, read
from serinus.cli.replay import Period, period
from serinus.metrics.prometheus import THREADS

START = datetime(2026, 3, 1, 10, tzinfo=UTC)
END = START + timedelta(seconds=60)
CANARY: dict[str, Any] = {
    "kind": "Canary",
    "metadata": {"name": "web", "namespace": "shop"},
    "spec": {
        "targetRef": {"name": "web"},
        "service": {"name": "web", "port": 80},
        "traffic": {"gatewayAPI": {"httpRoutes": [{"name": "web"}]}},
        "steps": [{"weight": 5}],
        "analysis": {
            "interval": "5s",
            "metrics": [{"name": "errors", "templateRef": {"name": "gateway", "namespace": "platform"}}],
        },
    },
}
TEMPLATE: dict[str, Any] = {
    "kind": "MetricTemplate",
    "metadata": {"name": "gateway", "namespace": "platform"},
    "spec": {
        "ratio": {"bad": 'bad{s="{{ service }}", n="{{ namespace }}"}', "total": 'all{s="{{ service }}"}'},
        "harm": "1%",
        "sharedWith": ["*"],
    },
}
#: A counter's value: of a metric, a Service and the seconds since START.
History = Callable[[str, str, float], float]


def failing(metric: str, service: str, seconds: float) -> float:
    """The canary has 5 requests a second, one in three bad from second 20 on; the version beside it has 95, none bad."""
    if service == "web-canary":
        return max(0.0, seconds) * 5 if metric == "all" else max(0.0, seconds - 20) * 5 // 3
    return (1000 + seconds) * 95 if metric == "all" else 0


def healthy(metric: str, service: str, seconds: float) -> float:
    return failing(metric, service, seconds) if metric == "all" else 0


class Memory:
    """A Prometheus that remembers `history`. Knows of every moment it was asked about."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.asked: list[float] = []
        self.queries: set[str] = set()
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()

    def answer(self, query: str, at: float) -> dict[str, Any]:
        with self.lock:
            self.asked.append(at)
            self.queries.add(query)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        found = re.findall(r'\((?:\s*)(\w+)\{s="([\w-]+)"[^}]*\}\s*\), "serinus_query", "(\w+)"', query)
        values = [(name, service, self.history(metric, service, at)) for metric, service, name in found]
        result = [{"metric": {"serinus_query": n, "s": s}, "value": [START.timestamp() + at, str(v)]} for n, s, v in values]
        with self.lock:
            self.at_once -= 1
        return {"status": "success", "data": {"resultType": "vector", "result": result}}


@contextmanager
def remembering(history: History) -> Iterator[tuple[Memory, str]]:
    memory = Memory(history)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            given = parse_qs(self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode())
            self.answer(given)

        def do_GET(self) -> None:
            self.answer(parse_qs(self.path.partition("?")[2]))

        def answer(self, given: dict[str, list[str]]) -> None:
            body = json.dumps(memory.answer(given["query"][0], float(given["time"][0]) - START.timestamp())).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield memory, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def manifests(tmp_path: Path, *documents: dict[str, Any]) -> Path:
    path = tmp_path / "manifests.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    return path


def replayed(path: Path, url: str, *arguments: str, code: int) -> str:
    done = CliRunner().invoke(app, ["replay", str(path), "--prometheus", url, *arguments])
    assert done.exit_code == code, done.output
    return done.output


PERIOD = ("--start", START.isoformat(), "--end", END.isoformat())


def test_a_failing_version_would_have_been_rolled_back_at_the_look_that_says_so(tmp_path: Path) -> None:
    with remembering(failing) as (memory, url):
        lines = replayed(manifests(tmp_path, CANARY, TEMPLATE), url, *PERIOD, code=1).splitlines()
    assert lines[0].startswith("10:00:05  Wait           errors 0 % of 25 requests, the serving version 0 % of 475, not enough")
    assert lines[1].startswith("10:00:25  Wait, doubted  errors 6.4 % of 125 requests")
    assert lines[2].startswith("10:00:30  Fail           errors 11 % of 150 requests")
    assert lines[3] == (
        "It would have been rolled back at 10:00:30 UTC, 30.0 s after the start, 5.0 s after the first bad request was counted."
    )
    assert len(lines) == 4, "looks that say nothing new are left out"
    assert {0.0, 5.0, 10.0, 25.0, 30.0} <= set(memory.asked)
    assert memory.most_at_once <= THREADS
    (query,) = memory.queries
    assert 'bad{s="web-canary", n="shop"}' in query


def test_a_healthy_version_would_not(tmp_path: Path) -> None:
    with remembering(healthy) as (memory, url):
        said = replayed(manifests(tmp_path, CANARY, TEMPLATE), url, *PERIOD, code=0)
    assert "would not have been rolled back: after 12 looks, at 10:01:00 UTC, it was undecided." in said
    asked = [-60.0, *(float(second) for second in range(0, 61, 5))]
    assert sorted(memory.asked) == asked, "each moment once, and whether a target was there before"


def test_all_looks_as_json(tmp_path: Path) -> None:
    with remembering(failing) as (_, url):
        said = json.loads(replayed(manifests(tmp_path, CANARY, TEMPLATE), url, *PERIOD, "--json", code=1))
    assert said["rolledBack"] is True
    assert [look["verdict"] for look in said["looks"]] == ["Wait"] * 5 + ["Fail"]
    last = said["looks"][-1]
    assert last["at"] == "2026-03-01T10:00:30+00:00"
    assert last["metrics"][0]["odds"] > 100
    assert last["metrics"][0]["tally"]["besideTotal"] == 30 * 95


def test_numbers_that_are_not_counted_are_judged_by_their_limits(tmp_path: Path) -> None:
    canary = CANARY | {"spec": CANARY["spec"] | {"analysis": {"interval": "20s", "metrics": []}}}
    canary["spec"]["analysis"]["metrics"] = [{"name": "load", "query": 'load{s="{{ service }}"}', "max": 1}]
    with remembering(failing) as (memory, url):
        said = replayed(manifests(tmp_path, canary), url, *PERIOD, code=0)
    assert "NoData         load: the query returned nothing (at most 1), for 40 s: holding" in said
    assert sorted(memory.asked) == [20, 40, 60]


def test_another_namespace_and_what_warms_up(tmp_path: Path) -> None:
    warm = json.loads(json.dumps(CANARY))
    warm["spec"]["analysis"]["warmUp"] = "40s"
    with remembering(failing) as (memory, url):
        said = replayed(manifests(tmp_path, warm, TEMPLATE), url, *PERIOD, "--namespace", "stage", code=1)
    assert "rolled back at 10:00:50 UTC" in said, "the first warm look only sets what the next counts from"
    assert any('n="stage"' in query for query in memory.queries)


def ended(**times: Any) -> Release:
    one = release()
    one.status.times = Times(**times)
    return one


def test_a_release_says_when_it_was_and_from_when_it_stood_alone(tmp_path: Path) -> None:
    one = ended(first_exposed=START, zero_verified=END)
    one.status.steps = [StepReached(weight=5, at=START), StepReached(weight=100, at=START + timedelta(seconds=10))]
    recorded = {"kind": "Release", **one.dump()}

    def alone(metric: str, service: str, seconds: float) -> float:
        """All traffic is the canary's from second 10 on."""
        return failing(metric, service, seconds if service == "web-canary" else min(seconds, 10))

    path = manifests(tmp_path, CANARY, TEMPLATE, recorded)
    with remembering(alone) as (_, url):
        assert "would have been rolled back at 10:00:" in replayed(path, url, code=1)
        without = replayed(manifests(tmp_path, CANARY, TEMPLATE), url, *PERIOD, code=0)
    assert "would not have been rolled back" in without, "nothing to compare with, and nobody says that there should not be"


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (ended(first_exposed=START, zero_verified=END), Period(START, END, None, "web-1")),
        (
            ended(first_exposed=START, unpaused=START, returning=END, zero_verified=END + timedelta(5)),
            Period(START, END, START, "web-1"),
        ),
    ],
)
def test_the_period_of_a_release(tmp_path: Path, one: Release, expected: Period) -> None:
    read_again = read([manifests(tmp_path, CANARY, TEMPLATE, {"kind": "Release", **one.dump()})])
    assert period(read_again, None, None) == expected
    later = START + timedelta(seconds=1)
    assert period(read_again, later, None) == Period(later, expected.end, expected.alone, "web-1")


def known(tmp_path: Path, *releases: Release) -> Manifests:
    return read([manifests(tmp_path, CANARY, TEMPLATE, *({"kind": "Release", **one.dump()} for one in releases))])


def test_a_period_that_is_none_is_refused(tmp_path: Path) -> None:
    for nothing in (
        known(tmp_path),
        known(tmp_path, ended()),
        known(tmp_path, ended(first_exposed=START), ended(first_exposed=START)),
    ):
        with pytest.raises(UsageError, match="Give --start and --end, or the file of one Release that had traffic"):
            period(nothing, None, None)
    with pytest.raises(UsageError, match="--start must be before --end"):
        period(known(tmp_path), END, START)


def test_a_server_that_is_not_there_is_no_verdict(tmp_path: Path) -> None:
    with remembering(failing) as (_, url):
        pass
    said = replayed(manifests(tmp_path, CANARY, TEMPLATE), url, *PERIOD, code=1)
    assert said.startswith("Prometheus cannot be reached: ")
    assert "rolled back" not in said


def test_a_moment_without_an_offset_is_utc_and_no_moment_is_refused(tmp_path: Path) -> None:
    path = manifests(tmp_path, CANARY, TEMPLATE)
    with remembering(healthy) as (memory, url):
        replayed(path, url, "--start", "2026-03-01T10:00:00", "--end", "2026-03-01T12:01:00+02:00", code=0)
        assert max(memory.asked) == 60
        assert "is not a moment such as" in " ".join(replayed(path, url, "--start", "noon", code=2).split())

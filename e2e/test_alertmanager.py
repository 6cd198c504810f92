"""A real Alertmanager sends what it was told to the measuring service. Needs no cluster: both on loopback."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from e2e import kubectl
from e2e.cluster import gotools, network
from tests.test_dora_service import serving

pytestmark = pytest.mark.timeout(900)  # Alertmanager may have to be built
SECRET, READING = "alerts-come-with-this", "may-read"


def ask(address: str, body: Any = None, token: str = READING) -> Any:
    """The answer as text; None where nobody answers, or not well."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    request = urllib.request.Request(address, None if body is None else json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.read().decode()
    except OSError:
        return None


@contextmanager
def alertmanager(folder: Path, receiver: str, token: str) -> Iterator[str]:
    """Its address, from when it is ready. It sends each alert at once, and again when it is resolved."""
    webhook = {"url": receiver, "send_resolved": True}
    webhook |= {"http_config": {"authorization": {"type": "Bearer", "credentials": token}}}
    route = {"receiver": "dora", "group_by": ["..."], "group_wait": "100ms", "group_interval": "1s", "repeat_interval": "1h"}
    config, log = folder / "alertmanager.yaml", folder / "alertmanager.log"
    config.write_text(json.dumps({"route": route, "receivers": [{"name": "dora", "webhook_configs": [webhook]}]}))
    (port,) = network.free_ports(1)
    words = [f"--config.file={config}", f"--storage.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}"]
    with log.open("wb") as out:
        process = subprocess.Popen([gotools.alone("alertmanager"), *words, "--cluster.listen-address="], stdout=out, stderr=out)
    address = f"http://127.0.0.1:{port}"
    try:
        kubectl.until("Alertmanager is ready", lambda: ask(f"{address}/-/ready") is not None or process.poll(), 60)
        assert process.poll() is None, log.read_text()
        yield address
    finally:
        process.terminate()
        process.wait(30)


def incidents(address: str) -> list[dict[str, Any]]:
    facts = [json.loads(line) for line in (ask(f"{address}/facts") or "").splitlines()]
    return [fact["says"] for fact in facts if fact["about"] == "incident"]


def test_an_alert_is_an_incident_from_its_beginning_and_over_when_it_is_resolved(tmp_path: Path) -> None:
    secrets = {"SERINUS_DORA_SECRET_ALERTMANAGER": SECRET, "SERINUS_DORA_SECRET_READING": READING}
    now = datetime.now(UTC).replace(microsecond=0)
    began, ended = now - timedelta(minutes=7), now - timedelta(seconds=2)
    labels = {"alertname": "Errors", "namespace": "shop", "service": "checkout", "severity": "critical"}
    alert: dict[str, Any] = {"labels": labels, "annotations": {"summary": "checkout fails"}, "startsAt": began.isoformat()}
    with (
        serving(f"sqlite:///{tmp_path}/dora.db", tmp_path, secrets) as (dora, _),
        alertmanager(tmp_path, f"{dora}/ingest/alertmanager", SECRET) as address,
    ):
        firing = alert | {"endsAt": (now + timedelta(hours=1)).isoformat()}
        assert ask(f"{address}/api/v2/alerts", [firing]) is not None
        kubectl.until("the incident is known", lambda: incidents(dora), 60)
        (incident,) = incidents(dora)
        assert (incident["service"], incident["environment"], incident["title"]) == ("shop/checkout", "shop", "checkout fails")
        assert (datetime.fromisoformat(incident["began"]), incident.get("resolved")) == (began, None)
        assert ask(f"{address}/api/v2/alerts", [alert | {"endsAt": ended.isoformat()}]) is not None
        kubectl.until("it is over", lambda: len(incidents(dora)) == 2, 60)
        resolved = incidents(dora)[1]
        assert datetime.fromisoformat(resolved["began"]) == began
        assert ended <= datetime.fromisoformat(resolved["resolved"]) <= datetime.now(UTC)
        keys = {json.loads(line)["key"] for line in ask(f"{dora}/facts").splitlines()}
        assert len(keys) == 1, "both are about one incident"


def test_an_alertmanager_with_another_secret_is_not_heard(tmp_path: Path) -> None:
    secrets = {"SERINUS_DORA_SECRET_ALERTMANAGER": SECRET, "SERINUS_DORA_SECRET_READING": READING}
    with (
        serving(f"sqlite:///{tmp_path}/dora.db", tmp_path, secrets) as (dora, _),
        alertmanager(tmp_path, f"{dora}/ingest/alertmanager", "guessed") as address,
    ):
        assert ask(f"{address}/api/v2/alerts", [{"labels": {"alertname": "Errors"}}]) is not None
        log = tmp_path / "alertmanager.log"
        kubectl.until("it was refused", lambda: "401" in log.read_text(), 60)
        assert incidents(dora) == []

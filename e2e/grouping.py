"""`make bench-grouping`: 1,000 Canaries that look once a second at a real Prometheus, asked one by one and together;
and as the operator does it: together, after each scrape.

The looks are the controller's own (serinus.controller.looks), without an API server. Prometheus runs here, on loopback, and
scrapes one page with the counters of all of them. Prints a table and keeps it in bench-results/; ends by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import http.server
import json
import multiprocessing
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from e2e import kubectl
from e2e.cluster import gotools, network

from serinus.api.canary import Canary
from serinus.controller.looks import Looks, look, pause
from serinus.controller.sources import Around, Sources
from serinus.kube import Kube
from serinus.metrics.prometheus import Prometheus
from serinus.metrics.provider import Provider
from serinus.metrics.together import Together

RESULTS = kubectl.ROOT / "bench-results"
BUCKETS = ("0.1", "0.3", "1.2", "5.0", "+Inf")


class Nowhere(Kube):
    """No API server: ready-made checks need none."""

    def __init__(self) -> None:
        pass


def page(count: int, seconds: float) -> str:
    """What Traefik would say after so many seconds of 100 requests a second for each Canary, a tenth of them for the canary."""
    lines = []
    for i in range(count):
        for name, share in ((f"shop-{i}", 0.9), (f"shop-{i}-canary", 0.1)):
            service = f'service="httproute-shops-x-gw-traefik-shop-ep-web-0-{i:x}-svc-shops-{name}-0@kubernetesgateway"'
            total = int(100 * seconds * share)
            for code, part in (("200", 0.999), ("500", 0.001)):
                labels = f'{service},code="{code}",method="GET",protocol="http"'
                lines.append(f"traefik_service_requests_total{{{labels}}} {int(total * part)}")
                lines.append(f"traefik_service_request_duration_seconds_count{{{labels}}} {int(total * part)}")
                lines += [
                    f'traefik_service_request_duration_seconds_bucket{{{labels},le="{le}"}} {int(total * part)}' for le in BUCKETS
                ]
    return "\n".join(lines) + "\n"


def serve(count: int, port: int) -> None:
    """In a process of its own: the page."""
    began = time.monotonic()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = page(count, time.monotonic() - began).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", port), Handler)
    threading.Timer(600, server.shutdown).start()
    server.serve_forever()


@contextmanager
def prometheus(count: int) -> Iterator[str]:
    """A Prometheus that holds the series of so many Canaries; its address."""
    source, port = network.free_ports(2)
    pages = multiprocessing.get_context("spawn").Process(target=serve, args=(count, source), daemon=True)
    pages.start()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "prometheus.yaml")
        targets = [{"targets": [f"127.0.0.1:{source}"]}]
        scrape = {"job_name": "gateway", "scrape_interval": "5s", "scrape_timeout": "5s", "static_configs": targets}
        config.write_text(json.dumps({"scrape_configs": [scrape]}))
        words = [f"--config.file={config}", f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}"]
        with Path(folder, "log").open("wb") as log:
            server = subprocess.Popen([gotools.programs(["prometheus"])["prometheus"], *words], stderr=log, stdout=log)
            try:
                url = f"http://127.0.0.1:{port}"
                kubectl.until("Prometheus holds the series", lambda: held(url) == 4 * count, timeout=90)
                yield url
            finally:
                server.terminate()
                server.wait(30)
                pages.terminate()
                pages.join(10)


def ask(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def held(url: str) -> int:
    answer = ask(f"{url}/api/v1/query?query=count(traefik_service_requests_total)")
    result = json.loads(answer)["data"]["result"] if answer else []
    return int(result[0]["value"][1]) if result else 0


def told(url: str) -> tuple[float, float]:
    """(queries, CPU seconds) of Prometheus so far."""
    queries = cpu = 0.0
    for line in ask(f"{url}/metrics").splitlines():
        if line.startswith("prometheus_http_requests_total{") and 'handler="/api/v1/query"' in line:
            queries += float(line.rpartition(" ")[2])
        elif line.startswith("process_cpu_seconds_total "):
            cpu = float(line.rpartition(" ")[2])
    return queries, cpu


def canary(i: int) -> Canary:
    metrics = [
        {"builtin": "errors", "exporter": "traefik"},
        {"builtin": "slow", "slowerThan": "300ms", "exporter": "traefik"},
    ]
    spec: dict[str, Any] = {
        "targetRef": {"name": f"shop-{i}"},
        "service": {"name": f"shop-{i}", "port": 80},
        "traffic": {"gatewayAPI": {"httpRoutes": [{"name": f"shop-{i}"}]}},
        "stepWeights": [10],
        "analysis": {"metrics": metrics},
    }
    return Canary.model_validate({"metadata": {"name": f"shop-{i}", "namespace": "shops"}, "spec": spec})


@dataclass
class Phase:
    """How it went for so many seconds."""

    name: str
    seconds: float
    looks: int = 0
    errors: int = 0
    queries: float = 0
    cpu: float = 0
    prometheus_cpu: float = 0
    late: list[float] = field(default_factory=list)


async def looking(provider: Provider, count: int, phase: Phase, url: str, timed: bool) -> None:
    """All Canaries look once a second, or as their looks are `timed` to scrapes.

    There is a warm-up, in which each asks what was at its beginning, and the time that counts.
    """
    sources, counted = Sources(provider), False

    async def one(i: int) -> None:
        began_at = datetime.now(UTC) - timedelta(seconds=5 + i % 10)  # as after a restart: the last look was so long ago
        looks = Looks(f"shop-{i}-1", 1, "canary", began_at, around=Around())
        made, until = canary(i), time.monotonic() + 2 * phase.seconds
        await asyncio.sleep(i / count)
        while (began := time.monotonic()) < until:
            now = datetime.now(UTC)
            verdict = await look(looks, Nowhere(), sources, made, now)
            took = time.monotonic() - began
            if counted:
                phase.looks += 1
                phase.late.append(took)
                phase.errors += any(finding.verdict == "Error" for finding in verdict.findings)
            await asyncio.sleep(max(0.05, (pause(looks, made, now, 1.0) if timed else 1.0) - took))

    tasks = [asyncio.create_task(one(i)) for i in range(count)]
    await asyncio.sleep(phase.seconds)
    (queries, server), cpu, began = await asyncio.to_thread(told, url), time.process_time(), time.monotonic()
    counted = True
    await asyncio.sleep(phase.seconds)
    counted = False
    after, server_after = await asyncio.to_thread(told, url)
    phase.cpu, phase.seconds = time.process_time() - cpu, time.monotonic() - began
    phase.queries, phase.prometheus_cpu = after - queries, server_after - server
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await sources.close()


def row(phase: Phase) -> str:
    late = sorted(phase.late) or [0.0]
    return (
        f"| {phase.name} | {phase.looks / phase.seconds:.0f} | {phase.errors} | {phase.queries / phase.seconds:.1f}"
        f" | {100 * phase.cpu / phase.seconds:.0f} % | {1000 * phase.cpu / max(1, phase.looks):.2f} ms"
        f" | {100 * phase.prometheus_cpu / phase.seconds:.0f} % | {1000 * late[len(late) // 2]:.0f} ms |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--canaries", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=20)
    asked = parser.parse_args()
    lines = [
        f"{asked.canaries} Canaries with two checks each, a look a second; a scrape every 5 s:",
        "",
        "| asked | looks/s | with an error | queries/s | CPU | CPU a look | CPU of Prometheus | median look |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    with prometheus(asked.canaries) as url:
        for name, provider, timed in (
            ("one by one", Prometheus(url), False),
            ("together", Together(Prometheus(url)), False),
            ("together, after each scrape", Together(Prometheus(url)), True),
        ):
            phase = Phase(name, asked.seconds)
            asyncio.run(looking(provider, asked.canaries, phase, url, timed))
            lines.append(row(phase))
    text = "\n".join(lines)
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "grouping.md").write_text(text + "\n")


if __name__ == "__main__":
    main()

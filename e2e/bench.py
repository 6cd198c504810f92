"""`make bench`: the figures that the README names, measured on the cluster that runs, printed and kept in bench-results/.

bad   five bad releases (one request in three fails, 100 a second, first weight 10 %, independentErrors), counters new and
      known, at a Prometheus scrape of 5 s and of 1 s: from first canary traffic to weight 0 in the route; failed requests
third, twentieth
      the same with a first weight of 5 % and the test as it comes, promising at most 1 % false rollbacks: one request in
      three fails, one in twenty; at a scrape of 5 s, and read directly
good  one good release (10, 25, 50, 100 %, 10 s each): failed requests; from the last step to the canary gone
quiet twenty good releases whose requests fail at 0.1 %, as the serving version's do: how many survive
few   twenty good releases with one request in two seconds, 1 % of which fail in both versions: how many survive
crash a version that crashes at start: from its second crash to the decision; requests that reached it
rest  the operator with 1 and with 100 Canaries at rest: memory, CPU seconds and API requests a minute
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Semaphore
from typing import Any

from e2e import follow, install, kubectl, shop
from e2e.cluster import addons
from e2e.kubectl import Object

RESULTS = kubectl.ROOT / "bench-results"
NAME = "checkout"


@dataclass(frozen=True)
class Fault:
    """A bad version, and how it is noticed. `limit`: seconds to weight 0 that are promised, at the median."""

    title: str
    limit: float
    fails: str = "0.3333"
    weight: int = 5
    scrape: int = 5
    analysis: Object = field(default_factory=dict)


_INDEPENDENT: Object = {"independentErrors": True}
_COMPARED: Object = {"independentErrors": False}
_DIRECT: Object = {"independentErrors": False, "metrics": [{"builtin": "errors", "source": "direct"}]}
FAULTS = {
    "bad5": Fault("a third fails at 10 %, 5 s scrape, independentErrors", 5, weight=10, analysis=_INDEPENDENT),
    "bad1": Fault("a third fails at 10 %, 1 s scrape, independentErrors", 2.5, weight=10, scrape=1, analysis=_INDEPENDENT),
    "third5": Fault("a third fails at 5 %, 5 s scrape", 12, analysis=_COMPARED),
    "third-direct": Fault("a third fails at 5 %, source: direct", 3.5, analysis=_DIRECT),
    "twentieth5": Fault("a twentieth fails at 5 %, 5 s scrape", 25, fails="0.05", analysis=_COMPARED),
    "twentieth-direct": Fault("a twentieth fails at 5 %, source: direct", 15, fails="0.05", analysis=_DIRECT),
}


def scrape(seconds: int) -> None:
    """Prometheus' scrape interval, active when this returns."""
    subprocess.run([sys.executable, "-m", "e2e.cluster", "scrape-interval", f"{seconds}s"], check=True, cwd=kubectl.ROOT)


def spread(values: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def open_shop(
    space: str,
    steps: list[Object],
    seconds: float,
    rate: float = 100,
    replicas: int = 3,
    analysis: Object | None = None,
    **env: str,
) -> follow.Load:
    """A shop that serves, adopted by a Canary, under load."""
    follow.serve(space, NAME, replicas, **env)
    kubectl.apply(shop.canary(NAME, space, steps, **{"interval": "500ms"} | (analysis or {})))
    follow.phase(NAME, space, "Stable")
    load = follow.Load(space, shop.host(NAME, space), rate, seconds)
    load.start()
    # A service has had traffic for longer than one scrape when it ships. Else its first scrape tells nothing.
    counted = f'traefik_service_requests_total{{service=~".+-svc-{space}-.+"}}'
    kubectl.until("Prometheus has scraped the shop", lambda: addons.query(counted), 30)
    return load


def shipped(space: str, replicas: int = 3, timeout: float = 150, **env: str) -> Object:
    """Ships a version, as a pipeline applies it; returns its Release, ended."""
    kubectl.apply(shop.deployment(NAME, space, replicas, **env))
    return follow.ended(space, env["MESSAGE"], timeout)


def first_traffic(answers: follow.Answers, message: str, since: float) -> float:
    """When the first request went to that version: answered by it, or failed after `since`. Seconds since the epoch."""
    times = [start for start, _ in answers.failed(since)]
    return min([*times, *([answers.first[message]] if message in answers.first else [])])


def bad(fault: Fault, runs: int = 5) -> Object:
    """Each run in a new shop, whose counters are new, and then once more in the same, whose counters are known."""
    scrape(fault.scrape)
    rows: list[Object] = []
    for number in range(runs):
        with kubectl.fresh_namespace(f"bench-bad-{number}") as space:
            load = open_shop(space, shop.steps("60s", fault.weight, 100), 170, analysis=fault.analysis, MESSAGE="v1")
            for counters in ("new", "known"):
                release = shipped(space, MESSAGE=f"bad-{counters}", FAIL_RATE=fault.fails)
                times, seen = follow.times(release), load.answers()
                began = first_traffic(seen, f"bad-{counters}", times["firstExposed"])
                row = {
                    "counters": counters,
                    "outcome": release["status"]["outcome"],
                    "seconds": round(times["zeroVerified"] - began, 2),
                    "failed": len(seen.failed(began)),
                    "failed_after": len(seen.failed(times["zeroVerified"])),
                    "decided_to_zero": round(times["zeroVerified"] - times["decided"], 2),
                }
                rows.append(row)
                print(f"   {fault.title}: {row}", flush=True)
                kubectl.apply(shop.deployment(NAME, space, MESSAGE="v1"))
                follow.phase(NAME, space, "Stable")
    result: Object = {"scrape_seconds": fault.scrape, "runs": rows}
    for counters in ("new", "known"):
        some = [row for row in rows if row["counters"] == counters]
        result[counters] = {
            "seconds_median": statistics.median(row["seconds"] for row in some),
            "seconds": spread([row["seconds"] for row in some]),
            "failed_median": statistics.median(row["failed"] for row in some),
            "failed_after_zero": sum(row["failed_after"] for row in some),
            "rolled_back": sum(row["outcome"] == "RolledBack" for row in some),
            "runs": len(some),
        }
    return result


def good() -> Object:
    """One good release under load, promotion included."""
    scrape(5)
    with kubectl.fresh_namespace("bench-good") as space:
        load = open_shop(space, shop.steps("10s", 10, 25, 50, 100), 180, MESSAGE="v1")
        release = shipped(space, MESSAGE="v2")
        times, answers = follow.times(release), load.stop()
        return {
            "outcome": release["status"]["outcome"],
            "requests": answers.summary["requests"],
            "failed": len(answers.failures),
            "last_step_to_canary_gone_seconds": times["ended"] - times["unpaused"],
            "canary_pods_left": len(kubectl.items("pods", space, "serinus.dev/role=canary")),
            "whole_release_seconds": times["ended"] - times["requested"],
        }


def quiet(releases: int = 20, side_by_side: int = 4) -> Object:
    """Good releases with the same rare errors as the version that serves."""
    scrape(5)

    def some(number: int) -> list[Object]:
        with kubectl.fresh_namespace(f"bench-quiet-{number}") as space:
            steps = shop.steps("10s", 10, 50, 100)
            open_shop(space, steps, 120 * releases / side_by_side, rate=50, replicas=2, MESSAGE="v0", FAIL_RATE="0.001")
            each = range(1, releases // side_by_side + 1)
            return [shipped(space, 2, MESSAGE=f"v{version}", FAIL_RATE="0.001") for version in each]

    with ThreadPoolExecutor(side_by_side) as pool:
        ended = [release for batch in pool.map(some, range(side_by_side)) for release in batch]
    exposure = [release["status"]["exposure"] for release in ended]
    return {
        "releases": len(ended),
        "promoted": sum(release["status"]["outcome"] == "Promoted" for release in ended),
        "requests_judged": sum(e["requests"] for e in exposure),
        "failed_of_them": sum(e["failures"] for e in exposure),
    }


def few(releases: int = 20, side_by_side: int = 10, seconds: float = 600) -> Object:
    """Good releases of a service with hardly any traffic, whose requests fail at 1 % in both versions.

    Each is followed to its end, or for ten minutes: one that is doubted waits.
    """
    scrape(5)
    opening = Semaphore(4)  # more at once are too many for a small machine

    def one(number: int) -> Object:
        with kubectl.fresh_namespace(f"bench-few-{number}") as space:
            steps = shop.steps("1m", 10, 25, 50, 100)
            with opening:
                open_shop(space, steps, seconds + 90, rate=0.5, replicas=1, analysis=_COMPARED, MESSAGE="v1", FAIL_RATE="0.01")
            try:
                release = shipped(space, 1, timeout=seconds, MESSAGE="v2", FAIL_RATE="0.01")
            except kubectl.Failed:
                release = follow.releases(space, "v2")[-1]
            status = release["status"]
            print(f"   few {number}: {status.get('outcome', 'waiting')}: {status['why']}", flush=True)
            return release

    with ThreadPoolExecutor(side_by_side) as pool:
        seen = [release["status"] for release in pool.map(one, range(releases))]
    return {
        "releases": len(seen),
        "promoted": sum(status.get("outcome") == "Promoted" for status in seen),
        "rolled_back": sum(status.get("outcome") == "RolledBack" for status in seen),
        "waiting": [status["why"] for status in seen if "outcome" not in status],
        "requests_judged": sum(status["exposure"]["requests"] for status in seen),
        "failed_of_them": sum(status["exposure"]["failures"] for status in seen),
    }


def crash() -> Object:
    """A version that crashes at start."""
    with kubectl.fresh_namespace("bench-crash") as space:
        load = open_shop(space, shop.steps("10s", 10, 100), 90, MESSAGE="v1")
        kubectl.apply(shop.deployment(NAME, space, MESSAGE="crash", CRASH="true"))

        def crashed() -> float | None:
            for pod in kubectl.items("pods", space, "serinus.dev/role=canary"):
                for status in pod.get("status", {}).get("containerStatuses") or []:
                    ended = status.get("state", {}).get("terminated") or status.get("lastState", {}).get("terminated")
                    if status["restartCount"] >= 1 and ended:
                        return follow.seconds(ended["finishedAt"])
            return None

        second: float = kubectl.until("the second crash", crashed, 60, every=0.1)
        release = follow.ended(space, "crash")
        times, answers = follow.times(release), load.stop()
        return {
            "outcome": release["status"]["outcome"],
            "second_crash_to_decision_seconds": times["decided"] - second,
            "requested_to_decision_seconds": times["decided"] - times["requested"],
            "requests_that_reached_it": int("crash" in answers.first),
            "failed_requests": len(answers.failures),
            "exposed": "firstExposed" in times,
        }


def rest(canaries: int, seconds: int = 60) -> Object:
    """The operator, started anew, with that many idle Canaries."""
    with ExitStack() as stack:
        space = stack.enter_context(kubectl.fresh_namespace("bench-rest"))
        objects: list[Object] = []
        for number in range(canaries):
            name = f"shop-{number}"
            objects += [shop.service(name, space), shop.route(name, space), shop.deployment(name, space, 0, MESSAGE="v1")]
            objects.append(shop.canary(name, space, shop.steps("10s", 10, 100)))
        kubectl.apply(*objects)
        install.restart()

        def all_stable() -> bool:
            found = kubectl.items("canaries", space)
            return len(found) == canaries and all(c.get("status", {}).get("phase") == "Stable" for c in found)

        kubectl.until(f"{canaries} Canaries are Stable", all_stable, 180, every=1)
        quiet_since = kubectl.until("the operator is at rest", _resting, 120, every=5)
        before, requests = _process(), _requests()
        time.sleep(seconds)  # the measurement itself: a length of time at rest
        after, later = _process(), _requests()
        return {
            "canaries": canaries,
            "memory_mib": after["memory"] / 2**20,
            "cpu_seconds_a_minute": (after["cpu"] - before["cpu"]) * 60 / seconds,
            "api_requests_a_minute": (later - requests) * 60 / seconds if requests >= 0 else None,
            "passes": after["passes"] - quiet_since,
        }


def _process() -> dict[str, float]:
    pods = kubectl.items("pods", install.NAMESPACE)
    pod = next(p["metadata"]["name"] for p in pods if not p["metadata"].get("deletionTimestamp"))
    text = kubectl.run("get", "--raw", f"/api/v1/namespaces/{install.NAMESPACE}/pods/{pod}:8080/proxy/metrics")
    values = {line.split()[0]: float(line.split()[1]) for line in text.splitlines() if line and not line.startswith("#")}
    return {
        "memory": values["process_resident_memory_bytes"],
        "cpu": values["process_cpu_seconds_total"],
        "passes": values["serinus_pass_seconds_count"],
    }


def _resting() -> float | None:
    """The number of passes, once it stands still between two readings."""
    first = _process()["passes"]
    time.sleep(5)
    return first if _process()["passes"] == first else None


def _requests() -> int:
    """Requests of the operator so far, from the API server's audit log; -1 where there is none."""
    log = kubectl.CLUSTER / "logs" / "audit.log"
    if not log.exists():
        return -1
    with log.open() as lines:
        return sum(f"system:serviceaccount:{install.NAMESPACE}:" in line for line in lines)


def machine() -> Object:
    """What the figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "?")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=kubectl.ROOT, check=False
    )
    server = json.loads(kubectl.run("version", "-o", "json"))["serverVersion"]["gitVersion"]
    return {
        "cpu": f"{os.cpu_count()} x {model}",
        "memory_gib": round(memory, 1),
        "kernel": platform.release(),
        "kubernetes": server,
        "commit": commit.stdout.strip(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "load_before": os.getloadavg()[0],
    }


PARTS: dict[str, Callable[[], Any]] = {
    "good": good,
    **{name: partial(bad, fault) for name, fault in FAULTS.items()},
    "crash": crash,
    "quiet": quiet,
    "few": few,
    "rest1": lambda: rest(1),
    "rest100": lambda: rest(100),
}


def table(results: Object) -> str:
    """The figures as Markdown, each beside what was promised."""
    rows = [("what", "measured", "promised")]
    for part, fault in FAULTS.items():
        for counters in ("new", "known") if part in results else ():
            some = results[part][counters]
            name = f"{fault.title}, counters {counters} ({some['rolled_back']} of {some['runs']} rolled back)"
            rows.append((f"{name}: first traffic to weight 0, s", some["seconds"], f"median at most {fault.limit}"))
            rows.append((f"{name}: failed requests, median", f"{some['failed_median']:.0f}", ""))
            rows.append((f"{name}: failed after weight 0 was accepted", str(some["failed_after_zero"]), "0"))
    if "good" in results:
        some = results["good"]
        rows.append(("good release: failed of all requests", f"{some['failed']} of {some['requests']}", "0 of 5000 or more"))
        rows.append(
            ("good release: last step to canary gone, s", f"{some['last_step_to_canary_gone_seconds']:.1f}", "at most 20")
        )
    if "quiet" in results:
        some = results["quiet"]
        rows.append(("good releases at 0.1 % errors that survive", f"{some['promoted']} of {some['releases']}", ""))
    if "few" in results:
        some = results["few"]
        rows.append(
            ("good releases, 0.5 requests a second, 1 % errors: rolled back", f"{some['rolled_back']} of {some['releases']}", "0")
        )
        rows.append(("of the same: promoted within 10 minutes", f"{some['promoted']} of {some['releases']}", ""))
    if "crash" in results:
        some = results["crash"]
        rows.append(("crash loop: second crash to decision, s", f"{some['second_crash_to_decision_seconds']:.1f}", "at most 10"))
        rows.append(("crash loop: requests that reached it", str(some["requests_that_reached_it"]), "0"))
    for part, limit in (("rest1", 90), ("rest100", 120)):
        if part in results:
            some = results[part]
            name = f"at rest, {some['canaries']} Canaries"
            rows.append((f"{name}: memory, MiB", f"{some['memory_mib']:.0f}", f"at most {limit}"))
            rows.append((f"{name}: CPU seconds a minute", f"{some['cpu_seconds_a_minute']:.2f}", "at most 0.5"))
            rows.append((f"{name}: API requests a minute", f"{some['api_requests_a_minute'] or 0:.0f}", "does not grow"))
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---|---|---|", *lines[1:]])


def main() -> int:
    """Runs the parts that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; all of them without")
    parts = parser.parse_args().parts or list(PARTS)
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    results: Object = {"machine": machine()}
    print(json.dumps(results["machine"], indent=1), flush=True)
    for part in parts:
        began = time.monotonic()
        results[part] = PARTS[part]()
        print(f"{part}: {time.monotonic() - began:.0f} s: {json.dumps(results[part])[:600]}", flush=True)
    RESULTS.mkdir(exist_ok=True)
    stem = RESULTS / f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    stem.with_suffix(".json").write_text(json.dumps(results, indent=1))
    stem.with_suffix(".md").write_text(f"{json.dumps(results['machine'])}\n\n{table(results)}\n")
    print(f"\n{table(results)}\n\nkept in {stem.with_suffix('.json').relative_to(kubectl.ROOT)} and .md")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What is away for a while: the operator, while new versions are applied; Prometheus and the API server, in mid-release."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from e2e import follow, install, kubectl, shop
from e2e.cluster import local
from e2e.kubectl import Object

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

NAME = "checkout"
MONITORING = "monitoring"

# ---- the operator ----

#: Names of one image; the tags of others would not be there to pull.
IMAGES = (shop.IMAGE, f"docker.io/{shop.IMAGE}", f"index.docker.io/{shop.IMAGE}")
Ship = Callable[[str, Path, int], Any]


def manifest(space: str, version: int) -> list[Object]:
    """Version 1, 2 or 3, as the team has it in a file."""
    return [shop.deployment(NAME, space, 1, MESSAGE=f"v{version}"), shop.service(NAME, space), shop.route(NAME, space)]


def set_image(space: str, _: Path, version: int) -> None:
    if version == 1:
        kubectl.apply(*manifest(space, 1))
    else:
        kubectl.run("set", "image", f"deployment/{NAME}", "-n", space, f"shop={IMAGES[version - 1]}")


def apply(space: str, _: Path, version: int) -> None:
    kubectl.apply(*manifest(space, version))


def server_side_apply(space: str, _: Path, version: int) -> None:
    kubectl.apply(*manifest(space, version), server_side=True)


def replace(space: str, _: Path, version: int, *words: str) -> None:
    if version == 1:
        kubectl.apply(*manifest(space, 1))
    else:
        kubectl.run("replace", *words, "-f", "-", stdin=json.dumps(manifest(space, version)[0]))


def helm_upgrade(space: str, folder: Path, version: int) -> None:
    chart(folder / space, space)
    kubectl.helm("upgrade", "--install", "shop", str(folder / space), "-n", space, "--set", f"message=v{version}")


def chart(folder: Path, space: str) -> None:
    """A team's own chart."""
    (folder / "templates").mkdir(parents=True, exist_ok=True)
    (folder / "Chart.yaml").write_text(json.dumps({"apiVersion": "v2", "name": "shop", "version": "1.0.0"}))
    things = [shop.deployment(NAME, space, 1, MESSAGE="{{ .Values.message }}"), *manifest(space, 1)[1:]]
    for thing in things:
        (folder / "templates" / f"{thing['kind'].lower()}.yaml").write_text(json.dumps(thing, indent=1))


WAYS: dict[str, Ship] = {
    "set-image": set_image,
    "apply": apply,
    "server-side-apply": server_side_apply,
    "replace": replace,
    "helm-upgrade": helm_upgrade,
}


@dataclass
class Seen:
    """One namespace in the course of the outage."""

    space: str
    load: follow.Load
    #: After each of the two new versions: whether the Deployment was paused, and the versions of all pods.
    paused: list[bool] = field(default_factory=list)
    pods: list[set[str]] = field(default_factory=list)
    answers: follow.Answers = field(default_factory=follow.Answers)

    def look(self) -> None:
        """Once the Deployment's controller has seen the version."""
        kubectl.until("the Deployment is observed", self.observed)
        self.paused.append(bool((kubectl.get("deployment", NAME, self.space) or {})["spec"].get("paused")))
        self.pods.append({name(pod["spec"]) for pod in kubectl.items("pods", self.space, "!serinus.dev/load")})

    def observed(self) -> bool:
        found = kubectl.get("deployment", NAME, self.space) or {}
        return bool(found["status"].get("observedGeneration") == found["metadata"]["generation"])


def name(pod: Object) -> str:
    """The version that a pod, or its template, runs: v1, v2 or v3."""
    container = pod["containers"][0]
    if (number := IMAGES.index(container["image"])) > 0:
        return f"v{number + 1}"
    return next(str(entry["value"]) for entry in container["env"] if entry["name"] == "MESSAGE")


def adopted(space: str, folder: Path, ship: Ship) -> Seen:
    """v1 serves under a Canary, and answers requests."""
    ship(space, folder, 1)
    kubectl.run("rollout", "status", f"deployment/{NAME}", "-n", space, "--timeout=90s")
    canary = shop.canary(NAME, space, shop.steps("1s", 100), metrics=[])
    kubectl.apply(canary)
    follow.phase(NAME, space, "Stable")
    follow.unheld(space)
    load = follow.Load(space, shop.host(NAME, space), rate=5, duration=200)
    load.start()
    return Seen(space, load)


def shipped_twice(seen: Seen, folder: Path, ship: Ship) -> None:
    for version in (2, 3):
        ship(seen.space, folder, version)
        seen.look()
    seen.answers = seen.load.stop()


@pytest.fixture(scope="module")
def outage(operator: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Seen]]:
    """Two versions, in each way, while no operator runs; it is back when the tests look."""
    folder = tmp_path_factory.mktemp("charts")
    with ExitStack() as stack, ThreadPoolExecutor(3) as pool:
        names = [*WAYS, "created-anew"]
        spaces = {way: stack.enter_context(kubectl.fresh_namespace(f"e2e-offline-{way}")) for way in names}
        found = pool.map(lambda way: adopted(spaces[way], folder, WAYS.get(way, replace)), names)
        seen = dict(zip(names, found, strict=True))
        with install.away():
            list(pool.map(lambda way: shipped_twice(seen[way], folder, WAYS[way]), WAYS))
            anew = seen["created-anew"]
            anew.load.stop()
            replace(anew.space, folder, 2, "--force")
            kubectl.run("rollout", "status", f"deployment/{NAME}", "-n", anew.space, "--timeout=60s")
            anew.look()
        yield seen


@pytest.mark.parametrize("way", WAYS)
def test_version_applied_while_the_operator_is_away(outage: dict[str, Seen], way: str) -> None:
    if way == "replace" and install.HOLD == "pause":
        pytest.skip("it takes the pause away with everything else: only the policy holds what is replaced")
    seen = outage[way]
    assert seen.paused == [True, True], "held by the API server"
    assert seen.pods == [{"v1"}, {"v1"}], "no pod of a new version"
    assert set(seen.answers.summary["n"]) == {"v1 200"}, "no user sees it, and none is failed"

    kubectl.until("the operator is back and notices", lambda: follow.releases(seen.space))
    kubectl.until("the release is over", lambda: follow.stage(follow.releases(seen.space)[-1]) == "Ended", timeout=90)
    found = follow.releases(seen.space)
    assert [name(release["spec"]["template"]["spec"]) for release in found] == ["v3"], "the newest, as one Release"
    assert found[0]["status"]["outcome"] == "Promoted", found[0]["status"]
    follow.phase(NAME, seen.space, "Stable")
    follow.unheld(seen.space)


def test_deployment_created_anew_while_the_operator_is_away(outage: dict[str, Seen]) -> None:
    """The stated exception: nothing can hold it, and it stands on record."""
    seen = outage["created-anew"]
    assert seen.paused == [False]
    assert "v2" in seen.pods[0], "it runs at once"
    kubectl.until("the operator is back and notices", lambda: follow.releases(seen.space))
    release = follow.ended(seen.space, "v2")
    assert release["status"]["outcome"] == "Skipped", release["status"]
    assert "created anew" in release["status"]["why"]
    assert len(follow.releases(seen.space)) == 1
    assert "without judgement" in follow.told(seen.space, "Skipped")["message"]
    follow.phase(NAME, seen.space, "Stable")


# ---- Prometheus ----

STAND_IN = """
import http.server, time
behaviour = ["html"]
class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.path.startswith("/be/"):
            behaviour[0] = self.path[4:]
        elif behaviour[0] == "slow":
            time.sleep(10)
        body = b"<html>sign in</html>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("", 9090), Answer).serve_forever()
"""


def stand_in() -> Object:
    """What the Service of Prometheus leads to instead: answers with a web page, or too late."""
    container = {
        "name": "stand-in",
        "image": "serinus/operator:dev",
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", STAND_IN],
        "ports": [{"name": "web", "containerPort": 9090}],
        "readinessProbe": {"tcpSocket": {"port": 9090}, "periodSeconds": 1},
    }
    metadata = {"name": "stand-in", "namespace": MONITORING, "labels": {"app": "stand-in"}}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 1, "automountServiceAccountToken": False}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def lead_to(app: str) -> None:
    patch = json.dumps({"spec": {"selector": {"app": app}}})
    kubectl.run("patch", "service", "prometheus", "-n", MONITORING, "--type=merge", "-p", patch)


@contextmanager
def no_prometheus() -> Iterator[None]:
    """It is gone, with all that it had stored; at the end it is there again and scrapes."""
    scale = ("scale", "deployment", "prometheus", "-n", MONITORING)
    try:
        kubectl.run(*scale, "--replicas=0")
        kubectl.apply(stand_in())
        kubectl.run("wait", "--for=condition=Ready", "pod/stand-in", "-n", MONITORING, "--timeout=60s")
        yield
    finally:
        lead_to("prometheus")
        kubectl.run(*scale, "--replicas=1")
        kubectl.run("rollout", "status", "deployment/prometheus", "-n", MONITORING, "--timeout=90s")
        kubectl.run("delete", "pod", "stand-in", "-n", MONITORING, "--now", check=False)


def complains(space: str, *words: str) -> None:
    """MetricsAvailable is False and says this."""

    def look() -> bool:
        found = follow.condition(kubectl.get("canary", NAME, space), "MetricsAvailable")
        said = any(word in found.get("message", "") for word in words)
        return said and (found["status"], found["reason"]) == ("False", "Error")

    kubectl.until(f"MetricsAvailable is False: {' or '.join(words)}", look, timeout=40)


def test_prometheus_down_wrong_and_slow(space: str) -> None:
    follow.serve(space)
    load = follow.Load(space, shop.host(NAME, space), rate=50, duration=250)
    load.start()
    kubectl.apply(shop.canary(NAME, space, [*shop.steps("20s", 50), *shop.steps("2s", 100)]))
    follow.phase(NAME, space, "Stable")
    follow.set_env(space, MESSAGE="v2")
    begun = follow.seconds(follow.taken(space, "v2", 50)["status"]["steps"][0]["at"])
    with no_prometheus():
        complains(space, "Prometheus cannot be reached", "Prometheus did not answer")
        for kind in ("Canary", "Deployment"):
            told = follow.told(space, "MetricsUnavailable", kind)
            assert told["type"] == "Warning"
            assert "Prometheus" in told["message"]
        lead_to("stand-in")
        complains(space, "Prometheus answered with a web page")
        kubectl.run("get", "--raw", f"/api/v1/namespaces/{MONITORING}/pods/stand-in:9090/proxy/be/slow")
        complains(space, "Prometheus did not answer within 3 s")
        kubectl.until("its step's time is long over", lambda: time.time() > begun + 25)
        release = follow.releases(space)[-1]
        assert (follow.stage(release), release["status"].get("outcome")) == ("Stepping", None)
        assert [step["weight"] for step in release["status"]["steps"]] == [50], "it holds"
    assert follow.says(space, "MetricsAvailable", "True", "Answered", timeout=60)
    release = follow.ended(space, "v2", timeout=120)
    assert release["status"]["outcome"] == "Promoted", release["status"]
    answers = load.stop()
    assert answers.summary["failed"] == 0, answers.failures


# ---- the API server ----


def test_api_server_restarted_in_mid_release(space: str) -> None:
    if not local.PROCESSES.read():
        pytest.skip("the API server can be restarted only where the cluster is local")
    follow.serve(space)
    load = follow.Load(space, shop.host(NAME, space), rate=50, duration=250)
    load.start()
    kubectl.apply(shop.canary(NAME, space, shop.steps("3s", 50, 100), metrics=[]))
    follow.phase(NAME, space, "Stable")
    follow.set_env(space, MESSAGE="v2")
    follow.taken(space, "v2", 50)
    # In a process of its own: the server outlives it, as it does the command that starts the cluster.
    restart = "from e2e.cluster import local; local.restart_api_server()"
    subprocess.run([sys.executable, "-c", restart], cwd=kubectl.ROOT, check=True, timeout=90)
    release = follow.ended(space, "v2", timeout=120)
    assert release["status"]["outcome"] == "Promoted", release["status"]
    assert len(follow.releases(space)) == 1
    follow.phase(NAME, space, "Stable")
    answers = load.stop()
    assert answers.summary["failed"] == 0, answers.failures

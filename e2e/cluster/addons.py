"""What every kind of cluster is given: Gateway API, Traefik with one Gateway, Prometheus."""

import json
import re
import time
import urllib.parse
from pathlib import Path

import yaml
from e2e.cluster import gotools
from e2e.cluster.console import ClusterError, part
from e2e.cluster.kubectl import get, kubectl
from e2e.cluster.paths import MANIFESTS
from e2e.cluster.run import digest, wait_for

SCRAPE_INTERVAL = "5s"
PROMETHEUS_PROXY = "/api/v1/namespaces/monitoring/services/prometheus:9090/proxy"
IN_ORDER = ("traefik.yaml", "prometheus.yaml", "gateway.yaml")


def fingerprint() -> str:
    """Return what stands for the content of all add-ons."""
    return digest(gotools.module_version("sigs.k8s.io/gateway-api"), *[MANIFESTS / name for name in IN_ORDER])


def install(images: dict[str, str] | None = None) -> None:
    """Apply the add-ons and return when they are ready. `images` maps references in manifests to ones to use instead."""
    with part("add-ons: Gateway API, Traefik, Prometheus"):
        crds = definitions()
        kubectl("apply", "--server-side", "--force-conflicts", *[f"--filename={file}" for file in crds])
        for name in IN_ORDER:
            text = (MANIFESTS / name).read_text()
            for old, new in (images or {}).items():
                text = text.replace(f"image: {old}\n", f"image: {new}\n")
            kubectl("apply", "--filename=-", stdin=text)
        for namespace, name in (("traefik", "traefik"), ("monitoring", "prometheus")):
            _rolled_out(namespace, name)
        wait_for("the Gateway traefik/shop is programmed", _gateway_programmed, seconds=60, every=0.2)


def definitions() -> list[Path]:
    """Return the files with the Gateway API's CustomResourceDefinitions (standard channel)."""
    folder = gotools.module_folder("sigs.k8s.io/gateway-api") / "config" / "crd" / "standard"
    return sorted(folder.glob("gateway.networking.k8s.io_*.yaml"))


def _rolled_out(namespace: str, name: str) -> None:
    try:
        kubectl("--namespace", namespace, "rollout", "status", f"deployment/{name}", "--timeout=120s", timeout=130)
    except ClusterError as error:
        pods = kubectl("--namespace", namespace, "get", "pods", "--output=wide")
        raise ClusterError(f"Deployment {namespace}/{name} is not ready: {error}\n{pods}") from error


def _gateway_programmed() -> bool:
    gateway = get("gateway", "shop", "--namespace=traefik")
    conditions = gateway.get("status", {}).get("conditions", [])
    return any(each["type"] == "Programmed" and each["status"] == "True" for each in conditions)


def set_scrape_interval(interval: str) -> None:
    """Change how often Prometheus scrapes, such as "1s", and return when that is in force."""
    if not re.fullmatch(r"[1-9]\d*(ms|s|m)", interval):
        raise ClusterError(f"scrape interval {interval!r}: give a duration such as 1s, 500ms or 1m")
    config_map = get("configmap", "prometheus", "--namespace=monitoring")
    text = config_map["data"]["prometheus.yml"]
    for key in ("scrape_interval", "evaluation_interval"):
        text = re.sub(rf"^(  {key}:).*$", rf"\1 {interval}", text, flags=re.M)
    patch = json.dumps({"data": {"prometheus.yml": text}})
    kubectl("--namespace=monitoring", "patch", "configmap", "prometheus", "--type=merge", f"--patch={patch}")
    # The kubelet brings a changed ConfigMap into a pod about once a minute, or at once when the pod itself changes.
    kubectl(
        "--namespace=monitoring", "annotate", "pods", "--selector=app=prometheus", "--overwrite",
        f"serinus.dev/configured={time.time_ns()}",
    )  # fmt: skip
    wait_for(f"Prometheus scrapes every {interval}", lambda: _reloaded(interval), seconds=120, every=0.3)


def _reloaded(interval: str) -> bool:
    kubectl("create", "--raw", f"{PROMETHEUS_PROXY}/-/reload", "--filename=-", stdin="")
    answer = json.loads(kubectl("get", "--raw", f"{PROMETHEUS_PROXY}/api/v1/status/config"))
    active = yaml.safe_load(answer["data"]["yaml"])["global"]["scrape_interval"]
    return bool(active == interval)


def query(expression: str) -> list[dict[str, object]]:
    """Return the result of an instant query to the cluster's Prometheus."""
    path = f"{PROMETHEUS_PROXY}/api/v1/query?query={urllib.parse.quote(expression)}"
    result: list[dict[str, object]] = json.loads(kubectl("get", "--raw", path))["data"]["result"]
    return result

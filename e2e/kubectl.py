"""kubectl and helm against the cluster of `make cluster-up`, whichever kind it is."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kubernetes import config

ROOT = Path(__file__).parent.parent
CLUSTER = ROOT / ".cluster"
KUBECONFIG = CLUSTER / "kubeconfig"

Object = dict[str, Any]


class Failed(AssertionError):
    """A command refused; the message is its own."""


def environment() -> dict[str, str]:
    return {**os.environ, "KUBECONFIG": str(KUBECONFIG), "PATH": f"{CLUSTER / 'bin'}:{os.environ['PATH']}"}


def call(*command: str, stdin: str | None = None, check: bool = True, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Runs it. Raises Failed with what it said."""
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, env=environment(), cwd=ROOT, timeout=timeout, check=False
    )
    if check and done.returncode:
        raise Failed(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done


def run(*arguments: str, stdin: str | None = None, check: bool = True, timeout: float = 300) -> str:
    """kubectl; returns what it printed."""
    return call("kubectl", *arguments, stdin=stdin, check=check, timeout=timeout).stdout


def helm(*arguments: str) -> str:
    return call("helm", *arguments).stdout


def apply(*objects: Object, server_side: bool = False) -> str:
    """As a person does it."""
    body = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
    return run("apply", *(["--server-side"] if server_side else []), "-f", "-", stdin=body)


#: Reads are made in this process: a kubectl for each look of a waiting test would take the machine's time from what it waits for.
_PATHS = {
    "canary": "apis/serinus.dev/v1alpha1/{}/canaries",
    "release": "apis/serinus.dev/v1alpha1/{}/releases",
    "deployment": "apis/apps/v1/{}/deployments",
    "replicaset": "apis/apps/v1/{}/replicasets",
    "pod": "api/v1/{}/pods",
    "service": "api/v1/{}/services",
    "event": "api/v1/{}/events",
    "httproute": "apis/gateway.networking.k8s.io/v1/{}/httproutes",
    "grpcroute": "apis/gateway.networking.k8s.io/v1/{}/grpcroutes",
    "hpa": "apis/autoscaling/v2/{}/horizontalpodautoscalers",
    "pdb": "apis/policy/v1/{}/poddisruptionbudgets",
}
_ALIASES = {"canaries": "canary", "deploy": "deployment"}
_clients = threading.local()


def _get(path: str) -> tuple[int, bytes]:
    """One GET at the API server, with the kubeconfig's identity."""
    if not hasattr(_clients, "client"):
        _clients.client = config.new_client_from_config(str(KUBECONFIG))
    client = _clients.client
    headers = {"Accept": "application/json, */*"}
    request = client.param_serialize(method="GET", resource_path=path, header_params=headers, auth_settings=["BearerToken"])
    response = client.call_api(*request, _request_timeout=30)
    response.read()
    return response.status, response.data


def _read(path: str) -> Object | None:
    """None for 404."""
    status, data = _get(path)
    if status == 404:
        return None
    if status != 200:
        raise Failed(f"GET {path}: {status} {data[:300]!r}")
    found: Object = json.loads(data)
    return found


def _path(kind: str, namespace: str) -> str:
    name = _ALIASES.get(kind, kind)
    return "/" + _PATHS[name if name in _PATHS else name.removesuffix("s")].format(f"namespaces/{namespace}")


def get(kind: str, name: str, namespace: str) -> Object | None:
    """None where there is none."""
    return _read(f"{_path(kind, namespace)}/{name}")


def items(kind: str, namespace: str, selector: str = "") -> list[Object]:
    """Those that the label selector matches."""
    found = _read(_path(kind, namespace) + (f"?labelSelector={quote(selector)}" if selector else ""))
    return list((found or {}).get("items") or [])


def logs(pod: str, namespace: str) -> str:
    """What the pod has printed; "" before it runs."""
    status, data = _get(f"/api/v1/namespaces/{namespace}/pods/{pod}/log")
    return data.decode(errors="replace") if status == 200 else ""


def evict(pod: str, namespace: str) -> subprocess.CompletedProcess[str]:
    """Asks for the pod to go, as a node that is drained does; a PodDisruptionBudget may refuse."""
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace}}
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction"
    return call("kubectl", "create", "--raw", path, "-f", "-", stdin=json.dumps(body), check=False)


def until(what: str, look: Callable[[], Any], timeout: float = 60.0, every: float = 0.2) -> Any:
    """Waits for a condition: looks until it gets something true. Raises Failed with `what` and the last answer."""
    deadline, seen = time.monotonic() + timeout, None
    while time.monotonic() < deadline:
        if seen := look():
            return seen
        time.sleep(every)
    raise Failed(f"not so after {timeout:.0f} s: {what} (last: {seen!r})")


@contextmanager
def fresh_namespace(name: str) -> Iterator[str]:
    """A namespace of its own; what an earlier run left is removed first, and afterwards it goes."""
    run("delete", "namespace", name, "--ignore-not-found", "--wait", timeout=120)
    run("create", "namespace", name)
    try:
        yield name
    finally:
        run("delete", "canaries", "--all", "-n", name, "--wait", timeout=90, check=False)
        run("delete", "namespace", name, "--wait=false", "--ignore-not-found")

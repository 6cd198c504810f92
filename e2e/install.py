"""The operator into the cluster of `make cluster-up`, with its Helm chart; `--uninstall` takes it out again."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from e2e import kubectl
from e2e.cluster import local
from e2e.cluster.processes import Process
from e2e.kubectl import Object

NAMESPACE = "serinus-system"
RELEASE = "serinus"
PROMETHEUS = "http://prometheus.monitoring.svc:9090"
GATEWAY = "http://traefik-metrics.traefik.svc:9100/metrics"
#: "pause": as on clusters before Kubernetes 1.36, without the admission policies.
HOLD = os.environ.get("SERINUS_E2E_HOLD", "policy")


def install(*values: str) -> None:
    """Installs or upgrades, and waits until the operator leads. `values`: as helm's --set."""
    settings = [
        f"prometheus.url={PROMETHEUS}",
        f"gateway.metricsURLs={{{GATEWAY}}}",
        "image.repository=serinus/operator",
        "image.tag=dev",
    ]
    settings.append(f"admission.enabled={str(HOLD == 'policy').lower()}")
    sets = [word for value in (*settings, "image.pullPolicy=IfNotPresent", *values) for word in ("--set", value)]
    kubectl.helm("upgrade", "--install", RELEASE, "charts/serinus", "-n", NAMESPACE, "--create-namespace", *sets, "--wait")
    kubectl.run("-n", NAMESPACE, "rollout", "status", f"deployment/{RELEASE}", "--timeout=60s")


def restart() -> None:
    """The newest image: the tag stays the same, so the pod has to be made anew."""
    kubectl.run("-n", NAMESPACE, "delete", "pod", "-l", f"app.kubernetes.io/name={RELEASE}", "--wait", "--now")
    kubectl.run("-n", NAMESPACE, "rollout", "status", f"deployment/{RELEASE}", "--timeout=60s")


@contextmanager
def away() -> Iterator[None]:
    """Meanwhile no operator runs."""
    scale = ("scale", "deployment", RELEASE, "-n", NAMESPACE)
    kubectl.run(*scale, "--replicas=0")
    try:
        kubectl.until("the operator is gone", lambda: not kubectl.items("pods", NAMESPACE))
        yield
    finally:
        kubectl.run(*scale, "--replicas=1")
        kubectl.run("-n", NAMESPACE, "rollout", "status", f"deployment/{RELEASE}", "--timeout=60s")


@dataclass(frozen=True)
class Running:
    """The operator's pod and, where the cluster's processes are this machine's, its process."""

    pod: str
    process: Process | None

    def kill(self) -> None:
        """SIGKILL, at once. Then the pod goes, so that no back-off delays the next one."""
        if self.process:
            self.process.send(signal.SIGKILL)
        kubectl.run("delete", "pod", self.pod, "-n", NAMESPACE, "--grace-period=0", "--force", "--wait=false", check=False)


def running(but: str = "") -> Running:
    """Waits for an operator's pod that is not called `but`, and looks its process up."""

    def look() -> tuple[str, str] | None:
        for pod in kubectl.items("pods", NAMESPACE, f"app.kubernetes.io/name={RELEASE}"):
            name, containers = pod["metadata"]["name"], pod.get("status", {}).get("containerStatuses") or []
            if name != but and not pod["metadata"].get("deletionTimestamp") and any("running" in c["state"] for c in containers):
                return name, containers[0]["containerID"].removeprefix("containerd://")
        return None

    pod, container = kubectl.until("an operator runs", look)
    return Running(pod, local.process_of(container))


def forget_lease() -> None:
    """The next operator leads at once, as if the time that a dead one's Lease has left were over."""
    spec: Object = {"holderIdentity": None, "acquireTime": None, "renewTime": None, "leaseDurationSeconds": 1}
    kubectl.run("patch", "lease", RELEASE, "-n", NAMESPACE, "--type=merge", "-p", json.dumps({"spec": spec}))


def uninstall() -> None:
    """The operator goes; CRDs stay, as the chart's keep policy says."""
    kubectl.helm("uninstall", RELEASE, "-n", NAMESPACE, "--ignore-not-found", "--wait")


def main() -> int:
    """0 when done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uninstall", action="store_true")
    parser.add_argument("--restart", action="store_true", help="after `make images`")
    parser.add_argument("--set", action="append", default=[], help="as helm's --set")
    arguments = parser.parse_args()
    began = time.monotonic()
    if arguments.uninstall:
        uninstall()
    else:
        install(*arguments.set)
        if arguments.restart:
            restart()
    print(f"done in {time.monotonic() - began:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())

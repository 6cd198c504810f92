"""The operator into the cluster of `make cluster-up`, with its Helm chart; `--uninstall` takes it out again."""

from __future__ import annotations

import argparse
import sys
import time

from e2e import kubectl

NAMESPACE = "serinus-system"
RELEASE = "serinus"
PROMETHEUS = "http://prometheus.monitoring.svc:9090"


def install(*values: str) -> None:
    """Installs or upgrades, and waits until the operator leads. `values`: as helm's --set."""
    settings = [f"prometheus.url={PROMETHEUS}", "image.repository=serinus/operator", "image.tag=dev"]
    sets = [word for value in (*settings, "image.pullPolicy=IfNotPresent", *values) for word in ("--set", value)]
    kubectl.helm("upgrade", "--install", RELEASE, "charts/serinus", "-n", NAMESPACE, "--create-namespace", *sets, "--wait")
    kubectl.run("-n", NAMESPACE, "rollout", "status", f"deployment/{RELEASE}", "--timeout=60s")


def restart() -> None:
    """The newest image: the tag stays the same, so the pod has to be made anew."""
    kubectl.run("-n", NAMESPACE, "delete", "pod", "-l", f"app.kubernetes.io/name={RELEASE}", "--wait", "--now")
    kubectl.run("-n", NAMESPACE, "rollout", "status", f"deployment/{RELEASE}", "--timeout=60s")


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

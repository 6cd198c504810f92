"""kubectl against the cluster whose kubeconfig stands in `.cluster/kubeconfig`."""

import json
from typing import Any

from e2e.cluster.console import ClusterError
from e2e.cluster.paths import BIN, KUBECONFIG
from e2e.cluster.run import run


def kubectl(*words: str, stdin: str | None = None, timeout: float = 120) -> str:
    """Run kubectl and return what it printed. Raises ClusterError with its message if it fails."""
    return run([BIN / "kubectl", f"--kubeconfig={KUBECONFIG}", *words], stdin=stdin, timeout=timeout)


def get(*words: str) -> Any:
    """Return what `kubectl get` finds, as it comes from the API."""
    return json.loads(kubectl("get", *words, "--output=json"))


def ready() -> bool:
    """Whether the API server answers and says that it is ready."""
    try:
        return KUBECONFIG.exists() and kubectl("get", "--raw=/readyz", "--request-timeout=3s").strip() == "ok"
    except ClusterError:
        return False

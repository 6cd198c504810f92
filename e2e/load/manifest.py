"""The manifest of the pod that runs load.py in the cluster."""

from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("load.py")
IMAGE = "serinus/operator:dev"


def manifest(
    name: str,
    *,
    namespace: str,
    host: str = "",
    url: str = "http://traefik.traefik/",
    rate: float = 100,
    duration: float = 60,
    concurrency: int = 64,
    image: str = IMAGE,
) -> list[dict[str, Any]]:
    """Return a ConfigMap with the script and a Pod that runs it once.

    The pod sends `rate` requests a second for `duration` seconds, with the Host header `host`. Its log is the JSON lines that
    load.py describes; it ends by itself, and Kubernetes ends it half a minute later if it does not.
    """
    metadata = {"name": name, "namespace": namespace, "labels": {"app": name, "serinus.dev/load": "true"}}
    arguments = {"url": url, "host": host, "rate": rate, "duration": duration, "concurrency": concurrency}
    container = {
        "name": "load",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "/load/load.py", *[f"--{key}={value}" for key, value in arguments.items()]],
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "script", "mountPath": "/load", "readOnly": True}],
    }
    spec = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": int(duration) + 30,
        "terminationGracePeriodSeconds": 10,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "script", "configMap": {"name": name}}],
    }
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"load.py": SCRIPT.read_text()}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec},
    ]

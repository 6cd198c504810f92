"""The demo shop: what a team would have before it meets Serinus, and the Canary it then adds.

A Deployment of `serinus/shop:1`, its Service, an HTTPRoute at the cluster's Gateway. Plain manifests, as kubectl takes them.
"""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]

IMAGE = "serinus/shop:1"
PORT = 8080
#: Traefik counts at the gateway, the same place for both versions: by route, rule and backendRef (docs/metrics.md).
_SERIES = 'service=~".+-svc-{{ namespace }}-{{ service }}-[0-9]+@kubernetesgateway"'
BAD = f'traefik_service_requests_total{{{_SERIES},code=~"5.."}}'
TOTAL = f"traefik_service_requests_total{{{_SERIES}}}"


def namespace(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def deployment(name: str, space: str, replicas: int = 3, **env: str) -> Object:
    """The user's own Deployment. `env`: MESSAGE, FAIL_RATE, CRASH, …"""
    labels = {"app": name}
    container = {
        "name": "shop",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "ports": [{"containerPort": PORT}],
        "env": [{"name": key, "value": value} for key, value in env.items()],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": PORT}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": space, "labels": {"serinus.dev/canary": name}},
        "spec": {
            "replicas": replicas,
            "minReadySeconds": 2,  # a native rollout ends an old pod when the gateway knows the new one: docs/operations.md
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


def service(name: str, space: str) -> Object:
    ports = [{"name": "http", "port": 80, "targetPort": PORT}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": space},
        "spec": {"selector": {"app": name}, "ports": ports},
    }


def route(name: str, space: str) -> Object:
    """At the shop Gateway, by the host `<name>.<namespace>.example`."""
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": space},
        "spec": {
            "parentRefs": [{"name": "shop", "namespace": "traefik"}],
            "hostnames": [host(name, space)],
            "rules": [{"backendRefs": [{"name": name, "port": 80}]}],
        },
    }


def host(name: str, space: str) -> str:
    return f"{name}.{space}.example"


def canary(name: str, space: str, steps: list[Object], **analysis: Any) -> Object:
    """10, 25, 50, 100 % or whatever `steps` says; one check, on failed requests at the gateway.

    The shop draws lots for each request, so its errors are independent.
    """
    metrics = [{"name": "errors", "ratio": {"bad": BAD, "total": TOTAL}, "harm": "1%"}]
    return {
        "apiVersion": "serinus.dev/v1alpha1",
        "kind": "Canary",
        "metadata": {"name": name, "namespace": space},
        "spec": {
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "service": {"name": name, "port": 80},
            "traffic": {"gatewayAPI": {"httpRoutes": [{"name": name}]}},
            "steps": steps,
            "analysis": {"interval": "1s", "metrics": metrics, "independentErrors": True, **analysis},
            "rollback": {"keepCanaryFor": "5s"},
        },
    }


def steps(duration: str, *weights: int) -> list[Object]:
    return [{"weight": weight, "duration": duration} for weight in weights]

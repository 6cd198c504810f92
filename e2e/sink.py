"""A receiver of CDEvents for the tests: keeps what it gets, and can be told to be out of order.

As a module it makes the objects that run it in the cluster, and reads back what it got through the API server's proxy. As a
script, in the Pod, it needs Python 3.11 and aiohttp alone:

    POST /                      an event: 202, or 503 while its namespace is told to be refused
    GET /events                 every request so far: [{"at": seconds, "status": 202, "event": {…}}]
    GET /refuse?namespace=x     answer 503 to events about x from now on
    GET /accept?namespace=x     take them again
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

NAME, NAMESPACE, PORT = "sink", "serinus-e2e", 8080
URL = f"http://{NAME}.{NAMESPACE}.svc:{PORT}/"


def manifest() -> list[dict[str, Any]]:
    """ConfigMap, Pod and Service."""
    metadata = {"name": NAME, "namespace": NAMESPACE, "labels": {"app": NAME}}
    container = {
        "name": "sink",
        "image": "serinus/operator:dev",
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "/sink/sink.py"],
        "readinessProbe": {"httpGet": {"path": "/events", "port": PORT}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "10m", "memory": "48Mi"}, "limits": {"memory": "128Mi"}},
        "volumeMounts": [{"name": "script", "mountPath": "/sink", "readOnly": True}],
    }
    spec = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "script", "configMap": {"name": NAME}}],
    }
    port = {"name": "http", "port": PORT, "targetPort": PORT}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"sink.py": Path(__file__).read_text()}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec},
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"selector": {"app": NAME}, "ports": [port]}},
    ]


def ask(path: str) -> Any:
    """GET through the API server, which works on any cluster."""
    from e2e import kubectl  # not there in the Pod

    text = kubectl.run("get", "--raw", f"/api/v1/namespaces/{NAMESPACE}/services/{NAME}:{PORT}/proxy/{path}")
    return json.loads(text)


def received(namespace: str, taken: bool = True) -> list[dict[str, Any]]:
    """What came about releases in this namespace, in order; with `taken`, only what was answered with 202."""
    return [
        entry for entry in ask("events") if environment(entry["event"]) == namespace and (entry["status"] == 202 or not taken)
    ]


def kinds(namespace: str) -> list[str]:
    """The types of what was taken, short: service.deployed, incident.detected, …"""
    return [kind(entry["event"]) for entry in received(namespace)]


def kind(event: dict[str, Any]) -> str:
    """dev.cdevents.service.deployed.0.3.0 -> service.deployed."""
    return ".".join(str(event["context"]["type"]).split(".")[2:4])


def environment(event: Any) -> str:
    """The namespace that an event is about."""
    try:
        return str(event["subject"]["content"]["environment"]["id"])
    except (KeyError, TypeError):
        return ""


def main() -> None:
    """Serves until it is told to stop."""
    from aiohttp import web

    log: list[dict[str, Any]] = []
    refused: set[str] = set()

    async def take(request: web.Request) -> web.Response:
        event = (await request.json())["data"]  # CloudEvents' structured mode
        status = 503 if environment(event) in refused else 202
        log.append({"at": time.time(), "status": status, "event": event})
        return web.Response(status=status)

    async def events(_: web.Request) -> web.Response:
        return web.json_response(log)

    async def refuse(request: web.Request) -> web.Response:
        refused.add(request.query["namespace"])
        return web.json_response(sorted(refused))

    async def accept(request: web.Request) -> web.Response:
        refused.discard(request.query["namespace"])
        return web.json_response(sorted(refused))

    app = web.Application()
    app.add_routes([web.post("/", take), web.get("/events", events), web.get("/refuse", refuse), web.get("/accept", accept)])
    web.run_app(app, port=PORT, print=None)


if __name__ == "__main__":
    main()

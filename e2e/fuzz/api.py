"""The API server as the fuzzer asks it: any body, and the answer whatever it is."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from typing import Any

from e2e import kubectl
from e2e.kubectl import Object
from kubernetes import config

MERGE, JSON_PATCH, STRATEGIC = "merge-patch+json", "json-patch+json", "strategic-merge-patch+json"
_clients = threading.local()


@dataclass(frozen=True)
class Answer:
    """What came back; `body` is the object, or the Status that says why not."""

    code: int
    body: Object

    @property
    def ok(self) -> bool:
        """It was accepted."""
        return 200 <= self.code <= 299

    @property
    def message(self) -> str:
        """Why not; empty if it was accepted."""
        return "" if self.ok else str(self.body.get("message", self.body))


PATHS = {
    "namespace": "/api/v1/namespaces",
    "service": "/api/v1/namespaces/{}/services",
    "pod": "/api/v1/namespaces/{}/pods",
    "deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "canary": "/apis/serinus.dev/v1alpha1/namespaces/{}/canaries",
    "release": "/apis/serinus.dev/v1alpha1/namespaces/{}/releases",
    "metrictemplate": "/apis/serinus.dev/v1alpha1/namespaces/{}/metrictemplates",
    "httproute": "/apis/gateway.networking.k8s.io/v1/namespaces/{}/httproutes",
    "pdb": "/apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "hpa": "/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers",
}


def ask(method: str, path: str, body: Any = None, content: str = "json", **query: str) -> Answer:
    """One request. Never raises for an answer, whatever it is."""
    if not hasattr(_clients, "client"):
        _clients.client = config.new_client_from_config(str(kubectl.KUBECONFIG))  # type: ignore[no-untyped-call]
    client = _clients.client
    headers = {"Accept": "application/json", "Content-Type": f"application/{content}"}
    request = client.param_serialize(
        method=method,
        resource_path=path,
        query_params=list(query.items()),
        header_params=headers,
        body=body,
        auth_settings=["BearerToken"],
    )
    response = client.call_api(*request, _request_timeout=30)
    response.read()
    try:
        answer = json.loads(response.data)
    except ValueError:
        answer = {"message": response.data.decode(errors="replace")}
    return Answer(response.status, answer if isinstance(answer, dict) else {"message": str(answer)})


def create(kind: str, space: str, body: Object, **query: str) -> Answer:
    """POST; as kubectl does it, fields that nobody knows are refused."""
    return ask("POST", PATHS[kind].format(space), body, **{"fieldValidation": "Strict", **query})


def get(kind: str, space: str, name: str) -> Object | None:
    """None where there is none."""
    found = ask("GET", f"{PATHS[kind].format(space)}/{name}")
    return found.body if found.ok else None


def items(kind: str, space: str) -> list[Object]:
    """All of them."""
    return list(ask("GET", PATHS[kind].format(space)).body.get("items") or [])


def patch(kind: str, space: str, name: str, body: Any, content: str = MERGE, **query: str) -> Answer:
    """PATCH."""
    return ask("PATCH", f"{PATHS[kind].format(space)}/{name}", body, content, **query)


def put(kind: str, space: str, body: Object, **query: str) -> Answer:
    """PUT, as `kubectl replace` does it: with the version that is there, and nothing kept that `body` does not have."""
    name = body["metadata"]["name"]
    now = get(kind, space, name)
    if now is None:
        return create(kind, space, body, **query)
    body = {**body, "metadata": {**body["metadata"], "resourceVersion": now["metadata"]["resourceVersion"]}}
    if kind == "service":
        body["spec"] = {**body["spec"], "clusterIP": now["spec"]["clusterIP"]}
    if "finalizers" in now["metadata"]:
        body["metadata"].setdefault("finalizers", now["metadata"]["finalizers"])
    return ask("PUT", f"{PATHS[kind].format(space)}/{name}", body, **{"fieldValidation": "Strict", **query})


def delete(kind: str, space: str, name: str, policy: str = "Background") -> Answer:
    """DELETE."""
    return ask("DELETE", f"{PATHS[kind].format(space)}/{name}", {"propagationPolicy": policy})

"""The API server, as everything here talks to it: plain objects in and out, a timeout and a named content type on each call.

Built on the official client's async core (kubernetes.aio); its typed models are left out, because what users wrote must
come back exactly as it was.

    KubeError
    ├── NotFound        404
    ├── AlreadyExists   409 on create
    ├── Conflict        409, or a failed JSON Patch `test` (422): read again, decide again
    └── Unreachable     no answer, or none within the timeout
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.exceptions import ApiException

Object = dict[str, Any]

#: Our one name in managedFields.
FIELD_MANAGER = "serinus"
TIMEOUT = 10.0


class KubeError(Exception):
    """The API server refused; `status` is HTTP's, the message is its own sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class NotFound(KubeError):
    """There is no such object."""


class AlreadyExists(KubeError):
    """There is one already."""


class Conflict(KubeError):
    """Somebody else was first."""


class Unreachable(KubeError):
    """No answer."""


@dataclass(frozen=True)
class Kind:
    """Where a kind of object lives."""

    group: str
    version: str
    plural: str

    def path(self, namespace: str | None, name: str = "", subresource: str = "") -> str:
        """The path of one object, or of a collection."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        parts = [root, f"namespaces/{namespace}" if namespace else "", self.plural, name, subresource]
        return "/".join(part for part in parts if part)


CANARIES = Kind("serinus.dev", "v1alpha1", "canaries")
RELEASES = Kind("serinus.dev", "v1alpha1", "releases")
TEMPLATES = Kind("serinus.dev", "v1alpha1", "metrictemplates")
DEPLOYMENTS = Kind("apps", "v1", "deployments")
REPLICA_SETS = Kind("apps", "v1", "replicasets")
PODS = Kind("", "v1", "pods")
SERVICES = Kind("", "v1", "services")
EVENTS = Kind("", "v1", "events")
LEASES = Kind("coordination.k8s.io", "v1", "leases")
BUDGETS = Kind("policy", "v1", "poddisruptionbudgets")
AUTOSCALERS = Kind("autoscaling", "v2", "horizontalpodautoscalers")
ROUTES = {
    "HTTPRoute": Kind("gateway.networking.k8s.io", "v1", "httproutes"),
    "GRPCRoute": Kind("gateway.networking.k8s.io", "v1", "grpcroutes"),
}


async def connect() -> Kube:
    """In the cluster by the service account, elsewhere by the kubeconfig. Raises ConfigException where there is neither."""
    configuration = Configuration()
    try:
        config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except config.ConfigException:
        await config.load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    configuration.connection_pool_maxsize = 50
    return Kube(ApiClient(configuration))


class Kube:
    """Reads and writes. Every call may raise KubeError."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    async def close(self) -> None:
        """Ends the session."""
        await self._client.close()  # type: ignore[no-untyped-call]

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Object:
        """One object. Raises NotFound."""
        return await self._call("GET", kind.path(namespace, name))

    async def ping(self) -> None:
        """Asks for the server's version, which anybody may."""
        await self._call("GET", "/version")

    async def find(self, kind: Kind, namespace: str | None, name: str) -> Object | None:
        """One object, or None."""
        try:
            return await self.get(kind, namespace, name)
        except NotFound:
            return None

    async def list(self, kind: Kind, namespace: str | None, selector: str = "") -> list[Object]:
        """All objects that match the label selector."""
        answer = await self._call("GET", kind.path(namespace), {"labelSelector": selector} if selector else {})
        items: list[Object] = answer.get("items") or []
        return items

    async def create(self, kind: Kind, namespace: str, body: Object) -> Object:
        """Raises AlreadyExists."""
        try:
            return await self._call("POST", kind.path(namespace), {"fieldManager": FIELD_MANAGER}, body)
        except Conflict as error:
            raise AlreadyExists(error.status, str(error)) from error

    async def merge(self, kind: Kind, namespace: str, name: str, body: Object, subresource: str = "") -> Object:
        """JSON merge patch (RFC 7386). With metadata.resourceVersion in the body it is a precondition."""
        return await self._patch(kind, namespace, name, body, "application/merge-patch+json", subresource)

    async def patch(
        self, kind: Kind, namespace: str, name: str, operations: Sequence[Mapping[str, Any]], subresource: str = ""
    ) -> Object:
        """JSON Patch (RFC 6902). A failed `test` raises Conflict."""
        return await self._patch(kind, namespace, name, list(operations), "application/json-patch+json", subresource)

    async def replace(self, kind: Kind, namespace: str, name: str, body: Object) -> Object:
        """PUT; the body's resourceVersion is a precondition."""
        return await self._call("PUT", kind.path(namespace, name), {"fieldManager": FIELD_MANAGER}, body)

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str = "") -> None:
        """Gone already is as good. With a uid only that very object is removed."""
        body: Object = {"propagationPolicy": "Background"}
        if uid:
            body["preconditions"] = {"uid": uid}
        try:
            await self._call("DELETE", kind.path(namespace, name), {}, body)
        except NotFound:
            return

    async def _patch(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        body: Any,
        content: str,
        subresource: str,
        parameters: dict[str, str] | None = None,
    ) -> Object:
        query = {"fieldManager": FIELD_MANAGER, **(parameters or {})}
        return await self._call("PATCH", kind.path(namespace, name, subresource), query, body, content)

    async def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content: str = "application/json",
    ) -> Object:
        request = await self._client.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params={"Accept": "application/json", "Content-Type": content},
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            response = await self._client.call_api(*request, _request_timeout=TIMEOUT)
            data = await response.read()  # type: ignore[no-untyped-call]
        except ApiException as error:
            raise _refusal(error.status, error.body or error.reason, method) from error
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise Unreachable(0, f"{method} {path}: no answer from the API server: {error!r}") from error
        if not 200 <= response.status <= 299:
            raise _refusal(response.status, data, method)
        try:
            answer: Object = json.loads(data)
        except ValueError:
            raise Unreachable(0, f"{method} {path}: something that is no API server answered: {data[:200]!r}") from None
        return answer


def _refusal(status: int | None, body: Any, method: str) -> KubeError:
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body)
    try:
        message = json.loads(text).get("message") or text
    except (ValueError, AttributeError):
        message = text[:500]
    kinds: dict[int | None, type[KubeError]] = {404: NotFound, 409: Conflict}
    # A failed `test` operation is answered with 422 and, instead of naming it, these words.
    if status == 422 and method == "PATCH" and ("due to an error in our request" in message or "test failed" in message):
        return Conflict(422, "a JSON Patch test failed: the object has changed since it was read")
    return kinds.get(status, KubeError)(status or 0, message)

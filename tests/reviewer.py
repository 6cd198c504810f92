"""An API server that knows two things: whose a token is, and who may what."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

OWN = "the-services-own"


@dataclass
class Reviewer:
    """Tokens by users, users by verbs, and what was asked."""

    users: dict[str, str] = field(default_factory=lambda: {"m": "mona", "r": "robin", "n": "nobody-in-particular"})
    rights: dict[str, set[str]] = field(default_factory=lambda: {"mona": {"get", "update"}, "robin": {"get"}})
    away: bool = False
    #: Audiences that tokens are for; None: it knows nothing of audiences.
    audiences: set[str] | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    async def token(self, request: web.Request) -> web.Response:
        body = await self._read(request)
        user = self.users.get(body["spec"]["token"])
        status: dict[str, Any] = {"authenticated": False}
        if user:
            status = {"authenticated": True, "user": {"username": user, "uid": "7", "groups": ["system:authenticated"]}}
        if user and self.audiences is not None:
            status["audiences"] = sorted(self.audiences & set(body["spec"].get("audiences", ())))
        return web.json_response(body | {"status": status}, status=201)

    async def access(self, request: web.Request) -> web.Response:
        body = await self._read(request)
        spec = body["spec"]
        assert spec["groups"] == ["system:authenticated"]
        assert spec["uid"] == "7"
        assert {**spec["resourceAttributes"], "verb": ""} == {"group": "serinus.dev", "resource": "deliveries", "verb": ""}
        allowed = spec["resourceAttributes"]["verb"] in self.rights.get(spec["user"], ())
        return web.json_response(body | {"status": {"allowed": allowed}}, status=201)

    async def _read(self, request: web.Request) -> dict[str, Any]:
        if self.away:
            raise web.HTTPInternalServerError(text=json.dumps({"message": "etcd is away"}))
        if request.headers.get("Authorization") != f"Bearer {OWN}":
            raise web.HTTPForbidden(text=json.dumps({"message": "you may not ask that"}))
        body: dict[str, Any] = await request.json()
        self.asked.append(body)
        return body

    def kubeconfig(self, folder: Path) -> Path:
        """A file by which the service finds it."""
        known = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": self.url}}],
            "users": [{"name": "u", "user": {"token": OWN}}],
        }
        path = folder / "kubeconfig"
        path.write_text(json.dumps(known))
        return path


@asynccontextmanager
async def reviewing() -> AsyncIterator[Reviewer]:
    """One that answers on loopback."""
    reviewer = Reviewer()
    app = web.Application()
    app.router.add_post("/apis/authentication.k8s.io/v1/tokenreviews", reviewer.token)
    app.router.add_post("/apis/authorization.k8s.io/v1/subjectaccessreviews", reviewer.access)
    async with TestServer(app) as server:
        reviewer.url = str(server.make_url("")).rstrip("/")
        yield reviewer

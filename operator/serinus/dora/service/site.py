"""The page itself: files that are read once and served as they are, and what its lists of scopes offer.

No script, style or picture comes from anywhere else, and the browser is told to see to it.
https://www.w3.org/TR/CSP3/
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from pydantic import BaseModel
from sqlalchemy import Engine, select

from serinus.dora.catalog import Catalog
from serinus.dora.store.schema import weeks

_FOLDER = Path(__file__).parent / "web"
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # It is asked each time whether there is a newer one: a page of one version never gets another's scripts.
    "Cache-Control": "no-cache",
}
#: How far back a service is offered, and how many of them at most.
OFFERED, MOST = timedelta(weeks=52), 5_000


class Choice(BaseModel):
    """A service, and whose it is."""

    service: str
    team: str


class Scopes(BaseModel):
    """What can be chosen. `more`: there are more services than are listed."""

    services: list[Choice]
    teams: list[str]
    environments: list[str]
    more: bool


def scopes(engine: Engine, catalog: Catalog, now: datetime) -> Scopes:
    """The services and environments of the last year, and the teams that have them. Read from an index alone."""
    known = select(weeks.c.service, weeks.c.environment).distinct().where(weeks.c.monday > (now - OFFERED).toordinal())
    with engine.connect() as connection:
        rows = connection.execute(known.order_by(weeks.c.service, weeks.c.environment).limit(MOST + 1)).all()
    services = [Choice(service=name, team=catalog.service(name).team) for name in sorted({row.service for row in rows[:MOST]})]
    return Scopes(
        services=services,
        teams=sorted({choice.team for choice in services} - {""}),
        environments=sorted({row.environment for row in rows[:MOST]} - {""}),
        more=len(rows) > MOST,
    )


async def offered(request: Request) -> Scopes:
    """The services, teams and environments that there are."""
    known = request.app.state.service
    return await asyncio.to_thread(scopes, known.engine, known.config.catalog, datetime.now(UTC))


def register(app: FastAPI, may_read: Callable[..., Any]) -> None:
    """`/`, `/static/…` and `/scopes`. The files say nothing of anybody: whoever asks may have them."""
    files = {file.name: (file.read_bytes(), _KINDS[file.suffix]) for file in sorted(_FOLDER.iterdir()) if file.suffix in _KINDS}
    tags = {name: f'"{hashlib.sha256(content).hexdigest()[:32]}"' for name, (content, _) in files.items()}

    async def file(request: Request, name: str) -> Response:
        if name not in files:
            raise HTTPException(404, f"there is no file {name}")
        headers = _HEADERS | {"ETag": tags[name]}
        if request.headers.get("if-none-match") == tags[name]:
            return Response(status_code=304, headers=headers)
        content, kind = files[name]
        return Response(content, media_type=kind, headers=headers)

    async def index(request: Request) -> Response:
        return await file(request, "index.html")

    app.get("/", include_in_schema=False)(index)
    app.get("/static/{name}", include_in_schema=False)(file)
    app.get("/scopes", dependencies=[Depends(may_read)])(offered)

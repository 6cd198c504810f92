"""/metrics, /healthz and /readyz on one port."""

from __future__ import annotations

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from serinus.controller.telemetry import Progress


def application(progress: Progress) -> web.Application:
    """The three pages."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def healthz(_: web.Request) -> web.Response:
        problem = progress.problem()
        return web.Response(status=500 if problem else 200, text=problem or "ok")

    async def readyz(_: web.Request) -> web.Response:
        # A standby is ready too: it serves nothing, and an update must not wait for it to lead.
        return web.Response(status=200 if progress.ready else 503, text="ok" if progress.ready else "starting")

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics), web.get("/healthz", healthz), web.get("/readyz", readyz)])
    return app


async def serve(progress: Progress, port: int) -> web.AppRunner:
    """Listens on every address; the caller cleans the runner up."""
    runner = web.AppRunner(application(progress), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, port=port).start()
    return runner

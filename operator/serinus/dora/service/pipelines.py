"""`GET /pipelines`: how long pipelines wait and take, their tests and their coverage."""

from __future__ import annotations

import asyncio
from datetime import date, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from fastapi import HTTPException, Request
from pydantic import BaseModel

from serinus.dora.figures import Window
from serinus.dora.metrics import Scope
from serinus.dora.pipelines import Pipelines

if TYPE_CHECKING:
    from serinus.dora.service.app import Service


class Report(BaseModel):
    """Of one scope in one window. Moments are seconds since 1970, durations seconds; null: there is nothing to say."""

    start: datetime
    end: datetime
    zone: str
    scope: Scope
    pipelines: Pipelines


async def pipelines(request: Request, start: date, end: date, service: str = "", team: str = "") -> Report:
    """Pipelines of the scope's repositories, from the first midnight of `start` to that of `end`, in the configured time zone.

    A run, a job, an upload counts when it ended. `shorten.first` says in a sentence which stage to shorten first.
    """
    known: Service = request.app.state.service
    try:
        window = Window.of_days(start, end, ZoneInfo(known.config.zone))
    except ValueError as wrong:
        raise HTTPException(422, str(wrong)) from None
    scope = Scope(service, team)
    found = await asyncio.to_thread(_read, known, scope, window)
    return Report(start=window.start, end=window.end, zone=str(window.zone), scope=scope, pipelines=found)


def _read(known: Service, scope: Scope, window: Window) -> Pipelines:
    deliveries = known.keeper.shelf(scope, window).deliveries.within(window.interval)
    return known.follower.report(scope, window, deliveries)

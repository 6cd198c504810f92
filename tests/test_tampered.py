"""What people do to the canary's own objects in mid-release: the release goes on, or goes back, and ends. The real loop."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.test_killed_anywhere import (
    GOOD,
    KEY,
    PAUSED,
    RESUME,
    TO_END,
    Scenario,
    World,
    annotate,
    live,
    nothing_unforeseen,
    outcome,
    sound,
    virtual_time,
)

from serinus.kube import SERVICES

__all__ = ["nothing_unforeseen", "virtual_time"]  # fixtures


def without_service(then: Callable[[World], object]) -> Callable[[World], object]:
    """Somebody deletes the canary's Service, and then this is done."""

    def deed(world: World) -> None:
        world.server.delete(SERVICES, KEY.namespace, "web-canary")
        then(world)

    return deed


@pytest.mark.parametrize(
    ("then", "end"),
    [(RESUME[1], TO_END.split()[-1]), (annotate("abort", "{}"), "Aborted")],
    ids=["goes on", "goes back"],
)
def test_a_canary_service_that_was_deleted_is_made_again(then: Callable[[World], object], end: str) -> None:
    world = live(World.of(Scenario((GOOD, (PAUSED, without_service(then))), "", "")), sound)
    assert world.stages[-2:] == ["Ended", end]
    assert not [key for key in outcome(world) if "canary" in key]

"""No router: canary pods stand behind the user's Service, and their share follows their number."""

from __future__ import annotations

from collections.abc import Callable

from serinus.api.release import RouteRecord
from serinus.rollout.observation import RouteView
from serinus.rollout.plan import share_of_pods


class PodRatioRouter:
    """Nothing to write: the loop's scaling is the routing. `counts` gives (canary pods, serving pods), ready ones."""

    def __init__(self, counts: Callable[[], tuple[int, int]]) -> None:
        self._counts = counts

    async def observe(self) -> RouteView:
        """The share that the pods have now. Traffic is back when no canary pod is left that could get any."""
        canary, serving = self._counts()
        return RouteView(weight=share_of_pods(canary, serving), by_pods=True)

    @property
    def controllers(self) -> list[str]:
        """There is no route."""
        return []

    def capture(self, known: list[RouteRecord]) -> list[RouteRecord]:
        """No route to remember."""
        return known

    async def take(self, weight: int) -> bool:
        """The loop scales the canary."""
        return False

    async def write(self, weight: int) -> bool:
        """The loop scales the canary."""
        return False

    async def restore(self, records: list[RouteRecord]) -> bool:
        """Nothing was changed."""
        return False

"""What every router can do. The loop knows nothing else of them."""

from __future__ import annotations

from typing import Protocol

from serinus.api.release import RouteRecord
from serinus.rollout.observation import RouteView


class Router(Protocol):
    """Splits one Service's traffic between the version that serves and the one that is judged."""

    async def observe(self) -> RouteView:
        """Reads the routes and what their controllers say of them. Keeps what it read for the calls below."""

    @property
    def controllers(self) -> list[str]:
        """The names of the Gateway controllers that have taken the routes on; none where there is no route."""

    def capture(self, known: list[RouteRecord]) -> list[RouteRecord]:
        """The routes as they were before our first write; to be stored before `write`."""

    async def take(self, weight: int) -> bool:
        """Takes what the canary has above `weight` percent, and gives none anywhere. True if anything was written."""

    async def write(self, weight: int) -> bool:
        """Gives the canary `weight` percent. True if anything was written. Raises Conflict when somebody else was first."""

    async def restore(self, records: list[RouteRecord]) -> bool:
        """Puts the routes back as they were. True if anything was written."""

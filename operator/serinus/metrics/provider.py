"""What a source of numbers has to do, and how it says that it could not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from serinus.analysis.counters import Labels

#: Characters of a query that a sentence shows.
_LONGEST = 300


def shown(query: str) -> str:
    """A query on one line, for people."""
    line = " ".join(query.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"


class MetricError(Exception):
    """A check could not be asked. The text is one sentence for people.

    ::

        MetricError
        +-- MetricUnreachable    no answer: refused, timed out, name unknown
        +-- MetricRefused        an answer that says no: an HTTP status, the source's own error text
        +-- MetricUnusable       an answer that is not what the check needs: HTML, several series, a wrong type
        +-- MetricMisconfigured  never asked: an unknown variable, a missing argument or limit

    `query` is what was asked, where one query is to blame; the text then ends with it.
    """

    def __init__(self, text: str, query: str = "") -> None:
        super().__init__(f"{text}; asked: {shown(query)}" if query else text)


class MetricUnreachable(MetricError):
    """No answer in time, or none at all."""


class MetricRefused(MetricError):
    """The source answered with an error."""


class MetricUnusable(MetricError):
    """The source answered with something that cannot be judged."""


class MetricMisconfigured(MetricError):
    """The check itself is wrong; asking again will not help."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Counters as they were at one moment (`at`, by our own clock): for each query its series.

    `sampled` has, for each target that is scraped for them, when its newest sample was taken, by our own clock. It is empty
    where the source does not say, or is no scrape. `pages` are those that were read, where the source is pages.
    """

    at: datetime
    series: Mapping[str, Mapping[Labels, float]]
    sampled: Mapping[str, datetime] = field(default_factory=dict)
    pages: frozenset[str] = frozenset()


class Provider(Protocol):
    """A source of numbers. Every method answers or raises `MetricError` within a few seconds."""

    async def counters(self, queries: Mapping[str, str], at: datetime | None = None) -> Snapshot:
        """All series of all `queries` (by a name for each) at one moment: now, or `at` by our own clock.

        None of the values is negative, infinite or NaN.
        """
        ...

    async def value(self, query: str, at: datetime) -> float | None:
        """The one number that `query` has at `at`; may be NaN; None where it has none."""
        ...

    async def close(self) -> None:
        """Ends what is under way and the idle connections."""
        ...

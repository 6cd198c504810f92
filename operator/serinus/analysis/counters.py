"""Counters between looks: how much they rose, over many series, through resets.

A counter is read as it is, without ``rate()``: a rate over a window of a minute is late by up to a minute, and needs two
samples of a series where one is evidence already. Ask for plain series: in a ``sum()`` the end of one pod's series looks like
a reset of all.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

#: What tells one series from another: label and value, sorted.
Labels = tuple[tuple[str, str], ...]

#: The label that says which of several pages a series was read from; there is none where one source knows them all.
PAGE = "serinus_page"


class Rises:
    """What the series of some queries counted, from one look to the next. Its memory is one number a series.

    - A series that is new began at zero, so its first value counts; but only where its source, or its page, is known to have
      answered without it (`pages` that answered; a source of no pages is known by any series). Else a failed scrape may have
      hidden it, and its first value says nothing.
    - A drop is a counter that began anew at zero.
    - A series that is gone counts nothing. When it returns, the value it had is gone on from: the scrape had failed. It is
      kept for as long as the test lasts.
    """

    def __init__(self, before: Mapping[str, Mapping[Labels, float]], pages: Collection[str] = ()) -> None:
        self._known = {query: dict(series) for query, series in before.items()}
        self._answered = _pages(before) | set(pages)

    def since(self, now: Mapping[str, Mapping[Labels, float]], pages: Collection[str] = ()) -> dict[str, float]:
        """How much each query's series rose since the look before. Never negative."""
        rises = {query: self._rise(self._known.setdefault(query, {}), series) for query, series in now.items()}
        self._answered |= _pages(now) | set(pages)
        return rises

    def _rise(self, known: dict[Labels, float], series: Mapping[Labels, float]) -> float:
        rise = 0.0
        for labels, value in series.items():
            before = known.get(labels)
            if before is None:
                before = 0.0 if _page(labels) in self._answered else value
            rise += value - before if value >= before else value
            known[labels] = value
        return rise


def uncovered(
    found: Mapping[str, Mapping[Labels, float]], earlier: Mapping[str, Mapping[Labels, float]]
) -> dict[str, dict[Labels, float]]:
    """`found`, and the series that were there `earlier` of targets that have none in it: their last scrape had failed.

    Without this such a target's whole past would count as soon as it answers again.
    """
    there = {_target(labels) for series in found.values() for labels in series}
    return {
        query: {labels: value for labels, value in earlier.get(query, {}).items() if _target(labels) not in there} | dict(series)
        for query, series in found.items()
    }


def _target(labels: Labels) -> str:
    return next((value for label, value in labels if label == "instance"), "")


def _pages(series: Mapping[str, Mapping[Labels, float]]) -> set[str]:
    return {_page(labels) for each in series.values() for labels in each}


def _page(labels: Labels) -> str:
    return next((value for label, value in labels if label == PAGE), "")

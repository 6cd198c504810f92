"""One query for many canaries: expressions that differ in the values of some labels are asked together. Pure.

A thousand canaries behind one gateway ask the same question a thousand times a second, each for a Service of its own. Here
they become a few queries such as ``requests_total{service=~".+-svc-(?:shop-web|shop-api)-[0-9]+@kubernetesgateway"}``, and
`Group.deal` gives every ask the series that it would have got alone.

What alternatives have in common at their ends is written once: Prometheus' matching of a thousand alternatives that all begin
with ``.+`` would cost more than the queries that are saved.

An error hits the whole group: where a single ask gives many-to-many matches, or a combination of values that no ask has, the
query of its group fails. Then they have to be asked one by one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, TypeVar

from serinus.analysis.counters import Labels
from serinus.metrics.selector import NAME, Difference, Expression, Matcher, Selector, Token, tokens

#: Characters of one query, and asks that share one. A query of this length has to be sent by POST.
LONGEST_QUERY = 32 * 1024
MOST_ASKS = 500

_REMEMBERED = 20_000
_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$]")

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Group(Generic[K]):
    """Asks that one query answers. `expression` is what `query` says, for who evaluates it elsewhere than in Prometheus."""

    expression: Expression
    query: str
    keys: tuple[K, ...]
    _plan: _Plan

    def deal(self, series: Mapping[Labels, float]) -> dict[K, dict[Labels, float]]:
        """What each ask would have given alone, out of the answer to `query`. Every key is there, perhaps with nothing.

        `series` has the labels that Prometheus gives: with ``__name__`` for a selector, without it for a difference. A name that
        is written before the braces is not compared again.
        """
        dealt: list[dict[Labels, float]] = [{} for _ in self.keys]
        owners = self._plan.owners
        for labels, value in series.items():
            for index in owners(labels):
                dealt[index][labels] = value
        return dict(zip(self.keys, dealt, strict=True))


def group(asks: Mapping[K, Expression]) -> list[Group[K]]:
    """`asks` in as few groups as the limits allow; equal asks share a place in the query.

    The order of `asks` decides who shares a query, so an unchanged order keeps what earlier calls learnt about label values.
    """
    alike: dict[Expression, list[tuple[K, Expression]]] = {}
    for key, ask in asks.items():
        alike.setdefault(_shape(ask), []).append((key, ask))
    return [made for members in alike.values() for made in _made(members)]


def _made(part: Sequence[tuple[K, Expression]]) -> list[Group[K]]:
    if len(part) <= MOST_ASKS:
        plan = _plan(tuple(ask for _, ask in part))
        if len(plan.query) <= LONGEST_QUERY or len(part) == 1:
            return [Group(plan.expression, plan.query, tuple(key for key, _ in part), plan)]
    half = MOST_ASKS if len(part) > MOST_ASKS else len(part) // 2
    return _made(part[:half]) + _made(part[half:])


# --- What makes two asks alike --------------------------------------------------------------------------------------------


@lru_cache(maxsize=32768)
def _shape(ask: Expression) -> Expression:
    """`ask` without the values that may differ within a group.

    Those of ``!=`` and ``!~`` stay: a query for either of two would have to leave out what both leave out. Those of ignored
    labels stay, because the answer does not show them. And a value that '' matches differs from one that it does not match: a
    selector in which every matcher matches '' is refused.
    """
    if isinstance(ask, Selector):
        return _blank(ask, ())
    return Difference(_blank(ask.minuend, ask.ignoring), _blank(ask.subtrahend, ask.ignoring), tuple(sorted(ask.ignoring)))


def _blank(selector: Selector, hidden: tuple[str, ...]) -> Selector:
    blanked = []
    for matcher in _sorted(selector):
        if _varies(matcher, hidden):
            matcher = Matcher(matcher.label, matcher.op, "?" if matcher.matches("") else "")
        blanked.append(matcher)
    return Selector(selector.name, tuple(blanked))


def _varies(matcher: Matcher, hidden: tuple[str, ...]) -> bool:
    return matcher.op in ("=", "=~") and matcher.label not in hidden and matcher.label != NAME


def _sorted(selector: Selector) -> list[Matcher]:
    # Without the value: two matchers on one label keep their order, so that asks that are alike stay alike.
    return sorted(selector.matchers, key=lambda matcher: (matcher.label, matcher.op))


# --- The query ------------------------------------------------------------------------------------------------------------


def _merged(selectors: Sequence[Selector], hidden: tuple[str, ...]) -> Selector:
    rows = [_sorted(selector) for selector in selectors]
    matchers = []
    for column in zip(*rows, strict=True):
        first = column[0]
        values = tuple(dict.fromkeys(matcher.value for matcher in column))
        if len(values) == 1 or not _varies(first, hidden):
            matchers.append(first)
        else:
            matchers.append(Matcher(first.label, "=~", _any(values, first.op == "=")))
    return Selector(selectors[0].name, tuple(matchers))


def _any(values: Sequence[str], literally: bool) -> str:
    """A regular expression for any of `values`; what they begin and end with alike is written once."""
    if literally:
        return "|".join(_SPECIAL.sub(r"\\\g<0>", value) for value in values)
    cut = [[token.text for token in tokens(value)] for value in values]
    before = _common(cut)
    after = _common(parts[: before - 1 if before else None : -1] for parts in cut)
    start, end = "".join(cut[0][:before]), "".join(cut[0][len(cut[0]) - after :])
    middles = ["".join(parts[before : len(parts) - after]) for parts in cut]
    if not before and not after:
        return "|".join(f"(?:{middle})" for middle in middles)
    return f"{start}(?:{'|'.join(middles)}){end}"


def _common(rows: Iterable[Iterable[str]]) -> int:
    """With how many same elements all of `rows` begin."""
    ordered = sorted(map(tuple, rows))
    if not ordered:
        return 0
    # In order, all others begin with whatever the first and the last begin with.
    pairs = zip(ordered[0], ordered[-1], strict=False)
    return next((i for i, (one, other) in enumerate(pairs) if one != other), min(len(ordered[0]), len(ordered[-1])))


# --- Dealing --------------------------------------------------------------------------------------------------------------


class _Plan:
    """How the answer to some asks' common query is dealt. Kept from look to look: label values come back every time."""

    def __init__(self, asks: tuple[Expression, ...]) -> None:
        first = asks[0]
        if isinstance(first, Selector):
            self.expression: Expression = _merged([ask for ask in asks if isinstance(ask, Selector)], ())
            rows = [_visible(ask, ()) for ask in asks if isinstance(ask, Selector)]
        else:
            differences = [ask for ask in asks if isinstance(ask, Difference)]
            self.expression = Difference(
                _merged([ask.minuend for ask in differences], first.ignoring),
                _merged([ask.subtrahend for ask in differences], first.ignoring),
                first.ignoring,
            )
            hidden = (*first.ignoring, NAME)
            rows = [tuple(dict.fromkeys(_visible(d.minuend, hidden) + _visible(d.subtrahend, hidden))) for d in differences]
        self.query = str(self.expression)
        self._labels = tuple(dict.fromkeys(matcher.label for row in rows for matcher in row))
        self._rows = rows
        self._lead = self._leading()
        self._index = _Index([row[self._lead] for row in rows]) if self._lead is not None else None
        self._known: dict[tuple[str, ...], tuple[int, ...]] = {}

    def owners(self, labels: Labels) -> tuple[int, ...]:
        """The places of the asks to which a series belongs."""
        present = dict(labels)
        values = tuple([present.get(label, "") for label in self._labels])
        found = self._known.get(values)
        if found is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            found = self._known[values] = self._found(dict(zip(self._labels, values, strict=True)))
        return found

    def _leading(self) -> int | None:
        """The matcher by which the asks differ most; None if not all have it in the same place."""
        width = min(len(row) for row in self._rows)
        alike = [i for i in range(width) if len({(row[i].label, row[i].op) for row in self._rows}) == 1]
        positive = [i for i in alike if self._rows[0][i].op in ("=", "=~")]
        return max(positive, key=lambda i: len({row[i].value for row in self._rows}), default=None)

    def _found(self, present: Mapping[str, str]) -> tuple[int, ...]:
        candidates: Iterable[int] = range(len(self._rows))
        if self._index is not None and self._lead is not None:
            candidates = self._index.candidates(present[self._rows[0][self._lead].label])
        return tuple(i for i in candidates if all(m.matches(present[m.label]) for m in self._rows[i]))


def _visible(selector: Selector, hidden: tuple[str, ...]) -> tuple[Matcher, ...]:
    """The matchers that can be tried on the answer, in the order of the shape."""
    return tuple(matcher for matcher in _sorted(selector) if matcher.label not in hidden)


@lru_cache(maxsize=256)
def _plan(asks: tuple[Expression, ...]) -> _Plan:
    return _Plan(asks)


class _Index:
    """Which of many matchers on one label might match a value, without trying them all.

    For ``=`` by the value. For ``=~`` by a run of characters that every match has to contain: of each pattern's runs the one
    that the fewest patterns share, and of those the longest.
    """

    def __init__(self, matchers: Sequence[Matcher]) -> None:
        self._equal: dict[str, list[int]] = {}
        self._always: list[int] = []
        self._cores: dict[str, list[int]] = {}
        if matchers[0].op == "=":
            for i, matcher in enumerate(matchers):
                self._equal.setdefault(matcher.value, []).append(i)
        else:
            runs = [_runs(matcher.value) for matcher in matchers]
            shared = Counter(run for each in runs for run in each)
            for i, each in enumerate(runs):
                if each:
                    self._cores.setdefault(min(each, key=lambda run: (shared[run], -len(run))), []).append(i)
                else:
                    self._always.append(i)
        self._prefix = next(iter(self._cores), "")[: _common(self._cores)]
        self._lengths = sorted({len(core) for core in self._cores})

    def candidates(self, value: str) -> list[int]:
        """The places of the matchers that might match, each once."""
        found = {*self._equal.get(value, ()), *self._always}
        at = value.find(self._prefix) if self._cores else -1
        while at >= 0:
            for length in self._lengths:
                found.update(self._cores.get(value[at : at + length], ()))
            at = value.find(self._prefix, at + 1) if at < len(value) else -1
        return sorted(found)


def _runs(pattern: str) -> list[str]:
    """The literal runs of characters that every match of `pattern` contains."""
    return ["".join(run) for run in _literal_runs(tokens(pattern))]


def _literal_runs(parts: Iterable[Token]) -> list[list[str]]:
    runs: list[list[str]] = [[]]
    for token in parts:
        if token.literal:
            runs[-1].append(token.literal)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]

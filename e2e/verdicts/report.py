"""What came of it: a page with a line a rule, what was wanted and whether it holds."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from e2e.verdicts import troubles
from e2e.verdicts.grid import Grid, Row, surprising
from e2e.verdicts.rules import ALL, GUARDED, HARM, NAMES, POINT, Single
from e2e.verdicts.worlds import BAD_SECOND, Load

from serinus.analysis.finding import percent
from serinus.analysis.sequential import PRIOR

#: What is promised of a good release, and how sure a cell that breaks it has to be.
PROMISED, CONFIDENCE = 0.01, 0.999
#: A change that a rule has to see: so many times the rate, to one above harm.
CHANGE = 3
#: Wald's test has to find so many of the releases of a cell before others are measured by it.
FOUND = 0.95
#: At least so many times fewer failed requests than the threshold of 60 s.
FEWER = 10
#: Cells that are named one by one.
NAMED = 12
#: Cells that a reader may know from home.
USUAL = (
    Load(rate=100, share=0.05, base=0.001, canary=0.33),
    Load(rate=100, share=0.05, base=0.001, canary=0.05),
    Load(rate=1000, share=0.05, base=0.001, canary=0.02),
    Load(rate=10, share=0.1, base=0.001, canary=0.33),
    Load(rate=100, share=0.5, base=0.001, canary=0.05),
)


@dataclass
class Results:
    """All rows of one run."""

    grid: Grid
    rows: Sequence[Row]
    troubles: Sequence[troubles.Outcome]
    _cells: dict[tuple[str, Load, int], dict[str, Row]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for row in sorted(self.rows, key=_order):
            self._cells.setdefault(row.cell, {})[row.rule] = row

    def cells(self, wanted: Callable[[Row], bool]) -> list[dict[str, Row]]:
        """Cells, each with its row of every rule."""
        return [cell for cell in self._cells.values() if wanted(cell["serinus"])]

    def good(self, rule: str, world: str | None = None) -> list[Row]:
        cells = self.cells(lambda row: row.good and world in (None, row.world))
        return [cell[rule] for cell in cells if rule in cell]

    def too_often(self, rule: str, world: str | None = None) -> list[Row]:
        """Cells whose false rollbacks are above what is promised, surely; the worst first."""
        rows = [row for row in self.good(rule, world) if surprising(row.alarms, row.releases, PROMISED, CONFIDENCE)]
        return sorted(rows, key=lambda row: -row.part)

    def changed(self) -> list[dict[str, Row]]:
        """Cells of bad releases that have to be found."""
        return self.cells(lambda row: not row.good and changed(row.load))

    def time(self, rule: str) -> float:
        """Seconds to the alarm, the mean of the median cell."""
        return _median(cell[rule].seconds for cell in self.changed() if rule in cell)

    def failed(self, rule: str) -> float:
        """Failed requests until the alarm, the mean of the median cell."""
        return _median(cell[rule].failed for cell in self.changed() if rule in cell)

    def found(self, rule: str) -> float:
        """Of the bad releases, those that are found at all."""
        rows = [cell[rule] for cell in self.changed() if rule in cell]
        return sum(row.alarms for row in rows) / max(1, sum(row.releases for row in rows))

    def measured(self) -> list[dict[str, Row]]:
        """Cells in which Wald's test finds the release, and being twice as late could be seen before the end."""
        wanted = [cell for cell in self.changed() if cell["wald"].part >= FOUND]
        return [cell for cell in wanted if bound(cell) < self.grid.seconds]

    def late(self) -> list[dict[str, Row]]:
        """Those in which Serinus takes longer than is wanted; the worst first."""
        late = [cell for cell in self.measured() if cell["serinus"].seconds > bound(cell)]
        return sorted(late, key=lambda cell: -cell["serinus"].seconds / bound(cell))

    def hopeless(self) -> int:
        """How many of those in which the best bet, chosen afterwards, takes longer too."""
        return sum(cell["best"].seconds > bound(cell) for cell in self.late())

    def times_fewer(self, rule: str = "serinus") -> list[float]:
        """By how much fewer requests failed than with the threshold of 60 s, of each cell in which any did."""
        return _times(self.changed(), rule)


def changed(load: Load) -> bool:
    return load.canary > HARM and load.canary >= CHANGE * load.base * (1 - 1e-9)


def bound(cell: dict[str, Row]) -> float:
    """Twice Wald's time and two looks."""
    return 2 * cell["wald"].seconds + 2 * cell["wald"].look


def _order(row: Row) -> tuple[object, ...]:
    load = row.load
    return row.world, load.base, load.canary, load.share, load.rate, row.look, ALL.index(row.rule)


def _median(values: Iterable[float]) -> float:
    every = list(values)
    return statistics.median(every) if every else math.nan


# ---- the page ----


def page(results: Results) -> str:
    """docs/verdicts.md."""
    parts = [_head(results), _summary(results), _wanted(results), _worse(results), _usual(results), _troubled(results)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(results: Results) -> str:
    grid = results.grid
    good, bad = _count(results, True), _count(results, False)
    ranked = max((row.releases for row in results.good("ranks")), default=0)
    quick = "" if grid == Grid() else "\n**A part of the grid only**: `make bench-analysis` writes the whole page.\n"
    return f"""# Rules for judging a canary, side by side

This page is made by `make bench-analysis`: one run, random numbers with fixed seeds, no cluster. Do not edit it.
{quick}
![False rollbacks against the time to the alarm, a point a rule](verdicts.svg)

**What was run.** Releases of {grid.seconds} s. {good} cells of good releases, {grid.good:,} in each: the canary fails as often as
the version that serves. {bad} cells of bad ones, {grid.bad} in each. A cell is one of each of:

| | |
|---|---|
| the version that serves fails | {_list(grid.bases, percent)} |
| a bad canary fails | {_list(grid.canaries, percent)} |
| share of the traffic | {_list(grid.shares, percent)} |
| requests a second | {_list(grid.rates, _number)} |
| a look, and a scrape, each | {_list(grid.looks, lambda look: f"{look} s")} |
| errors of good releases come | {", ".join(world.name for world in grid.worlds)} |

Good requests are the same in all kinds of error, and as many fail on average. A bad second hits both versions alike: then
{percent(BAD_SECOND / (1 + BAD_SECOND))} of requests fail. A burst hits one version, the canary as often as its share. One check,
`harm: 1%`, `falseRollbacks: 1%`. A bad release is bad from its first request on, and its errors are independent. One that a rule
does not stop counts with its {grid.seconds} s and all its failed requests.

**The rules.**

- *Serinus*: [the test of this project](analysis.md), as it is by default, with `severe: 50%`, and with `independentErrors`.
- *Wald*: his sequential test of the canary's own requests, each good or bad, at odds of 100 to 1. It knows both rates beforehand:
  nobody does better where errors are independent, and nobody has it. In good releases it guards against {percent(GUARDED)}.
- *Thresholds*: as with Flagger and Argo Rollouts, at the fifth failing look, in a row or not. Flagger goes back one look later,
  and Argo's `failureLimit: 5` at the sixth: both are given less time here than they take. The third is the fastest there is; at
  looks of 30 s its window never holds the two scrapes that `rate()` needs, so it has no such cells. A look without requests is no
  failure, and counters are there from the start.
- *Mann-Whitney*: as Kayenta compares, without its limits on the size of the effect: rates of all looks so far (of {POINT} s at
  least), one-sided, at the end of each minute; normal approximation, corrected for ties. It is given {ranked:,} good releases
  a cell."""


def _summary(results: Results) -> str:
    worlds = [world.name for world in results.grid.worlds]
    lines = [
        "## A line a rule",
        "",
        "False rollbacks: in the worst cell of each kind of error; in how many cells they are above 1 %, with 99.9 % confidence;",
        "in how many of the cells whose rate is below the thresholds' line. Time and failed requests: the mean of the median",
        f"cell, of those in which a canary fails {CHANGE} times as often or more, and more than `harm`.",
        "",
        f"| rule | {' | '.join(worlds)} | cells above 1 % | below the line | time to alarm | failed requests | bad ones found |",
        "|---" * (len(worlds) + 6) + "|",
    ]
    for rule, name in NAMES.items():
        every, over = results.good(rule), results.too_often(rule)
        worst = [max((row.part for row in results.good(rule, world)), default=math.nan) for world in worlds]
        lines.append(
            f"| {name} | {' | '.join(map(percent, worst))} | {len(over)} of {len(every)} | {_below(over)} of {_below(every)}"
            f" | {results.time(rule):.0f} s | {_number(results.failed(rule))} | {percent(results.found(rule))} |"
        )
    return "\n".join(lines)


def _below(rows: Sequence[Row]) -> int:
    return sum(row.load.base < HARM for row in rows)


_OUT_OF_REACH = f"""*Out of reach* is what the best bet does not reach either. A rule that forgives errors in clumps as long as a
look can take a look for no more than one clump, which falls to the canary with its share of the traffic: a look is worth at most
the inverse of the share, and 100 to 1 takes seven looks at 50 %, four at 25 %, two at 10 %. *The best bet* is the test of
this project with one stake instead of {len(PRIOR)}, chosen of {len(Single.stakes)} when the releases of the cell are over. Wald's
test is faster because it takes every request for evidence of its own, and rolls back good releases where errors clump."""


def _wanted(results: Results) -> str:
    over, measured, late, fewer = results.too_often("serinus"), results.measured(), results.late(), results.times_fewer()
    worst = max(results.good("serinus"), key=lambda row: row.part)
    middle = _median(fewer)
    parts = [
        "## What was wanted",
        "",
        "| wanted | holds | figures |",
        "|---|---|---|",
        f"| `severe` off: in no cell of any kind of error are false rollbacks above 1 % of releases, with 99.9 % confidence "
        f"(exact, one-sided) | {_yes(not over)} | {len(over)} of {len(results.good('serinus'))} cells; the worst "
        f"{percent(worst.part)}: {_where(worst)}, {worst.world} |",
        f"| mean time to alarm at most twice Wald's plus two looks, for {CHANGE} times the rate or more, and above `harm` |"
        f" {_yes(not late)} | {len(measured) - len(late)} of {len(measured)} cells that can say; of the {len(late)} others"
        f" {results.hopeless()} are out of reach |",
        f"| {FEWER} times fewer failed requests than the threshold of 60 s, in the median cell | {_yes(middle >= FEWER)} |"
        f" {middle:.1f} times fewer in the median of {len(fewer)} cells; Wald, who knows both rates:"
        f" {_median(results.times_fewer('wald')):.1f} |",
        "",
        _OUT_OF_REACH,
        "",
        f"A cell can say how late the test is if Wald's finds {percent(FOUND)} of its releases, and the bound is below "
        f"{results.grid.seconds} s: {len(measured)} of {len(results.changed())}.",
    ]
    if over:
        parts += [
            "",
            "False rollbacks above 1 %:",
            "",
            *(f"- {percent(row.part)}: {_where(row)}, {row.world}" for row in over[:NAMED]),
        ]
    if late:
        parts += ["", *_late(results, measured, late)]
    parts += ["", "Failed requests, by the traffic, in the median cell:", "", *_by_traffic(results)]
    parts += [
        "",
        "How many times fewer than with the threshold of 60 s, by share and look, in the median cell:",
        "",
        *_fewer(results),
    ]
    return "\n".join(parts)


def _late(results: Results, measured: Sequence[dict[str, Row]], late: Sequence[dict[str, Row]]) -> list[str]:
    lines = [
        "Cells where the time wanted holds, and in brackets how many of the others are out of reach:",
        "",
        f"| share | {' | '.join(f'looks of {look} s' for look in results.grid.looks)} | the worst, by the bound |",
        "|---" * (len(results.grid.looks) + 2) + "|",
    ]
    for share in results.grid.shares:
        counts = []
        for look in results.grid.looks:
            all_of_them = [cell for cell in measured if _is(cell, share, look)]
            holds = len(all_of_them) - sum(_is(cell, share, look) for cell in late)
            lost = sum(cell["best"].seconds > bound(cell) for cell in late if _is(cell, share, look))
            counts.append(f"{holds} of {len(all_of_them)} ({lost})" if all_of_them else "")
        worst = max((cell["serinus"].seconds / bound(cell) for cell in measured if _is(cell, share)), default=math.nan)
        lines.append(f"| {percent(share)} | {' | '.join(counts)} | {f'{worst:.1f} times' if worst == worst else 'none'} |")
    lines += [
        "",
        "The latest of them; all are in `bench-results/verdicts.csv`:",
        "",
        "| cell | Serinus | the best bet | Wald | wanted |",
        "|---|---|---|---|---|",
    ]
    for cell in late[:NAMED]:
        ours, *others = (cell[rule] for rule in ("serinus", "best", "wald"))
        times = " | ".join(f"{row.seconds:.1f} s" for row in (ours, *others))
        lines.append(f"| {_where(ours)} | {times} | {bound(cell):.1f} s |")
    return lines


def _by_traffic(results: Results) -> list[str]:
    """Little traffic is little evidence, for every rule."""
    rules = ("serinus", "wald", "threshold60", "threshold10")
    lines = [
        "| requests a second | " + " | ".join(NAMES[rule] for rule in rules) + " | Serinus: times fewer than every 60 s |",
        "|---" * (len(rules) + 2) + "|",
    ]
    for rate in results.grid.rates:
        cells = [cell for cell in results.changed() if cell["serinus"].load.rate == rate]
        if cells:
            seen = [_number(_median(cell[rule].failed for cell in cells)) for rule in rules]
            lines.append(f"| {_number(rate)} | {' | '.join(seen)} | {_median(_times(cells)):.1f} |")
    return lines


def _fewer(results: Results) -> list[str]:
    looks = results.grid.looks
    lines = [f"| share | {' | '.join(f'looks of {look} s' for look in looks)} |", "|---" * (len(looks) + 1) + "|"]
    for share in results.grid.shares:
        seen = [_median(_times([cell for cell in results.changed() if _is(cell, share, look)])) for look in looks]
        lines.append(f"| {percent(share)} | {' | '.join(f'{times:.1f}' for times in seen)} |")
    return lines


def _times(cells: Iterable[dict[str, Row]], rule: str = "serinus") -> list[float]:
    return sorted(cell["threshold60"].failed / cell[rule].failed for cell in cells if cell[rule].failed > 0)


def _worse(results: Results) -> str:
    lines = [
        "## Where Serinus does worse",
        "",
        "Cells in which another rule lets fewer requests fail (by 5 % or more), and how often that rule rolls back good",
        "releases of the same load, in the worst kind of error.",
        "",
        "| rule | cells with fewer failed requests | where the difference is largest | its false rollbacks there |",
        "|---|---|---|---|",
    ]
    false: dict[tuple[str, Load, int], float] = {}
    for row in results.rows:
        if row.good:
            key = row.rule, row.load, row.look
            false[key] = max(false.get(key, 0.0), row.part)
    for rule, name in NAMES.items():
        cells = [cell for cell in results.changed() if rule in cell]
        worse = [cell for cell in cells if cell[rule].failed < 0.95 * cell["serinus"].failed]
        if rule != "serinus" and cells:
            lines.append(f"| {name} | {len(worse)} of {len(cells)} | {_largest(rule, worse, false)} |")
    lines += _below_harm(results)
    return "\n".join(lines)


def _largest(rule: str, worse: Sequence[dict[str, Row]], false: dict[tuple[str, Load, int], float]) -> str:
    if not worse:
        return "none |"
    cell = max(worse, key=lambda cell: cell["serinus"].failed - cell[rule].failed)
    ours, row = cell["serinus"], cell[rule]
    same = Load(ours.load.rate, ours.load.share, ours.load.base, ours.load.base)
    part = false.get((rule, same, ours.look))
    return f"{_where(ours)}: {_number(row.failed)}, Serinus {_number(ours.failed)} | {'' if part is None else percent(part)}"


def _below_harm(results: Results) -> list[str]:
    """Nobody would be woken for these."""
    cells = results.cells(lambda row: not row.good and row.load.canary < HARM)
    if not cells:
        return []
    parts = {rule: mean_part([cell[rule] for cell in cells if rule in cell]) for rule in NAMES}
    return [
        "",
        "A canary that is worse and fails less than `harm` should stay. Rolled back of these are:",
        "",
        "| rule | rolled back |",
        "|---|---|",
        *(f"| {name} | {percent(parts[rule])} |" for rule, name in NAMES.items()),
    ]


def mean_part(rows: Sequence[Row]) -> float:
    return sum(row.alarms for row in rows) / max(1, sum(row.releases for row in rows))


def _usual(results: Results) -> str:
    usual = results.cells(lambda row: row.load in USUAL and row.look == _usual_look(results.grid))
    cells = sorted(usual, key=lambda cell: USUAL.index(cell["serinus"].load))
    if not cells:
        return ""
    lines = [
        "## Some usual cells",
        "",
        f"Looks of {_usual_look(results.grid)} s. Mean time to the alarm, and mean number of requests that failed until then.",
        "",
        "| cell | " + " | ".join(NAMES.values()) + " |",
        "|---" * (len(NAMES) + 1) + "|",
    ]
    for cell in cells:
        seen = [f"{cell[rule].seconds:.0f} s, {_number(cell[rule].failed)}" if rule in cell else "" for rule in NAMES]
        lines.append(f"| {_what(cell['serinus'].load)} | {' | '.join(seen)} |")
    return "\n".join(lines)


def _usual_look(grid: Grid) -> int:
    return 5 if 5 in grid.looks else grid.looks[0]


def _troubled(results: Results) -> str:
    if not results.troubles:
        return ""
    shares = " | ".join(f"{percent(share)} share" for share in troubles.SHARES)
    lines = [
        "## Ordinary troubles",
        "",
        f"Good versions, {_number(troubles.RATE)} requests a second, {percent(troubles.BASE)} of them fail, looks of "
        f"{troubles.LOOK} s, {results.grid.troubled:,} releases each.",
        "Rolled back by Serinus, and in brackets by the threshold that is asked every 60 s, which knows no remedy. What to do",
        "about each stands in [analysis.md](analysis.md#where-it-holds-and-where-not).",
        "",
        f"| trouble | | {shares} |",
        "|---" * (2 + len(troubles.SHARES)) + "|",
    ]
    known = ""
    for outcome in results.troubles:
        seen = [f"{percent(a)} ({percent(b)})" for a, b in zip(outcome.serinus, outcome.threshold60, strict=True)]
        lines.append(f"| {outcome.trouble if outcome.trouble != known else ''} | {outcome.remedy} | {' | '.join(seen)} |")
        known = outcome.trouble
    return "\n".join(lines)


def _is(cell: dict[str, Row], share: float, look: int | None = None) -> bool:
    row = cell["serinus"]
    return row.load.share == share and look in (None, row.look)


def _what(load: Load) -> str:
    rates = percent(load.base) if load.base == load.canary else f"{percent(load.base)} to {percent(load.canary)}"
    return f"{rates}, {percent(load.share)} share, {_number(load.rate)} requests/s"


def _where(row: Row) -> str:
    return f"{_what(row.load)}, looks of {row.look} s"


def _list(values: Iterable[float], shown: Callable[[float], str]) -> str:
    return ", ".join(shown(value) for value in values)


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "none"
    return f"{value:,.0f}" if value >= 10 or value == round(value) else f"{value:.2g}"


def _yes(holds: bool) -> str:
    return "yes" if holds else "**no**"


def _count(results: Results, good: bool) -> int:
    return len(results.cells(lambda row: row.good == good))


_COLUMNS = (
    "errors serving canary share requests_per_second look_seconds rule releases alarms mean_seconds mean_failed above_promise"
)


def write_cells(results: Results, path: Path) -> None:
    """Every row, for whoever wants to look closer."""
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(_COLUMNS.split())
        for row in sorted(results.rows, key=_order):
            load = row.load
            over = row.good and surprising(row.alarms, row.releases, PROMISED, CONFIDENCE)
            table.writerow(
                (
                    *(row.world, load.base, load.canary, load.share, load.rate, row.look, row.rule, row.releases, row.alarms),
                    *(f"{row.seconds:.3f}", f"{row.failed:.3f}", int(over)),
                )
            )

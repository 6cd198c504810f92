"""`serinus simulate`: what a Canary would do with versions that fail more or less often."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import track
from rich.table import Table

from serinus.analysis.finding import number, percent
from serinus.analysis.sequential import tolerated
from serinus.cli.files import Manifests, UsageError
from serinus.metrics.templates import RatioQuery
from serinus.simulation.picture import picture
from serinus.simulation.rollout import Check
from serinus.simulation.study import Row, Study, quantile
from serinus.simulation.traffic import Failing, Load

MEANING = (
    "Medians, and 95th percentiles in brackets. Time counts from the canary's first traffic to the decision; failed are the"
    " canary's bad requests until then."
)


def simulate(
    manifests: Manifests,
    load: Load,
    rates: tuple[float, Sequence[float]],
    *,
    check: str = "",
    runs: int,
    seed: int,
    limit: float,
    as_json: bool = False,
    to: Path | None = None,
) -> None:
    """Prints the table, or the JSON, and writes the picture. `rates`: the serving version's, and those of the canary."""
    checks, notes = _checks(manifests, check)
    study = Study(manifests.canary, checks, load, runs, seed, limit)
    serving, bad = rates
    rows = [_row(study, Failing(rate, serving)) for rate in dict.fromkeys((*bad, serving))]
    if to is not None:
        to.write_text(picture(f"{manifests.canary.metadata.name}: {number(load.rate)} requests/s, {runs} rollouts each", rows))
    out = Console()
    if as_json:
        said = {
            "canary": manifests.canary.metadata.name,
            "requestsPerSecond": load.rate,
            "scrapeSeconds": load.scrape,
            "clump": load.clump,
            "limitSeconds": limit,
            "seed": seed,
            "notes": notes,
            "rows": [row.dump() for row in rows],
        }
        out.print_json(json.dumps(said))
        return
    out.print(_about(study, serving), highlight=False)
    out.print(_table(rows))
    for note in (MEANING, *notes):
        out.print(note, highlight=False)


def _checks(manifests: Manifests, failing: str) -> tuple[list[Check], list[str]]:
    """The ratios, the one that fails first; and what is left out or taken otherwise, in sentences."""
    canary = manifests.canary
    checks, queries = [], []
    for metric in canary.spec.analysis.metrics:
        resolved = manifests.resolved(metric, "app")  # whose numbers they are does not matter here
        if isinstance(resolved, RatioQuery):
            checks.append(Check(metric.name, tolerated(canary.spec.analysis, resolved.harm), metric.baseline == "serving"))
        else:
            queries.append(metric.name)
    names = [check.name for check in checks]
    if not checks:
        raise UsageError(f"Canary {canary.metadata.name} has no ratio in spec.analysis.metrics, so there is nothing to simulate")
    if failing and failing not in names:
        raise UsageError(f"there is no ratio {failing!r} to fail; there are {', '.join(names)}")
    checks.sort(key=lambda check: check.name != (failing or names[0]))
    notes = []
    if len(checks) > 1:
        notes.append(f"Bad requests are bad by {checks[0].name}; by the other ratios both versions fail as the serving one does.")
    if queries:
        notes.append(f"Left out, because a query's numbers cannot be made up: {', '.join(queries)}.")
    if any(step.pause is not None for step in canary.spec.plan()):
        notes.append("Pause steps are taken as resumed at once.")
    return checks, notes


def _row(study: Study, failing: Failing) -> Row:
    console = Console(stderr=True)
    rollouts, what = study.rollouts(failing), f"{percent(failing.canary)} fail"
    shown = track(rollouts, what, total=study.runs, console=console, transient=True, disable=not console.is_terminal)
    return Row(failing, list(shown))


def _about(study: Study, serving: float) -> str:
    load = study.load
    bursts = f", bad ones in bursts of {load.clump}" if load.clump > 1 else ""
    return (
        f"{study.canary.metadata.name}: {study.runs} rollouts a row, {number(load.rate)} requests a second{bursts}, read every"
        f" {number(load.scrape)} s; of the serving version's {percent(serving)} fail."
    )


def _table(rows: Sequence[Row]) -> Table:
    table = Table(box=SIMPLE, padding=0, pad_edge=False, collapse_padding=True)
    table.add_column("canary fails", no_wrap=True)
    for heading in ("rolled back", "after", "failed", "promoted", "after", "neither"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        told = percent(row.failing.canary)
        back, failed = row.all("RolledBack"), row.all("RolledBack", lambda run: run.failed)
        table.add_row(
            f"{told} (good)" if row.good else told,
            row.part("RolledBack"),
            _spread(back, " s"),
            _spread(failed),
            row.part("Promoted"),
            _spread(row.all("Promoted"), " s"),
            row.part("NotEnded"),
        )
    return table


def _spread(values: Sequence[float], unit: str = "") -> str:
    if not values:
        return "-"
    return f"{number(round(quantile(values, 0.5)))} ({number(round(quantile(values, 0.95)))}){unit}"

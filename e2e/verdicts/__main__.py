"""`make bench-analysis`: rules for judging a canary, side by side.

Writes docs/verdicts.md and docs/verdicts.svg, and every cell to bench-results/verdicts.csv. `--quick` is a small grid, and all of
it goes to bench-results/. Exit code 1: the promise about good releases does not hold.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from e2e.verdicts import picture, report
from e2e.verdicts.grid import QUICK, Grid, Row, rows_of, troubles_of

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench-results"


def run(grid: Grid, processes: int) -> report.Results:
    """All rows; says every so often how far it is."""
    began, told, rows, jobs = time.monotonic(), time.monotonic(), list[Row](), len(grid.jobs())
    for done, some in enumerate(rows_of(grid, processes), 1):
        rows += some
        if time.monotonic() - told > 30 or done == jobs:
            told = time.monotonic()
            print(f"{done} of {jobs} loads after {told - began:.0f} s", flush=True)
    return report.Results(grid, rows, troubles_of(grid))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small grid, in seconds")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--into", type=Path, help="the folder of the page and the picture")
    asked = parser.parse_args()
    results = run(QUICK if asked.quick else Grid(), asked.processes)
    into = asked.into or (RESULTS if asked.quick else ROOT / "docs")
    for folder in (into, RESULTS):
        folder.mkdir(exist_ok=True)
    page = report.page(results)
    (into / "verdicts.md").write_text(page)
    (into / "verdicts.svg").write_text(picture.picture(results))
    report.write_cells(results, RESULTS / "verdicts.csv")
    print(page)
    if over := len(results.too_often("serinus")):
        sys.exit(f"good releases are rolled back more often than is promised in {over} cells")


if __name__ == "__main__":
    main()

"""Checks of a plain number against min and max: for what cannot be counted."""

from __future__ import annotations

import math
from dataclasses import dataclass

from serinus.analysis.finding import Finding, error, number


@dataclass(frozen=True, slots=True)
class LimitCheck:
    """A plain number that must stay within min and max; more than `failure_limit` looks beyond in a row fail."""

    name: str
    min: float | None
    max: float | None
    failure_limit: int = 0


def judge_limit(check: LimitCheck, value: float | None, consecutive_failures: int) -> tuple[Finding, int]:
    """Judges one reading. Returns the finding and how many looks in a row have been beyond the limits.

    A look without a number says nothing, so it neither adds to that count nor ends it.
    """
    limit = _limits(check)
    if value is None or math.isnan(value):
        what = "the query returned nothing" if value is None else "the value is NaN"
        return Finding(check.name, "NoData", f"{check.name}: {what} ({limit})", limit=limit), consecutive_failures
    seen = f"{check.name} is {number(value)}"
    beyond = (check.min is not None and value < check.min) or (check.max is not None and value > check.max)
    if not beyond:
        if math.isinf(value):
            return error(check.name, f"the value is {number(value)} ({limit})"), consecutive_failures
        return Finding(check.name, "Pass", f"{seen} ({limit})", value=value, limit=limit), 0
    failures = consecutive_failures + 1
    if failures > check.failure_limit:
        more = f", {failures} looks in a row" if failures > 1 else ""
        return Finding(check.name, "Fail", f"{seen}{more} ({limit})", value=value, limit=limit), failures
    sentence = f"{seen}, look {failures} of {check.failure_limit} that are tolerated ({limit})"
    return Finding(check.name, "Wait", sentence, value=value, limit=limit), failures


def _limits(check: LimitCheck) -> str:
    parts = []
    if check.min is not None:
        parts.append(f"at least {number(check.min)}")
    if check.max is not None:
        parts.append(f"at most {number(check.max)}")
    return " and ".join(parts) or "no limit"

"""Checks against a fixed limit: the rate of bad events against `harm`, a plain number against min and max.

The rate is judged by a mixture likelihood ratio of "worse than harm" against "at harm"::

    K = sum_j prior_j * (p_j / h)^bad * ((1 - p_j) / (1 - h))^(total - bad)

While the true rate is at most h, K is a non-negative supermartingale that starts at 1, so the chance that it *ever* reaches
1/alpha is at most alpha (Ville 1939; Wald 1945; Robbins 1970), however often one looks.

This holds for events that are independent of one another. Errors that come in clumps (a retry storm, one slow dependency)
are more alike than that, and a rate that the serving version has as well is nobody's fault here: both are what the
sequential test against the serving version is for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from serinus.analysis.finding import Finding, Says, error, number, percent

#: The chance of rolling back a version that is not worse than `harm`, for one check and all its looks.
ALPHA = 0.01
#: The chance of calling a version healthy whose rate is above `harm`.
ALPHA_HEALTHY = 0.05

#: Alternatives to harm on the bad side: ten rates from 2h to this one, evenly spread in log.
_WORST = 0.99
_GRID = 10
#: Alternatives on the good side, as parts of harm. The last is "no bad events at all".
_BETTER = (1 / 2, 1 / 5, 1 / 20, 1e-6)


@dataclass(frozen=True, slots=True)
class RatioCheck:
    """Bad events out of all events. `harm` is a share above 0 and below 1: at or below it no version is blamed."""

    name: str
    harm: float


@dataclass(frozen=True, slots=True)
class LimitCheck:
    """A plain number that must stay within min and max; more than `failure_limit` looks beyond in a row fail."""

    name: str
    min: float | None
    max: float | None
    failure_limit: int = 0


def judge_ratio(
    check: RatioCheck,
    bad: float,
    total: float,
    *,
    fault_began: float | None = None,
    alpha: float = ALPHA,
    alpha_healthy: float = ALPHA_HEALTHY,
) -> Finding:
    """Judges the counts since the release's beginning. May be asked at every look.

    `alpha` is this check's part: split a release's 1 % over its checks. `Fail` needs the evidence and a rate of at least
    `harm`; `Pass` says that a rate above `harm` is no longer believable; `Wait` that neither is known yet.
    """
    if not 0 < check.harm < 1:
        return error(check.name, f"harm is {percent(check.harm)}; it must be above 0 % and below 100 %")
    if not (math.isfinite(bad) and math.isfinite(total)):
        return error(check.name, f"{number(bad)} bad of {number(total)} requests are not counts")
    if bad < 0 or total < 0:
        return error(check.name, f"{number(bad)} bad of {number(total)} requests: a count cannot be negative")
    if bad > total * (1 + 1e-9):
        return error(
            check.name,
            f"{number(bad)} bad of only {number(total)} requests: `bad` counts something that `total` does not",
        )
    limit = f"harm limit {percent(check.harm)}"
    if total == 0:
        return Finding(check.name, "NoData", f"{check.name}: no requests yet ({limit})", 0.0, 0.0, limit=limit)

    bad = min(bad, total)
    seen = f"{check.name} {percent(bad / total)} of {number(total)} request{'s' if total != 1 else ''}"

    def finding(verdict: Says, sentence: str) -> Finding:
        return Finding(
            check.name,
            verdict,
            f"{sentence} ({limit})",
            bad=bad,
            total=total,
            limit=limit,
            fault_began=fault_began,
        )

    # Below harm the evidence is never there; asking first says so, and saves the sum.
    if bad / total >= check.harm and harm_evidence(check.harm, bad, total) >= -math.log(alpha):
        return finding("Fail", seen)
    if health_evidence(check.harm, bad, total) >= -math.log(alpha_healthy):
        return finding("Pass", seen)
    return finding("Wait", f"{seen}, not enough evidence yet")


def harm_evidence(harm: float, bad: float, total: float) -> float:
    """ln K of "the rate is above harm" against "it is at most harm"."""
    return _log_mixture(_worse(harm), bad, total)


def health_evidence(harm: float, bad: float, total: float) -> float:
    """ln K of "the rate is below harm" against "it is at least harm": the mirror of `harm_evidence`."""
    return _log_mixture(_better(harm), bad, total)


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


#: ln prior, ln(p/h), ln((1-p)/(1-h)) of one alternative.
_Alternative = tuple[float, float, float]


def _alternative(p: float, harm: float, prior: float) -> _Alternative:
    return math.log(prior), math.log(p / harm), math.log1p(-p) - math.log1p(-harm)


@lru_cache(maxsize=256)
def _worse(harm: float) -> tuple[_Alternative, ...]:
    # Twice a harm near 1 is no rate: half of the way to certainty takes its place.
    low = min(2 * harm, (1 + harm) / 2)
    high = max(low, _WORST)
    rates = [low * (high / low) ** (j / (_GRID - 1)) for j in range(_GRID)]
    return tuple(_alternative(p, harm, 1 / _GRID) for p in rates)


@lru_cache(maxsize=256)
def _better(harm: float) -> tuple[_Alternative, ...]:
    return tuple(_alternative(part * harm, harm, 1 / len(_BETTER)) for part in _BETTER)


def _log_mixture(alternatives: tuple[_Alternative, ...], bad: float, total: float) -> float:
    good = total - bad
    logs = [prior + bad * up + good * down for prior, up, down in alternatives]
    top = max(logs)
    return top + math.log(sum(math.exp(x - top) for x in logs))

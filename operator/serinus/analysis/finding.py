"""What one check says at one look, and how its numbers are written for people."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from serinus.api.release import Evidence, Tally

Says = Literal["Pass", "Fail", "Wait", "NoData", "Error"]

#: The bounds of Evidence.sentence and Evidence.limit.
_SENTENCE = 2048
_LIMIT = 256


@dataclass(frozen=True, slots=True)
class Finding:
    """One check at one look.

    ``NoData`` is nothing to judge by, ``Error`` an answer that cannot be right; neither ever counts as ``Pass``.
    `fault_began` is when the first bad sample was seen, in seconds since the epoch. `doubt`: it waits, and what there is
    speaks against the version. `source`: prometheus or direct.
    """

    metric: str
    verdict: Says
    sentence: str
    bad: float | None = None
    total: float | None = None
    value: float | None = None
    limit: str = ""
    fault_began: float | None = None
    tally: Tally | None = None
    doubt: bool = False
    source: str = ""

    def evidence(self) -> Evidence:
        """As the Release keeps it. JSON has no NaN and no infinity, so they are left out; the sentence says them."""
        return Evidence(
            metric=self.metric,
            verdict=self.verdict,
            bad=_finite(self.bad),
            total=_finite(self.total),
            value=_finite(self.value),
            limit=self.limit[:_LIMIT],
            sentence=self.sentence[:_SENTENCE],
            source=self.source,
            tally=self.tally,
        )


def error(metric: str, sentence: str) -> Finding:
    """A check that could not be asked, or whose answer makes no sense; `sentence` says why."""
    return Finding(metric=metric, verdict="Error", sentence=f"{metric}: {sentence}")


def percent(rate: float) -> str:
    """0.124 -> ``12 %``, 0.0013 -> ``0.13 %``: two significant digits, and 100 % only for all of them."""
    hundredths = rate * 100
    if not math.isfinite(hundredths):
        return f"{rate} of 1"
    if hundredths == 0:
        return "0 %"
    decimals = max(0, 1 - math.floor(math.log10(abs(hundredths))))
    text = f"{hundredths:.{decimals}f}"
    if float(text) >= 100 and rate < 1:
        return "99 %"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} %"


def number(value: float) -> str:
    """A count or a reading: whole numbers without a point, others with at most four significant digits."""
    if math.isfinite(value) and value == round(value) and abs(value) < 1e15:
        return f"{value:.0f}"
    return f"{value:.4g}"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None

"""A plain number of two versions, pair by pair: for what cannot be counted and has no limit of its own.

While the new version's number is not worse than the serving one's, beyond the tolerance, it is no likelier to look so than not.
So each pair is a coin, and the bets of `serinus.analysis.sequential` at a share of one half are fair or worse on it: the
chance of a false rollback holds however often one looks. The Mann-Whitney test, as Kayenta uses it, promises that for one look
only. What it rests on: pairs do not hang together more than the versions do, so they are kept apart by `metricsDelay`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from serinus.analysis import sequential
from serinus.analysis.finding import Finding, number, percent
from serinus.analysis.sequential import Counts, Rule
from serinus.api.release import Tally

#: Pairs before the check is content.
FEWEST = 4


@dataclass(frozen=True, slots=True)
class PairedCheck:
    """`worse` says which way; only a difference of more than `tolerance` (0.1: a tenth of the serving number) is one."""

    worse: Literal["higher", "lower"]
    tolerance: float
    alpha: float

    @property
    def rule(self) -> Rule:
        """Worse in most pairs."""
        return Rule(harm=0.5, alpha=self.alpha)


def pair(check: PairedCheck, tally: Tally, judged: float, serving: float, at: datetime) -> Tally:
    """The test after one more pair of finite numbers."""
    more = judged - serving if check.worse == "higher" else serving - judged
    lost = 1.0 if more > check.tolerance * abs(serving) else 0.0
    return sequential.look(check.rule, tally, Counts(lost, 1.0), Counts(1.0 - lost, 1.0), at)


def judge_pairs(check: PairedCheck, tally: Tally, within: Finding, alone: bool = False) -> Finding:
    """What the pairs add to `within`, the finding of a number that is within its limits."""
    worse, needed = sequential.evidence(tally), -math.log(check.alpha)
    how = f"{check.worse} than the serving version's by more than {percent(check.tolerance)}"
    odds = sequential.surprise(worse, check.alpha)
    finding = replace(
        within,
        sentence=f"{within.sentence}; {how} in {number(tally.bad)} of {number(tally.total)} pairs, {odds}",
        fault_began=tally.fault_began.timestamp() if tally.fault_began else None,
        tally=tally,
    )
    mostly = tally.bad >= check.rule.harm * tally.total
    if mostly and worse >= needed:
        return replace(finding, verdict="Fail")
    doubt = mostly and worse >= math.log(sequential.DOUBT)
    if within.verdict == "Pass" and (doubt or (tally.total < FEWEST and not alone)):
        return replace(finding, verdict="Wait", doubt=doubt)
    return finding

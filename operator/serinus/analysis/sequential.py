"""A test of "no worse than the version beside it" that may be looked at any number of times.

The unit is the look, not the request: errors come in clumps, and counting each as evidence of its own rolls back good
releases. What stays true however they clump: while the judged version is no worse and requests are split at random, a bad
event's owner is the judged version with probability w, its share of the look's requests. So s, its share of the look's bad
events, has mean at most w and lies in [0, 1], and a bet on it is fair or worse::

    K = sum_j prior_j * prod_looks (1 + (f_j / w) (s - w))

with wealth dealt out anew between the bets now and then (`_stretch`). K is a non-negative supermartingale that begins at 1: the
chance that it *ever* reaches 1/alpha is at most alpha, however often one looks, and also where w changes from look to look
(Ville 1939). Bets on bounded means: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting" (2023).
Two variants have the same K: without a version beside it the judged version's own rate is bet on against `harm`; and who knows
that errors are independent may have each count as evidence (a mixture likelihood over rate ratios: Wald 1945; Lindon, Sanden
and Shirikian 2022).

Where it is true, and where it is not: docs/analysis.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from serinus.analysis.finding import Finding, Says, error, number, percent
from serinus.api.base import parse_percent
from serinus.api.canary import Analysis
from serinus.api.release import Tally

#: The chance of rolling back a version that is no worse, over all looks and checks of a release.
ALPHA = 0.01
#: The chance of calling a version healthy whose rate is above `harm`.
ALPHA_HEALTHY = 0.05
#: Odds at which a version gets no more traffic until they fall, or its rate does.
DOUBT = 3
#: Bad requests that a verdict needs: where the share is small, a single one can be a surprise of 100 to 1.
FEWEST = 2
#: A look with fewer requests of the judged version is never severe.
SEVERE_REQUESTS = 20
#: The newest requests are so many that this many bad ones would be just `harm`.
WINDOW = 50

#: How much of its wealth each bet stakes, and the prior of each. The last bets nearly all, and has half: two looks can convince.
#: The first keeps its own, so that a long time without harm does not cost everything.
STAKES = (0.0, 0.12, 0.4, 0.8, 0.99)
PRIOR = (0.02, 0.1, 0.13, 0.25, 0.5)
#: The variant for independent errors: how many times the rate beside it the judged version's might be.
RATIOS = (1.0, 2.5, 8.0, 40.0, 300.0)
#: Its rates above `harm` where there is nothing to compare with go up to this one.
_WORST = 0.99
#: Rates that a healthy version might have, as parts of `harm`. The last is "no bad events at all".
_HEALTHY = (1 / 2, 1 / 5, 1 / 20, 1e-6)
_LN_PRIOR = tuple(math.log(prior) for prior in PRIOR)


class Counts(NamedTuple):
    """Events of one version in one look."""

    bad: float
    total: float


@dataclass(frozen=True, slots=True)
class Rule:
    """What is tolerated.

    `harm` is a share above 0 and below 1: at or below it no version is blamed. `alpha` is this check's part: split a
    release's 1 % over its checks. `severe` is the share of one look's requests that is acted on at once; None: off, and
    only then does alpha hold where errors clump on one side. `independent` says that errors are.
    """

    harm: float
    alpha: float = ALPHA
    severe: float | None = None
    independent: bool = False


def tolerated(analysis: Analysis, harm: float) -> Rule:
    """What a Canary tolerates in one of its checks; the chance of a false rollback is split over all of them."""
    alpha = parse_percent(analysis.false_rollbacks) / len(analysis.metrics)
    return Rule(harm, alpha, parse_percent(analysis.severe) or None, analysis.independent_errors)


def begun(of: str = "", at: datetime | None = None) -> Tally:
    """The test `of` something before its first look, with counts from `at` on."""
    return Tally(of=of, as_of=at, log_wealth=[0.0] * len(PRIOR))


def look(rule: Rule, tally: Tally, judged: Counts, beside: Counts | None, at: datetime | None = None, weight: int = 0) -> Tally:
    """The test after one more look.

    `judged` and `beside` are what was counted since the look before, up to `at`, with the judged version at `weight` percent.
    `beside` None: there is no version to compare with. A look without bad events changes no wealth. A look in which one of the
    two had no requests, or more bad events than requests (two scrapes of one pod, half each), is added to the next: when it
    ends depends on no verdict.
    """
    tally = _stretch(rule, tally, weight)
    compared = beside is not None
    other = beside or Counts(0.0, 0.0)
    waiting = [before + now for before, now in zip(tally.pending, (*judged, *other), strict=True)]
    bad, total, beside_bad, beside_total = waiting
    counted = {
        "as_of": at or tally.as_of,
        "bad": tally.bad + judged.bad,
        "total": tally.total + judged.total,
        "beside_bad": tally.beside_bad + other.bad,
        "beside_total": tally.beside_total + other.total,
        "pending": waiting,
        "recent": _recent(rule, tally, judged),
        "fault_began": tally.fault_began or (at if judged.bad > 0 else None),
    }
    if not (_whole(bad, total) and (not compared or _whole(beside_bad, beside_total))):
        return tally.model_copy(update=counted)
    if compared:
        gains = _gains(rule, bad, total, beside_bad, beside_total)
        spread = beside_bad**2 / beside_total
    else:
        gains = _gains_alone(rule, _tolerable(rule, tally), bad, total)
        spread = 0.0
    return tally.model_copy(
        update=counted
        | {
            "pending": [0.0] * 4,
            "looks": tally.looks + 1,
            "compared": tally.compared + compared,
            "log_wealth": [wealth + gain for wealth, gain in zip(tally.log_wealth, gains, strict=True)],
            "spread": tally.spread + spread,
            "severe": tally.severe or _severe(rule, Counts(bad, total), Counts(beside_bad, beside_total)),
        }
    )


def judge(name: str, rule: Rule, tally: Tally, other: str = "the serving version") -> Finding:
    """What the test says now. `other` names the version beside it.

    ``Fail`` needs the evidence, a rate of at least `harm`, and more than one bad request. ``Pass`` says that a rate above
    `harm` is no longer believable. ``Wait`` that neither is known yet.
    """
    if wrong := _wrong(rule, tally):
        return error(name, wrong)
    limit = f"harm limit {percent(rule.harm)}"
    if tally.total == 0:
        return Finding(name, "NoData", f"{name}: no requests yet ({limit})", 0.0, 0.0, limit=limit, tally=tally)
    rate = min(1.0, tally.bad / tally.total)
    seen = f"{name} {percent(rate)} of {number(tally.total)} request{'s' if tally.total != 1 else ''}"
    if tally.beside_total:
        seen += f", {other} {percent(min(1.0, tally.beside_bad / tally.beside_total))} of {number(tally.beside_total)}"

    def finding(verdict: Says, more: str) -> Finding:
        began = tally.fault_began.timestamp() if tally.fault_began else None
        sentence = f"{seen}{more} ({limit})"
        return Finding(name, verdict, sentence, tally.bad, tally.total, limit=limit, fault_began=began, tally=tally)

    if not tally.looks and tally.pending[1]:
        return finding("NoData", f": no requests of {other} to compare with")
    worse, needed = evidence(tally), -math.log(rule.alpha)
    harmful = rate >= rule.harm or _lately(rule.harm, tally)
    if harmful and tally.severe:
        return finding("Fail", "; most of one look's requests failed")
    if harmful and worse >= needed and tally.bad >= FEWEST:
        return finding("Fail", f"; {surprise(worse, rule.alpha)}")
    if health(rule.harm, tally) >= -math.log(ALPHA_HEALTHY):
        return finding("Pass", "; worse, and below harm" if worse >= needed else "")
    bad, total, _, beside_total = tally.pending
    unanswered = bad >= FEWEST and bad >= rule.harm * total and not beside_total
    more = f"; {number(total)} of them wait for a request of {other} to be compared with" if unanswered else ""
    waits = finding("Wait", f", not enough evidence yet: {surprise(worse, rule.alpha)}{more}")
    return replace(waits, doubt=unanswered or (harmful and worse >= math.log(DOUBT)))


def evidence(tally: Tally) -> float:
    """ln K of "worse than what it is compared with". 0 for what another form of this test has left."""
    if len(tally.log_wealth) != len(PRIOR):
        return 0.0
    return _mixed(tally.log_wealth, _LN_PRIOR)


def health(harm: float, tally: Tally) -> float:
    """ln K of "the rate is below harm" against "it is at least harm", by the newest requests at this weight.

    What went well at 5 % says little about 50 %, and what went well yesterday little about now. A likelihood, so it takes
    events for independent; the counts are divided by how much the other version's errors clump (Pearson's dispersion over its
    looks), because clumps make long clean runs common.
    """
    clump, (newest_bad, newest) = dispersion(tally), tally.recent
    bad, good = newest_bad / clump, max(0.0, newest - newest_bad) / clump
    logs = [bad * up + good * down for up, down in _healthy(harm)]
    return _mixed(logs, (-math.log(len(_HEALTHY)),) * len(_HEALTHY))


def dispersion(tally: Tally) -> float:
    """Variance of the other version's bad events per look, by what independent ones would have. At least 1."""
    bad, total = tally.beside_bad - tally.pending[2], tally.beside_total - tally.pending[3]
    if tally.compared < 2 or bad <= 0 or total <= 0:
        return 1.0
    return max(1.0, (tally.spread * total / bad - bad) / (tally.compared - 1))


def _stretch(rule: Rule, tally: Tally, weight: int) -> Tally:
    """The test at the beginning of a look. At another weight, or after many requests, wealth is dealt out anew.

    All bets together have what they had, so K stays a supermartingale; but those that lost what they had while all was well get
    a part of it back, and see a fault that begins late. A fixed share (Herbster and Warmuth, 1998) that gets smaller, so that
    what a good release keeps falls slowly.
    """
    moved = weight != tally.weight
    if not moved and tally.total - tally.dealt_at < WINDOW / rule.harm:
        return tally
    part = 1 / (tally.stretches + 3)
    back = evidence(tally) + math.log(part)
    return tally.model_copy(
        update={
            "weight": weight,
            "stretches": tally.stretches + 1,
            "dealt_at": tally.total,
            "recent": [0.0, 0.0] if moved else tally.recent,
            "log_wealth": [_mixed([wealth + math.log1p(-part), back], (0.0, 0.0)) for wealth in tally.log_wealth],
        }
    )


def _recent(rule: Rule, tally: Tally, judged: Counts) -> list[float]:
    """The judged version's newest requests at this weight, the older ones faded: bad, total."""
    bad, total = (known + now for known, now in zip(tally.recent, judged, strict=True))
    fade = min(1.0, WINDOW / rule.harm / total) if total > 0 else 1.0
    return [fade * bad, fade * total]


def _lately(harm: float, tally: Tally) -> bool:
    """More of the newest requests are bad than chance explains at a rate of `harm`, whatever the release began with."""
    bad, total = tally.recent
    return bad >= harm * total + 3 * math.sqrt(harm * total) > 0


def _whole(bad: float, total: float) -> bool:
    """There were requests, and no more bad ones than that."""
    return 0 <= bad <= total and 0 < total < math.inf


def _gains(rule: Rule, bad: float, total: float, beside_bad: float, beside_total: float) -> list[float]:
    """ln of what each bet is multiplied with."""
    events = bad + beside_bad
    if events <= 0:
        return [0.0] * len(PRIOR)
    share = total / (total + beside_total)
    if not rule.independent:
        surprise = bad / events / share - 1
        return [math.log1p(stake * surprise) for stake in STAKES]
    rest = 1 - share
    norms = [math.log(ratio * share + rest) for ratio in RATIOS]
    return [bad * math.log(ratio) - events * norm for ratio, norm in zip(RATIOS, norms, strict=True)]


def _gains_alone(rule: Rule, limit: float, bad: float, total: float) -> list[float]:
    """The same where nothing is compared: against a rate."""
    if not rule.independent:
        surprise = bad / total / limit - 1
        return [math.log1p(stake * surprise) for stake in STAKES]
    return [bad * up + (total - bad) * down for up, down in _worse(limit)]


def _tolerable(rule: Rule, tally: Tally) -> float:
    """The rate to bet against where nothing is compared: `harm`, or more where the other version was worse than that."""
    known = 1.5 * tally.beside_bad / tally.beside_total if tally.beside_total > 0 else 0.0
    return min(max(rule.harm, known), (1 + rule.harm) / 2)


def _severe(rule: Rule, judged: Counts, beside: Counts) -> bool:
    if rule.severe is None or judged.total < SEVERE_REQUESTS:
        return False
    rate = judged.bad / judged.total
    return rate >= rule.severe and (beside.total <= 0 or beside.bad / beside.total < rate / 2)


def _wrong(rule: Rule, tally: Tally) -> str:
    """Why these numbers cannot be judged, or ''."""
    if not 0 < rule.harm < 1:
        return f"harm is {percent(rule.harm)}; it must be above 0 % and below 100 %"
    for bad, total in ((tally.bad, tally.total), (tally.beside_bad, tally.beside_total)):
        if not (math.isfinite(bad) and math.isfinite(total)):
            return f"{number(bad)} bad of {number(total)} requests are not counts"
        if bad < 0 or total < 0:
            return f"{number(bad)} bad of {number(total)} requests: a count cannot be negative"
        if bad > total * (1 + 1e-9):
            return f"{number(bad)} bad of only {number(total)} requests: `bad` counts something that `total` does not"
    return ""


def surprise(worse: float, alpha: float) -> str:
    """How far the evidence `worse` (ln K) has come, for people."""
    return f"{odds(worse)} that it is worse, {number(1 / alpha)} to 1 needed"


def odds(log: float) -> str:
    """From ln of them: ``212.1 to 1``."""
    return f"{number(math.exp(log))} to 1" if log < math.log(1e6) else "over a million to 1"


def _log_rates(rate: float, harm: float) -> tuple[float, float]:
    """ln(p/h) and ln((1-p)/(1-h)): what one bad and one good event are worth."""
    return math.log(rate / harm), math.log1p(-rate) - math.log1p(-harm)


@lru_cache(maxsize=256)
def _worse(harm: float) -> tuple[tuple[float, float], ...]:
    # Twice a harm near 1 is no rate: half of the way to certainty takes its place.
    low = min(2 * harm, (1 + harm) / 2)
    high, last = max(low, _WORST), len(PRIOR) - 1
    return tuple(_log_rates(low * (high / low) ** (j / last), harm) for j in range(last + 1))


@lru_cache(maxsize=256)
def _healthy(harm: float) -> tuple[tuple[float, float], ...]:
    return tuple(_log_rates(part * harm, harm) for part in _HEALTHY)


def _mixed(logs: Sequence[float], priors: Sequence[float]) -> float:
    """ln of the mixture; never overflows."""
    terms = [log + prior for log, prior in zip(logs, priors, strict=True)]
    top = max(terms)
    return top + math.log(sum(math.exp(term - top) for term in terms))

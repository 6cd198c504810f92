"""The rules, each for many releases at once. A rule says for each release when it alarms, in seconds; infinite: never.

`Bets` is serinus.analysis.sequential for many releases: tests/test_verdicts.py holds the two equal, look by look.
Everybody reads counters that are scraped once a look, at the same moments; at second 0 they are there and zero, which spares
the rules that ask for `rate()` the series that does not exist before the first error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from e2e.verdicts.worlds import Array, Counted, Load

from serinus.analysis.sequential import (
    _WORST,
    FEWEST,
    PRIOR,
    RATIOS,
    SEVERE_REQUESTS,
    STAKES,
    WINDOW,
    Rule,
)

#: A threshold that is asked now and then, and the rate that nobody would be woken for.
HARM = 0.01
#: In a good release Wald's test guards against this rate: the one that it knows has to be worse.
GUARDED = 0.05
#: Points of the rank test are as long as a look, and at least so many seconds; and how often it judges.
POINT, JUDGED_EVERY = 5, 60
#: Its sorting would take most of the run: it is given so many releases of a batch.
RANKED = 1000
#: One-sided 95 %.
_Z = 1.6448536269514722

_STAKES = np.array(STAKES)[:, None]
_LN_RATIOS = np.log(np.array(RATIOS))[:, None]
_RATIOS = np.array(RATIOS)[:, None]
_LN_PRIOR = np.log(np.array(PRIOR))[:, None]


class Bets:
    """The project's own test, of as many releases as there are columns."""

    def __init__(self, rule: Rule, releases: int) -> None:
        self.rule = rule
        self.log_wealth = np.zeros((len(PRIOR), releases))
        self.evidence = np.zeros(releases)
        #: Bad, total, and those of the version beside it: all, and what waits to be judged with the next look.
        self.counted = np.zeros((4, releases))
        self.pending = np.zeros((4, releases))
        self.severe = np.zeros(releases, bool)
        #: The newest requests at this weight: bad, total. When wealth was dealt out anew, and how often.
        self.recent = np.zeros((2, releases))
        self.weight = 0
        self.dealt_at = np.zeros(releases)
        self.stretches = np.zeros(releases)

    def look(
        self, bad: Array, total: Array, beside_bad: Array | None = None, beside_total: Array | None = None, weight: int = 0
    ) -> None:
        """One more look at each release; without the versions beside them there is none to compare with."""
        compared = beside_bad is not None
        self._stretch(weight)
        self.recent += (bad, total)
        self.recent *= np.minimum(1, WINDOW / self.rule.harm / np.maximum(self.recent[1], 1e-300))
        for i, each in enumerate((bad, total, beside_bad, beside_total)):
            if each is not None:
                self.counted[i] += each
                self.pending[i] += each
        bad, total, beside_bad, beside_total = self.pending
        whole = (bad <= total) & (total > 0)
        if compared:
            whole &= (beside_bad <= beside_total) & (beside_total > 0)
        if self.rule.severe is not None:
            at = np.flatnonzero(whole & (total >= SEVERE_REQUESTS) & (bad >= self.rule.severe * total))
            beside = np.divide(beside_bad[at], beside_total[at], out=np.zeros(at.size), where=beside_total[at] > 0)
            self.severe[at] |= (bad[at] / total[at] >= self.rule.severe) & (
                (beside_total[at] <= 0) | (beside < bad[at] / total[at] / 2)
            )
        self._bet(np.flatnonzero(whole & (bad + beside_bad > 0)) if compared else np.flatnonzero(whole), compared)
        if whole.all():
            self.pending[:] = 0
        else:
            self.pending[:, whole] = 0

    def _stretch(self, weight: int) -> None:
        moved, self.weight = weight != self.weight, weight
        due = np.flatnonzero(moved | (self.counted[1] - self.dealt_at >= WINDOW / self.rule.harm))
        if moved:
            self.recent[:] = 0
        if due.size:
            part = 1 / (self.stretches[due] + 3)
            back = self.evidence[due] + np.log(part)
            self.log_wealth[:, due] = np.logaddexp(self.log_wealth[:, due] + np.log1p(-part), back)
            self.stretches[due] += 1
            self.dealt_at[due] = self.counted[1, due]

    def _bet(self, at: Array, compared: bool) -> None:
        if not at.size:
            return
        bad, total, beside_bad, beside_total = self.pending[:, at]
        if compared:
            self.log_wealth[:, at] += self._gains(bad, total, beside_bad, beside_total)
        else:
            self.log_wealth[:, at] += self._alone(bad, total, *self.counted[2:, at])
        logs = self.log_wealth[:, at] + _LN_PRIOR
        top = logs.max(axis=0)
        self.evidence[at] = top + np.log(np.exp(logs - top).sum(axis=0))

    def _gains(self, bad: Array, total: Array, beside_bad: Array, beside_total: Array) -> Array:
        events, share = bad + beside_bad, total / (total + beside_total)
        if not self.rule.independent:
            return np.asarray(np.log1p(_STAKES * (bad / events / share - 1)))
        return np.asarray(bad * _LN_RATIOS - events * np.log(_RATIOS * share + (1 - share)))

    def _alone(self, bad: Array, total: Array, known_bad: Array, known_total: Array) -> Array:
        """Against `harm`, or more where the other version was worse than that so far."""
        harm, rule = self.rule.harm, self.rule
        known = np.divide(1.5 * known_bad, known_total, out=np.zeros(bad.size), where=known_total > 0)
        limit = np.minimum(np.maximum(harm, known), (1 + harm) / 2)
        if not rule.independent:
            return np.asarray(np.log1p(_STAKES * (bad / total / limit - 1)))
        low = np.minimum(2 * limit, (1 + limit) / 2)
        high = np.maximum(low, _WORST)
        rates = low * (high / low) ** (np.arange(len(PRIOR))[:, None] / (len(PRIOR) - 1))
        return np.asarray(bad * np.log(rates / limit) + (total - bad) * (np.log1p(-rates) - np.log1p(-limit)))

    def worse(self) -> Array:
        """It fails by the evidence."""
        bad, total = self.counted[:2]
        return np.asarray((self.evidence >= -math.log(self.rule.alpha)) & (bad >= FEWEST) & self._harmful(bad, total))

    def fails(self) -> Array:
        """It fails."""
        return self.worse() | (self.severe & self._harmful(*self.counted[:2]))

    def _harmful(self, bad: Array, total: Array) -> Array:
        harm, (newest_bad, newest) = self.rule.harm, self.recent
        lately = (newest > 0) & (newest_bad >= harm * newest + 3 * np.sqrt(harm * newest))
        return np.asarray((total > 0) & ((bad / np.maximum(total, 1e-300) >= harm) | lately))


class Single(Bets):
    """Each of many stakes by itself, with all the wealth: what a bet could do for who knows which is best. A row a stake."""

    #: Closer together where a little more is worth most.
    stakes = (1 - np.geomspace(1, 0.001, 16))[1:, None]

    def __init__(self, rule: Rule, releases: int) -> None:
        super().__init__(rule, releases)
        self.evidence = np.zeros((len(self.stakes), releases))

    def _stretch(self, weight: int) -> None:
        """There is one bet to deal to."""

    def _bet(self, at: Array, compared: bool) -> None:
        bad, total, beside_bad, beside_total = self.pending[:, at]
        events, share = bad + beside_bad, total / (total + beside_total)
        self.evidence[:, at] += np.log1p(self.stakes * (bad / events / share - 1))


@dataclass(frozen=True, slots=True)
class Scene:
    """Releases of one load, what is known of it, and how many seconds a look takes."""

    counted: Counted
    load: Load
    look: int
    #: Bad and total requests of the canary up to each second; the first row is second 0.
    bad: Array
    total: Array

    @classmethod
    def of(cls, counted: Counted, load: Load, look: int) -> Scene:
        bad, total = (np.vstack([np.zeros((1, each.shape[1]), each.dtype), each.cumsum(axis=0)]) for each in counted[:2])
        return cls(counted, load, look, bad, total)

    def at(self, look: int) -> Scene:
        """The same releases, looked at in other intervals."""
        return Scene(self.counted, self.load, look, self.bad, self.total)

    @property
    def seconds(self) -> int:
        return len(self.bad) - 1

    @property
    def releases(self) -> int:
        return int(self.bad.shape[1])

    def failed(self, when: Array) -> Array:
        """The canary's bad requests until an alarm at `when`, or until the end."""
        rows = np.minimum(when, self.seconds).astype(np.int64)
        failed: Array = self.bad[rows, np.arange(len(rows))]
        return failed


def bets(scene: Scene, rule: Rule) -> tuple[Array, Array]:
    """The project's test: alarms by the evidence alone, and those with `rule.severe`. Both bet the same."""
    tests, looks = Bets(rule, scene.releases), scene.counted.by_look(scene.look)
    alone, all_of_it = np.full(scene.releases, np.inf), np.full(scene.releases, np.inf)
    for number, look in enumerate(zip(*looks, strict=True), 1):
        tests.look(*look, weight=round(100 * scene.load.share))
        alone[tests.worse() & np.isinf(alone)] = number * scene.look
        if rule.severe is not None:
            all_of_it[tests.fails() & np.isinf(all_of_it)] = number * scene.look
        if number % 8 == 0 and np.isfinite(alone).all():
            break
    return alone, np.minimum(alone, all_of_it)


def best_bet(scene: Scene, alpha: float) -> Array:
    """The single bet that is fastest in the mean, chosen when all is over: what a test by look could reach at most."""
    test = Single(Rule(HARM, alpha), scene.releases)
    when = np.full(test.evidence.shape, np.inf)
    for number, look in enumerate(zip(*scene.counted.by_look(scene.look), strict=True), 1):
        test.look(*look)
        when[test.worse() & np.isinf(when)] = number * scene.look
        if number % 8 == 0 and np.isfinite(when).all():
            break
    best: Array = when[np.minimum(when, scene.seconds).mean(axis=1).argmin()]
    return best


def wald(scene: Scene, alpha: float) -> Array:
    """Wald's sequential test of the canary's own requests, for who knows both rates; it alarms at odds of 1/alpha."""
    base, worse = scene.load.base, scene.load.canary if scene.load.canary > scene.load.base else GUARDED
    worse = min(worse, 1 - 1e-12)
    up, down = math.log(worse / base), math.log1p(-worse) - math.log1p(-base)
    bad, total = scene.bad[scene.look :: scene.look], scene.total[scene.look :: scene.look]
    return _first(bad * up + (total - bad) * down >= -math.log(alpha), scene.look)


def threshold(scene: Scene, every: int, window: int, failures: int) -> Array:
    """`rate()[window]` of bad by `rate()` of all is above 1 %, at `failures` of the looks so far, which come `every` seconds.

    The rates are over the scrapes within the window, which has to hold two; where it does not, and where the canary had no
    requests, a look says nothing. Both rates are extrapolated alike, so their quotient is that of the rises. A window that
    never holds two scrapes is no rule: not a number.
    """
    when, failing = np.full(scene.releases, np.inf), np.zeros(scene.releases, np.int32)
    known = -1
    if window < 2 * scene.look:
        return np.full(scene.releases, np.nan)
    for now in range(every, scene.seconds + 1, every):
        newest = now // scene.look * scene.look
        oldest = max(0, (now - window) // scene.look * scene.look + scene.look)
        if newest <= oldest or (newest == known and failures == 1):
            continue
        known = newest
        bad, total = scene.bad[newest] - scene.bad[oldest], scene.total[newest] - scene.total[oldest]
        failing += bad > HARM * total
        when[(failing >= failures) & np.isinf(when)] = now
    return when


def ranks(scene: Scene) -> Array:
    """Mann-Whitney, one-sided at 95 %: at the end of each minute the rates of all looks so far, the canary's against the other's.

    A look without requests gives no rate. Ties are corrected for; where all rates are equal it says nothing.
    """
    point = max(scene.look, POINT)
    points = scene.counted.only(RANKED).by_look(point)
    keys = [_keys(points.bad.T, points.total.T, 1), _keys(points.beside_bad.T, points.beside_total.T, 0)]
    when = np.full(scene.releases, np.inf)
    for now in range(JUDGED_EVERY, scene.seconds + 1, JUDGED_EVERY):
        known = now // point
        left = np.flatnonzero(np.isinf(when[: len(keys[0])]))
        if not left.size:
            break
        mixed = np.concatenate([each[left, :known] for each in keys], axis=1)
        when[left[_surprise(mixed) > _Z]] = now
    when[RANKED:] = np.nan
    return when


#: A look without requests: sorted behind all others.
_NONE = np.iinfo(np.int64).max


def _keys(bad: Array, total: Array, mine: int) -> Array:
    """Rates as whole numbers of the same order, with their owner in the last bit: sorting those is fast."""
    rates = np.divide(bad, total, out=np.zeros(bad.shape), where=total > 0)
    keys: Array = np.where(total > 0, rates.view(np.int64) << 1 | mine, _NONE)
    return keys


def _surprise(keys: Array) -> Array:
    """How many standard deviations the canary's ranks are too high, by row; negative infinity where there is no saying."""
    keys = np.sort(keys, axis=1)
    there, mine, size = keys != _NONE, (keys & 1).astype(bool), keys.shape[1]
    mine &= there
    places = np.arange(size)
    new = np.ones(keys.shape, bool)
    new[:, 1:] = (keys[:, 1:] >> 1) != (keys[:, :-1] >> 1)
    first = np.maximum.accumulate(np.where(new, places, 0), axis=1)
    ends = np.ones(keys.shape, bool)
    ends[:, :-1] = new[:, 1:]
    last = np.minimum.accumulate(np.where(ends, places, size)[:, ::-1], axis=1)[:, ::-1]
    ours, all_of_them = mine.sum(axis=1), there.sum(axis=1)
    theirs = all_of_them - ours
    above = np.where(mine, (first + last) / 2 + 1, 0).sum(axis=1) - ours * (ours + 1) / 2 - ours * theirs / 2
    ties = np.where(there, (last - first + 1.0) ** 2 - 1, 0).sum(axis=1)
    pairs = np.maximum(all_of_them * (all_of_them - 1.0), 1)
    variance = ours * theirs / 12 * (all_of_them + 1 - ties / pairs)
    surprise: Array = np.divide(above - 0.5, np.sqrt(variance), out=np.full(len(keys), -np.inf), where=variance > 0)
    return surprise


#: The rules by their short names, and as the page calls them.
NAMES = {
    "serinus": "Serinus",
    "severe": "Serinus, `severe: 50%`",
    "independent": "Serinus, `independentErrors: true`",
    "wald": "Wald, who knows both rates",
    "threshold60": "1 % of `rate()[1m]`, every 60 s, 5 failures",
    "threshold10": "1 % of `rate()[1m]`, every 10 s, 5 failures",
    "threshold1": "1 % of `rate()[20s]`, every second, 1 failure",
    "ranks": "Mann-Whitney at 95 %, every minute",
}


#: The same and, of bad releases only, the bound for tests by look.
ALL = (*NAMES, "best")


def all_rules(scene: Scene, alpha: float) -> dict[str, Array]:
    """When each rule alarms, by its short name; not a number where it was not asked."""
    alone, severe = bets(scene, Rule(HARM, alpha, severe=0.5))
    return {
        "serinus": alone,
        "severe": severe,
        "independent": bets(scene, Rule(HARM, alpha, independent=True))[0],
        "best": best_bet(scene, alpha) if scene.load.canary > scene.load.base else np.full(scene.releases, np.nan),
        "wald": wald(scene, alpha),
        "threshold60": threshold(scene, 60, 60, 5),
        "threshold10": threshold(scene, 10, 60, 5),
        "threshold1": threshold(scene, 1, 20, 1),
        "ranks": ranks(scene),
    }


def _first(alarms: Array, look: int) -> Array:
    """When the first alarm is, of looks (rows) that are so many seconds long."""
    return np.where(alarms.any(axis=0), (alarms.argmax(axis=0) + 1.0) * look, np.inf)

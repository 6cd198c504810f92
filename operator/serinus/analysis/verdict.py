"""All checks of one look together: go back, go on, or wait."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from serinus.analysis.finding import Finding

NoDataPolicy = Literal["hold", "fail", "pass"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one look says.

    - ``Fail``: go back now.
    - ``Pass``: every check is content; a step that waits for evidence may end.
    - ``Wait``: there are numbers, and they decide nothing yet. A step with a duration may end with it, but not in `doubt`.
    - ``NoData``: a check has nothing to judge by. No step may end, whatever its duration.

    `fault_began` is the earliest first bad sample of the checks that failed, in seconds since the epoch.
    """

    kind: Literal["Fail", "Pass", "Wait", "NoData"]
    sentence: str
    findings: tuple[Finding, ...] = ()
    fault_began: float | None = None

    @property
    def doubt(self) -> bool:
        """What there is speaks against the version: it gets no more traffic for now."""
        return any(finding.doubt for finding in self.findings)


def silences(since: Mapping[str, float], findings: Sequence[Finding], now: float) -> dict[str, float]:
    """Since when each check has had no data, or errors: as it was at the look before (`since`), and with this look."""
    return {f.metric: since.get(f.metric, now) for f in findings if f.verdict in ("NoData", "Error")}


def combine(
    findings: Sequence[Finding],
    no_data: NoDataPolicy,
    no_data_for: Mapping[str, float],
    no_data_after: float,
) -> Verdict:
    """Combines the findings of one look.

    `no_data_for` has, by metric, for how many seconds it has had no data (or errors); -1 or missing: it has data, or only just
    lost it. After `no_data_after` seconds the policy decides: ``hold`` waits for ever, ``fail`` goes back, ``pass`` goes on
    without a check that has no data. An error never passes: a misspelt query would otherwise promote anything.
    Without any checks the version passes; its pods are judged elsewhere.
    """
    every = tuple(findings)
    failed = [f for f in every if f.verdict == "Fail"]
    if failed:
        return _fail(failed, every)

    silent = [f for f in every if f.verdict in ("NoData", "Error")]
    due = [f for f in silent if 0 <= no_data_after <= no_data_for.get(f.metric, -1.0)]
    if due and no_data == "fail":
        return Verdict("Fail", _sentences(due, no_data_for, "rolled back as spec.analysis.noData says"), every)

    ignored = [f for f in due if f.verdict == "NoData"] if no_data == "pass" else []
    blocking = [f for f in silent if f not in ignored]
    if blocking:
        return Verdict("NoData", _sentences(blocking, no_data_for, "holding"), every)

    waiting = [f for f in every if f.verdict == "Wait"]
    without = f"; without {', '.join(f.metric for f in ignored)}, which had no data" if ignored else ""
    if waiting:
        return Verdict("Wait", "; ".join(f.sentence for f in waiting) + without, every)
    passed = [f for f in every if f.verdict == "Pass"]
    return Verdict("Pass", ("; ".join(f.sentence for f in passed) or "no checks on numbers") + without, every)


def _fail(failed: list[Finding], every: tuple[Finding, ...]) -> Verdict:
    began = min((f.fault_began for f in failed if f.fault_began is not None), default=None)
    return Verdict("Fail", "; ".join(f.sentence for f in failed), every, began)


def _sentences(findings: list[Finding], no_data_for: Mapping[str, float], then: str) -> str:
    parts = []
    for finding in findings:
        seconds = no_data_for.get(finding.metric, -1.0)
        parts.append(f"{finding.sentence}, for {seconds:.0f} s" if seconds >= 1 else finding.sentence)
    return f"{'; '.join(parts)}: {then}"

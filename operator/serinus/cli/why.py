"""`serinus why`: what became of a release, for whoever is woken by it. `story` is pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from rich.console import Console

from serinus.analysis.finding import number, percent
from serinus.analysis.sequential import evidence, odds, tolerated
from serinus.api.base import OWNED_LABEL, short_name
from serinus.api.canary import Canary
from serinus.api.release import Evidence, Release, Times
from serinus.kube import CANARIES, RELEASES, KubeError, connect

#: What each moment of a release is called.
MOMENTS: dict[str, str] = {
    "canary_ready": "the canary's pods were ready",
    "first_exposed": "it had its first traffic",
    "fault_began": "the fault began",
    "decided": "it was decided to go back",
    "zero_written": "weight 0 was written",
    "zero_verified": "the canary's traffic was at zero",
    "unpaused": "every step was passed: the Deployment rolled out",
    "promoted": "the Deployment ran the new version",
    "returning": "traffic went back to the Service",
    "ended": "nothing was left of it but the record",
}
_OUTCOMES = {
    "Promoted": "was promoted",
    "RolledBack": "was rolled back",
    "Aborted": "was aborted",
    "Superseded": "gave way to a newer version",
    "Skipped": "went out without judgement",
}


async def report(namespace: str, name: str, release: str) -> int:
    """Prints the story of the newest release, or of `release`. Returns the exit code: 1 if there is none."""
    out = Console(soft_wrap=True)
    kube = await connect()
    try:
        found = await kube.list(RELEASES, namespace, f"{OWNED_LABEL}={short_name(name)}")
        known = await kube.find(CANARIES, namespace, name)
    except KubeError as failure:
        out.print(f"the API server cannot be asked: {failure}", markup=False, style="red")
        return 1
    finally:
        await kube.close()
    releases = [Release.model_validate(item) for item in found]
    canary = Canary.model_validate(known) if known else None
    one = chosen([each for each in releases if each.spec.canary == name], release)
    if one is None:
        out.print(missing(namespace, name, release, canary), markup=False, highlight=False)
        return 1
    out.print("\n".join(story(one, canary)), markup=False, highlight=False)
    return 0


def chosen(releases: Sequence[Release], name: str = "") -> Release | None:
    """The one of that name; without a name the newest."""
    named = [release for release in releases if not name or release.metadata.name == name]
    return max(named, key=lambda release: release.spec.requested_at, default=None)


def missing(namespace: str, name: str, release: str, canary: Canary | None) -> str:
    """Why there is nothing to tell, in a sentence."""
    if release:
        return f"Canary {name} has no release {release} in namespace {namespace}; kubectl get releases -n {namespace} lists them"
    if canary is None:
        return f"there is no Canary {name} in namespace {namespace}; kubectl get canaries --all-namespaces lists them"
    first = f"the first is the next version applied to Deployment {canary.spec.target_ref.name}"
    return f"Canary {name} ({canary.status.phase}) has had no release yet: {first}"


def story(release: Release, canary: Canary | None = None) -> list[str]:
    """Lines for people: the outcome, when it happened, what the checks saw, what users saw, what to do next."""
    status = release.status
    parts = [[_headline(release), f"  {status.why}"] if status.why else [_headline(release)]]
    if when := list(_when(status.times)):
        parts.append(["When (UTC, and seconds since the line above)", *when])
    if status.evidence:
        parts.append(["What the checks saw", *(line for each in status.evidence for line in _check(each, _needed(canary)))])
    if status.times.first_exposed:
        users = f"  {number(status.exposure.requests)} requests went to it, and {number(status.exposure.failures)} of them failed"
        parts.append(["What users saw", f"{users}, as the checks counted."])
    parts.append(["What to do next", *(f"  {line}" for line in _next(release, canary))])
    return [line for part in parts for line in (*part, "")][:-1]


def _headline(release: Release) -> str:
    spec, status = release.spec, release.status
    of = f"{release.metadata.name}: {spec.revision}{f' ({spec.images[0]})' if spec.images else ''}"
    if status.outcome is None:
        step = f", step {status.step + 1}, weight {status.weight} %" if status.stage in ("Stepping", "Paused") else ""
        return f"{of} is under way: {status.stage}{step}"
    reason = f" ({status.reason})" if status.reason and status.reason != status.outcome else ""
    return f"{of} {_OUTCOMES[status.outcome]}{reason}"


def _when(times: Times) -> Iterator[str]:
    """Moments as they came, each with the seconds since the one before."""
    moments = [(at, words) for name, words in MOMENTS.items() if (at := getattr(times, name)) is not None]
    before: datetime | None = None
    for at, words in sorted(moments, key=lambda moment: moment[0]):
        since = f"+{(at - before).total_seconds():.1f} s" if before else f"{at:%Y-%m-%d}"
        yield f"  {at:%H:%M:%S}.{at.microsecond // 100_000}  {since:>11}  {words}"
        before = at


def _needed(canary: Canary | None) -> str:
    """The odds at which a check fails; '' where the Canary is gone, or has no checks any more."""
    if canary is None or not canary.spec.analysis.metrics:
        return ""
    return f", {number(1 / tolerated(canary.spec.analysis, harm=0).alpha)} to 1 needed"


def _check(seen: Evidence, needed: str) -> Iterator[str]:
    yield f"  {seen.metric}: {seen.verdict}" + (f", {seen.limit}" if seen.limit else "")
    tally = seen.tally
    if tally is None or not tally.total or seen.verdict == "Error" or seen.value is not None:
        yield f"    {seen.sentence}"
        return
    yield f"    this version     {_rate(tally.bad, tally.total)}"
    if tally.beside_total:
        yield f"    the one beside   {_rate(tally.beside_bad, tally.beside_total)}"
    yield f"    {odds(evidence(tally))} that it is worse{needed}; {tally.looks} look{'s' if tally.looks != 1 else ''}"


def _rate(bad: float, total: float) -> str:
    return f"{number(bad)} bad of {number(total)} requests: {percent(min(1.0, bad / total))}"


def _next(release: Release, canary: Canary | None) -> Iterator[str]:
    """The commands of docs/operations.md."""
    status, name = release.status, release.metadata.name
    namespace = release.metadata.namespace or "default"
    annotate = f"kubectl annotate canary {release.spec.canary} -n {namespace} --overwrite"
    if canary is not None and canary.status.release and canary.status.release != name:
        yield f"This is history; the newest release is {canary.status.release}."
    elif status.stage != "Ended" and status.outcome is None:
        if status.stage == "Paused":
            yield f"go on:            {annotate} serinus.dev/resume={name}/{status.step}"
        yield f"take it back:     {annotate} serinus.dev/abort={name}"
    elif status.outcome in ("RolledBack", "Aborted"):
        if status.times.zero_verified or not status.times.first_exposed:
            yield "Users are safe: the version before it serves, and this one is held."
        else:
            yield "Traffic goes back right now; weight 0 is written until the router has it."
        yield "put the old one back:  apply your previous manifest, or revert in Git"
        yield "ship a fix:            apply it; it is a new release"
        yield f"try it once more:      {annotate} serinus.dev/retry={name}"
        yield f"the bad pods' logs:    kubectl logs -n {namespace} -l serinus.dev/role=canary --all-containers --prefix"
    elif status.outcome == "Superseded":
        yield "Nothing: the newer version has a release of its own."
    else:
        yield "Nothing: it serves." if status.stage == "Ended" else "Nothing: it is on its way."

"""Between releases: what a Canary that judges nothing should do with what it sees.

Pure, as machine.py. Decides whether a release begins, and what the Canary says of itself meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from serinus.api.canary import Canary, Phase
from serinus.api.release import Kind, Outcome, Stage

#: Why a version goes out unjudged that asks for it.
SKIP = "the pod template carries serinus.dev/skip"

#: How versions are held: by the admission policy, or by keeping the Deployment paused at all times.
Hold = Literal["policy", "pause"]


@dataclass(frozen=True)
class LastRelease:
    """The newest ended attempt."""

    name: str
    revision: str
    outcome: Outcome
    target_uid: str
    generation: int
    attempt: int


@dataclass(frozen=True)
class AtRest:
    """What is seen of the Deployment when no release is under way."""

    exists: bool = True
    uid: str = ""
    generation: int = 1
    replicas: int = 1
    paused: bool = False
    labelled: bool = True
    #: The template is that of the ReplicaSet that serves.
    serving: bool = True
    #: Every replica runs the template that the Deployment holds.
    rolled_out: bool = True
    #: The Deployment's own controller has seen what it holds now. While it has not, `rolled_out` says nothing.
    observed: bool = True
    #: Differs from the serving template by kubectl's restart annotation only.
    restart_only: bool = False
    #: The template asks to go out unjudged.
    skip: bool = False
    revision: str = ""
    serving_revision: str = ""
    last: LastRelease | None = None
    #: (reason, message) of what stops adoption, and of what a person should know.
    problems: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Begin:
    """A release to create."""

    kind: Kind
    attempt: int
    stage: Stage = "Preparing"
    outcome: Outcome | None = None
    why: str = ""


@dataclass(frozen=True)
class Rest:
    """What should be so."""

    phase: Phase
    reason: str
    why: str
    begin: Begin | None = None
    #: True: pause it; False: unpause it; None: leave it.
    pause: bool | None = None
    #: Put the label back on the Deployment.
    label: bool = False
    #: This is the version that serves from now on.
    settled: bool = False


def decide(canary: Canary, seen: AtRest, hold: Hold, retry: str = "") -> Rest:
    """One decision about a Canary without a release under way."""
    if not seen.exists:
        why = f"there is no Deployment {canary.spec.target_ref.name} in this namespace; create it, or mend spec.targetRef.name"
        return Rest("Adopting", "TargetNotFound", why)
    if seen.problems:
        return Rest("Adopting", *seen.problems[0], label=False)
    if seen.serving:
        return serving(canary, seen, hold)
    return differing(canary, seen, hold, retry)


def serving(canary: Canary, seen: AtRest, hold: Hold) -> Rest:
    """The Deployment holds the template that serves."""
    pause: bool | None = None
    mixed = seen.observed and not seen.rolled_out
    if hold == "pause" and not seen.paused and seen.rolled_out:
        pause = True
    elif hold == "policy" and seen.paused:
        pause = False
    elif hold == "pause" and seen.paused and mixed and seen.last and seen.last.outcome == "RolledBack":
        pause = False  # put back in mid-promotion: what had rolled out has to roll back
    why = "serving" if seen.rolled_out else "rolling out"
    ready = seen.rolled_out or canary.status.phase != "Adopting"
    return Rest(
        "Stable" if ready else "Adopting",
        "Stable" if ready else "RollingOut",
        why,
        pause=pause,
        label=not seen.labelled,
        settled=seen.rolled_out,
    )


def differing(canary: Canary, seen: AtRest, hold: Hold, retry: str) -> Rest:
    """The Deployment holds a template that does not serve.

    A label that is missing now is not put back: taking it off is how the glass is broken.
    """
    last, status = seen.last, canary.status
    same = last is not None and last.revision == seen.revision and last.target_uid == seen.uid
    # Tried, and not since replaced by the serving version: that clears newRevision.
    if same and last and last.outcome in ("RolledBack", "Aborted") and status.new_revision == seen.revision and seen.paused:
        if retry == last.name:
            return Rest("Progressing", "Retry", "retried by hand", Begin("Retry", last.attempt + 1))
        return Rest("RolledBack", last.outcome, status.why)
    if not seen.paused and (not status.target_uid or (same and last and last.outcome == "Skipped")):
        return Rest("Adopting" if not status.target_uid else "Stable", "RollingOut", "rolling out")
    attempt = last.attempt + 1 if last and last.target_uid == seen.uid and last.generation == seen.generation else 1
    if seen.skip:
        return Rest("Promoting", "Skipped", SKIP, Begin("Deploy", attempt, "Promoting", "Skipped", SKIP))
    if not seen.paused:
        why = unheld(canary, seen, hold)
        return Rest("Promoting", "Skipped", why, Begin("Deploy", attempt, "Promoting", "Skipped", why))
    kind: Kind = "Restart" if seen.restart_only else "Deploy"
    return Rest("Progressing", "NewVersion", f"{seen.revision} was applied", Begin(kind, attempt))


def unheld(canary: Canary, seen: AtRest, hold: Hold) -> str:
    """Why a version rolls that nobody judged."""
    if canary.status.target_uid and canary.status.target_uid != seen.uid:
        return "the Deployment was created anew"
    if hold == "policy" and not seen.labelled:
        return "the Deployment did not carry the label serinus.dev/canary, so nothing held the new version"
    return "the Deployment was unpaused by hand"

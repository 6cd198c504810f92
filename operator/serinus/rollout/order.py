"""In which order a pass makes a decision so. Half of what makes a pass safe; the machine's decisions are the other half.

Pure, so that the exploration in tests/explore.py walks the very order that the loop walks, and may stop it anywhere.

    Take      traffic is taken back, before anything else is written
    Record    the Release's status: what is about to be done is on record before it is done
    Objects   the canary's pods and companions
    Target    the user's Deployment
    Give      traffic is given
    Restore   the routes are put back; first of all where they still send traffic to the canary
    Tell      what people read: the Canary's status, events
"""

from __future__ import annotations

from typing import Literal

from serinus.rollout.machine import Decision

Write = Literal["Take", "Record", "Objects", "Target", "Give", "Restore", "Tell"]


def writes(decision: Decision, weight: int) -> tuple[Write, ...]:
    """What a pass writes, in order, when the canary has `weight` percent in the routes."""
    wanted = decision.desired.weight
    if wanted is None and weight:
        return ("Restore", "Record", "Objects", "Target", "Tell")
    if wanted is None:
        return ("Record", "Objects", "Target", "Restore", "Tell")
    if weight > wanted:
        return ("Take", "Record", "Objects", "Target", "Tell")
    if decision.status.stage in ("Draining", "RollingBack", "Keeping") or not decision.desired.give:
        return ("Record", "Objects", "Target", "Tell")
    return ("Record", "Objects", "Target", "Give", "Tell")

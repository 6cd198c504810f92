"""Between releases: what begins one, and what does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.model import canary

from serinus.api.canary import CanaryStatus
from serinus.rollout.rest import AtRest, Hold, LastRelease, decide

STABLE = AtRest(uid="u", generation=2, revision="new", serving_revision="old")
HELD = replace(STABLE, serving=False, paused=True, rolled_out=False)
LAST = LastRelease("web-1", "new", "RolledBack", "u", 2, 1)


def rest(seen: AtRest, phase: str = "Stable", hold: Hold = "policy", **more: Any) -> Any:
    subject = canary()
    tried = more.pop("tried", "new" if phase == "RolledBack" else "")
    subject.status = CanaryStatus.model_validate({"phase": phase, "targetUid": more.pop("uid", "u"), "newRevision": tried})
    return decide(subject, seen, hold, **more)


def test_a_held_template_begins_a_release() -> None:
    begin = rest(HELD).begin
    assert (begin.kind, begin.attempt, begin.stage) == ("Deploy", 1, "Preparing")


def test_a_route_that_comes_and_goes_does_not_try_a_bad_version_again() -> None:
    seen = replace(HELD, last=LAST)
    assert rest(seen, "Adopting", tried="new").phase == "RolledBack"
    assert rest(seen, "Stable").begin.kind == "Deploy", "the serving version was there in between"


def test_a_restart_is_told_apart() -> None:
    assert rest(replace(HELD, restart_only=True)).begin.kind == "Restart"


def test_after_a_rollback_the_bad_version_stays_held_until_retried() -> None:
    seen = replace(HELD, last=LAST)
    assert rest(seen, "RolledBack").begin is None
    assert rest(seen, "RolledBack", retry="web-0").begin is None
    again = rest(seen, "RolledBack", retry="web-1").begin
    assert (again.kind, again.attempt) == ("Retry", 2)


def test_another_version_after_a_rollback_is_a_new_release() -> None:
    assert rest(replace(HELD, revision="third", last=LAST), "RolledBack").begin.kind == "Deploy"


def test_the_same_bad_version_applied_again_later_is_a_new_attempt() -> None:
    assert rest(replace(HELD, last=LAST), "Stable").begin.attempt == 2


def test_the_old_version_put_back_is_stable_at_once_and_not_paused() -> None:
    back = rest(replace(STABLE, paused=True, rolled_out=True, last=LAST), "RolledBack")
    assert (back.phase, back.pause, back.begin) == ("Stable", False, None)


def test_skip_goes_out_unjudged_and_is_recorded() -> None:
    begin = rest(replace(HELD, skip=True)).begin
    assert (begin.stage, begin.outcome) == ("Promoting", "Skipped")


def test_the_glass_can_be_broken_after_a_rollback() -> None:
    held = replace(HELD, labelled=False, last=LAST)
    assert not rest(held, "RolledBack").label, "else the unpausing that follows would be refused"
    begin = rest(replace(held, paused=False), "RolledBack").begin
    assert (begin.outcome, begin.stage) == ("Skipped", "Promoting")


@pytest.mark.parametrize("uid", ["u", "another"])
def test_what_rolls_without_us_is_recorded_as_skipped(uid: str) -> None:
    begin = rest(replace(HELD, paused=False), uid=uid).begin
    assert (begin.stage, begin.outcome) == ("Promoting", "Skipped")
    assert ("created anew" in begin.why) == (uid == "another")


def test_what_was_rolling_before_adoption_is_let_finish() -> None:
    decision = rest(replace(HELD, paused=False), "Adopting", uid="")
    assert (decision.begin, decision.phase) == (None, "Adopting")


def test_without_the_policy_the_deployment_stays_paused_at_rest() -> None:
    assert rest(STABLE, hold="pause").pause is True
    assert rest(replace(STABLE, paused=True), hold="pause").pause is None
    assert rest(replace(STABLE, rolled_out=False), hold="pause").pause is None, "not in the middle of a roll"


def test_what_was_put_back_without_the_policy_rolls_back_and_is_paused_once() -> None:
    mixed = replace(STABLE, paused=True, rolled_out=False, last=LAST)
    assert rest(mixed, hold="pause").pause is False
    assert rest(replace(mixed, observed=False), hold="pause").pause is None, "else it is paused and unpaused for ever"


def test_the_label_is_put_back() -> None:
    assert rest(replace(STABLE, labelled=False)).label


def test_obstacles_come_first_and_nothing_is_touched() -> None:
    decision = rest(replace(HELD, problems=(("NoSharedLabel", "sentence"),)))
    assert (decision.phase, decision.reason, decision.begin, decision.pause) == ("Adopting", "NoSharedLabel", None, None)
    missing = rest(AtRest(exists=False))
    assert (missing.reason, missing.begin) == ("TargetNotFound", None)

"""The machine under a virtual clock, named for the behaviours that users of other controllers ask for."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.model import START, Model, canary, release

from serinus.analysis.pods import PodFault
from serinus.api.base import LONGEST
from serinus.api.canary import Canary
from serinus.rollout.machine import advance, alone
from serinus.rollout.observation import Commands, RouteView
from serinus.rollout.plan import carries, pods_for, share_of_pods, way_back


def fault() -> PodFault:
    return PodFault("CrashLoop", "container app crashed twice", "web-canary-1", "app", None)


def test_a_good_release_is_promoted_through_every_step() -> None:
    model = Model().run()
    assert model.release.status.outcome == "Promoted"
    assert [step.weight for step in model.release.status.steps] == [10, 50, 100]
    times = model.release.status.times
    moments = [times.canary_ready, times.first_exposed, times.promoted, times.zero_verified, times.ended]
    assert moments == sorted(moments), "times in order"
    assert not model.target.paused


def test_a_bad_release_is_rolled_back_and_stays_held() -> None:
    model = Model().run("Stepping")
    model.says = "Fail"
    model.run()
    assert model.release.status.outcome == "RolledBack"
    assert model.target.paused, "the bad version never reaches the Deployment's pods"
    assert model.release.status.times.fault_began == START


def test_rollback_takes_the_weight_in_the_very_pass_that_sees_the_failure() -> None:
    model = Model().run("Stepping")
    model.tick()
    model.says = "Fail"
    decision = model.tick()
    assert decision.desired.weight == 0
    assert decision.status.stage == "RollingBack"


def test_a_failed_look_is_acted_on_before_the_steps_clock() -> None:
    model = Model().run("Stepping")
    while model.route.weight != 10:
        model.tick()
    model.now += timedelta(seconds=60)  # the step's time is long over when the bad look arrives
    model.says = "Fail"
    assert model.tick().desired.weight == 0
    assert [step.weight for step in model.release.status.steps] in ([], [10])


def test_a_crash_loop_never_gets_traffic() -> None:
    model = Model(room=0)
    model.tick()
    model.own = replace(model.own, fault=fault())
    model.run()
    status = model.release.status
    assert (status.outcome, status.reason, status.times.first_exposed) == ("RolledBack", "CrashLoop", None)
    assert max(weight for _, weight in model.history) == 0
    assert "never had traffic" in status.why


def test_pods_that_never_become_ready_fail_by_the_deadline_and_not_before() -> None:
    model = Model(canary=canary(progressDeadline="30s"), room=0)
    model.run("Keeping")
    assert model.release.status.reason == "ProgressDeadlineExceeded"
    assert model.now - START >= timedelta(seconds=30)


def test_no_traffic_is_neither_success_nor_failure() -> None:
    model = Model(says="NoData").run("Stepping")
    for _ in range(300):
        model.tick()
    assert model.release.status.stage == "Stepping"
    assert model.release.status.weight == 10


def test_without_a_duration_a_step_waits_for_evidence() -> None:
    model = Model(canary=canary(steps=None, stepWeights=[20, 100])).run("Stepping")
    for _ in range(100):
        model.tick()
    assert model.release.status.weight == 20, "not on a Wait"
    model.says = "Pass"
    model.run()
    assert model.release.status.outcome == "Promoted"


def test_a_step_without_a_duration_lasts_at_least_and_at_most_as_long_as_it_says() -> None:
    steps = [{"weight": 20, "minDuration": "30s"}, {"weight": 100, "maxDuration": "40s"}]
    model = Model(canary=canary(steps=steps), says="Pass").run("Stepping")
    began = model.now
    while model.release.status.step == 0:
        model.tick()
    assert 30 <= (model.now - began).total_seconds() <= 33
    began, model.says = model.now, "Wait"
    while model.release.status.stage == "Stepping":
        model.tick()
    assert 40 <= (model.now - began).total_seconds() <= 43


@pytest.mark.parametrize("bound", ["duration", "maxDuration"])
def test_a_version_that_is_doubted_gets_no_more_traffic_however_long_that_lasts(bound: str) -> None:
    model = Model(canary=canary(steps=[{"weight": 20, bound: "5s"}, {"weight": 100}]), says="Doubt").run("Stepping")
    for _ in range(100):
        model.tick()
    assert model.release.status.weight == 20
    model.says = "Pass"
    model.run()
    assert model.release.status.outcome == "Promoted"


def test_a_third_version_supersedes_cleanly() -> None:
    model = Model().run("Stepping")
    model.tick()
    model.target = replace(model.target, template="other")
    model.run()
    assert model.release.status.outcome == "Superseded"
    assert model.target.paused
    weights = [weight for _, weight in model.history]
    assert weights[-1] == 0


def test_a_fix_that_is_pushed_hides_no_harm() -> None:
    model = Model().run("Stepping")
    model.tick()
    model.says, model.target = "Fail", replace(model.target, template="other")
    assert model.run().release.status.outcome == "RolledBack"


def test_the_serving_version_put_back_ends_it() -> None:
    model = Model().run("Stepping")
    model.target = replace(model.target, template="serving")
    model.run()
    assert (model.release.status.outcome, model.release.status.reason) == ("Aborted", "Reverted")


def test_lost_readiness_lowers_the_share_at_once_and_fails_after_a_grace() -> None:
    model = Model().run("Stepping")
    while model.route.weight != 50:
        model.tick()
    model.room, model.own = 0, replace(model.own, ready=0)
    assert model.tick().desired.weight == 0
    model.run("Keeping")
    assert model.release.status.reason == "ReadinessLost"


def test_a_pause_waits_for_its_own_word_only() -> None:
    steps = [{"weight": 10, "duration": "1s"}, {"pause": {}}, {"weight": 100, "duration": "1s"}]
    model = Model(canary=canary(steps=steps)).run("Paused")
    for word in ("web-1/0", "web-0/1", "true"):
        model.commands = Commands(resume=word)
        model.tick()
        assert model.release.status.stage == "Paused"
    model.commands = Commands(resume="web-1/1")
    assert model.run().release.status.outcome == "Promoted"


def test_a_paused_release_is_still_judged() -> None:
    steps = [{"weight": 10, "duration": "1s"}, {"pause": {}}]
    model = Model(canary=canary(steps=steps)).run("Paused")
    model.says = "Fail"
    assert model.run().release.status.outcome == "RolledBack"


def test_break_glass_is_recorded_and_not_fought() -> None:
    model = Model().run("Stepping")
    model.target = replace(model.target, paused=False)
    model.run()
    assert (model.release.status.outcome, model.release.status.reason) == ("Skipped", "ReleasedByHand")
    assert not model.target.paused


def test_a_stuck_promotion_lets_the_fix_in() -> None:
    model = Model(canary=canary(promotion={"deadline": "30s"}), can_roll=False).run("Promoting")
    decision = model.tick()
    assert decision.desired.frozen
    while not model.release.status.stuck:
        decision = model.tick()
    assert not model.tick().desired.frozen
    assert model.route.weight == 100, "the judged version keeps the traffic"
    model.target = replace(model.target, template="other", paused=True)
    assert model.run().release.status.outcome == "Superseded"


def test_a_failure_while_it_rolls_out_puts_the_serving_template_back() -> None:
    model = Model(can_roll=False).run("Promoting")
    model.tick()
    model.says = "Fail"
    model.run()
    assert model.release.status.outcome == "RolledBack"
    assert model.target.template == "serving"


def test_cold_pods_that_fail_on_the_way_back_give_the_traffic_to_the_canary_again() -> None:
    model = Model().run("Returning")
    while model.release.status.weight != 50:
        model.tick()
    model.says = "Fail"
    assert model.tick().desired.weight == 100
    model.says = "Wait"
    assert model.run().release.status.outcome == "Promoted"
    assert "ReturnFailed" in model.notes


def test_a_route_that_somebody_puts_back_is_not_fought_over() -> None:
    model = Model().run("Stepping")
    ticks = 0
    while model.release.status.outcome is None and ticks < 400:
        ticks += 1
        if model.route.weight:
            model.route = replace(model.route, weight=0, uniform=False, restored=True, reverted=True)
        decision = model.tick()
        model.route = replace(model.route, reverted=False)
        if model.notes[-1:] == ["RouteReverted"] and decision.status.outcome is None and not decision.status.weight:
            assert decision.desired.weight is None, "the route is left as it is until the next try"
    assert (model.release.status.outcome, model.release.status.reason) == ("Aborted", "RouteConflict")
    assert model.notes.count("RouteReverted") == 3


@pytest.mark.parametrize("stage", ["Paused", "Promoting"])
def test_that_a_route_was_put_back_is_noticed_outside_of_a_step_too(stage: str) -> None:
    """The loop calls it so once the weight was taken, of which `step_since` is the record."""
    steps = [{"weight": 50, "duration": "1s"}] + ([{"pause": {}}] if stage == "Paused" else [])
    model = Model(canary=canary(steps=steps), can_roll=False).run(stage)
    for _ in range(3):
        model.tick()
    assert model.release.status.step_since is not None
    model.route = replace(model.route, weight=0, uniform=False, restored=True, reverted=True)
    assert not model.tick().desired.weight
    model.route = replace(model.route, reverted=False)
    assert not model.tick().desired.weight, "it is not fought over"


def test_the_release_before_is_not_held_against_this_one() -> None:
    recent = canary(analysis={"metricsDelay": "15s"})
    recent.status.last_traffic_end = START
    model = Model(canary=recent).run("Stepping")
    assert model.now >= START + timedelta(seconds=15)


def test_a_deployment_at_zero_waits_and_goes_on() -> None:
    model = Model(release=release(replicas=0))
    model.target = replace(model.target, replicas=0, ready=0)
    for _ in range(700):
        decision = model.tick()
    assert (model.release.status.stage, decision.desired.pods) == ("Preparing", 0)
    model.target = replace(model.target, replicas=3, ready=3)
    assert model.run().release.status.outcome == "Promoted"


def test_deleting_the_canary_takes_the_traffic_back_first() -> None:
    model = Model().run("Stepping")
    model.tick()
    model.commands = Commands(deleting=True)
    assert model.tick().desired.weight == 0
    assert model.run().release.status.outcome == "Aborted"


@settings(max_examples=200)
@given(
    st.lists(
        st.sampled_from(
            [
                "tick",
                "fail",
                "wait",
                "pass",
                "nodata",
                "other",
                "serving",
                "unpause",
                "crash",
                "lose",
                "delete",
                "revert",
                "stick",
            ]
        ),
        max_size=60,
    )
)
def test_whatever_happens_it_ends_and_traffic_is_never_on_more_than_is_ready(events: list[str]) -> None:
    model = Model(canary=canary(progressDeadline="20s", promotion={"deadline": "20s"}))
    for event in events:
        happen(model, event)
        again = advance(model.canary, model.release, model.observe(), model.now)
        assert model.tick().status == again.status, "the same arguments, the same answer"
    model.says, model.can_roll, model.room = "Pass", True, 100
    model.own = replace(model.own, fault=None)
    model.run()
    assert model.route.restored
    assert model.own.gone


def happen(model: Model, event: str) -> None:
    verdicts = {"fail": "Fail", "wait": "Wait", "pass": "Pass", "nodata": "NoData"}
    model.says = verdicts.get(event, model.says)
    if event in ("other", "serving"):
        model.target = replace(model.target, template=event, paused=True)  # type: ignore[arg-type]
    elif event == "unpause":
        model.target = replace(model.target, paused=False)
    elif event == "crash":
        model.own = replace(model.own, fault=fault())
    elif event == "lose":
        model.own = replace(model.own, ready=0)
    elif event == "delete":
        model.commands = Commands(deleting=True)
    elif event == "revert" and model.route.weight:
        model.route = replace(model.route, weight=0, uniform=False, restored=True)
    elif event == "stick":
        model.can_roll = False


@pytest.mark.parametrize(("weight", "replicas", "pods"), [(10, 3, 1), (34, 3, 2), (50, 3, 2), (100, 3, 3), (1, 1, 1), (0, 3, 0)])
def test_pods_for_a_share(weight: int, replicas: int, pods: int) -> None:
    assert pods_for(weight, replicas) == pods


@given(st.integers(1, 100), st.integers(1, 500))
def test_the_pods_for_a_share_carry_it(weight: int, replicas: int) -> None:
    assert carries(pods_for(weight, replicas), replicas) >= weight


@given(st.integers(1, 100), st.integers(1, 500))
def test_without_a_router_the_share_is_at_most_half(weight: int, replicas: int) -> None:
    assert 0 < share_of_pods(pods_for(weight, replicas, by_pods=True), replicas) <= 50 or replicas > 99


@pytest.mark.parametrize(("weight", "way"), [(100, [50, 0]), (50, [0]), (5, [0])])
def test_the_way_back(weight: int, way: list[int]) -> None:
    assert way_back(weight) == way


def test_both_forms_of_a_plan_are_one() -> None:
    short: Canary = canary(steps=None, stepWeights=[5, 25])
    assert [step.weight for step in short.spec.plan()] == [5, 25]


def test_a_paused_release_gets_its_share_again_when_its_pods_are_ready_again() -> None:
    steps = [{"weight": 50, "duration": "1s"}, {"pause": {}}]
    model = Model(canary=canary(steps=steps)).run("Paused")
    model.tick()
    model.own = replace(model.own, ready=0)
    assert model.tick().desired.weight == 0
    model.own = replace(model.own, ready=3)
    model.tick()
    assert model.tick().desired.weight == 50


def gone(model: Model) -> None:
    model.route = RouteView(uniform=False, settled=False, problem="missing")


def test_a_route_that_is_gone_is_told_once_and_waited_for() -> None:
    model = Model().run("Stepping")
    while model.route.weight != 10:
        model.tick()
    for _ in range(30):
        gone(model)
        model.tick()
    assert model.notes.count("RouteNotFound") == 1
    assert (model.release.status.stage, model.release.status.step) == ("Stepping", 0)
    assert model.release.status.why == "none of the routes in spec.traffic exists"
    model.route = RouteView(uniform=False)
    assert model.run().release.status.outcome == "Promoted"


@pytest.mark.parametrize("stage", ["Returning", "Draining"])
def test_a_promotion_ends_without_the_route(stage: str) -> None:
    model = Model().run(stage)
    for _ in range(30):
        gone(model)
        model.tick()
    assert model.release.status.outcome == "Promoted"


def test_a_source_that_does_not_answer_is_told_when_it_begins() -> None:
    model = Model().run("Stepping")
    while model.route.weight != 10:
        model.tick()
    model.says = "Error"
    for _ in range(30):
        model.tick()
    assert model.notes.count("MetricsUnavailable") == 1
    assert (model.release.status.stage, model.release.status.step, model.release.status.outcome) == ("Stepping", 0, None)
    model.says = "Wait"
    model.tick()
    model.says = "Error"
    model.tick()
    assert model.notes.count("MetricsUnavailable") == 2
    model.says = "Wait"
    assert model.run().release.status.outcome == "Promoted"


def test_the_deployment_says_why_even_if_the_time_to_look_at_the_pods_went_by_unseen() -> None:
    """`kubectl rollout status` waits for it; a process that was killed must not leave it out."""
    model = Model().run("Stepping")
    model.tick()
    model.says = "Fail"
    model.run("Keeping")
    model.now += timedelta(minutes=5)
    decision = model.tick()
    assert decision.status.stage != "Keeping"
    assert decision.desired.failure == decision.status.why


def test_a_step_is_recorded_once_however_often_its_pods_were_short() -> None:
    """The record holds so many; the API server would refuse the whole status, at every pass."""
    model = Model(canary=canary(steps=[{"weight": 10, "duration": "10h"}])).run("Stepping")
    for _ in range(100):  # each time for less than the grace
        model.own = replace(model.own, ready=0)
        model.tick()
        model.tick()
        model.tick()
    assert [step.weight for step in model.release.status.steps] == [10]
    assert model.release.status.stage == "Stepping"


def test_a_sentence_that_is_too_long_for_the_record_is_cut() -> None:
    model = Model().run("Stepping")
    model.own = replace(model.own, fault=replace(fault(), sentence="x" * 5000))
    for _ in range(5):
        why = model.tick().status.why
        assert len(why) <= LONGEST
    assert why.startswith("xxx")


def test_after_the_decision_a_source_without_an_answer_takes_away_no_evidence() -> None:
    model = Model().run("Stepping")
    for _ in range(5):
        model.tick()
    model.says = "Fail"
    model.run("Keeping")
    (convicted,) = model.release.status.evidence
    model.says = "Error"
    model.tick()
    assert model.release.status.evidence == [convicted]
    assert convicted.verdict == "Fail"
    assert model.release.status.exposure.failures > 0


def test_a_check_that_is_changed_in_mid_step_is_not_measured_by_the_requests_of_the_one_before() -> None:
    model = Model(canary(steps=[{"weight": 10}, {"weight": 50}]))
    model.says = "Pass"
    model.run("Stepping")
    while model.route.weight != 50:
        model.tick()
    model.release.status.step_requests = 600_000  # as the check before had counted them
    model.run("Promoting", limit=20)


def test_by_number_of_pods_the_versions_are_compared_whatever_the_weight() -> None:
    by_pods = canary(traffic={"podRatio": {}})
    assert alone(by_pods, release().status.model_copy(update={"stage": "Stepping", "weight": 100})) is False
    assert alone(canary(), release().status.model_copy(update={"stage": "Stepping", "weight": 100})) is True
    assert alone(by_pods, release().status.model_copy(update={"stage": "Promoting", "weight": 10})) is True


def test_pods_that_are_only_asked_for_are_not_lost() -> None:
    """An autoscaler answers a peak in mid-release; the new pods take longer to start than a lost one is waited for."""
    model = Model(canary=canary(steps=[{"weight": 50, "duration": "30m"}]), says="Pass")
    for _ in range(30):
        model.tick()
    model.target = replace(model.target, replicas=30, ready=30)
    model.room = 2
    for _ in range(25):
        model.tick()
    assert model.release.status.outcome is None
    assert 0 < model.release.status.weight < 50, "as much as its pods carry"
    model.own = replace(model.own, ready=0)
    model.room = 0
    for _ in range(25):
        model.tick()
    assert model.release.status.reason == "ReadinessLost"


def test_pods_that_are_asked_for_and_never_come_end_the_release_by_the_deadline() -> None:
    model = Model(canary=canary(steps=[{"weight": 50, "duration": "30m"}], progressDeadline="60s"), says="Pass")
    for _ in range(30):
        model.tick()
    model.target, model.room = replace(model.target, replicas=30, ready=30), 2
    for _ in range(62):
        model.tick()
    assert model.release.status.reason == "ProgressDeadlineExceeded"


def test_by_number_of_pods_one_that_is_moved_late_in_a_step_has_time_to_start() -> None:
    model = Model(canary=canary(traffic={"podRatio": {}}, steps=[{"weight": 50, "duration": "20m"}]), says="Pass")
    model.route = RouteView(by_pods=True)
    for _ in range(400):
        model.tick()
    assert model.release.status.stage == "Stepping"
    model.own = replace(model.own, ready=model.own.ready - 1)  # a node is drained
    model.tick()
    assert model.release.status.outcome is None


def test_a_pause_that_is_edited_away_ends() -> None:
    steps: list[dict[str, object]] = [{"weight": 50, "duration": "1s"}, {"pause": {}}, {"weight": 100, "duration": "1s"}]
    model = Model(canary=canary(steps=steps), says="Pass").run("Paused")
    model.canary = canary(steps=[steps[0], steps[2]])
    model.run()
    assert [step.weight for step in model.release.status.steps] == [50, 100]
    assert model.release.status.outcome == "Promoted"


@pytest.mark.parametrize(("canary_pods", "serving", "share"), [(0, 250, 0), (1, 250, 1), (1, 1, 50)])
def test_a_share_of_pods_is_none_only_without_pods(canary_pods: int, serving: int, share: int) -> None:
    assert share_of_pods(canary_pods, serving) == share


def test_a_newer_version_does_not_wait_for_a_gateways_controller_that_is_down_when_nothing_was_exposed() -> None:
    model = Model()
    for turn in range(60):
        model.route = replace(model.route, settled=False, accepted=False)
        if turn == 5:
            model.target = replace(model.target, template="other")
        model.tick()
    assert (model.release.status.stage, model.release.status.outcome) == ("Ended", "Superseded")


@pytest.mark.parametrize("stage", ["Stepping", "RollingBack", "Returning"])
def test_a_clock_that_is_set_back_stops_nothing(stage: str) -> None:
    """So it is too when a process on a node with another clock takes over."""
    model = Model(canary=canary(rollback={"keepCanaryFor": "1s"}))
    for _ in range(8):
        model.tick()
    if stage == "RollingBack":
        model.says = "Fail"
    model.run(stage)
    model.tick()
    model.now -= timedelta(hours=1)
    model.run(limit=100)


def test_after_a_traffic_end_that_lies_ahead_the_next_release_waits_no_longer_than_after_any() -> None:
    subject = canary(analysis={"metricsDelay": "30s"})
    subject.status.last_traffic_end = START + timedelta(hours=1)
    assert Model(canary=subject).run("Stepping", limit=40)


def test_abort_takes_back_a_version_that_rolls_out() -> None:
    model = Model(says="Pass", can_roll=False).run("Promoting")
    model.commands = Commands(abort="web-1")
    model.run()
    assert (model.release.status.outcome, model.release.status.reason) == ("Aborted", "AbortedByUser")
    assert model.target.template == "serving"


def undone(*, rolled_out: bool) -> Model:
    """A version failed as it rolled out, and the one before it is put back."""
    model = Model(says="Pass", can_roll=False).run("Promoting")
    model.says = "Fail"
    model.tick()
    model.tick()
    assert model.target.template == "serving"
    model.target = replace(model.target, paused=False, rolled_out=rolled_out)
    return model


def test_while_the_serving_version_is_put_back_no_other_may_take_its_place() -> None:
    """Else the pods of the bad one would stay behind the Service for as long as the next is judged."""
    model = undone(rolled_out=False)
    assert model.tick().desired.frozen
    model.target = replace(model.target, rolled_out=True)
    assert not model.tick().desired.frozen
    model.run(limit=1)


def test_a_serving_version_that_does_not_come_back_is_told_of_and_lets_another_in() -> None:
    model = undone(rolled_out=False)
    for _ in range(700):
        decision = model.tick()
    assert decision.status.stage == "Cleaning"
    assert not decision.desired.frozen
    assert model.notes.count("UndoStuck") == 1
    model.target = replace(model.target, template="other", paused=True)
    model.run()


def test_frozen_ends_though_the_router_never_takes_weight_0() -> None:
    model = undone(rolled_out=False)
    frozen = []
    for _ in range(700):
        model.route = replace(model.route, settled=False, accepted=False)
        model.target = replace(model.target, paused=False, rolled_out=False)
        frozen.append(model.tick().desired.frozen)
    assert frozen[0]
    assert not frozen[-1]
    assert model.notes.count("UndoStuck") == 1


def test_without_a_router_pods_that_come_and_go_do_not_postpone_the_deadline_for_ever() -> None:
    steps = [{"weight": 40, "duration": "30s"}, {"weight": 50, "duration": "30s"}]
    model = Model(canary=canary(traffic={"podRatio": {}}, steps=steps, progressDeadline="60s"))
    for second in range(600):
        model.route = replace(model.route, by_pods=True)
        if model.own.ready >= 2 and second % 8 == 0:
            model.own = replace(model.own, ready=1)
        model.tick()
    assert model.release.status.outcome is not None


def test_a_pod_that_is_lost_while_more_are_asked_for_has_its_grace() -> None:
    model = Model(canary=canary(steps=[{"weight": 50, "duration": "30m"}]), says="Pass")
    for _ in range(30):
        model.tick()
    model.target, model.room = replace(model.target, replicas=30, ready=30), model.own.ready
    for _ in range(25):
        model.tick()
    model.own = replace(model.own, ready=model.own.ready - 1)
    model.tick()
    assert model.release.status.outcome is None


def test_a_route_that_is_put_back_on_the_way_back_is_left_so() -> None:
    model = Model().run("Returning")
    given = 0
    for _ in range(60):
        reverted = model.release.status.weight > 0
        model.route = replace(model.route, weight=0, uniform=False, restored=True, lacking=True, reverted=reverted)
        given += bool(model.tick().desired.weight)
    assert model.release.status.stage == "Ended"
    assert given < 5

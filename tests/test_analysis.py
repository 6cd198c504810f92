"""The pure judgement: counters, thresholds, verdicts, pods."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serinus.analysis.counters import Trajectory, first_increase_at, increase, last_seen
from serinus.analysis.finding import Finding, error, percent
from serinus.analysis.pods import PATIENCE, judge_pods
from serinus.analysis.thresholds import LimitCheck, RatioCheck, harm_evidence, judge_limit, judge_ratio
from serinus.analysis.verdict import combine

ERRORS = RatioCheck("errors", 0.01)


def series(*samples: tuple[float, float]) -> Trajectory:
    return Trajectory(samples)


# --- counters


def test_a_series_that_was_there_counts_from_its_value_at_the_start() -> None:
    assert increase([series((90, 40), (100, 50), (110, 53))], 100) == 3


def test_a_series_that_was_not_there_began_at_zero() -> None:
    assert increase([series((110, 7))], 100) == 7
    assert first_increase_at([series((110, 7))], 100) == 110


def test_the_sample_at_the_start_is_the_baseline_even_if_its_time_was_rounded_up() -> None:
    assert increase([series((100.001, 5000), (101, 5001))], 100.0006) == 1


def test_a_gap_at_the_start_does_not_make_old_counts_new() -> None:
    assert increase([series((95, 5000), (103, 5000), (104, 5001))], 100) == 1


def test_a_reset_starts_from_zero_in_its_own_series_only() -> None:
    assert increase([series((100, 50), (101, 60), (102, 4)), series((100, 5), (102, 6))], 100) == 15


def test_nan_is_no_sample() -> None:
    assert increase([series((100, 5), (101, math.nan), (102, 6))], 100) == 1
    assert increase([series((100, math.nan), (101, math.nan))], 100) == 0


def test_the_fault_begins_with_the_first_rise_of_any_series() -> None:
    flat, late, early = series((100, 1), (105, 1)), series((100, 1), (104, 2)), series((102, 0), (103, 1), (104, 9))
    assert first_increase_at([flat, late, early], 100) == 103
    assert first_increase_at([flat], 100) is None
    assert first_increase_at([], 100) is None


@given(
    st.lists(
        st.tuples(st.lists(st.integers(0, 5), min_size=1, max_size=20), st.sets(st.integers(1, 19)), st.integers(0, 1000)),
        max_size=4,
    )
)
def test_whatever_the_resets_the_increase_is_what_happened(many: list[tuple[list[int], set[int], int]]) -> None:
    """A reset is visible only if the new value is below the old one, so it is made to be."""
    trajectories, happened = [], 0
    for events, resets, base in many:
        value, samples = base, [(0.0, float(base))]
        for i, n in enumerate(events, 1):
            happened += n
            value = n if i in resets and n < value else value + n
            samples.append((float(i), float(value)))
        trajectories.append(Trajectory(tuple(samples)))
    assert increase(trajectories, 0.0) == happened
    assert (first_increase_at(trajectories, 0.0) is None) == (happened == 0)


# --- ratios


@pytest.mark.parametrize(
    ("bad", "total", "verdict"),
    [
        (3, 10, "Fail"),
        (10, 30, "Fail"),
        (1, 10, "Wait"),
        (2, 30, "Wait"),
        (1, 1, "Wait"),
        (0, 30, "Wait"),
        (0, 600, "Pass"),
        (1, 2000, "Pass"),
        (100, 10_000, "Wait"),
        (99, 10_000, "Wait"),
        (0, 0, "NoData"),
        (3, 2, "Error"),
        (-1, 2, "Error"),
        (0, -2, "Error"),
        (math.nan, 2, "Error"),
        (0, math.inf, "Error"),
    ],
)
def test_ratio(bad: float, total: float, verdict: str) -> None:
    assert judge_ratio(ERRORS, bad, total).verdict == verdict


def test_no_version_is_blamed_below_harm_however_sure_one_is() -> None:
    """Evidence against "at most harm" that was there earlier, and a rate that has come down since."""
    assert harm_evidence(0.1, 199, 2000) < 0
    for bad in range(2000):
        if bad / 2000 < 0.1:
            assert judge_ratio(RatioCheck("errors", 0.1), bad, 2000).verdict != "Fail"
    assert judge_ratio(RatioCheck("errors", 0.1), 300, 2000).verdict == "Fail"


def test_a_harm_that_is_no_share_is_an_error() -> None:
    for harm in (0.0, 1.0, math.nan):
        assert judge_ratio(RatioCheck("errors", harm), 0, 10_000).verdict == "Error"


def test_sentences() -> None:
    assert judge_ratio(ERRORS, 10, 30).sentence == "errors 33 % of 30 requests (harm limit 1 %)"
    assert judge_ratio(ERRORS, 0, 900).sentence == "errors 0 % of 900 requests (harm limit 1 %)"
    assert judge_ratio(ERRORS, 0, 1).sentence == "errors 0 % of 1 request, not enough evidence yet (harm limit 1 %)"
    assert "only 2 requests" in judge_ratio(ERRORS, 3, 2).sentence
    evidence = judge_ratio(ERRORS, 10, 30, fault_began=5.0).evidence()
    assert (evidence.verdict, evidence.bad, evidence.total, evidence.limit) == ("Fail", 10, 30, "harm limit 1 %")


def test_evidence_of_an_error_can_be_stored_as_json() -> None:
    finding = Finding("x", "Error", "y" * 5000, bad=math.nan, total=math.inf)
    assert finding.evidence().bad is None
    assert len(finding.evidence().sentence) == 2048


def test_splitting_alpha_asks_for_more() -> None:
    assert judge_ratio(ERRORS, 2, 5).verdict == "Fail"
    assert judge_ratio(ERRORS, 2, 5, alpha=0.01 / 16).verdict == "Wait"
    assert judge_ratio(ERRORS, 3, 10, alpha=0.01 / 2).verdict == "Fail"


def bad_requests(rng: random.Random, rate: float, requests: int) -> list[int]:
    """The numbers (from 1) of the requests that are bad, each with the same chance."""
    at, found = 0, []
    while True:
        at += 1 + int(math.log(1 - rng.random()) / math.log(1 - rate))
        if at > requests:
            return found
        found.append(at)


def alarms(rate: float, harm: float, runs: int, requests: int, every: int, seed: int) -> int:
    """Runs that ever fail. Evidence rises only with a bad event, so the looks that follow one are enough."""
    rng, check, failed = random.Random(seed), RatioCheck("errors", harm), 0  # noqa: S311
    for _ in range(runs):
        looks: dict[int, int] = {}
        for n, at in enumerate(bad_requests(rng, rate, requests), 1):
            looks[-(-at // every) * every] = n
        failed += any(judge_ratio(check, bad, total).verdict == "Fail" for total, bad in looks.items())
    return failed


def test_good_releases_never_fail() -> None:
    assert alarms(rate=0.001, harm=0.01, runs=100, requests=10_000, every=10, seed=1) == 0


def test_at_harm_itself_false_alarms_stay_below_alpha_however_often_one_looks() -> None:
    assert alarms(rate=0.01, harm=0.01, runs=2_000, requests=5_000, every=25, seed=2) <= 20


def test_a_bad_version_is_found_soon() -> None:
    """5 % bad at harm 1 %: half of the runs within 100 requests or so."""
    rng, found = random.Random(3), []  # noqa: S311
    for _ in range(200):
        bad = bad_requests(rng, 0.05, 3000)
        found.append(next(at for n, at in enumerate(bad, 1) if judge_ratio(ERRORS, n, at).verdict == "Fail"))
    assert sorted(found)[100] < 200


def test_unhealthy_versions_are_seldom_called_healthy() -> None:
    rng, wrong = random.Random(4), 0  # noqa: S311
    for _ in range(1000):
        bad = bad_requests(rng, 0.01, 5000)
        # Evidence of health is at its highest just before the next bad event.
        points = [(n, at - 1) for n, at in enumerate(bad)] + [(len(bad), 5000)]
        wrong += any(judge_ratio(ERRORS, n, total).verdict == "Pass" for n, total in points if total)
    assert wrong <= 50


@given(st.floats(0.0001, 0.99), st.integers(0, 500), st.integers(1, 100_000))
def test_the_mixture_never_overflows(harm: float, bad: int, total: int) -> None:
    assert math.isfinite(harm_evidence(harm, min(bad, total), total))
    assert judge_ratio(RatioCheck("x", harm), min(bad, total), total).verdict in ("Pass", "Fail", "Wait")


# --- limits


def test_limit_needs_more_looks_in_a_row_than_are_tolerated() -> None:
    check, failures = LimitCheck("queue", None, 100, 2), 0
    verdicts = []
    for value in (101, 102, 50, 101, math.nan, 102, None, 103):
        finding, failures = judge_limit(check, value, failures)
        verdicts.append(finding.verdict)
    assert verdicts == ["Wait", "Wait", "Pass", "Wait", "NoData", "Wait", "NoData", "Fail"]
    assert finding.sentence == "queue is 103, 3 looks in a row (at most 100)"


def test_limits_are_inclusive_and_work_both_ways() -> None:
    check = LimitCheck("ready", 3, 5)
    verdicts = [judge_limit(check, v, 0)[0].verdict for v in (2.9, 3, 5, 5.1, math.inf, -math.inf)]
    assert verdicts == ["Fail", "Pass", "Pass", "Fail", "Fail", "Fail"]
    assert judge_limit(LimitCheck("ready", 3, None), math.inf, 0)[0].verdict == "Error"
    assert judge_limit(check, 4, 0)[0].limit == "at least 3 and at most 5"


# --- numbers for people


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (0, "0 %"), (0.01, "1 %"), (0.124, "12 %"), (0.333333, "33 %"), (0.0013, "0.13 %"), (0.00001, "0.001 %"),
        (1, "100 %"), (0.999, "99 %"), (0.05, "5 %"), (0.015, "1.5 %"), (0.1, "10 %"), (0.2, "20 %"), (0.0999, "10 %"),
        (1e-9, "0.0000001 %"), (0.995, "99 %"),
    ],
)  # fmt: skip
def test_percent(rate: float, text: str) -> None:
    assert percent(rate) == text


# --- verdicts

PASS, WAIT = Finding("a", "Pass", "a fine"), Finding("b", "Wait", "b unclear")
NONE, BROKEN = Finding("c", "NoData", "c: no requests yet"), error("d", "unknown function")
FAIL = Finding("e", "Fail", "e 33 %", fault_began=7.0)


def kind(findings: list[Finding], policy: Any = "hold", seconds: float = -1) -> str:
    return combine(findings, policy, {f.metric: seconds for f in findings}, 120).kind


def test_any_fail_fails_and_says_when_it_began() -> None:
    verdict = combine([PASS, NONE, BROKEN, FAIL, Finding("f", "Fail", "f 9 %", fault_began=6.0)], "hold", {}, 120)
    assert (verdict.kind, verdict.fault_began, verdict.sentence) == ("Fail", 6.0, "e 33 %; f 9 %")
    assert len(verdict.findings) == 5


@pytest.mark.parametrize(
    ("findings", "policy", "seconds", "expected"),
    [
        ([], "hold", -1, "Pass"),
        ([PASS], "hold", -1, "Pass"),
        ([PASS, WAIT], "hold", -1, "Wait"),
        ([PASS, NONE], "hold", 5, "NoData"),
        ([PASS, NONE], "hold", 500, "NoData"),
        ([PASS, NONE], "fail", 5, "NoData"),
        ([PASS, NONE], "fail", 120, "Fail"),
        ([PASS, BROKEN], "fail", 120, "Fail"),
        ([PASS, NONE], "pass", 5, "NoData"),
        ([PASS, NONE], "pass", 120, "Pass"),
        ([WAIT, NONE], "pass", 120, "Wait"),
        ([NONE], "pass", 120, "Pass"),
        ([PASS, BROKEN], "pass", 1e9, "NoData"),
        ([PASS, NONE, BROKEN], "pass", 1e9, "NoData"),
        ([PASS, BROKEN], "hold", 1e9, "NoData"),
    ],
)
def test_combine(findings: list[Finding], policy: str, seconds: float, expected: str) -> None:
    assert kind(findings, policy, seconds) == expected


def test_holding_says_which_metric_and_why() -> None:
    assert combine([PASS, NONE], "hold", {"c": 130.0}, 120).sentence == "c: no requests yet, for 130 s: holding"
    assert "unknown function" in combine([BROKEN], "pass", {"d": 130.0}, 120).sentence
    assert combine([PASS, NONE], "pass", {"c": 130.0}, 120).sentence == "a fine; without c, which had no data"


@given(
    st.lists(st.sampled_from([PASS, WAIT, NONE, BROKEN, FAIL]), max_size=6),
    st.sampled_from(["hold", "fail", "pass"]),
    st.floats(-1, 1e6),
)
def test_errors_and_fails_never_pass(findings: list[Finding], policy: str, seconds: float) -> None:
    result = kind(findings, policy, seconds)
    if FAIL in findings:
        assert result == "Fail"
    elif BROKEN in findings:
        assert result in ("NoData", "Fail")
    elif WAIT in findings:
        assert result != "Pass"


# --- pods

CREATED = "2026-03-01T10:00:00Z"
BORN = 1772359200.0


def pod(*containers: dict[str, Any], init: list[dict[str, Any]] | None = None, **changes: Any) -> dict[str, Any]:
    result: dict[str, Any] = {
        "metadata": {"name": "checkout-canary-5d4-x7k2p", "creationTimestamp": CREATED},
        "spec": {},
        "status": {"phase": "Running", "containerStatuses": list(containers), "initContainerStatuses": init or []},
    }
    for key, value in changes.items():
        result[key] |= value
    return result


def container(restarts: int = 0, state: dict[str, Any] | None = None, last: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "name": "app", "image": "registry.example/app:2", "restartCount": restarts, "state": state or {"running": {}},
        "lastState": last or {},
    }  # fmt: skip


def ended(code: int, reason: str = "Error", message: str = "") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message, "finishedAt": "2026-03-01T10:00:09Z"}}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def reason(*pods: dict[str, Any], age: float = 60) -> str | None:
    fault, _ = judge_pods(pods, BORN + age)
    return fault.reason if fault else None


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (container(), None),
        (container(0, ended(1)), None),  # the first crash
        (container(1, last=ended(1)), None),  # back again after it
        (container(1, ended(1), ended(1)), "CrashLoop"),  # the second crash
        (container(1, waiting("CrashLoopBackOff"), ended(1)), "CrashLoop"),
        (container(1, waiting("CrashLoopBackOff")), "CrashLoop"),
        (container(0, waiting("CrashLoopBackOff"), ended(1)), None),
        (container(2, last=ended(1)), "CrashLoop"),  # running again, two crashes ago
        (container(1, ended(0, "Completed")), "CrashLoop"),  # a server must not end
        (container(0, ended(137, "OOMKilled")), "OutOfMemory"),
        (container(1, last=ended(137, "OOMKilled")), "OutOfMemory"),
        (container(0, waiting("InvalidImageName")), "ImagePull"),
        (container(0, waiting("ImagePullBackOff")), "ImagePull"),
        (container(0, waiting("CreateContainerConfigError")), "BadConfig"),
        (container(0, waiting("ContainerCreating")), None),
    ],
)
def test_containers(status: dict[str, Any], expected: str | None) -> None:
    assert reason(pod(status)) == expected


def test_init_containers_may_end_but_not_crash_twice() -> None:
    assert reason(pod(container(), init=[container(3, ended(0, "Completed"), ended(0, "Completed"))])) is None
    assert reason(pod(init=[container(0, ended(1))])) is None
    assert reason(pod(init=[container(1, waiting("CrashLoopBackOff"), ended(1))])) == "InitFailed"
    sidecar = {"initContainers": [{"name": "app", "restartPolicy": "Always"}]}
    assert reason(pod(init=[container(2, waiting("CrashLoopBackOff"), ended(0))], spec=sidecar)) is None
    assert reason(pod(init=[container(2, waiting("CrashLoopBackOff"), ended(1))], spec=sidecar)) == "CrashLoop"


@pytest.mark.parametrize("why", ["ErrImagePull", "ImagePullBackOff", "CreateContainerConfigError", "RunContainerError"])
def test_trouble_that_may_pass_is_given_time_and_asked_about_again(why: str) -> None:
    young = pod(container(0, waiting(why)))
    assert judge_pods([young], BORN + 2) == (None, BORN + PATIENCE)
    assert reason(young, age=PATIENCE) is not None


def test_what_cannot_pass_is_not_given_time() -> None:
    for status in (container(0, waiting("ErrImageNeverPull")), container(1, ended(1)), container(0, ended(137, "OOMKilled"))):
        assert reason(pod(status), age=1) is not None


def test_a_crash_is_not_hidden_by_another_pod_that_is_given_time() -> None:
    assert reason(pod(container(0, waiting("ErrImagePull"))), pod(container(1, ended(1))), age=1) == "CrashLoop"


def test_pods_that_go_or_that_a_node_ended_are_left_out() -> None:
    crashing = container(5, waiting("CrashLoopBackOff"), ended(1))
    assert reason(pod(crashing, metadata={"deletionTimestamp": CREATED})) is None
    for why in ("Evicted", "NodeLost", "Preempting"):
        assert reason(pod(crashing, status={"phase": "Failed", "reason": why})) is None


def test_the_sentence_names_what_a_person_looks_for() -> None:
    fault, _ = judge_pods([pod(container(1, waiting("CrashLoopBackOff", "back-off 10s"), ended(3, message="no\n DB_URL")))], BORN)
    assert fault is not None
    assert fault.sentence == (
        "container app of pod checkout-canary-5d4-x7k2p crashed again, exit code 3, 1 restart "
        "(image registry.example/app:2): no DB_URL"
    )
    assert fault.fault_began == BORN + 9


def test_odd_objects_are_not_a_fault() -> None:
    assert judge_pods([{}, {"metadata": None, "status": {"containerStatuses": None}}, pod({"name": "x"})], BORN) == (None, None)


def test_a_series_that_ended_while_its_source_answered_is_another_one_when_it_returns() -> None:
    """A gateway forgets a backend that is taken out of the route, and counts from zero when it comes back."""
    old_then_new = Trajectory(((80.0, 10.0), (103.0, 12.0), (108.0, 15.0)))
    serving = Trajectory(((80.0, 500.0), (99.0, 900.0), (103.0, 950.0)))
    assert increase([old_then_new], 100.0) == 5, "a gap alone may be a failed scrape"
    assert increase([old_then_new], 100.0, last_seen([serving], 100.0)) == 15
    failed = Trajectory(((80.0, 500.0), (103.0, 950.0)))
    assert increase([old_then_new], 100.0, last_seen([failed], 100.0)) == 5, "the scrape failed for both"
    assert first_increase_at([old_then_new], 100.0, 99.0) == 103.0

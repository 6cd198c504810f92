"""The pure judgement: counters, thresholds, verdicts, pods."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serinus.analysis.counters import Labels, Rises
from serinus.analysis.finding import Finding, error, percent
from serinus.analysis.limits import LimitCheck, judge_limit
from serinus.analysis.pods import PATIENCE, judge_pods
from serinus.analysis.verdict import combine, silences

# --- counters

A, B = (("pod", "a"),), (("pod", "b"),)


def rises(*looks: dict[Labels, float]) -> list[float]:
    """What each look after the first adds."""
    rises = Rises({"x": looks[0]})
    return [rises.since({"x": look})["x"] for look in looks[1:]]


def test_a_series_counts_from_where_it_was() -> None:
    assert rises({A: 50}, {A: 53}, {A: 53}, {A: 60}) == [3, 0, 7]


def test_a_series_that_was_not_there_began_at_zero_where_the_source_is_known_to_have_answered() -> None:
    assert rises({B: 9}, {A: 7, B: 9}) == [7]
    assert rises({}, {A: 7}, {A: 9, B: 4}) == [0, 6], "a failed scrape may have hidden it"
    other = Rises({"x": {}, "y": {B: 1}})
    assert other.since({"x": {A: 7}, "y": {B: 1}}) == {"x": 7, "y": 0}, "another query of the same source says so too"


def test_a_scrape_that_fails_neither_loses_nor_adds_anything() -> None:
    assert rises({A: 5000, B: 1}, {}, {A: 5001, B: 1}) == [0, 1]
    assert rises({A: 5000}, {B: 2}, {A: 5003, B: 2}) == [2, 3]


def test_a_reset_starts_from_zero_in_its_own_series_only() -> None:
    assert rises({A: 50, B: 5}, {A: 60, B: 5}, {A: 4, B: 6}) == [10, 5]


@given(
    st.lists(
        st.tuples(st.lists(st.integers(0, 5), min_size=1, max_size=20), st.sets(st.integers(1, 19)), st.integers(0, 1000)),
        min_size=1,
        max_size=4,
    ),
    st.sets(st.integers(1, 19)),
)
def test_whatever_the_resets_and_gaps_the_rises_are_what_happened(
    many: list[tuple[list[int], set[int], int]], gaps: set[int]
) -> None:
    """A reset is visible only if the new value is below the one seen last, so it is made to be, and never within a gap."""
    length, happened = max(len(events) for events, _, _ in many), 0
    looks: list[dict[Labels, float]] = [{} for _ in range(length + 1)]
    for name, (events, resets, base) in enumerate(many):
        value = float(base)
        looks[0][(("pod", str(name)),)] = value
        for i in range(1, length + 1):
            n = events[i - 1] if i <= len(events) else 0
            happened += n
            value = n if i in resets and n < value and not {i - 1, i} & gaps else value + n
            if i not in gaps or i == length:
                looks[i][(("pod", str(name)),)] = value
    assert sum(rises(*looks)) == happened


# --- plain numbers


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


def test_a_check_is_silent_since_its_first_look_without_numbers_and_no_longer_once_it_has_some() -> None:
    since = silences({}, [PASS, NONE], 10.0)
    assert since == {"c": 10.0}
    assert silences(since, [PASS, NONE, BROKEN], 12.0) == {"c": 10.0, BROKEN.metric: 12.0}
    assert silences(since, [PASS], 12.0) == {}


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

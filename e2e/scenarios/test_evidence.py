"""Steps that go on by evidence, ready-made checks, and counters read from the gateway itself."""

from __future__ import annotations

from typing import Any

import pytest
from e2e import follow, kubectl, shop
from e2e.kubectl import Object

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

NAME = "checkout"
SHORTEST = [{"builtin": "errors"}, {"builtin": "slow", "slowerThan": "300ms"}]
DIRECT = [metric | {"source": "direct"} for metric in SHORTEST]


def shipped(space: str, metrics: list[Object], weights: list[int], **env: str) -> None:
    """v2 is on its way under load, by evidence alone: no errors are said to be independent, and no step has a duration."""
    follow.serve(space, DRAIN="0s")
    follow.Load(space, shop.host(NAME, space), duration=200).start()
    canary = shop.canary(NAME, space, [{"weight": weight} for weight in weights], metrics=metrics, independentErrors=False)
    canary["spec"] |= {"rollback": {"keepCanaryFor": "1s"}, "promotion": {"drain": "1s"}}
    kubectl.apply(canary)
    follow.phase(NAME, space, "Stable")
    follow.set_env(space, MESSAGE="v2", **env)


def evidence(release: Object) -> dict[str, Any]:
    return {found["metric"]: found for found in release["status"]["evidence"]}


@pytest.mark.parametrize("metrics", [SHORTEST, DIRECT], ids=["prometheus", "direct"])
def test_ready_made_checks_take_a_bad_version_back(space: str, metrics: list[Object]) -> None:
    shipped(space, metrics, [5, 50], FAIL_RATE="0.3333")
    release = follow.ended(space, "v2", timeout=120)
    assert release["status"]["outcome"] == "RolledBack"
    assert [step["weight"] for step in release["status"]["steps"]] == [5]
    found, times = evidence(release), follow.times(release)
    print(f"decided {times['decided'] - times['firstExposed']:.1f} s after the first exposure: {release['status']['why']}")
    assert found["errors"]["verdict"] == "Fail"
    assert found["errors"]["bad"] >= 2
    assert found["slow"]["verdict"] in ("Pass", "Wait")
    assert {each.get("source") for each in found.values()} == {metrics[0].get("source", "prometheus")}


def test_steps_without_a_duration_go_on_when_health_is_shown(space: str) -> None:
    shipped(space, [metric | {"harm": "20%"} for metric in DIRECT], [20, 50])
    release = follow.ended(space, "v2", timeout=120)
    assert release["status"]["outcome"] == "Promoted"
    assert {each["verdict"] for each in release["status"]["evidence"]} == {"Pass"}

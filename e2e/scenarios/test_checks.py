"""Checks other than failed requests: a limit, a query that is wrong, and no numbers at all."""

from __future__ import annotations

import time
from typing import Any

import pytest
from e2e import follow, kubectl, shop
from e2e.kubectl import Object

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

NAME = "checkout"


def shipped(space: str, metric: Object, **analysis: Any) -> None:
    """v2 is on its way, judged by this check alone."""
    follow.serve(space, replicas=1, DRAIN="0s")
    canary = shop.canary(NAME, space, shop.steps("2s", 50, 100), metrics=[metric], **analysis)
    canary["spec"] |= {"rollback": {"keepCanaryFor": "1s"}, "promotion": {"drain": "1s"}}
    kubectl.apply(canary)
    follow.phase(NAME, space, "Stable")
    follow.set_env(space, MESSAGE="v2")


def held(space: str, verdict: str, word: str) -> Object:
    """It waits at its first step, and says why."""

    def look() -> Object | None:
        canary = kubectl.get("canary", NAME, space)
        found = follow.condition(canary, "MetricsAvailable")
        return found if found.get("status") == "False" and found["reason"] == verdict else None

    found: Object = kubectl.until(f"MetricsAvailable says {verdict}", look, timeout=30)
    assert word in found["message"], found
    steps: list[Object] = kubectl.until(  # a check may have no answer before the router has taken the weight
        "its first step is reached", lambda: follow.releases(space, "v2")[-1]["status"].get("steps"), timeout=30
    )
    begun = follow.seconds(steps[0]["at"])
    kubectl.until("its step's 2 s are over, and 3 more", lambda: time.time() > begun + 5)
    release = follow.releases(space, "v2")[-1]
    assert follow.stage(release) == "Stepping"
    assert [step["weight"] for step in release["status"]["steps"]] == [50]
    return found


@pytest.mark.parametrize(("value", "outcome"), [("99", "Promoted"), ("101", "RolledBack")])
def test_limit(space: str, value: str, outcome: str) -> None:
    shipped(space, {"name": "depth", "query": f"vector({value})", "max": 100, "failureLimit": 1})
    release = follow.ended(space, "v2")
    assert release["status"]["outcome"] == outcome, release["status"]
    assert release["status"]["evidence"][0]["value"] == float(value)


def test_wrong_query_never_passes(space: str) -> None:
    shipped(space, {"name": "depth", "query": "sum(((", "max": 100}, noData="pass", noDataAfter="3s")
    held(space, "Error", "parse error")
    release = follow.releases(space, "v2")[-1]
    kubectl.run("annotate", "canary", NAME, "-n", space, f"serinus.dev/abort={release['metadata']['name']}")
    assert follow.ended(space, "v2")["status"]["outcome"] == "Aborted"


def test_several_series_are_reported(space: str) -> None:
    shipped(space, {"name": "depth", "query": 'vector(1) or label_replace(vector(2), "a", "b", "", "")', "max": 100})
    held(space, "Error", "series")


def test_no_data_holds_or_fails_as_the_spec_says(space: str) -> None:
    shipped(space, {"name": "depth", "query": "no_such_metric", "max": 100}, noData="fail", noDataAfter="12s")
    held(space, "NoData", "depth")
    release = follow.ended(space, "v2")
    assert release["status"]["outcome"] == "RolledBack", release["status"]
    assert "noData" in release["status"]["why"]

"""What people do in mid-release: push another version, abort, pause and go on, try again, skip, break the glass, let go."""

from __future__ import annotations

import json

import pytest
from e2e import follow, install, kubectl, shop, sink
from e2e.kubectl import Object

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

NAME = "checkout"
BARE: dict[str, list[Object]] = {"metrics": []}


def adopted(space: str, steps: list[Object], replicas: int = 2, drain: str = "0s") -> None:
    """v1 serves under a Canary that judges pods alone."""
    follow.serve(space, replicas=replicas, DRAIN=drain)
    canary = shop.canary(NAME, space, steps, **BARE, metricsDelay="1s")
    canary["spec"] |= {"rollback": {"keepCanaryFor": "1s"}, "promotion": {"drain": "1s"}}
    kubectl.apply(canary)
    follow.phase(NAME, space, "Stable")


def annotate(space: str, verb: str, value: str) -> None:
    kubectl.run("annotate", "canary", NAME, "-n", space, "--overwrite", f"serinus.dev/{verb}={value}")


def deployment(space: str) -> Object:
    return kubectl.get("deployment", NAME, space) or {}


def serves(space: str, wanted: str) -> None:
    """Every pod behind the Service runs this version."""

    def look() -> bool:
        pods = [p for p in kubectl.items("pods", space, f"app={NAME}") if not p["metadata"].get("deletionTimestamp")]
        messages = {e["value"] for p in pods for e in p["spec"]["containers"][0]["env"] if e["name"] == "MESSAGE"}
        return messages == {wanted}

    kubectl.until(f"{wanted} serves", look, timeout=40)


def test_third_version_supersedes_the_second(space: str) -> None:
    adopted(space, [{"weight": 50, "duration": "1s"}, {"pause": {}}])
    follow.set_env(space, MESSAGE="v2")
    follow.reached(space, "v2", "Paused")
    follow.set_env(space, MESSAGE="v3")
    assert follow.ended(space, "v2")["status"]["outcome"] == "Superseded"
    release = follow.reached(space, "v3", "Paused")
    own = kubectl.get("deployment", f"{NAME}-canary", space) or {}
    assert {"name": "MESSAGE", "value": "v3"} in own["spec"]["template"]["spec"]["containers"][0]["env"]
    serves(space, "v1")
    annotate(space, "resume", f"{release['metadata']['name']}/1")
    assert follow.ended(space, "v3")["status"]["outcome"] == "Promoted"
    serves(space, "v3")


def test_abort_and_retry(space: str) -> None:
    adopted(space, shop.steps("2s", 50, 100))
    follow.set_env(space, MESSAGE="v2")
    first = follow.reached(space, "v2", "Stepping")
    annotate(space, "abort", first["metadata"]["name"])
    first = follow.ended(space, "v2")
    assert first["status"]["outcome"] == "Aborted"
    assert first["status"]["reason"] == "AbortedByUser"
    follow.phase(NAME, space, "RolledBack")
    assert deployment(space)["spec"]["paused"]

    annotate(space, "retry", first["metadata"]["name"])
    kubectl.until("a second attempt", lambda: len(follow.releases(space, "v2")) == 2)
    second = follow.ended(space, "v2")
    assert second["spec"]["kind"] == "Retry"
    assert second["spec"]["attempt"] == 2
    assert second["status"]["outcome"] == "Promoted"
    serves(space, "v2")


def test_pause_waits_for_a_person(space: str) -> None:
    adopted(space, [{"weight": 50, "duration": "1s"}, {"pause": {}}, {"weight": 100, "duration": "1s"}])
    follow.set_env(space, MESSAGE="v2")
    release = follow.reached(space, "v2", "Paused")
    canary = follow.phase(NAME, space, "Paused")
    assert canary["status"]["weight"] == 50
    command = f"serinus.dev/resume={release['metadata']['name']}/1"
    assert command in release["status"]["why"], "it says how to go on"
    annotate(space, "resume", "something-else/1")
    annotate(space, "resume", command.partition("=")[2])
    assert follow.ended(space, "v2")["status"]["outcome"] == "Promoted"


def test_skip_goes_out_at_once(space: str) -> None:
    adopted(space, shop.steps("60s", 10))
    change = {
        "spec": {
            "template": {
                "metadata": {"annotations": {"serinus.dev/skip": "hotfix"}},
                "spec": {"containers": [{"name": "shop", "env": [{"name": "MESSAGE", "value": "v2"}]}]},
            }
        }
    }
    kubectl.run("patch", "deployment", NAME, "-n", space, "-p", json.dumps(change))
    release = follow.ended(space, "v2", timeout=40)
    assert release["status"]["outcome"] == "Skipped"
    assert "serinus.dev/skip" in release["status"]["why"]
    assert "firstExposed" not in follow.times(release)
    serves(space, "v2")
    follow.phase(NAME, space, "Stable")
    kubectl.until("it counts as a deployment", lambda: sink.kinds(space) == ["service.upgraded"], timeout=20)


def test_break_glass(space: str) -> None:
    """The label off in one write, unpaused in the next: it rolls at once, and stands on record as unjudged."""
    adopted(space, shop.steps("60s", 50))
    follow.set_env(space, MESSAGE="v2")
    follow.reached(space, "v2", "Stepping")
    if install.HOLD == "policy":
        kubectl.run("rollout", "resume", f"deployment/{NAME}", "-n", space, check=False)
        assert deployment(space)["spec"]["paused"], "not while it is labelled"
        kubectl.run("label", "deployment", NAME, "-n", space, "serinus.dev/canary-")
    kubectl.run("rollout", "resume", f"deployment/{NAME}", "-n", space)
    release = follow.ended(space, "v2")
    assert release["status"]["outcome"] == "Skipped", release["status"]
    assert release["status"]["reason"] == "ReleasedByHand"
    serves(space, "v2")
    follow.phase(NAME, space, "Stable")
    kubectl.until("the label is back", lambda: deployment(space)["metadata"].get("labels", {}).get("serinus.dev/canary") == NAME)


def test_canary_deleted_in_mid_release(space: str) -> None:
    adopted(space, shop.steps("60s", 50), replicas=3, drain="3s")
    load = follow.Load(space, shop.host(NAME, space))
    load.start()
    before = (kubectl.get("httproute", NAME, space) or {})["spec"]
    follow.set_env(space, MESSAGE="v2")
    follow.reached(space, "v2", "Stepping")
    kubectl.until("v2 has traffic", lambda: "v2" in load.answers().first)
    kubectl.run("delete", "canary", NAME, "-n", space, "--wait", "--timeout=60s", "--cascade=foreground")
    left = deployment(space)
    assert not left["spec"].get("paused")
    assert "serinus.dev/canary" not in (left["metadata"].get("labels") or {})
    assert (kubectl.get("httproute", NAME, space) or {})["spec"] == before
    kubectl.run("rollout", "status", f"deployment/{NAME}", "-n", space, "--timeout=30s")
    serves(space, "v1")
    for kind in ("deployment", "service"):
        assert kubectl.get(kind, f"{NAME}-canary", space) is None, kind
    answers = load.stop()
    assert answers.summary["failed"] == 0, answers.failures


def comes_back_held(space: str, version: str) -> None:
    """Scaled to 0 and back, this version serves and the Deployment stays held."""
    kubectl.run("scale", "deployment", NAME, "-n", space, "--replicas=0")
    kubectl.until("no pods", lambda: not kubectl.items("pods", space, f"app={NAME}"))
    kubectl.run("scale", "deployment", NAME, "-n", space, "--replicas=2")
    kubectl.until("two pods", lambda: deployment(space)["status"].get("availableReplicas") == 2)
    serves(space, version)
    assert deployment(space)["spec"]["paused"]


def test_held_deployment_scaled_to_zero_and_back(space: str) -> None:
    """A paused Deployment fills its newest ReplicaSet; that must be the serving one."""
    adopted(space, shop.steps("1s", 100))
    follow.set_env(space, CRASH="1", MESSAGE="v2")
    follow.ended(space, "v2")
    follow.phase(NAME, space, "RolledBack")
    comes_back_held(space, "v1")


def test_held_earlier_version_scaled_to_zero_and_back(space: str) -> None:
    """The ReplicaSet that an earlier version left behind, empty, is not what comes back."""
    adopted(space, shop.steps("5s", 50))
    follow.set_env(space, MESSAGE="v2")
    assert follow.ended(space, "v2")["status"]["outcome"] == "Promoted"
    follow.phase(NAME, space, "Stable")
    follow.set_env(space, MESSAGE="v1")
    annotate(space, "abort", follow.reached(space, "v1", "Stepping")["metadata"]["name"])
    assert follow.ended(space, "v1")["status"]["outcome"] == "Aborted"
    follow.phase(NAME, space, "RolledBack")
    comes_back_held(space, "v2")


def test_serving_version_put_back_in_mid_release(space: str) -> None:
    adopted(space, shop.steps("60s", 50))
    follow.set_env(space, MESSAGE="v2")
    follow.reached(space, "v2", "Stepping")
    follow.set_env(space, MESSAGE="v1")
    release = follow.ended(space, "v2")
    assert release["status"]["outcome"] == "Aborted"
    assert release["status"]["reason"] == "Reverted"
    follow.phase(NAME, space, "Stable")
    follow.unheld(space)

"""A version that does harm is taken out of traffic by itself; what it leaves behind can be read, and mended in one apply."""

from __future__ import annotations

import time

import pytest
from e2e import follow, kubectl, schemas, shop, sink

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

NAME = "checkout"
QUICK = {"metricsDelay": "6s"}


def test_bad_release_is_rolled_back(space: str) -> None:
    follow.serve(space)
    load = follow.Load(space, shop.host(NAME, space), duration=200)
    load.start()
    kubectl.apply(shop.canary(NAME, space, shop.steps("5s", 20, 100), **QUICK))
    follow.phase(NAME, space, "Stable")

    follow.set_env(space, MESSAGE="v2", FAIL_RATE="0.3333")
    release = follow.reached(space, "v2", "Keeping")
    safe = follow.times(release)["zeroVerified"]
    assert release["status"]["outcome"] == "RolledBack"
    assert release["status"]["reason"] == "AnalysisFailed"

    def told() -> bool:
        conditions = (kubectl.get("deployment", NAME, space) or {})["status"]["conditions"]
        return any(c["message"].startswith("Serinus: errors ") for c in conditions)

    kubectl.until("the Deployment's own status says so", told, timeout=10)
    began = time.monotonic()
    done = kubectl.call("kubectl", "rollout", "status", f"deployment/{NAME}", "-n", space, "--timeout=30s", check=False)
    assert done.returncode != 0
    assert "exceeded its progress deadline" in done.stderr
    assert time.monotonic() - began < 5, "it fails at once"

    release = follow.ended(space, "v2")
    follow.phase(NAME, space, "RolledBack")
    moments = follow.times(release)
    assert moments["requested"] < moments["firstExposed"] < moments["decided"] <= moments["zeroWritten"] < safe
    deployment = kubectl.get("deployment", NAME, space) or {}
    assert deployment["spec"]["paused"], "the bad version stays held"
    assert {"name": "FAIL_RATE", "value": "0.3333"} in deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    for kind in ("deployment", "service"):
        assert kubectl.get(kind, f"{NAME}-canary", space) is None, kind

    expected = ["service.deployed", "incident.detected", "service.rolledback", "incident.resolved"]
    kubectl.until("the events arrive", lambda: sink.kinds(space) == expected, timeout=20)
    received = sink.received(space)
    assert all(entry["at"] > safe for entry in received[1:]), "of harm nobody is told before traffic is safe"
    schemas.validate([entry["event"] for entry in received])

    # The bad one back under another name is a new attempt.
    follow.set_env(space, MESSAGE="v1", FAIL_RATE="-")
    began = time.monotonic()
    follow.phase(NAME, space, "Stable", timeout=10)
    follow.unheld(space)
    assert time.monotonic() - began < 8, "putting the old version back is enough"
    follow.set_env(space, MESSAGE="v2", FAIL_RATE="0.3333")
    kubectl.until("a new Release", lambda: len(follow.releases(space, "v2")) == 2, timeout=10)
    second = follow.ended(space, "v2")
    assert second["status"]["outcome"] == "RolledBack", second["status"]

    answers = load.stop()
    windows = [follow.times(r) for r in follow.releases(space)]
    stray = [f for f in answers.failures if not any(w["firstExposed"] <= f[0] <= w["zeroVerified"] for w in windows)]
    assert answers.failures
    assert not stray, f"failed before the first exposure or after traffic was back: {stray}, {windows}"


def test_the_next_version_is_not_judged_by_the_last_ones_errors(space: str) -> None:
    """It is pushed while the bad one's errors are still in every window."""
    follow.serve(space, replicas=1)
    load = follow.Load(space, shop.host(NAME, space))
    load.start()
    kubectl.apply(shop.canary(NAME, space, shop.steps("3s", 50), **QUICK))
    follow.phase(NAME, space, "Stable")
    follow.set_env(space, MESSAGE="v2", FAIL_RATE="0.5")
    follow.reached(space, "v2", "Keeping")
    follow.set_env(space, MESSAGE="v3", FAIL_RATE="-")
    assert follow.ended(space, "v2")["status"]["outcome"] == "RolledBack"
    release = follow.ended(space, "v3")
    assert release["status"]["outcome"] == "Promoted", release["status"]
    assert not load.stop().failed(follow.times(release)["firstExposed"])


def test_crash_loop_never_gets_a_request(space: str) -> None:
    follow.serve(space)
    load = follow.Load(space, shop.host(NAME, space))
    load.start()
    kubectl.apply(shop.canary(NAME, space, shop.steps("5s", 50, 100)))
    follow.phase(NAME, space, "Stable")
    follow.set_env(space, MESSAGE="v2", CRASH="1")
    release = follow.reached(space, "v2", "Keeping")
    pods = kubectl.items("pods", space, f"app={NAME}-canary")
    states = [s for pod in pods for s in pod["status"]["containerStatuses"]]
    ends = [follow.seconds(s["lastState"]["terminated"]["finishedAt"]) for s in states if s["lastState"].get("terminated")]
    moments = follow.times(release)
    assert release["status"]["reason"] == "CrashLoop"
    assert "crashed again, exit code 1" in release["status"]["why"]
    assert moments["decided"] - moments["requested"] < 20
    assert not ends or moments["decided"] - min(ends) < 10, "within 10 s of the second crash"
    assert "firstExposed" not in moments
    follow.ended(space, "v2")
    answers = load.stop()
    assert answers.summary["failed"] == 0, answers.failures
    assert set(answers.summary["n"]) == {"v1 200"}
    assert "service.deployed" not in sink.kinds(space)


def test_image_that_cannot_be_pulled(space: str) -> None:
    follow.serve(space)
    kubectl.apply(shop.canary(NAME, space, shop.steps("5s", 100)))
    follow.phase(NAME, space, "Stable")
    kubectl.run("set", "image", f"deployment/{NAME}", "-n", space, "shop=serinus/no-such-image:0")
    release = follow.ended(space, "v1")
    assert release["status"]["outcome"] == "RolledBack"
    assert release["status"]["reason"] == "ImagePull"
    assert "firstExposed" not in follow.times(release)


def test_pods_that_never_become_ready(space: str) -> None:
    follow.serve(space, replicas=1)
    canary = shop.canary(NAME, space, shop.steps("5s", 100))
    canary["spec"] |= {"progressDeadline": "8s"}
    kubectl.apply(canary)
    follow.phase(NAME, space, "Stable")
    probe = '[{"op":"replace","path":"/spec/template/spec/containers/0/readinessProbe/httpGet/path","value":"/no"}]'
    kubectl.run("patch", "deployment", NAME, "-n", space, "--type=json", "-p", probe)
    release = follow.ended(space, "v1")
    assert release["status"]["outcome"] == "RolledBack"
    assert release["status"]["reason"] == "ProgressDeadlineExceeded"
    assert "canary pods ready: 0 of 1" in release["status"]["why"]

"""The operator dies in the middle: the next one goes on, and nobody can tell from the outcome."""

from __future__ import annotations

import pytest
from e2e import follow, install, kubectl, shop, sink

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

NAME = "checkout"
PODS = ("-n", install.NAMESPACE, "-l", f"app.kubernetes.io/name={install.RELEASE}")


def kill() -> None:
    """As a node that loses power does it."""
    kubectl.run("delete", "pod", *PODS, "--grace-period=0", "--force")


def once(space: str, kinds: set[str]) -> None:
    """Each event is there; if it came twice, under the same id."""
    kubectl.until("the events arrive", lambda: set(sink.kinds(space)) == kinds, timeout=30)
    ids = {(sink.kind(e["event"]), e["event"]["context"]["id"]) for e in sink.received(space)}
    assert len(ids) == len(kinds), ids


@pytest.mark.parametrize("stage", ["Preparing", "Stepping", "Promoting"])
def test_good_release_outlives_it(space: str, stage: str) -> None:
    follow.serve(space)
    load = follow.Load(space, shop.host(NAME, space), rate=50)
    load.start()
    kubectl.apply(shop.canary(NAME, space, shop.steps("1s", 50, 100)))
    follow.phase(NAME, space, "Stable")
    follow.set_env(space, MESSAGE="v2")
    follow.reached(space, "v2", stage)
    kill()
    release = follow.ended(space, "v2", timeout=120)
    assert release["status"]["outcome"] == "Promoted", release["status"]
    answers = load.stop()
    assert answers.summary["failed"] == 0, answers.failures
    assert len(follow.releases(space)) == 1
    follow.phase(NAME, space, "Stable")
    assert kubectl.get("deployment", f"{NAME}-canary", space) is None
    once(space, {"service.deployed", "service.upgraded"})


def test_rollback_outlives_it(space: str) -> None:
    follow.serve(space)
    load = follow.Load(space, shop.host(NAME, space), rate=50)
    load.start()
    kubectl.apply(shop.canary(NAME, space, shop.steps("5s", 50, 100)))
    follow.phase(NAME, space, "Stable")
    follow.set_env(space, MESSAGE="v2", FAIL_RATE="0.5")
    follow.reached(space, "v2", "RollingBack", "Keeping")
    kill()
    release = follow.ended(space, "v2", timeout=120)
    assert release["status"]["outcome"] == "RolledBack", release["status"]
    assert not load.stop().failed(follow.times(release)["zeroVerified"])
    assert len(follow.releases(space)) == 1
    follow.phase(NAME, space, "RolledBack")
    assert kubectl.get("deployment", f"{NAME}-canary", space) is None
    once(space, {"service.deployed", "incident.detected", "service.rolledback", "incident.resolved"})


def test_version_applied_while_it_is_down_is_held(space: str) -> None:
    """By the API server itself; delivered when the operator is back."""
    follow.serve(space, replicas=1)
    kubectl.apply(shop.canary(NAME, space, shop.steps("1s", 100), metrics=[]))
    follow.phase(NAME, space, "Stable")
    try:
        kubectl.run("scale", "deployment", install.RELEASE, "-n", install.NAMESPACE, "--replicas=0")
        kubectl.until("the operator is gone", lambda: not kubectl.items("pods", install.NAMESPACE))
        follow.set_env(space, MESSAGE="v2")
        assert (kubectl.get("deployment", NAME, space) or {})["spec"]["paused"]
        assert not follow.releases(space)
    finally:
        kubectl.run("scale", "deployment", install.RELEASE, "-n", install.NAMESPACE, "--replicas=1")
    assert follow.ended(space, "v2", timeout=90)["status"]["outcome"] == "Promoted"

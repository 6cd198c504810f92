"""Clusters before Kubernetes 1.36 have no MutatingAdmissionPolicy: there the operator keeps the Deployment paused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from e2e import follow, install, kubectl, shop, sink

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

NAME = "checkout"
SINK = f"events.sinks[0]={sink.URL}"


@pytest.fixture(scope="module", autouse=True)
def pausing(operator: None) -> Iterator[None]:
    """The chart without its policies; with them again when this module is done."""
    install.install(SINK, "admission.enabled=false")
    try:
        assert not kubectl.run("get", "mutatingadmissionpolicies", "-o", "name").strip()
        yield
    finally:
        install.install(SINK)


def paused(space: str) -> bool:
    return bool((kubectl.get("deployment", NAME, space) or {})["spec"].get("paused"))


def test_adopts_by_pausing_promotes_and_rolls_back(space: str) -> None:
    follow.serve(space)
    load = follow.Load(space, shop.host(NAME, space), duration=200)
    load.start()
    kubectl.apply(shop.canary(NAME, space, shop.steps("2s", 50, 100), metricsDelay="6s"))
    follow.phase(NAME, space, "Stable")
    kubectl.until("it is kept paused", lambda: paused(space), timeout=20)

    follow.set_env(space, MESSAGE="v2")
    release = follow.ended(space, "v2")
    assert release["status"]["outcome"] == "Promoted", release["status"]
    follow.phase(NAME, space, "Stable")
    kubectl.until("it is kept paused again", lambda: paused(space), timeout=20)

    follow.set_env(space, MESSAGE="v3", FAIL_RATE="0.3333")
    release = follow.ended(space, "v3")
    assert release["status"]["outcome"] == "RolledBack", release["status"]
    assert paused(space)
    failures = load.stop().failures
    window = follow.times(release)
    assert all(window["firstExposed"] <= start <= window["zeroVerified"] for start, _ in failures), failures

    follow.set_env(space, MESSAGE="v2", FAIL_RATE="-")
    follow.phase(NAME, space, "Stable", timeout=15)
    kubectl.run("delete", "canary", NAME, "-n", space, "--wait", "--timeout=60s")
    assert not paused(space), "let go of"

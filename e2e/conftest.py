"""What the tests on a real cluster share: the cluster of `make cluster-up`, the operator in it, a receiver of its events."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from e2e import install, kubectl, sink
from e2e.cluster.paths import AUDIT_LOG

#: Set to leave the operator and the sink as they are.
AS_IT_IS = "SERINUS_E2E_OPERATOR"


@pytest.fixture(scope="session")
def running() -> None:
    """A cluster answers."""
    hint = "run `make cluster-up` first"
    if not kubectl.KUBECONFIG.exists():
        pytest.fail(f"there is no cluster: {hint}", pytrace=False)
    done = kubectl.call("kubectl", "get", "--raw", "/readyz", "--request-timeout=10s", check=False)
    if done.returncode:
        pytest.fail(f"the cluster does not answer ({done.stderr.strip()}): {hint}", pytrace=False)


def prepare() -> None:
    """The operator leads, has the newest image, and sends its events to the sink."""
    kubectl.run("delete", "pod", sink.NAME, "-n", sink.NAMESPACE, "--ignore-not-found", "--now")  # its script may be newer
    kubectl.apply(*sink.manifest())
    kubectl.run("wait", "--for=condition=Ready", f"pod/{sink.NAME}", "-n", sink.NAMESPACE, "--timeout=60s")
    fresh = kubectl.get("deployment", install.RELEASE, install.NAMESPACE) is None
    install.install(f"events.sinks[0]={sink.URL}")
    if not fresh:
        install.restart()


@pytest.fixture(scope="session")
def operator(running: None) -> None:
    """As `prepare` makes it."""
    if not os.environ.get(AS_IT_IS):
        prepare()


@pytest.fixture
def space(operator: None, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower()).strip("-")[:40].strip("-")
    with kubectl.fresh_namespace(f"e2e-{name}") as made:
        yield made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure comes with what the cluster had to say."""
    report = yield
    name = getattr(item, "funcargs", {}).get("space")
    if report.when == "call" and report.failed and name:
        for title, words in (
            ("objects", ("get", "canaries,releases,deployments,pods,httproutes", "-o", "wide")),
            ("events", ("get", "events", "--sort-by=.metadata.creationTimestamp")),
        ):
            report.sections.append((title, kubectl.run(*words, "-n", name, check=False)))
        log = kubectl.run("logs", f"deployment/{install.RELEASE}", "-n", install.NAMESPACE, "--tail=400", check=False)
        gateway = kubectl.run("logs", "deployment/traefik", "-n", "traefik", "--tail=20000", check=False)
        refused = [line for line in gateway.splitlines() if f'.{name}.example"' in line]
        report.sections.append(("gateway: not answered by the shop", "\n".join(refused[:10])))
        report.sections.append(("ready pods by Service, as gateways were told", "\n".join(readiness(name))))
        report.sections.append(("operator", "\n".join(line for line in log.splitlines() if name in line)[-8000:]))
    return report


def readiness(space: str) -> Iterator[str]:
    """Every write of an EndpointSlice in this namespace, from the local cluster's audit log."""
    for line in AUDIT_LOG.read_text(errors="replace").splitlines() if AUDIT_LOG.exists() else ():
        if f'"namespace":"{space}"' not in line or '"resource":"endpointslices"' not in line:
            continue
        entry = json.loads(line)
        endpoints = entry.get("requestObject", {}).get("endpoints") or []
        ready = {endpoint["addresses"][0]: _condition(endpoint["conditions"]) for endpoint in endpoints}
        yield f"{entry['stageTimestamp']} {entry['verb']} {entry['objectRef'].get('name', '')} {ready}"


def _condition(conditions: dict[str, bool]) -> str:
    return "terminating" if conditions.get("terminating") else "ready" if conditions.get("ready") else "not ready"

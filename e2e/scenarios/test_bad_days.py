"""What goes wrong around a release: things deleted, quotas, evictions, tools that write the same route."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from e2e import follow, kubectl, shop
from e2e.kubectl import Object

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

NAME = "checkout"
OURS = ("deployment", "service", "pdb")


def adopted(space: str, steps: list[Object], replicas: int = 2, **spec: Any) -> follow.Load:
    """v1 serves under a Canary that judges pods alone, and is asked 50 times a second."""
    follow.serve(space, replicas=replicas)
    load = follow.Load(space, shop.host(NAME, space), rate=50, duration=200)
    load.start()
    canary = shop.canary(NAME, space, steps, metrics=[], metricsDelay="1s")
    canary["spec"] |= {"rollback": {"keepCanaryFor": "1s"}, "promotion": {"drain": "1s"}, **spec}
    kubectl.apply(canary)
    follow.phase(NAME, space, "Stable")
    return load


def get(space: str, kind: str = "deployment", name: str = NAME) -> Object:
    return kubectl.get(kind, name, space) or {}


def managers(space: str) -> set[str]:
    """Who owns fields of the route, but for its status."""
    entries = follow.whole("httproute", NAME, space)["metadata"]["managedFields"]
    return {entry["manager"] for entry in entries if entry.get("subresource") != "status"}


def messages(space: str) -> set[str]:
    """The versions of the pods behind the user's Service."""
    pods = kubectl.items("pods", space, f"app={NAME}")
    return {e["value"] for pod in pods for e in pod["spec"]["containers"][0]["env"] if e["name"] == "MESSAGE"}


def nothing_of_ours(space: str) -> None:
    assert [kind for kind in OURS if kubectl.get(kind, f"{NAME}-canary", space)] == []


def quota(space: str, pods: int) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "pods", "namespace": space},
        "spec": {"hard": {"pods": str(pods)}},
    }


def test_route_deleted_in_mid_release(space: str) -> None:
    load = adopted(space, shop.steps("3s", 20, 50))
    before = get(space, "httproute")["spec"]
    follow.set_env(space, MESSAGE="v2")
    release = follow.taken(space, "v2", 20)
    began = follow.times(release)["firstExposed"]
    kubectl.run("delete", "httproute", NAME, "-n", space)
    assert follow.says(space, "RoutesAccepted", "False", "RouteNotFound") == "none of the routes in spec.traffic exists"
    assert follow.told(space, "RouteNotFound")["type"] == "Warning"
    assert follow.stage(follow.releases(space)[-1]) == "Stepping", "it waits"

    kubectl.apply(shop.route(NAME, space))
    follow.says(space, "Conflicted", "True", "RouteReverted")
    waits = get(space, "canary")["status"]
    assert (waits["phase"], waits["weight"]) == ("Progressing", 0)
    again = follow.seconds(get(space, "httproute")["metadata"]["creationTimestamp"])
    release = follow.ended(space, "v2")
    assert release["status"]["outcome"] == "Promoted", release["status"]
    follow.phase(NAME, space, "Stable")
    assert get(space, "httproute")["spec"] == before
    assert "serinus" not in managers(space)
    failures = load.stop().failures
    assert all(status == 404 for _, status in failures), failures
    assert all(began < start < again + 3 for start, _ in failures), f"only while there was no route: {failures}"


def test_deployment_deleted_in_mid_release(space: str) -> None:
    adopted(space, shop.steps("60s", 50))
    before = get(space, "httproute")["spec"]
    follow.set_env(space, MESSAGE="v2")
    follow.taken(space, "v2", 50)
    kubectl.run("delete", "deployment", NAME, "-n", space)
    release = follow.ended(space, "v2")
    assert (release["status"]["outcome"], release["status"]["reason"]) == ("Aborted", "TargetDeleted")
    assert "the Deployment was deleted" in follow.told(space, "Aborted")["message"]
    assert f"there is no Deployment {NAME}" in follow.says(space, "Ready", "False", "TargetNotFound")
    follow.told(space, "TargetNotFound")
    assert get(space, "httproute")["spec"] == before
    nothing_of_ours(space)

    kubectl.apply(shop.deployment(NAME, space, 2, MESSAGE="v3"))
    release = follow.ended(space, "v3")
    assert release["status"]["outcome"] == "Skipped", "nothing can hold a Deployment that is created anew"
    follow.phase(NAME, space, "Stable")
    assert messages(space) == {"v3"}


def test_quota_stops_the_canary(space: str) -> None:
    """The autoscaler's floor is raised before, and given back."""
    scaled = {"apiVersion": "apps/v1", "kind": "Deployment", "name": NAME}
    metadata = {"name": NAME, "namespace": space}
    spec = {"scaleTargetRef": scaled, "minReplicas": 1, "maxReplicas": 4}
    kubectl.apply({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata, "spec": spec})
    load = adopted(space, shop.steps("1s", 50), progressDeadline="6s")
    kubectl.apply(quota(space, 3))
    follow.set_env(space, MESSAGE="v2")
    follow.reached(space, "v2", "Preparing")
    kubectl.until("the floor is raised", lambda: get(space, "hpa")["spec"]["minReplicas"] == 2)

    def said() -> bool:
        return "exceeded quota" in follow.condition(kubectl.get("canary", NAME, space), "Progressing")["message"]

    kubectl.until("the condition says why", said, timeout=20)
    release = follow.ended(space, "v2")
    assert (release["status"]["outcome"], release["status"]["reason"]) == ("RolledBack", "ProgressDeadlineExceeded")
    assert "exceeded quota" in release["status"]["why"]
    told = follow.told(space, "RolledBack")
    assert (told["type"], "exceeded quota" in told["message"]) == ("Warning", True), told["message"]
    follow.phase(NAME, space, "RolledBack")
    assert get(space, "hpa")["spec"]["minReplicas"] == 1
    nothing_of_ours(space)
    assert get(space)["spec"]["paused"]
    answers = load.stop()
    assert answers.summary["failed"] == 0, answers.failures
    assert set(answers.summary["n"]) == {"v1 200"}


def test_quota_stops_the_promotion_and_a_fix_goes_out(space: str) -> None:
    load = adopted(space, shop.steps("1s", 100), promotion={"drain": "1s", "deadline": "4s"})
    kubectl.apply(quota(space, 5))  # two that serve, two canaries, the load
    follow.set_env(space, MESSAGE="v2")
    told = follow.told(space, "PromotionStuck", timeout=60)
    assert (told["type"], "exceeded quota" in told["message"]) == ("Warning", True), told["message"]
    assert "not rolled out after 4s" in follow.says(space, "Ready", "False", "Promoting")
    assert messages(space) == {"v1"}

    # What the docs advise: a lower last weight needs fewer pods.
    lower = {"spec": {"steps": shop.steps("1s", 50), "promotion": {"deadline": "60s"}}}
    kubectl.run("patch", "canary", NAME, "-n", space, "--type=merge", "-p", json.dumps(lower))
    follow.set_env(space, MESSAGE="v3")
    assert follow.ended(space, "v2")["status"]["outcome"] == "Superseded"
    assert follow.ended(space, "v3")["status"]["outcome"] == "Promoted"
    follow.phase(NAME, space, "Stable")
    kubectl.until("v3 serves alone", lambda: messages(space) == {"v3"}, timeout=20)
    nothing_of_ours(space)
    answers = load.stop()
    assert answers.summary["failed"] == 0, answers.failures


def test_canary_pods_evicted_under_load(space: str) -> None:
    metadata = {"name": NAME, "namespace": space}
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": {"app": NAME}}}
    kubectl.apply({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata, "spec": spec})
    load = adopted(space, [*shop.steps("2s", 50), {"pause": {}}], replicas=4)
    follow.set_env(space, MESSAGE="v2")
    release = follow.reached(space, "v2", "Paused")
    pods = [pod["metadata"]["name"] for pod in kubectl.items("pods", space, f"app={NAME}-canary")]
    assert len(pods) == 2
    assert kubectl.evict(pods[0], space).returncode == 0
    assert "disruption budget" in kubectl.evict(pods[1], space).stderr, "the canary has a budget as strict as the user's"

    def weight() -> int:
        return int(get(space, "httproute")["spec"]["rules"][0]["backendRefs"][1]["weight"])

    kubectl.until("the share is lowered to what one pod carries", lambda: weight() == 25, timeout=20, every=0.02)
    kubectl.until("it has its share again", lambda: weight() == 50, timeout=30)
    kubectl.until("the other may go, too", lambda: kubectl.evict(pods[1], space).returncode == 0, timeout=20)
    kubectl.until("the share is lowered", lambda: weight() == 25, timeout=20, every=0.02)
    kubectl.until("it has its share again", lambda: weight() == 50, timeout=30)
    resume(space, release)
    release = follow.ended(space, "v2")
    assert release["status"]["outcome"] == "Promoted", release["status"]
    answers = load.stop()
    assert answers.summary["failed"] == 0, answers.failures


def resume(space: str, release: Object) -> None:
    command = f"serinus.dev/resume={release['metadata']['name']}/1"
    kubectl.run("annotate", "canary", NAME, "-n", space, "--overwrite", command)


def test_scaled_to_zero_and_back_in_mid_release(space: str) -> None:
    """A paused Deployment fills its newest ReplicaSet; that must be the serving one."""
    load = adopted(space, [*shop.steps("1s", 50), {"pause": {}}])
    follow.set_env(space, MESSAGE="v2")
    release = follow.reached(space, "v2", "Paused")
    kubectl.run("scale", "deployment", NAME, "-n", space, "--replicas=0")
    kubectl.until("no pods", lambda: not kubectl.items("pods", space, f"app={NAME}"))
    gone = follow.seconds(follow.releases(space)[-1]["status"]["times"]["firstExposed"])
    kubectl.run("scale", "deployment", NAME, "-n", space, "--replicas=2")
    kubectl.until("two pods", lambda: get(space)["status"].get("availableReplicas") == 2)
    assert messages(space) == {"v1"}
    assert get(space)["spec"]["paused"]
    assert follow.stage(follow.releases(space)[-1]) == "Paused"
    back = kubectl.until("two seconds without a failure", lambda: calm(load))
    resume(space, release)
    release = follow.ended(space, "v2")
    assert release["status"]["outcome"] == "Promoted", release["status"]
    kubectl.until("v2 serves", lambda: messages(space) == {"v2"}, timeout=20)
    failures = load.stop().failures
    assert all(gone < start < back for start, _ in failures), f"only while nothing was to serve: {failures}"


def calm(load: follow.Load) -> float | None:
    """When the last two seconds began in which every request was answered well; None if there was a failure in them."""
    answers = load.answers()
    last = max(answers.seconds, default=0)
    counts = answers.within(last - 1, last)
    return last - 1 if counts and all(key.endswith(" 200") for key in counts) else None


def test_helm_and_server_side_apply_of_the_route(space: str, tmp_path: Path) -> None:
    """In mid-release whoever does not force is told; who forces is not fought; afterwards nobody notices a thing."""
    chart(tmp_path, space)
    helm(tmp_path, space, "v1")
    kubectl.run("rollout", "status", f"deployment/{NAME}", "-n", space, "--timeout=60s")
    load = follow.Load(space, shop.host(NAME, space), rate=50, duration=200)
    load.start()
    canary = shop.canary(NAME, space, [*shop.steps("1s", 30), {"pause": {}}, *shop.steps("1s", 50)], metrics=[])
    canary["spec"]["analysis"]["metricsDelay"] = "1s"
    kubectl.apply(canary)
    follow.phase(NAME, space, "Stable")
    before, owners = get(space, "httproute")["spec"], managers(space)

    helm(tmp_path, space, "v2")
    release = follow.reached(space, "v2", "Paused")
    split = get(space, "httproute")["spec"]
    for refused in (
        kubectl.call("helm", "upgrade", "shop", str(tmp_path), "-n", space, "--set", "message=v2", check=False),
        route(space, check=False),
    ):
        assert refused.returncode != 0
        assert 'conflict with "serinus"' in refused.stderr, refused.stderr
    assert get(space, "httproute")["spec"] == split, "nothing is broken"
    assert follow.stage(follow.releases(space)[-1]) == "Paused"

    route(space, "--force-conflicts")
    follow.says(space, "Conflicted", "True", "RouteReverted")
    assert follow.told(space, "RouteReverted")["type"] == "Warning"
    resume(space, release)
    release = follow.ended(space, "v2")
    assert release["status"]["outcome"] == "Promoted", release["status"]
    assert get(space, "httproute")["spec"] == before
    assert managers(space) == owners, "what was ours is given back"

    route(space)
    helm(tmp_path, space, "v3")
    release = follow.reached(space, "v3", "Paused")
    kubectl.run("annotate", "canary", NAME, "-n", space, f"serinus.dev/abort={release['metadata']['name']}")
    assert follow.ended(space, "v3")["status"]["outcome"] == "Aborted"
    assert managers(space) == owners
    answers = load.stop()
    assert answers.summary["failed"] == 0, answers.failures


def chart(folder: Path, space: str) -> None:
    """A team's own chart, with the route in it."""
    (folder / "templates").mkdir()
    (folder / "Chart.yaml").write_text(json.dumps({"apiVersion": "v2", "name": "shop", "version": "1.0.0"}))
    version = "{{ .Values.message }}"
    for thing in (shop.deployment(NAME, space, 2, MESSAGE=version), shop.service(NAME, space), shop.route(NAME, space)):
        (folder / "templates" / f"{thing['kind'].lower()}.yaml").write_text(json.dumps(thing))


def helm(folder: Path, space: str, version: str) -> None:
    kubectl.helm("upgrade", "--install", "shop", str(folder), "-n", space, "--set", f"message={version}")


def route(space: str, *words: str, check: bool = True) -> Any:
    """Server-side apply by the manager that owns it."""
    command = ("kubectl", "apply", "--server-side", "--field-manager=helm", *words, "-f", "-")
    return kubectl.call(*command, stdin=json.dumps(shop.route(NAME, space)), check=check)

"""The chart is upgraded, uninstalled and installed again in mid-release; Canaries and namespaces go without Serinus too."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from e2e import follow, install, kubectl, shop, sink
from e2e.kubectl import Object

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

NAME = "checkout"
CHART = kubectl.ROOT / "charts" / "serinus"
SINK = f"events.sinks[0]={sink.URL}"
CRDS = ("canaries.serinus.dev", "metrictemplates.serinus.dev", "releases.serinus.dev")
POLICIES = (
    "mutatingadmissionpolicies,mutatingadmissionpolicybindings,validatingadmissionpolicies,validatingadmissionpolicybindings"
)
#: Without policies a Deployment is kept paused while nothing is released too.
AT_REST_PAUSED = install.HOLD == "pause"
#: At half of the traffic until a person goes on.
HALF = [{"weight": 50, "duration": "1s"}, {"pause": {}}]


def adopted(space: str, name: str, steps: list[Object], **analysis: Any) -> None:
    """v1 serves under a Canary that judges pods alone, unless `analysis` says more."""
    canary = shop.canary(name, space, steps, **{"metrics": [], "metricsDelay": "1s", **analysis})
    canary["spec"] |= {"rollback": {"keepCanaryFor": "1s"}, "promotion": {"drain": "1s"}}
    kubectl.apply(canary)


def annotate(space: str, name: str, verb: str, value: str) -> None:
    kubectl.run("annotate", "canary", name, "-n", space, "--overwrite", f"serinus.dev/{verb}={value}")


def resume(space: str, name: str = NAME) -> None:
    """Goes on after the pause of HALF."""
    annotate(space, name, "resume", f"{release_of(space, name)['metadata']['name']}/1")


def release_of(space: str, name: str) -> Object:
    """The one Release of this Canary."""
    (found,) = [r for r in follow.releases(space) if r["spec"]["canary"] == name]
    return found


def deployment(space: str, name: str = NAME) -> Object:
    return kubectl.get("deployment", name, space) or {}


def serves(space: str, name: str, wanted: str) -> None:
    """Every pod behind the Service runs this version, and no other is left."""

    def look() -> bool:
        pods = [p for p in kubectl.items("pods", space, f"app={name}") if not p["metadata"].get("deletionTimestamp")]
        return {e["value"] for p in pods for e in p["spec"]["containers"][0]["env"] if e["name"] == "MESSAGE"} == {wanted}

    kubectl.until(f"{wanted} serves", look, timeout=60)


def settings() -> list[str]:
    values = (f"prometheus.url={install.PROMETHEUS}", "image.repository=serinus/operator", "image.tag=dev", SINK)
    return [word for value in values for word in ("--set", value)]


def gone() -> None:
    """The chart and its namespace, as somebody does it who wants to be rid of it."""
    install.uninstall()
    kubectl.run("delete", "namespace", install.NAMESPACE, "--ignore-not-found", "--wait", "--timeout=60s")


# ---- upgraded ----


def version_before(folder: Path) -> Path:
    """The chart as a version before might have been: a field and a policy fewer. There is no earlier release to take."""
    chart = folder / "serinus"
    shutil.copytree(CHART, chart)
    about = chart / "Chart.yaml"
    about.write_text(re.sub(r"(?m)^((?:appV|v)ersion:) .*$", r"\1 0.0.9", about.read_text()))
    crd = chart / "templates" / "crds" / "canaries.yaml"
    lines = crd.read_text().splitlines(keepends=True)
    first = next(n for n, line in enumerate(lines) if line.strip() == "releaseHistoryLimit:")
    indent = len(lines[first]) - len(lines[first].lstrip())
    last = next(n for n in range(first + 1, len(lines)) if len(lines[n]) - len(lines[n].lstrip()) <= indent)
    crd.write_text("".join(lines[:first] + lines[last:]))
    policies = chart / "templates" / "admission.yaml"
    kept, _, _ = policies.read_text().partition("---\n# Tell:")
    policies.write_text(f"{kept}{{{{- end }}}}\n")
    return chart


def history_limit() -> Object:
    """The field as the cluster's CRD has it; {} where it has none."""
    crd = json.loads(kubectl.run("get", "crd", CRDS[0], "-o", "json"))
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return dict(spec["properties"].get("releaseHistoryLimit") or {})


def test_upgraded_over_the_version_before_in_mid_release(space: str, tmp_path: Path) -> None:
    """Installed anew, for one namespace; then for all of them, with a field and a policy that were not there before."""
    gone()
    words = ("-n", install.NAMESPACE, "--create-namespace", "--wait", *settings(), "--set", f"namespaces={{{space}}}")
    kubectl.helm("install", install.RELEASE, str(version_before(tmp_path)), *words)
    assert not history_limit()
    follow.serve(space, replicas=2)
    load = follow.Load(space, shop.host(NAME, space), rate=50)
    load.start()
    adopted(space, NAME, HALF)
    follow.phase(NAME, space, "Stable")
    assert "Serinus holds" not in follow.set_env(space, MESSAGE="v2"), "the version before has no such policy"
    follow.reached(space, "v2", "Paused")
    before = {pod["metadata"]["uid"] for pod in kubectl.items("pods", install.NAMESPACE)}
    kubectl.until("v2 has traffic", lambda: "v2" in load.answers().first)

    install.install(SINK)
    assert not before >= {pod["metadata"]["uid"] for pod in kubectl.items("pods", install.NAMESPACE)}, "another pod runs"
    assert history_limit(), "fields come with an upgrade"
    since = time.time()
    assert deployment(space)["spec"]["paused"]
    check = {"apiVersion": "serinus.dev/v1alpha1", "kind": "MetricTemplate", "metadata": {"name": "depth", "namespace": space}}
    kubectl.apply(check | {"spec": {"query": "vector(1)", "max": 2}})
    changes = {"releaseHistoryLimit": 1, "analysis": {"metrics": [{"name": "depth", "templateRef": {"name": "depth"}}]}}
    kubectl.run("patch", "canary", NAME, "-n", space, "--type=merge", "-p", json.dumps({"spec": changes}))
    kubectl.until("a second passes", lambda: load.answers().within(since + 1, since + 2))
    assert set(load.answers().within(since, since + 2)) == {"v1 200", "v2 200"}, "the share is as it was"
    resume(space)
    release = follow.ended(space, "v2")
    assert release["status"]["outcome"] == "Promoted", release["status"]
    assert len(follow.releases(space)) == 1

    said = follow.set_env(space, MESSAGE="v3")
    assert AT_REST_PAUSED or "Serinus holds" in said
    release = follow.reached(space, "v3", "Paused")
    annotate(space, NAME, "resume", f"{release['metadata']['name']}/1")
    assert follow.ended(space, "v3")["status"]["outcome"] == "Promoted"
    kubectl.until("the older Release is pruned", lambda: len(follow.releases(space)) == 1, timeout=30)
    answers = load.stop()
    assert answers.summary["failed"] == 0, answers.failures


def half_way(space: str) -> None:
    """v2 has half of the traffic, until a person goes on."""
    follow.serve(space, replicas=2)
    adopted(space, NAME, HALF)
    follow.phase(NAME, space, "Stable")
    follow.set_env(space, MESSAGE="v2")
    follow.reached(space, "v2", "Paused")


# ---- when Serinus is gone for good: exactly what docs/operations.md says ----


def commands(heading: str, number: int = 0) -> str:
    """One block of commands under this heading of docs/operations.md."""
    text = (kubectl.ROOT / "docs" / "operations.md").read_text()
    part = re.split(r"(?m)^## ", text.split(f"\n## {heading}\n")[1])[0]
    return re.findall(r"(?ms)^```console\n(.*?)^```", part)[number]


#: What a person does in the editor: takes the canary out of the route, and gives the Service the weight that it had.
EDIT = """import sys, yaml
with open(sys.argv[1]) as given:
    route = yaml.safe_load(given)
for rule in route["spec"]["rules"]:
    rule["backendRefs"] = [ref for ref in rule["backendRefs"] if not ref["name"].endswith("-canary")]
    for ref in rule["backendRefs"]:
        ref["weight"] = 1
with open(sys.argv[1], "w") as given:
    yaml.safe_dump(route, given)
"""


def by_hand(text: str, space: str, folder: Path, release: str = "") -> None:
    """Types the commands into a shell whose kubectl is at home in the namespace."""
    config = yaml.safe_load(kubectl.KUBECONFIG.read_text())
    for context in config["contexts"]:
        context["context"]["namespace"] = space
    (folder / "kubeconfig").write_text(yaml.safe_dump(config))
    (folder / "edit.py").write_text(EDIT)
    lines = [
        "set -euo pipefail",
        f"cd {folder}",
        f"export KUBECONFIG={folder}/kubeconfig KUBE_EDITOR='{kubectl.ROOT}/.venv/bin/python {folder}/edit.py'",
        text.replace("<release>", release).replace("<namespace>", space),
    ]
    kubectl.call("bash", "-c", "\n".join(lines), timeout=90)


def let_go(space: str, tmp_path: Path) -> None:
    """Half of the traffic is on v2, and nobody is there: the documented way leaves v1 serving, and nothing of Serinus."""
    load = follow.Load(space, shop.host(NAME, space), rate=25)
    load.start()
    release = release_of(space, NAME)["metadata"]["name"]
    by_hand(commands("When Serinus is gone for good"), space, tmp_path, release)
    assert kubectl.get("canary", NAME, space) is None
    left = deployment(space)
    assert not left["spec"].get("paused")
    assert "serinus.dev/canary" not in (left["metadata"].get("labels") or {})
    kubectl.run("rollout", "status", f"deployment/{NAME}", "-n", space, "--timeout=30s")
    serves(space, NAME, "v1")
    for kind in ("deployment", "service", "pdb"):
        assert kubectl.get(kind, f"{NAME}-canary", space) is None, kind
    (rule,) = (kubectl.get("httproute", NAME, space) or {})["spec"]["rules"]
    assert [(ref["name"], ref["weight"]) for ref in rule["backendRefs"]] == [(NAME, 1)]
    answers = load.stop()
    assert answers.summary["failed"] == 0, answers.failures
    assert kubectl.get("release", release, space), "the record stays"


def test_canary_is_let_go_of_by_hand_while_the_policies_hold(space: str, tmp_path: Path) -> None:
    """The operator is dead, the chart is there."""
    half_way(space)
    try:
        kubectl.run("scale", "deployment", install.RELEASE, "-n", install.NAMESPACE, "--replicas=0")
        kubectl.until("the operator is gone", lambda: not kubectl.items("pods", install.NAMESPACE))
        let_go(space, tmp_path)
    finally:
        kubectl.run("scale", "deployment", install.RELEASE, "-n", install.NAMESPACE, "--replicas=1")
        kubectl.run("rollout", "status", f"deployment/{install.RELEASE}", "-n", install.NAMESPACE, "--timeout=60s")


# ---- uninstalled, and installed again ----


@dataclass
class Shops:
    """What runs when the chart is uninstalled, under load."""

    space: str
    loads: dict[str, follow.Load] = field(default_factory=dict)
    #: kind/name -> uid, of what has to be there afterwards.
    kept: dict[str, str] = field(default_factory=dict)
    pods: set[str] = field(default_factory=set)
    routes: dict[str, Object] = field(default_factory=dict)
    #: When the chart was gone.
    since: float = 0.0
    #: Namespaces with a release half-way: one to be let go of by hand, one to be deleted.
    by_hand: str = "e2e-chart-life-by-hand"
    doomed: str = "e2e-chart-life-doomed"


SHOPS = ("stable", "paused", "promoting", "rolled-back")
#: What answers before, and has to answer on.
SERVED = {"stable": {"v1 200"}, "paused": {"v1 200", "v2 200"}, "promoting": {"v2 200"}, "rolled-back": {"v1 200"}}


def ship(shops: Shops) -> None:
    """Each shop into the state that it is named for."""
    space = shops.space
    things = [(shop.deployment(n, space, 2, MESSAGE="v1"), shop.service(n, space), shop.route(n, space)) for n in SHOPS]
    kubectl.apply(*(thing for some in things for thing in some))
    for name in SHOPS:
        kubectl.run("rollout", "status", f"deployment/{name}", "-n", space, "--timeout=60s")
        adopted(space, name, shop.steps("1s", 100) if name == "promoting" else HALF)
        shops.loads[name] = follow.Load(space, shop.host(name, space), rate=25, duration=240, name=f"load-{name}")
    for name in SHOPS:
        follow.phase(name, space, "Stable")
        shops.loads[name].start()
        shops.routes[name] = (kubectl.get("httproute", name, space) or {})["spec"]
    # So slow to roll out that it is under way when the chart goes.
    kubectl.run("patch", "deployment", "promoting", "-n", space, "--type=merge", "-p", '{"spec":{"minReadySeconds":25}}')
    for name in SHOPS[1:]:
        follow.set_env(space, name, MESSAGE="v2")
    follow.phase("rolled-back", space, "Paused")
    annotate(space, "rolled-back", "abort", release_of(space, "rolled-back")["metadata"]["name"])
    follow.phase("paused", space, "Paused")
    follow.phase("promoting", space, "Promoting")
    kubectl.until("it is over", lambda: follow.stage(release_of(space, "rolled-back")) == "Ended")
    kubectl.until("v2 has traffic", lambda: all("v2" in shops.loads[n].answers().first for n in ("paused", "promoting")))


def uids(space: str) -> dict[str, str]:
    found = [thing for kind in ("canaries", "releases") for thing in kubectl.items(kind, space)]
    return {f"{thing['kind']}/{thing['metadata']['name']}": thing["metadata"]["uid"] for thing in found}


@pytest.fixture(scope="module")
def uninstalled(operator: None) -> Iterator[Shops]:
    """The chart goes in the middle of it all, Canaries and all else left as they are."""
    with ExitStack() as stack:
        shops = Shops(stack.enter_context(kubectl.fresh_namespace("e2e-chart-life")))
        others = [stack.enter_context(kubectl.fresh_namespace(name)) for name in (shops.by_hand, shops.doomed)]
        stack.callback(install.install, SINK)  # before the namespaces go: their Canaries have finalizers
        with ThreadPoolExecutor() as beside:
            waiting = [beside.submit(half_way, name) for name in others]
            ship(shops)
            for each in waiting:
                each.result()
        shops.kept = uids(shops.space)
        shops.pods = {pod["metadata"]["uid"] for pod in kubectl.items("pods", shops.space, "app=stable")}
        install.uninstall()
        shops.since = time.time()
        yield shops


def taken(space: str, name: str, *words: str) -> Object:
    """The object as a write would leave it."""
    found: Object = json.loads(
        kubectl.run(words[0], "deployment", name, "-n", space, *words[1:], "--dry-run=server", "-o", "json")
    )
    return found


def test_uninstalled_in_mid_release(uninstalled: Shops) -> None:
    space = uninstalled.space
    assert "serinus" not in kubectl.run("get", POLICIES, "-o", "name")
    kubectl.run("get", "crd", *CRDS)
    assert uids(space) == uninstalled.kept, "Canaries and Releases are kept"
    end = uninstalled.since + 3
    kubectl.until("3 s have passed", lambda: min(max(load.answers().seconds) for load in uninstalled.loads.values()) > end)
    for name, load in uninstalled.loads.items():
        assert set(load.answers().within(uninstalled.since, end)) == SERVED[name], name
    for name in SHOPS:
        change = '{"spec":{"template":{"metadata":{"annotations":{"a":"b"}}}}}'
        then = taken(space, name, "patch", "--type=merge", "-p", change)
        assert then["spec"].get("paused") == deployment(space, name)["spec"].get("paused"), f"{name}: nothing holds a new version"
        then = taken(space, name, "patch", "--type=merge", "-p", '{"spec":{"paused":null}}')
        assert not then["spec"].get("paused"), f"{name}: nothing keeps it paused"
    assert [bool(deployment(space, name)["spec"].get("paused")) for name in SHOPS] == [AT_REST_PAUSED, True, False, True]


def test_canary_is_let_go_of_by_hand_without_the_chart(uninstalled: Shops, tmp_path: Path) -> None:
    let_go(uninstalled.by_hand, tmp_path)


def test_namespace_is_deletable_without_the_chart(uninstalled: Shops, tmp_path: Path) -> None:
    space = uninstalled.doomed
    by_hand(commands("When Serinus is gone for good", 1), space, tmp_path)
    kubectl.run("wait", "--for=delete", f"namespace/{space}", "--timeout=60s")


def test_installed_again_in_mid_release(uninstalled: Shops) -> None:
    """Each release goes on from where it was."""
    space = uninstalled.space
    install.install(SINK)
    follow.phase("paused", space, "Paused")
    resume(space, "paused")
    for name in ("paused", "promoting"):
        kubectl.until(f"{name} is over", lambda: follow.stage(release_of(space, name)) == "Ended", timeout=90)  # noqa: B023
        assert release_of(space, name)["status"]["outcome"] == "Promoted", name
        follow.phase(name, space, "Stable")
        serves(space, name, "v2")
    follow.phase("stable", space, "Stable")
    follow.phase("rolled-back", space, "RolledBack")
    for name in ("stable", "rolled-back"):
        serves(space, name, "v1")
    pods = {pod["metadata"]["uid"] for pod in kubectl.items("pods", space, "app=stable")}
    assert pods == uninstalled.pods, "nothing restarted"
    assert uids(space) == uninstalled.kept, "no attempt is recorded twice"
    assert [bool(deployment(space, name)["spec"].get("paused")) for name in SHOPS] == [*[AT_REST_PAUSED] * 3, True]
    for name, load in uninstalled.loads.items():
        answers = load.stop()
        assert answers.summary["failed"] == 0, (name, answers.failures)
        assert kubectl.get("deployment", f"{name}-canary", space) is None, name
        assert (kubectl.get("httproute", name, space) or {})["spec"] == uninstalled.routes[name], name

"""What the API server itself takes, refuses and holds: schemas, CEL rules and admission policies, on a real one.

Needs the cluster of `make cluster-up`, but not the operator. Everything happens in namespaces of its own; the policies under
test select only those. Where the chart is installed already, its policies hold there too, and exempt the same account.
"""

from __future__ import annotations

import copy
import functools
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from serinus.api.crdgen import ROOT, crds

pytestmark = pytest.mark.cluster

TOOLS = ROOT / ".cluster" / "bin"
KUBECONFIG = ROOT / ".cluster" / "kubeconfig"
CHART = ROOT / "charts" / "serinus"
RUN = f"api-{os.getpid()}"
OPERATOR = "system:serviceaccount:serinus:serinus"
PLURALS = "canaries,releases,metrictemplates"

Done = subprocess.CompletedProcess[str]


def tool(name: str, *words: str, given: str | None = None) -> Done:
    command = [str(TOOLS / name), *words]
    return subprocess.run(
        command,
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | {"KUBECONFIG": str(KUBECONFIG)},
    )


def kubectl(*words: str, given: Any = None) -> Done:
    """Run kubectl; `given` is a manifest for its standard input."""
    return tool("kubectl", *words, given=None if given is None else json.dumps(given))


def must(done: Done) -> str:
    """Its output, or a failure that says what it said."""
    assert done.returncode == 0, f"{' '.join(done.args[1:])}: {done.stderr}"
    return done.stdout


@pytest.fixture(scope="module", autouse=True)
def cluster() -> None:
    if not KUBECONFIG.exists() or not (TOOLS / "kubectl").exists():
        pytest.fail("there is no cluster: run `make cluster-up` first")
    ready = kubectl("get", "--raw", "/readyz", "--request-timeout=10s")
    if ready.returncode:
        pytest.fail(f"the cluster does not answer: {ready.stderr.strip()}; run `make cluster-up`")


@pytest.fixture(scope="module")
def installed(cluster: None) -> Iterator[None]:
    """The CRDs as generated. Helm's are left alone; those made here are removed again unless somebody uses them."""
    found = kubectl("get", "crd", *(definition["metadata"]["name"] for definition in crds()), "-o", "json")
    helms = found.returncode == 0 and "meta.helm.sh/release-name" in found.stdout
    if not helms:
        must(kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds")))
        must(kubectl("wait", "--for=condition=Established", "-f", str(ROOT / "crds"), "--timeout=30s"))
    yield
    if found.returncode and not must(kubectl("get", PLURALS, "--all-namespaces", "-o", "name")):
        kubectl("delete", "-f", str(ROOT / "crds"), "--timeout=30s")


@pytest.fixture(scope="module")
def namespace(cluster: None) -> Iterator[str]:
    must(kubectl("create", "namespace", RUN))
    yield RUN
    for name in kubectl("get", PLURALS, "-n", RUN, "-o", "name").stdout.split():
        kubectl("patch", name, "-n", RUN, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    kubectl("delete", PLURALS, "--all", "-n", RUN, "--timeout=30s")  # before the CRDs are looked at
    kubectl("delete", "namespace", RUN, "--wait=false")


# --- schemas -----------------------------------------------------------------------------------------------------------------

CANARY: dict[str, Any] = {
    "apiVersion": "serinus.dev/v1alpha1",
    "kind": "Canary",
    "metadata": {"name": "checkout"},
    "spec": {
        "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "checkout"},
        "service": {"name": "checkout", "port": 80},
        "traffic": {"gatewayAPI": {"httpRoutes": [{"name": "checkout"}], "grpcRoutes": [{"name": "checkout.rpc"}]}},
        "steps": [{"weight": 5}, {"weight": 25, "duration": "1h30m"}, {"pause": {}}, {"weight": 100, "duration": "0.5m"}],
        "analysis": {
            "interval": "500ms",
            "metrics": [
                {"name": "errors", "ratio": {"bad": "sum(bad)", "total": "sum(all)"}, "harm": "0.05%"},
                {
                    "name": "slow",
                    "templateRef": {"name": "slow", "namespace": "platform", "args": {"seconds": "0.3"}},
                    "harm": "1%",
                },
                {"name": "queue-depth", "query": "depth", "min": -1, "max": 99.5, "failureLimit": 2},
            ],
            "noData": "pass",
            "noDataAfter": "2m",
            "metricsDelay": "15s",
        },
        "rollback": {"keepCanaryFor": "0s"},
        "promotion": {"deadline": "10m", "drain": "3s"},
        "progressDeadline": "5m",
        "onDelete": "LeaveHeld",
        "releaseHistoryLimit": 10,
    },
}
TEMPLATE: dict[str, Any] = {
    "apiVersion": "serinus.dev/v1alpha1",
    "kind": "MetricTemplate",
    "metadata": {"name": "errors"},
    "spec": {
        "description": "Share of 5xx at the gateway",
        "ratio": {"bad": 'sum(r{code=~"5..",service="{{ service }}"})', "total": 'sum(r{service="{{ service }}"})'},
        "harm": "1%",
        "args": [{"name": "gateway", "default": "traefik"}, {"name": "code"}],
        "sharedWith": ["*", "shop"],
    },
}
RELEASE: dict[str, Any] = {
    "apiVersion": "serinus.dev/v1alpha1",
    "kind": "Release",
    "metadata": {"name": "checkout-1a2b3c4d-7-1"},
    "spec": {
        "canary": "checkout",
        "target": {"name": "checkout", "uid": "0b7ec05e-7f8b-4c0c-9d0c-000000000001", "generation": 7, "replicas": 3},
        "kind": "Deploy",
        "attempt": 1,
        "revision": "9c1f",
        "servingRevision": "7d2e",
        "template": {"metadata": {"labels": {"app": "checkout"}}, "spec": {"containers": [{"name": "c", "image": "checkout:2"}]}},
        "servingTemplate": {"spec": {"containers": [{"name": "c", "image": "checkout:1"}]}},
        "images": ["checkout:2"],
        "commit": "4f2a",
        "repository": "shop/checkout",
        "changedBy": "kubectl-set",
        "requestedAt": "2026-01-02T03:04:05.678901Z",
    },
}
GONE = object()
METRIC = "spec.analysis.metrics"
ROUTER = "spec.traffic needs exactly one router: gatewayAPI or podRatio"


def changed(manifest: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A copy with values set (or GONE) at dotted paths, whose numbers are places in lists."""
    made = copy.deepcopy(manifest)
    for path, value in changes.items():
        *way, last = [int(word) if word.isdigit() else word for word in path.split(".")]
        place = functools.reduce(lambda at, word: at[word], way, made)
        if value is GONE:
            del place[last]
        else:
            place[last] = value
    return made


def create(manifest: dict[str, Any], namespace: str) -> Done:
    return kubectl("create", "--dry-run=server", "-n", namespace, "-o", "json", "-f", "-", given=manifest)


@pytest.mark.parametrize(
    ("manifest", "changes"),
    [
        pytest.param(CANARY, {}, id="canary, all fields"),
        pytest.param(CANARY, {"spec.steps": GONE, "spec.stepWeights": [5, 25, 50, 100]}, id="canary, stepWeights"),
        pytest.param(CANARY, {"spec.traffic": {"podRatio": {}}, "spec.analysis": GONE}, id="canary, podRatio, nothing judged"),
        pytest.param(CANARY, {"metadata.name": "n" * 63}, id="canary, longest name"),
        pytest.param(TEMPLATE, {}, id="metric template, ratio"),
        pytest.param(
            TEMPLATE,
            {"spec.ratio": GONE, "spec.harm": GONE, "spec.query": "x", "spec.min": 0, "spec.max": 1},
            id="metric template, query",
        ),
        pytest.param(RELEASE, {}, id="release, all fields"),
    ],
)
def test_accepted_as_written(installed, namespace, manifest, changes):
    wanted = changed(manifest, changes)
    assert _within(wanted["spec"], json.loads(must(create(wanted, namespace)))["spec"])


def _within(small: Any, large: Any) -> bool:
    """Whether all of `small` is in `large`, which may have defaults beside it."""
    if isinstance(small, dict):
        return all(key in large and _within(value, large[key]) for key, value in small.items())
    if isinstance(small, list):
        return len(small) == len(large) and all(map(_within, small, large))
    return bool(small == large)


def test_defaults_are_filled_in(installed, namespace):
    parts = ("analysis", "rollback", "promotion", "progressDeadline", "onDelete", "releaseHistoryLimit")
    plain = changed(CANARY, {f"spec.{part}": GONE for part in parts} | {"spec.targetRef": {"name": "checkout"}})
    spec = json.loads(must(create(plain, namespace)))["spec"]
    assert spec["targetRef"] == CANARY["spec"]["targetRef"]
    looking = {"interval": "1s", "noData": "hold", "noDataAfter": "2m", "metricsDelay": "15s", "warmUp": "0s"}
    assert spec["analysis"] == {**looking, "falseRollbacks": "1%", "independentErrors": False, "severe": "0%"}
    assert spec["promotion"] == {"deadline": "10m", "drain": "3s"}
    assert spec["onDelete"] == "RestoreServing"
    assert "status" not in spec


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    # routers
    "unknown router": (CANARY, {"spec.traffic": {"istio": {}}}, 'unknown field "spec.traffic.istio"'),
    "two routers": (CANARY, {"spec.traffic.podRatio": {}}, ROUTER),
    "no router": (CANARY, {"spec.traffic": {}}, ROUTER),
    "traffic missing": (CANARY, {"spec.traffic": GONE}, "spec.traffic: Required value"),
    "router without routes": (
        CANARY,
        {"spec.traffic": {"gatewayAPI": {}}},
        "needs at least one entry in httpRoutes or grpcRoutes",
    ),
    "router with empty routes": (
        CANARY,
        {"spec.traffic": {"gatewayAPI": {"httpRoutes": []}}},
        "needs at least one entry in httpRoutes or grpcRoutes",
    ),
    # target and service
    "StatefulSet": (CANARY, {"spec.targetRef.kind": "StatefulSet"}, 'spec.targetRef.kind: Unsupported value: "StatefulSet"'),
    "other apiVersion": (CANARY, {"spec.targetRef.apiVersion": "apps/v2"}, "spec.targetRef.apiVersion: Unsupported value"),
    "target without name": (CANARY, {"spec.targetRef.name": GONE}, "spec.targetRef.name: Required value"),
    "name in upper case": (CANARY, {"spec.targetRef.name": "Checkout"}, "spec.targetRef.name: Invalid value"),
    "name too long": (CANARY, {"spec.targetRef.name": "n" * 64}, "spec.targetRef.name: Too long: may not be more than 63"),
    "name empty": (CANARY, {"spec.service.name": ""}, "spec.service.name: Invalid value"),
    "port 0": (CANARY, {"spec.service.port": 0}, "spec.service.port: Invalid value: 0"),
    "port 70000": (CANARY, {"spec.service.port": 70000}, "spec.service.port: Invalid value: 70000"),
    "port by name": (CANARY, {"spec.service.port": "http"}, "spec.service.port: Invalid value"),
    # steps
    "weights that fall": (CANARY, {"spec.steps": [{"weight": 50}, {"weight": 25}]}, "the weights in spec.steps must rise"),
    "weights that stay": (CANARY, {"spec.steps": [{"weight": 50}, {"weight": 50}]}, "the weights in spec.steps must rise"),
    "stepWeights that fall": (
        CANARY,
        {"spec.steps": GONE, "spec.stepWeights": [50, 25]},
        "the weights in spec.stepWeights must rise",
    ),
    "weight 101": (CANARY, {"spec.steps.3.weight": 101}, "spec.steps[3].weight: Invalid value: 101"),
    "weight 0": (CANARY, {"spec.steps.0.weight": 0}, "spec.steps[0].weight: Invalid value: 0"),
    "stepWeight 101": (CANARY, {"spec.steps": GONE, "spec.stepWeights": [5, 101]}, "spec.stepWeights[1]: Invalid value: 101"),
    "no steps at all": (CANARY, {"spec.steps": GONE}, "spec needs exactly one of steps or stepWeights"),
    "empty steps": (CANARY, {"spec.steps": []}, "spec.steps: Invalid value"),
    "too many steps": (CANARY, {"spec.steps": [{"weight": w} for w in range(1, 22)]}, "spec.steps: Too many: 21"),
    "steps in both forms": (CANARY, {"spec.stepWeights": [5]}, "spec needs exactly one of steps or stepWeights"),
    "steps without a weight": (CANARY, {"spec.steps": [{"pause": {}}]}, "spec.steps needs at least one weight"),
    "weight and pause": (CANARY, {"spec.steps.0.pause": {}}, "each entry of spec.steps needs exactly one of weight or pause"),
    "neither weight nor pause": (CANARY, {"spec.steps.0": {}}, "each entry of spec.steps needs exactly one of weight or pause"),
    "duration on a pause": (
        CANARY,
        {"spec.steps.2.duration": "1m"},
        "duration in spec.steps belongs to a weight, not to a pause",
    ),
    "negative duration": (CANARY, {"spec.steps.0.duration": "-1m"}, "spec.steps[0].duration: Invalid value"),
    "duration without unit": (CANARY, {"spec.steps.0.duration": "60"}, "spec.steps[0].duration: Invalid value"),
    "duration as a number": (CANARY, {"spec.steps.0.duration": 60}, "spec.steps[0].duration: Invalid value"),
    # analysis
    "minDuration beside a duration": (
        CANARY,
        {"spec.steps.0": {"weight": 5, "duration": "1m", "minDuration": "10s"}},
        "minDuration and maxDuration in spec.steps bound a weight that has no duration",
    ),
    "minDuration above maxDuration": (
        CANARY,
        {"spec.steps.0": {"weight": 5, "minDuration": "1m", "maxDuration": "10s"}},
        "minDuration in spec.steps must not be above maxDuration",
    ),
    "falseRollbacks 0%": (CANARY, {"spec.analysis.falseRollbacks": "0%"}, "spec.analysis.falseRollbacks must be above 0%"),
    "severe 101%": (CANARY, {"spec.analysis.severe": "101%"}, "spec.analysis.severe must be at most 100%"),
    "baseline unknown": (CANARY, {"spec.analysis.metrics.0.baseline": "last"}, "baseline: Unsupported value"),
    "interval too short": (CANARY, {"spec.analysis.interval": "10ms"}, "spec.analysis.interval must be between 500ms and 10m"),
    "interval too long": (CANARY, {"spec.analysis.interval": "11m"}, "spec.analysis.interval must be between 500ms and 10m"),
    "noData unknown": (CANARY, {"spec.analysis.noData": "ignore"}, 'spec.analysis.noData: Unsupported value: "ignore"'),
    "PromQL empty": (CANARY, {f"{METRIC}.2.query": ""}, f"{METRIC}[2].query: Invalid value"),
    "PromQL blank": (CANARY, {f"{METRIC}.2.query": "  "}, f"{METRIC}[2].query: Invalid value"),
    "ratio of blanks": (CANARY, {f"{METRIC}.0.ratio.bad": " "}, f"{METRIC}[0].ratio.bad: Invalid value"),
    "ratio without total": (CANARY, {f"{METRIC}.0.ratio.total": GONE}, f"{METRIC}[0].ratio.total: Required value"),
    "templateRef and query": (
        CANARY,
        {f"{METRIC}.1.query": "x"},
        f"each entry of {METRIC} needs exactly one of builtin, templateRef",
    ),
    "metric of nothing": (
        CANARY,
        {f"{METRIC}.0": {"name": "errors"}},
        f"each entry of {METRIC} needs exactly one of builtin, templateRef",
    ),
    "builtin and ratio": (CANARY, {f"{METRIC}.0.builtin": "errors"}, f"each entry of {METRIC} needs exactly one of builtin"),
    "builtin unknown": (CANARY, {f"{METRIC}.0": {"builtin": "latency"}}, "builtin: Unsupported value"),
    "ratio without a name": (CANARY, {f"{METRIC}.0.name": GONE}, f"each entry of {METRIC} needs a name, unless it is a builtin"),
    "slow without slowerThan": (CANARY, {f"{METRIC}.0": {"builtin": "slow"}}, "slowerThan belongs to builtin: slow"),
    "slowerThan of errors": (
        CANARY,
        {f"{METRIC}.0": {"builtin": "errors", "slowerThan": "1s"}},
        "slowerThan belongs to builtin: slow",
    ),
    "slowerThan nothing": (CANARY, {f"{METRIC}.0": {"builtin": "slow", "slowerThan": "0s"}}, "slowerThan must be above 0s"),
    "exporter of a ratio": (CANARY, {f"{METRIC}.0.exporter": "traefik"}, "exporter belongs to a builtin"),
    "exporter unknown": (CANARY, {f"{METRIC}.0": {"builtin": "errors", "exporter": "apache"}}, "exporter: Unsupported value"),
    "limits of a builtin": (
        CANARY,
        {f"{METRIC}.0": {"builtin": "errors", "max": 1}},
        "min, max and failureLimit judge a query; a builtin is judged against harm",
    ),
    "builtins of one name": (
        CANARY,
        {METRIC: [{"builtin": "errors"}, {"name": "errors", "builtin": "slow", "slowerThan": "1s"}]},
        f"every name in {METRIC} must be there once",
    ),
    "query read directly": (CANARY, {f"{METRIC}.2.source": "direct"}, "source: direct reads counters; a query needs Prometheus"),
    "pods' metrics from Prometheus": (
        CANARY,
        {f"{METRIC}.0.podMetrics": {"port": 80}},
        "podMetrics says where source: direct reads",
    ),
    "min on a ratio": (CANARY, {f"{METRIC}.0.min": 1}, "min, max and failureLimit judge a query; a ratio is judged against harm"),
    "harm on a query": (CANARY, {f"{METRIC}.2.harm": "1%"}, "harm judges a ratio; a query is judged by min and max"),
    "query without limits": (CANARY, {f"{METRIC}.2.min": GONE, f"{METRIC}.2.max": GONE}, "a query needs min, max or worse"),
    "worse on a ratio": (CANARY, {f"{METRIC}.0.worse": "higher"}, "worse compares a query's numbers"),
    "tolerance without worse": (CANARY, {f"{METRIC}.2.tolerance": "5%"}, "tolerance belongs to worse"),
    "min above max": (CANARY, {f"{METRIC}.2.min": 100}, "min must not be above max"),
    "ratio without harm": (CANARY, {f"{METRIC}.0.harm": GONE}, "a ratio needs harm, the rate below which no version is blamed"),
    "harm 0%": (CANARY, {f"{METRIC}.0.harm": "0%"}, "harm must be above 0% and below 100%"),
    "harm 100%": (CANARY, {f"{METRIC}.0.harm": "100%"}, "harm must be above 0% and below 100%"),
    "harm without percent sign": (CANARY, {f"{METRIC}.0.harm": "1"}, f"{METRIC}[0].harm: Invalid value"),
    "harm as a number": (CANARY, {f"{METRIC}.0.harm": 1}, f"{METRIC}[0].harm: Invalid value"),
    "two metrics of one name": (CANARY, {f"{METRIC}.1.name": "errors"}, f"every name in {METRIC} must be there once"),
    "failureLimit below 0": (CANARY, {f"{METRIC}.2.failureLimit": -1}, f"{METRIC}[2].failureLimit: Invalid value"),
    # the rest
    "onDelete unknown": (CANARY, {"spec.onDelete": "Promote"}, 'spec.onDelete: Unsupported value: "Promote"'),
    "deadline negative": (CANARY, {"spec.promotion.deadline": "-10m"}, "spec.promotion.deadline: Invalid value"),
    "no history": (CANARY, {"spec.releaseHistoryLimit": 0}, "spec.releaseHistoryLimit: Invalid value: 0"),
    "misspelt field": (CANARY, {"spec.analysis.intervall": "1s"}, 'unknown field "spec.analysis.intervall"'),
    "spec missing": (CANARY, {"spec": GONE}, "spec: Required value"),
    # the other kinds
    "template of both": (TEMPLATE, {"spec.query": "x"}, "spec needs exactly one of ratio or query"),
    "template of neither": (TEMPLATE, {"spec.ratio": GONE, "spec.harm": GONE}, "spec needs exactly one of ratio or query"),
    "template: max on a ratio": (TEMPLATE, {"spec.max": 1}, "min and max judge a query; a ratio is judged against harm"),
    "template: min above max": (
        TEMPLATE,
        {"spec.ratio": GONE, "spec.harm": GONE, "spec.query": "x", "spec.min": 2, "spec.max": 1},
        "min must not be above max",
    ),
    "template: harm 0%": (TEMPLATE, {"spec.harm": "0%"}, "harm must be above 0% and below 100%"),
    "template: argument with a dash": (TEMPLATE, {"spec.args.0.name": "my-arg"}, "spec.args[0].name: Invalid value"),
    "template: shared with nobody's namespace": (TEMPLATE, {"spec.sharedWith.1": "Shop"}, "spec.sharedWith[1]: Invalid value"),
    "release of unknown kind": (RELEASE, {"spec.kind": "Upgrade"}, 'spec.kind: Unsupported value: "Upgrade"'),
    "release at no time": (RELEASE, {"spec.requestedAt": "yesterday"}, "spec.requestedAt: Invalid value"),
}


@pytest.mark.parametrize(("manifest", "changes", "words"), REFUSED.values(), ids=REFUSED)
def test_refused_with_a_sentence_that_names_the_field(installed, namespace, manifest, changes, words):
    done = create(changed(manifest, changes), namespace)
    assert done.returncode != 0, "it was accepted"
    assert words in done.stderr


@pytest.mark.parametrize("field", ["targetRef", "service"])
def test_what_a_canary_delivers_cannot_change(installed, namespace, field):
    canary = changed(CANARY, {"metadata.name": field.lower()})
    must(kubectl("create", "-n", namespace, "-f", "-", given=canary))
    changes = json.dumps({"spec": {field: {"name": "other"}}})
    done = kubectl("patch", "canary", field.lower(), "-n", namespace, "--dry-run=server", "--type=merge", "-p", changes)
    assert f"spec.{field}.name cannot change: make a new Canary" in done.stderr
    must(
        kubectl(
            "patch",
            "canary",
            field.lower(),
            "-n",
            namespace,
            "--dry-run=server",
            "--type=merge",
            "-p",
            '{"spec":{"onDelete":null}}',
        )
    )


def test_status_is_written_by_its_subresource_only(installed, namespace):
    must(kubectl("create", "-n", namespace, "-f", "-", given=changed(CANARY, {"metadata.name": "status"})))
    patch = ("patch", "canary", "status", "-n", namespace, "--dry-run=server", "-o", "json", "--type=merge", "-p")
    wanted = '{"status":{"phase":"Stable","conditions":[{"type":"Ready","status":"True","reason":"Adopted"}]}}'
    assert json.loads(must(kubectl(*patch, wanted))).get("status", {}).get("phase") != "Stable"
    assert json.loads(must(kubectl(*patch, wanted, "--subresource=status")))["status"]["phase"] == "Stable"
    done = kubectl(*patch, '{"status":{"phase":"Happy"}}', "--subresource=status")
    assert 'status.phase: Unsupported value: "Happy"' in done.stderr


def test_the_kinds_explain_themselves(installed):
    assert "Never blame a version" in must(kubectl("explain", "canary.spec.analysis.metrics"))
    assert "canaries" in must(kubectl("api-resources", "--categories=serinus", "--cached=false", "-o", "name"))


# --- the chart ---------------------------------------------------------------------------------------------------------------


def render(namespace: str, *settings: str) -> list[dict[str, Any]]:
    words = [word for setting in settings for word in ("--set", setting)]
    text = must(tool("helm", "template", RUN, str(CHART), "--namespace", namespace, "--set", "admission.force=true", *words))
    return [document for document in yaml.safe_load_all(text) if document]


def test_the_whole_chart_is_taken_in_a_restricted_namespace(installed, cluster):
    name = f"{RUN}-chart"
    restricted = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    must(
        kubectl(
            "create", "-f", "-", given={"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": restricted}}
        )
    )
    try:
        dora = ("dora.enabled=true", "dora.report.url=https://hooks.example/x", "dora.route.parentRefs[0].name=gateway")
        documents = render(name, "crds.install=false", "replicas=2", "networkPolicy.enabled=true", *dora)
        done = kubectl(
            "apply",
            "--server-side",
            "--dry-run=server",
            "-f",
            "-",
            given={"apiVersion": "v1", "kind": "List", "items": documents},
        )
        assert len(must(done).splitlines()) == len(documents)
        assert "Warning" not in done.stderr
    finally:
        kubectl("delete", "namespace", name, "--wait=false")


# --- the policies ------------------------------------------------------------------------------------------------------------

Deployment = dict[str, Any]
NOTE = "Serinus holds this version of {name} and gives it traffic step by step; watch it with: kubectl get canary shop -n {ns} -w"


def deployment(name: str, *, labelled: bool = True) -> Deployment:
    """No replicas: what is asked is what the API server does, not whether pods start."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": {"serinus.dev/canary": "shop"} if labelled else {}},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "shop:1"}]}},
        },
    }


@pytest.fixture(scope="module")
def policies(namespace: str) -> Iterator[str]:
    """The chart's policies for this namespace alone, and the operator's rights in it."""
    documents = render(
        "serinus",
        "serviceAccount.name=serinus",
        r"admission.namespaceSelector.matchLabels.kubernetes\.io/metadata\.name=" + namespace,
    )
    ours = [
        d
        for d in documents
        if "Admission" in d["kind"] or (d["kind"], d["metadata"]["name"]) == ("ClusterRole", f"{RUN}-serinus")
    ]
    everything = {"apiVersion": "v1", "kind": "List", "items": ours}
    must(kubectl("apply", "-f", "-", given=everything))
    try:
        must(
            kubectl(
                "create",
                "rolebinding",
                "operator",
                f"--clusterrole={RUN}-serinus",
                "--serviceaccount=serinus:serinus",
                "-n",
                namespace,
            )
        )
        must(kubectl("create", "-n", namespace, "-f", "-", given=deployment("probe")))
        _until_they_work(namespace)
        yield namespace
    finally:
        kubectl("delete", "--wait=false", "-f", "-", given=everything)


def _until_they_work(namespace: str) -> None:
    """The API server compiles new policies beside its other work: ask until all three answer."""
    must(kubectl("annotate", "deployment", "probe", "-n", namespace, "serinus.dev/promoting=probe"))
    deadline = time.monotonic() + 30
    said = ""
    while "is promoting release probe" not in said:
        assert time.monotonic() < deadline, f"the freeze did not come into force: {said}"
        said = kubectl("set", "env", "deployment/probe", "-n", namespace, f"A={time.monotonic()}", "--dry-run=server").stderr
    must(kubectl("annotate", "deployment", "probe", "-n", namespace, "serinus.dev/promoting-"))
    while "Serinus holds" not in said or not paused("probe", namespace):
        assert time.monotonic() < deadline, f"hold and tell did not come into force: {said}"
        said = kubectl("set", "env", "deployment/probe", "-n", namespace, f"A={time.monotonic()}").stderr


def get(name: str, namespace: str) -> Deployment:
    found: Deployment = json.loads(must(kubectl("get", "deployment", name, "-n", namespace, "-o", "json")))
    return found


def paused(name: str, namespace: str) -> bool:
    return bool(get(name, namespace)["spec"].get("paused", False))


def image(name: str, namespace: str) -> str:
    return str(get(name, namespace)["spec"]["template"]["spec"]["containers"][0]["image"])


def made(name: str, namespace: str, *, labelled: bool = True, how: tuple[str, ...] = ("create",)) -> Deployment:
    manifest = deployment(name, labelled=labelled)
    must(kubectl(*how, "-n", namespace, "-f", "-", given=manifest))
    assert not paused(name, namespace)
    return manifest


def newer(manifest: Deployment) -> Deployment:
    return changed(manifest, {"spec.template.spec.containers.0.image": "shop:2"})


Write = Callable[[str, str, Deployment], Done]
APPLY = ("apply",)
SERVER_SIDE = ("apply", "--server-side")
WRITES: dict[str, tuple[tuple[str, ...], Write]] = {
    "set env": (("create",), lambda name, ns, _: kubectl("set", "env", f"deployment/{name}", "-n", ns, "A=1")),
    "set image": (("create",), lambda name, ns, _: kubectl("set", "image", f"deployment/{name}", "-n", ns, "c=shop:2")),
    "rollout restart": (("create",), lambda name, ns, _: kubectl("rollout", "restart", f"deployment/{name}", "-n", ns)),
    "apply": (APPLY, lambda _, ns, old: kubectl(*APPLY, "-n", ns, "-f", "-", given=newer(old))),
    "server-side apply": (SERVER_SIDE, lambda _, ns, old: kubectl(*SERVER_SIDE, "-n", ns, "-f", "-", given=newer(old))),
    "replace": (("create",), lambda _, ns, old: kubectl("replace", "-n", ns, "-f", "-", given=newer(old))),
    "replace that forgets the label": (
        ("create",),
        lambda _, ns, old: kubectl("replace", "-n", ns, "-f", "-", given=changed(newer(old), {"metadata.labels": {}})),
    ),
    "apply that says paused: false": (
        SERVER_SIDE,
        lambda _, ns, old: kubectl(*SERVER_SIDE, "-n", ns, "-f", "-", given=changed(newer(old), {"spec.paused": False})),
    ),
    "operator's own": (
        ("create",),
        lambda name, ns, _: kubectl("set", "image", f"deployment/{name}", "-n", ns, "c=shop:2", f"--as={OPERATOR}"),
    ),
}


@pytest.mark.parametrize(("how", "write"), WRITES.values(), ids=WRITES)
def test_a_new_template_is_held_whoever_writes_it(policies, request, how, write):
    name = "held-" + "".join(c if c.isalnum() else "-" for c in request.node.callspec.id.lower())
    old = made(name, policies, how=how)
    done = write(name, policies, old)
    must(done)
    assert paused(name, policies)
    assert get(name, policies)["spec"]["template"] != old["spec"]["template"]
    assert (NOTE.format(name=name, ns=policies) in done.stderr) == ("--as" not in " ".join(done.args))


def test_a_held_version_is_released_by_the_operator_only(policies):
    name = "released"
    old = made(name, policies, how=SERVER_SIDE)
    new = newer(old)
    must(kubectl(*SERVER_SIDE, "-n", policies, "-f", "-", given=new))
    kubectl("rollout", "resume", f"deployment/{name}", "-n", policies)
    assert paused(name, policies)
    must(kubectl(*SERVER_SIDE, "-n", policies, "-f", "-", given=new))
    assert paused(name, policies)
    must(kubectl("patch", "deployment", name, "-n", policies, "--type=json", "-p", '[{"op":"remove","path":"/spec/paused"}]'))
    assert paused(name, policies)
    must(kubectl("patch", "deployment", name, "-n", policies, "-p", '{"spec":{"paused":false}}', f"--as={OPERATOR}"))
    assert not paused(name, policies)
    must(kubectl(*SERVER_SIDE, "-n", policies, "-f", "-", given=new))
    assert not paused(name, policies), "the released version, applied again, is no new one"


def test_what_leaves_the_template_alone_is_not_held(policies):
    name = "scaled"
    made(name, policies)
    must(kubectl("annotate", "deployment", name, "-n", policies, "a=b"))
    scaled = kubectl("patch", "deployment", name, "-n", policies, "-p", '{"spec":{"minReadySeconds":1}}')
    must(scaled)
    assert not paused(name, policies)
    assert "Serinus" not in scaled.stderr


def test_deployments_without_the_label_are_nobodys_business(policies):
    name = "free"
    made(name, policies, labelled=False)
    must(kubectl("annotate", "deployment", name, "-n", policies, "serinus.dev/promoting=x"))
    done = kubectl("set", "image", f"deployment/{name}", "-n", policies, "c=shop:2")
    must(done)
    assert "Serinus" not in done.stderr
    assert not paused(name, policies)
    must(kubectl("rollout", "pause", f"deployment/{name}", "-n", policies))
    must(kubectl("rollout", "resume", f"deployment/{name}", "-n", policies))
    assert not paused(name, policies)


def test_the_write_that_adds_the_label_is_held_if_it_brings_a_new_template(policies):
    name = "adopted"
    made(name, policies, labelled=False, how=APPLY)
    must(kubectl(*APPLY, "-n", policies, "-f", "-", given=newer(deployment(name))))
    assert paused(name, policies)


def test_break_glass_on_a_held_version(policies):
    name = "glass"
    made(name, policies)
    must(kubectl("set", "image", f"deployment/{name}", "-n", policies, "c=shop:2"))
    must(kubectl("label", "deployment", name, "-n", policies, "serinus.dev/canary-"))
    assert paused(name, policies), "taking the label off releases nothing by itself"
    must(kubectl("rollout", "resume", f"deployment/{name}", "-n", policies))
    assert not paused(name, policies)
    assert image(name, policies) == "shop:2"


def test_freeze_while_a_version_is_promoted(policies):
    name = "frozen"
    made(name, policies)
    must(kubectl("annotate", "deployment", name, "-n", policies, "serinus.dev/promoting=shop-1a2b-7-1", f"--as={OPERATOR}"))
    done = kubectl("set", "image", f"deployment/{name}", "-n", policies, "c=shop:3")
    assert done.returncode != 0
    assert f"Serinus is promoting release shop-1a2b-7-1 of {name}" in done.stderr
    assert (
        f"accepts template changes again when that is over; watch it with: kubectl get canary shop -n {policies} -w"
        in done.stderr
    )
    assert f"kubectl annotate deployment {name} -n {policies} serinus.dev/promoting-" in done.stderr
    assert "Serinus holds" not in done.stderr
    assert image(name, policies) == "shop:1"

    one_write = changed(newer(deployment(name)), {"metadata.labels": {}})
    assert kubectl("replace", "-n", policies, "-f", "-", given=one_write).returncode != 0, "not by leaving the label out either"

    must(kubectl("scale", "deployment", name, "-n", policies, "--replicas=0"))
    must(kubectl("annotate", "deployment", name, "-n", policies, "a=b"))
    must(kubectl("set", "image", f"deployment/{name}", "-n", policies, "c=shop:0", f"--as={OPERATOR}"))
    assert image(name, policies) == "shop:0", "the operator can put a template back"


def test_break_glass_on_the_freeze(policies):
    name = "thawed"
    made(name, policies)
    must(kubectl("annotate", "deployment", name, "-n", policies, "serinus.dev/promoting=shop-1a2b-7-1"))
    must(kubectl("annotate", "deployment", name, "-n", policies, "serinus.dev/promoting-"))
    must(kubectl("set", "image", f"deployment/{name}", "-n", policies, "c=shop:3"))
    assert paused(name, policies)


@pytest.mark.parametrize(
    ("verb", "thing", "allowed"),
    [
        ("patch", "deployments.apps", True),
        ("patch", "deployments.apps/status", True),
        ("patch", "httproutes.gateway.networking.k8s.io", True),
        ("patch", "canaries.serinus.dev/status", True),
        ("delete", "replicasets.apps", True),
        ("get", "secrets", False),
        ("create", "pods/exec", False),
        ("delete", "pods", False),
        ("create", "canaries.serinus.dev", False),
        ("patch", "metrictemplates.serinus.dev", False),
        ("create", "rolebindings.rbac.authorization.k8s.io", False),
    ],
)
def test_the_operators_rights(policies, installed, verb, thing, allowed):
    resource, _, subresource = thing.partition("/")
    words = (f"--subresource={subresource}",) if subresource else ()
    done = kubectl("auth", "can-i", verb, resource, "-n", policies, f"--as={OPERATOR}", *words)
    assert done.stdout.strip() == ("yes" if allowed else "no")

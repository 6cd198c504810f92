"""The chart as Helm renders it. Whether the API server takes it is asked in e2e/."""

import functools
import json
import shutil
import subprocess
import sys
from base64 import b64encode
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from serinus.api.crdgen import ROOT, crds
from serinus.cli import app
from serinus.cli.dora import REFUSED, UNREAD, UNSENT
from serinus.dora.service.config import METRICS
from serinus.dora.service.rights import GROUP, RESOURCE

CHART = ROOT / "charts" / "serinus"
POLICY_KINDS = {
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}
OPERATOR = "system:serviceaccount:delivery:serinus"


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)  # noqa: S603  # tools by path


@functools.cache
def helm() -> str:
    local = ROOT / ".cluster" / "bin" / "helm"
    found = str(local) if local.exists() else shutil.which("helm")
    if not found:
        pytest.skip("there is no helm: `make cluster-up` builds one, or put one on PATH")
    return found


@functools.cache
def rendered(*settings: str) -> list[dict[str, Any]]:
    words = [word for setting in settings for word in ("--set", setting)]
    done = run(helm(), "template", "serinus", CHART, "--namespace", "delivery", *words)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def of_kind(kind: str, *settings: str) -> list[dict[str, Any]]:
    return [document for document in rendered(*settings) if document["kind"] == kind]


def one(kind: str, *settings: str, name: str = "serinus") -> dict[str, Any]:
    (found,) = [document for document in of_kind(kind, *settings) if document["metadata"]["name"] == name]
    return found


def pod(*settings: str) -> dict[str, Any]:
    return one("Deployment", *settings)["spec"]["template"]["spec"]


def args(*settings: str) -> list[str]:
    return pod(*settings)["containers"][0]["args"]


def rules(*settings: str) -> list[dict[str, Any]]:
    return [rule for kind in ("ClusterRole", "Role") for role in of_kind(kind, *settings) for rule in role["rules"]]


def test_lint():
    done = run(helm(), "lint", "--strict", CHART)
    assert done.returncode == 0, done.stdout + done.stderr


def test_readme_is_as_values_say():
    done = run(sys.executable, ROOT / "charts" / "readme.py", "--check")
    assert done.returncode == 0, done.stderr


def test_values_schema_knows_every_value():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    jsonschema.Draft7Validator(json.loads((CHART / "values.schema.json").read_text())).validate(values)


@pytest.mark.parametrize(
    "setting",
    [
        "prometeus=http://prometheus",
        "prometheus.urll=http://prometheus",
        "prometheus.url=prometheus:9090",
        "image.pullPolicy=Sometimes",
        "admission.enabled=perhaps",
        "logLevel=loud",
        "replicas=-1",
        "service.port=70000",
        "events.sinks={not a url}",
        "gateway.metricsURLs={gateway:9100}",
        "dora.report.url=hooks.example",
        "dora.report.as=pigeon",
        "dora.route.parentRefs=gateway",
        "dora.rules.pages=no slash",
        "dora.dashboard.label=x",
    ],
)
def test_values_that_make_no_sense_are_refused(setting):
    done = run(helm(), "template", "serinus", CHART, "--set", setting)
    assert done.returncode != 0
    for word in setting.partition("=")[0].split("."):
        assert f"'{word}'" in done.stderr or f"/{word}" in done.stderr


def test_the_crds_are_the_generated_ones_and_are_kept():
    made = {document["metadata"]["name"]: document for document in of_kind("CustomResourceDefinition")}
    assert set(made) == {definition["metadata"]["name"] for definition in crds()}
    for definition in crds():
        document = made[definition["metadata"]["name"]]
        assert document["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
        assert document["spec"] == definition["spec"]


def test_the_crds_can_be_left_out_or_let_go():
    assert not of_kind("CustomResourceDefinition", "crds.install=false")
    assert all("annotations" not in document["metadata"] for document in of_kind("CustomResourceDefinition", "crds.keep=false"))


def test_rbac_has_no_wildcard_no_secret_and_no_exec():
    for rule in rules() + rules(*DORA):
        said = [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
        assert "*" not in said
        assert not {"secrets", "pods/exec", "serviceaccounts/token", "escalate", "bind", "impersonate"} & set(said)
        assert rule["apiGroups"] != ["rbac.authorization.k8s.io"]


@pytest.mark.parametrize(("file", "begins"), [("rbac.yaml", "      - "), ("dora-rights.yaml", "    verbs: [")])
def test_every_right_says_why(file, begins):
    for line in (CHART / "templates" / file).read_text().splitlines():
        if line.startswith(begins) and "name" not in line:
            assert " # " in line, f"{line.strip()}: say why"


def test_the_operator_writes_its_own_lease_only():
    (leases, create) = one("Role")["rules"]
    assert leases["resourceNames"] == ["serinus"]
    assert create["verbs"] == ["create"]
    assert not any("leases" in rule["resources"] for role in of_kind("ClusterRole") for rule in role["rules"])


def test_people_may_read_releases_but_not_write_them():
    edit = one("ClusterRole", name="serinus-edit")
    assert "releases" not in edit["rules"][0]["resources"]
    assert edit["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-edit"] == "true"
    view = one("ClusterRole", name="serinus-view")
    assert view["rules"] == [
        {
            "apiGroups": ["serinus.dev"],
            "resources": ["canaries", "releases", "metrictemplates"],
            "verbs": ["get", "list", "watch"],
        }
    ]


@pytest.mark.parametrize("kind", ["Deployment", "Pod"])
def test_pods_are_restricted(kind):
    spec = pod() if kind == "Deployment" else of_kind("Pod")[0]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]


def test_the_operators_pod():
    (container,) = pod()["containers"]
    assert container["image"] == "serinus/operator:0.1.0"
    assert container["resources"] == {"requests": {"cpu": "50m", "memory": "96Mi"}, "limits": {"memory": "256Mi"}}
    assert container["ports"] == [{"name": "http", "containerPort": 8080}]
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert [variable["name"] for variable in container["env"]] == ["POD_NAME", "POD_NAMESPACE"]


def test_arguments_follow_the_values():
    assert args() == ["controller", "--log-level=info", "--hold=pause", "--cluster=default"]
    assert args(
        "prometheus.url=http://p:9090",
        "gateway.metricsURLs={http://g:9100/metrics}",
        "events.sinks={http://a,http://b/c}",
        "admission.force=true",
        "logLevel=debug",
        "clusterName=west",
        "namespaces={shop}",
    ) == [
        "controller",
        "--log-level=debug",
        "--hold=policy",
        "--prometheus-url=http://p:9090",
        "--gateway-metrics-url=http://g:9100/metrics",
        "--cluster=west",
        "--namespace=shop",
        "--sink-url=http://a",
        "--sink-url=http://b/c",
    ]


def test_the_cluster_decides_who_holds():
    words = ("template", "serinus", CHART, "--api-versions", "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy")
    with_policy = run(helm(), *words).stdout
    assert "--hold=policy" in with_policy
    assert "serinus-hold" in with_policy
    assert not {document["kind"] for document in rendered()} & POLICY_KINDS
    assert not {document["kind"] for document in rendered("admission.enabled=false", "admission.force=true")} & POLICY_KINDS


def test_the_policies_look_at_labelled_deployments_only():
    policies = of_kind("MutatingAdmissionPolicy", "admission.force=true") + of_kind(
        "ValidatingAdmissionPolicy", "admission.force=true"
    )
    assert {policy["metadata"]["name"] for policy in policies} == {"serinus-hold", "serinus-freeze", "serinus-tell"}
    for policy in policies:
        constraints = policy["spec"]["matchConstraints"]
        assert constraints["objectSelector"]["matchExpressions"] == [{"key": "serinus.dev/canary", "operator": "Exists"}]
        assert [(r["operations"], r["resources"]) for r in constraints["resourceRules"]] == [(["UPDATE"], ["deployments"])]
        assert OPERATOR in json.dumps(policy["spec"]["matchConditions"])
    assert {p["metadata"]["name"]: p["spec"]["failurePolicy"] for p in policies} == {
        "serinus-hold": "Fail",
        "serinus-freeze": "Fail",
        "serinus-tell": "Ignore",
    }


def test_the_exempt_account_is_the_operators_whatever_it_is_called():
    (hold,) = of_kind("MutatingAdmissionPolicy", "admission.force=true", "serviceAccount.name=robin")
    assert "system:serviceaccount:delivery:robin'" in hold["spec"]["matchConditions"][0]["expression"]
    assert pod("serviceAccount.name=robin")["serviceAccountName"] == "robin"


def test_what_is_off_by_default():
    kinds = {document["kind"] for document in rendered()}
    assert not kinds & {"ServiceMonitor", "NetworkPolicy", "PodDisruptionBudget"}


def test_several_replicas_get_a_budget_and_spread():
    budget = one("PodDisruptionBudget", "replicas=2")
    assert budget["spec"]["maxUnavailable"] == 1
    assert "podAntiAffinity" in pod("replicas=2")["affinity"]


def test_network_policy():
    spec = one("NetworkPolicy", "networkPolicy.enabled=true")["spec"]
    assert spec["ingress"] == [{"ports": [{"port": 8080, "protocol": "TCP"}]}]
    assert {port["port"] for rule in spec["egress"] for port in rule["ports"]} == {53, 443, 6443, 9090}


def test_service_monitor_finds_the_service():
    monitor = one("ServiceMonitor", "serviceMonitor.enabled=true", "serviceMonitor.labels.release=kps")
    service = one("Service")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["metadata"]["labels"]["release"] == "kps"


def test_the_helm_test_asks_the_service_for_readyz():
    (test,) = of_kind("Pod")
    assert "http://serinus.delivery.svc:8080/readyz" in test["spec"]["containers"][0]["args"][0]
    labels = test["metadata"]["labels"]
    assert not one("Service")["spec"]["selector"].items() <= labels.items()


def test_two_releases_do_not_share_a_cluster_wide_name():
    done = run(helm(), "template", "second", CHART, "--set", "admission.force=true,crds.install=false")
    names = {document["metadata"]["name"] for document in yaml.safe_load_all(done.stdout) if document}
    assert names
    assert all(name.startswith("second-serinus") for name in names)


def test_namespaces_are_listed_only_where_not_all_are_watched():
    def listed(*settings: str) -> bool:
        return any("namespaces" in rule["resources"] for rule in one("ClusterRole", *settings)["rules"])

    assert not listed()
    assert listed("namespaces={shop}")


# ---- the measuring service ----

DORA = ("dora.enabled=true", "dora.secret=tokens")


def test_the_measuring_service_is_there_when_it_is_asked_for() -> None:
    assert not of_kind("StatefulSet")
    assert "--sink-url" not in str(pod())
    spec = one("StatefulSet", *DORA, name="serinus-dora")["spec"]
    inside = spec["template"]["spec"]
    (container,) = inside["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert inside["securityContext"]["runAsNonRoot"]
    assert (inside["serviceAccountName"], inside["automountServiceAccountToken"]) == ("serinus-dora", True)
    assert spec["volumeClaimTemplates"]
    assert (
        one("Service", *DORA, name="serinus-dora")["spec"]["selector"].items() <= spec["template"]["metadata"]["labels"].items()
    )
    operators = one("Deployment")["spec"]["selector"]["matchLabels"]
    assert not operators.items() <= spec["template"]["metadata"]["labels"].items(), "it is no operator"


def test_the_operator_sends_to_it_with_its_token_and_to_others_with_theirs() -> None:
    inside = pod(*DORA, "events.tokensSecret=others")
    host = "serinus-dora.delivery.svc"
    assert f"--sink-url=http://{host}:8090/ingest/cdevents" in inside["containers"][0]["args"]
    assert "--sink-tokens=/etc/serinus/tokens" in inside["containers"][0]["args"]
    (tokens,) = [volume["projected"]["sources"] for volume in inside["volumes"] if volume["name"] == "tokens"]
    assert tokens == [
        {"secret": {"name": "others"}},
        {"secret": {"name": "tokens", "items": [{"key": "cdevents", "path": host}]}},
    ]


def test_its_settings_are_the_values() -> None:
    known = one("ConfigMap", *DORA, "dora.config.zone=Europe/Zurich", name="serinus-dora")["data"]["dora.yaml"]
    assert yaml.safe_load(known) == {"database": "sqlite:////data/dora.db", "zone": "Europe/Zurich", "kubernetes": True}
    url = "postgresql+psycopg://dora@db/dora"
    known = one("ConfigMap", *DORA, f"dora.config.database={url}", name="serinus-dora")["data"]["dora.yaml"]
    assert yaml.safe_load(known) == {"database": url, "kubernetes": True}
    assert not of_kind("Secret", *DORA), "the one that is named is the user's"
    assert set(one("Secret", "dora.enabled=true", name="serinus-dora")["data"]) == {"cdevents", "metrics"}


def bound(account: str, *settings: str) -> list[dict[str, Any]]:
    """The rules that this account has in the whole cluster."""
    subject = {"kind": "ServiceAccount", "name": account, "namespace": "delivery"}
    roles = {binding["roleRef"]["name"] for binding in of_kind("ClusterRoleBinding", *settings) if subject in binding["subjects"]}
    return [rule for role in of_kind("ClusterRole", *settings) if role["metadata"]["name"] in roles for rule in role["rules"]]


def test_it_may_ask_who_may_and_nothing_else_and_the_operator_may_not() -> None:
    assert not [role for role in of_kind("ClusterRole") if "dora" in role["metadata"]["name"]]
    assert bound("serinus-dora", *DORA) == [
        {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]},
        {"apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"]},
    ]
    assert bound("serinus", *DORA) == bound("serinus")


def test_people_may_read_or_also_mark() -> None:
    reader, editor = (one("ClusterRole", *DORA, name=f"serinus-dora-{role}") for role in ("reader", "editor"))
    assert reader["rules"] == [{"apiGroups": [GROUP], "resources": [RESOURCE], "verbs": ["get"]}]
    assert editor["rules"] == [{"apiGroups": [GROUP], "resources": [RESOURCE], "verbs": ["get", "update"]}]
    joined = "rbac.authorization.k8s.io/aggregate-to-view"
    assert (joined in reader["metadata"]["labels"], joined in editor["metadata"]["labels"]) == (True, False)
    reader = one("ClusterRole", *DORA, "rbac.aggregate=false", name="serinus-dora-reader")
    assert joined not in reader["metadata"]["labels"]


def test_the_cluster_need_not_be_asked() -> None:
    off = ("dora.enabled=true", "dora.config.kubernetes=false", "dora.report.secret=hook")
    inside = one("StatefulSet", *off, name="serinus-dora")["spec"]["template"]["spec"]
    assert not inside["automountServiceAccountToken"]
    assert "serviceAccountName" not in inside
    assert not bound("serinus-dora", *off)
    assert not bound("serinus-dora-report", *off)
    assert yaml.safe_load(one("ConfigMap", *off, name="serinus-dora")["data"]["dora.yaml"])["kubernetes"] is False
    assert set(one("Secret", *off, name="serinus-dora")["data"]) == {"cdevents", "metrics", "reading"}
    job = one("CronJob", *off, name="serinus-dora-report")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert "volumes" not in job
    tokens = {variable["name"]: variable["valueFrom"]["secretKeyRef"] for variable in job["containers"][0]["env"]}
    assert tokens == {
        "SERINUS_DORA_REPORT_URL": {"name": "hook", "key": "url"},
        "SERINUS_DORA_TOKEN": {"name": "serinus-dora", "key": "reading"},
    }


def test_there_is_a_report_when_there_is_somewhere_to_send_it() -> None:
    assert not of_kind("CronJob", *DORA)
    assert not of_kind("CronJob", "dora.report.url=https://hooks.example/x")
    settings = (
        *DORA,
        "dora.report.url=https://hooks.example/x",
        "dora.config.zone=Europe/Zurich",
        "dora.config.audiences={dora}",
    )
    assert "hooks.example" not in str(rendered(*settings)), "but for the Secret"
    assert one("Secret", *settings, name="serinus-dora-report")["data"] == {"url": b64encode(b"https://hooks.example/x").decode()}
    spec = one("CronJob", *settings, name="serinus-dora-report")["spec"]
    assert (spec["schedule"], spec["timeZone"], spec["concurrencyPolicy"]) == ("0 7 * * 1", "Europe/Zurich", "Forbid")
    job = spec["jobTemplate"]["spec"]
    refused = job["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"]
    assert (REFUSED in refused, UNSENT in refused, UNREAD in refused) == (True, False, False)
    inside = job["template"]["spec"]
    assert not inside["automountServiceAccountToken"]
    assert inside["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]["audience"] == "dora"
    assert inside["securityContext"]["runAsNonRoot"]
    (container,) = inside["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert "--from=http://serinus-dora.delivery.svc:8090" in container["args"]
    assert bound(inside["serviceAccountName"], *settings) == one("ClusterRole", *DORA, name="serinus-dora-reader")["rules"]
    utc = one("CronJob", *DORA, "dora.report.secret=hook", name="serinus-dora-report")["spec"]
    assert utc["timeZone"] == "UTC"
    assert not of_kind("Secret", *DORA, "dora.report.secret=hook")


def test_the_job_takes_arguments_that_the_command_has() -> None:
    settings = (*DORA, "dora.report.secret=hook")
    job = one("CronJob", *settings, name="serinus-dora-report")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    done = CliRunner().invoke(app, [*job["containers"][0]["args"], "--week", "never"])
    assert done.exit_code == 2
    assert "never" in done.output or "token-file" in done.output


def test_the_jobs_name_is_short_enough() -> None:
    (job,) = of_kind("CronJob", *DORA, "dora.report.secret=hook", f"fullnameOverride={'n' * 52}")
    assert len(job["metadata"]["name"]) <= 52


def test_a_route_leads_to_it_when_there_is_a_gateway_to_lead_through() -> None:
    assert not of_kind("HTTPRoute", *DORA)
    assert not of_kind("HTTPRoute", "dora.route.parentRefs[0].name=gateway")
    settings = (*DORA, "dora.route.parentRefs[0].name=gateway", "dora.route.hostnames={dora.example}")
    spec = one("HTTPRoute", *settings, name="serinus-dora")["spec"]
    assert spec["parentRefs"] == [{"name": "gateway"}]
    assert spec["hostnames"] == ["dora.example"]
    service = one("Service", *settings, name="serinus-dora")
    assert spec["rules"] == [{"backendRefs": [{"name": "serinus-dora", "port": service["spec"]["ports"][0]["port"]}]}]


def test_each_service_is_scraped_by_its_own_monitor_and_the_measuring_one_with_its_secret() -> None:
    assert not of_kind("ServiceMonitor", *DORA)
    assert len(of_kind("ServiceMonitor", "serviceMonitor.enabled=true")) == 1
    settings = (*DORA, "serviceMonitor.enabled=true", "serviceMonitor.labels.release=kps")

    def chosen(monitor: dict[str, Any]) -> list[str]:
        wanted = monitor["spec"]["selector"]
        (rule,) = wanted.get("matchExpressions", [{"key": "", "operator": "NotIn", "values": []}])
        assert rule["operator"] == "NotIn"
        return [
            service["metadata"]["name"]
            for service in of_kind("Service", *settings)
            if wanted["matchLabels"].items() <= service["metadata"]["labels"].items()
            and service["metadata"]["labels"].get(rule["key"]) not in rule["values"]
        ]

    assert chosen(one("ServiceMonitor", *settings)) == ["serinus"]
    monitor = one("ServiceMonitor", *settings, name="serinus-dora")
    assert chosen(monitor) == ["serinus-dora"]
    assert monitor["metadata"]["labels"]["release"] == "kps"
    (endpoint,) = monitor["spec"]["endpoints"]
    assert (endpoint["port"], endpoint["path"], endpoint["honorLabels"]) == ("http", "/metrics", True)
    assert endpoint["authorization"] == {"credentials": {"name": "tokens", "key": METRICS}}
    assert "bearerTokenFile" not in endpoint, "Prometheus' own token stays with it"


def test_the_rules_are_the_file_and_their_runbooks_lead_somewhere() -> None:
    assert not of_kind("PrometheusRule", *DORA)
    assert not of_kind("PrometheusRule", "dora.rules.enabled=true")
    known = yaml.safe_load((CHART / "rules" / "dora.yaml").read_text())
    settings = (*DORA, "dora.rules.enabled=true", "dora.rules.labels.release=kps")
    rule = one("PrometheusRule", *settings, name="serinus-dora")
    assert rule["spec"] == known
    assert rule["metadata"]["labels"]["release"] == "kps"
    rule = one("PrometheusRule", *settings, "dora.rules.pages=https://git.example/serinus/", name="serinus-dora")
    alerts = [each for group in rule["spec"]["groups"] for each in group["rules"] if "alert" in each]
    assert alerts
    assert all(a["annotations"]["runbook_url"].startswith("https://git.example/serinus/docs/operations.md#") for a in alerts)


def test_the_dashboard_is_the_file_where_grafanas_sidecar_finds_it() -> None:
    assert not [found for found in of_kind("ConfigMap", *DORA) if "dashboard" in found["metadata"]["name"]]
    found = one("ConfigMap", *DORA, "dora.dashboard.enabled=true", name="serinus-dora-dashboard")
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(found["data"]["serinus-dora.json"]) == json.loads((CHART / "dashboards" / "dora.json").read_text())

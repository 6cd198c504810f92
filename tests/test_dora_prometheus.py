"""The rules and the dashboard against real Prometheus programs: what they ask for is there, and what should fire fires.

Prometheus scrapes the service as the chart's ServiceMonitor has it, both on loopback. The programs are those of the local
cluster: where they are not built yet (`make e2e` does it), these tests are skipped.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from e2e.cluster import gotools, network
from tests.data.dora.fleet import hashed
from tests.test_dora_series import series
from tests.test_dora_service import SECRETS, ask, serving, signed

from serinus.api.crdgen import ROOT
from serinus.dora.facts import ChangeSays, Fact, ReleaseSays
from serinus.dora.rollup import monday
from serinus.dora.store.log import Log
from serinus.dora.store.schema import connect

CHART = ROOT / "charts" / "serinus"
RULES, DASHBOARD = CHART / "rules" / "dora.yaml", CHART / "dashboards" / "dora.json"
CASES = ROOT / "tests" / "data" / "dora" / "rules.yaml"
METRICS = "scr4pe"


def program(name: str) -> Path:
    found = gotools.built(name)
    if found is None:
        pytest.skip(f"{name} is not built on this machine: `make e2e` does it")
    return found


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


ALERTS = sorted(rule["alert"] for rule in rules() if "alert" in rule)


def promtool(*words: str | Path) -> None:
    command = [program("promtool"), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # a tool by its path
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_are_well_formed() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", RULES)


def test_the_rules_fire_when_they_should_and_no_sooner() -> None:
    promtool("test", "rules", CASES)


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_is_tried_and_says_what_to_do(alert: str) -> None:
    (rule,) = (rule for rule in rules() if rule.get("alert") == alert)
    assert alert in CASES.read_text()
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    headings = {line[4:].strip("` ").lower() for line in (ROOT / page).read_text().splitlines() if line.startswith("### ")}
    assert anchor == alert.lower()
    assert anchor in headings
    assert rule["annotations"]["summary"]
    assert alert == "SerinusDoraIsGone" or "(n " in rule["annotations"]["description"]


# ---- a service with a past, and a Prometheus that scrapes it ----


def release(name: str, service: str, at: datetime, lead: timedelta, recovery: timedelta | None) -> Iterator[Fact]:
    """A change, opened so long before its release is over; and the release, which failed and came back so much later."""
    commit = hashed(int(name[1:]) + 1000 * (name[0] == "b"))
    opened, until = at - lead, at + timedelta(minutes=5)
    change = ChangeSays(repository=f"acme/{service}", opened=opened, merged=at - lead / 2, merge_commit=commit, title=name)
    yield Fact.of("test", f"c{name}", at, f"c{name}", change)
    moments: dict[str, Any] = {"promoted": until, "outcome": "Promoted"}
    if recovery is not None:
        moments = {"outcome": "RolledBack", "detected": until, "returned": until + recovery}
    kept = {"environment": "production", "artifact": f"registry.example/{service}:{name}", "repository": f"acme/{service}"}
    says = ReleaseSays.model_validate(
        {"service": f"shop/{service}", "commit": commit, "requested": at, "exposed": at, **kept, **moments}
    )
    yield Fact.of("test", f"r{name}", at, f"r{name}", says)


def past(now: datetime) -> Iterator[Fact]:
    """Two services that were well but for once, and then were not: slower, more rarely, with failures that take long to mend."""
    this = datetime.combine(monday(now.date()), datetime.min.time(), UTC)
    for number in range(240):  # four weeks that end three before this one
        at = this - timedelta(weeks=7) + timedelta(weeks=4) / 240 * number
        yield from release(
            f"a{number}", ("web", "pay")[number % 2], at, timedelta(hours=1), timedelta(seconds=30) if number == 7 else None
        )
    for number in range(60):  # and three since then
        at = this - timedelta(weeks=3) + timedelta(weeks=3) / 60 * number
        bad = timedelta(minutes=20) if number % 5 < 2 else None
        yield from release(f"b{number}", ("web", "pay")[number % 2], at, timedelta(hours=9), bad)


def read(address: str, **words: str) -> Any:
    query = f"?{urllib.parse.urlencode(words)}" if words else ""
    try:
        with urllib.request.urlopen(f"{address}{query}", timeout=10) as answer:  # noqa: S310  # loopback
            return json.loads(answer.read())["data"]
    except urllib.error.HTTPError as error:
        if error.code == 503:  # it listens, and is not ready yet
            raise
        raise AssertionError(f"{words}: {error.read().decode()}") from None


def value(address: str, expression: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read(f"{address}/api/v1/query", query=expression)["result"]
    return found


def until(what: str, true: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            if true():
                return
        except OSError:
            pass  # it does not listen yet
        assert time.monotonic() < end, f"not in {seconds} s: {what}"
        time.sleep(0.2)  # between two tries


def config(folder: Path, dora: str) -> Path:
    """As the chart's ServiceMonitor has it, with the labels that Prometheus' operator gives a target; rules without a delay."""
    known = yaml.safe_load(RULES.read_text())
    for group in known["groups"]:
        group["interval"] = "1s"
        for rule in group["rules"]:
            rule.pop("for", None)
    (folder / "rules.yaml").write_text(yaml.safe_dump(known))
    labels = {"service": "serinus-dora", "namespace": "serinus", "endpoint": "http", "pod": "serinus-dora-0"}
    scrape = {
        "job_name": "serinus-dora",
        "scrape_interval": "1s",
        "honor_labels": True,
        "authorization": {"credentials": METRICS},
        "static_configs": [{"targets": [dora.removeprefix("http://")], "labels": labels}],
    }
    file = folder / "prometheus.yaml"
    file.write_text(json.dumps({"rule_files": [str(folder / "rules.yaml")], "scrape_configs": [scrape]}))
    return file


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address, from when it has scraped a service that has read everything, and has evaluated each rule since then."""
    binary, folder = program("prometheus"), tmp_path_factory.mktemp("prometheus")
    database = f"sqlite:///{folder}/dora.db"
    engine = connect(database)
    Log(engine).append(list(past(datetime.now(UTC))), datetime.now(UTC))
    engine.dispose()
    secrets = SECRETS | {"SERINUS_DORA_SECRET_METRICS": METRICS}
    with serving(database, folder, secrets) as (dora, _):
        assert ask("POST", f"{dora}/ingest/github", b"{", signed(b"{"))[0] == 400
        until("the service has read everything", lambda: caught_up(dora))
        (port,) = network.free_ports(1)
        address = f"http://127.0.0.1:{port}"
        words = [f"--config.file={config(folder, dora)}", f"--storage.tsdb.path={folder}/data"]
        with (folder / "log").open("wb") as log:
            command = [str(binary), *words, f"--web.listen-address=127.0.0.1:{port}"]
            process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603  # a tool by its path
            try:
                until("it has scraped", lambda: value(address, "serinus_dora_facts_total"))
                scraped = time.time()
                until("each rule is evaluated since then", lambda: evaluated(address, scraped))
                yield address
            finally:
                process.terminate()
                process.wait(30)


def caught_up(dora: str) -> bool:
    found = series(ask("GET", f"{dora}/metrics", reading=METRICS)[1])
    return found["facts_total",] > 0 == found["unread_facts",] == found["waiting_services",]


def evaluated(address: str, since: float) -> bool:
    groups = read(f"{address}/api/v1/rules")["groups"]
    return bool(groups) and all(datetime.fromisoformat(group["lastEvaluation"]).timestamp() > since + 2 for group in groups)


def queries() -> list[tuple[str, str]]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [(panel["title"], target["expr"]) for panel in panels for target in panel.get("targets", ())]


@pytest.mark.parametrize(("title", "query"), queries(), ids=[f"{title}-{n}" for n, (title, _) in enumerate(queries())])
def test_every_query_of_the_dashboard_finds_something(prometheus: str, title: str, query: str) -> None:
    asked = query.replace("$job", "serinus-dora")
    assert "$" not in asked
    assert value(prometheus, asked), title


def test_the_dashboards_choices_are_there(prometheus: str) -> None:
    choices = {choice["name"]: choice for choice in json.loads(DASHBOARD.read_text())["templating"]["list"]}
    assert choices["job"]["query"]["query"] == "label_values(serinus_dora_facts_total, job)"
    assert read(f"{prometheus}/api/v1/label/job/values", **{"match[]": "serinus_dora_facts_total"}) == ["serinus-dora"]


def test_the_table_has_a_row_for_each_service_by_its_own_name(prometheus: str) -> None:
    (table,) = (panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] == "table")
    for target in table["targets"]:
        found = value(prometheus, target["expr"].replace("$job", "serinus-dora"))
        assert {row["metric"]["service"] for row in found} == {"shop/web", "shop/pay"}, target["expr"]


def test_what_is_shown_is_what_was_released(prometheus: str) -> None:
    (days,) = value(prometheus, "serinus_dora_days")
    (often,) = value(prometheus, 'serinus_dora_deployment_frequency{scope="all"}')
    assert float(often["value"][1]) == pytest.approx(36 / float(days["value"][1]))
    (failed,) = value(prometheus, 'serinus_dora_change_failure_ratio{scope="all"}')
    assert float(failed["value"][1]) == 24 / 60
    (lead,) = value(prometheus, 'serinus_dora_lead_time_seconds{scope="service",service="shop/web"}')
    assert float(lead["value"][1]) == 9 * 3600 + 300
    (recovery,) = value(prometheus, 'serinus_dora_recovery_seconds{scope="all"}')
    assert float(recovery["value"][1]) == 1200


@pytest.mark.parametrize("record", sorted({rule["record"] for rule in rules() if "record" in rule}))
def test_every_recorded_series_is_there(prometheus: str, record: str) -> None:
    assert value(prometheus, record)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_prometheus_evaluates_every_rule_without_a_complaint(prometheus: str, rule: dict[str, Any]) -> None:
    name = rule.get("alert") or rule["record"]
    (state,) = (each for group in read(f"{prometheus}/api/v1/rules")["groups"] for each in group["rules"] if each["name"] == name)
    assert (state["health"], state.get("lastError", "")) == ("ok", "")
    value(prometheus, rule["expr"])


def test_what_should_fire_does_and_names_its_n(prometheus: str) -> None:
    def firing() -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {}
        for alert in read(f"{prometheus}/api/v1/alerts")["alerts"]:
            found.setdefault(alert["labels"]["alertname"], []).append(alert)
        return found

    wanted = {
        "SerinusLeadTimeAboveTarget": {"all", "shop/web", "shop/pay"},
        "SerinusFailureRateAboveTarget": {"all", "shop/web", "shop/pay"},
        "SerinusRecoveryAboveTarget": {"all", "shop/web", "shop/pay"},
        "SerinusDeploymentsBelowTarget": {"all"},
        "SerinusDeliverySlower": {"all"},
        "SerinusDeliveryFailsMore": {"all"},
    }
    until("these fire", lambda: set(firing()) == set(wanted), 30)
    for name, alerts in firing().items():
        scopes = {a["labels"]["service"] if a["labels"].get("scope") == "service" else a["labels"]["scope"] for a in alerts}
        assert scopes == wanted[name], name
        for alert in alerts:
            said = alert["annotations"]["description"]
            assert re.search(r"\(n [1-9]\d*", said), said
            assert "error" not in said
    (everything,) = (a for a in firing()["SerinusFailureRateAboveTarget"] if a["labels"]["scope"] == "all")
    assert everything["annotations"]["description"].startswith("40% failed in four weeks;")
    assert everything["annotations"]["description"].endswith("(n 60 releases).")

"""The pages say what the code does: links, reasons, variables, examples, generated text."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
import yaml

from serinus.analysis.pods import Reason
from serinus.analysis.sequential import Counts, Rule, begun, judge, look
from serinus.api.base import Resource
from serinus.api.canary import Canary, Phase
from serinus.api.crdgen import ROOT, crd
from serinus.api.metrictemplate import MetricTemplate
from serinus.api.release import Outcome, Stage
from serinus.events.cdevents import _TYPES
from serinus.metrics.templates import BUILT_IN, resolve

SOURCE = ROOT / "operator" / "serinus"
DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md")), ROOT / "charts" / "serinus" / "README.md"]
OPERATIONS = (DOCS / "operations.md").read_text()
KINDS: dict[str, type[Resource]] = {"Canary": Canary, "MetricTemplate": MetricTemplate}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(text: str) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", without_code(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_within_the_project_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{name(page)} links to {target}"
        assert not anchor or anchor in anchors(there.read_text()), f"{name(page)} links to {target}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_nothing_of_a_machine_is_in_a_page(page: Path) -> None:
    assert not re.search(r"(?<![\w.])/(work|root|home|tmp)/|localhost:\d|127\.0\.0\.1", page.read_text())


# ---- reasons ----

#: The calls that take a reason, and at which place.
TAKES = {"tell": 0, "Note": 0, "back": 1, "Rest": 1}
#: Functions whose tuples are (reason, sentence) or (condition, status, reason, message).
PAIRS = {"obstacles": 0, "at_rest": 0, "_conditions": 2}
WORD = re.compile(r"[A-Z][A-Za-z]+")


def words(node: ast.AST) -> Iterator[str]:
    """Reasons written within an expression."""
    for each in ast.walk(node):
        if isinstance(each, ast.Constant) and isinstance(each.value, str) and WORD.fullmatch(each.value):
            yield each.value


def reasons(path: Path) -> set[str]:
    """What the code of one file gives as a reason."""
    found: set[str] = set()
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            at = TAKES.get(called)
            if at is not None and len(node.args) > at:
                found.update(words(node.args[at]))
        if isinstance(node, ast.FunctionDef) and node.name in PAIRS:
            at = PAIRS[node.name]
            for each in ast.walk(node):
                if isinstance(each, ast.Tuple) and len(each.elts) == (2 if at == 0 else 4):
                    found.update(words(each.elts[at]))
        if isinstance(node, ast.Assign) and [getattr(t, "id", "") for t in node.targets] == ["reason"]:
            found.update(words(node.value))
        if isinstance(node, ast.Assign) and "reason" in {getattr(t, "attr", "") for t in ast.walk(node.targets[0])}:
            found.update(words(node.value))
    return found


FILES = [
    "rollout/machine.py", "rollout/rest.py", "workloads/deployment.py", "controller/world.py", "controller/record.py",
    "controller/tell.py",
]  # fmt: skip


def emitted() -> set[str]:
    found = set().union(*(reasons(SOURCE / path) for path in FILES))
    return found | set(get_args(Reason)) | set(get_args(Outcome))


def test_the_search_for_reasons_finds_them() -> None:
    some = {"TargetNotFound", "NoHistory", "RouteNotUsable", "AnalysisFailed", "PromotionStuck", "NewVersion", "CrashLoop"}
    assert some | {"NoRouter", "Answered", "RouteReverted"} <= emitted()


@pytest.mark.parametrize("reason", sorted(emitted() | set(get_args(Phase)) | set(get_args(Stage))))
def test_every_reason_phase_and_stage_is_explained(reason: str) -> None:
    assert f"`{reason}`" in OPERATIONS, f"{reason} is missing in docs/operations.md"


def test_every_metric_of_the_operator_is_explained() -> None:
    text = "".join((SOURCE / path).read_text() for path in ("controller/telemetry.py", "events/sink.py"))
    made = re.findall(r'(Counter|Gauge|Histogram)\(\s*"(serinus_\w+)"', text)
    assert len(made) >= 10
    for kind, metric in made:
        shown = metric if kind != "Counter" or metric.endswith("_total") else f"{metric}_total"
        assert f"`{shown}`" in OPERATIONS, shown


def test_every_cdevent_is_explained() -> None:
    assert [kind for kind in _TYPES.values() if f"`{kind}`" not in OPERATIONS] == []


# ---- metrics ----


@pytest.mark.parametrize("variable", BUILT_IN)
def test_every_variable_is_explained(variable: str) -> None:
    assert f"| `{variable}` | {BUILT_IN[variable]} |" in (DOCS / "metrics.md").read_text()


def verdict(rule: Rule, looks: int, bad: float, total: float, beside: float) -> str:
    tally = begun()
    for _ in range(looks):
        tally = look(rule, tally, Counts(bad, total), Counts(0, beside))
    return judge("errors", rule, tally).verdict


def test_the_table_of_verdicts_is_what_the_code_says() -> None:
    text = (DOCS / "metrics.md").read_text()
    rows = re.findall(r"^\| (\d+) % \| (\d+) \|$", text, re.MULTILINE)
    assert len(rows) >= 5
    rule = Rule(harm=0.01)
    for share, looks in rows:
        n = int(share)
        assert verdict(rule, int(looks), n, n, 100 - n) == "Fail"
        assert verdict(rule, int(looks) - 1, n, n, 100 - n) != "Fail"
    (clean,) = re.findall(r"passes at (\d+) requests without a failure", text)
    assert verdict(rule, 1, 0, int(clean), 1000) == "Pass"
    assert verdict(rule, 1, 0, int(clean) - 1, 1000) != "Pass"


# ---- examples ----


def examples() -> Iterator[Any]:
    for page in PAGES:
        for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            for document in yaml.safe_load_all(block):
                if isinstance(document, dict) and document.get("kind") in KINDS:
                    yield pytest.param(document, id=f"{name(page)}-{document['kind']}-{document['metadata']['name']}")


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema, with fields that it does not name refused."""
    out = dict(schema)
    if "properties" in out:
        out["properties"] = {key: closed(value) for key, value in out["properties"].items()}
        out["additionalProperties"] = False
    if "items" in out:
        out["items"] = closed(out["items"])
    return out


def test_there_are_examples() -> None:
    assert len(list(examples())) >= 6


@pytest.mark.parametrize("document", list(examples()))
def test_every_example_is_valid_and_has_no_unknown_field(document: dict[str, Any]) -> None:
    kind = KINDS[document["kind"]]
    schema = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    jsonschema.validate(document["spec"], closed(schema["properties"]["spec"]))
    kind.model_validate(document)


def test_every_check_of_an_example_resolves() -> None:
    documents = [param.values[0] for param in examples()]
    templates = {
        (t.metadata.namespace, t.metadata.name): t
        for t in (MetricTemplate.model_validate(d) for d in documents if d["kind"] == "MetricTemplate")
    }
    for canary in (Canary.model_validate(d) for d in documents if d["kind"] == "Canary"):
        for metric in canary.spec.analysis.metrics:
            ref = metric.template_ref
            template = templates[ref.namespace or canary.metadata.namespace, ref.name] if ref else None
            assert resolve(metric, template, canary.metadata.namespace, "traefik").name == metric.name


# ---- generated and listed ----


def test_the_reference_is_as_the_models_say() -> None:
    script = [sys.executable, str(DOCS / "reference.py"), "--check"]
    done = subprocess.run(script, capture_output=True, text=True, check=False)  # noqa: S603  # our own script
    assert done.returncode == 0, done.stderr


def test_every_decision_is_listed() -> None:
    index = (DOCS / "decisions" / "README.md").read_text()
    for path in sorted((DOCS / "decisions").glob("[0-9]*.md")):
        number, title = path.read_text().splitlines()[0].removeprefix("# ").split(" ", 1)
        assert f"| [{number}]({path.name}) | {title} |" in index


def test_every_command_of_make_that_a_page_names_is_there() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        for command in re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(), re.MULTILINE):
            assert command in targets, f"{name(page)}: make {command}"


def test_every_test_that_the_pages_name_is_there() -> None:
    sources = "".join(path.read_text() for folder in ("tests", "e2e") for path in (ROOT / folder).rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "testing.md").read_text()))
    missing = {name for name in named if f"def {name}(" not in sources}
    assert named
    assert not missing, f"docs/testing.md names tests that are not there: {sorted(missing)}"

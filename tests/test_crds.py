"""The generated CustomResourceDefinitions: up to date, structural, bounded. The real API server judges them in e2e/."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, create_model

from serinus.api.base import Model, Resource
from serinus.api.crdgen import ROOT, SchemaError, crd, crds, files

DEFINITIONS = {definition["spec"]["names"]["kind"]: definition for definition in crds()}


def schema_of(definition: dict[str, Any]) -> dict[str, Any]:
    return definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def walk(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from walk(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from walk(schema[key], f"{path}[]")


def nodes() -> list[Any]:
    return [
        pytest.param(node, id=kind + path)
        for kind, definition in DEFINITIONS.items()
        for part in ("spec", "status")
        if part in schema_of(definition)["properties"]
        for path, node in walk(schema_of(definition)["properties"][part], f".{part}")
    ]


def kind_with(**fields: Any) -> type[Resource]:
    """A throw-away resource whose spec has the given fields: name=(type, default)."""
    spec = create_model("Spec", __base__=Model, **fields)
    thing = create_model("Thing", __base__=Resource, __doc__="A thing.", spec=(spec, ...))
    thing.kind, thing.plural = "Thing", "things"
    return thing


def spec_properties(kind: type[Resource]) -> dict[str, Any]:
    return schema_of(crd(kind))["properties"]["spec"]["properties"]


@pytest.mark.parametrize(("path", "text"), files().items(), ids=lambda value: getattr(value, "name", ""))
def test_what_is_checked_in_is_what_the_models_say(path, text):
    assert path.exists(), "run: python -m serinus.api.crdgen"
    assert path.read_text() == text, "run: python -m serinus.api.crdgen"


def test_no_file_is_left_of_a_kind_that_is_gone():
    folders = (ROOT / "crds", ROOT / "charts" / "serinus" / "templates" / "crds")
    assert {path for folder in folders for path in folder.iterdir()} == set(files())


@pytest.mark.parametrize("node", nodes())
def test_every_node_is_structural_and_bounded(node):
    assert not {"$ref", "$defs", "anyOf", "oneOf", "allOf", "const", "title"} & set(node)
    assert not ({"properties", "additionalProperties"} <= set(node))
    assert node.get("default", "") is not None
    if node.get("x-kubernetes-preserve-unknown-fields") or "enum" in node or node.get("format") == "date-time":
        return
    if node["type"] == "string":
        assert node["maxLength"] <= 4096
    if node["type"] == "array":
        assert node["maxItems"] <= 100
    if node["type"] == "object":
        assert "additionalProperties" not in node or "maxProperties" in node


def test_kinds_are_what_people_type():
    names = {kind: definition["spec"]["names"] for kind, definition in DEFINITIONS.items()}
    assert {kind: (n["plural"], n["shortNames"]) for kind, n in names.items()} == {
        "Canary": ("canaries", ["cn"]),
        "Release": ("releases", ["rel"]),
        "MetricTemplate": ("metrictemplates", ["mt"]),
    }
    assert all(n["categories"] == ["serinus"] for n in names.values())


def test_status_is_a_subresource_where_there_is_one():
    has = {kind: "subresources" in definition["spec"]["versions"][0] for kind, definition in DEFINITIONS.items()}
    assert has == {"Canary": True, "Release": True, "MetricTemplate": False}


def test_defaults_reach_what_nobody_wrote():
    spec = schema_of(DEFINITIONS["Canary"])["properties"]["spec"]["properties"]
    assert spec["analysis"]["default"] == {}
    assert spec["analysis"]["properties"]["interval"]["default"] == "1s"
    assert spec["onDelete"]["default"] == "RestoreServing"
    assert "default" not in spec["steps"]


def test_a_fields_own_description_wins_over_its_types():
    spec = schema_of(DEFINITIONS["Canary"])["properties"]["spec"]["properties"]
    assert spec["progressDeadline"]["description"] == "How long the canary's pods may take to become ready."
    assert spec["targetRef"]["description"].startswith("The workload")


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ((str, "x"), "string needs maxLength"),
        ((list[int], []), "array needs maxItems"),
        ((dict[str, int], {}), "object needs maxProperties"),
        ((Annotated[list[str], Field(max_length=3)], []), r"spec\.field\[\]: string needs maxLength"),
        ((bool | int, 1), "a union can be"),
    ],
)
def test_what_cannot_be_structural_or_bounded_is_refused_by_name(field, words):
    with pytest.raises(SchemaError, match=words) as error:
        crd(kind_with(field=field))
    assert str(error.value).startswith("spec.field")


def test_the_forms_kubernetes_wants():
    made = spec_properties(
        kind_with(
            either=(int | str | None, None),
            above=(Annotated[float, Field(gt=0)], 1.0),
            one=(Literal["a"], "a"),
            kept=(Annotated[dict[str, Any], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})], {}),
        )
    )
    assert made["either"] == {"x-kubernetes-int-or-string": True}
    assert made["above"] == {"type": "number", "minimum": 0, "exclusiveMinimum": True, "default": 1.0}
    assert made["one"] == {"type": "string", "enum": ["a"], "default": "a"}
    assert made["kept"]["x-kubernetes-preserve-unknown-fields"] is True
    assert "additionalProperties" not in made["kept"]

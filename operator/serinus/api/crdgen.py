"""pydantic -> CustomResourceDefinition: `python -m serinus.api.crdgen [--check]` writes (checks) crds/ and the chart's copy.

No library turns pydantic's JSON Schema into what Kubernetes calls a structural schema, so this does it: every reference
inlined, no null arms, no unions, every string, list and map bounded.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

from serinus.api.base import GROUP, VERSION, Resource
from serinus.api.canary import Canary
from serinus.api.metrictemplate import MetricTemplate
from serinus.api.release import Release

KINDS: tuple[type[Resource], ...] = (Canary, Release, MetricTemplate)
ROOT = Path(__file__).resolve().parents[3]

Schema = dict[str, Any]
#: The API server calls these invalid or needs none of them.
DROPPED = {"title", "$defs", "$ref", "anyOf", "const", "properties", "items", "additionalProperties"}


class SchemaError(Exception):
    """A model says something that a structural schema cannot."""


def structural(schema: Schema, defs: dict[str, Schema], path: str) -> Schema:
    """`schema` as Kubernetes takes it; `path` is where it stands, for the sentence when it cannot be."""
    if "$ref" in schema:
        schema = defs[schema["$ref"].rpartition("/")[2]] | {k: v for k, v in schema.items() if k != "$ref"}
    if "anyOf" in schema:
        arms = [arm for arm in schema["anyOf"] if arm.get("type") != "null"]
        own = {k: v for k, v in schema.items() if k != "anyOf" and (k, v) != ("default", None)}
        if len(arms) == 1:
            return structural(arms[0] | own, defs, path)
        if sorted(str(arm.get("type")) for arm in arms) != ["integer", "string"]:
            raise SchemaError(f"{path}: a union can be int | str or Optional, nothing else; use siblings and a CEL rule")
        return {k: v for k, v in own.items() if k not in DROPPED} | {"x-kubernetes-int-or-string": True}

    out = {k: v for k, v in schema.items() if k not in DROPPED}
    if "const" in schema:
        out["enum"] = [schema["const"]]
    if out.get("type") == "integer":
        out["format"] = "int64"
    for bound in ("Minimum", "Maximum"):  # OpenAPI 3.0, not JSON Schema: a flag beside the bound
        if f"exclusive{bound}" in out:
            out[bound.lower()], out[f"exclusive{bound}"] = out[f"exclusive{bound}"], True
    if schema.get("properties"):
        out["properties"] = {
            name: structural(_filled_in(name, child, schema, defs), defs, f"{path}.{name}")
            for name, child in schema["properties"].items()
        }
    if "items" in schema:
        out["items"] = structural(schema["items"], defs, f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        out["additionalProperties"] = structural(schema["additionalProperties"], defs, f"{path}{{}}")
    _bounded(out, schema, path)
    return out


def _filled_in(name: str, child: Schema, parent: Schema, defs: dict[str, Schema]) -> Schema:
    """Give an object with a default factory the default {}: only then does the API server fill in what is inside it."""
    optional_object = "$ref" in child and name not in parent.get("required", [])
    if optional_object and "default" not in child and defs[child["$ref"].rpartition("/")[2]].get("type") == "object":
        return child | {"default": {}}
    return child


def _bounded(out: Schema, schema: Schema, path: str) -> None:
    """Refuse what has no bound: the API server then takes the worst case for the cost of every CEL rule around it."""
    if out.get("x-kubernetes-preserve-unknown-fields"):
        return
    kind = out.get("type")
    free_map = kind == "object" and schema.get("additionalProperties") not in (None, False)
    needs = {"string": "maxLength", "array": "maxItems"}.get(str(kind)) or ("maxProperties" if free_map else None)
    if needs and needs not in out and "enum" not in out and out.get("format") != "date-time":
        raise SchemaError(f"{path}: {kind} needs {needs} (max_length in the model)")


def crd(kind: type[Resource]) -> dict[str, Any]:
    """The CustomResourceDefinition of one kind."""
    whole = kind.model_json_schema(mode="validation")
    defs = whole["$defs"]
    parts = {
        name: structural(whole["properties"][name], defs, name) for name in ("spec", "status") if name in whole["properties"]
    }
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": kind.columns,
        "schema": {
            "openAPIV3Schema": {
                "type": "object",
                "description": whole["description"],
                "required": ["spec"],
                "properties": {
                    "apiVersion": {"type": "string"},
                    "kind": {"type": "string"},
                    "metadata": {"type": "object"},
                }
                | parts,
            }
        },
    }
    if "status" in parts:
        version["subresources"] = {"status": {}}
    names = {"kind": kind.kind, "listKind": f"{kind.kind}List", "plural": kind.plural, "singular": kind.kind.lower()}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": names | {"shortNames": kind.short_names, "categories": ["serinus"]},
            "versions": [version],
        },
    }


def crds() -> list[dict[str, Any]]:
    """All of them."""
    return [crd(kind) for kind in KINDS]


def files() -> dict[Path, str]:
    """What is checked in: each file's path and text."""
    made: dict[Path, str] = {}
    for definition in crds():
        name = f"{definition['spec']['names']['plural']}.yaml"
        text = yaml.safe_dump(definition, sort_keys=False, width=120, allow_unicode=True)
        made[ROOT / "crds" / name] = f"# Made by `python -m serinus.api.crdgen` from operator/serinus/api; do not edit.\n{text}"
        made[ROOT / "charts" / "serinus" / "templates" / "crds" / name] = _for_chart(text)
    return made


def _for_chart(text: str) -> str:
    """The same, installed if `crds.install`, and left behind by `helm uninstall` if `crds.keep`."""
    escaped = text.replace("{{", '{{ "{{" }}')
    keep = "\nmetadata:\n  {{- if .Values.crds.keep }}\n  annotations:\n    helm.sh/resource-policy: keep\n  {{- end }}\n"
    head = "{{- /* Made by `python -m serinus.api.crdgen`; do not edit. */ -}}\n{{- if .Values.crds.install }}\n"
    return head + escaped.replace("\nmetadata:\n", keep, 1) + "{{- end }}\n"


def main() -> None:
    """Write the files, or with --check say whether they are as the models are."""
    parser = argparse.ArgumentParser(prog="python -m serinus.api.crdgen", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a file is not up to date")
    check = parser.parse_args().check
    wanted = files()
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    if check and stale:
        names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
        sys.exit(f"Not as the models in operator/serinus/api say: {names}. Run: python -m serinus.api.crdgen")
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[path])


if __name__ == "__main__":
    main()

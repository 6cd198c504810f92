"""The published CDEvents schemas: https://github.com/cdevents/spec/tree/v0.5.1/schemas."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

import pytest
from e2e.kubectl import ROOT
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

SPEC = Path(os.environ.get("CDEVENTS_SPEC_DIR") or ROOT / "../shared/data/cdevents-v0.5.1")


def validate(events: list[dict[str, Any]]) -> None:
    """Raises for one that its schema refuses. Where the schemas are not there, says so and checks nothing."""
    if not SPEC.is_dir():
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn(pytest.PytestWarning("CDEvents not validated: set CDEVENTS_SPEC_DIR"), stacklevel=2)
        return
    contents = [json.loads(path.read_text()) for path in (SPEC / "schemas").rglob("*.json")]
    pairs = [(content["$id"], Resource.from_contents(content, DRAFT202012)) for content in contents if "$id" in content]
    registry: Registry[Any] = Registry().with_resources(pairs)
    found = {name: content for content in contents for name in _types(content)}
    for event in events:
        Draft202012Validator(found[event["context"]["type"]], registry=registry).validate(event)


def _types(content: dict[str, Any]) -> list[str]:
    context = content.get("properties", {}).get("context", {}).get("properties", {})
    names: list[str] = context.get("type", {}).get("enum", [])
    return names

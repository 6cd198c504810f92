"""Manifests from files: what a command needs where there is no cluster."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from serinus.api.base import Resource
from serinus.api.canary import Canary, Metric
from serinus.api.metrictemplate import MetricTemplate
from serinus.api.release import Release
from serinus.metrics.provider import MetricMisconfigured
from serinus.metrics.templates import ResolvedCheck, resolve

#: Read in place of a file: standard input.
STDIN = Path("-")

R = TypeVar("R", bound=Resource)


class UsageError(Exception):
    """What somebody gave cannot be used. The text says what is wrong, where, and what to do."""


@dataclass(frozen=True)
class Manifests:
    """What the files hold."""

    canary: Canary
    templates: dict[tuple[str, str], MetricTemplate]
    releases: list[Release]

    def resolved(self, metric: Metric, exporter: str | None = None) -> ResolvedCheck:
        """One check with its template's queries. Raises UsageError if the template is in none of the files."""
        namespace, ref = self.canary.metadata.namespace, metric.template_ref
        template = self.templates.get((ref.namespace or namespace, ref.name)) if ref else None
        if ref and template is None:
            raise UsageError(
                f"{metric.name} is judged by the MetricTemplate {ref.namespace or namespace}/{ref.name}, which is in none of the"
                " files; name its file, too"
            )
        try:
            return resolve(metric, template, namespace, exporter)
        except MetricMisconfigured as wrong:
            raise UsageError(str(wrong)) from None


def read(paths: Sequence[Path], namespace: str = "") -> Manifests:
    """One Canary, any MetricTemplates and Releases out of `paths`; - is standard input. Other kinds are left out.

    `namespace` is the Canary's; without it what its manifest says, or default. Raises UsageError.
    """
    documents = [(path, document) for path in paths for document in _documents(path)]
    canaries = [_model(Canary, path, document) for path, document in documents if document.get("kind") == "Canary"]
    if len(canaries) != 1:
        found = ", ".join(canary.metadata.name for canary in canaries) or "none"
        raise UsageError(f"one Canary is needed, and {', '.join(map(str, paths))} has {found}")
    canary = canaries[0]
    if not any(step.weight for step in canary.spec.plan()):
        raise UsageError(f"Canary {canary.metadata.name} has no weight to go to; it needs spec.steps or spec.stepWeights")
    canary.metadata.namespace = namespace or canary.metadata.namespace or "default"
    templates = [
        _model(MetricTemplate, path, document) for path, document in documents if document.get("kind") == "MetricTemplate"
    ]
    return Manifests(
        canary,
        {(template.metadata.namespace or canary.metadata.namespace, template.metadata.name): template for template in templates},
        [_model(Release, path, document) for path, document in documents if document.get("kind") == "Release"],
    )


def _documents(path: Path) -> Iterator[dict[str, Any]]:
    try:
        text = sys.stdin.read() if path == STDIN else path.read_text()
        documents = list(yaml.safe_load_all(text))
    except (OSError, UnicodeDecodeError) as failure:
        raise UsageError(f"{path} cannot be read: {failure}") from None
    except yaml.YAMLError as failure:
        raise UsageError(f"{path} is no YAML: {' '.join(str(failure).split())}") from None
    for document in documents:
        if isinstance(document, dict):  # kubectl get gives a list
            yield from (item for item in document.get("items") or [document] if isinstance(item, dict))


def _model(kind: type[R], path: Path, document: dict[str, Any]) -> R:
    try:
        return kind.model_validate(document)
    except ValidationError as failure:
        wrong = failure.errors()[0]
        where = ".".join(str(part) for part in wrong["loc"])
        raise UsageError(f"{path}: {document['kind']}: {where}: {wrong['msg']}") from None

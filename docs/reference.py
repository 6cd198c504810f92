"""docs/reference.md from the models and the CRDs made of them: `python docs/reference.py [--check]`.

A field's meaning is its description in the model, or the `#:` comment above it, or stands in MEANING below. A field without
any is refused.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from serinus.api.base import GROUP, VERSION, Resource
from serinus.api.crdgen import KINDS, crd

PAGE = Path(__file__).resolve().parent / "reference.md"
Schema = dict[str, Any]

#: What the models' patterns mean.
WORDS = {
    r"^([0-9]{1,7}(\.[0-9]+)?(ms|s|m|h))+$": "a length of time, each number of at most 7 digits",
    r"^[0-9]{1,3}(\.[0-9]{1,6})?%$": "a percentage such as `1%` or `0.05%`",
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$": "a name",
    r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$": "a name",
    r"[!-~]": "not blank",
}
#: What the models leave to their names. Prefer a description in the model.
MEANING = {
    "Canary": {
        "spec.targetRef.apiVersion": "Always `apps/v1`.",
        "spec.targetRef.kind": "Always `Deployment`.",
        "spec.targetRef.name": "The Deployment, in the Canary's namespace. Cannot change.",
        "spec.service.name": "The Service, in the Canary's namespace. Cannot change.",
        "spec.service.port": "The port of the Service, as the route's backendRef names it.",
        "spec.traffic.gatewayAPI.httpRoutes": "HTTPRoutes that have the Service among their backendRefs.",
        "spec.traffic.gatewayAPI.httpRoutes[].name": "The HTTPRoute, in the Canary's namespace.",
        "spec.traffic.gatewayAPI.grpcRoutes": "GRPCRoutes that have the Service among their backendRefs.",
        "spec.traffic.gatewayAPI.grpcRoutes[].name": "The GRPCRoute, in the Canary's namespace.",
        "spec.steps": "What happens, in order. Either this or `stepWeights`.",
        "spec.analysis.metrics": "The checks. Without any, only the pods of the new version are judged.",
        "spec.analysis.metrics[].name": "The name in sentences, events and evidence.",
        "spec.analysis.metrics[].templateRef.name": "The MetricTemplate.",
        "spec.analysis.metrics[].templateRef.namespace": "Where it is; the Canary's namespace when left out.",
        "spec.analysis.metrics[].templateRef.args": "Values for the template's own variables.",
        "spec.analysis.metrics[].ratio.bad": "The counters of bad events.",
        "spec.analysis.metrics[].ratio.total": "The counters of all events, bad ones among them.",
        "spec.analysis.metrics[].query": "PromQL that gives one number.",
        "spec.analysis.metrics[].min": "A number below this fails the look.",
        "spec.analysis.metrics[].max": "A number above this fails the look.",
        "spec.analysis.noDataAfter": "How long a metric may have had no data, or an error, before `noData` decides.",
        "spec.releaseHistoryLimit": "Ended Releases that are kept. One whose events are still owed is kept beyond it.",
        "status.phase": "Where the Canary is; see [operations](operations.md#phases).",
        "status.weight": "Percent of the Service's traffic on the new version.",
        "status.step": "Step under way and number of steps, such as `2/4`. Empty at rest.",
        "status.servingRevision": "The version that serves: ten digits that follow from its pod template.",
        "status.newRevision": "The version of the release under way, or of the one that was rolled back.",
        "status.release": "The newest Release.",
        "status.why": "Why the Canary is where it is, in a few words; conditions, Release and events have the whole sentence.",
        "status.lastTrafficEnd": "When an exposed version last had traffic; `metricsDelay` counts from here.",
        "status.observedGeneration": "The generation of the spec that this status is about.",
        "status.conditions": "See [operations](operations.md#conditions).",
        "status.conditions[].type": "The condition.",
        "status.conditions[].status": "Whether it holds.",
        "status.conditions[].reason": "Why, in one word.",
        "status.conditions[].message": "Why, in a sentence.",
        "status.conditions[].observedGeneration": "The generation of the spec that it is about.",
        "status.conditions[].lastTransitionTime": "Since when the status is what it is.",
    },
    "Release": {
        "spec.canary": "The Canary.",
        "spec.target.name": "Its name.",
        "spec.target.uid": "Its uid: a Deployment created anew is another one.",
        "spec.target.generation": "Its generation.",
        "spec.target.replicas": "How many replicas it asked for. A share of traffic is measured by them.",
        "spec.kind": "A new version, a `kubectl rollout restart`, or one more try of a version that was rolled back.",
        "spec.attempt": "Which try of this generation it is.",
        "spec.revision": "The version: ten digits that follow from its pod template.",
        "spec.servingRevision": "The version that served when the attempt began.",
        "spec.servingReplicaSet": "The ReplicaSet that served.",
        "spec.template": "The pod template that is tried.",
        "spec.servingTemplate": "The pod template that served. It is what is put back.",
        "spec.images": "The images of the new version's containers, in order.",
        "spec.commit": "The commit, from annotations of the pod template or the Deployment.",
        "spec.repository": "The repository, from annotations of the pod template or the Deployment.",
        "spec.changedBy": "The field manager that wrote the template.",
        "spec.requestedAt": "When the controller noticed the version.",
        "status.stage": "How far the attempt has come; see [operations](operations.md#stages-of-a-release).",
        "status.outcome": "How it ended; see [operations](operations.md#outcomes).",
        "status.reason": "Why it ended so, in one word.",
        "status.why": "Where it stands, or why it ended so, in a sentence.",
        "status.step": "The step under way, counted from 0.",
        "status.weight": "The percent of traffic that the new version should have.",
        "status.stageSince": "When this stage began.",
        "status.routeRevertedAt": "When somebody else last put the route back.",
        "status.times.canaryReady": "The canary's pods were ready and the router knew them.",
        "status.times.firstExposed": "The first traffic was given.",
        "status.times.faultBegan": "The first bad sample was seen.",
        "status.times.decided": "The decision to go back.",
        "status.times.zeroWritten": "Weight 0 was written.",
        "status.times.zeroVerified": "The router had taken weight 0.",
        "status.times.unpaused": "The user's Deployment was released.",
        "status.times.returning": "Traffic began to go back to the user's Service.",
        "status.times.promoted": "The Deployment ran the new version.",
        "status.times.ended": "Nothing of the attempt was left.",
        "status.steps": "The weights that were reached.",
        "status.steps[].weight": "The weight.",
        "status.steps[].at": "When the router had accepted it.",
        "status.evidence": "The last numbers of each check.",
        "status.evidence[].metric": "The check.",
        "status.evidence[].verdict": "What it said.",
        "status.evidence[].bad": "Bad events counted.",
        "status.evidence[].total": "All events counted.",
        "status.evidence[].value": "The number, of a check that has a query.",
        "status.evidence[].limit": "What it was judged against.",
        "status.evidence[].sentence": "The same for people.",
        "status.exposure.requests": "Requests to the new version, as the checks counted them.",
        "status.exposure.failures": "Bad ones among them.",
        "status.routes": "Each route as it was before the first write.",
        "status.routes[].kind": "Its kind.",
        "status.routes[].name": "Its name.",
        "status.routes[].managedFields": "Who owned which field; given back at the end.",
        "status.autoscalers": "HorizontalPodAutoscalers of the Deployment.",
        "status.autoscalers[].name": "Its name.",
        "status.autoscalers[].minReplicas": "Its minReplicas before; given back at the end.",
        "status.events": "The outbox: events that receivers are owed.",
        "status.events[].type": "What happened.",
        "status.events[].id": "The same for every delivery.",
        "status.events[].at": "When it happened.",
        "status.events[].deliveredAt": "When every receiver had taken it.",
    },
    "MetricTemplate": {
        "spec.description": "What the check is for.",
        "spec.ratio.bad": "The counters of bad events.",
        "spec.ratio.total": "The counters of all events, bad ones among them.",
        "spec.query": "PromQL that gives one number.",
        "spec.min": "A number below this fails the look, unless the Canary has its own limit.",
        "spec.max": "A number above this fails the look, unless the Canary has its own limit.",
        "spec.harm": "Never blame a version whose rate of bad events is below this, unless the Canary has its own.",
        "spec.args": "Variables of this template beside the built-in ones.",
        "spec.args[].name": "The variable. A built-in one cannot be replaced.",
        "spec.args[].default": "Its value where a Canary gives none. Without it every Canary must give one.",
    },
}


def inner(annotation: Any) -> type[BaseModel] | None:
    """The model within an annotation such as `list[Annotated[Step, ...]] | None`."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in typing.get_args(annotation) if (found := inner(part))), None)


def remarks(model: type[BaseModel]) -> dict[str, str]:
    """The `#:` comments above a model's fields, by the field's name outside."""
    source = inspect.getsource(model)
    found = {}
    for match in re.finditer(r"((?:^ +#: .*\n)+) +(\w+):", source, re.MULTILINE):
        text = " ".join(line.strip().removeprefix("#:").strip() for line in match[1].splitlines())
        if match[2] in model.model_fields:
            found[model.model_fields[match[2]].alias or match[2]] = text
    return found


def fields(schema: Schema, model: type[BaseModel] | None, path: str) -> Iterator[tuple[str, Schema, bool, str]]:
    """Every field below `path`: its path, schema, whether it is required, and its `#:` comment."""
    said = remarks(model) if model else {}
    types = {f.alias or name: inner(f.annotation) for name, f in model.model_fields.items()} if model else {}
    for name, child in schema.get("properties", {}).items():
        here = f"{path}.{name}"
        yield here, child, name in schema.get("required", []), said.get(name, "")
        below = child.get("items", child)
        yield from fields(below, types.get(name), here + ("[]" if "items" in child else ""))


def kind_of(schema: Schema) -> str:
    """`list of integer`, `moment`, ..."""
    if schema.get("format") == "date-time":
        return "moment"
    if "items" in schema:
        return f"list of {kind_of(schema['items'])}"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"map of {kind_of(schema['additionalProperties'])}"
    return str(schema["type"])


def bounds(schema: Schema) -> str:
    """What the API server refuses beyond."""
    parts = []
    if "enum" in schema:
        parts.append(", ".join(f"`{value}`" for value in schema["enum"]))
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None or high is not None:
        parts.append(f"{low} to {high}" if None not in (low, high) else f"at least {low}" if high is None else f"at most {high}")
    for least, most, what in (
        ("minLength", "maxLength", "characters"),
        ("minItems", "maxItems", "entries"),
        ("", "maxProperties", "entries"),
    ):
        if most in schema and "pattern" not in schema:
            few = schema.get(least)
            parts.append(f"{few} to {schema[most]} {what}" if few else f"at most {schema[most]} {what}")
    if schema.get("pattern") in WORDS:
        parts.append(WORDS[schema["pattern"]] + (f", at most {schema['maxLength']} characters" if "maxLength" in schema else ""))
    elif "pattern" in schema:
        most = f", at most {schema['maxLength']} characters" if "maxLength" in schema else ""
        parts.append(f"`{schema['pattern'].replace('|', chr(92) + '|')}`{most}")
    return "; ".join(parts)


def rules(schema: Schema, path: str) -> Iterator[tuple[str, str]]:
    """The sentences of all CEL rules, with the place each is checked at."""
    for rule in schema.get("x-kubernetes-validations", []):
        yield path, rule["message"]
    for name, child in schema.get("properties", {}).items():
        yield from rules(child, f"{path}.{name}")
    if "items" in schema:
        yield from rules(schema["items"], f"{path}[]")


def section(kind: type[Resource]) -> Iterator[str]:
    """One kind."""
    definition = crd(kind)["spec"]
    schema = definition["versions"][0]["schema"]["openAPIV3Schema"]
    names = definition["names"]
    yield f"## {kind.kind}"
    yield ""
    yield schema["description"]
    yield f"Short name: `{', '.join(names['shortNames'])}`. Plural: `{names['plural']}`."
    for part in ("spec", "status"):
        if part not in schema["properties"]:
            continue
        yield ""
        yield f"### {kind.kind} {part}"
        yield ""
        yield "| field | type | bounds | default | meaning |"
        yield "|---|---|---|---|---|"
        model = inner(kind.model_fields[part].annotation)
        for path, child, required, said in fields(schema["properties"][part], model, part):
            meaning = MEANING.get(kind.kind, {}).get(path) or said or child.get("description")
            if not meaning:
                raise SystemExit(f"{kind.kind} {path} has no meaning: give it a description in the model (operator/serinus/api)")
            default = f"`{json.dumps(child['default'])}`" if "default" in child else "required" if required else ""
            yield f"| `{path}` | {kind_of(child)} | {bounds(child)} | {default} | {meaning.replace('|', chr(92) + '|')} |"
        sentences = list(rules(schema["properties"][part], part))
        if sentences:
            yield ""
            yield "Refused by the API server with these sentences:"
            yield ""
            yield from (f"- `{path}`: {sentence}" for path, sentence in sentences)


def page() -> str:
    """The whole page."""
    lines = [
        "# Reference",
        "",
        "<!-- Made by `python docs/reference.py` from operator/serinus/api; do not edit. -->",
        "",
        f"All fields of all kinds of `{GROUP}/{VERSION}`. A length of time is written as `30s`, `5m` or `1h30m`. A moment is",
        "RFC 3339 with microseconds. An unknown field is refused or dropped, as `kubectl --validate` says.",
        "What is checked only in the cluster becomes a condition: see [operations](operations.md#conditions).",
    ]
    for kind in KINDS:
        lines += ["", *section(kind)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the page, or with --check say whether it is as the models say."""
    wanted = page()
    if PAGE.exists() and wanted == PAGE.read_text():
        return
    if "--check" in sys.argv:
        sys.exit("docs/reference.md is not as the models say. Run: python docs/reference.py")
    PAGE.write_text(wanted)


if __name__ == "__main__":
    main()

"""MetricTemplate: a named, parameterised check. Written by the platform team, shared with every Canary that may use it."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from serinus.api.base import Model, Percent, PromQL, Resource, Short, Text
from serinus.api.canary import Ratio, rules


class TemplateArg(Model):
    """A variable of this template beside the built-in ones."""

    name: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z][A-Za-z0-9]*$")]
    default: Short | None = None


class MetricTemplateSpec(Model):
    """Exactly one of ratio and query. {{ variable }} is replaced; docs/metrics.md lists the variables."""

    model_config = Model.model_config | {
        "json_schema_extra": rules(
            ("has(self.ratio) != has(self.query)", "spec needs exactly one of ratio or query"),
            ("!has(self.harm) || has(self.ratio)", "harm judges a ratio; a query is judged by min and max"),
            (
                "!has(self.ratio) || (!has(self.min) && !has(self.max))",
                "min and max judge a query; a ratio is judged against harm",
            ),
            ("!has(self.min) || !has(self.max) || self.min <= self.max", "min must not be above max"),
            (
                "!has(self.harm) || (double(self.harm.replace('%', '')) > 0.0 && double(self.harm.replace('%', '')) < 100.0)",
                "harm must be above 0% and below 100%",
            ),
        )
    }

    description: Text = ""
    ratio: Ratio | None = None
    query: PromQL | None = None
    min: float | None = None
    max: float | None = None
    harm: Percent | None = None
    args: Annotated[list[TemplateArg], Field(max_length=16)] = Field(default_factory=list)
    shared_with: Annotated[
        list[Annotated[str, Field(pattern=r"^(\*|[a-z0-9]([-a-z0-9]*[a-z0-9])?)$", max_length=63)]],
        Field(max_length=64, description="Namespaces whose Canaries may use this template; * for all."),
    ] = Field(default_factory=list)


class MetricTemplate(Resource):
    """A check that many Canaries share."""

    kind: ClassVar[str] = "MetricTemplate"
    plural: ClassVar[str] = "metrictemplates"
    short_names: ClassVar[list[str]] = ["mt"]
    columns: ClassVar[list[dict[str, Any]]] = [
        {"name": "Harm", "type": "string", "jsonPath": ".spec.harm"},
        {"name": "Description", "type": "string", "jsonPath": ".spec.description"},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]

    spec: MetricTemplateSpec

"""What a team can set about how its tools' words are read."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """The defaults fit kube-prometheus' labels and forges with one branch that is released from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    branches: tuple[str, ...] = Field(
        default=(), description="Patterns such as release/*: branches that are released from, beside the default one."
    )
    service_labels: tuple[str, ...] = Field(
        default=("service", "app", "deployment"),
        description="Alert labels that name the service; the first that is there counts.",
    )
    environment_labels: tuple[str, ...] = Field(
        default=("environment", "env", "namespace"), description="Alert labels that name the environment."
    )
    namespace_label: str = Field(
        default="namespace",
        description="Put before the service's name, as Serinus names services: shop/checkout. '' for nothing.",
    )
    severity_label: str = "severity"
    ignored_severities: tuple[str, ...] = Field(
        default=("none", "info"), description="Alerts that are no incidents, such as the one that shows that alerts arrive."
    )

"""How the operator is set up: by flags and the Pod's environment."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field

from serinus.rollout.rest import Hold


@dataclass(frozen=True)
class Config:
    """Every setting; the chart's values map to these."""

    prometheus_url: str = ""
    #: Where `source: direct` reads the gateways' own counters.
    gateway_metrics_urls: tuple[str, ...] = ()
    sinks: tuple[str, ...] = ()
    hold: Hold = "policy"
    #: Namespaces to watch; none: all.
    namespaces: tuple[str, ...] = ()
    cluster: str = "default"
    port: int = 8080
    log_level: str = "info"
    leader_election: bool = True
    identity: str = field(default_factory=lambda: os.environ.get("POD_NAME") or socket.gethostname())
    pod_namespace: str = field(default_factory=lambda: os.environ.get("POD_NAMESPACE") or "default")
    lease: str = "serinus"

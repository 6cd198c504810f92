"""How the operator is set up: by flags and the Pod's environment."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from serinus.rollout.rest import Hold


@dataclass(frozen=True)
class Config:
    """Every setting; the chart's values map to these."""

    prometheus_url: str = ""
    #: Where `source: direct` reads the gateways' own counters.
    gateway_metrics_urls: tuple[str, ...] = ()
    sinks: tuple[str, ...] = ()
    #: A folder in which a file that is called like a sink's host holds its token; read when the operator starts.
    sink_tokens: Path | None = None
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

    def headers(self, sink: str) -> dict[str, str]:
        """What goes with every event to this sink. Raises OSError for a token that cannot be read."""
        host = urlsplit(sink).hostname
        file = self.sink_tokens / host if self.sink_tokens and host else None
        return {"Authorization": f"Bearer {file.read_text().strip()}"} if file and file.is_file() else {}

"""Where everything stands: the project, what this clone's cluster keeps, and what all clones on a machine share."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS_SOURCE = ROOT / "e2e" / "tools"
MANIFESTS = Path(__file__).resolve().parent / "manifests"

STATE = ROOT / ".cluster"
"""All that belongs to this clone's cluster; ignored by git, removed by `down`."""
KUBECONFIG = STATE / "kubeconfig"
BIN = STATE / "bin"
LOGS = STATE / "logs"
RECORD = STATE / "cluster.json"
"""Which kind of cluster runs, and fingerprints of what was put into it."""
AUDIT_LOG = LOGS / "audit.log"

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "serinus"
"""Tools and images by the content they were made from."""

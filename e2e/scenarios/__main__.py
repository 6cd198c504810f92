"""All scenarios in less time: `python -m e2e.scenarios`. Those that leave the operator alone run beside one another.

`pytest e2e/scenarios` runs the same ones after another. Each file's output is printed when it has ended.
With SERINUS_E2E_HOLD=pause all of it runs as on clusters before Kubernetes 1.36, without the admission policies.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from e2e import kubectl, rbac
from e2e.conftest import AS_IT_IS, prepare

FOLDER = Path(__file__).parent
#: These stop the operator, Prometheus or the API server, or install otherwise: nothing else may run meanwhile.
ALONE = ("test_chart_life.py", "test_dora.py", "test_offline.py", "test_operator_killed.py", "test_without_policies.py")
#: More of them only wait for the machine.
BESIDE = 3


def run(name: str) -> int:
    """One file; its exit code."""
    began = time.monotonic()
    environment = {**os.environ, AS_IT_IS: "1"}
    command = [sys.executable, "-m", "pytest", str(FOLDER / name), *sys.argv[1:]]
    done = subprocess.run(command, cwd=kubectl.ROOT, env=environment, capture_output=True, text=True, check=False)
    print(f"==== {name}: {time.monotonic() - began:.0f} s\n{done.stdout}{done.stderr}", flush=True)
    return 0 if done.returncode == 5 else done.returncode  # 5: -k left none of this file


def main() -> int:
    """0 when all passed."""
    began, since = time.monotonic(), datetime.now(UTC)
    if not os.environ.get(AS_IT_IS):
        prepare()
    names = sorted(path.name for path in FOLDER.glob("test_*.py"))
    names.sort(key=lambda name: name in ("test_obstacles.py", "test_receivers.py"))  # short ones fill the end
    with ThreadPoolExecutor(BESIDE) as pool:
        codes = list(pool.map(run, [name for name in names if name not in ALONE]))
    codes += [run(name) for name in names if name in ALONE]
    if not sys.argv[1:]:  # all of them ran: what they did not use nobody needs
        codes.append(rbac.check(since))
    print(f"{time.monotonic() - began:.0f} s in all: {'passed' if not any(codes) else 'FAILED'}")
    return 1 if any(codes) else 0


if __name__ == "__main__":
    sys.exit(main())

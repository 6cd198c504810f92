"""kubectl and helm against the cluster of `make cluster-up`, whichever kind it is."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
CLUSTER = ROOT / ".cluster"
KUBECONFIG = CLUSTER / "kubeconfig"

Object = dict[str, Any]


class Failed(AssertionError):
    """A command refused; the message is its own."""


def environment() -> dict[str, str]:
    return {**os.environ, "KUBECONFIG": str(KUBECONFIG), "PATH": f"{CLUSTER / 'bin'}:{os.environ['PATH']}"}


def call(*command: str, stdin: str | None = None, check: bool = True, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Runs it. Raises Failed with what it said."""
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, env=environment(), cwd=ROOT, timeout=timeout, check=False
    )
    if check and done.returncode:
        raise Failed(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done


def run(*arguments: str, stdin: str | None = None, check: bool = True, timeout: float = 300) -> str:
    """kubectl; returns what it printed."""
    return call("kubectl", *arguments, stdin=stdin, check=check, timeout=timeout).stdout


def helm(*arguments: str) -> str:
    return call("helm", *arguments).stdout


def apply(*objects: Object, server_side: bool = False) -> str:
    """As a person does it."""
    body = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
    return run("apply", *(["--server-side"] if server_side else []), "-f", "-", stdin=body)


def get(kind: str, name: str, namespace: str) -> Object | None:
    """None where there is none."""
    text = run("get", kind, name, "-n", namespace, "-o", "json", "--ignore-not-found")
    found: Object | None = json.loads(text) if text.strip() else None
    return found


def items(kind: str, namespace: str, selector: str = "") -> list[Object]:
    text = run("get", kind, "-n", namespace, "-o", "json", *(["-l", selector] if selector else []))
    found: list[Object] = json.loads(text)["items"]
    return found


def until(what: str, look: Callable[[], Any], timeout: float = 60.0, every: float = 0.2) -> Any:
    """Waits for a condition: looks until it gets something true. Raises Failed with `what` and the last answer."""
    deadline, seen = time.monotonic() + timeout, None
    while time.monotonic() < deadline:
        if seen := look():
            return seen
        time.sleep(every)
    raise Failed(f"not so after {timeout:.0f} s: {what} (last: {seen!r})")


@contextmanager
def fresh_namespace(name: str) -> Iterator[str]:
    """A namespace of its own; what an earlier run left is removed first, and afterwards it goes."""
    run("delete", "namespace", name, "--ignore-not-found", "--wait", timeout=120)
    run("create", "namespace", name)
    try:
        yield name
    finally:
        run("delete", "canaries", "--all", "-n", name, "--wait", timeout=90, check=False)
        run("delete", "namespace", name, "--wait=false", "--ignore-not-found")

"""`serinus status`: what a pipeline asks after it has applied a new version."""

from __future__ import annotations

import asyncio
import time

from rich.console import Console

from serinus.api.canary import Canary
from serinus.kube import CANARIES, DEPLOYMENTS, Kube, NotFound, connect

BUSY = ("Adopting", "Progressing", "Paused", "Promoting", "RollingBack")
#: Seconds that the controller may take to notice a version that was just applied.
NOTICE = 5.0


async def report(namespace: str, name: str, wait: bool, timeout: float) -> int:
    """Prints one line a change. Returns the exit code."""
    kube = await connect()
    try:
        return await _report(kube, Console(), namespace, name, wait, timeout)
    finally:
        await kube.close()


async def _report(kube: Kube, out: Console, namespace: str, name: str, wait: bool, timeout: float) -> int:
    began, shown = time.monotonic(), ""
    while True:
        try:
            canary = Canary.model_validate(await kube.get(CANARIES, namespace, name))
        except NotFound:
            out.print(f"there is no Canary {name} in namespace {namespace}", style="red")
            return 1
        status = canary.status
        line = f"{status.phase}  weight {status.weight} %  step {status.step or '-'}  {status.why}"
        if line != shown:
            out.print(line)
            shown = line
        if status.phase not in BUSY and not await _unnoticed(kube, canary, time.monotonic() - began):
            return 1 if status.phase == "RolledBack" else 0
        if not wait:
            return 0
        if time.monotonic() - began > timeout:
            out.print(f"not ended after {timeout:.0f} s", style="red")
            return 2
        await asyncio.sleep(0.5)


async def _unnoticed(kube: Kube, canary: Canary, waited: float) -> bool:
    """A Deployment that is held while the Canary is Stable: its version has just been applied."""
    deployment = await kube.find(DEPLOYMENTS, canary.metadata.namespace, canary.spec.target_ref.name)
    held = bool(deployment and deployment["spec"].get("paused"))
    return canary.status.phase == "Stable" and held and waited < NOTICE

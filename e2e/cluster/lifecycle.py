"""What the commands do, for whichever kind of cluster."""

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from e2e.cluster import addons, cache, current, images, kind, local
from e2e.cluster.console import ClusterError, part, say
from e2e.cluster.images import Image
from e2e.cluster.kubectl import kubectl
from e2e.cluster.paths import KUBECONFIG, RECORD, STATE
from e2e.cluster.processes import write_json


@dataclass(frozen=True)
class Kind:
    """A kind of cluster."""

    start: Callable[[bool], dict[str, str]]
    """Starts it and returns, when its nodes are ready, the keys of the images that it has been given already.

    The argument says whether to stop another clone's cluster.
    """
    healthy: Callable[[], bool]
    prepare: Callable[[], Any]
    """Builds or gets what starting it needs."""
    stop: Callable[[], None]
    load: Callable[[list[Image]], None]
    images: Sequence[str]
    """Short names of the images that it is given."""


KINDS = {
    "local": Kind(local.start, local.healthy, local.prepare, local.stop, local.load, [each.name for each in images.IMAGES]),
    "kind": Kind(kind.start, kind.healthy, kind.prepare, kind.stop, kind.load, images.EVERYWHERE),
    "current": Kind(current.start, current.healthy, current.prepare, current.stop, current.load, images.EVERYWHERE),
}


def up(name: str | None, *, take_over: bool = False) -> None:
    """Start a cluster with its images and add-ons; what is already as wanted is left as it is."""
    running = _record()
    name = name or running.get("cluster") or default_kind()
    chosen = KINDS[name]
    if running.get("cluster") not in (None, name):
        raise ClusterError(f"a cluster of kind {running['cluster']} belongs to this clone: first `python -m e2e.cluster down`")
    if running and chosen.healthy():
        say(f"the {name} cluster runs")
    else:
        with part(f"{name} cluster"):
            loaded = chosen.start(take_over)
        running = {"cluster": name, "images": loaded, "addons": ""}
        write_json(RECORD, running)
    load_images([])
    if running.get("addons") != addons.fingerprint():
        addons.install(current.references() if name == "current" else None)
        write_json(RECORD, {**_record(), "addons": addons.fingerprint()})


def build(name: str | None) -> None:
    """Build or get all that `up` needs, so that it then needs no network."""
    chosen = KINDS[name or default_kind()]
    chosen.prepare()
    addons.definitions()
    for image in images.named(list(chosen.images)):
        with image.archive():
            pass


def load_images(names: list[str]) -> None:
    """Build the images whose content changed, and load those that the running cluster does not have. [] means all."""
    running = _record()
    if not running:
        raise ClusterError("no cluster of this clone runs: first `python -m e2e.cluster up`")
    chosen = KINDS[running["cluster"]]
    loaded = running["images"]
    wanted = [(image, image.key()) for image in images.named(names or list(chosen.images))]
    missing = [(image, key) for image, key in wanted if loaded.get(image.reference) != key]
    if missing:
        with part(f"images {', '.join(image.name for image, _ in missing)}"):
            chosen.load([image for image, _ in missing])
        loaded |= {image.reference: key for image, key in missing}
        write_json(RECORD, {**_record(), "images": loaded})


def down() -> None:
    """Stop this clone's cluster and remove all that it kept."""
    running = _record()
    with part("down"):
        if running:
            KINDS[running["cluster"]].stop()
        elif STATE.exists() and platform.system() == "Linux" and os.geteuid() == 0:
            local.stop()
        cache.remove(STATE)


def status() -> str:
    """Return what runs, in a few lines."""
    running = _record()
    if not running:
        return "no cluster of this clone runs: `python -m e2e.cluster up` starts one"
    state = "healthy" if KINDS[running["cluster"]].healthy() else "not healthy: `python -m e2e.cluster up` starts it anew"
    lines = [f"cluster: {running['cluster']}, {state}", f"kubeconfig: {KUBECONFIG}"]
    lines += [f"image: {reference} ({key})" for reference, key in sorted(running["images"].items())]
    if running["cluster"] == "local":
        for name, process in local.PROCESSES.read().items():
            lines.append(f"process: {name} {process.pid} {'runs' if process.alive else 'is gone'}")
    try:
        lines.append(kubectl("get", "pods", "--all-namespaces", "--output=wide", "--request-timeout=3s").rstrip())
    except ClusterError as error:
        lines.append(f"pods: {error}")
    return "\n".join(lines)


def default_kind() -> str:
    """Return kind if a Docker engine answers, else local if this is root on Linux. Raises ClusterError otherwise."""
    if shutil.which("docker"):
        answer = subprocess.run(["docker", "version", "--format", "{{.Server.Version}}"], capture_output=True, text=True)
        if answer.returncode == 0:
            return "kind"
    if platform.system() == "Linux" and os.geteuid() == 0:
        return "local"
    raise ClusterError(
        "no Docker engine answers here, and this is not root on Linux: start Docker (then a kind cluster is made), run as "
        "root on Linux, or name a cluster with KUBECONFIG and CLUSTER=current"
    )


def _record() -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(RECORD.read_text())
        return content
    except (FileNotFoundError, ValueError):
        return {}

"""A cluster made by kind in a Docker engine."""

import os
from pathlib import Path

from e2e.cluster import gotools, images, tools
from e2e.cluster.console import ClusterError, part
from e2e.cluster.images import Image
from e2e.cluster.kubectl import ready
from e2e.cluster.paths import KUBECONFIG
from e2e.cluster.run import run

NAME = "serinus"


def prepare() -> Path:
    """Return kind's program; the clients are linked into `.cluster/bin`."""
    programs = gotools.programs([*gotools.CLIENTS, "kind"])
    tools.link({name: programs[name] for name in (*gotools.CLIENTS, "kind")})
    return programs["kind"]


def start(_take_over: bool) -> dict[str, str]:
    """Create the cluster. KIND_NODE_IMAGE names the node's image; default: kind's own. No image is loaded yet."""
    program = prepare()
    try:
        run(["docker", "version"])
    except ClusterError as error:
        raise ClusterError(f"no Docker engine answers, which kind needs: start one, or take CLUSTER=local. {error}") from error
    if NAME in run([program, "get", "clusters"]).split():
        run([program, "delete", "cluster", "--name", NAME])
    node_image = os.environ.get("KIND_NODE_IMAGE")
    command: list[str | Path] = [
        program,
        "create",
        "cluster",
        "--name",
        NAME,
        "--kubeconfig",
        KUBECONFIG,
        "--wait=180s",
    ]
    with part("kind create cluster"):
        run([*command, *([f"--image={node_image}"] if node_image else [])])
    return {}


def healthy() -> bool:
    """Whether the cluster answers."""
    return ready()


def stop() -> None:
    """Delete the cluster."""
    run([prepare(), "delete", "cluster", "--name", NAME, "--kubeconfig", KUBECONFIG])


def load(wanted: list[Image]) -> None:
    """Bring images into the node: pulled or built by Docker, or with IMAGES=build made without a registry."""
    how = os.environ.get("IMAGES", "pull")
    if how not in ("pull", "build"):
        raise ClusterError(f"IMAGES={how}: give pull (by Docker, from registries) or build (here, without a registry)")
    program = prepare()
    for image in wanted:
        if how == "pull" and images.by_docker(image):
            run([program, "load", "docker-image", "--name", NAME, image.reference])
        else:
            with image.archive() as file:
                run([program, "load", "image-archive", "--name", NAME, file])

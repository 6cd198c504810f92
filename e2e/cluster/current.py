"""A cluster that is there already: the one that KUBECONFIG names. It gets the add-ons, and keeps whatever else it has."""

import os

from e2e.cluster import gotools, images, tools
from e2e.cluster.console import ClusterError
from e2e.cluster.images import Image
from e2e.cluster.kubectl import ready
from e2e.cluster.paths import KUBECONFIG
from e2e.cluster.run import run


def prepare() -> None:
    """Put the clients into `.cluster/bin`."""
    tools.link(gotools.programs(gotools.CLIENTS))


def start(_take_over: bool) -> dict[str, str]:
    """Copy the current context's entry of the user's kubeconfig. Raises ClusterError if that cluster does not answer."""
    prepare()
    kubectl = gotools.programs(["kubectl"])["kubectl"]
    KUBECONFIG.parent.mkdir(parents=True, exist_ok=True)
    KUBECONFIG.touch(0o600)
    KUBECONFIG.write_text(run([kubectl, "config", "view", "--minify", "--flatten", "--raw"]))
    if not ready():
        raise ClusterError("the cluster of the current kubeconfig context does not answer: check `kubectl cluster-info`")
    return {}


def healthy() -> bool:
    """Whether the cluster answers."""
    return ready()


def stop() -> None:
    """Leave the cluster as it is: what the add-ons put there may be in use by others."""


def load(wanted: list[Image]) -> None:
    """Push images to the registry that REGISTRY names (`docker login` is the user's). Raises ClusterError without one."""
    for image in wanted:
        name = references()[image.reference]
        if not images.by_docker(image):
            with image.archive() as file:
                run(["docker", "load", "--quiet", "--input", file])
        run(["docker", "tag", image.reference, name])
        run(["docker", "push", "--quiet", name])


def references() -> dict[str, str]:
    """Return the name of each image in the registry by the reference in manifests."""
    registry = os.environ.get("REGISTRY", "").rstrip("/")
    if not registry:
        raise ClusterError("CLUSTER=current needs REGISTRY=<host/path> that Docker can push to and the cluster can pull from")
    return {image.reference: f"{registry}/{image.reference}" for image in images.named(list(images.EVERYWHERE))}

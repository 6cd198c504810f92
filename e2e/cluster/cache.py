"""Entries of the cache that all clones on a machine share: made once, complete or absent."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e.cluster.paths import CACHE


def entry(name: str, make: Callable[[Path], None]) -> Path:
    """Return the file or folder CACHE/`name`, first made by `make(draft)` if it is not there.

    Two clones that want the same entry at the same time make it once.
    """
    target = CACHE / name
    if target.exists():
        return target
    with lock(name.replace("/", "-")):
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            draft = target.with_name(f".{target.name}.{os.getpid()}")
            remove(draft)
            try:
                make(draft)
                draft.replace(target)
            finally:
                remove(draft)
    return target


@contextmanager
def lock(name: str) -> Iterator[None]:
    """Hold a lock between all clones on this machine."""
    folder = CACHE / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def remove(path: Path) -> None:
    """Remove a file, a link or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)

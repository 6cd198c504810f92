"""Running programs, and waiting for conditions."""

import hashlib
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from e2e.cluster.console import ClusterError
from e2e.cluster.paths import LOGS

T = TypeVar("T")


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    log: Path | None = None,
    timeout: float = 900,
) -> str:
    """Run a program and return what it wrote to standard output.

    `env` is added to this process's environment. With `log`, all output goes to that file instead (and "" comes back).
    `timeout` is in seconds. Raises ClusterError with the program's last words if it fails or does not end in time.
    """
    argv = [str(word) for word in command]
    settings = {**os.environ, **(env or {})}
    try:
        if log:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("w") as out:
                done = subprocess.run(
                    argv, cwd=cwd, env=settings, input=stdin, stdout=out, stderr=out, text=True, timeout=timeout
                )
            words = log.read_text(errors="replace")
        else:
            done = subprocess.run(argv, cwd=cwd, env=settings, input=stdin, capture_output=True, text=True, timeout=timeout)
            words = done.stderr or done.stdout
    except FileNotFoundError as error:
        raise ClusterError(f"{argv[0]} was not found: {error}") from error
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"{' '.join(argv[:6])} did not end within {timeout:.0f} s") from error
    if done.returncode:
        where = f" (all of it: {log})" if log else ""
        tail = "\n".join(words.strip().splitlines()[-12:])
        raise ClusterError(f"{' '.join(argv[:6])} failed with status {done.returncode}{where}:\n{tail}")
    return done.stdout or ""


def wait_for(what: str, condition: Callable[[], T], *, seconds: float, every: float = 0.05, hint: str = "") -> T:
    """Call `condition` until it answers something true, and return that.

    Raises ClusterError after `seconds`, with `what`, the last ClusterError that `condition` raised, and `hint`.
    """
    deadline = time.monotonic() + seconds
    last = ""
    while True:
        try:
            if answer := condition():
                return answer
        except ClusterError as error:
            last = f" Last answer: {error}"
        if time.monotonic() > deadline:
            raise ClusterError(f"{what}: not within {seconds:.0f} s.{last} {hint or f'Logs: {LOGS}'}")
        time.sleep(every)


def digest(*parts: str | bytes | Path) -> str:
    """Return 16 hexadecimal digits that stand for strings, and for files and folders by their content and names."""
    whole = hashlib.sha256()
    for item in parts:
        if isinstance(item, Path):
            for file in _files(item):
                whole.update(f"{file.relative_to(item.parent)}\0{file.stat().st_size}\0".encode())
                whole.update(file.read_bytes())
        else:
            data = item.encode() if isinstance(item, str) else item
            whole.update(f"{len(data)}\0".encode() + data)
    return whole.hexdigest()[:16]


def _files(path: Path) -> Iterable[Path]:
    if not path.is_dir():
        return [path] if path.exists() else []
    return sorted(file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)

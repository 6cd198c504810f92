"""The processes that this clone started: recorded by pid and start time, and stopped by them."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """A process that cannot be taken for a later one with the same pid."""

    pid: int
    started: int
    """Start time in clock ticks since boot (field 22 of /proc/<pid>/stat)."""

    @classmethod
    def of(cls, pid: int) -> "Process | None":
        """Return the process that now has this pid; None if there is none, or only one that waits to be reaped."""
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        # A zombie may have other threads that still hold its ports.
        return None if fields[0] in "ZX" and int(fields[17]) <= 1 else cls(pid, int(fields[19]))

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return Process.of(self.pid) == self

    def send(self, number: signal.Signals) -> None:
        """Send a signal if it still runs."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


class Registry:
    """The processes named in one file, which is written before anything can go wrong with them."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def read(self) -> dict[str, Process]:
        """Return what was recorded, by name, whether or not it still runs."""
        try:
            return {name: Process(**fields) for name, fields in json.loads(self.file.read_text()).items()}
        except (FileNotFoundError, ValueError):
            return {}

    def start(self, name: str, command: Sequence[str | Path], *, log: Path, env: dict[str, str] | None = None) -> Process:
        """Start a program in a session of its own, with its output in `log`, and record it."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as out:
            child = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, **(env or {})},
                cwd="/",
                start_new_session=True,
            )
        process = Process.of(child.pid) or Process(child.pid, 0)
        known = self.read()
        known[name] = process
        write_json(self.file, {key: vars(value) for key, value in known.items()})
        return process


def stop(processes: Iterable[Process], *, seconds: float, first: signal.Signals = signal.SIGTERM) -> None:
    """Signal them all, wait until none is left, and after `seconds` kill those that are."""
    waiting = [process for process in processes if process.alive]
    for number, patience in ((first, seconds), (signal.SIGKILL, 5.0)):
        for process in waiting:
            process.send(number)
        deadline = time.monotonic() + patience
        while waiting and time.monotonic() < deadline:
            waiting = [process for process in waiting if process.alive]
            time.sleep(0.02)


def matching(wanted: Callable[[list[str]], bool]) -> list[Process]:
    """Return the running processes whose command line `wanted` accepts."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if words and wanted(words) and (process := Process.of(int(entry.name))):
                found.append(process)
    return found


def children(parent: Process) -> list[Process]:
    """Return the running processes that this one is the parent of."""
    try:
        threads = list(Path(f"/proc/{parent.pid}/task").iterdir())
        pids = [pid for thread in threads for pid in (thread / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [child for pid in pids if (child := Process.of(int(pid)))]


def write_json(file: Path, content: object) -> None:
    """Write a JSON file such that a reader sees the old content or the new, never half of it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f"{file.name}.{os.getpid()}")
    draft.write_text(json.dumps(content, indent=1))
    draft.replace(file)

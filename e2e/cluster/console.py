"""Progress on standard error, and how long each part took."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_times: list[tuple[str, float]] = []
_lock = threading.Lock()
_started = time.monotonic()


class ClusterError(Exception):
    """Something that a person has to put right: the text says what is wrong, where, and what to do."""


def say(text: str) -> None:
    """Print one line of progress with the seconds since the start of the command."""
    with _lock:
        print(f"{time.monotonic() - _started:6.1f} s  {text}", file=sys.stderr, flush=True)


@contextmanager
def part(name: str) -> Iterator[None]:
    """Announce a part of the work, and record its duration if it succeeds. Parts may run beside one another."""
    say(f"{name} …")
    begun = time.monotonic()
    yield
    took = time.monotonic() - begun
    with _lock:
        _times.append((name, took))
    say(f"{name}: {took:.1f} s")


def print_times() -> None:
    """Print the time of each part of this command, then the whole."""
    with _lock:
        width = max((len(name) for name, _ in _times), default=0)
        for name, took in _times:
            print(f"  {name:{width}}  {took:6.1f} s", file=sys.stderr)
        print(f"  {'all together':{width}}  {time.monotonic() - _started:6.1f} s", file=sys.stderr, flush=True)

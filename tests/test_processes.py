"""The processes of the local cluster (e2e/cluster/processes.py)."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from e2e.cluster.processes import Process, stop

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")

#: Its first thread ends and waits for the other, which holds a port: so it is when a process of many threads is being killed.
HALF_DEAD = """
import ctypes, platform, socket, sys, threading
held = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=sys.stdin.read).start()
print(held.getsockname()[1], flush=True)
ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[platform.machine()], 0)
"""


def test_a_process_of_which_one_thread_is_left_still_runs() -> None:
    command = [sys.executable, "-c", HALF_DEAD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:  # noqa: S603
        assert child.stdout
        port = int(child.stdout.readline())
        while Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            pass
        process = Process.of(child.pid)
        assert process, "its port is still taken"
        assert process.alive
        stop([process], seconds=5)
        assert not process.alive
        with socket.create_server(("127.0.0.1", port)):
            pass

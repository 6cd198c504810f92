"""Who owns the local cluster of this machine, and removing one: alive, half-dead, or of a clone that is gone.

A local cluster leaves things outside its folder: processes, mounts, an interface, packet filter tables, cgroups. Only one
can be on a machine at a time. The record in /run says whose it is.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

from e2e.cluster import cache, network
from e2e.cluster.console import ClusterError, say
from e2e.cluster.paths import CACHE
from e2e.cluster.processes import Process, Registry, children, matching, stop, write_json
from e2e.cluster.run import run

OWNER = Path("/run/serinus-cluster.json")
FILTER_TABLES = ("ip kube-proxy", "ip6 kube-proxy")
CNI_RESULTS = Path("/var/lib/cni/results")


def claim(state: Path, *, take_over: bool = False) -> None:
    """Make this clone the owner of the machine's local cluster, and clear away what a dead one left.

    Raises ClusterError if another clone's cluster is alive, unless `take_over`.
    """
    owner = _owner()
    if owner and owner != state and not take_over and _alive(owner):
        raise ClusterError(
            f"the local cluster of another clone runs on this machine, in {owner.parent}: stop it there with "
            f"`python -m e2e.cluster down`, or say `up --take-over` here, which stops it too"
        )
    if owner and (owner != state):
        clean(owner)
    clean(state)
    before = network.FORWARDING.read_text().strip()
    write_json(OWNER, {"state": str(state), "ip_forward": before})
    state.mkdir(parents=True, exist_ok=True)


def clean(state: Path) -> None:
    """Stop and remove the local cluster that keeps its things in `state`, however much of it is left."""
    registry = Registry(state / "processes.json")
    known = registry.read()
    # Killed, not asked: nothing of it is kept. The kubelet before the containers, which it would start again.
    stop(
        [process for name, process in known.items() if name not in ("containerd", "etcd", "kube-apiserver")],
        seconds=5,
        first=signal.SIGKILL,
    )
    _stop_containers(state)
    stop([*known.values(), *_orphans(state)], seconds=5, first=signal.SIGKILL)
    _unmount(state)
    if _owner() == state or not _owner():
        _remove_network()
    registry.file.unlink(missing_ok=True)
    for folder in ("run", "containerd", "kubelet", "etcd", "cni"):
        cache.remove(state / folder)
    if _owner() == state:
        OWNER.unlink(missing_ok=True)


def _owner() -> Path | None:
    try:
        return Path(json.loads(OWNER.read_text())["state"])
    except (FileNotFoundError, ValueError, KeyError):
        return None


def _alive(state: Path) -> bool:
    processes = Registry(state / "processes.json").read().values()
    return bool(processes) and all(process.alive for process in processes)


def _orphans(state: Path) -> list[Process]:
    """The cluster's programs that are in no record, as when the folder was removed: known by the paths they were given."""
    return matching(lambda words: words[0].startswith(f"{CACHE}/") and any(f"{state}/" in word for word in words[1:]))


def _stop_containers(state: Path) -> None:
    """Kill each container's processes and the shim that holds them; remove their cgroups."""
    tasks = state / "run" / "containerd" / "io.containerd.runtime.v2.task" / "k8s.io"
    identifiers = {folder.name for folder in tasks.iterdir()} if tasks.is_dir() else set()
    shims = matching(lambda words: "containerd-shim" in words[0] and str(state / "run" / "containerd.sock") in words)
    containers = [child for shim in shims for child in children(shim)]
    groups = _control_groups(identifiers | {name for child in containers for name in _group_names(child)})
    for group in groups:
        with contextlib.suppress(OSError):
            for pid in (group / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
    stop([*containers, *shims], seconds=2, first=signal.SIGKILL)
    deadline = time.monotonic() + 5
    while groups and time.monotonic() < deadline:
        for group in groups:
            with contextlib.suppress(OSError):
                group.rmdir()
        groups = [group for group in groups if group.exists()]
        time.sleep(0.02)


def _group_names(process: Process) -> set[str]:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        text = Path(f"/proc/{process.pid}/cgroup").read_text()
        return set(re.findall(r":/k8s\.io/([0-9a-f]{64})$", text, re.M))
    return set()


def _control_groups(identifiers: set[str]) -> list[Path]:
    """The kubelet's groups are not used, so containerd puts each container at k8s.io/<id> of every hierarchy."""
    hierarchies = [Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").glob("*")]
    places = [hierarchy / "k8s.io" / name for hierarchy in hierarchies for name in identifiers]
    return [place for place in places if place.is_dir()]


def _unmount(state: Path) -> None:
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in reversed([place for place in mounts if Path(place).is_relative_to(state)]):
        subprocess.run(["umount", "--lazy", mount], capture_output=True)


def _remove_network() -> None:
    with contextlib.suppress(ClusterError):
        listed = run(["nft", "list", "tables"])
        for table in FILTER_TABLES:
            if f"table {table}\n" in listed:
                run(["nft", "delete", "table", *table.split()])
    network.Network.chosen().remove_links()
    if network.exists():
        say("removing the interface of the local cluster")
        run(["ip", "link", "delete", network.INTERFACE])
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError):
        network.FORWARDING.write_text(json.loads(OWNER.read_text())["ip_forward"])
    if CNI_RESULTS.is_dir():
        for file in CNI_RESULTS.glob("serinus-*"):
            file.unlink(missing_ok=True)

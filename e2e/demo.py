"""Three releases on a real cluster, under load: a good one, one that fails a third of its requests, one that crashes.

Starts the cluster, installs the operator with its chart, lets a team's shop run, gives it a Canary, and ships. Exit code 1 with
a sentence if anything was not as promised.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from e2e import dora, follow, install, kubectl, shop
from e2e.kubectl import Object
from rich.console import Console
from rich.table import Table

SPACE, NAME = "shop", "checkout"
RATE = 100
#: The load ends by itself after this many seconds, whatever becomes of us.
MOST_SECONDS = 600

out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)
started = time.monotonic()
parts: list[tuple[str, float]] = []


class Broken(Exception):
    """Something was not as promised; the text says what."""


def say(text: str, style: str = "") -> None:
    """One line with the seconds since the start."""
    out.print(f"{time.monotonic() - started:6.1f} s  {text}", style=style, markup=False)


@contextmanager
def part(title: str) -> Iterator[None]:
    """Announces it, and remembers how long it took."""
    began = time.monotonic()
    say(title, "bold")
    yield
    parts.append((title, time.monotonic() - began))


def cluster(command: str) -> None:
    """e2e.cluster shows its own progress."""
    done = subprocess.run([sys.executable, "-m", "e2e.cluster", command], cwd=kubectl.ROOT, check=False)
    if done.returncode:
        raise Broken(f"`python -m e2e.cluster {command}` failed; what it said stands above")


class Watch:
    """Prints what `kubectl get canary` shows, whenever it changes."""

    COLUMNS = '{.status.phase}|{.status.weight}|{.status.why}{"\\n"}'

    def __init__(self) -> None:
        command = ["kubectl", "get", "canary", NAME, "-n", SPACE, "--watch", "-o", f"jsonpath={self.COLUMNS}"]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=kubectl.environment(), cwd=kubectl.ROOT
        )
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        last = ""
        for line in self._process.stdout or ():
            phase, weight, why = [*line.rstrip("\n").split("|", 2), "", ""][:3]
            if phase and line != last:
                last = line
                say(f"  {phase:<12}{weight or 0:>3} %  {why}", "dim")

    def stop(self) -> None:
        """No more lines."""
        self._process.terminate()
        self._process.wait(10)


def remove_shop() -> None:
    """The Canary first, so that what it put right is put right; then all of it."""
    if kubectl.run("get", "namespace", SPACE, "--ignore-not-found"):
        kubectl.run("delete", "canaries", "--all", "-n", SPACE, "--wait", "--timeout=60s", check=False)
        kubectl.run("delete", "namespace", SPACE, "--wait", "--timeout=120s")


def prepare() -> follow.Load:
    """Everything up to the first release; returns the load that runs."""
    with part("A cluster with a Gateway and Prometheus"):
        cluster("up")
    with part("The operator and the measuring service, with the Helm chart"):
        fresh = kubectl.get("deployment", install.RELEASE, install.NAMESPACE) is None
        dora.tokens()
        install.install(*dora.VALUES)
        if not fresh:
            install.restart()  # the image may be newer than its pod
    with part(f"The shop, as its team has it: a Deployment, a Service, an HTTPRoute, {RATE} requests a second"):
        remove_shop()
        kubectl.run("create", "namespace", SPACE)
        follow.serve(SPACE, NAME)
        load = follow.Load(SPACE, shop.host(NAME, SPACE), rate=RATE, duration=MOST_SECONDS)
        load.start()
    with part("The team adds a Canary: steps 10, 25, 50, 100 %, 10 s each; one check, on failed requests"):
        kubectl.apply(shop.canary(NAME, SPACE, shop.steps("10s", 10, 25, 50, 100)))
        follow.phase(NAME, SPACE, "Stable")
    return load


def ship(title: str, **env: str) -> Object:
    """Ships a version, as a pipeline does after its change was merged, and waits until its Release has ended."""
    with part(title):
        watch = Watch()
        commit, now = hashlib.sha1(title.encode(), usedforsecurity=False).hexdigest(), datetime.now(UTC)
        dora.change(len(parts), title, commit, now - timedelta(minutes=50), now)
        dora.annotate(SPACE, NAME, commit)
        try:
            said = follow.set_env(SPACE, NAME, **env)
            for line in said.strip().splitlines():
                say(f"  kubectl: {line}", "dim")
            release = follow.ended(SPACE, env["MESSAGE"], timeout=150)
            follow.phase(NAME, SPACE, "Stable", "RolledBack", timeout=15)
        finally:
            watch.stop()
        say(f"  {release['status']['outcome']}: {release['status']['why']}")
    return release


def report(rows: list[tuple[str, Object]], answers: follow.Answers) -> list[str]:
    """Prints the table; returns what was not as promised."""
    table = Table(show_edge=False, pad_edge=False)
    columns = ("release", "outcome", "exposed for", "requests", "to the new version", "failed")
    for column in columns:
        table.add_column(column, justify="left" if column in columns[:2] else "right")
    broken = []
    for title, release in rows:
        moments, outcome = follow.times(release), str(release["status"].get("outcome"))
        asked = answers.within(moments["requested"], moments["ended"])
        failed = answers.failed(moments["requested"], moments["ended"])
        new = sum(n for key, n in asked.items() if key.startswith(f"{follow.message(release)} ")) + len(failed)
        exposed = "never"
        if "firstExposed" in moments:
            exposed = "-"
            if outcome != "Promoted":
                exposed = f"{moments['zeroVerified'] - moments['firstExposed']:.1f} s"
        table.add_row(title, outcome, exposed, str(asked.total()), str(new), str(len(failed)))
        broken += judge(title, release, answers)
    out.print()
    out.print(table)
    whole = answers.summary
    out.print(
        f"\nAll in all {whole['requests']} requests in {whole['seconds']:.0f} s, {whole['failed']} failed; "
        f"half were answered within {whole['p50_ms']} ms, 99 % within {whole['p99_ms']} ms."
    )
    return broken


def judge(title: str, release: Object, answers: follow.Answers) -> list[str]:
    """What was not as promised."""
    moments, message = follow.times(release), follow.message(release)
    wanted = "Promoted" if message == "v2" else "RolledBack"
    broken = []
    if release["status"].get("outcome") != wanted:
        broken.append(f"{title}: {release['status'].get('outcome')} instead of {wanted}: {release['status'].get('why')}")
    safe_from = moments["requested"] if message != "v3" else moments.get("zeroVerified", moments["ended"])
    late = answers.failed(safe_from, moments["ended"])
    if late:
        first = f"the first {late[0][0] - safe_from:.2f} s in, {late[0][1]}"
        broken.append(f"{title}: {len(late)} requests failed where none should ({first})")
    if message == "v4" and ("firstExposed" in moments or message in answers.first):
        broken.append(f"{title}: it was given traffic")
    return broken


def demo() -> list[str]:
    """Returns what was not as promised."""
    load = prepare()
    rows = [
        ("good", ship("A good version", MESSAGE="v2")),
        ("fails one in three", ship("A version that fails one request in three", MESSAGE="v3", FAIL_RATE="0.3333")),
        ("crashes at start", ship("A version that crashes at its start", MESSAGE="v4", FAIL_RATE="-", CRASH="1")),
    ]
    return report(rows, load.stop()) + figures([release for _, release in rows])


def figures(releases: list[Object]) -> list[str]:
    """Prints the week's report; returns what of it is not what the Releases say."""
    reached = {r["metadata"]["uid"] for r in releases if "firstExposed" in follow.times(r)}
    failed = {r["metadata"]["uid"] for r in releases if r["status"].get("outcome") == "RolledBack"} & reached
    today = datetime.now(UTC).date()
    window = f"start={today - timedelta(days=1)}&end={today + timedelta(days=1)}"

    def counted() -> Object | None:
        rate: Object = dora.ask(f"/figures?{window}")[1]["failure_rate"]["rate"]
        return rate if reached <= set(rate["of"]) else None

    rate = kubectl.until("the measuring service counts the releases", counted, timeout=20)
    out.print(f"\n{dora.report(f'{today:%G-W%V}')}", markup=False)
    out.print(f"The page: http://serinus-dora.{install.NAMESPACE}.svc:8090/?week={today:%G-W%V}\n", markup=False)
    return [] if failed == reached & set(rate["keys"]) else [f"{failed} failed, and the report says {rate['keys']}"]


def look_around(keep: bool) -> None:
    """The last paragraph."""
    for title, took in parts:
        out.print(f"{took:7.1f} s  {title}", style="dim", markup=False)
    out.print(f"{time.monotonic() - started:7.1f} s  all together\n", style="dim")
    if not keep:
        return
    out.print(
        f"Look around:\n"
        f"  export KUBECONFIG={kubectl.KUBECONFIG} PATH={kubectl.CLUSTER / 'bin'}:$PATH\n"
        f"  kubectl -n {SPACE} get canaries,releases\n"
        f"  kubectl -n {SPACE} describe canary {NAME}\n"
        f"  kubectl -n {SPACE} set env deployment/{NAME} CRASH- MESSAGE=v5    # ship the next one\n"
        f"  kubectl -n {install.NAMESPACE} port-forward service/serinus-dora 8090"
        f"    # the page is http://localhost:8090, its token {dora.TOKENS['reading']}\n"
        f"`make down` removes all of it.",
        markup=False,
    )


def main() -> int:
    """0 when all was as promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the cluster and the shop running")
    keep = parser.parse_args().keep
    try:
        broken = demo()
        if not keep:
            with part("Removing it"):
                remove_shop()
                cluster("down")
    except (Broken, kubectl.Failed, subprocess.TimeoutExpired) as failed:
        out.print(f"\nNot as promised: {failed}\nAll is left as it is, to be looked at; `make down` removes it.", markup=False)
        return 1
    except KeyboardInterrupt:
        out.print("\nInterrupted; `make down` removes what was started.")
        return 1
    out.print()
    look_around(keep)
    for sentence in broken:
        out.print(f"Not as promised: {sentence}", style="bold red", markup=False)
    if not broken:
        out.print("All was as promised." if not keep else "\nAll was as promised.", style="bold green")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())

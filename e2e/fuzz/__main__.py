"""`python -m e2e.fuzz --minutes 30 --seed N`: exit code 1 if something was found; each finding says how to see it again.

First every manifest with one field changed, at and past every bound, is asked of the API server. Then, in namespaces of their
own and several at a time, shops are opened under a Canary, and things are done to them in mid-release: seldom sensible ones. A
while after the last, the Canary has to say what is wrong or that it is fine. Then a user mends everything and ships a last
version, which has to be served; and deletes the Canary, which has to leave nothing of Serinus. All the time the operator has to
be well.

The same seed does the same things at about the same moments; `--only 17` does those of number 17 alone. Every act is in
fuzz-results/<seed>.jsonl.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TextIO

from e2e import kubectl
from e2e.fuzz import api, life, schema
from e2e.fuzz.operator import Operator

#: Seconds after the last act until the Canary has to say what is so; until a mended shop is content; until it is let go of.
SETTLE, CONTENT, LET_GO = 30.0, 120.0, 60.0


@dataclass
class Run:
    """One run with one seed."""

    seed: int
    operator: Operator
    journal: TextIO
    findings: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, number: int, what: str, **more: Any) -> None:
        """Into the journal."""
        with self.lock:
            line = {"at": round(time.time(), 3), "number": number, "what": what, **more}
            self.journal.write(f"{json.dumps(line, ensure_ascii=False)}\n")
            self.journal.flush()

    def found(self, number: int | None, sentence: str) -> None:
        """Prints it, with the way to see it again."""
        again = f"python -m e2e.fuzz --seed {self.seed}{'' if number is None else f' --only {number}'}"
        self.note(number if number is not None else -1, "FOUND", sentence=sentence)
        with self.lock:
            self.findings.append(sentence)
            print(f"FOUND {sentence}\n      again: {again}", flush=True)

    def space(self, number: int) -> str:
        """A namespace of its own."""
        return f"fuzz-{self.seed}-{number}"


# ---- manifests ----


def sweep(run: Run, number: int) -> None:
    """Every field in turn at and past every bound, as dry runs."""
    space = run.space(number)
    api.create("namespace", "", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}})
    for kind, bases in schema.BASES.items():
        for base in bases:
            for mutant in schema.mutants(schema.read(kind), base):
                metadata = {"name": "x", "namespace": space}
                body = {"apiVersion": "serinus.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": mutant.spec}
                answer = api.create(kind.lower(), space, body, dryRun="All")
                run.counts["manifests accepted" if answer.ok else "manifests refused"] += 1
                doubt = schema.disagreement(kind, mutant.spec, None, answer.code, answer.message, answer.body.get("spec"))
                if doubt:
                    run.found(number, f"{kind} {mutant}: {doubt}")
    api.delete("namespace", "", space)


# ---- shops ----


def opened(run: Run, number: int) -> None:
    """One shop, from its opening to its end."""
    random = life.dice(run.seed, number)
    shop = life.Shop(run.space(number), by_pods=random.random() < 0.15)
    spec, acts = random.choice(life.SPECS), life.plan(random)
    run.note(number, "opens", by_pods=shop.by_pods, spec=spec, acts=[str(act) for act in acts])
    try:
        shop.open(spec)
        wait(run, number, "a shop is adopted", lambda: [] if _phase(shop) == "Stable" else [f"phase {_phase(shop)}"], CONTENT)
        for act in acts:
            time.sleep(act.wait)
            answer = shop.do(act)
            run.counts["acts"] += 1
            run.note(number, act.what, how=act.how, code=answer.code, message=answer.message[:500])
            if answer.code >= 500:
                run.found(number, f"{act}: answered with {answer.code}: {answer.message}")
            if shop.doubt:
                run.found(number, f"{act}: {shop.doubt}")
        last = time.time()
        wait(run, number, f"after {len(acts)} acts", shop.oddities, SETTLE)
        silent = run.operator.failing(shop.space, max(last + 5, time.time() - 5))
        if silent:
            run.found(number, f"passes are refused, and no condition says so: {silent}; {_says(shop)}")
        wait(run, number, "mended, and not content", shop.content, CONTENT, every=1)
        wait(run, number, "let go of", shop.let_go, LET_GO)
    except Exception as failure:  # the fuzzer's own fault, or a cluster's that is gone
        run.found(number, f"the fuzzer failed: {failure!r}")
        raise
    finally:
        run.note(number, "closes")
        shop.close()
        run.counts["shops"] += 1


def _phase(shop: life.Shop) -> str:
    canary = api.get("canary", shop.space, life.NAME) or {}
    return str(canary.get("status", {}).get("phase"))


def _says(shop: life.Shop) -> str:
    canary = api.get("canary", shop.space, life.NAME) or {}
    return "; ".join(
        f"{c['type']} {c['status']} {c['reason']}: {c['message']}" for c in canary.get("status", {}).get("conditions", [])
    )


def wait(run: Run, number: int, what: str, odd: Callable[[], list[str]], seconds: float, every: float = 0.5) -> bool:
    """Until nothing is odd any more; what still is then was found."""
    deadline = time.monotonic() + seconds
    while found := odd():
        if time.monotonic() > deadline:
            run.found(number, f"{what}, {seconds:.0f} s on: {'; '.join(found)}")
            return False
        time.sleep(every)
    return True


# ---- the run ----


def watched(run: Run, stop: threading.Event) -> None:
    """The operator, until told to stop."""
    while not stop.wait(3):
        for problem in run.operator.problems():
            run.found(None, problem)


def go(run: Run, minutes: float, beside: int, only: int | None) -> None:
    """Begins shops until the time is up, and waits for those that are open."""
    deadline, stop = time.monotonic() + minutes * 60, threading.Event()
    watcher = threading.Thread(target=watched, args=(run, stop))
    watcher.start()
    numbers = iter([only] if only is not None else range(10**6))
    taking = threading.Lock()

    def work() -> None:
        while only is not None or time.monotonic() < deadline:
            with taking:
                number = next(numbers, None)
            if number is None:
                return
            (sweep if number == 0 else opened)(run, number)

    try:
        with ThreadPoolExecutor(beside) as pool:
            for each in [pool.submit(work) for _ in range(beside)]:
                each.result()
    finally:
        stop.set()
        watcher.join()
    for problem in run.operator.problems():
        run.found(None, problem)


def main() -> int:
    """1 if something was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100000)
    parser.add_argument("--only", type=int, help="this number alone")
    parser.add_argument("--beside", type=int, default=6, help="shops at a time")
    given = parser.parse_args()
    path = kubectl.ROOT / "fuzz-results" / f"{given.seed}.jsonl"
    path.parent.mkdir(exist_ok=True)
    print(f"seed {given.seed}, {given.minutes:g} minutes; every act is in {path.relative_to(kubectl.ROOT)}", flush=True)
    with path.open("a") as journal:
        run = Run(given.seed, Operator(), journal)
        go(run, given.minutes, given.beside, given.only)
    for message, number in run.operator.refused.most_common(20):
        print(f"passes refused {number} times: {message[:300]}")
    print(f"seed {given.seed}: {', '.join(f'{number} {what}' for what, number in sorted(run.counts.items()))}")
    print(f"{len(run.findings)} found" if run.findings else "nothing found")
    return 1 if run.findings else 0


if __name__ == "__main__":
    sys.exit(main())

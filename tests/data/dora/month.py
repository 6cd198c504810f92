"""October 2026 in Berlin, by hand. What it comes to is worked out in month.md; all moments here are UTC."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from serinus.dora.catalog import Catalog, Service
from serinus.dora.facts import ArtifactSays, ChangeSays, CommitSays, Fact, IncidentSays, MarkSays, ReleaseSays

BERLIN = ZoneInfo("Europe/Berlin")
CATALOG = Catalog(
    {
        "checkout": Service("shop", "acme/shop", ("services/checkout", "libs/money")),
        "search": Service("shop", "acme/shop", ("services/search",)),
        "pay": Service("pay", "https://github.com/acme/pay"),
        "legacy": Service("old"),
    },
    production=frozenset({"production"}),
)


def commit(name: str) -> str:
    """A full hash; short ones in the facts are its beginning."""
    return hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()


def at(moment: str) -> datetime:
    """``05 09:00`` is of October; ``09-30 22:00`` and ``2024-02-01 09:00`` say their month and year."""
    day, clock = moment.split()
    date = {1: f"2026-10-{day}", 2: f"2026-{day}", 3: day}[day.count("-") + 1]
    return datetime.fromisoformat(f"{date}T{clock}").replace(tzinfo=UTC)


def image(name: str) -> str:
    return f"pkg:oci/app@sha256%3A{hashlib.sha256(name.encode()).hexdigest()}"


def said(source: str, name: str, when: str, key: str, kind: Any, **says: Any) -> Fact:
    moments = {"requested", "exposed", "promoted", "detected", "fault_began", "returned", "opened", "first_commit"}
    moments |= {"first_review", "merged", "closed", "built", "began", "resolved", "committed"}
    fields = {field: at(value) if field in moments else value for field, value in says.items()}
    return Fact.of(source, name, at(when), key, kind(**fields))


def release(
    key: str, service: str, requested: str, outcome: str = "", environment: str = "production", **says: Any
) -> Iterator[Fact]:
    """Two facts, as a controller sends them: what was known when it began, and what was known when it had ended."""
    early = {"service": service, "environment": environment, "requested": requested}
    early |= {field: says.pop(field) for field in ("artifact", "serving_artifact", "commit", "repository") if field in says}
    yield said("serinus", f"{key}/deployed", requested, key, ReleaseSays, **early)
    last = says.get("returned") or says.get("promoted") or says.get("exposed") or requested
    if outcome:
        says["outcome"] = outcome
    yield said("serinus", f"{key}/ended", last, key, ReleaseSays, **says)


def change(key: str, repository: str, opened: str, merged: str, **says: Any) -> Iterator[Fact]:
    """Opened, and merged; an empty `opened`: nobody says."""
    early = {"base": "main", "repository": repository, "number": key.removeprefix("#")} | says
    late = {field: early.pop(field) for field in ("merge_commit", "first_review", "paths") if field in early}
    if opened:
        yield said("github", f"{key}/opened", opened, key, ChangeSays, opened=opened, **early)
    else:
        late |= early
    yield said("github", f"{key}/merged", merged, key, ChangeSays, merged=merged, **late)


def incident(key: str, service: str, began: str, detected: str, resolved: str = "", **says: Any) -> Iterator[Fact]:
    early = {"service": service, "environment": "production", "began": began, "detected": detected} | says
    yield said("alertmanager", f"{key}/firing", detected, key, IncidentSays, **early)
    if resolved:
        yield said("alertmanager", f"{key}/resolved", resolved, key, IncidentSays, resolved=resolved)


def commits() -> Iterator[Fact]:
    history: dict[str, list[str]] = {
        "m0": ["ancient"],
        "m1": ["m0"],
        "f2a": ["m0"],
        "f2b": ["f2a"],
        "m2": ["m1", "f2b"],
        "m3": ["m2"],
        "m4a": ["m3"],
        "m4": ["m4a"],
        "m5": ["m4"],
        "m6": ["m5"],
        "m7": ["m6"],
        "m8": ["m7"],
        "m9": ["m8"],
        "m9b": ["m9"],
        "m10": ["m9b"],
    }
    for name, parents in history.items():
        paths = ("libs/money/round.py",) if name == "m4" else ()
        says = {"repository": "acme/shop", "parents": tuple(map(commit, parents)), "paths": paths}
        yield said("git", commit(name), "01 00:00", commit(name), CommitSays, **says)


def changes() -> Iterator[Fact]:
    def shop(
        key: str, opened: str, merged: str, merge: str, paths: tuple[str, ...] = ("services/checkout/a.py",), **says: Any
    ) -> Any:
        return change(key, "acme/shop", opened, merged, merge_commit=commit(merge), paths=paths, **says)

    def pay(key: str, opened: str, merged: str, merge: str, **says: Any) -> Any:
        return change(key, "acme/pay", opened, merged, merge_commit=commit(merge), **says)

    both = ("services/checkout/a.py", "services/search/b.py")
    yield from shop("#0", "2024-02-01 09:00", "09-14 09:00", "m0", both)
    yield from shop("#1", "01 06:30", "01 07:30", "m1", commits=(commit("x1"),), branch="feature/one")  # a squash
    yield from shop(
        "#2",
        "01 09:40",
        "02 08:00",
        "m2",
        first_commit="01 07:40",
        first_review="02 06:40",
        commits=(commit("f2b"), commit("f2a")),
    )
    yield from shop("#3", "05 07:35", "05 08:35", "m3", ("services/search/b.py",))
    yield from shop(
        "#4", "05 10:05", "05 11:05", "m4", (), commits=(commit("x4a"), commit("x4b"))
    )  # a rebase; files by its commit
    yield from shop("#5", "06 09:50", "07 08:50", "m5")
    yield from shop("#6", "07 09:13", "07 09:14", "m6", branch="fix/five")
    yield from shop("#7", "12 09:40", "12 09:55", "m7")
    yield from shop("#8", "13 07:40", "13 08:00", "m8", labels=("Hotfix",), first_commit="13 07:30")
    yield from shop("#9", "24 20:30", "24 21:30", "m9")
    yield from shop("#11", "", "25 12:00", "m9b")
    yield from shop("#10", "25 00:30", "25 21:30", "m10")
    yield from pay("#21", "09-30 20:00", "09-30 21:30", "p1")
    yield from pay("#22", "09 10:35", "10 10:35", "p1b")
    yield from pay("#23", "14 08:35", "14 09:30", "p2", first_review="14 09:00")
    yield from pay("#24", "11 09:00", "12 09:00", "r1", base="release-1")
    yield from pay("#25", "20 07:35", "20 08:35", "p3")
    yield from pay("#26", "28 06:05", "28 07:05", "p4")
    yield from pay("#27", "28 08:45", "28 08:48", "p5")
    yield from pay("#28", "31 20:00", "31 22:00", "p6")


def releases() -> Iterator[Fact]:
    def checkout(key: str, new: str, old: str, code: str, requested: str, outcome: str, **says: Any) -> Any:
        artifacts = {"artifact": image(new), "serving_artifact": image(old), "commit": commit(code)[:8]}
        return release(key, "checkout", requested, outcome, **artifacts, **says)

    yield from checkout("c1", "A1", "A0", "m1", "01 08:00", "Promoted", exposed="01 08:05", promoted="01 08:30")
    yield from checkout("c2", "A2", "A1", "m2", "02 09:00", "Promoted", exposed="02 09:10", promoted="02 09:40")
    yield from checkout("c3", "A1", "A2", "m1", "02 10:25", "Skipped", promoted="02 10:35")
    yield from checkout("c4", "A4", "A1", "m4", "05 12:00", "Promoted", exposed="05 12:05", promoted="05 12:35")
    harm = {"harmed": True, "fault_began": "07 09:10", "detected": "07 09:12", "returned": "07 09:16", "share_seconds": 33.0}
    yield from checkout("c5", "A5", "A4", "m5", "07 09:00", "Superseded", exposed="07 09:05", **harm)
    yield from checkout("c6", "A6", "A4", "m6", "07 09:15", "Promoted", exposed="07 09:20", promoted="07 09:50")
    yield from checkout("c7", "A6", "A6", "m6", "08 07:00", "Promoted", exposed="08 07:05", promoted="08 07:10", restart=True)
    caught = {"fault_began": "12 10:06:30", "detected": "12 10:07", "returned": "12 10:07:40", "share_seconds": 8.0}
    yield from checkout("c8", "A7", "A6", "m7", "12 10:00", "RolledBack", exposed="12 10:05", **caught)
    yield from checkout("c9", "A7", "A6", "m7", "13 08:00", "Superseded", exposed="13 08:02", returned="13 08:04")
    yield from checkout("c10", "A8", "A6", "m8", "13 08:03", "Promoted", exposed="13 08:10", promoted="13 08:40")
    yield from checkout("c11", "A9", "A8", "m9", "14 08:00", "Aborted")
    yield from checkout("c12", "A9", "A8", "m9", "24 22:00", "Promoted", exposed="24 22:05", promoted="24 22:30")
    yield from checkout("c13", "A10", "A9", "m10", "25 22:00", "Promoted", exposed="25 22:05", promoted="25 22:30")

    def pay(key: str, requested: str, **says: Any) -> Any:
        gitops = {"artifact": image(f"pay-{key}"), "repository": "acme/deploy", "commit": commit(f"manifest {key}")}
        return release(key, "pay", requested, "Promoted", **gitops, **says)

    yield from pay("p1", "09-30 21:50", promoted="09-30 22:00")
    yield from pay("p2", "14 10:00", exposed="14 10:05", promoted="14 10:35")
    yield from pay("p3", "20 09:00", exposed="20 09:05", promoted="20 09:35")
    yield from pay("p4", "28 08:00", exposed="28 08:05", promoted="28 08:35")
    yield from pay("p5", "28 08:50", exposed="28 08:55", promoted="28 09:20")
    yield from pay("p6", "31 22:20", exposed="31 22:30", promoted="31 23:00")

    def search(key: str, code: str, requested: str, outcome: str, **says: Any) -> Any:
        return release(key, "search", requested, outcome, artifact=image(f"search-{key}"), commit=commit(code), **says)

    yield from search("s0", "m0", "09-15 08:00", "Promoted", exposed="09-15 08:05", promoted="09-15 08:35")
    yield from search("st1", "m4", "06 06:00", "Promoted", environment="staging", promoted="06 06:10")
    yield from search("s1", "m4", "06 07:00", "Promoted", exposed="06 07:05", promoted="06 07:35")
    yield from search("s2", "m10", "30 09:00", "", exposed="30 09:05")
    yield from release("l1", "legacy", "15 11:50", "Promoted", artifact="legacy:7", promoted="15 12:00")


def others() -> Iterator[Fact]:
    yield said("ci", "A2", "02 08:20", image("A2"), ArtifactSays, built="02 08:20")
    for key in ("p1", "p2", "p3", "p4", "p5", "p6"):
        built = {"built": "14 09:50"} if key == "p2" else {}
        says = {"repository": "git@github.com:acme/pay.git", "commit": commit(key)[:10], **built}
        yield said(
            "ci",
            f"pay-{key}",
            "14 09:50",
            image(f"pay-{key}").removeprefix("pkg:oci/app@").replace("%3A", ":"),
            ArtifactSays,
            **says,
        )
    yield from incident("i1", "checkout", "02 09:50", "02 09:52", "02 10:20")
    yield from incident("i2", "checkout", "02 10:00", "02 10:01", "02 10:40")
    yield from incident("i3", "checkout", "05 20:00", "05 20:01", "05 21:00")
    yield from incident("i4", "checkout", "08 07:15", "08 07:16", "08 07:30")
    yield from incident("i5", "pay", "16 09:58", "16 10:00", "16 10:15", release="p2")
    yield said("pagerduty", "i5/corrected", "16 12:00", "i5", IncidentSays, resolved="16 10:05")
    yield from incident("i6", "pay", "20 09:50", "20 09:51", "20 10:30")
    yield from incident("i7", "pay", "28 08:40", "28 08:41")
    word = {"by": "ada", "reason": "the bank was down"}
    yield said("page", "1", "21 09:00", "incident/i6", MarkSays, verdict="unrelated", **word)
    yield said("page", "2", "21 09:05", "release/p3", MarkSays, verdict="rework", by="bob", reason="it came after i5")
    yield said("page", "3", "21 09:10", "release/p3", MarkSays, verdict="planned", by="ada", reason="it was on the list")
    yield said("page", "4", "08 09:00", "release/s1", MarkSays, verdict="failed", by="bob", reason="customers found nothing")


#: In an order in which nothing came first that happened first, and some of it twice.
FACTS = [*others(), *releases(), *changes(), *commits()][::-1]
FACTS += FACTS[::7]

"""A fleet of services that release now and then, with changes, failures and incidents: the same for the same seed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random

from serinus.dora.catalog import Catalog, Service
from serinus.dora.facts import ArtifactSays, ChangeSays, CommitSays, Fact, IncidentSays, ReleaseSays, Saying

NAMES = ("checkout", "search", "pay", "catalog", "accounts", "mail", "prices", "stock", "web", "images", "reports", "gateway")
TEAMS = ("shop", "platform", "money")


def name(number: int) -> str:
    """``shop/checkout``, and further on ``shop/checkout-2``."""
    word, turn = NAMES[number % len(NAMES)], number // len(NAMES)
    return f"{TEAMS[number % len(TEAMS)]}/{word}" + (f"-{turn + 1}" if turn else "")


def hashed(number: int) -> str:
    """A commit. Short hashes differ, as they do."""
    return hashlib.sha1(str(number).encode(), usedforsecurity=False).hexdigest()


def catalog(services: int) -> Catalog:
    return Catalog(
        {name(n): Service(name(n).partition("/")[0], f"acme/s{n}") for n in range(services)}, frozenset({"production"})
    )


def fleet(services: int, releases: int, end: datetime, weeks: int = 12, seed: int = 1, changes: bool = True) -> Iterator[Fact]:
    """`releases` of all services together, evenly over the weeks that end at `end`."""
    random = Random(seed)  # noqa: S311
    every = timedelta(weeks=weeks) / max(1, releases)
    for number in range(releases):
        start = end - timedelta(weeks=weeks) + every * number + every * random.random()
        yield from _release(number, number * 7 % services, services, start, end, random, changes)


def _release(
    number: int, service: int, services: int, start: datetime, end: datetime, random: Random, changes: bool
) -> Iterator[Fact]:
    key, digest = f"r{number}", f"sha256:{hashlib.sha256(str(number).encode()).hexdigest()}"
    image = f"registry.example/s{service}:v1.{number}@{digest}"
    commit, repository = hashed(number), f"acme/s{service}"
    merged = start - timedelta(minutes=random.lognormvariate(3, 0.6))
    opened = merged - timedelta(minutes=random.lognormvariate(4.6, 0.9))
    review = opened + (merged - opened) * random.uniform(0.2, 0.9)
    exposed = start + timedelta(seconds=random.randrange(30, 90))
    promoted = exposed + timedelta(minutes=random.lognormvariate(2.6, 0.4))
    says = {"service": name(service), "environment": "production", "artifact": image, "commit": commit, "repository": repository}
    says |= {"requested": start, "exposed": exposed}
    draw = random.random()
    if draw < 0.03:
        found = exposed + timedelta(seconds=random.randrange(15, 120))
        returned = found + timedelta(seconds=random.lognormvariate(2.8, 0.7))
        moments = {"fault_began": exposed + timedelta(seconds=5), "detected": found, "returned": returned}
        says |= {"outcome": "RolledBack", "share_seconds": 4.0, **moments}
    elif draw < 0.036:
        says |= {"outcome": "Aborted", "detected": exposed, "returned": exposed + timedelta(minutes=2)}
    elif draw < 0.05:
        says |= {"outcome": "Superseded", "returned": exposed + timedelta(minutes=4)}
    elif promoted > end:
        pass
    else:
        says |= {"outcome": "Skipped" if draw > 0.985 else "Promoted", "promoted": promoted}
    yield _fact("serinus", key, start, ReleaseSays(**says))
    if changes:
        title = random.choice(
            ("Round prices up to the cent", "Retry when the bank is slow", "Show what is in stock", "Tidy the form")
        )
        url = f"https://git.example/{repository}/pull/{number}"
        moments = {"opened": opened if draw < 0.97 else None, "first_review": review, "merged": merged}
        change = ChangeSays(repository=repository, number=str(number), title=title, url=url, merge_commit=commit, **moments)
        yield _fact("github", f"{repository}#{number}", merged, change)
        built = start - (start - merged) * random.uniform(0.3, 0.8)
        # Releases of a service are `services` apart, as 7 is prime to their number: so the commit before is known.
        parents = (hashed(number - services),) if number >= services else ()
        yield _fact("git", commit, merged, CommitSays(repository=repository, parents=parents, committed=merged))
        yield _fact("ci", digest, built, ArtifactSays(repository=repository, commit=commit, built=built))
    if 0.05 < draw < 0.08:
        began = promoted + timedelta(minutes=random.randrange(2, 40) if draw < 0.065 else random.randrange(70, 400))
        seen = {"began": began, "detected": began + timedelta(minutes=1), "title": "Errors above 2 %", "severity": "critical"}
        over = began + timedelta(minutes=random.lognormvariate(2.5, 0.8))
        incident = IncidentSays(service=name(service), environment="production", resolved=over, **seen)
        yield _fact("alertmanager", f"i{number}", began, incident)


def _fact(source: str, key: str, at: datetime, says: Saying) -> Fact:
    return Fact.of(source, key, at, key, says)  # type: ignore[arg-type]

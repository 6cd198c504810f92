"""Results of tests as JUnit's XML, which nearly every tool for tests can write. Pure.

There is no one standard: https://github.com/testmoapp/junitxml has what tools have in common, and
https://maven.apache.org/surefire/maven-surefire-plugin/xsd/surefire-test-report.xsd the retries (flakyFailure, rerunFailure). A
test that is there twice, as Gradle's retries write it, is flaky if it failed and passed at last.
"""

from __future__ import annotations

import hashlib
import heapq
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from serinus.dora.facts import FAILED, FLAKY, SLOWEST, Case, Fact, TestsSays
from serinus.dora.intake.received import Headers, Refused, Secret, Telling, bearer, digest, refusing
from serinus.dora.intake.settings import Settings
from serinus.dora.intake.uploads import Tree, origin, walk

SOURCE = "junit"
#: Tests of one upload.
MOST = 200_000
#: A name that is longer is cut, and told from others by a digest.
_LONGEST = 400
_SECONDS = re.compile(r"[0-9][0-9,]*(\.[0-9]+)?([eE][-+]?[0-9]{1,2})?|\.[0-9]+")

Outcome = Literal["passed", "failed", "flaky", "skipped"]
_CHILDREN: dict[str, Outcome] = {
    "failure": "failed",
    "error": "failed",
    "skipped": "skipped",
    "flakyFailure": "flaky",
    "flakyError": "flaky",
}
#: What counts of a test that has several.
_WORST: tuple[Outcome, ...] = ("failed", "flaky", "skipped", "passed")


def verify(headers: Headers, body: bytes, secret: Secret) -> None:
    """Raises Refused(401) unless the token is there."""
    bearer(headers, secret)


def delivered(headers: Headers, body: bytes) -> str:
    """The file's digest. The fact's id is also of where it is from."""
    return digest(body)


@refusing
def facts(headers: Headers, body: bytes, settings: Settings) -> list[Fact]:
    """One fact: the suite, whatever suites it has within. Raises Refused."""
    known = origin(headers, body)
    suite = _Suite()
    walk(body, suite)
    tests = suite.tests
    outcomes = [test.outcome for test in tests.values()]
    says = TestsSays(
        repository=known.repository,
        commit=known.commit,
        branch=known.branch,
        run=known.run,
        job=known.job,
        suite=known.suite or _short(suite.name),
        tests=len(tests),
        failed=outcomes.count("failed"),
        skipped=outcomes.count("skipped"),
        flaky=outcomes.count("flaky"),
        milliseconds=suite.milliseconds,
        ran=_digest(tests),
        cases=tuple(_told(tests)),
    )
    telling = Telling(SOURCE, known.id)
    telling.say(known.at, f"{known.repository}/tests/{known.id[:32]}", says)
    return telling.facts


@dataclass(slots=True)
class _Test:
    outcome: Outcome
    milliseconds: int


class _Suite(Tree):
    """Counted by its tests, not by what is written at its head: tools disagree about what that counts."""

    def __init__(self) -> None:
        super().__init__()
        self.name = ""
        self.tests: dict[str, _Test] = {}
        self._whole: int | None = None
        self._parts = 0
        self._case: tuple[str, int] | None = None
        self._found: set[Outcome] = set()

    @property
    def milliseconds(self) -> int:
        """As the file says; else what its outermost suites, or its tests, take together."""
        return self._whole if self._whole is not None else self._parts or sum(test.milliseconds for test in self.tests.values())

    def began(self, way: tuple[str, ...], attributes: Mapping[str, str]) -> None:
        tag = way[-1]
        if len(way) == 1:
            if tag not in ("testsuites", "testsuite"):
                raise Refused(422, f"the file: <testsuites> or <testsuite> was expected, and this is <{tag:.80}>")
            self.name = attributes.get("name", "")
        if self._case is None and tag == "testsuites" and len(way) == 1 and attributes.get("time"):
            self._whole = _milliseconds(attributes["time"], "testsuites.time")
        elif self._case is None and tag == "testsuite" and "testsuite" not in way[:-1]:
            self.name = self.name or attributes.get("name", "")
            self._parts += _milliseconds(attributes.get("time", ""), "testsuite.time")
        elif tag == "testcase" and self._case is None:
            if not attributes.get("name"):
                raise Refused(422, f"testcase {len(self.tests) + 1}: it has no name")
            where = attributes.get("classname", "")
            name = f"{where}.{attributes['name']}" if where else attributes["name"]
            self._case = _short(name), _milliseconds(attributes.get("time", ""), f"testcase {name:.100}: time")
            self._found = set()
        elif len(way) > 1 and way[-2] == "testcase" and tag in _CHILDREN:
            self._found.add(_CHILDREN[tag])

    def ended(self, way: tuple[str, ...]) -> None:
        if way[-1] != "testcase" or self._case is None or "testcase" in way[:-1]:
            return
        (name, milliseconds), self._case = self._case, None
        outcome: Outcome = next((one for one in _WORST if one in self._found), "passed")
        before = self.tests.get(name)
        if before is not None:
            again = outcome in ("passed", "flaky") and before.outcome in ("failed", "flaky")
            outcome = "flaky" if again else min(outcome, before.outcome, key=_WORST.index)
            milliseconds += before.milliseconds
        elif len(self.tests) >= MOST:
            raise Refused(413, f"the file has more than {MOST} tests: upload it in parts")
        self.tests[name] = _Test(outcome, milliseconds)


def _told(tests: Mapping[str, _Test]) -> Iterator[Case]:
    """The slowest, and of those that failed and those that are flaky the first by name; each once, by name."""
    slowest = heapq.nsmallest(SLOWEST, tests, key=lambda name: (-tests[name].milliseconds, name))
    names = set(slowest)
    for outcome, most in (("failed", FAILED), ("flaky", FLAKY)):
        names.update(heapq.nsmallest(most, (name for name, test in tests.items() if test.outcome == outcome)))
    for name in sorted(names):
        yield Case(name=name, outcome=tests[name].outcome, milliseconds=tests[name].milliseconds)


def _digest(tests: Mapping[str, _Test]) -> str:
    names = sorted(name for name, test in tests.items() if test.outcome != "skipped")
    return hashlib.sha256("\0".join(names).encode()).hexdigest()[:32] if names else ""


def _milliseconds(written: str, where: str) -> int:
    """Surefire writes a thousand seconds as 1,000.0; some tools leave it empty. Raises Refused(422)."""
    written = written.strip()
    if not written:
        return 0
    if not _SECONDS.fullmatch(written) or not math.isfinite(value := float(written.replace(",", ""))) or value > 10**7:
        raise Refused(422, f"{where}: seconds such as 0.25 are needed, and this is {written:.40}")
    return round(value * 1000)


def _short(name: str) -> str:
    name = name.strip()
    if len(name) <= _LONGEST:
        return name
    return f"{name[:_LONGEST]}…{hashlib.sha256(name.encode()).hexdigest()[:8]}"

"""Coverage of code by tests: Cobertura's XML, or LCOV's text; which one, the content says. Pure.

https://github.com/cobertura/web/blob/master/htdocs/xml/coverage-04.dtd; geninfo(1) of LCOV, "FILES".
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from serinus.dora.facts import CoverageSays, Fact
from serinus.dora.intake.received import Headers, Refused, Secret, Telling, bearer, digest, refusing
from serinus.dora.intake.settings import Settings
from serinus.dora.intake.uploads import LARGEST, Tree, origin, walk

SOURCE = "coverage"

_COUNT = re.compile(r"[0-9]{1,15}")
_CONDITIONS = re.compile(r"[0-9.]+% ?\(([0-9]{1,9})/([0-9]{1,9})\)")
_LINE = re.compile(r"[0-9]{1,9},(-?[0-9]{1,20})(,.*)?")


@dataclass(slots=True)
class Counts:
    """None: not told."""

    lines: int | None = None
    lines_covered: int | None = None
    branches: int | None = None
    branches_covered: int | None = None


def verify(headers: Headers, body: bytes, secret: Secret) -> None:
    """Raises Refused(401) unless the token is there."""
    bearer(headers, secret)


def delivered(headers: Headers, body: bytes) -> str:
    """The file's digest. The fact's id is also of where it is from."""
    return digest(body)


@refusing
def facts(headers: Headers, body: bytes, settings: Settings) -> list[Fact]:
    """One fact. Raises Refused."""
    known, start = origin(headers, body), body[:2048].lstrip(b"\xef\xbb\xbf \t\r\n")
    found = _cobertura(body) if start.startswith((b"<", b"\xff\xfe", b"\xfe\xff")) else _lcov(body)
    if found.lines is None or found.lines_covered is None or found.lines_covered > found.lines:
        raise Refused(422, f"the file: {found.lines_covered} of {found.lines} lines are covered, which cannot be")
    if found.branches is not None and (found.branches_covered or 0) > found.branches:
        raise Refused(422, f"the file: {found.branches_covered} of {found.branches} branches are covered, which cannot be")
    says = CoverageSays(
        repository=known.repository,
        commit=known.commit,
        branch=known.branch,
        part=known.part,
        lines=found.lines,
        lines_covered=found.lines_covered,
        branches=found.branches,
        branches_covered=found.branches_covered,
    )
    telling = Telling(SOURCE, known.id)
    # Of one part of one commit the newest upload counts.
    telling.say(known.at, f"{known.repository}@{known.commit}/{known.part}", says)
    return telling.facts


def _cobertura(body: bytes) -> Counts:
    tree = _Cobertura()
    walk(body, tree)
    return tree.counts


class _Cobertura(Tree):
    """What stands at the head; where that is not there, the lines of the classes are counted."""

    def __init__(self) -> None:
        super().__init__()
        self._head = Counts()
        self._file = ""
        self._lines: dict[tuple[str, int], bool] = {}
        self._branches: dict[tuple[str, int], tuple[int, int]] = {}

    def began(self, way: tuple[str, ...], attributes: Mapping[str, str]) -> None:
        if len(way) == 1:
            if way[0] != "coverage":
                raise Refused(422, f"the file: Cobertura's <coverage> or LCOV is expected, and this is <{way[0]:.80}>")
            told = {
                name: _count(attributes[name], f"coverage.{name}")
                for name in ("lines-valid", "lines-covered", "branches-valid", "branches-covered")
                if name in attributes
            }
            self._head = Counts(*(told.get(name) for name in _HEAD))
        elif way[-1] == "class":
            self._file = attributes.get("filename", "")
        elif way[-3:] == ("class", "lines", "line") and not self._whole:
            self._line(attributes)

    def _line(self, attributes: Mapping[str, str]) -> None:
        at = self._file, _count(attributes.get("number", ""), "line.number")
        self._lines[at] = _count(attributes.get("hits", ""), "line.hits") > 0 or self._lines.get(at, False)
        if conditions := _CONDITIONS.fullmatch(attributes.get("condition-coverage", "")):
            self._branches[at] = int(conditions[1]), int(conditions[2])

    @property
    def _whole(self) -> bool:
        return self._head.lines is not None and self._head.lines_covered is not None

    @property
    def counts(self) -> Counts:
        """When the document has been walked."""
        if self._whole:
            return self._head
        branches = self._branches.values()
        return Counts(
            len(self._lines),
            sum(self._lines.values()),
            sum(whole for _, whole in branches) if branches else None,
            sum(covered for covered, _ in branches) if branches else None,
        )


_HEAD = ("lines-valid", "lines-covered", "branches-valid", "branches-covered")


@dataclass(slots=True)
class _File:
    """Of LCOV: what its lines say, and the counts that stand for them where there are none."""

    lines: dict[str, bool] = field(default_factory=dict)
    branches: dict[str, bool] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def of(self, told: Mapping[str, bool], whole: str, covered: str) -> tuple[int, int] | None:
        """(all, covered)"""
        if told:
            return len(told), sum(told.values())
        return (self.counts[whole], self.counts.get(covered, 0)) if whole in self.counts else None


def _lcov(body: bytes) -> Counts:
    if len(body) > LARGEST:
        raise Refused(413, f"the file has {len(body)} bytes; at most {LARGEST} are taken")
    files: dict[str, _File] = defaultdict(_File)
    one: _File | None = None
    for number, raw in enumerate(body.split(b"\n"), 1):
        try:
            kind, _, value = raw.decode().strip("\ufeff \r").partition(":")
        except UnicodeDecodeError:
            raise Refused(400, f"line {number}: it is not text in UTF-8; Cobertura's XML or LCOV is expected") from None
        if kind == "SF":
            one = files[value]
        elif kind == "end_of_record":
            one = None
        elif kind in _READ:
            if one is None:
                raise Refused(422, f"line {number}: {kind} stands in no file: SF is needed before it")
            _READ[kind](one, kind, value, number)
        elif not files and kind not in ("", "TN"):
            raise Refused(415, f"line {number}: Cobertura's XML or LCOV is expected, and this is neither")
    if not files:
        raise Refused(422, "the file is empty: Cobertura's XML or LCOV is expected")
    lines = [found for file in files.values() if (found := file.of(file.lines, "LF", "LH"))]
    branches = [found for file in files.values() if (found := file.of(file.branches, "BRF", "BRH"))]
    return Counts(
        sum(whole for whole, _ in lines),
        sum(covered for _, covered in lines),
        sum(whole for whole, _ in branches) if branches else None,
        sum(covered for _, covered in branches) if branches else None,
    )


def _da(file: _File, kind: str, value: str, number: int) -> None:
    """``DA:<line>,<hits>[,<checksum>]``"""
    found = _LINE.fullmatch(value)
    if found is None:
        raise Refused(422, f"line {number}: DA:<line>,<hits> is needed")
    line = value.partition(",")[0]
    file.lines[line] = int(found[1]) > 0 or file.lines.get(line, False)


def _brda(file: _File, kind: str, value: str, number: int) -> None:
    """``BRDA:<line>,<block>,<branch>,<taken>``, where - is never."""
    where, _, taken = value.rpartition(",")
    if where.count(",") < 2 or not (taken == "-" or _COUNT.fullmatch(taken)):
        raise Refused(422, f"line {number}: BRDA:<line>,<block>,<branch>,<taken> is needed")
    file.branches[where] = (taken != "-" and int(taken) > 0) or file.branches.get(where, False)


def _whole(file: _File, kind: str, value: str, number: int) -> None:
    file.counts[kind] = max(file.counts.get(kind, 0), _count(value, f"line {number}: {kind}"))


_READ = {"DA": _da, "BRDA": _brda, "LF": _whole, "LH": _whole, "BRF": _whole, "BRH": _whole}


def _count(written: str, where: str) -> int:
    if not _COUNT.fullmatch(written):
        raise Refused(422, f"{where}: a whole number is needed, and this is {written!r:.40}")
    return int(written)

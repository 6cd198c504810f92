"""What a pipeline uploads: a file as its tools write it, and beside it, in the query or in headers, where it is from. Pure.

``POST /ingest/junit?repository=acme/shop&commit=4f1c…&suite=unit`` and ``X-Serinus-Suite: unit`` say the same. A file says not,
or in too many ways, when it was made: without ``at`` the moment at which it was received counts, which the service tells.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl
from xml.parsers.expat import ExpatError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser
from pydantic import TypeAdapter, ValidationError

from serinus.dora.intake.received import Headers, Refused, When, content_type, digest, header
from serinus.dora.repository import canonical

#: Bytes of a file that is read.
LARGEST = 8 * 1024 * 1024
#: Elements inside one another.
DEEPEST = 64
#: Elements of one file.
ELEMENTS = 500_000
#: Where an upload says what it is of, and what the service adds.
NAMES = ("repository", "commit", "branch", "run", "job", "suite", "part", "at")
RECEIVED = "X-Serinus-Received"
HEADERS = ("Content-Type", *(f"X-Serinus-{name.title()}" for name in NAMES), RECEIVED)

_COMMIT = re.compile(r"[0-9a-fA-F]{7,64}")
_WHEN: TypeAdapter[datetime] = TypeAdapter(When)
_LONGEST = 512


def headers_of(query: str, headers: Mapping[str, str], received: str) -> dict[str, str]:
    """The headers with what the query says, which counts more; `received` in RFC 3339.

    Raises Refused(422) for a name twice, and for one that there is not: a misspelt ``comit`` would be left out in silence.
    """
    found = {name: value for name, value in headers.items() if name.lower() != RECEIVED.lower()}
    seen: set[str] = set()
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=50)
    except ValueError:
        raise Refused(422, "the query has more than 50 fields") from None
    for name, value in pairs:
        if name not in NAMES or name in seen:
            raise Refused(422, f"{name!r:.80} is {'twice in' if name in seen else 'nothing that is known of'} the query")
        seen.add(name)
        found = {known: said for known, said in found.items() if known.lower() != f"x-serinus-{name}"}
        found[f"X-Serinus-{name.title()}"] = value
    return {**found, RECEIVED: received}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an upload is from. `id`: of this very upload."""

    id: str
    at: datetime
    repository: str
    commit: str
    branch: str
    run: str
    job: str
    suite: str
    part: str


def origin(headers: Headers, body: bytes) -> Origin:
    """From what is beside the body. Raises Refused(415), and (422) that names what is missing or wrong, and what to do."""
    if content_type(headers).startswith("multipart/"):
        raise Refused(415, "the file itself is the body, as curl --data-binary @file sends it; a form is not read")
    said = {name: header(headers, f"X-Serinus-{name}").strip() for name in NAMES}
    for name, value in said.items():
        if len(value) > _LONGEST or not value.isprintable():
            raise Refused(422, f"{name}: a text of at most {_LONGEST} characters is needed")
    repository = canonical(said["repository"])
    if not repository:
        raise Refused(422, "repository: needed, as in ?repository=github.com/acme/shop (or the header X-Serinus-Repository)")
    if not _COMMIT.fullmatch(said["commit"]):
        raise Refused(422, "commit: a commit's hash is needed, as in ?commit=4f1c0de… (or the header X-Serinus-Commit)")
    name = digest("\0".join([*(said[one] for one in NAMES if one != "at"), digest(body)]).encode())
    at = moment(said["at"] or header(headers, RECEIVED), "at")
    return Origin(
        name, at, repository, said["commit"].lower(), said["branch"], said["run"], said["job"], said["suite"], said["part"]
    )


def moment(written: str, where: str) -> datetime:
    """Raises Refused(422)."""
    try:
        return _WHEN.validate_python(written)
    except ValidationError:
        raise Refused(422, f"{where}: a moment with its offset is needed, such as 2026-11-27T09:00:00Z") from None


class Tree:
    """What happens in an XML document, one element after another; nothing is kept of it here.

    Subclasses have `began` and `ended`, with the way to the element: ``("testsuites", "testsuite")``.
    """

    def __init__(self) -> None:
        self._way: list[str] = []
        self._left = ELEMENTS

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """For the parser."""
        self._left -= 1
        if self._left < 0:
            raise Refused(413, f"the file has more than {ELEMENTS} elements: upload it in parts")
        self._way.append(tag.rpartition("}")[2])
        if len(self._way) > DEEPEST:
            raise Refused(400, f"the file is nested deeper than {DEEPEST} levels")
        self.began(tuple(self._way), attributes)

    def end(self, _: str) -> None:
        """For the parser."""
        self.ended(tuple(self._way))
        self._way.pop()

    def close(self) -> None:
        """For the parser."""

    def began(self, way: tuple[str, ...], attributes: Mapping[str, str]) -> None:
        """An element begins."""
        raise NotImplementedError

    def ended(self, way: tuple[str, ...]) -> None:
        """An element is over."""


def walk(body: bytes, tree: Tree) -> None:
    """Through the document, without entities, of which a few lines can make gigabytes, and with nothing loaded from elsewhere.

    A DOCTYPE is read over: Cobertura's has one. Raises Refused(400), (413).
    """
    if len(body) > LARGEST:
        raise Refused(413, f"the file has {len(body)} bytes; at most {LARGEST} are taken")
    parser: Any = DefusedXMLParser(target=tree, forbid_dtd=False, forbid_entities=True, forbid_external=True)
    try:
        for start in range(0, len(body), 65536):
            parser.feed(body[start : start + 65536])
        parser.close()
    except DefusedXmlException:
        raise Refused(400, "the file declares entities, which are not taken: write what they stand for") from None
    except (ExpatError, SyntaxError, ValueError, LookupError) as wrong:
        raise Refused(400, f"the file is no XML: {wrong}") from None

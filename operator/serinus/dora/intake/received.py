"""What was received over HTTP: bounded, parsed, verified, and told as facts or refused. Pure: no clock, no I/O.

Bodies are hostile until shown otherwise. Whatever they hold, reading them gives facts or `Refused`, and nothing else.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import wraps
from typing import Annotated, Any, Literal, NoReturn, ParamSpec, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from serinus.dora.facts import Fact, Says

Headers = Mapping[str, str]
Secret = str | bytes

#: Bytes of a body that is read.
LARGEST = 1024 * 1024
#: Lists and objects inside one another.
DEEPEST = 64
#: Digits of a whole number: enough for nanoseconds and for any tool's ids.
_DIGITS = 20
#: Faults among which the first is looked for: to write out a million takes seconds.
_ERRORS = 1000
#: A sentence that goes back to the sender.
_REASON = 300
_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_GITLAB_TIME = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d+)?) (UTC|[+-]\d{4})")
#: Moments outside of this are nobody's clock, and do not fit everywhere.
YEARS = range(1970, 2262)
#: Go's zero time, by which Alertmanager says that there is none.
_ZERO = "0001-01-01T00:00:00Z"


class Refused(Exception):
    """The request is at fault. `status` is HTTP's, `reason` one sentence for whoever sent it.

    400: no JSON that can be taken; 401: not signed, or not by the secret; 413: too large; 415: another content type is needed;
    422: a field that is missing or wrong, which the sentence names.
    """

    def __init__(self, status: Literal[400, 401, 413, 415, 422], reason: str) -> None:
        reason = reason if reason.isprintable() else ascii(reason)[1:-1]
        super().__init__(f"{status}: {reason[:_REASON]}")
        self.status = status
        self.reason = reason[:_REASON]


# --- JSON


def bounded(body: bytes, largest: int = LARGEST) -> None:
    """Raises Refused(413) for more than `largest` bytes."""
    if len(body) > largest:
        raise Refused(413, f"the body has {len(body)} bytes; at most {largest} are taken")


def parse(body: bytes) -> Any:
    """The JSON value. Raises Refused(413) above `LARGEST`, and Refused(400) for what cannot be taken.

    That is what is no JSON in UTF-8 (RFC 8259), NaN and Infinity, a name twice in one object, numbers past all use, more than
    `DEEPEST` levels, and NUL and halves of characters, which no store takes.
    """
    bounded(body)
    try:
        value = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_object,
            parse_int=_whole,
            parse_float=_fraction,
            parse_constant=_constant,
        )
    except UnicodeDecodeError:
        raise Refused(400, "the body is not text in UTF-8") from None
    except RecursionError:
        raise Refused(400, f"the body is nested deeper than {DEEPEST} levels") from None
    except ValueError as failure:
        raise Refused(400, f"the body is no JSON: {failure}") from None
    _look(value)
    return value


def mapping(value: Any, where: str = "the body") -> dict[str, Any]:
    """`value`, if it is an object. Raises Refused(422)."""
    if not isinstance(value, dict):
        raise Refused(422, f"{where}: expected an object, and this is {_kind(value)}")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise Refused(400, f"{twice!r:.80} is twice in one object")
    return found


def _whole(text: str) -> int:
    if len(text) > _DIGITS:
        raise Refused(400, f"a number has more than {_DIGITS} digits")
    return int(text)


def _fraction(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise Refused(400, f"{text:.40} is larger than any number here")
    return value


def _constant(text: str) -> NoReturn:
    raise Refused(400, f"{text} is no JSON")


def _look(value: Any) -> None:
    """Without recursion, so that no body can exhaust the stack."""
    level = [value]
    for _ in range(DEEPEST + 1):
        below: list[Any] = []
        for one in level:
            if isinstance(one, str):
                _text(one)
            elif isinstance(one, list):
                below.extend(one)
            elif isinstance(one, dict):
                below.extend(one)
                below.extend(one.values())
        if not below:
            return
        level = below
    raise Refused(400, f"the body is nested deeper than {DEEPEST} levels")


def _text(text: str) -> None:
    if "\0" in text:
        raise Refused(400, "a text holds the character NUL")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Refused(400, "a text holds half of a surrogate pair") from None


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", int: "a number", float: "a number"}
    return kinds.get(type(value), "null")


# --- fields


def _when(value: Any) -> Any:
    if not isinstance(value, str) or len(value) > 64:
        raise ValueError("a moment such as 2026-11-27T09:00:00Z is needed")
    spaced = _GITLAB_TIME.fullmatch(value)
    text = f"{spaced[1]}T{spaced[2]}{spaced[3].replace('UTC', '+0000')}" if spaced else value
    try:
        moment = datetime.fromisoformat(text)
        offset = moment.utcoffset()
    except ValueError:
        raise ValueError("a moment such as 2026-11-27T09:00:00Z is needed") from None
    if offset is None:
        raise ValueError("a moment needs its offset from UTC, as in 2026-11-27T09:00:00Z")
    if moment.year not in YEARS:
        raise ValueError(f"a moment must be between {YEARS.start} and {YEARS.stop - 1}")
    return moment.astimezone(UTC)


def _perhaps(value: Any) -> Any:
    return None if value in (None, "", _ZERO) else _when(value)


#: RFC 3339 as most tools write it, and ``2016-08-12 15:23:28 UTC`` and ``2021-04-28 21:50:00 +0200`` as GitLab does.
When = Annotated[datetime, BeforeValidator(_when)]
#: The same, or none: null, '' and Go's zero time.
Perhaps = Annotated[datetime | None, BeforeValidator(_perhaps)]
#: A text, and null is none.
Text = Annotated[str, BeforeValidator(lambda value: "" if value is None else value)]


def at_most(limit: int) -> BeforeValidator:
    """Counts a list's or an object's members before they are looked at: a million empty ones are a short body."""

    def counted(value: Any) -> Any:
        if isinstance(value, list | dict) and len(value) > limit:
            raise ValueError(f"at most {limit} are taken, and there are {len(value)}")
        return value

    return BeforeValidator(counted)


class Payload(BaseModel):
    """The fields of a foreign body that are read here. Others are nobody's business; a wrong type is refused, not bent."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


P = TypeVar("P", bound=BaseModel)


def read(kind: type[P], value: Any, where: str = "") -> P:
    """`value` as `kind`. Raises Refused(422) that names the first field that is not as it should be; `where` is put before it."""
    try:
        return kind.model_validate(mapping(value, where or "the body"))
    except ValidationError as failure:
        raise wrong(failure, where) from None


def wrong(failure: ValidationError, where: str = "") -> Refused:
    """The first error of a model as the refusal that its sender gets."""
    if failure.error_count() > _ERRORS:
        return Refused(422, f"{where or 'the body'}: {failure.error_count()} fields are missing or wrong")
    first = failure.errors(include_url=False, include_context=False)[0]
    field = ".".join(str(part) for part in ((where,) if where else ()) + first["loc"])
    given = "" if first["type"] == "missing" else f", and this is {_kind(first['input'])}"
    return Refused(422, f"{field or 'the body'}: {first['msg'].removeprefix('Value error, ')}{given}")


Args = ParamSpec("Args")
R = TypeVar("R")


def refusing(function: Callable[Args, R]) -> Callable[Args, R]:
    """`function`, which raises Refused(422) where no fact can hold what a payload says, such as a name of a thousand letters."""

    @wraps(function)
    def told(*args: Args.args, **kwargs: Args.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except ValidationError as failure:
            raise wrong(failure) from None

    return told


# --- who sent it


def header(headers: Headers, name: str) -> str:
    """The value of a header, whatever its case; '' without one."""
    name = name.lower()
    return next((value for key, value in headers.items() if key.lower() == name), "")


def content_type(headers: Headers) -> str:
    """Without parameters, in small letters."""
    return header(headers, "Content-Type").partition(";")[0].strip().lower()


def same(given: str, expected: Secret) -> bool:
    """In a time that does not tell how much of it was right."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), _bytes(expected))


def signature(body: bytes, secret: Secret) -> str:
    """HMAC-SHA256 (RFC 2104) in hex."""
    return hmac.new(_bytes(secret), body, hashlib.sha256).hexdigest()


def bearer(headers: Headers, secret: Secret) -> None:
    """Raises Refused(401) unless ``Authorization: Bearer <secret>`` (RFC 6750, section 2.1) is there."""
    configured(secret)
    scheme, _, token = header(headers, "Authorization").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Refused(401, "the header Authorization: Bearer <token> is needed")
    if not same(token.strip(), secret):
        raise Refused(401, "the token in Authorization is not the one that was configured")


def configured(secret: Secret) -> None:
    """An empty secret lets nobody in: otherwise a variable that was forgotten would let everybody in. Raises Refused(401)."""
    if not secret:
        raise Refused(401, "no secret is configured for this source")


def _bytes(secret: Secret) -> bytes:
    return secret.encode("utf-8", "surrogatepass") if isinstance(secret, str) else secret


# --- what it says


def digest(body: bytes) -> str:
    """By which a repeat is known where the sender gives no id."""
    return hashlib.sha256(body).hexdigest()


def delivery(headers: Headers, name: str) -> str:
    """The id that the header `name` holds; '' for none, and for what nobody would take for one."""
    found = header(headers, name)
    return found if _ID.fullmatch(found) else ""


class Telling:
    """The facts of one delivery, numbered by their order, so that the same delivery gives the same ids."""

    def __init__(self, source: str, delivery: str) -> None:
        self._source = source
        self._delivery = delivery
        self.facts: list[Fact] = []

    def say(self, at: datetime, key: str, says: Says) -> None:
        """Raises ValidationError for what is no fact."""
        self.put(f"{self._delivery}/{len(self.facts)}" if self.facts else self._delivery, at, key, says)

    def put(self, id: str, at: datetime, key: str, says: Says) -> None:  # noqa: A002
        """The same, where the source has an id of its own for it."""
        self.facts.append(Fact.of(self._source, id, at, key, says))

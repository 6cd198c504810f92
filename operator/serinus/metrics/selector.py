"""PromQL's plain vector selectors, and the difference of two of them: parsed, matched and written back. Pure.

Only what can be asked for many canaries by one query, or read from an exposition, without knowing PromQL: ``name{label="value"}``
and ``a{...} - ignoring(le) b{...}``. Everything else is left to Prometheus, so `parse` gives None for it.

Syntax: https://prometheus.io/docs/prometheus/latest/querying/basics/; regular expressions: https://github.com/google/re2/wiki/Syntax.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

Op = Literal["=", "!=", "=~", "!~"]

#: The label that holds a metric's name.
NAME = "__name__"

_METRIC = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")
_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: Words that PromQL does not take for a metric's name.
_NO_METRIC = frozenset({"inf", "nan", "on", "ignoring", "group_left", "group_right", "bool", "atan2"})
#: How long an expression may be; each is parsed on the operator's only thread.
_LONGEST = 8192


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on one label. `value` is unescaped; a label that is not there counts as ''."""

    label: str
    op: Op
    value: str

    def matches(self, value: str) -> bool:
        """Whether a series whose label has `value` is meant. Regular expressions are anchored, as Prometheus anchors them."""
        if self.op == "=":
            return value == self.value
        if self.op == "!=":
            return value != self.value
        return (compiled(self.value).fullmatch(value) is not None) == (self.op == "=~")

    def __str__(self) -> str:
        return f"{_label(self.label)}{self.op}{quoted(self.value)}"


@dataclass(frozen=True, slots=True)
class Selector:
    """``name{matchers}``. `name` is '' where only matchers say what is meant."""

    name: str
    matchers: tuple[Matcher, ...] = ()
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash((self.name, self.matchers)))

    def __hash__(self) -> int:
        # Asks are keys of dictionaries, thousands of times a second.
        return self._hash

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether the series with these labels is selected. The name is compared with the label ``__name__``."""
        if self.name and labels.get(NAME, "") != self.name:
            return False
        return all(matcher.matches(labels.get(matcher.label, "")) for matcher in self.matchers)

    def __str__(self) -> str:
        matchers = ",".join(map(str, self.matchers))
        if self.name and not _METRIC.fullmatch(self.name):
            # Prometheus 3 only; what was parsed came from there.
            return f"{{{quoted(self.name)}{',' if matchers else ''}{matchers}}}"
        return f"{self.name}{{{matchers}}}" if matchers else self.name


@dataclass(frozen=True, slots=True)
class Difference:
    """``minuend - ignoring(labels) subtrahend``: pairs of series that are alike but for the ignored labels and the name.

    A series of one side without its partner gives nothing. The result has neither the name nor the ignored labels.
    """

    minuend: Selector
    subtrahend: Selector
    ignoring: tuple[str, ...] = ()
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash((self.minuend, self.subtrahend, self.ignoring)))

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        ignoring = f" ignoring({', '.join(map(_label, self.ignoring))})" if self.ignoring else ""
        return f"{self.minuend} -{ignoring} {self.subtrahend}"


Expression = Selector | Difference


@lru_cache(maxsize=16384)
def parse(text: str) -> Expression | None:
    """`text` as a selector or a difference of two, or None for everything else.

    None also for what Prometheus would refuse, and for regular expressions that Python's `re` could read otherwise than RE2 or
    slowly: Prometheus has to answer those itself.
    """
    if len(text) > _LONGEST:
        return None
    try:
        return _Reader(text).expression()
    except _NotPlainError:
        return None


@lru_cache(maxsize=32768)
def compiled(pattern: str) -> re.Pattern[str]:
    """`pattern` for Python. Dots match line breaks and classes are ASCII, as in Prometheus 3."""
    return re.compile(pattern, re.ASCII | re.DOTALL)


def quoted(value: str) -> str:
    """`value` as a string of PromQL in double quotes."""
    if value.isprintable():
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return '"' + "".join(_ESCAPED.get(c) or (c if c.isprintable() else _code(c)) for c in value) + '"'


_ESCAPED = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _code(character: str) -> str:
    number = ord(character)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _label(name: str) -> str:
    return name if _LABEL.fullmatch(name) else quoted(name)


class _NotPlainError(Exception):
    """What stands there is not a plain selector."""


_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*(?:\n|\Z))*")
_OP = re.compile(r"=~|!~|!=|=")
_SIMPLE_ESCAPE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", "'": "'", '"': '"'}
_CODED_ESCAPE = re.compile(r"x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([0-7]{3})")


class _Reader:
    """Reads one text from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._space()

    def expression(self) -> Expression:
        minuend = self._selector()
        if self._at == len(self._text):
            return minuend
        self._expect("-")
        ignoring: tuple[str, ...] = ()
        if self._word(_METRIC, peek=True).lower() == "ignoring":
            self._word(_METRIC)
            ignoring = self._ignoring()
        subtrahend = self._selector()
        if self._at != len(self._text):
            raise _NotPlainError
        return Difference(minuend, subtrahend, ignoring)

    def _ignoring(self) -> tuple[str, ...]:
        self._expect("(")
        labels = []
        while not self._take(")"):
            labels.append(self._string() if self._peek() in ('"', "'", "`") else self._word(_LABEL))
            if self._peek() != ")":
                self._expect(",")
        return tuple(labels)

    def _selector(self) -> Selector:
        name = self._word(_METRIC, peek=True)
        if name:
            self._word(_METRIC)
        if name.lower() in _NO_METRIC or (not name and self._peek() != "{"):
            raise _NotPlainError
        matchers: list[Matcher] = []
        if self._take("{"):
            while not self._take("}"):
                quoted_name = self._matcher(matchers)
                if quoted_name:
                    if name:
                        raise _NotPlainError
                    name = quoted_name
                if self._peek() != "}":
                    self._expect(",")
        return _checked(name, matchers)

    def _matcher(self, matchers: list[Matcher]) -> str:
        """Reads one matcher into `matchers`, or gives the name that stands there in quotes."""
        is_quoted = self._peek() in ('"', "'", "`")
        label = self._string() if is_quoted else self._word(_LABEL)
        if is_quoted and self._peek() in (",", "}"):
            if not label:
                raise _NotPlainError
            return label
        match = _OP.match(self._text, self._at)
        if not match or not label:
            raise _NotPlainError
        self._at = match.end()
        self._space()
        op, value = match.group(), self._string()
        if op in ("=~", "!~"):
            value = readable(value)
        matchers.append(Matcher(label, op, value))  # type: ignore[arg-type]  # one of _OP's
        return ""

    def _string(self) -> str:
        quote = self._peek()
        if quote not in ('"', "'", "`"):
            raise _NotPlainError
        parts = []
        self._at += 1
        while (character := self._text[self._at : self._at + 1]) != quote:
            if not character or (character == "\n" and quote != "`"):
                raise _NotPlainError
            self._at += 1
            parts.append(self._escape(quote) if character == "\\" and quote != "`" else character)
        self._at += 1
        self._space()
        return "".join(parts)

    def _escape(self, quote: str) -> str:
        """What stands after a backslash. PromQL has Go's escapes; bytes that are not ASCII are left alone."""
        character = self._text[self._at : self._at + 1]
        if character in _SIMPLE_ESCAPE and not (character in ("'", '"') and character != quote):
            self._at += 1
            return _SIMPLE_ESCAPE[character]
        match = _CODED_ESCAPE.match(self._text, self._at)
        if not match:
            raise _NotPlainError
        self._at = match.end()
        code = int(match[4], 8) if match[4] else int(match[1] or match[2] or match[3], 16)
        byte = match[1] or match[4]
        if code > (0x7F if byte else 0x10FFFF) or 0xD800 <= code < 0xE000:
            raise _NotPlainError
        return chr(code)

    def _word(self, shape: re.Pattern[str], peek: bool = False) -> str:
        match = shape.match(self._text, self._at)
        if peek:
            return match.group() if match else ""
        if not match:
            raise _NotPlainError
        self._at = match.end()
        self._space()
        return match.group()

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self, character: str) -> bool:
        if self._peek() != character:
            return False
        self._at += 1
        self._space()
        return True

    def _expect(self, character: str) -> None:
        if not self._take(character):
            raise _NotPlainError

    def _space(self) -> None:
        match = _SPACE.match(self._text, self._at)
        self._at = match.end() if match else self._at


def _checked(name: str, matchers: list[Matcher]) -> Selector:
    """Prometheus' own checks, and ``__name__="x"`` as the name it is."""
    named = [matcher for matcher in matchers if matcher.label == NAME]
    if name and named:
        raise _NotPlainError
    if len(named) == 1 and named[0].op == "=" and named[0].value:
        name = named[0].value
        matchers = [matcher for matcher in matchers if matcher.label != NAME]
    if not name and all(matcher.matches("") for matcher in matchers):
        raise _NotPlainError
    return Selector(name, tuple(matchers))


# --- Regular expressions ------------------------------------------------------------------------------------------------

_FLAGS = re.compile(r"\(\?([is]+)\)")
_QUANTIFIER = re.compile(r"[*+?]|\{(\d{1,4})(?:(,)(\d{0,4}))?\}")
_ATOM = re.compile(
    r"\\[dDwW]"
    r"|\\[!-/:-@\[-`{-~]"  # punctuation stands for itself
    r"|\[\^?(?:\\[dDwW]|\\[!-/:-@\[-`{-~]|[^\\\[\]])+\]"
    r"|[^\\\[\](){}*+?|]"
)
_SETS = re.compile(r"--|&&|~~|\|\|")
_OPEN = re.compile(r"\((?:\?(?:[is]+)?:)?(?!\?)")
#: Steps of backtracking that one value may cost, at worst and roughly. Without a limit ``(a+)+b`` could take for ever.
_DEAREST = 300_000
_LONG_RUN = 64
_MOST_REPEATS = 1000


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a regular expression that cannot be cut; `literal` is the one character it stands for, if it is that."""

    text: str
    literal: str = ""
    quantifier: str = ""


@lru_cache(maxsize=32768)
def tokens(pattern: str) -> tuple[Token, ...]:
    """`pattern`, as `readable` gave it, cut where nothing is torn apart; one token where it has alternatives on its top level."""
    found: list[Token] = []
    alternatives = False
    for token, depth in _walk(pattern):
        if depth:
            found[-1] = Token(found[-1].text + token.text)
        elif token.text == "|":
            alternatives = True
        else:
            found.append(token)
    return (Token(f"(?:{pattern})"),) if alternatives else tuple(found)


def readable(pattern: str) -> str:
    """`pattern` with leading flags as a group of its own, so that it can stand beside others.

    Raises _NotPlainError unless `re` and RE2 read it alike and `re` answers soon.
    """
    flags = _FLAGS.match(pattern)
    if flags:
        pattern = f"(?{flags[1]}:{pattern[flags.end() :]})"
    cost, branches, skeleton = 1, [1], [""]
    for token, _ in _walk(pattern):
        # Names of Services do not decide whether a pattern is one, and there are many of them to compile.
        if not token.literal or skeleton[-1] != "x":
            skeleton.append("x" if token.literal else token.text)
        cost *= _ways(token.quantifier) if token.quantifier else 1
        if token.text.startswith("("):
            branches.append(1)
        elif token.text == "|":
            branches[-1] += 1
        elif token.text.startswith(")"):
            cost *= branches.pop()
    if cost * branches[0] > _DEAREST:
        raise _NotPlainError
    try:
        compiled("".join(skeleton))
    except (re.error, OverflowError, RecursionError):
        raise _NotPlainError from None
    return pattern


def _walk(pattern: str) -> Iterator[tuple[Token, int]]:
    """Every atom with its quantifier, every bracket and every bar, and whether it goes on with what is open (its depth)."""
    at, depth = 0, 0
    while at < len(pattern):
        opening = _OPEN.match(pattern, at)
        if opening:
            yield Token(opening.group()), depth
            depth, at = depth + 1, opening.end()
            continue
        if pattern[at] == "|":
            yield Token("|"), depth
            at += 1
            continue
        closing = pattern[at] == ")"
        atom = None if closing else _ATOM.match(pattern, at)
        if (closing and depth == 0) or (not closing and (atom is None or _odd(atom.group()))):
            raise _NotPlainError
        end = at + 1 if atom is None else atom.end()
        quantifier = _QUANTIFIER.match(pattern, end)
        text = pattern[at:end]
        if quantifier:
            # A group may be there or not; repeated groups are where backtracking runs away.
            if text in ("^", "$") or (closing and quantifier.group() != "?"):
                raise _NotPlainError
            end = quantifier.end() + (pattern[quantifier.end() : quantifier.end() + 1] == "?")
            if pattern[end : end + 1] in ("*", "+", "?", "{"):
                raise _NotPlainError
        yield Token(pattern[at:end], "" if quantifier else _literal(text), quantifier.group() if quantifier else ""), depth
        depth -= closing
        at = end
    if depth:
        raise _NotPlainError


def _odd(atom: str) -> bool:
    """A class that Python warns about, because it may mean something else one day."""
    return atom[0] == "[" and _SETS.search(atom, 1) is not None


def _literal(atom: str) -> str:
    if len(atom) == 1:
        return "" if atom in ".^$)" else atom
    return atom[1] if atom[0] == "\\" and atom[1] not in "dDwW" and len(atom) == 2 else ""


def _ways(quantifier: str) -> int:
    """How many ways a quantifier leaves open, about."""
    if quantifier in ("*", "+"):
        return _LONG_RUN
    if quantifier == "?":
        return 2
    least, comma, most = quantifier[1:-1].partition(",")
    if max(int(least), int(most or 0)) > _MOST_REPEATS:
        raise _NotPlainError
    return _LONG_RUN if comma and not most else max(1, int(most or least) - int(least) + 1)

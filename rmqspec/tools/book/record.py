"""The run record: what one run of pytest has shown, on one broker, as a file that is read without either.

A record is JSON Lines in UTF-8: one object a line, its ``kind`` first. A line is written when its fact is known, so a
run that is interrupted leaves a file that is whole up to there. Schema 1::

    header   the first line: ``schema`` is 1; ``product``, ``version``, ``erlang`` of the broker, its ``source`` (url,
             container, node, package) and ``description``, its enabled ``features`` and ``plugins`` (empty where the
             broker has no management API); ``clients`` as {name: version}; ``python``; ``started``
    chapter  before its first spec: ``name``, ``path``, ``number`` (null where it has none), ``part`` (its directory),
             ``title`` and ``prose`` of its docstring, ``spec`` and ``code`` as that docstring lists them
    spec     ``id``, a stable name; ``node``, as pytest calls it; ``chapter``, by name; ``subject`` and ``about``, its
             class and what that says of itself; ``sentence``; ``case``, if it has several; ``behaviours``, by their ids
             in the catalogue; ``since`` and ``before``, the versions in which this is so, such as "4.0", empty where
             there is no such bound; ``why``, its docstring; ``outcome``, one of five, and the ``reason`` for any but
             "passed"; ``seconds`` that its body took, without setup and teardown; its ``source``; ``frames``; and
             ``left_out``, how many of them are missing in their middle: not more than 400 are kept
    footer   the last line: ``outcomes`` as {outcome: count}, ``seconds``, ``finished``. Without one the run was cut off

A frame has ``at`` (seconds since its test began), ``connection`` (its name), ``channel``, ``from`` (client or broker),
``method``, the ``fields`` that matter, ``body`` (an excerpt of 200 bytes at most: text, or hexadecimal digits behind
``0x``) and ``size`` (bytes of the whole body). Times of day are UTC. No password is in a record.

Readers pass over kinds and keys that they do not know. What changes the meaning of one that is here changes the number
of the schema.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias, get_args

from rmqspec.tools.wire.recorder import Event

__all__ = ["SCHEMA", "Chapter", "Footer", "Header", "Line", "NoRecord", "Outcome", "Record", "Spec", "read"]

SCHEMA = 1

Outcome = Literal["passed", "failed", "not in this version", "not run", "broker not reached"]


class NoRecord(Exception):
    """A file is no run record that can be read here; the text is a sentence for a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """On what a run was made, and when."""

    kind: ClassVar = "header"
    schema: int = SCHEMA
    product: str
    version: str
    erlang: str
    source: str
    description: str
    features: Sequence[str] = ()
    plugins: Sequence[str] = ()
    clients: Mapping[str, str]
    python: str
    started: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """A file of tests, by its docstring."""

    kind: ClassVar = "chapter"
    name: str
    path: str
    number: int | None
    part: str
    title: str
    prose: str = ""
    spec: Sequence[str] = ()
    code: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A test: what it says, how it ended, and what went over the wire."""

    kind: ClassVar = "spec"
    id: str
    node: str
    chapter: str
    subject: str
    about: str = ""
    sentence: str
    case: str = ""
    behaviours: Sequence[str] = ()
    since: str = ""
    before: str = ""
    why: str = ""
    outcome: Outcome
    reason: str = ""
    seconds: float
    source: str = ""
    frames: Sequence[Event] = ()
    left_out: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Footer:
    """How a run ended."""

    kind: ClassVar = "footer"
    outcomes: Mapping[Outcome, int]
    seconds: float
    finished: str


Line: TypeAlias = Header | Chapter | Spec | Footer
KINDS: Mapping[str, type[Line]] = {line.kind: line for line in (Header, Chapter, Spec, Footer)}
KEYS = {field.name: {"sender": "from"}.get(field.name, field.name) for field in fields(Event)}  # of a frame


@dataclass(frozen=True, slots=True)
class Record:
    """All that a file holds, in its order."""

    header: Header
    chapters: Sequence[Chapter]
    specs: Sequence[Spec]
    footer: Footer | None

    @property
    def cut_off(self) -> bool:
        """Whether the run did not come to its end, or its file is not whole: what is here is true, and not all."""
        return self.footer is None


def read(path: str | PathLike[str]) -> Record:
    """Reads a record; one that was cut off up to the last line that is whole.

    Raises:
        NoRecord: The file cannot be read, is something else, holds several runs, or is of a newer schema.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise NoRecord(f"{path} cannot be read ({error.strerror}): name a file that pytest --record wrote") from error
    lines = list(_whole_lines(raw))
    if not lines or not isinstance(header := lines[0], Header):
        raise NoRecord(f"{path} is no run record: name a file that pytest --record wrote")
    if header.schema > SCHEMA:
        words = f"{path} is a record of schema {header.schema}, and {SCHEMA} is the last that is known here"
        raise NoRecord(f"{words}: install a newer rmqspec")
    if any(isinstance(line, Header) for line in lines[1:]):
        raise NoRecord(f"{path} holds more than one run: name a file with one, as pytest --record wrote it")
    chapters = [line for line in lines if isinstance(line, Chapter)]
    specs = [line for line in lines if isinstance(line, Spec)]
    footer = lines[-1] if isinstance(lines[-1], Footer) else None
    return Record(header, tuple(chapters), tuple(specs), footer)


def to_plain(line: Line) -> dict[str, Any]:
    """A line as JSON has it."""
    plain = {"kind": line.kind, **{field.name: getattr(line, field.name) for field in fields(line)}}
    if isinstance(line, Spec):
        plain["frames"] = [{key: getattr(event, name) for name, key in KEYS.items()} for event in line.frames]
    return plain


def from_plain(plain: Mapping[str, Any]) -> Line | None:
    """The line that ``to_plain`` made into this; None if its kind is unknown.

    Raises:
        TypeError: Keys are missing, or a value is of another type than its key has.
    """
    kind = KINDS.get(plain["kind"])
    if kind is None:
        return None
    for field in fields(kind):
        if field.name in plain and not IS_ONE.get(str(field.type), _is_any)(plain[field.name]):
            raise TypeError(f"{field.name} is no {field.type}")
    known = {field.name: _frozen(plain[field.name]) for field in fields(kind) if field.name in plain}
    if kind is Spec:
        known["frames"] = tuple(_event(frame) for frame in plain.get("frames", ()))
    return kind(**known)


def _is_any(_: object) -> bool:
    return True


IS_ONE: Mapping[str, Callable[[Any], bool]] = {  # by the types of the fields, as they are written above
    "str": lambda value: isinstance(value, str),
    "int": lambda value: isinstance(value, int),
    "Outcome": lambda value: isinstance(value, str) and value in get_args(Outcome),
    "Sequence[str]": lambda value: isinstance(value, list) and all(isinstance(one, str) for one in value),
}


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _event(frame: Mapping[str, Any]) -> Event:
    return Event(**{name: frame[key] for name, key in KEYS.items() if key in frame})


def _whole_lines(raw: bytes) -> Iterator[Line]:
    """Up to the first that is broken: behind it nothing is to be relied on."""
    for text in raw.splitlines(keepends=True):
        try:
            line = from_plain(json.loads(text)) if text.endswith(b"\n") else None
        except (ValueError, TypeError, LookupError):
            return
        if line is not None:
            yield line

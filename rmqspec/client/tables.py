"""Field tables: the headers of a message and the arguments of a method, as Python's values and as bytes.

A value is a letter for its type and its bytes. RabbitMQ reads the letters in its own way, and so does this::

    t  bool                     I  int of 4 bytes           S  str (UTF-8)        T  datetime, from seconds since 1970
    b  int of 1 byte            i  the same, unsigned       x  bytes              D  Decimal
    B  the same, unsigned       l  int of 8 bytes           A  list               V  None
    s  int of 2 bytes           L  the same                 F  dict
    u  the same, unsigned       f  float of 4 bytes
    U  int of 2 bytes           d  float of 8 bytes

Whatever is read can be written again, and is the same bytes: so a message that is published again has the headers that
it came with. Where Python's own type does not say how a value was written, the value is of a subclass that does
(``Integer``, ``Float``); it equals, prints and computes like any other. What has no value in Python is ``Undecoded``:
the bytes themselves. To read never fails, and takes time in proportion to the bytes.

Source: https://www.rabbitmq.com/amqp-0-9-1-errata#section_3, and rabbit_binary_parser.erl in
https://github.com/rabbitmq/rabbitmq-server
"""

from __future__ import annotations

import struct
from calendar import timegm
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from math import isfinite
from typing import Any

from pika.compat import long

__all__ = [
    "DEEPEST",
    "NAMES",
    "Float",
    "Integer",
    "Nameless",
    "Undecoded",
    "Unrepresentable",
    "read_table",
    "write_table",
]

DEEPEST = 64  # tables and lists within each other; Python itself fails to print, compare or copy some hundreds
LAST_SECOND = 253_402_300_799  # of the year 9999, which is datetime's last
NAMES = "utf-8", "surrogateescape"  # bytes of a name that are not UTF-8 are escaped, as in the names of files
LONGEST_NAME = 255  # bytes
MOST_PLACES = 255  # of a decimal
SMALLEST, LARGEST = -(2**31), 2**31 - 1  # integers that have room in 4 bytes


class Integer(int):
    """An integer that was not written as this module would by itself.

    Attributes:
        wire: Its letter and its bytes.
    """

    wire: bytes

    def __new__(cls, value: int = 0, wire: bytes = b"") -> Integer:
        """A value that is written as these bytes; without them as any other."""
        new = super().__new__(cls, value)
        new.wire = wire
        return new


class Float(float):
    """A float that was written in 4 bytes, or one that is not finite.

    Attributes:
        wire: Its letter and its bytes.
    """

    wire: bytes

    def __new__(cls, value: float = 0.0, wire: bytes = b"") -> Float:
        """A value that is written as these bytes; without them as any other."""
        new = super().__new__(cls, value)
        new.wire = wire
        return new


class Undecoded(bytes):
    """A value that Python cannot represent, as its bytes.

    So are times after the year 9999, as seconds are that are milliseconds in truth; times before 1970, which are
    written as such; text that is not UTF-8; what is nested more than ``DEEPEST`` deep. A type that nobody knows may be
    of any size: it is all that follows in its table.

    Attributes:
        head: What stands before them: the letter, and for types that have one their size.
    """

    head: bytes

    def __new__(cls, content: bytes = b"", head: bytes = b"") -> Undecoded:
        """What is written as both together."""
        new = super().__new__(cls, content)
        new.head = head
        return new


class Nameless(str):
    """An entry of a table that no name leads to, whole, as a key; its value is None.

    Either an earlier entry has the same name (RabbitMQ too looks at the first), or the table is broken off.
    """

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


class Unrepresentable(ValueError):
    """AMQP has no type for a value, or no room for it; the text does not say what the value is."""


def read_table(data: bytes, begin: int, end: int, depth: int = 0) -> dict[Any, Any]:
    """The table whose entries are these bytes, without the four that say its size.

    Args:
        data: Where it is.
        begin: Where its first entry is.
        end: Where its last one ends.
        depth: How many tables and lists are around it.
    """
    table: dict[Any, Any] = {}
    at = begin
    while at < end:
        start, named = at, at + 1 + data[at]
        if named > end:
            table[Nameless(data[start:end].decode(*NAMES))] = None
            break
        name = data[start + 1 : named].decode(*NAMES)
        value, at = _read(data, named, end, depth)
        if name in table:
            table[Nameless(data[start:at].decode(*NAMES))] = None
        else:
            table[name] = value
    return table


def write_table(table: Mapping[Any, Any], depth: int = 0) -> bytes:
    """The table as it stands on the wire, its size first.

    Raises:
        Unrepresentable: A name or a value has no place in it.
    """
    pieces = []
    for name, value in table.items():
        pieces.append(name.encode(*NAMES) if isinstance(name, Nameless) else _name(name) + _write(value, depth + 1))
    return _sized(b"", b"".join(pieces))


def _read(data: bytes, at: int, end: int, depth: int) -> tuple[Any, int]:
    """The value that stands there, and where the next one may."""
    letter = data[at : at + 1] if at < end else b""
    if letter in FIXED:
        size, read = FIXED[letter]
        if at + 1 + size <= end:
            stop = at + 1 + size
            return read(data[at:stop]), stop
    elif letter in SIZED and at + 5 <= end:
        begin = at + 5
        stop = begin + int.from_bytes(data[at + 1 : begin], "big")
        if stop <= end:
            return SIZED[letter](data, begin, stop, depth + 1), stop
    return Undecoded(data[at + 1 : end], letter), end


def _bool(wire: bytes) -> int:
    return bool(wire[1]) if wire[1] < 2 else Integer(1, wire)


def _integer(size: int, *, signed: bool) -> tuple[int, Callable[[bytes], int]]:
    return size, lambda wire: Integer(int.from_bytes(wire[1:], "big", signed=signed), wire)


def _long(wire: bytes) -> int:
    value = int.from_bytes(wire[1:], "big", signed=True)
    return Integer(value, wire) if SMALLEST <= value <= LARGEST else value


def _float(wire: bytes) -> float:
    value: float = struct.unpack(">d", wire[1:])[0]
    return value if isfinite(value) else Float(value, wire)


def _decimal(wire: bytes) -> Decimal:
    places, value = struct.unpack(">Bi", wire[1:])
    return Decimal((value < 0, tuple(map(int, str(abs(value)))), -places))


def _time(wire: bytes) -> datetime | Undecoded:
    seconds = int.from_bytes(wire[1:], "big")
    return datetime.fromtimestamp(seconds, UTC) if seconds <= LAST_SECOND else Undecoded(wire[1:], b"T")


def _string(data: bytes, begin: int, end: int, _: int) -> str | Undecoded:
    try:
        return data[begin:end].decode()
    except UnicodeDecodeError:
        return _undecoded(data, begin, end)


def _list(data: bytes, begin: int, end: int, depth: int) -> list[Any] | Undecoded:
    if depth > DEEPEST:
        return _undecoded(data, begin, end)
    values, at = [], begin
    while at < end:
        value, at = _read(data, at, end, depth)
        values.append(value)
    return values


def _dict(data: bytes, begin: int, end: int, depth: int) -> dict[Any, Any] | Undecoded:
    return read_table(data, begin, end, depth) if depth <= DEEPEST else _undecoded(data, begin, end)


def _undecoded(data: bytes, begin: int, end: int) -> Undecoded:
    return Undecoded(data[begin:end], data[begin - 5 : begin])


# By letter: the bytes that a value has, and what it is.
FIXED: Mapping[bytes, tuple[int, Callable[[bytes], Any]]] = {
    b"t": (1, _bool),
    b"b": _integer(1, signed=True),
    b"B": _integer(1, signed=False),
    b"s": _integer(2, signed=True),
    b"U": _integer(2, signed=True),
    b"u": _integer(2, signed=False),
    b"I": (4, lambda wire: int.from_bytes(wire[1:], "big", signed=True)),
    b"i": _integer(4, signed=False),
    b"l": (8, _long),
    b"L": _integer(8, signed=True),
    b"f": (4, lambda wire: Float(struct.unpack(">f", wire[1:])[0], wire)),
    b"d": (8, _float),
    b"D": (5, _decimal),
    b"T": (8, _time),
    b"V": (0, lambda _: None),
}
# By letter, for those that begin with four bytes that say how many follow.
SIZED: Mapping[bytes, Callable[[bytes, int, int, int], Any]] = {
    b"S": _string,
    b"x": lambda data, begin, end, _: data[begin:end],
    b"A": _list,
    b"F": _dict,
}


def _write(value: Any, depth: int) -> bytes:
    for kind in type(value).__mro__:
        if kind in WRITERS:
            return WRITERS[kind](value, depth)
    raise Unrepresentable(f"a header of type {type(value).__name__}")


@lru_cache(maxsize=1024)  # the same names come again and again
def _name(name: object) -> bytes:
    if not isinstance(name, (str, bytes)):
        raise Unrepresentable(f"a header whose name is of type {type(name).__name__}")
    raw = name.encode(*NAMES) if isinstance(name, str) else name
    if len(raw) > LONGEST_NAME:
        raise Unrepresentable(f"a header whose name has more than {LONGEST_NAME} bytes")
    return bytes([len(raw)]) + raw


def _sized(letter: bytes, content: bytes) -> bytes:
    return letter + len(content).to_bytes(4, "big") + content


def _of_int(value: int, _: int) -> bytes:
    return struct.pack(">ci", b"I", value) if SMALLEST <= value <= LARGEST else _of_long(value, 0)


def _of_long(value: int, _: int) -> bytes:
    try:
        return struct.pack(">cq", b"l", value)
    except struct.error:
        raise Unrepresentable("an integer of more than 8 bytes") from None


def _of_float(value: float, _: int) -> bytes:
    if not isfinite(value):
        raise Unrepresentable("a float that is not finite")  # RabbitMQ closes the connection (541)
    return struct.pack(">cd", b"d", value)


def _of_decimal(value: Decimal, _: int) -> bytes:
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise Unrepresentable("a decimal that is no number")
    number = int("".join(map(str, digits)))
    if exponent > 0:
        number, exponent = number * 10 ** min(exponent, 10), 0
    most = LARGEST + sign
    while (number > most or exponent < -MOST_PLACES) and exponent < 0 and number % 10 == 0:
        number, exponent = number // 10, exponent + 1
    if number > most or exponent < -MOST_PLACES:
        raise Unrepresentable(f"a decimal of more than 4 bytes or {MOST_PLACES} places")
    return struct.pack(">cBi", b"D", -exponent, -number if sign else number)


def _of_time(value: datetime, _: int) -> bytes:
    seconds = timegm(value.utctimetuple())  # one without a zone is taken for UTC, as pika does
    if seconds < 0:
        raise Unrepresentable("a time before 1970")
    return struct.pack(">cQ", b"T", seconds)


def _of_list(values: list[Any], depth: int) -> bytes:
    _check(depth)
    return _sized(b"A", b"".join([_write(value, depth + 1) for value in values]))


def _of_dict(table: dict[Any, Any], depth: int) -> bytes:
    _check(depth)
    return b"F" + write_table(table, depth)


def _check(depth: int) -> None:
    if depth > DEEPEST:
        raise Unrepresentable(f"headers that are nested more than {DEEPEST} deep")


# By type; of a subclass the nearest of its bases counts.
WRITERS: Mapping[type, Callable[[Any, int], bytes]] = {
    str: lambda value, _: _sized(b"S", value.encode()),
    bytes: lambda value, _: _sized(b"x", value),
    bool: lambda value, _: b"t\x01" if value else b"t\x00",
    int: _of_int,
    long: _of_long,  # how pika marks what it read as such
    float: _of_float,
    Decimal: _of_decimal,
    datetime: _of_time,
    list: _of_list,
    dict: _of_dict,
    type(None): lambda *_: b"V",
    Integer: lambda value, depth: value.wire or _of_int(value, depth),
    Float: lambda value, depth: value.wire or _of_float(value, depth),
    Undecoded: lambda value, _: value.head + value,
}

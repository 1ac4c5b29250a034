"""Values of field tables as they stand on the wire: one of each type, and any."""

import math
import struct
from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import strategies as st

from rmqspec.client.tables import read_table, write_table


def read(entries):
    """The table whose entries are these bytes."""
    return read_table(entries, 0, len(entries))


def entry(wire, name=b"h"):
    """One entry: the length of its name, the name, and the value's letter and bytes."""
    return bytes([len(name)]) + name + wire


def sized(letter, content):
    return letter + len(content).to_bytes(4, "big") + content


def again(entries):
    """What these entries become when they are read and written."""
    return write_table(read(entries))[4:]


WIRES = {
    "true": (b"t\x01", True),
    "false": (b"t\x00", False),
    "byte": (b"b\xff", -1),
    "unsigned_byte": (b"B\xff", 255),
    "short": (b"s\xff\xfe", -2),
    "short_of_the_specification": (b"U\xff\xfe", -2),
    "unsigned_short": (b"u\xff\xfe", 65534),
    "int": (b"I\xff\xff\xff\xff", -1),
    "unsigned_int": (b"i\xff\xff\xff\xff", 4294967295),
    "long": (b"l" + b"\xff" * 8, -1),
    "long_that_needs_its_room": (b"l\x00\x00\x01" + bytes(5), 2**40),
    "long_by_the_other_letter": (b"L" + b"\xff" * 8, -1),
    "float": (b"f\x3f\xc0\x00\x00", 1.5),
    "double": (b"d" + struct.pack(">d", 19.99), 19.99),
    "infinity": (b"d" + struct.pack(">d", -math.inf), -math.inf),
    "decimal": (b"D\x02\x00\x00\x07\xcf", Decimal("19.99")),
    "decimal_with_a_zero": (b"D\x03\x00\x00\x00\x0a", Decimal("0.010")),
    "least_decimal": (b"D\xff\x80\x00\x00\x00", Decimal(-(2**31)).scaleb(-255)),
    "string": (b"S\x00\x00\x00\x05caf\xc3\xa9", "café"),
    "bytes": (b"x\x00\x00\x00\x02\x00\xff", b"\x00\xff"),
    "list": (b"A\x00\x00\x00\x04Vb\x01V", [None, 1, None]),
    "table": (b"F\x00\x00\x00\x04\x01at\x01", {"a": True}),
    "time": (b"T" + (1795733469).to_bytes(8, "big"), datetime(2026, 11, 26, 22, 51, 9, tzinfo=UTC)),
    "last_time": (b"T" + (253402300799).to_bytes(8, "big"), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
    "none": (b"V", None),
}
UNDECODED = {
    "milliseconds": (b"T", (1795733469638).to_bytes(8, "big")),
    "before_1970": (b"T", (-1).to_bytes(8, "big", signed=True)),
    "year_10000": (b"T", (253402300800).to_bytes(8, "big")),
    "text_that_is_not_utf_8": (b"S\x00\x00\x00\x04", b"caf\xe9"),
    "unknown_type": (b"Z", b"1234"),
    "broken_off": (b"I", b"\x00\x00"),
    "string_larger_than_its_table": (b"S", b"\x00\x00\x00\x09half"),
    "no_value_at_all": (b"", b""),
}


def nested(kind, levels):
    """Lists or tables within each other, one in each; the innermost is empty."""
    room = 5 if kind == b"A" else 7
    heads = [kind + (room * level).to_bytes(4, "big") for level in reversed(range(levels))]
    return (b"" if kind == b"A" else b"\x01n").join(heads)


def fixed(letter, size):
    return st.binary(min_size=size, max_size=size).map(lambda raw: letter + raw)


text = st.text(max_size=5).map(str.encode)
scalars = st.one_of(
    *(fixed(letter, size) for size, letters in {1: b"tbB", 2: b"sUu", 4: b"Iif", 5: b"D", 8: b"lLdT", 0: b"V"}.items()
      for letter in (bytes([number]) for number in letters)),
    text.map(lambda raw: sized(b"S", raw)), st.binary(max_size=5).map(lambda raw: sized(b"S", raw)),
    st.binary(max_size=5).map(lambda raw: sized(b"x", raw)),
)  # fmt: skip


def entries_of(values):
    names = text.filter(lambda raw: len(raw) < 200)
    return st.lists(st.tuples(values, names), max_size=4).map(lambda pairs: b"".join(entry(*pair) for pair in pairs))


values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda items: sized(b"A", b"".join(items))),
        entries_of(inner).map(lambda entries: sized(b"F", entries)),
    ),
)
tables = entries_of(values)

"""Field tables: every type as foreign programs write it, what Python has no value for, and the same bytes again.

Code: rmqspec/client/tables.py
"""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rmqspec.client.tables import DEEPEST, Undecoded

from .wire_values import UNDECODED, WIRES, again, entry, nested, read, sized


class TestReadTable:
    """Bytes as Python's values."""

    @pytest.mark.parametrize("case", WIRES)
    def test_reads_each_type_as_rabbitmq_does(self, case):
        """A letter read in another way is another value: l and L are the same, s is no string."""
        wire, value = WIRES[case]

        (found,) = read(entry(wire)).values()

        assert found == value
        assert isinstance(found, type(value))
        assert again(entry(wire)) == entry(wire)

    def test_reads_a_true_that_is_not_one(self):
        """RabbitMQ takes every byte but 0 for true."""
        assert read(entry(b"t\x02")) == {"h": True}
        assert again(entry(b"t\x02")) == entry(b"t\x02")

    @pytest.mark.parametrize("case", UNDECODED)
    def test_leaves_as_bytes_what_python_cannot_represent(self, case):
        """The message is handled, and whoever knows its sender can read the bytes."""
        head, content = UNDECODED[case]

        table = read(entry(b"t\x01", b"before") + entry(head + content))

        assert table == {"before": True, "h": content}
        assert type(table["h"]) is Undecoded
        assert again(entry(head + content)) == entry(head + content)

    @pytest.mark.parametrize("bits", ["7ff8000000000000", "7ff800000000cafe", "fff0000000000001"])
    def test_keeps_the_bits_of_what_is_not_a_number(self, bits):
        """Some programs hide a code in them."""
        entries = entry(b"d" + bytes.fromhex(bits))

        assert math.isnan(read(entries)["h"])
        assert again(entries) == entries

    @pytest.mark.parametrize("kind", [b"A", b"F"])
    @pytest.mark.parametrize("levels", [DEEPEST, DEEPEST + 1, 40_000])
    def test_reads_lists_and_tables_to_a_bound(self, kind, levels):
        """Python fails to print or compare some hundreds of levels, and a handler would with it."""
        wire = nested(kind, levels)
        value, depth = read(entry(wire))["h"], 1
        while isinstance(value, (list, dict)) and value:
            value, depth = (value[0] if isinstance(value, list) else value["n"]), depth + 1

        assert (depth, type(value) is Undecoded) == (min(levels, DEEPEST + 1), levels > DEEPEST)
        assert again(entry(wire)) == entry(wire)

    def test_finds_the_first_of_two_entries_with_one_name(self):
        """So does RabbitMQ, when it routes by headers; the others are not lost."""
        entries = entry(b"b\x01") + entry(b"b\x02") + entry(b"b\x02") + entry(b"V", b"z")

        table = read(entries)

        assert (table["h"], [*table][-1], len(table)) == (1, "z", 4)
        assert again(entries) == entries

    def test_escapes_a_name_that_is_not_utf_8(self):
        """As Python does with names of files: whoever looks at the names of all headers finds nothing but text."""
        entries = entry(b"V", b"caf\xe9") + entry(b"V")

        assert read(entries) == {"caf\udce9": None, "h": None}
        assert again(entries) == entries

    @given(st.binary(max_size=200))
    @example(b"\xff")
    @example(b"\x00")
    @example(entry(sized(b"F", b"\x05half")) + entry(b"V"))
    def test_reads_any_bytes_and_writes_them_again(self, entries):
        """One message that raises here ends the connection, comes again, and ends the next."""
        assert again(entries) == entries

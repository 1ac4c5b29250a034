"""Field tables as bytes: what a program sends, what it cannot, and what it has received and sends again.

Code: rmqspec/client/tables.py
"""

import copy
import pickle
import struct
from datetime import UTC, datetime
from decimal import Decimal
from enum import IntEnum

import pytest
from hypothesis import given, settings
from pika.compat import long

from rmqspec.client.tables import Nameless, Undecoded, Unrepresentable, write_table

from .wire_values import UNDECODED, WIRES, entry, read, tables


class Level(IntEnum):
    HIGH = 3


class TestWriteTable:
    """Python's values as bytes."""

    @pytest.mark.parametrize(
        ("value", "wire"),
        [
            (1.5, b"d" + struct.pack(">d", 1.5)), (2**31 - 1, b"I\x7f\xff\xff\xff"),
            (2**31, b"l" + bytes(4) + b"\x80" + bytes(3)), (Level.HIGH, b"I\x00\x00\x00\x03"),
            (long(3), b"l" + bytes(7) + b"\x03"), (True, b"t\x01"), (Decimal("1.20"), b"D\x02\x00\x00\x00\x78"),
            (Decimal("1E+3"), b"D\x00\x00\x00\x03\xe8"), (Decimal("3.000000000"), b"D\x08\x11\xe1\xa3\x00"),
            (datetime(1970, 1, 1, 0, 0, 1), b"T" + bytes(7) + b"\x01"),  # noqa: DTZ001  (taken for UTC)
        ],
        ids=repr,
    )  # fmt: skip
    def test_writes_what_a_program_sends(self, value, wire):
        """pika refuses floats, and takes zeros off a price."""
        assert write_table({"h": value})[4:] == entry(wire)

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            ({1}, "a header of type set"), ((1,), "a header of type tuple"), (2**63, "an integer of more than 8 bytes"),
            (float("inf"), "a float that is not finite"), (Decimal("NaN"), "a decimal that is no number"),
            ({1: 2}, "a header whose name is of type int"),
            (Decimal("1E+999999"), "a decimal of more than 4 bytes or 255 places"),
            (Decimal("1E-256"), "a decimal of more than 4 bytes or 255 places"),
            (datetime(1969, 1, 1, tzinfo=UTC), "a time before 1970"),
            ({"n" * 256: 1}, "a header whose name has more than 255 bytes"),
        ],
        ids=str,
    )  # fmt: skip
    def test_says_what_amqp_cannot_carry(self, value, words):
        """The words stay out of what the value says: they end in a log."""
        with pytest.raises(Unrepresentable) as error:
            write_table({"h": [value]})

        assert str(error.value) == words

    def test_refuses_a_table_within_itself(self):
        """Written to its end it would have none."""
        table = {}
        table["h"] = [table]

        with pytest.raises(Unrepresentable, match="nested more than 64 deep"):
            write_table(table)

    @pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
    def test_writes_copies_as_their_originals(self, way):
        """Headers are copied where a message is put off, and pickled between processes."""
        entries = b"".join(entry(wire, case.encode()) for case, (wire, _) in WIRES.items())
        entries += entry(b"".join(UNDECODED["milliseconds"]), b"ms")

        assert write_table(way(read(entries)))[4:] == entries

    @given(tables)
    @settings(max_examples=300, deadline=None)
    def test_writes_again_what_was_read(self, entries):
        """A consumer that publishes a message again changes no value of its headers."""
        table = read(entries)

        assert write_table(table)[4:] == entries
        assert write_table(copy.deepcopy(table))[4:] == entries or any(isinstance(n, Nameless) for n in table)
        assert not [value for value in table.values() if type(value) is Undecoded and value.head[:1] not in b"ST"]

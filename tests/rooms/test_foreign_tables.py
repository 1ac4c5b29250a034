"""Field tables of other clients: what their encoders make of one header, and what is read from it.

Code: rmqspec/client/tables.py
"""

import struct
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from rmqspec.client.tables import read_table, write_table

MILLISECONDS = (1795733469638).to_bytes(8, "big")

# The same header by the encoder of each client library; Java's is what its ValueWriter makes of these types.
RECORDED = {
    "amqplib 2.3.1 (Node)": (
        "05666c6f6174643ff800000000000006646f75626c6564400600000000000003663332663e800000036e656764c00f33333333333304"
        "6279746562070573686f72747303e8046c6f6e67490001e240036269676c000001000000000005756279746542c8067573686f727475"
        "ea600475696e7469ee6b2800037965737401026e6f7400036e756c5604746578745300000005636166c3a903627566780000000300ff"
        "010361727241000000116201530000000178644004000000000000036f626a46000000120161460000000b0162643ff4000000000000"
        "036465634402000030390374735354000000006b08b7dd0474734d7354000001a21a0e39c6",
        {
            "float": 1.5, "double": 2.75, "f32": 0.25, "neg": -3.9, "byte": 7, "short": 1000, "long": 123456,
            "big": 2**40, "ubyte": 200, "ushort": 60000, "uint": 4_000_000_000, "yes": True, "no": False, "nul": None,
            "text": "café", "buf": b"\x00\xff\x01", "arr": [1, "x", 2.5], "obj": {"a": {"b": 1.25}},
            "dec": Decimal("123.45"), "tsS": datetime(2026, 11, 26, 22, 51, 9, tzinfo=UTC), "tsMs": MILLISECONDS,
        },
    ),
    "py-amqp 5.4.2": (
        "04746578745300000005636166c3a9056279746573530000000200ff037965737401026e6f740005736d616c6c490000000703696e74"
        "490001e240046c6f6e674c0000010000000000086e6567617469766549ffffffff05666c6f6174643ff800000000000007646563696d"
        "616c4402000030390474696d6554000000006b08d68b057461626c6546000000120161460000000b0162643ff4000000000000056172"
        "72617941000000144900000001530000000178644004000000000000046e6f6e6556",
        {
            "text": "café", "bytes": b"\x00\xff", "yes": True, "no": False, "small": 7, "int": 123456, "long": 2**40,
            "negative": -1, "float": 1.5, "decimal": Decimal("123.45"),
            "time": datetime(2026, 11, 27, 1, 2, 3, tzinfo=UTC), "table": {"a": {"b": 1.25}}, "array": [1, "x", 2.5],
            "none": None,
        },
    ),
    "pamqp 4.0.0 (aiormq)": (
        "056172726179410000000d62015300000001786640200000056279746573780000000200ff07646563696d616c44020000303905666c"
        "6f6174663fc0000003696e74490001e240046c6f6e676c0000010000000000086e6567617469766562ff026e6f7400046e6f6e655605"
        "736d616c6c6207057461626c65460000000e016146000000070162663fa0000004746578745300000005636166c3a90474696d655400"
        "0000006b08d68b08756e7369676e65647300c8037965737401",
        {
            "array": [1, "x", 2.5], "bytes": b"\x00\xff", "decimal": Decimal("123.45"), "float": 1.5, "int": 123456,
            "long": 2**40, "negative": -1, "no": False, "none": None, "small": 7, "table": {"a": {"b": 1.25}},
            "text": "café", "time": datetime(2026, 11, 27, 1, 2, 3, tzinfo=UTC), "unsigned": 200, "yes": True,
        },
    ),
    "amqp-client (Java)": (
        "046c6f6e676c000000000000000704626f726e54ffffffffff676980",
        {"long": 7, "born": struct.pack(">q", -10_000_000)},
    ),
}  # fmt: skip


class TestForeignTable:
    """Field tables by the encoders of other clients."""

    @pytest.mark.parametrize("client", RECORDED)
    def test_has_the_values_that_were_meant(self, client):
        """Each has its own letters for the same number: pamqp takes the smallest that fits, py-amqp the letter L."""
        recorded, meant = RECORDED[client]
        entries = bytes.fromhex(recorded)

        table = read_table(entries, 0, len(entries))

        assert table == meant
        assert write_table(table)[4:] == entries

"""What one side says to the other: methods and messages, out of frames and back into them.

Code: rmqspec/tools/wire/said.py
"""

import struct
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pika import BasicProperties, frame, spec

from rmqspec.tools.wire.said import Said, Sayings

from .wire_values import UNDECODED, WIRES, entry, read

ORDER = Said(
    1, spec.Basic.Publish(exchange="orders.direct", routing_key="order"), BasicProperties(delivery_mode=2), b"o" * 9000
)
LETTER = Said(
    3,
    spec.Basic.Deliver("tag", 7, False, "", "orders"),
    BasicProperties(headers={"x-death": [{"count": 1, "reason": "expired", "queue": "orders"}]}, correlation_id="c"),
    b"letter",
)

UNKNOWN = b"\x01\x00\x01\x00\x00\x00\x04\x00\x63\x00\x63\xce"  # method 99 of class 99
HALF_A_HEADER = b"\x02\x00\x01\x00\x00\x00\x01\x00\xce"


def parts(data, places):
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[begin:end] for begin, end in pairwise(edges) if begin < end]


def heard(*chunks):
    sayings = Sayings(by_broker=True)
    return [said for chunk in (*chunks, b"") for said in sayings.feed(chunk)]


class TestSayings:
    """A method and its message, out of frames and back into them."""

    @given(st.lists(st.integers(0, 30_000), max_size=8), st.sampled_from([ORDER, LETTER]), st.integers(4096, 131_072))
    @settings(deadline=None)
    def test_are_whole_whatever_the_pieces(self, places, said, largest):
        """A large body comes in many frames, and a read may end in the middle of any."""
        data = said.frames(largest)

        (again,) = heard(*parts(data, places))

        assert (again.channel, again.name, again.body) == (said.channel, said.name, said.body)
        assert vars(again.properties) == vars(said.properties)
        assert again.raw == data

    @given(st.lists(st.integers(0, 200), max_size=8))
    def test_lose_no_byte_of_what_was_broken_off(self, places):
        """A client that dies in the middle of a publish has said something all the same."""
        begun = (
            frame.Method(1, spec.Basic.Deliver("t", 1, False, "x", "k")).marshal()
            + frame.Header(1, 9, BasicProperties()).marshal()
        )
        for rest in (
            frame.Method(1, spec.Channel.Close(200, "", 0, 0)).marshal(),
            frame.Heartbeat().marshal(),
            b"\x09",
        ):
            raw = b"".join(
                said if isinstance(said, bytes) else said.raw for said in heard(*parts(begun + rest, places))
            )
            assert sorted(raw) == sorted(begun + rest)

    def test_say_what_is_another_in_frames_that_anybody_takes(self):
        """Nobody agrees to less than 4096 bytes, and who made the proxy does not know what was agreed on."""
        changed = ORDER.having(priority=5)

        (again,) = heard(changed.frames(4096))

        assert (again.properties.priority, again.body) == (5, ORDER.body)
        assert ORDER.properties.priority is None

    @pytest.mark.parametrize("broken", [UNKNOWN, HALF_A_HEADER, b"\x09no frame"], ids=["method", "header", "stream"])
    def test_keep_the_order_around_what_cannot_be_read(self, broken):
        """A proxy that passed a header before its method would end the connection that it only looks at."""
        begun = frame.Method(1, spec.Basic.Deliver("t", 1, False, "x", "k")).marshal()
        rest = frame.Body(1, b"body").marshal()

        raw = [said if isinstance(said, bytes) else said.raw for said in heard(begun, broken, rest)]

        assert b"".join(raw) == begun + broken + rest

    def test_go_on_elsewhere_after_what_cannot_be_read(self):
        """What one channel says that nobody understands is no reason to be deaf for the others."""
        deliver = spec.Basic.Deliver("t", 1, False, "x", "k")
        whole = Said(2, deliver, BasicProperties(), b"whole").frames(4096)
        cut = len(frame.Method(2, deliver).marshal())

        said = heard(whole[:cut] + UNKNOWN + whole[cut:])

        assert [one.body for one in said if isinstance(one, Said)] == [b"whole"]

    def test_are_said_again_with_the_same_headers(self):
        """A lie about the body must not be one about a price, or whoever notices it may have noticed the other."""
        headers = b"".join(entry(wire, name.encode()) for name, (wire, _) in WIRES.items())
        headers += b"".join(entry(head + content, name.encode()) for name, (head, content) in UNDECODED.items())
        properties = BasicProperties(headers=read(headers), timestamp=2**64 - 1, message_id=b"caf\xe9")
        (said,) = heard(Said(1, LETTER.method, properties, b"first!").frames(4096))

        again = said.having(body=b"second").frames(4096)

        assert headers in again
        assert again == said.raw.replace(b"first!", b"second")

    def test_are_said_again_with_the_same_arguments(self):
        """A queue that a foreign client declares is to differ in what the lie says, and in nothing else."""
        arguments = entry(b"d" + struct.pack(">d", 0.75)) + entry(b"s\x00\x01", b"short")
        declare = Said(1, spec.Queue.Declare(queue="q", arguments=read(arguments)))
        (said,) = heard(declare.frames(4096))

        changed = said.but(durable=True).frames(4096)

        assert arguments in said.raw
        assert arguments in changed

    def test_know_no_argument_that_the_method_has_not(self):
        """A misspelt lie would be the truth, and prove nothing."""
        with pytest.raises(AttributeError, match="Publish has no 'durable'"):
            ORDER.but(durable=True)

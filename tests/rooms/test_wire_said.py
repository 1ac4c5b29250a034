"""What one side says to the other: methods and messages, out of frames and back into them.

Code: rmqspec/tools/wire/said.py
"""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pika import BasicProperties, frame, spec

from rmqspec.tools.wire.said import Said, Sayings

ORDER = Said(
    1, spec.Basic.Publish(exchange="orders.direct", routing_key="order"), BasicProperties(delivery_mode=2), b"o" * 9000
)
LETTER = Said(
    3,
    spec.Basic.Deliver("tag", 7, False, "", "orders"),
    BasicProperties(headers={"x-death": [{"count": 1, "reason": "expired", "queue": "orders"}]}, correlation_id="c"),
    b"letter",
)


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

    def test_know_no_argument_that_the_method_has_not(self):
        """A misspelt lie would be the truth, and prove nothing."""
        with pytest.raises(AttributeError, match="Publish has no 'durable'"):
            ORDER.but(durable=True)

"""The shorter way that deliveries take from the socket to their channel.

Code: rmqspec/client/decoding.py
"""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import BasicProperties, exceptions, frame, spec

from rmqspec.client.decoding import Reader, decode_frame

NUMBERS = st.sampled_from([1, 2, 7])  # 7 is not open
DELIVERIES = st.builds(
    spec.Basic.Deliver, st.text(max_size=5), st.integers(1, 2**64 - 1), st.booleans(), st.text(max_size=5), st.just("q")
)
PROPERTIES = st.builds(BasicProperties, headers=st.sampled_from([None, {"n": 1}]), priority=st.integers(0, 9))
FRAMES = st.one_of(
    st.builds(frame.Method, NUMBERS, DELIVERIES),
    st.builds(frame.Header, NUMBERS, st.integers(0, 2**64 - 1), PROPERTIES),
    st.builds(frame.Body, NUMBERS, st.binary(max_size=9)),
    st.builds(frame.Method, NUMBERS, st.builds(spec.Basic.Ack, st.integers(1, 9), st.booleans())),
    st.builds(frame.Heartbeat),
)


class Notes(Reader):
    """A connection without a socket, which notes the frames that reach its channels; 1 and 2 are open."""

    def __init__(self, at_frame=lambda _: None):
        self._frame_buffer, self.bytes_received, self.frames_received = b"", 0, 0
        self.found, self.straight, self._at_frame = [], 0, at_frame
        self._channels = {1: None, 2: None}

    def _deliver_frame_to_channel(self, value):
        self.straight += 1
        self._note(value)

    def _process_frame(self, frame_value):
        self.frames_received += 1
        self._note(frame_value)

    def _note(self, value):
        self.found.append(value.marshal())
        self._at_frame(self)


def read(reader, raw, cuts=()):
    edges = [0, *sorted(cut % (len(raw) + 1) for cut in cuts), len(raw)]
    for begin, end in pairwise(edges):
        reader._on_data_available(raw[begin:end])
    return reader


def delivery(body=b"body"):
    method, header = spec.Basic.Deliver("me", 1, False, "", "q"), frame.Header(1, len(body), BasicProperties())
    return [frame.Method(1, method).marshal(), header.marshal(), frame.Body(1, body).marshal()]


class TestReader:
    """`Reader._on_data_available`."""

    @given(st.lists(FRAMES, max_size=8), st.lists(st.integers(0, 10_000), max_size=8))
    def test_reads_each_frame_once_and_in_order(self, frames, cuts):
        """However the network cuts them: a frame that is lost, or read twice, is a message that is."""
        pieces = [each.marshal() for each in frames]

        reader = read(Notes(), b"".join(pieces), cuts)

        assert reader.found == [decode_frame(piece)[1].marshal() for piece in pieces]
        assert (reader.frames_received, reader.bytes_received) == (len(pieces), len(b"".join(pieces)))
        assert reader._frame_buffer == b""

    def test_hands_the_frames_of_a_delivery_straight_to_their_channel(self):
        """By pika's way a consumer takes a tenth more of the processor for each message."""
        assert read(Notes(), b"".join(delivery() + delivery(b"x"))).straight == 6

    def test_leaves_a_channel_that_is_not_open_to_pika(self):
        """It says so in the log, and goes on."""
        reader = read(Notes(), frame.Body(7, b"late").marshal() + b"".join(delivery()))

        assert (reader.straight, len(reader.found)) == (0, 4)

    def test_stops_where_a_callback_ends_the_connection(self):
        """What is still in the buffer belongs to a connection that is gone, and its channels with it."""

        def end(reader):
            reader._frame_buffer = b""

        assert len(read(Notes(end), b"".join(delivery())).found) == 1

    def test_keeps_what_is_behind_a_frame_whose_callback_fails(self):
        """That frame has been read; the others may be of use to whoever ends the connection in an orderly way."""

        def fail(_):
            raise LookupError

        reader = Notes(fail)
        with pytest.raises(LookupError):
            read(reader, b"".join(delivery()))

        assert reader._frame_buffer == b"".join(delivery()[1:])

    def test_refuses_a_frame_that_does_not_end_where_it_says(self):
        """All that follows it would be read from the wrong place."""
        raw = bytearray(b"".join(delivery()))
        raw[-1] = 0

        with pytest.raises(exceptions.InvalidFrameError, match="does not end where it says"):
            read(Notes(), bytes(raw))

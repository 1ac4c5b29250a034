"""Frames on the wire: a tap sees whole ones, whatever pieces the network made of them, and loses no byte.

Code: rmqspec/tools/wire/frames.py, rmqspec/tools/wire/pump.py
"""

import socket
from contextlib import closing
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pika import BasicProperties, frame, spec

from rmqspec.client import connect as open_connection
from rmqspec.tools.wire import Direction, Frames, Proxy

from .echo import Echo, asked, calling, serving, told

CONVERSATION = [
    frame.ProtocolHeader(),
    frame.Method(0, spec.Connection.TuneOk(2047, 131072, 60)),
    frame.Heartbeat(),
    frame.Method(1, spec.Basic.Publish(exchange="x", routing_key="k")),
    frame.Header(1, 3, BasicProperties(headers={"AMQP": 1})),
    frame.Body(1, b"AMQ"),
    frame.Body(2, b"\xce" * 5000),
    frame.Method(1, spec.Channel.Close(200, "bye", 0, 0)),
]
RAW = [each.marshal() for each in CONVERSATION]
STREAM = b"".join(RAW)
UNKNOWN = b"\x01\x00\x01\x00\x00\x00\x04\x00\x63\x00\x63\xce"  # method 99 of class 99


@pytest.fixture(scope="module")
def echo():
    """A proxy with an echo behind it."""
    with serving(Echo) as port, Proxy("127.0.0.1", port) as proxy:
        yield proxy


def cut_at(places):
    """The stream in pieces."""
    edges = [0, *sorted(places), len(STREAM)]
    return [STREAM[begin:end] for begin, end in pairwise(edges) if begin < end]


places = st.sets(st.integers(1, len(STREAM) - 1), max_size=30)


def fed(*pieces):
    frames = Frames()
    return [piece for data in pieces for piece in frames.feed(data)]


class TestFrames:
    """A stream of bytes, split into frames."""

    @given(places)
    @settings(deadline=None)
    def test_finds_them_whatever_the_pieces(self, places):
        """A read may end in the middle of a header, of the word AMQP, or before the last byte."""
        pieces = fed(*cut_at(places))

        assert [piece.raw for piece in pieces] == RAW
        assert [type(piece.frame) for piece in pieces] == [type(each) for each in CONVERSATION]

    @given(st.lists(st.binary(min_size=1)))
    def test_loses_no_byte_of_what_is_no_amqp(self, chunks):
        """TLS looks like noise; what a proxy cannot read it must leave alone."""
        assert b"".join(piece.raw for piece in fed(*chunks, b"")) == b"".join(chunks)

    def test_does_not_hold_back_what_is_no_amqp(self):
        """A handshake of TLS that waits for the rest of a frame waits for ever."""
        assert fed(b"\x16\x03\x01") == [(b"\x16\x03\x01", None)]

    def test_goes_on_after_a_method_that_pika_does_not_know(self):
        """Brokers have extensions; that is no reason to be blind for the rest."""
        unknown, known = fed(UNKNOWN + RAW[2])

        assert (unknown, known.raw, type(known.frame)) == ((UNKNOWN, None), RAW[2], frame.Heartbeat)

    @pytest.mark.parametrize(
        "broken",
        [RAW[2][:-1] + b"\xcd", b"\x09" + RAW[2][1:], b"\x03\x00\x01\xff\xff\xff\xff"],
        ids=["end", "type", "size"],
    )
    def test_passes_all_after_a_broken_frame(self, broken):
        """Nobody knows where the next one begins; specs about broken frames send such on purpose."""
        assert fed(RAW[0], broken + RAW[1], RAW[2])[1:] == [(broken + RAW[1], None), (RAW[2], None)]

    def test_brings_out_what_was_kept_at_the_end(self):
        """A connection that breaks off in the middle of a frame has still sent the first half."""
        assert fed(RAW[1][:9], b"") == [(RAW[1][:9], None)]


class TestTap:
    """Whoever looks at one direction of one connection."""

    @pytest.fixture
    def on_the_way(self, broker):
        with Proxy(broker.endpoint.host, broker.endpoint.port) as proxy:
            yield proxy

    @given(places)
    @settings(deadline=None, max_examples=20)
    def test_sees_whole_frames_on_their_way(self, echo, places):
        """Each piece is sent when the one before has come back, so these are the pieces that the tap is given."""
        seen, pieces = [], cut_at(places)

        def taps(_, direction):
            frames = Frames()
            look = lambda data: seen.extend((direction, piece.raw) for piece in frames.feed(data)) or data  # noqa: E731
            return look if direction is Direction.FROM_CLIENT else None

        echo.taps = taps
        with calling(echo) as link:
            assert [asked(link, piece) for piece in pieces] == pieces

        assert seen == [(Direction.FROM_CLIENT, raw) for raw in RAW]

    def test_may_change_what_passes(self, on_the_way, url, drain, channel):
        """So a broker is made that breaks one promise; that frames wait until they are whole changes nothing else."""

        def lie(data):
            pieces = frames.feed(data)
            return b"".join(
                p.raw.replace(b"truth", b"a lie") if isinstance(p.frame, frame.Body) else p.raw for p in pieces
            )

        frames = Frames()
        on_the_way.taps = lambda _, direction: lie if direction is Direction.FROM_CLIENT else None
        channel.queue_declare("truth", durable=True)
        with closing(open_connection(on_the_way.url(url), "lied about")) as connection:
            liar = connection.channel()
            liar.confirm_delivery()
            liar.basic_publish("", "truth", b"nothing but truth")

        assert drain("truth") == [b"nothing but a lie"]

    def test_hands_out_at_the_end_what_it_kept(self, echo):
        """Half a frame is what a client that crashes leaves; the broker is to see it as it was."""
        frames = Frames()
        whole = lambda data: b"".join(piece.raw for piece in frames.feed(data))  # noqa: E731
        echo.taps = lambda _, direction: whole if direction is Direction.FROM_CLIENT else None

        with calling(echo) as link:
            link.sendall(RAW[1] + RAW[3][:10])
            link.shutdown(socket.SHUT_WR)

            assert told(link, 1000) == RAW[1] + RAW[3][:10]

    def test_knows_its_connection_and_direction(self, echo):
        """Recordings of two connections that are mixed up are a story of nobody."""
        asked_for = []
        echo.taps = lambda number, direction: asked_for.append((number, direction))

        for _ in range(2):
            with calling(echo) as link:
                asked(link, b"hello")

        (first, up), (same, down), (second, _), _ = asked_for
        assert (first == same, second - first) == (True, 1)
        assert (up, down) == (Direction.FROM_CLIENT, Direction.FROM_BROKER)

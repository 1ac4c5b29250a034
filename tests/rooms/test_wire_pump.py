"""One direction of a connection: bytes wait for whatever takes them, and none is lost.

Code: rmqspec/tools/wire/pump.py
"""

import asyncio

from rmqspec.tools.wire.harm import Harm
from rmqspec.tools.wire.pump import Pump


class Sink:
    """Where bytes go."""

    def __init__(self):
        self.data = b""

    def write(self, data):
        self.data += data


class TestPump:
    """`Pump`."""

    def test_keeps_bytes_until_the_other_side_is_connected(self):
        """asyncio of Python 3.11.2 reads from a client that was paused: what comes then must not be lost."""

        async def carry():
            pump = Pump(asyncio.get_running_loop(), Harm(), None, lambda: None, lambda: None)
            pump.take(b"AMQP")
            pump.take(b"\0\0\x09\x01")
            pump.sink = sink = Sink()
            pump.settle()
            pump.take(b"more")
            return sink.data

        assert asyncio.run(carry()) == b"AMQP\0\0\x09\x01more"

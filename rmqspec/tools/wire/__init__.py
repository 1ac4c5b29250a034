"""The bytes between client and broker: a loopback proxy that harms connections. Knows pika's frame codec only."""

from rmqspec.tools.wire.frames import Frames, Piece
from rmqspec.tools.wire.proxy import Proxy
from rmqspec.tools.wire.pump import Direction, Tap

__all__ = ["Direction", "Frames", "Piece", "Proxy", "Tap"]

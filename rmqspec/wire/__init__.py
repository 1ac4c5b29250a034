"""The bytes between client and broker: a loopback proxy that harms connections. Knows pika's frame codec only."""

from rmqspec.wire.frames import Frames, Piece
from rmqspec.wire.proxy import Proxy
from rmqspec.wire.pump import Direction, Tap

__all__ = ["Direction", "Frames", "Piece", "Proxy", "Tap"]

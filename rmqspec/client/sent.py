"""A message on its way to the broker: the promise of an answer, and the bytes to be sent."""

from __future__ import annotations

from concurrent.futures import Future

from pika import spec

from rmqspec.client.message import Confirmed, Message, frames

__all__ = ["Sent"]


class Sent(Future[Confirmed]):
    """What ``Publisher.publish`` returns.

    Args:
        message: What is published.
        shape: The number and the body limit of the channel that it is to leave on.

    Raises:
        Unencodable: The protocol cannot carry the message.

    Attributes:
        frames: Encoded where ``publish`` was called, so that its caller hears of what cannot be.
        returned: The broker's word that no queue is bound for it; its ack follows.
    """

    returned: spec.Basic.Return | None = None

    def __init__(self, message: Message, shape: tuple[int, int]) -> None:
        super().__init__()
        self.message, self._shape = message, shape
        self.frames = frames(message, *shape)

    def reshape(self, shape: tuple[int, int]) -> None:
        """Encodes it anew where it leaves on another channel than was thought: the connection was lost meanwhile."""
        if shape != self._shape:
            self.frames, self._shape = frames(self.message, *shape), shape

    def cancel(self) -> bool:
        """False: what is handed over cannot be called back."""
        return False

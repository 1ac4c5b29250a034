"""Which acknowledgements to send for deliveries that are done in any order.

Source: https://www.rabbitmq.com/docs/confirms#consumer-acks-multiple-parameter
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["Acks"]


class Acks:
    """Coalesces the acknowledgements of one channel: one for all up to the first that is still in hand."""

    def __init__(self) -> None:
        self._low = 0  # every delivery up to this tag is settled
        self._beyond = set[int]()  # settled ones beyond it

    def settle(self, acked: Sequence[int], otherwise: Iterable[int] = ()) -> list[tuple[int, bool]]:
        """Takes what is done and returns what is to be sent.

        Args:
            acked: The tags of deliveries that are to be acknowledged.
            otherwise: The tags of those that were settled by a nack.

        Returns:
            Tags to acknowledge, each with whether it stands for all before it.
        """
        self._beyond.update(acked, otherwise)
        while self._low + 1 in self._beyond:
            self._low += 1
            self._beyond.remove(self._low)
        # The broker refuses an ack of a tag that is settled already (406), with `multiple` too: hence not `low`, but
        # the highest that is done just now.
        together = [tag for tag in acked if tag <= self._low]
        return [*([(max(together), True)] if together else []), *((tag, False) for tag in acked if tag > self._low)]

"""Which acknowledgements to send for deliveries that are done in any order.

Source: https://www.rabbitmq.com/docs/confirms#consumer-acks-multiple-parameter
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["Acks"]


class Acks:
    """Coalesces the acknowledgements of one channel: one for all up to the first that is still unacked."""

    def __init__(self) -> None:
        # The settled tags as runs, by first and by last: as many as there are gaps, however long a delivery stays in
        # hand. The run that begins at 0, which is no tag, is the one up to the first gap.
        self._last_of, self._first_of = {0: 0}, {0: 0}

    def settle(self, acked: Sequence[int], otherwise: Iterable[int] = ()) -> list[tuple[int, bool]]:
        """Takes what is done and returns what is to be sent.

        Args:
            acked: The tags of deliveries that are to be acknowledged.
            otherwise: The tags of those that were settled by a nack.

        Returns:
            Tags to acknowledge, each with whether it stands for all before it.
        """
        for tag in (*acked, *otherwise):
            self._join(tag)
        low = self._last_of[0]
        # The broker refuses an ack of a tag that is settled already (406), with `multiple` too: hence not `low`, but
        # the highest that is done just now.
        together = [tag for tag in acked if tag <= low]
        return [*([(max(together), True)] if together else []), *((tag, False) for tag in acked if tag > low)]

    def _join(self, tag: int) -> None:
        """Adds a tag to the runs beside it."""
        first, last = self._first_of.pop(tag - 1, tag), self._last_of.pop(tag + 1, tag)
        self._last_of[first], self._first_of[last] = last, first

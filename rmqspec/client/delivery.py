"""A message as it comes from a queue, and what becomes of it.

Source: https://www.rabbitmq.com/docs/confirms#consumer-acknowledgements
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pika import BasicProperties

from rmqspec.client.deaths import reason_in

__all__ = ["Delivery", "Handler", "Outcome"]


class Outcome(Enum):
    """What becomes of a delivery once its handler has returned."""

    ACK = "done: the broker forgets it"
    REQUEUE = "not now: back to its queue, for whoever comes next"
    REQUEUE_LATER = "not now: back to its queue after the consumer's pause"
    REJECT = "never: to the dead-letter exchange, or gone where there is none"
    RETRY = "later: the consumer's retry policy has a copy, and the broker forgets this one"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message, as it came from a queue."""

    queue: str
    exchange: str
    routing_key: str
    redelivered: bool
    properties: BasicProperties
    body: bytes

    @property
    def headers(self) -> Mapping[str, Any]:
        """The headers of the message; none if it came without."""
        return self.properties.headers or {}

    @property
    def died_of(self) -> str | None:
        """Why the broker dead-lettered it last, as it says in ``x-death``.

        Returns:
            ``rejected``, ``expired``, ``maxlen`` or ``delivery_limit``; None if it is no dead letter.

        Source: https://www.rabbitmq.com/docs/dlx#effects
        """
        return reason_in(self.headers)


Handler = Callable[[Delivery], Outcome]

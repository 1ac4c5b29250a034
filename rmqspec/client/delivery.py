"""A message as it comes from a queue, and what becomes of it.

Source: https://www.rabbitmq.com/docs/confirms#consumer-acknowledgements
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from pika import BasicProperties

__all__ = ["Delivery", "Handler", "Outcome"]


class Outcome(Enum):
    """What becomes of a delivery once its handler has returned."""

    ACK = "done: the broker forgets it"
    REQUEUE = "not now: back to its queue, for whoever comes next"
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


Handler = Callable[[Delivery], Outcome]

"""What the broker says of the deaths of a message, in its header ``x-death``.

The header may be written by anybody: what is not as the broker writes it counts as absent, and no reader fails.

Source: https://www.rabbitmq.com/docs/dlx#effects
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rmqspec.client.tables import Integer

__all__ = ["Death", "can_die_again", "count_in", "deaths_in", "reason_in"]

MOST = 1_000_000  # beyond it a header is no count of ours; the next one must still fit into a field of the protocol


@dataclass(frozen=True, slots=True)
class Death:
    """One entry of ``x-death``.

    Attributes:
        queue: Where the message died.
        reason: ``rejected``, ``expired``, ``maxlen`` or ``delivery_limit``.
        exchange: Through which it had come to that queue.
        routing_keys: Under which it had come; the first is that of its publish, the others are those of ``CC``.
        time: When it died there first, or None.
        expiration: The milliseconds that its publisher gave it, or None.
    """

    queue: str
    reason: str
    exchange: str
    routing_keys: tuple[str, ...]
    time: datetime | None = None
    expiration: str | None = None


def deaths_in(headers: Mapping[Any, Any] | None) -> list[Death]:
    """The deaths of a message, the latest first; none where the header is no list of them."""
    entries = (headers or {}).get("x-death")
    return [_death(entry) for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def can_die_again(headers: Mapping[Any, Any] | None) -> bool:
    """Whether every broker can dead-letter a message with this ``x-death``.

    It adds to the header. Where an entry is no table, or the count that it adds to is no number, a queue of RabbitMQ
    3.10 ends at it: its consumers are cancelled, the message is there again, and after some of that the queue is gone.
    A count with a fraction it adds to, and then cannot write the sum: whoever is to get the dead letter loses its
    connection (541).
    """
    entries = (headers or {}).get("x-death")
    if not isinstance(entries, list):  # any other type is written anew
        return True
    return all(isinstance(entry, dict) and _is_whole(entry.get("count", 0)) for entry in entries)


def _is_whole(count: object) -> bool:
    if isinstance(count, Integer) and count.wire.startswith(b"t"):  # a true that is not written as 1
        return False
    return isinstance(count, int) and not isinstance(count, bool)


def reason_in(headers: Mapping[Any, Any] | None) -> str | None:
    """Why a message died last, or None."""
    return next((death.reason for death in deaths_in(headers) if death.reason), None)


def count_in(headers: Mapping[Any, Any] | None, name: str) -> int:
    """A header of ours that counts. What is no such count, as somebody else may write it, is 0."""
    count = (headers or {}).get(name)
    return count if isinstance(count, int) and not isinstance(count, bool) and 0 < count <= MOST else 0


def _death(entry: Mapping[Any, Any]) -> Death:
    keys, time = entry.get("routing-keys"), entry.get("time")
    return Death(
        queue=_text(entry.get("queue")) or "",
        reason=_text(entry.get("reason")) or "",
        exchange=_text(entry.get("exchange")) or "",
        routing_keys=tuple(key for key in keys if isinstance(key, str)) if isinstance(keys, list) else (),
        time=time if isinstance(time, datetime) else None,
        expiration=_text(entry.get("original-expiration")),
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None

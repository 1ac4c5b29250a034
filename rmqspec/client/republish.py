"""Publishing a delivery on: to a queue where it waits, to a person who looks at it, or back to where it came from.

A copy of all properties is a trap: an expiration deletes the copy where it waits, ``CC`` delivers it to queues that
have it already, and the broker refuses (406) a ``user_id`` that is not the one of this connection. The broker drops
the first two itself when it dead-letters under a new key, and does not check the third. So does ``republish``; it
keeps what it drops, and where the message came from, in headers of its own. Everything else passes as it is.

Source: https://www.rabbitmq.com/docs/dlx#effects, https://www.rabbitmq.com/docs/sender-selected,
https://www.rabbitmq.com/docs/validated-user-id
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from copy import copy
from dataclasses import dataclass
from typing import Any

from rmqspec.client.deaths import deaths_in
from rmqspec.client.delivery import Delivery
from rmqspec.client.errors import PublishFailed, PublishRefused, Unencodable, Unrepublishable
from rmqspec.client.message import Confirmed
from rmqspec.client.publisher import Publisher

__all__ = [
    "Origin",
    "Wait",
    "beside",
    "confirmed",
    "foreign_headers",
    "headers_to_keep",
    "origin",
    "republish",
    "shortened",
]

ORIGINAL_EXCHANGE, ORIGINAL_KEY, ORIGINAL_CC = "original-exchange", "original-routing-key", "original-cc"
ORIGINAL_USER, ORIGINAL_EXPIRATION = "original-user-id", "original-expiration"

# The broker reads the first two at each publish, and writes the others at each delivery: a copy has counts of its own.
OF_ONE_PUBLISH = ("CC", "BCC", "x-delivery-count", "x-acquired-count", "x-stream-offset")
OF_EARLIER_DEATHS = (
    "x-death", "x-first-death-exchange", "x-first-death-queue", "x-first-death-reason", "x-last-death-exchange",
    "x-last-death-queue", "x-last-death-reason",
)  # fmt: skip
NOWHERE = {312, 404}  # no queue, no exchange: not the message's fault, and where rejected ones go may be missing too
REASON_SIZES = (500, 250, 120, 60, 30, 15)  # bytes of a reason; the next where the headers do not fit into a frame

Wait = Callable[[Future[Confirmed]], object]  # returns when a message is confirmed, or raises


def confirmed(future: Future[Confirmed]) -> Confirmed:
    """Waits for the broker's answer, as long as it takes: the plainest ``Wait``."""
    return future.result()


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a message came from, before anybody published it on.

    Attributes:
        exchange: Its publisher's.
        routing_key: Its publisher's.
        user_id: Its publisher, as the broker of that publish had checked it; or None.
        expiration: The milliseconds that its publisher gave it; or None.
    """

    exchange: str
    routing_key: str
    user_id: str | None = None
    expiration: str | None = None


def origin(delivery: Delivery) -> Origin:
    """Where a delivery came from at first: by our own headers, else by ``x-death``, else as it came now."""
    headers, properties = delivery.headers, delivery.properties
    first = [death for death in deaths_in(headers) if death.routing_keys][-1:]
    exchange, key = headers.get(ORIGINAL_EXCHANGE), headers.get(ORIGINAL_KEY)
    if not (isinstance(exchange, str) and isinstance(key, str)):
        exchange, key = delivery.exchange, delivery.routing_key
        for death in first:
            exchange, key = death.exchange, death.routing_keys[0]
    died_of_time = [death.expiration for death in first]
    return Origin(
        exchange,
        key,
        _first_text(headers.get(ORIGINAL_USER), properties.user_id),
        _first_text(headers.get(ORIGINAL_EXPIRATION), *died_of_time, properties.expiration),
    )


def republish(
    publisher: Publisher,
    delivery: Delivery,
    exchange: str,
    routing_key: str,
    headers: Iterable[Mapping[Any, Any]],
    *,
    wait: Wait = confirmed,
) -> None:
    """Publishes a copy of a delivery; when this returns the broker has it, and the original may be acknowledged.

    A crash in between leaves both, never none. The copy is persistent.

    Args:
        publisher: Whose connection is used.
        delivery: What is published on.
        exchange: Where the copy goes.
        routing_key: Under which key.
        headers: Those of the copy, ``headers_to_keep`` with others beside them; the next ones where these do not fit
            into one frame.
        wait: How to wait for the confirm.

    Raises:
        Unrepublishable: No such copy can be published: reject the original, so that the broker itself moves it to the
            dead-letter exchange.
        PublishFailed: The copy was not taken, as far as is known; the original must not be acknowledged.
    """
    error: Unencodable | None = None
    for chosen in headers:
        properties = copy(delivery.properties)
        properties.headers, properties.delivery_mode = dict(chosen), 2
        properties.expiration = properties.user_id = None
        try:
            wait(publisher.publish(exchange, routing_key, delivery.body, properties))
        except Unencodable as too_large:
            error = too_large
        except PublishRefused as refused:
            if refused.reply_code in NOWHERE:
                raise
            raise _unrepublishable(refused) from refused
        else:
            return
    assert error is not None
    raise _unrepublishable(error) from error


def beside(kept: Mapping[Any, Any], ours: Mapping[str, Any]) -> dict[Any, Any]:
    """Headers of ours and those to keep. Ours come first: behind a table that is broken off they would belong to it."""
    return {**ours, **kept, **ours}


def headers_to_keep(delivery: Delivery, *, history: bool = True) -> dict[Any, Any]:
    """The headers of a copy: those of the original, and what it loses.

    Args:
        delivery: The original.
        history: False drops ``x-death``. Up to 3.12 a broker believes what a client publishes there, and deletes a
            message that seems to go round and round through queues that dead-letter it.
    """
    first = origin(delivery)
    lost = {
        ORIGINAL_EXCHANGE: first.exchange,
        ORIGINAL_KEY: first.routing_key,
        ORIGINAL_CC: delivery.headers.get("CC"),
        ORIGINAL_USER: first.user_id,
        ORIGINAL_EXPIRATION: first.expiration,
    }
    return {
        **{name: value for name, value in lost.items() if value is not None},
        **foreign_headers(delivery, history=history),
    }


def foreign_headers(delivery: Delivery, *, history: bool = True) -> dict[Any, Any]:
    """The headers of a delivery, less what the broker has written or reads itself."""
    gone = OF_ONE_PUBLISH if history else (*OF_ONE_PUBLISH, *OF_EARLIER_DEATHS)
    return {name: value for name, value in delivery.headers.items() if name not in gone}


def shortened(reason: str) -> Iterator[str]:
    """A reason, then shorter ones, for headers that have less and less room. It is cut between characters."""
    data = reason.encode(errors="backslashreplace")
    for size in REASON_SIZES:
        yield data.decode() if len(data) <= size else data[: size - 3].decode(errors="ignore") + "…"


def _unrepublishable(error: PublishFailed) -> Unrepublishable:
    return Unrepublishable(
        f"no copy of it can be published ({error})", error.message, error.reply_code, error.reply_text
    )


def _first_text(*values: object) -> str | None:
    return next((value for value in values if isinstance(value, str)), None)

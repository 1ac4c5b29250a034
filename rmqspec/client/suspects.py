"""Which of the unanswered messages a broker has refused.

A refusal closes the channel and names no delivery tag. But the broker says in its text what it did not like, and that
stands in the message: its exchange, its expiration, its size. A refusal without such a sign may mean any of them.

The signs were read from 3.10, 4.0 and 4.3, which say the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rmqspec.client.errors import ClientError
from rmqspec.client.returns import properties_of
from rmqspec.client.sent import Sent

__all__ = ["refused", "suspects"]

CONNECTION_FORCED, ENDS_WELL = 320, 200  # a broker that stops, or an operator: nothing is wrong with a message
SHORTENED = "..."  # the end of a text that has had no room in 255 bytes


def refused(reason: ClientError) -> bool:
    """Whether a channel or a connection ended because the broker did not like something, and said so."""
    return reason.reply_code not in (0, ENDS_WELL, CONNECTION_FORCED)


def suspects(text: str, unanswered: Sequence[Sent]) -> list[int]:
    """Which messages a refusal may mean, by their places; none if the text says nothing that is known.

    Args:
        text: The broker's.
        unanswered: In the order of publishing.
    """
    return [place for place, sent in enumerate(unanswered) if any(_in(text, sign) for sign in _signs(sent))]


def _signs(sent: Sent) -> Iterator[str]:
    message, properties = sent.message, properties_of(sent)
    exchange = message.exchange
    yield f"no exchange '{exchange}' in vhost"
    yield f"internal exchange '{exchange}' in vhost"
    yield f"access to exchange '{exchange or 'amq.default'}' in vhost"
    yield f"access to topic '{message.routing_key}' in exchange '{exchange}' in vhost"
    yield f"message size {len(message.body)} is larger"
    if properties.expiration is not None:
        yield f"invalid expiration '{properties.expiration}': "
    if properties.user_id is not None:
        yield f"user_id property set to '{properties.user_id}' but"
    if properties.delivery_mode is not None:
        yield f"delivery_mode_unknown,{properties.delivery_mode:d}}}"
    headers = properties.headers or {}
    for name in ("CC", "BCC"):
        if name in headers and not isinstance(headers[name], list):
            yield f'unacceptable_type_in_header,"{name}",'


def _in(text: str, sign: str) -> bool:
    if sign in text:
        return True
    if not text.endswith(SHORTENED):
        return False
    begin, kept = text.find(sign[:10]), text.removesuffix(SHORTENED)
    return begin >= 0 and sign.startswith(kept[begin:])

"""Which of the unanswered messages a broker has refused, and what it has done with the others.

A refusal closes the channel and names no delivery tag. But the broker says in its text what it did not like, and that
stands in the message: its exchange, its expiration, its size. A refusal without such a sign may mean any of them.

A broker works through a channel in the order of publishing, and ignores all that follows a refusal. So it may have what
was published before the refused message, and it has not what was published behind.

The signs were read from 3.10, 4.0 and 4.3, which say the same.
Source: https://www.rabbitmq.com/docs/channels#error-handling
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from rmqspec.client.errors import ChannelClosed, ClientError
from rmqspec.client.returns import properties_of
from rmqspec.client.sent import Sent

__all__ = ["Verdict", "judge", "refused", "suspects"]

CONNECTION_FORCED, ENDS_WELL = 320, 200  # a broker that stops, or an operator: nothing is wrong with a message
EXCHANGE_CODES = (403, 404)  # no permission for an exchange; no such exchange
DIRECT_REPLY_TO = "amq.rabbitmq.reply-to"  # a publisher does not consume from it, and it alone could get the reply
SHORTENED = "..."  # the end of a text that has had no room in 255 bytes


def refused(reason: ClientError) -> bool:
    """Whether a channel or a connection ended because the broker did not like something, and said so."""
    return reason.reply_code not in (0, ENDS_WELL, CONNECTION_FORCED)


class Verdict(NamedTuple):
    """The unanswered messages after a refusal, in the order of publishing.

    Attributes:
        before: The broker may have them.
        meant: One of them was refused; of those before it and behind it the same is true as of ``before``, ``behind``.
        behind: The broker has not looked at them.
    """

    before: Sequence[Sent]
    meant: Sequence[Sent]
    behind: Sequence[Sent]


def judge(unanswered: Sequence[Sent], reason: ClientError, passed: Callable[[str], bool]) -> Verdict:
    """Narrows down which message was refused; where ``meant`` is a single one, that is it.

    Args:
        unanswered: In the order of publishing.
        reason: What closed the channel, or its connection.
        passed: Whether an exchange has taken a message on this channel.
    """
    first, last = 0, len(unanswered) - 1
    places = suspects(reason.reply_text, unanswered) if isinstance(reason, ChannelClosed) else []
    if places:
        # What a message says of itself is refused at its first occurrence. An exchange may have gone in between.
        gone = reason.reply_code in EXCHANGE_CODES and passed(unanswered[places[0]].message.exchange)
        first, last = places[0], places[-1] if gone else places[0]
    return Verdict(unanswered[:first], unanswered[first : last + 1], unanswered[last + 1 :])


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
    if properties.reply_to == DIRECT_REPLY_TO:
        yield "fast reply consumer does not exist"
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

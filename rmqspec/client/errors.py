"""What can go wrong when talking to a broker.

::

    ClientError
    ├── InvalidUrl           the address cannot be read
    ├── InvalidSetting       a number is none, a certificate cannot be read
    ├── TlsRefused           the certificates do not fit
    ├── Unreachable          nobody answers at the address
    ├── LoginRefused         user or password are wrong
    ├── VhostRefused         the vhost is missing, or this user may not enter it
    ├── ConnectionLost       an open connection ended
    ├── Unanswered           the connection stands, and the broker has not answered in time
    ├── ChannelClosed        the broker refused an operation and closed the channel
    ├── ConsumerCancelled    the broker ended a subscription: its queue was deleted
    ├── PublishFailed
    │   ├── Returned         no queue is bound for the message; it came back
    │   ├── Nacked           a queue refused the message
    │   ├── OutcomeUnknown   the connection or the time was over before the broker had answered
    │   ├── Unencodable      the protocol cannot carry the message; it was not sent
    │   ├── Unrepublishable  no copy of a delivery can be published, whatever is left out; it was not sent
    │   └── WindowFull       too many messages are unanswered; this one was not sent
    └── CallFailed
        ├── CallTimedOut     no reply before the deadline
        └── CallRefused      the server replied with an error

Where the broker said why, its own ``reply_code`` and ``reply_text`` are kept.
Source of the codes: https://www.rabbitmq.com/amqp-0-9-1-reference#constants
"""

from __future__ import annotations

from rmqspec.client.message import Message

__all__ = [
    "CallFailed",
    "CallRefused",
    "CallTimedOut",
    "ChannelClosed",
    "ClientError",
    "ConnectionLost",
    "ConsumerCancelled",
    "InvalidSetting",
    "InvalidUrl",
    "LoginRefused",
    "Nacked",
    "OutcomeUnknown",
    "PublishFailed",
    "Returned",
    "TlsRefused",
    "Unanswered",
    "Unencodable",
    "Unreachable",
    "Unrepublishable",
    "VhostRefused",
    "WindowFull",
]


class ClientError(Exception):
    """Base of every error of this room; its text says what happened, to what, and what to do.

    Attributes:
        reply_code: The broker's code, or 0 where the broker said nothing.
        reply_text: The broker's words.
    """

    def __init__(self, message: str, reply_code: int = 0, reply_text: str = "") -> None:
        super().__init__(message)
        self.reply_code, self.reply_text = reply_code, reply_text


class InvalidUrl(ClientError):
    """The broker's address is no AMQP URL."""


class InvalidSetting(ClientError):
    """A setting is not what it should be."""


class TlsRefused(ClientError):
    """One side does not trust the other's certificate."""


class Unreachable(ClientError):
    """Nobody answers at the broker's address."""


class LoginRefused(ClientError):
    """The broker knows no such user, or another password."""


class VhostRefused(ClientError):
    """The vhost does not exist, or the user has no permission for it."""


class ConnectionLost(ClientError):
    """An open connection ended. What was unacknowledged on it goes back to its queues."""


class Unanswered(ClientError):
    """The broker says nothing, though the connection stands."""


class ChannelClosed(ClientError):
    """The broker closed the channel; the connection and its other channels live on."""


class ConsumerCancelled(ClientError):
    """The broker ended a subscription, as it does when the queue is deleted."""


class PublishFailed(ClientError):
    """The broker did not take a message, as far as is known.

    Attributes:
        message: The message, to be sent again, kept, or given up.
    """

    def __init__(self, what: str, message: Message, reply_code: int = 0, reply_text: str = "") -> None:
        super().__init__(f"{what}: {message}", reply_code, reply_text)
        self.message = message


class Returned(PublishFailed):
    """The exchange had no queue for the message, and returned it (312 NO_ROUTE)."""


class Nacked(PublishFailed):
    """A queue refused the message, as a full one with ``x-overflow: reject-publish`` does."""


class OutcomeUnknown(PublishFailed):
    """The connection or the time was over before the broker answered: the message may be in its queues, or not.

    Sent again it may be there twice; not sent again it may be missing. Only the caller knows which is worse.
    """


class Unencodable(PublishFailed):
    """A name, a key, a property or the body has no place in AMQP 0-9-1, as a key of more than 255 bytes."""


class Unrepublishable(PublishFailed):
    """No copy of a delivery can be published. The broker can move it: reject it to its dead-letter exchange."""


class WindowFull(PublishFailed):
    """So many messages are unanswered that this one was not sent: the broker is slow, blocked, or away."""


class CallFailed(ClientError):
    """A remote call brought no result."""


class CallTimedOut(CallFailed):
    """No reply came before the deadline. The server may still have done the work."""


class CallRefused(CallFailed):
    """The server replied that it could not do what was asked."""

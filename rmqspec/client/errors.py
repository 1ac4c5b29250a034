"""What can go wrong when talking to a broker.

::

    ClientError
    ├── InvalidUrl           the address cannot be read
    ├── InvalidSetting       a value is not a number or is out of range, a certificate cannot be read
    ├── TlsRefused           the certificates do not fit
    ├── Unreachable          nobody answers at the address
    ├── LoginRefused         user or password are wrong
    ├── VhostRefused         the vhost is missing, or this user may not enter it
    ├── ConnectionLost       an open connection ended
    ├── Unanswered           the connection stands, and the broker has not answered in time
    ├── ChannelClosed        the broker refused an operation and closed the channel
    ├── ConsumerCancelled    the broker ended a subscription: its queue was deleted
    ├── StillAtWork          a handler has not finished within the grace after the end
    ├── WrongProcess         what was opened before a fork is used after it
    ├── WrongThread          a callback would wait for the thread that runs it
    ├── PublishFailed
    │   ├── Returned         no queue is bound for the message; it was returned
    │   ├── Nacked           a queue rejected the message
    │   ├── PublishRefused   the broker refused the message and closed the channel for it (also a ChannelClosed)
    │   ├── OutcomeUnknown   the connection or the time was over before the broker had answered
    │   ├── NotSent          the time was over before the message could be sent
    │   ├── Unencodable      the protocol cannot carry the message; it was not sent
    │   ├── Unrepublishable  no copy of a delivery can be published, whatever is left out; it was not sent
    │   └── WindowFull       too many messages are unanswered; this one was not sent
    └── CallFailed
        ├── CallTimedOut     no reply before the deadline
        └── CallRefused      the server replied with an error

Where the broker said why, its own ``reply_code`` and ``reply_text`` are kept. ``permanent`` says whether to try again
is of no use.
Source of the codes: https://www.rabbitmq.com/amqp-0-9-1-reference#constants
"""

from __future__ import annotations

from copy import copy
from copyreg import __newobj__  # type: ignore[attr-defined]
from typing import Any, TypeVar

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
    "NotSent",
    "OutcomeUnknown",
    "PublishFailed",
    "PublishRefused",
    "Returned",
    "StillAtWork",
    "TlsRefused",
    "Unanswered",
    "Unencodable",
    "Unreachable",
    "Unrepublishable",
    "VhostRefused",
    "WindowFull",
    "WrongProcess",
    "WrongThread",
    "again",
]

# What a broker says again to the same request, until somebody changes the request or what is declared and permitted.
# The others pass: 320 is a broker that stops, 405 a lock of another connection, 506 and 541 are its own trouble.
PERMANENT_CODES = frozenset({311, 312, 402, 403, 404, 406, 501, 502, 503, 504, 505, 530, 540})


E = TypeVar("E", bound="ClientError")


class ClientError(Exception):
    """Base of every error of the client; its text says what happened, to what, and what to do.

    Attributes:
        reply_code: The broker's code, or 0 where the broker said nothing.
        reply_text: The broker's words.
    """

    _permanent: bool | None = None  # None: the broker's code decides

    def __init__(self, message: str, reply_code: int = 0, reply_text: str = "") -> None:
        super().__init__(message)
        self.reply_code, self.reply_text = reply_code, reply_text

    def __reduce__(self) -> tuple[Any, ...]:
        """How it is copied, and how it leaves a process: not by its constructor, which is another one in a subclass."""
        return __newobj__, (type(self), *self.args), self.__dict__

    @property
    def permanent(self) -> bool:
        """Whether the same would fail again, until somebody changes a setting, the message, the topology or rights.

        False means that it may pass: a later attempt can succeed as it is.
        """
        return self.reply_code in PERMANENT_CODES if self._permanent is None else self._permanent


def again(error: E) -> E:
    """The same error for one more caller: an exception that is raised twice collects the traces of both."""
    twin = copy(error)
    twin.__cause__ = error.__cause__
    return twin


class InvalidUrl(ClientError):
    """The broker's address is no AMQP URL."""

    _permanent = True


class InvalidSetting(ClientError):
    """A setting is not what it should be."""

    _permanent = True


class TlsRefused(ClientError):
    """One side does not trust the other's certificate."""

    _permanent = True


class Unreachable(ClientError):
    """Nobody answers at the broker's address."""


class LoginRefused(ClientError):
    """The broker knows no such user, or another password."""


class VhostRefused(ClientError):
    """The vhost does not exist, the user has no permission for it, or there are too many connections already."""

    @property
    def permanent(self) -> bool:
        """False at a limit of connections: others close theirs."""
        return " limit " not in self.reply_text


class ConnectionLost(ClientError):
    """An open connection ended. What was unacknowledged on it goes back to its queues."""

    _permanent = False


class Unanswered(ClientError):
    """The broker says nothing, though the connection stands."""


class ChannelClosed(ClientError):
    """The broker closed the channel; the connection and its other channels live on."""


class ConsumerCancelled(ClientError):
    """The broker ended a subscription, as it does when the queue is deleted."""

    _permanent = True


class StillAtWork(ClientError):
    """A handler has not finished in time; its delivery was left unacknowledged, and goes back to its queue."""


class WrongProcess(ClientError):
    """What was opened in another process is used in one that was forked from it: connection and thread are not here.

    Each process opens connections of its own, after the fork.
    """

    _permanent = True


class WrongThread(ClientError):
    """A callback waits for what the thread that runs it would have to do: it would wait for ever.

    What has to wait belongs in another thread.
    """

    _permanent = True


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
    """A queue rejected the message, as a full one with ``x-overflow: reject-publish`` does."""


class PublishRefused(PublishFailed, ChannelClosed):
    """The broker refused this very message, which is in no queue, and closed the channel or the connection for it.

    A missing exchange is 404, no permission 403, and 406 is a property that the broker checks (``expiration``,
    ``user_id``, ``CC``) or a body above ``max_message_size``. The publisher has opened another channel and goes on.
    """


class OutcomeUnknown(PublishFailed):
    """The connection or the time was over before the broker answered: the message may be in its queues, or not.

    Sent again it may be there twice; not sent again it may be missing. Only the caller knows which is worse. With a
    ``reply_code`` the broker has refused something: this message, or one that was unanswered beside it.
    """

    _permanent = False


class NotSent(PublishFailed):
    """The deadline, or the publisher's own end, came before the message could leave: it is in no queue."""


class Unencodable(PublishFailed):
    """A name, a key, a property or the body has no place in AMQP 0-9-1, as a key of more than 255 bytes."""

    _permanent = True


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

"""What can go wrong when a broker is looked for.

::

    BrokerError
    ├── Unavailable        one source cannot give a broker: what happened, what to do
    │   └── ImageMissing   the engine answers, and the image is not to be had
    ├── InvalidChoice      a setting has a value that is none
    ├── NoBroker           every source refused: one screen
    ├── BrokerDied         a broker that was ours stopped before it answered
    ├── NotOurs            somebody else's broker is not restarted
    ├── ControlError       rabbitmqctl refused a command
    ├── ManagementError    the management API refused a request
    └── NoManagement       nobody has said where there is one
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "BrokerDied",
    "BrokerError",
    "ControlError",
    "ImageMissing",
    "InvalidChoice",
    "ManagementError",
    "NoBroker",
    "NoManagement",
    "NotOurs",
    "Unavailable",
]


class BrokerError(Exception):
    """Base of every error of finding and running a broker; its text is a sentence for a person."""


class Unavailable(BrokerError):
    """A source cannot give a broker.

    Args:
        source: ``url``, ``container``, ``node`` or ``package``.
        reason: What happened, without a full stop.
        remedy: What a person can do about it, without a full stop.
    """

    def __init__(self, source: str, reason: str, remedy: str) -> None:
        super().__init__(f"{source}: {reason}. {remedy}.")
        self.source, self.reason, self.remedy = source, reason, remedy


class ImageMissing(Unavailable):
    """An image is not on this machine and cannot be pulled.

    Args:
        image: Its name.
        words: What the engine said.
    """

    def __init__(self, image: str, words: str) -> None:
        reason = f"the image {image} is not on this machine and cannot be pulled ({words})"
        remedy = "pull it once where a registry answers, or name another with --rabbitmq-image"
        super().__init__("container", reason, remedy)


class InvalidChoice(BrokerError):
    """A setting has a value that is none. The value itself is not said: by a slip it may be a URL with a password."""


class NoBroker(BrokerError):
    """No source could give a broker; the text is the one screen that a person sees."""

    def __init__(self, refusals: Sequence[Unavailable]) -> None:
        self.refusals = tuple(refusals)
        lines = ["No RabbitMQ broker could be found or started. What was tried:", ""]
        for refusal in self.refusals:
            lines += [f"  {refusal.source:<10} {refusal.reason}.", f"  {'':<10} → {refusal.remedy}."]
        lines += ["", "Force one with --rabbitmq-broker=url|container|node|package."]
        super().__init__("\n".join(lines))


class BrokerDied(BrokerError):
    """A broker that was started here ended, or never answered; the text ends with its last log lines."""


class NotOurs(BrokerError):
    """The broker belongs to somebody else: it is neither restarted nor killed."""


class ControlError(BrokerError):
    """``rabbitmqctl`` refused a command; the text ends with what it said."""


class ManagementError(BrokerError):
    """The management API is not there, or refused.

    Attributes:
        status: The HTTP status, or 0 where nothing answered.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class NoManagement(BrokerError):
    """The management API is not there to be asked: its address was not given, and none is guessed.

    Args:
        wanted: What needs it, as a sentence begins: ``a policy is set``.
    """

    def __init__(self, wanted: str) -> None:
        super().__init__(f"{wanted} by the management API, and no address of one was given (--rabbitmq-management-url)")

"""What every broker can do, wherever it comes from."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property

from rmqspec.tools.broker.configuration import PLAIN, Configuration
from rmqspec.tools.broker.endpoint import Endpoint, Identity, greet
from rmqspec.tools.broker.errors import BrokerDied, ManagementError
from rmqspec.tools.broker.management import Management

__all__ = ["BOOT_TIMEOUT", "STARTED", "Broker", "Progress", "wait_until_ready"]

MANAGEMENT_TIMEOUT = 5.0  # seconds between a broker's first words and those of its management API; mostly none
BOOT_TIMEOUT = 120.0  # seconds; a cold start on two busy cores takes 8, in a container on a laptop up to 30

# The last thing that a booting server says. It answers on AMQP and HTTP a moment earlier, but is not yet whole: a
# direct reply of 4.0 is lost if the node does not yet count itself among the running ones.
STARTED = "Server startup complete"

Progress = Callable[[str], None]  # told in words what is going on


class Broker(ABC):
    """A running RabbitMQ.

    Attributes:
        source: ``url``, ``container``, ``node`` or ``package``.
        description: Where it comes from, for the header: ``a private node``.
        endpoint: Its address and a login that may do everything.
        passed_over: The sources that were asked before this one, each with the reason why it gave none.
        vhost: The one vhost that all tests use in turn, of a broker without a management API; None where each test
            has a vhost of its own.
    """

    source: str
    description: str
    endpoint: Endpoint
    passed_over: tuple[str, ...] = ()
    vhost: str | None = None

    @cached_property
    def identity(self) -> Identity:
        """Product, version and platform, as the broker announces them."""
        return greet(self.endpoint)

    @cached_property
    def management(self) -> Management:
        """A client of its management API."""
        return Management(self.endpoint)

    @abstractmethod
    def another(self, configuration: Configuration = PLAIN) -> Broker:
        """A second broker of the same kind, to be restarted and killed; whoever asks for it closes it.

        Args:
            configuration: What it is started with beyond the defaults.

        Raises:
            NotOurs: The broker is somebody else's.
        """

    @abstractmethod
    def start(self) -> None:
        """Starts it again at the same address and waits until it answers."""

    @abstractmethod
    def stop(self) -> None:
        """Stops it in good order; its data stay."""

    @abstractmethod
    def kill(self) -> None:
        """Ends it as a power cut would; its data stay as they are on disk."""

    @abstractmethod
    def control(self, *arguments: str) -> str:
        """What ``rabbitmqctl`` answers; for what the management API cannot do. It takes a second.

        Raises:
            NotOurs: The broker is somebody else's.
            ControlError: The command was refused.
        """

    @abstractmethod
    def close(self) -> None:
        """Ends it and removes all that it left."""

    def restart(self) -> None:
        """Stops it in good order and starts it again."""
        self.stop()
        self.start()


def wait_until_ready(
    endpoint: Endpoint, started: Callable[[], bool], died: Callable[[], str | None], timeout: float = BOOT_TIMEOUT
) -> Identity:
    """Waits until a broker has booted, speaks AMQP, and its management API, if it has one, knows the login.

    Args:
        endpoint: The broker's.
        started: Whether its log says so.
        died: Tells why it will never answer, or None while it still may.
        timeout: Seconds.

    Raises:
        BrokerDied: It ended, or the time is over.
    """
    management = Management(endpoint)
    deadline = time.monotonic() + timeout
    speaks_amqp_since: float | None = None
    while True:
        try:
            if not started():
                raise ConnectionError("its log does not say that it has started")
            identity = greet(endpoint)
            speaks_amqp_since = speaks_amqp_since or time.monotonic()
            if endpoint.management_url:
                management.whoami()
        except (OSError, ManagementError) as error:
            epitaph = died()
            if speaks_amqp_since and time.monotonic() > speaks_amqp_since + MANAGEMENT_TIMEOUT:
                epitaph = f"it speaks AMQP, and its management API does not answer: is the plugin enabled? ({error})"
            if epitaph is None and time.monotonic() > deadline:
                epitaph = f"no answer within {timeout:.0f} s; the last was: {error}"
            if epitaph is not None:
                raise BrokerDied(epitaph) from error
            time.sleep(0.05)
        else:
            return identity

"""The order system as a whole: its services, each in a thread with connections of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import TypeVar

from pika.exceptions import AMQPError

from rmqspec.client import Settings, connect
from rmqspec.client.connection import translated
from rmqspec.orders.producer import Producer
from rmqspec.orders.service import Say, Service, silent
from rmqspec.orders.topology import order_system

__all__ = ["OrderSystem"]

S = TypeVar("S", bound=Service)

STOP_TIMEOUT = 10.0  # seconds for a service to finish the message that it works on


class OrderSystem:
    """Declares the topology, starts services, and stops them again.

    Args:
        source: The broker's AMQP URL, with the vhost, or settings.
        name: What the connections are called; each adds what it is for.
        say: Where the producer tells what it does.

    Attributes:
        connection: For whoever looks on; the services have their own.
        channel: In confirm mode.
        producer: Publishes orders.
    """

    def __init__(self, source: str | Settings, name: str = "orders", say: Say = silent) -> None:
        self._settings = replace(Settings.of(source), label=name)
        self._running: list[tuple[Service, threading.Thread]] = []
        self._errors: list[BaseException] = []
        self.connection = connect(self._settings, "onlooker", heartbeat=0)  # nobody serves it between two looks
        self.channel = self.connection.channel()
        self.channel.confirm_delivery()
        order_system().declare(self.channel)
        self.producer = Producer(self._settings, say)

    def start(self, make: Callable[[Settings], S]) -> S:
        """Starts a service.

        Args:
            make: Makes the service of the broker's settings.
        """
        service = make(self._settings)
        thread = threading.Thread(target=self._run, args=(service,), daemon=True)
        self._running.append((service, thread))
        thread.start()
        return service

    def depth(self, queue: str) -> int:
        """How many messages are ready in a queue: neither delivered nor gone."""
        with translated(f"looking at {queue!r}"):
            return int(self.channel.queue_declare(queue, passive=True).method.message_count)

    def consumers(self, queue: str) -> int:
        """How many consumers a queue has, those of other programs among them."""
        with translated(f"looking at {queue!r}"):
            return int(self.channel.queue_declare(queue, passive=True).method.consumer_count)

    def halt(self, service: Service) -> None:
        """Stops one service, and returns when it has settled its unacked messages and closed its connection."""
        for entry in [entry for entry in self._running if entry[0] is service]:
            service.stop()
            entry[1].join(STOP_TIMEOUT)
            self._running.remove(entry)

    def stop(self) -> None:
        """Stops all services and closes all connections.

        Raises:
            ClientError: What a service ended with, if it did not end by being stopped.
        """
        for service, _ in self._running:  # all at once, so that they finish side by side
            service.stop()
        for service in [service for service, _ in self._running]:
            self.halt(service)
        self.producer.close()
        if self.connection.is_open:
            with suppress(AMQPError):  # a broker that is gone cannot be told goodbye
                self.connection.close()
        if self._errors:
            raise self._errors[0]

    def __enter__(self) -> OrderSystem:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self, service: Service) -> None:
        try:
            service.run()
        except Exception as error:
            self._errors.append(error)

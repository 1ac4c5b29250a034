"""Answering calls: a reply to the request's return address, with the request's correlation id.

Source: https://www.rabbitmq.com/docs/direct-reply-to, https://www.rabbitmq.com/tutorials/tutorial-six-python
"""

from __future__ import annotations

from collections.abc import Callable

from rmqspec.client.consumer import Consumer, Delivery, Handler, Outcome
from rmqspec.client.message import Message, persistent
from rmqspec.client.reply_to import is_readable
from rmqspec.client.rpc import ERROR_HEADER
from rmqspec.client.settings import Settings
from rmqspec.client.topology import Topology

__all__ = ["RpcServer"]


class RpcServer:
    """Answers the requests on one queue.

    Args:
        source: The broker's URL, or settings.
        queue: Whose requests.
        answer: Makes the reply's body of the request's. A ``ValueError`` that it raises is told to the caller.
        name: The connection's and the consumer tag.
        prefetch: How many requests the broker may send ahead.
        topology: Declared before consuming, at each connection.
        without_address: What becomes of a request that says not where its reply should go, or says it in a way that the
            broker cannot read; by default it is rejected.

    Attributes:
        answered: How many replies were sent.
    """

    def __init__(
        self,
        source: str | Settings,
        queue: str,
        answer: Callable[[bytes], bytes],
        name: str = "rpc-server",
        *,
        prefetch: int = 10,
        topology: Topology | None = None,
        without_address: Handler = lambda _: Outcome.REJECT,
    ) -> None:
        self._answer, self._without_address = answer, without_address
        self._consumer = Consumer(source, queue, self._handle, prefetch=prefetch, topology=topology, name=name)
        self.answered = 0

    def run(self) -> None:
        """Answers until ``stop`` is called; raises what ``Consumer.run`` raises."""
        self._consumer.run()

    def stop(self) -> None:
        """Ends ``run`` after the request in hand."""
        self._consumer.stop()

    def _handle(self, delivery: Delivery) -> Outcome:
        properties = delivery.properties
        if not properties.reply_to or not is_readable(properties.reply_to):
            return self._without_address(delivery)
        headers: dict[str, str] = {}
        try:
            body = self._answer(delivery.body)
        except ValueError as error:
            body, headers = b"", {ERROR_HEADER: str(error)}
        reply = persistent(correlation_id=properties.correlation_id, headers=headers)
        # On the request's own channel, ahead of its ack: the broker takes them in this order, so a request is done only
        # when its reply is on its way. Not mandatory: the caller may have gone, and up to 4.1 the broker returns a
        # mandatory direct reply even when it has delivered it.
        self._consumer.send(Message("", properties.reply_to, body, reply, mandatory=False))
        self.answered += 1
        return Outcome.ACK

"""Calls over queues: a request with a return address, a reply with the request's correlation id.

Source: https://www.rabbitmq.com/docs/direct-reply-to, https://www.rabbitmq.com/tutorials/tutorial-six-python
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

from pika import BasicProperties, DeliveryMode, exceptions
from pika.spec import Basic

from rmqspec.client.connection import Channel, Connection, translated
from rmqspec.client.consumer import Consumer, Delivery, Handler, Outcome
from rmqspec.client.errors import CallFailed, CallRefused, CallTimedOut
from rmqspec.client.publisher import Publisher, persistent

__all__ = ["ERROR_HEADER", "Call", "RpcClient", "RpcServer"]

DIRECT_REPLY_TO = "amq.rabbitmq.reply-to"  # the broker's pseudo-queue: no queue is made, replies come straight back
ERROR_HEADER = "error"  # on a reply: what the server could not do


class Call:
    """A request on its way. Several may be open at once; each takes its own reply."""

    def __init__(self, client: RpcClient, queue: str, correlation_id: str, deadline: float, timeout: float) -> None:
        self._client, self._queue, self._deadline, self._timeout = client, queue, deadline, timeout
        self.correlation_id = correlation_id

    def result(self) -> bytes:
        """The reply's body; waits for it until the call's deadline.

        Raises:
            CallTimedOut: No reply came in time.
            CallRefused: The server replied with an error.
            ConnectionLost: The connection ended while waiting.
        """
        reply = self._client.wait(self.correlation_id, self._deadline)
        if reply is None:
            raise CallTimedOut(f"no reply from {self._queue!r} within {self._timeout:g} s: is its server running?")
        properties, body = reply
        refusal = (properties.headers or {}).get(ERROR_HEADER)
        if refusal is not None:
            raise CallRefused(f"{self._queue!r} refused the call: {refusal!s}")
        return body


class RpcClient:
    """Calls servers on other queues.

    Args:
        connection: Used by one thread only.
        timeout: Seconds that a call may take; each call can have its own.
        exclusive_queue: Take replies from a queue of the client's own instead of the broker's direct reply-to. It
            holds a reply that comes while the client does not look, and goes with the connection.
    """

    def __init__(self, connection: Connection, timeout: float = 5.0, *, exclusive_queue: bool = False) -> None:
        self._connection, self._timeout = connection, timeout
        self._waiting: set[str] = set()
        self._replies: dict[str, tuple[BasicProperties, bytes]] = {}
        with translated("preparing for replies"):
            self._channel = connection.channel()
            self._channel.confirm_delivery()
            self.reply_to = DIRECT_REPLY_TO
            if exclusive_queue:
                self.reply_to = str(self._channel.queue_declare("", exclusive=True).method.queue)
            self._channel.basic_consume(self.reply_to, self._on_reply, auto_ack=True)

    def call(self, queue: str, request: bytes, timeout: float | None = None) -> bytes:
        """Sends a request and returns the reply's body.

        Args:
            queue: The server's.
            request: The body, JSON.
            timeout: Seconds; by default the client's.

        Raises:
            CallFailed: There is no such queue, no reply in time, or the server refused.
        """
        return self.send(queue, request, timeout).result()

    def send(self, queue: str, request: bytes, timeout: float | None = None) -> Call:
        """Sends a request without waiting for its reply.

        Raises:
            CallFailed: There is no such queue. Known at once, not at the deadline, because the request is mandatory.
        """
        seconds = self._timeout if timeout is None else timeout
        call = Call(self, queue, uuid.uuid4().hex, time.monotonic() + seconds, seconds)
        properties = BasicProperties(
            content_type="application/json",
            delivery_mode=DeliveryMode.Transient,  # nobody waits for it any more after a restart
            correlation_id=call.correlation_id,
            reply_to=self.reply_to,
            expiration=str(int(seconds * 1000)),  # nor after the deadline
        )
        self._waiting.add(call.correlation_id)
        with translated(f"calling {queue!r}"):
            try:
                self._channel.basic_publish("", queue, request, properties, mandatory=True)
            except exceptions.UnroutableError as error:
                self._waiting.discard(call.correlation_id)
                raise CallFailed(f"there is no queue {queue!r} to call: was its server ever started?", 312) from error
        return call

    def wait(self, correlation_id: str, deadline: float) -> tuple[BasicProperties, bytes] | None:
        """Takes the reply with this correlation id, or None at the deadline (of ``time.monotonic``)."""
        with translated("waiting for a reply"):
            while correlation_id not in self._replies and (left := deadline - time.monotonic()) > 0:
                self._connection.process_data_events(time_limit=left)
        self._waiting.discard(correlation_id)  # a late reply is now a foreign one
        return self._replies.pop(correlation_id, None)

    def close(self) -> None:
        """Closes the client's channel; an exclusive reply queue goes with it."""
        if self._channel.is_open:
            if self.reply_to != DIRECT_REPLY_TO:
                self._channel.queue_delete(self.reply_to)
            self._channel.close()

    def _on_reply(self, _: Channel, __: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
        if properties.correlation_id in self._waiting:  # late, repeated and foreign replies are dropped
            self._replies[str(properties.correlation_id)] = (properties, body)


class RpcServer:
    """Answers the requests on one queue.

    Args:
        connection: Used by the thread that calls ``run`` only.
        queue: Must be declared.
        answer: Makes the reply's body of the request's. A ``ValueError`` that it raises is told to the caller.
        name: The consumer tag.
        without_address: What becomes of a request that says not where its reply should go; by default it is rejected.

    Attributes:
        answered: How many replies were sent.
    """

    def __init__(
        self,
        connection: Connection,
        queue: str,
        answer: Callable[[bytes], bytes],
        name: str = "",
        without_address: Handler = lambda _: Outcome.REJECT,
    ) -> None:
        self._answer, self._without_address, self._publisher = answer, without_address, Publisher(connection)
        self._consumer = Consumer(connection, queue, self._handle, name=name)
        self.answered = 0

    def run(self) -> None:
        """Answers until ``stop`` is called; raises what ``Consumer.run`` raises."""
        self._consumer.run()

    def stop(self) -> None:
        """Ends ``run`` after the request in hand."""
        self._consumer.stop()

    def _handle(self, delivery: Delivery) -> Outcome:
        properties = delivery.properties
        if not properties.reply_to:
            return self._without_address(delivery)
        headers: dict[str, str] = {}
        try:
            body = self._answer(delivery.body)
        except ValueError as error:
            body, headers = b"", {ERROR_HEADER: str(error)}
        self._reply(properties.reply_to, body, persistent(correlation_id=properties.correlation_id, headers=headers))
        return Outcome.ACK

    def _reply(self, reply_to: str, body: bytes, properties: BasicProperties) -> None:
        # Not mandatory: a caller may have gone, and up to 4.1 the broker returns a mandatory direct reply even when it
        # has delivered it.
        self._publisher.publish("", reply_to, body, properties, mandatory=False)
        self.answered += 1

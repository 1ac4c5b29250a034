"""Answering calls: a reply to the request's return address, with the request's correlation id.

Source: https://www.rabbitmq.com/docs/direct-reply-to, https://www.rabbitmq.com/tutorials/tutorial-six-python
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from collections.abc import Callable, Mapping
from typing import Any

from pika import BasicProperties

from rmqspec.client.consumer import Consumer, Delivery, Handler, Outcome
from rmqspec.client.content import Content
from rmqspec.client.deaths import can_die_again
from rmqspec.client.errors import ChannelClosed, Unencodable
from rmqspec.client.message import Message, persistent
from rmqspec.client.reply_to import Unreplied, is_readable
from rmqspec.client.rpc import ERROR_HEADER, ROUTING_HEADERS, TOO_LARGE
from rmqspec.client.settings import Settings
from rmqspec.client.topology import Topology

__all__ = ["RpcServer"]

LONGEST_ERROR = 500  # characters: a reply's headers must fit into a frame, and an error may quote its request

_log = logging.getLogger("rmqspec.client")


class RpcServer:
    """Answers the requests on one queue.

    Whatever ``answer`` raises becomes an error reply, and the server goes on: of a ``ValueError`` the caller gets the
    text, of any other exception the name of its class alone, as its text may say what is not for the caller. The log
    has all of it. The reply carries the request's headers, as ``traceparent``, and those of the answer; but for ``CC``
    and ``BCC``, which would route it to other queues too. A reply that is larger than the broker takes is an error too:
    the first of them closes the channel, and by that the limit is known.

    Args:
        source: The broker's URL, or settings.
        queue: The queue of the requests.
        answer: Makes the reply's body of the request's; the request is a ``Content``, which knows its ``headers`` and
            its ``reply_to``; the answer may be one too.
        name: The connection's and the consumer tag.
        prefetch: How many requests the broker may send ahead.
        concurrency: How many requests are answered at once, each in a thread.
        topology: Declared before consuming, at each connection.
        without_address: What becomes of a request that says not where its reply should go, or says it in a way that the
            broker cannot read, or fails at; by default it is rejected, unless a broker could fail at that too.
        grace: Seconds that requests being answered have to finish after ``stop``.

    Attributes:
        answered: How many replies were sent, errors among them.
    """

    def __init__(
        self,
        source: str | Settings,
        queue: str,
        answer: Callable[[Content], bytes],
        name: str = "rpc-server",
        *,
        prefetch: int = 10,
        concurrency: int = 1,
        topology: Topology | None = None,
        without_address: Handler | None = None,
        grace: float = 30.0,
    ) -> None:
        self._answer, self._without_address, self._name = answer, without_address or self._reject, name
        self._consumer = Consumer(
            source,
            queue,
            self._handle,
            prefetch=prefetch,
            concurrency=concurrency,
            topology=topology,
            name=name,
            grace=grace,
        )
        self._counting = threading.Lock()
        self.answered = 0
        self._limit, self._stops = math.inf, 0
        self._unreplied = Unreplied(prefetch, lambda: self._consumer.lost)

    def run(self) -> None:
        """Answers until ``stop`` is called; raises what ``Consumer.run`` raises."""
        stops = self._stops
        while True:
            try:
                return self._consumer.run()
            except ChannelClosed as error:
                limit = TOO_LARGE.search(error.reply_text)
                if limit is None or self._stops != stops:
                    raise
                self._limit = int(limit[2])  # the request comes again, and is told so

    def stop(self) -> None:
        """Ends ``run`` after the requests that are being answered."""
        self._stops += 1
        self._consumer.stop()

    @property
    def connected(self) -> bool:
        """Whether it takes requests now."""
        return self._consumer.connected

    @property
    def unanswered(self) -> bool:
        """Whether the broker has not answered the goodbye of the last run in time."""
        return self._consumer.unanswered

    def _handle(self, delivery: Delivery) -> Outcome:
        reply_to = delivery.properties.reply_to
        if not reply_to or not is_readable(reply_to):
            return self._without_address(delivery)
        outcome = self._unreplied.outcome(delivery)
        if outcome is not Outcome.ACK:
            return self._without_address(delivery) if outcome is Outcome.REJECT else outcome
        self._reply(delivery)
        with self._counting:
            self.answered += 1
        return Outcome.ACK

    def _reject(self, delivery: Delivery) -> Outcome:
        if can_die_again(delivery.headers):
            return Outcome.REJECT
        # Where the queue has a dead-letter exchange, a reject would end that queue in RabbitMQ 3.10.
        _log.error("%s: a request that nobody can be answered for is dropped, as its x-death is odd", self._name)
        return Outcome.ACK

    def _reply(self, delivery: Delivery) -> None:
        headers = delivery.headers
        passed_on = {key: value for key, value in headers.items() if _is_foreign(key)} if headers else {}
        try:
            request = Content(delivery.body, headers)
            request.reply_to = str(delivery.properties.reply_to)
            answer = self._answer(request)
            if not isinstance(answer, bytes):
                raise TypeError(f"the answer is of type {type(answer).__name__}, not bytes")
            if len(answer) > self._limit:
                raise ValueError(f"the answer has {len(answer)} bytes, and the broker takes {self._limit} at most")
            own = answer.headers if isinstance(answer, Content) else {}
            self._send(delivery.properties, answer, {**passed_on, **own} if own else passed_on)
        except BaseException as error:  # also of an answer that AMQP cannot carry; of a SystemExit as of any other
            refused = isinstance(error, ValueError)  # as the caller is told; all else is for the log alone
            level, trace = (logging.INFO, None) if refused else (logging.WARNING, error)
            _log.log(level, "%s: a call failed: %s", self._name, type(error).__name__, exc_info=trace)
            self._send_error(delivery.properties, _for_the_caller(error), passed_on)

    def _send_error(self, request: BasicProperties, words: str, passed_on: Mapping[str, Any]) -> None:
        for headers in (passed_on, {}):  # what came with the request may leave no room for the error
            try:
                return self._send(request, b"", {**headers, ERROR_HEADER: words})
            except Unencodable:
                continue
        _log.error("%s: a request has an address that no reply can be sent to", self._name)
        return None

    def _send(self, request: BasicProperties, body: bytes, headers: Mapping[str, Any]) -> None:
        kept = {name: value for name, value in headers.items() if name not in ROUTING_HEADERS}
        reply = persistent(correlation_id=request.correlation_id, headers=kept or None)
        # On the request's own channel, ahead of its ack: the broker takes them in this order, so a request is done only
        # when its reply is on its way. Not mandatory: the caller may have gone, and up to 4.1 the broker returns a
        # mandatory direct reply even when it has delivered it.
        self._consumer.send(Message("", str(request.reply_to), body, reply, mandatory=False))


def _for_the_caller(error: BaseException) -> str:
    words = ""
    if isinstance(error, ValueError):
        with contextlib.suppress(Exception):  # its text is made by code of its own
            words = str(error)
    words = (words or type(error).__name__)[:LONGEST_ERROR]
    return words.encode(errors="backslashreplace").decode()  # half of a surrogate pair has no form in UTF-8


def _is_foreign(header: str) -> bool:
    return header != ERROR_HEADER and not header.startswith("x-")

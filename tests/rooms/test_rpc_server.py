"""The server's side of remote calls: nothing that is asked of it ends it.

Code: rmqspec/client/rpc_server.py
"""

import asyncio
import threading

import pytest
from pika import BasicProperties

from rmqspec.client import Content, RpcClient, RpcServer
from rmqspec.client.errors import CallRefused


@pytest.fixture
def serve(url, channel, patience):
    """Runs a server of "q" that answers so: `serve(answer)`."""
    channel.queue_declare("q", durable=True)
    servers = []

    def start(answer, **options):
        server = RpcServer(url, "q", answer, **options)
        thread = threading.Thread(target=server.run)
        thread.start()
        servers.append((server, thread))
        return server

    yield start
    for server, thread in servers:
        server.stop()
        thread.join(patience)
        assert not thread.is_alive()


@pytest.fixture
def client(url):
    with RpcClient(url) as client:
        yield client


class Speechless(ValueError):
    """An error whose text cannot be made."""

    def __str__(self):
        raise RuntimeError("no text")


ODD_ERRORS = {
    b"exit": SystemExit(1),
    b"interrupt": KeyboardInterrupt(),
    b"cancelled": asyncio.CancelledError(),
    b"speechless": Speechless(),
    b"half": ValueError("half of a pair: \ud800"),
}


def text_of(request):
    """Whatever is asked."""
    if request == b"quotes":
        raise ValueError("no number: " + "x" * 200_000)
    if request in ODD_ERRORS:
        raise ODD_ERRORS[request]
    if request == b"password":
        raise KeyError("sesame-open")
    return {b"text": "text", b"nothing": None, b"sound": b"sound"}[request]


class TestAnswer:
    """What `answer` does."""

    @pytest.mark.parametrize(
        ("request_", "words"),
        [
            (b"quotes", "refused the call: no number: x{489}$"),
            (b"password", "refused the call: KeyError$"),
            (b"text", "refused the call: TypeError$"),
            (b"nothing", "refused the call: TypeError$"),
            (b"exit", "refused the call: SystemExit$"),
            (b"interrupt", "refused the call: KeyboardInterrupt$"),
            (b"cancelled", "refused the call: CancelledError$"),
            (b"speechless", "refused the call: Speechless$"),
            (b"half", r"refused the call: half of a pair: \\ud800$"),
        ],
        ids=["long_value_error", "other_error", "text", "none", "exit", "interrupt", "cancelled", "speechless", "half"],
    )
    def test_fails_without_ending_the_server(self, serve, client, request_, words):
        """One odd request would end each server in turn; and an error's text may hold what is not for the caller."""
        serve(text_of)

        with pytest.raises(CallRefused, match=words) as error:
            client.call("q", request_)

        assert "sesame-open" not in str(error.value)
        assert client.call("q", b"sound") == b"sound"

    def test_knows_the_headers_of_the_request(self, serve, client):
        """Who asks, for whom, in which trace: it stands beside the body."""
        serve(lambda request: Content(request, {"was": request.headers["tenant"], "error-rate": 0}))

        reply = client.call("q", b"?", headers={"tenant": 7, "traceparent": "00-1-2-01"})

        assert reply.headers == {"tenant": 7, "traceparent": "00-1-2-01", "was": 7, "error-rate": 0}

    @pytest.mark.parametrize("value", ["other", ["other"], 1], ids=["text", "list", "number"])
    def test_is_not_routed_by_headers_of_its_own(self, serve, client, channel, value):
        """What is no list closes the channel (406), and the server ended; a list is obeyed."""
        channel.queue_declare("other")
        serve(lambda request: Content(request, {"CC": value, "note": "kept"}))

        assert client.call("q", b"?").headers == {"note": "kept"}
        assert channel.queue_purge("other").method.message_count == 0

    @pytest.mark.rabbitmq(since="4.0")
    def test_may_be_larger_than_the_broker_takes(self, serve, client):
        """The broker closes the channel for it (406), the request comes again: so each server would end in turn."""
        limit = 16 * 1024 * 1024
        serve(lambda request: bytes(limit + 1) if request == b"large" else b"small")

        with pytest.raises(CallRefused, match="the answer has 16777217 bytes, and the broker takes 16777216 at most"):
            client.call("q", b"large", 20)

        assert client.call("q", b"?") == b"small"

    def test_runs_as_often_at_once_as_is_wanted(self, serve, client):
        """One slow answer would hold up all callers."""
        together = threading.Barrier(4)
        serve(lambda _: b"%d" % (together.wait(10) >= 0), prefetch=4, concurrency=4)

        replies = [client.send("q", b"?", 20) for _ in range(4)]

        assert [reply.result(20) for reply in replies] == [b"1"] * 4


class TestRequest:
    """What comes to it."""

    @pytest.mark.parametrize(
        "reply_to",
        ["amq.rabbitmq.reply-to.garbage", "amq.rabbitmq.reply-to.", "nowhere", "q" * 255],
        ids=["garbage", "half", "nowhere", "long"],
    )
    def test_may_have_an_address_that_is_none(self, serve, client, channel, reply_to):
        """Anybody may write anything there."""
        serve(text_of)
        channel.basic_publish("", "q", b"sound", BasicProperties(reply_to=reply_to, correlation_id="1"))

        assert client.call("q", b"sound") == b"sound"

    def test_without_an_address_does_no_harm_to_its_queue(self, url, channel, client, patience):
        """RabbitMQ 3.10 cannot dead-letter a message with an odd `x-death`: each reject ends the queue."""
        channel.queue_declare("rpc", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
        server = RpcServer(url, "rpc", bytes.upper)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        for deaths in (["once"], [{"queue": "rpc", "reason": "rejected", "count": 1.5}]):
            channel.basic_publish("", "rpc", b"odd", BasicProperties(headers={"x-death": deaths}))

        assert client.call("rpc", b"still there", 10) == b"STILL THERE"
        server.stop()
        thread.join(patience)

    def test_passes_no_routing_headers_on(self, serve, channel, eventually, connect):
        """A reply with the request's CC would go to the queues named there too."""
        channel.queue_declare("other", durable=True)
        channel.queue_declare("replies", durable=True)
        properties = BasicProperties(reply_to="replies", correlation_id="1", headers={"CC": ["other"], "note": "kept"})
        channel.basic_publish("", "q", b"sound", properties)
        assert channel.queue_purge("other").method.message_count == 1
        serve(text_of)

        replies = []
        eventually(lambda: bool(replies.append(channel.basic_get("replies", auto_ack=True)) or replies[-1][0]), True)

        assert replies[-1][1].headers == {"note": "kept"}
        assert channel.queue_declare("other", passive=True).method.message_count == 0

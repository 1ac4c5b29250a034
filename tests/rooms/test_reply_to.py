"""Addresses for replies: a request with one that is made up does not take the server's connection with it.

Code: rmqspec/client/reply_to.py, rmqspec/client/rpc_server.py
"""

import threading
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import BasicProperties

from rmqspec.client import RpcClient, RpcServer
from rmqspec.client.delivery import Delivery, Outcome
from rmqspec.client.errors import ConnectionLost
from rmqspec.client.reply_to import TRIAL, Unreplied, is_readable
from rmqspec.client.rpc import DIRECT_REPLY_TO
from rmqspec.tools.wire import Proxy


def direct(process, key=b".k6X2mMTbA9bKkkaWTH6J4w=="):
    return DIRECT_REPLY_TO.encode() + b"." + b64encode(process) + key


PROCESS = b"\x83Xv\x00\x07reply@1" + bytes(12)
MADE_UP = {
    "words": b"amq.rabbitmq.reply-to.garbage",
    "two_words": b"amq.rabbitmq.reply-to.some.garbage",
    "no_term": direct(b"\x00\x00\x00"),
    "no_text": b"amq.rabbitmq.reply-to.\xff\xfe",
    "key_that_is_no_base64": direct(PROCESS, b".\xff\xff"),
    "process_of_an_old_kind": direct(b"\x83gd\x00\x08rabbit@x" + bytes(9)),
    "process_that_is_cut_off": direct(PROCESS[:-1]),
    "process_with_more": direct(PROCESS + b"\x00"),
    "node_of_another_length": direct(PROCESS.replace(b"\x07", b"\x06")),
    "node_that_is_no_hash": direct(b"\x83Xv\x00\x09reply@abc" + bytes(12)),
    "nothing": b"amq.rabbitmq.reply-to.",
}


class TestIsReadable:
    """`is_readable`."""

    @pytest.mark.parametrize("case", MADE_UP)
    def test_refuses_a_direct_address_that_no_broker_made(self, case):
        """RabbitMQ 3.10 and 4.0 end the connection that sends a reply to most of these."""
        assert not is_readable(MADE_UP[case])

    @pytest.mark.parametrize("address", ["replies", b"caf\xe9", "amq.rabbitmq.reply-to", "amq.gen-x.y"])
    def test_knows_nothing_of_the_names_of_queues(self, address):
        """A reply queue may have any name; one that is not there is the caller's loss alone."""
        assert is_readable(address)

    @pytest.mark.parametrize("key", [b"", b".", b".k6X2mMTbA9bKkkaWTH6J4w=="])
    def test_accepts_an_address_with_or_without_a_key(self, key):
        """Since 4.2 a caller with AMQP 1.0 has one without a key."""
        assert is_readable(direct(PROCESS, key))

    def test_accepts_the_address_that_the_broker_makes(self, channel):
        """The form of it is documented nowhere: a broker that changes it must be noticed here."""
        queue = channel.queue_declare("q").method.queue
        channel.basic_consume(DIRECT_REPLY_TO, lambda *_: None, auto_ack=True)
        channel.basic_publish("", queue, b"", BasicProperties(reply_to=DIRECT_REPLY_TO))

        _, properties, _ = channel.basic_get(queue, auto_ack=True)

        assert properties.reply_to.startswith(f"{DIRECT_REPLY_TO}.")
        assert is_readable(properties.reply_to)


class TestRpcServer:
    """Our server."""

    def test_rejects_requests_with_a_made_up_address(self, broker, url, channel, drain):
        """The broker closed its connection at each, gave it the request again, and nobody else was answered."""
        channel.queue_declare("dead")
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
        channel.queue_declare("q", arguments=arguments)
        for case, address in MADE_UP.items():
            channel.basic_publish("", "q", case.encode(), BasicProperties(reply_to=address))
        connections = set()
        with Proxy(broker.endpoint.host, broker.endpoint.port) as proxy, RpcClient(url) as client:
            proxy.taps = lambda number, _: connections.add(number)
            server = RpcServer(proxy.url(url), "q", bytes.upper)
            thread = threading.Thread(target=server.run)
            thread.start()
            answer = client.call("q", b"still there", timeout=10)
            server.stop()
            thread.join(10)

        assert (answer, len(connections)) == (b"STILL THERE", 1)
        assert drain("dead") == [case.encode() for case in MADE_UP]

    @pytest.mark.parametrize("concurrency", [1, 4])
    def test_rejects_a_request_whose_reply_the_broker_fails_at(self, url, channel, drain, concurrency):
        """RabbitMQ 3.10 closes the connection (541): the request came again and again, and the server gave up."""
        channel.queue_declare("dead")
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
        channel.queue_declare("q", arguments=arguments)
        server = RpcServer(url, "q", bytes.upper, concurrency=concurrency)
        thread = threading.Thread(target=server.run, daemon=True)
        with RpcClient(url) as client:
            before = [client.send("q", b"before %d" % number, 20) for number in range(2)]
            unknown = BasicProperties(reply_to=direct(PROCESS).decode(), correlation_id="unknown")
            channel.basic_publish("", "q", b"unknown", unknown)
            behind = [client.send("q", b"behind %d" % number, 20) for number in range(2)]
            thread.start()
            answers = [call.result() for call in before + behind]
            answers.append(client.call("q", b"still there", 20))
        server.stop()
        thread.join(10)

        assert answers == [b"BEFORE 0", b"BEFORE 1", b"BEHIND 0", b"BEHIND 1", b"STILL THERE"]
        assert drain("dead") in ([b"unknown"], [])  # newer versions drop the reply


def request(address, *, redelivered=False):
    return Delivery("q", "", "q", redelivered, BasicProperties(reply_to=address, correlation_id="1"), b"")


class TestUnreplied:
    """`Unreplied`: which of those that come back is to blame."""

    @pytest.fixture
    def asked(self):
        """What becomes of a request to an address, after this loss; the test changes `asked.time`."""
        unreplied = Unreplied(10, lambda: asked.lost, lambda: asked.time)

        def asked(address, lost=None, *, redelivered=False):
            asked.lost = lost
            return unreplied.outcome(request(f"{DIRECT_REPLY_TO}.{address}", redelivered=redelivered))

        asked.time = 0.0
        return asked

    def test_answers_what_was_not_answered_on_the_channel_that_failed(self, asked):
        """Whoever stood behind the culprit has done nothing."""
        asked("a")
        failure = ConnectionLost("failed", 541, "")

        assert asked("b", failure, redelivered=True) is Outcome.ACK

    def test_answers_one_suspect_at_a_time(self, asked):
        """Two at once, and the next failure would not tell which of them it was."""
        asked("a")
        asked("b")
        failure = ConnectionLost("failed", 541, "")

        first, second = (asked(address, failure, redelivered=True) for address in "ab")
        asked.time += TRIAL
        third = asked("b", failure, redelivered=True)

        assert [first, second, third] == [Outcome.ACK, Outcome.REQUEUE_LATER, Outcome.ACK]

    def test_rejects_the_one_that_was_tried_when_the_broker_failed_again(self, asked):
        """Once may have been chance."""
        asked("a")
        asked("b")
        first, again = (ConnectionLost("failed", 541, "") for _ in range(2))
        asked("a", first, redelivered=True)

        assert asked("b", again, redelivered=True) is Outcome.ACK
        assert asked("a", again, redelivered=True) is Outcome.REJECT

    def test_suspects_nobody_after_any_other_loss(self, asked):
        """A network that flickers, or a broker that restarts, is nobody's fault."""
        asked("a")
        asked("a", ConnectionLost("failed", 541, ""), redelivered=True)
        lost = ConnectionLost("a restart", 320, "")

        assert asked("a", lost, redelivered=True) is Outcome.ACK

    @given(st.data())
    def test_finds_the_culprit_in_whatever_order_handlers_answer(self, data):
        """Several handlers answer at once, and what leaves in one write is acknowledged behind its last reply."""
        count = data.draw(st.integers(1, 8), "requests")
        culprit = data.draw(st.integers(0, count - 1), "culprit")
        now, lost = [0.0], [None]
        unreplied = Unreplied(10, lambda: lost[0], lambda: now[0])
        waiting, rejected, failures = list(range(count)), [], 0
        delivered = set()

        while waiting:
            order = data.draw(st.permutations(waiting), "order")
            write, failed = [], False
            for number in order:
                address = f"{DIRECT_REPLY_TO}.{number}"
                outcome = unreplied.outcome(request(address, redelivered=number in delivered))
                delivered.add(number)
                if outcome is Outcome.REJECT:
                    rejected.append(number)
                    waiting.remove(number)
                elif outcome is Outcome.ACK:
                    write.append(number)
                if data.draw(st.booleans(), "written now") or number == order[-1]:
                    failed = culprit in write
                    if failed:
                        break
                    waiting = [one for one in waiting if one not in write]
                    write = []
            if failed:
                failures += 1
                assert failures <= count + 1
                lost[0] = ConnectionLost("failed", 541, "")
            now[0] += 2 * TRIAL

        assert rejected == [culprit]

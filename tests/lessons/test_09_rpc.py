"""Remote procedure call: a question and an answer over queues.

A message goes one way. Whoever wants an answer says in the request where to send it (`reply_to`) and under which
number (`correlation_id`); the server publishes its reply there and copies the number. The caller knows by it which
of its questions was answered, in whatever order the answers come. As the place for replies the broker offers
`amq.rabbitmq.reply-to`, which needs no queue at all; an exclusive queue of one's own does it too.

A queue hides whether anybody is listening, so every call has a deadline. In the order system the inventory tells how
many of a thing are in stock.

Spec: https://www.rabbitmq.com/docs/direct-reply-to
Code: rmqspec/client/rpc.py, rmqspec/orders/inventory.py
"""

from functools import partial

import pytest
from pika import BasicProperties, exceptions

from rmqspec.client import RpcClient
from rmqspec.client.errors import CallFailed, CallRefused, CallTimedOut
from rmqspec.orders import REASON_HEADER, InventoryServer, stock_of

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie

DIRECT = "amq.rabbitmq.reply-to"


@pytest.fixture(autouse=True)
def queue(channel):
    channel.queue_declare("rpc.inventory", durable=True)


@pytest.fixture
def next_request(channel):
    """The server's first half, by hand: takes the oldest request and returns its properties."""

    def fetch():
        _, request, _ = channel.basic_get("rpc.inventory", auto_ack=True)
        assert request, "the request has not arrived"
        return request

    return fetch


@pytest.fixture
def reply(channel):
    """The server's second half: replies to a request, by default under its own number."""

    def publish(request, body, correlation_id=None):
        properties = BasicProperties(correlation_id=correlation_id or request.correlation_id)
        channel.basic_publish("", request.reply_to, body, properties)

    return publish


class TestRabbitMQ:
    """What the broker promises. Only pika is used here, on the inventory's queue."""

    @pytest.fixture
    def caller(self, connection):
        caller = connection.channel()
        caller.confirm_delivery()
        return caller

    @pytest.fixture
    def ask(self, connection, caller, next_request, reply, eventually):
        """Asks on `caller`, answers by hand, and returns the request as the server saw it, with its reply."""

        def ask_and_answer(reply_to):
            replies = []
            caller.basic_consume(reply_to, lambda *delivery: replies.append(delivery[2:]), auto_ack=True)
            question = BasicProperties(reply_to=reply_to, correlation_id="7")
            caller.basic_publish("", "rpc.inventory", b"how many?", question)
            request = next_request()
            reply(request, b"42")
            eventually(lambda: connection.process_data_events(0) or len(replies), 1)
            return request, *replies[0]

        return ask_and_answer

    @behaviour("REPLYTO-01")
    @lie("correlation-id-changed")
    def test_brings_a_direct_reply_to_its_caller(self, ask):
        """The broker turns the general name into this caller's own address; no queue is made for the reply."""
        request, properties, body = ask(DIRECT)

        assert request.reply_to.startswith("amq.rabbitmq.reply-to.")
        assert (properties.correlation_id, body) == ("7", b"42")

    @behaviour("REPLYTO-10")
    @lie("correlation-id-changed")
    def test_brings_a_reply_to_an_exclusive_queue(self, caller, ask):
        """The way without special help of the broker; such a queue also holds what comes while nobody looks."""
        queue = caller.queue_declare("", exclusive=True).method.queue

        request, properties, body = ask(queue)

        assert request.reply_to == queue
        assert (properties.correlation_id, body) == ("7", b"42")

    @behaviour("REPLYTO-03", "CHAN-03")
    @lie("reply-to-lost")
    def test_refuses_a_direct_request_without_consumer(self, connection, caller, channel):
        """First listen, then ask: otherwise the reply could come before anybody is there for it."""
        request = BasicProperties(reply_to=DIRECT)

        with pytest.raises(exceptions.ChannelClosedByBroker, match="fast reply consumer does not exist") as error:
            caller.basic_publish("", "rpc.inventory", b"how many?", request)

        assert (error.value.reply_code, caller.is_closed, connection.is_open) == (406, True, True)
        assert channel.queue_declare("rpc.inventory", passive=True).method.message_count == 0

    @behaviour("EXCL-04", "CHAN-03")
    @lie("code-405-changed")
    def test_removes_the_reply_queue_with_its_caller(self, connect, connection, channel, eventually):
        """Callers come and go: replies to those that have crashed must not pile up in queues without an owner."""
        caller = connect()
        queue = caller.channel().queue_declare("", exclusive=True).method.queue

        def refusal():
            with pytest.raises(exceptions.ChannelClosedByBroker) as error:
                connection.channel().queue_declare(queue, passive=True)
            return error.value.reply_code

        assert refusal() == 405  # it is there, and somebody else's
        caller.close()
        eventually(refusal, 404)
        assert channel.queue_declare("rpc.inventory", passive=True).method.queue == "rpc.inventory"


class TestRpcClient:
    """What our client adds. Its server is played by hand here."""

    @pytest.fixture(params=[False, True], ids=["direct_reply_to", "exclusive_queue"])
    def client(self, request, url, patience):
        with RpcClient(url, timeout=patience, exclusive_queue=request.param) as client:
            yield client

    @pytest.fixture
    def next_request(self, receive):
        """Waits for the oldest request and returns its properties: the client sends from a thread of its own."""
        return lambda: receive("rpc.inventory")[0].properties

    @lie("delivered-reply-to-lost")
    def test_gives_each_reply_to_its_own_call(self, client, next_request, reply):
        """Where several servers share the queue, the second question may be answered before the first."""
        first, second = client.send("rpc.inventory", b"first?"), client.send("rpc.inventory", b"second?")
        one, two = next_request(), next_request()

        reply(two, b"second!")
        reply(one, b"first!")

        assert (first.result(), second.result()) == (b"first!", b"second!")

    @lie("delivered-reply-to-lost")
    def test_drops_a_reply_under_a_foreign_number(self, client, next_request, reply):
        """A reply from an old or confused server, taken for the answer, is worse than no answer."""
        call = client.send("rpc.inventory", b"how many?")
        request = next_request()

        for number, body in (("8", b"foreign"), (None, b"its own"), ("9", b"foreign too")):
            reply(request, body, correlation_id=number)

        assert call.result() == b"its own"

    @lie("delivered-reply-to-lost")
    def test_drops_a_reply_that_comes_too_late(self, client, channel, reply, eventually):
        """The caller has told its user that nobody answered; a late reply neither changes that nor fills its memory."""
        requests = []  # taken as soon as they come: in the queue the first would not outlive its deadline
        channel.basic_consume("rpc.inventory", lambda *request: requests.append(request[2]), auto_ack=True)
        come = partial(eventually, lambda: channel.connection.process_data_events(0) or len(requests))
        late = client.send("rpc.inventory", b"slow?", timeout=0.05)
        come(1)
        with pytest.raises(CallTimedOut):
            late.result()

        call = client.send("rpc.inventory", b"quick?")
        come(2)
        reply(requests[0], b"too late")
        reply(requests[1], b"in time")

        assert call.result() == b"in time"

    @lie("expiration-lost")
    def test_withdraws_a_request_at_its_deadline(self, client, channel, drain, eventually):
        """A server that comes back after an hour has no use for questions whose askers have gone."""
        client.send("rpc.inventory", b"now or never?", timeout=0.0)
        client.send("rpc.inventory", b"how many?")

        eventually(lambda: channel.queue_declare("rpc.inventory", passive=True).method.message_count, 1)
        assert drain("rpc.inventory") == [b"how many?"]

    @lie("reply-invented")
    def test_waits_no_longer_than_its_deadline(self, client):
        """A queue hides whether anybody serves it: without a deadline the caller would hang for ever."""
        with pytest.raises(CallTimedOut, match=r"no reply from 'rpc[.]inventory' within 0[.]05 s"):
            client.call("rpc.inventory", b"anybody there?", timeout=0.05)

    @lie("return-code-changed")
    def test_fails_at_once_where_there_is_no_queue(self, client, next_request, reply):
        """A name that was typed wrong is known before the deadline, and the next call is not harmed by it."""
        with pytest.raises(CallFailed, match=r"there is no queue 'rpc[.]inventroy' to call") as error:
            client.call("rpc.inventroy", b"how many?")
        assert (error.type, error.value.reply_code) == (CallFailed, 312)

        call = client.send("rpc.inventory", b"how many?")
        reply(next_request(), b"42")
        assert call.result() == b"42"


NOT_QUERIES = {
    "prose": (b"how many mice?", "Invalid JSON"),
    "no_item": (b"{}", "sku: Field required"),
    "number_for_an_item": (b'{"sku": 7}', "sku: Input should be a valid string"),
}


class TestInventory:
    """What our server adds."""

    @pytest.fixture(autouse=True)
    def server(self, orders):
        return orders.start(InventoryServer)

    @pytest.fixture
    def client(self, url, patience):
        with RpcClient(url, timeout=patience) as client:
            yield client

    @lie("body-repeated")
    def test_tells_how_many_are_in_stock(self, client):
        """For the caller it is a function; that queues are behind it shows only when something goes wrong."""
        assert stock_of(client, "keyboard") == 42
        assert stock_of(client, "webcam") == 0

    @lie("delivered-body-falsified")
    def test_refuses_an_item_that_it_does_not_know(self, client):
        """Silence would cost the caller its whole deadline, and leave it to guess why."""
        with pytest.raises(CallRefused, match="refused the call: unknown item 'unicorn'"):
            stock_of(client, "unicorn")

        assert stock_of(client, "mouse") == 17

    @pytest.mark.parametrize(("request_", "reason"), NOT_QUERIES.values(), ids=NOT_QUERIES)
    @lie("reply-invented")
    def test_refuses_what_is_not_a_query(self, request_, reason, client):
        """The mistake is the caller's: it is told, and the server goes on for everybody else."""
        with pytest.raises(CallRefused, match=reason):
            client.call("rpc.inventory", request_)

        assert stock_of(client, "mouse") == 17

    @lie("fanout-as-direct")
    def test_parks_a_request_without_return_address(self, channel, client, receive):
        """Nobody can be told; among the dead letters somebody sees that a client forgets its reply_to."""
        channel.basic_publish("", "rpc.inventory", b'{"sku": "mouse"}')

        (parked,) = receive("orders.failed")

        assert parked.body == b'{"sku": "mouse"}'
        assert parked.headers.get(REASON_HEADER) == "a request without reply_to: nobody to answer"
        assert stock_of(client, "mouse") == 17

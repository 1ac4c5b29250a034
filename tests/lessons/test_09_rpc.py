"""Remote procedure call (RPC): a request and its reply over queues.

A message goes one way. A caller that needs a reply says in its request where to send it (`reply_to`) and how to
recognise it (`correlation_id`). The server publishes its reply to that queue and copies the correlation id. By this id
the caller finds the request that was answered, in whatever order the replies come. For replies RabbitMQ offers
`amq.rabbitmq.reply-to`: the caller consumes it like a queue, and no queue is declared. An exclusive queue can be used
instead.

A queue does not show whether a server is running, so every call needs a timeout. In the order system the inventory
server replies how many pieces of an item are in stock.

Spec: https://www.rabbitmq.com/docs/direct-reply-to
Code: rmqspec/client/rpc.py, rmqspec/orders/inventory.py
Reference: REPLYTO-01…03, REPLYTO-05, REPLYTO-10, EXCL-04
"""

import pytest
from pika import BasicProperties

from rmqspec.client import RpcClient
from rmqspec.client.errors import CallFailed, CallRefused, CallTimedOut
from rmqspec.orders import REASON_HEADER, InventoryServer, stock_of

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


@pytest.fixture(autouse=True)
def queue(channel):
    """The queue of requests."""
    channel.queue_declare("rpc.inventory", durable=True)


@pytest.fixture
def reply(channel):
    """Replies to a request as a server does, by default with its correlation id: `reply(request_properties, b"42")`."""

    def publish(request, body, correlation_id=None):
        properties = BasicProperties(correlation_id=correlation_id or request.correlation_id)
        channel.basic_publish("", request.reply_to, body, properties)

    return publish


class TestReplyTo:
    """RabbitMQ: the two places that a request can name in `reply_to`."""

    @pytest.fixture
    def caller(self, connection):
        """A channel of the caller; the server uses another one."""
        caller = connection.channel()
        caller.confirm_delivery()
        return caller

    @behaviour("REPLYTO-01")
    @lie("delivery-lost")
    def test_of_amq_rabbitmq_reply_to_is_rewritten_and_brings_the_reply_to_the_channel(
        self, connection, caller, channel, served
    ):
        """The server sees an address that belongs to this caller only, and no queue has to be declared."""
        replies = []
        caller.basic_consume(
            "amq.rabbitmq.reply-to",
            lambda _channel, _method, properties, body: replies.append((properties.correlation_id, body)),
            auto_ack=True,
        )
        question = BasicProperties(reply_to="amq.rabbitmq.reply-to", correlation_id="7")
        caller.basic_publish("", "rpc.inventory", b"how many?", question)

        _, request, _ = channel.basic_get("rpc.inventory", auto_ack=True)
        answer = BasicProperties(correlation_id=request.correlation_id)
        channel.basic_publish("", request.reply_to, b"42", answer)

        assert request.reply_to.startswith("amq.rabbitmq.reply-to.")
        served(connection, lambda: replies, [("7", b"42")])

    @behaviour("REPLYTO-10")
    @lie("delivery-lost")
    def test_of_an_exclusive_queue_brings_the_reply_to_the_consumer_of_that_queue(
        self, connection, caller, channel, served
    ):
        """This needs no feature of RabbitMQ, and the queue also keeps replies while its caller does not read."""
        declared = caller.queue_declare("", exclusive=True)
        reply_queue = declared.method.queue
        replies = []
        caller.basic_consume(
            reply_queue,
            lambda _channel, _method, properties, body: replies.append((properties.correlation_id, body)),
            auto_ack=True,
        )
        question = BasicProperties(reply_to=reply_queue, correlation_id="7")
        caller.basic_publish("", "rpc.inventory", b"how many?", question)

        _, request, _ = channel.basic_get("rpc.inventory", auto_ack=True)
        answer = BasicProperties(correlation_id=request.correlation_id)
        channel.basic_publish("", request.reply_to, b"42", answer)

        assert request.reply_to == reply_queue
        served(connection, lambda: replies, [("7", b"42")])

    @behaviour("REPLYTO-03", "CHAN-03")
    @lie("reply-to-lost")
    def test_of_amq_rabbitmq_reply_to_closes_the_channel_with_406_if_it_has_no_consumer(self, channel, refusal):
        """Consume first, then publish: otherwise a reply could come before its caller can receive it."""

        def ask_without_a_consumer(channel):
            request = BasicProperties(reply_to="amq.rabbitmq.reply-to")
            channel.basic_publish("", "rpc.inventory", b"how many?", request)
            channel.queue_declare("rpc.inventory", passive=True)  # basic.publish has no reply; this one shows the error

        said = refusal(ask_without_a_consumer)

        assert said.code == 406
        assert said.closed == "channel"
        assert "fast reply consumer does not exist" in said.text
        assert channel.queue_declare("rpc.inventory", passive=True).method.message_count == 0


class TestRpcClient:
    """Our RPC client. These specs act as its server."""

    @pytest.fixture(params=[False, True], ids=["direct_reply_to", "exclusive_queue"])
    def client(self, request, url, wait_limit):
        with RpcClient(url, timeout=wait_limit, exclusive_queue=request.param) as client:
            yield client

    @pytest.fixture
    def next_request(self, receive):
        """Waits for the oldest request and returns its properties; the client sends from a thread of its own."""

        def wait():
            (request,) = receive("rpc.inventory")
            return request.properties

        return wait

    @lie("replies-swapped")
    def test_matches_replies_to_calls_by_correlation_id_in_any_order(self, client, next_request, reply):
        """Where several servers share the queue, the second request may be answered before the first."""
        first_call = client.send("rpc.inventory", b"first?")
        second_call = client.send("rpc.inventory", b"second?")
        first_request = next_request()
        second_request = next_request()

        reply(second_request, b"second!")
        reply(first_request, b"first!")

        assert first_call.result() == b"first!"
        assert second_call.result() == b"second!"

    @lie("correlation-id-of-last-request")
    def test_ignores_a_reply_with_an_unknown_correlation_id(self, client, next_request, reply):
        """A wrong answer from an old or faulty server would be worse than no answer."""
        call = client.send("rpc.inventory", b"how many?")
        request = next_request()

        reply(request, b"unknown", correlation_id="8")
        reply(request, b"its own")
        reply(request, b"unknown too", correlation_id="9")

        assert call.result() == b"its own"

    @lie("correlation-id-of-last-request")
    def test_ignores_a_reply_that_comes_after_the_timeout_of_its_call(self, client, channel, reply, eventually):
        """The caller has given up already. A late reply is not taken for the reply to a later call."""
        requests = []  # consumed at once: in the queue, the first request would expire

        def count():
            channel.connection.process_data_events(0)
            return len(requests)

        channel.basic_consume(
            "rpc.inventory",
            lambda _channel, _method, properties, _body: requests.append(properties),
            auto_ack=True,
        )
        late = client.send("rpc.inventory", b"slow?", timeout=0.05)
        eventually(count, 1)
        with pytest.raises(CallTimedOut):
            late.result()

        call = client.send("rpc.inventory", b"quick?")
        eventually(count, 2)
        reply(requests[0], b"too late")
        reply(requests[1], b"in time")

        assert call.result() == b"in time"

    @lie("expiration-lost")
    def test_publishes_requests_that_expire_at_the_timeout_of_their_call(self, client, channel, drain, eventually):
        """A server that starts after an hour does not answer callers that gave up long ago."""
        short = client.send("rpc.inventory", b"now or never?", timeout=0.05)
        client.send("rpc.inventory", b"how many?")
        with pytest.raises(CallTimedOut):
            short.result()

        eventually(lambda: channel.queue_declare("rpc.inventory", passive=True).method.message_count, 1)

        assert drain("rpc.inventory") == [b"how many?"]

    @lie("reply-invented")
    def test_raises_call_timed_out_if_no_reply_comes_within_the_timeout(self, client):
        """A queue does not show whether a server is running: without a timeout the caller could wait for ever."""
        with pytest.raises(CallTimedOut, match=r"no reply from 'rpc[.]inventory' within 0[.]05 s"):
            client.call("rpc.inventory", b"anybody there?", timeout=0.05)

    @lie("return-code-changed")
    def test_raises_call_failed_at_once_if_the_queue_does_not_exist(self, client, next_request, reply):
        """A misspelt queue is reported before the timeout, and the next call is not affected."""
        with pytest.raises(CallFailed, match=r"there is no queue 'rpc[.]inventroy' to call") as error:
            client.call("rpc.inventroy", b"how many?")

        assert error.type is CallFailed
        assert error.value.reply_code == 312
        call = client.send("rpc.inventory", b"how many?")
        reply(next_request(), b"42")
        assert call.result() == b"42"


NOT_QUERIES = {
    "prose": (b"how many mice?", "Invalid JSON"),
    "no_item": (b"{}", "sku: Field required"),
    "number_for_an_item": (b'{"sku": 7}', "sku: Input should be a valid string"),
}


class TestInventoryServer:
    """Our inventory server: it consumes `rpc.inventory`."""

    @pytest.fixture(autouse=True)
    def server(self, orders):
        return orders.start(InventoryServer)

    @pytest.fixture
    def client(self, url, wait_limit):
        with RpcClient(url, timeout=wait_limit) as client:
            yield client

    @lie("body-repeated")
    def test_replies_how_many_pieces_of_an_item_are_in_stock(self, client):
        """For the caller this is a function. The queues behind it show only when something fails."""
        assert stock_of(client, "keyboard") == 42
        assert stock_of(client, "webcam") == 0

    @lie("delivered-body-falsified")
    def test_replies_with_an_error_for_an_unknown_item(self, client):
        """Without a reply the caller would wait for its whole timeout, and not learn the reason."""
        with pytest.raises(CallRefused, match="refused the call: unknown item 'unicorn'"):
            stock_of(client, "unicorn")

        assert stock_of(client, "mouse") == 17

    @lie("reply-invented")
    @pytest.mark.parametrize(("body", "reason"), NOT_QUERIES.values(), ids=NOT_QUERIES)
    def test_replies_with_an_error_to_an_invalid_request_and_goes_on(self, body, reason, client):
        """The mistake is the caller's. It gets the reason, and the server answers the next request."""
        with pytest.raises(CallRefused, match=reason):
            client.call("rpc.inventory", body)

        assert stock_of(client, "mouse") == 17

    @lie("headers-lost")
    def test_publishes_requests_without_reply_to_into_orders_failed(self, channel, client, receive):
        """There is nobody to reply to. Among the dead letters somebody can see that a client forgets `reply_to`."""
        channel.basic_publish("", "rpc.inventory", b'{"sku": "mouse"}')

        (dead,) = receive("orders.failed")

        assert dead.body == b'{"sku": "mouse"}'
        assert dead.headers.get(REASON_HEADER) == "a request without reply_to: nobody to answer"
        assert stock_of(client, "mouse") == 17

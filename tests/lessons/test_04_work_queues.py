"""Work queues: several consumers share the messages of one queue.

If several consumers read one queue, RabbitMQ delivers each message to exactly one of them, round robin. So work is
spread by starting more workers; nobody has to divide it. A delivered message stays unacked in the queue until it is
acked. If its consumer dies before that, RabbitMQ requeues the message and delivers it to another consumer, marked as
`redelivered`.

In the order system any number of workers consume the queue `orders`, and if one of them dies no order is lost.

Spec: https://www.rabbitmq.com/docs/consumers
Code: rmqspec/client/consumer.py, rmqspec/orders/worker.py
Reference: CONSUME-05, CONSUME-06, ORDER-04, ORDER-05, ORDER-10
"""

import pytest

from rmqspec.orders import Completed, Failures, Worker, parse, sample_orders

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


@pytest.fixture
def queue(channel):
    """A queue without messages."""
    channel.queue_declare("tasks", durable=True)
    return "tasks"


@pytest.fixture
def publish(channel, queue):
    """Publishes these bodies to the queue, one after the other."""

    def each(*bodies):
        for body in bodies:
            channel.basic_publish("", queue, body)

    return each


class TestConsumersOfOneQueue:
    """RabbitMQ: several consumers of one queue."""

    @behaviour("CONSUME-05")
    @lie("delivered-twice")
    def test_get_each_message_exactly_once_between_them(self, connection, queue, publish, served):
        """A queue divides its messages, and an exchange copies them. For a copy each, consumers need a queue each."""
        first = []
        second = []
        channel = connection.channel()
        channel.basic_consume(queue, lambda _channel, _method, _properties, body: first.append(body))
        other_channel = connection.channel()
        other_channel.basic_consume(queue, lambda _channel, _method, _properties, body: second.append(body))

        publish(b"1", b"2", b"3", b"4")

        served(connection, lambda: len(first + second), 4)
        assert sorted(first + second) == [b"1", b"2", b"3", b"4"]

    @behaviour("CONSUME-05")
    @lie("one-consumer-gets-all")
    def test_get_messages_round_robin_without_a_prefetch_limit(self, connection, queue, publish, subscribe_without_ack):
        """Round robin counts messages. It does not know how long each of them takes."""
        first = subscribe_without_ack(connection.channel(), queue)
        second = subscribe_without_ack(connection.channel(), queue)
        third = subscribe_without_ack(connection.channel(), queue)

        publish(b"1", b"2", b"3", b"4", b"5", b"6")

        assert first.wait_for(2) == [b"1", b"4"]
        assert second.wait_for(2) == [b"2", b"5"]
        assert third.wait_for(2) == [b"3", b"6"]


class TestConsumer:
    """RabbitMQ: one consumer of a queue."""

    @behaviour("CONSUME-06")
    @lie("consumer-from-now-on")
    def test_gets_messages_published_before_and_after_it_started(
        self, channel, connection, queue, publish, subscribe_without_ack
    ):
        """Publisher and consumer may start in any order, and need not run at the same time."""
        publish(b"1", b"2")

        consumer = subscribe_without_ack(connection.channel(), queue)
        consumer.wait_for(2)
        publish(b"3", b"4")

        assert consumer.wait_for(4) == [b"1", b"2", b"3", b"4"]


class TestUnackedMessages:
    """RabbitMQ: messages of a consumer that goes away."""

    @behaviour("ORDER-05")
    @lie("acks-not-awaited", "redelivered-lost")
    def test_are_delivered_to_another_consumer_marked_redelivered_if_their_consumer_dies(
        self, connect, queue, publish, receive, subscribe_without_ack, cut
    ):
        """The flag is a warning: the dead consumer may have done a part of the work, or all of it."""
        publish(b"a task")
        dying = connect()
        subscribe_without_ack(dying.channel(), queue).wait_for(1)

        cut(dying)

        (delivery,) = receive(queue)
        assert delivery.body == b"a task"
        assert delivery.redelivered is True

    @behaviour("ORDER-04", "ORDER-10")
    @lie("deliveries-swapped", "redelivered-always")
    def test_are_requeued_in_front_of_messages_that_were_never_delivered(
        self, connection, queue, publish, message_count, receive, subscribe_without_ack, eventually
    ):
        """When a consumer leaves, its tasks do not move to the end of the queue. Only delivered messages are marked."""
        publish(b"1", b"2", b"3", b"4")
        leaving = connection.channel()
        leaving.basic_qos(prefetch_count=2)
        subscribe_without_ack(leaving, queue).wait_for(2)

        leaving.close()
        eventually(lambda: message_count(queue), 4)  # close-ok may come before the requeue

        deliveries = receive(queue, 4)
        assert [delivery.body for delivery in deliveries] == [b"1", b"2", b"3", b"4"]
        assert [delivery.redelivered for delivery in deliveries] == [True, True, False, False]


def crash(_words):
    """Ends a worker when it reports that it has received an order."""
    raise MemoryError


def faultless(name):
    """Makes a worker that fails no order."""
    return lambda source: Worker(source, name, Failures(rate=0))


class TestWorker:
    """Our worker: any number of them share the queue `orders`."""

    @lie("acks-not-awaited", "redelivered-lost")
    def test_completes_the_order_of_a_worker_that_died(self, source, orders, receive, run_until_it_ends):
        """It acks after the work and not before it, so a worker that dies delays an order and loses none."""
        (order,) = sample_orders(1)
        orders.producer.publish(order)
        with pytest.raises(MemoryError):
            run_until_it_ends(Worker(source, say=crash))

        reports = []
        orders.start(lambda source: Worker(source, failures=Failures(rate=0), say=reports.append))

        (event,) = receive("notifications")
        assert parse(Completed, event.body).order_id == "00-0001"
        assert reports[0] == "took order 00-0001 (redelivered) from orders"

    @lie("ack-rejects")
    def test_each_of_ten_completes_some_of_200_orders_and_every_order_is_completed_exactly_once(
        self, orders, receive, eventually
    ):
        """No order is lost or done twice, although nobody tells the ten workers who does what."""
        workers = [orders.start(faultless(f"worker-{number}")) for number in range(10)]
        eventually(lambda: orders.channel.queue_declare("orders", passive=True).method.consumer_count, 10)
        placed = list(sample_orders(200))

        for order in placed:
            orders.producer.publish(order)
        events = [parse(Completed, delivery.body) for delivery in receive("notifications", 200)]
        for worker in workers:
            orders.halt(worker)

        assert sorted(event.order_id for event in events) == [order.order_id for order in placed]
        assert {event.worker for event in events} == {worker.name for worker in workers}
        assert sum(worker.handled["order.completed"] for worker in workers) == 200
        assert orders.depth("orders") == 0
        assert orders.depth("notifications") == 0
        assert orders.depth("orders.failed") == 0

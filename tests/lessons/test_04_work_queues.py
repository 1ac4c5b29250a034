"""Work queues: many hands, each task once.

When several consumers read one queue, they share it: the broker gives each message to exactly one of them, in turns. So
work is spread by starting more workers, and nobody has to divide it. What a worker holds is not gone from the queue
until it is acknowledged; if the worker dies before that, the broker gives the message to another one, marked as
redelivered.

In the order system any number of workers share the queue `orders`, and the death of one costs no order.

Spec: https://www.rabbitmq.com/docs/consumers
Code: rmqspec/client/consumer.py, rmqspec/orders/worker.py
"""

import pytest

from rmqspec.orders import Completed, Failures, Worker, parse, sample_orders

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


@pytest.fixture
def queue(channel):
    channel.queue_declare("tasks", durable=True)
    return "tasks"


@pytest.fixture
def publish(channel, queue):
    def each(*bodies):
        for body in bodies:
            channel.basic_publish("", queue, body)

    return each


def crash(_words):
    """Ends a worker at the moment when it has taken an order and says so."""
    raise MemoryError


def faultless(name):
    """Makes a worker that fails no order."""
    return lambda source: Worker(source, name, Failures(rate=0))


class TestRabbitMQ:
    """What the broker promises. Only pika is used here."""

    @behaviour("CONSUME-05")
    @lie("delivered-twice")
    def test_gives_a_message_to_one_consumer_only(self, connection, queue, publish, subscribe_without_ack):
        """A queue divides and an exchange copies: to have every consumer see everything, give each its own queue."""
        one, other = (
            subscribe_without_ack(connection.channel(), queue),
            subscribe_without_ack(connection.channel(), queue),
        )

        publish(b"1", b"2", b"3", b"4")

        assert sorted(one.wait_for(2) + other.wait_for(2)) == [b"1", b"2", b"3", b"4"]

    @behaviour("CONSUME-05")
    @lie("delivered-twice")
    def test_takes_turns_between_idle_consumers(self, connection, queue, publish, subscribe_without_ack):
        """Round robin goes by number of messages: it knows nothing of how long each one takes."""
        first, second, third = (subscribe_without_ack(connection.channel(), queue) for _ in range(3))

        publish(b"1", b"2", b"3", b"4", b"5", b"6")

        assert first.wait_for(2) == [b"1", b"4"]
        assert second.wait_for(2) == [b"2", b"5"]
        assert third.wait_for(2) == [b"3", b"6"]

    @behaviour("CONSUME-06")
    @lie("delivered-twice")
    def test_delivers_what_waited_and_what_came_later(self, channel, connection, queue, publish, subscribe_without_ack):
        """It does not matter who starts first, producer or consumer: the queue stands between them in time."""
        publish(b"1", b"2")

        consumer = subscribe_without_ack(connection.channel(), queue)
        consumer.wait_for(2)
        publish(b"3", b"4")

        assert consumer.wait_for(4) == [b"1", b"2", b"3", b"4"]

    @behaviour("ORDER-05")
    @lie("redelivered-lost")
    def test_hands_on_what_a_dead_consumer_held(self, connect, queue, publish, receive, subscribe_without_ack, cut):
        """The broker waits for no farewell. The mark is a warning: the dead one may have done half of it, or all."""
        publish(b"a task")
        doomed = connect()
        subscribe_without_ack(doomed.channel(), queue).wait_for(1)

        cut(doomed)
        (delivery,) = receive(queue)

        assert (delivery.body, delivery.redelivered) == (b"a task", True)

    @behaviour("ORDER-04", "ORDER-10")
    @lie("redelivered-always")
    def test_puts_back_in_front_what_was_held(self, connection, queue, publish, receive, subscribe_without_ack):
        """The oldest task does not go to the end of the line because somebody left; only what was out is marked."""
        publish(b"1", b"2", b"3")
        leaving = connection.channel()
        leaving.basic_qos(prefetch_count=2)
        subscribe_without_ack(leaving, queue).wait_for(2)

        leaving.close()  # answered once everything is back; a death is noticed later, and 3 might overtake
        left = receive(queue, 3)

        assert [delivery.body for delivery in left] == [b"1", b"2", b"3"]
        assert [delivery.redelivered for delivery in left] == [True, True, False]


class TestWorker:
    """What our worker adds."""

    @lie("redelivered-lost")
    def test_takes_over_the_order_of_a_dead_colleague(self, source, orders, receive, run_until_it_ends):
        """It acknowledges after the work, not before it. So a death at any moment costs time, and no order."""
        (order,) = sample_orders(1)
        orders.producer.publish(order)
        said = []
        with pytest.raises(MemoryError):
            run_until_it_ends(Worker(source, say=crash))

        orders.start(lambda source: Worker(source, failures=Failures(rate=0), say=said.append))

        assert parse(Completed, receive("notifications")[0].body).order_id == "00-0001"
        assert said[0] == "took order 00-0001 (redelivered)"

    @lie("ack-rejects")
    def test_shares_200_orders_with_nine_others(self, orders, receive, eventually):
        """Each is handled once and none is lost, though nobody told the ten who does what."""
        workers = [orders.start(faultless(f"worker-{number}")) for number in range(10)]
        eventually(lambda: orders.channel.queue_declare("orders", passive=True).method.consumer_count, 10)
        placed = list(sample_orders(200))

        for order in placed:
            orders.producer.publish(order)
        told = [parse(Completed, delivery.body) for delivery in receive("notifications", 200)]
        for worker in workers:
            orders.halt(worker)

        assert sorted(event.order_id for event in told) == [order.order_id for order in placed]
        assert {event.worker for event in told} == {worker.name for worker in workers}
        assert sum(worker.handled["order.completed"] for worker in workers) == 200
        assert [orders.depth(queue) for queue in ("orders", "notifications", "orders.failed")] == [0, 0, 0]

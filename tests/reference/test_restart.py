"""Restart: exclusive queues, transient exchanges, redelivered flags and leases after a stop or a kill.

A broker is killed, and later stopped; and the process of one queue is killed in a broker that runs on.

Spec: https://www.rabbitmq.com/docs/queues#durability
Reference: QDUR-01, QDUR-05, QDUR-07…11, QDECL-07, XDECL-17, XDEFAULT-03, STREAM-14, CONFIRM-12
"""

import time
from typing import NamedTuple

import pytest
from pika import BasicProperties, DeliveryMode
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker, UnroutableError

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
rabbitmq = pytest.mark.rabbitmq

# A broker of its own is started here, killed and restarted: ten seconds each on a busy machine, more on a slow one.
pytestmark = pytest.mark.timeout(180)

PERSISTENT = BasicProperties(delivery_mode=DeliveryMode.Persistent)
LEASE = 8  # seconds that an unused queue lives: longer than from its recovery at boot until a client asks for it


class Killed(NamedTuple):
    """A broker that was killed by `kill -9` and started again.

    Attributes:
        url: Its URL.
        outlived_its_lease: Whether the queue `leased` was there when the time was over that it had before the kill.
    """

    url: str
    outlived_its_lease: bool


@pytest.fixture(scope="module")
def killed(disposable_broker, disposable_url, connect_to_disposable):
    """A broker that was killed; see `Killed`."""
    with connect_to_disposable() as channel:
        for queue in ("unacked", "never delivered"):
            channel.queue_declare(queue, durable=True)
            channel.basic_publish("", queue, b"letter", PERSISTENT)
        channel.basic_get("unacked")
        channel.queue_declare("late", durable=True)
        channel.queue_declare(
            "short", durable=True, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "late"}
        )
        short = BasicProperties(delivery_mode=DeliveryMode.Persistent, expiration="2000")
        channel.basic_publish("", "short", b"for today", short)
        channel.queue_declare("urgent first", durable=True, arguments={"x-max-priority": 5})
        for priority in (1, 5, 3):
            urgent = BasicProperties(delivery_mode=DeliveryMode.Persistent, priority=priority)
            channel.basic_publish("", "urgent first", str(priority).encode(), urgent)
        tx = channel.connection.channel()
        tx.tx_select()
        channel.queue_declare("committed", durable=True)
        for _ in range(500):
            tx.basic_publish("", "committed", b"order", PERSISTENT)
        tx.tx_commit()
        channel.queue_declare("leased", durable=True, arguments={"x-expires": LEASE * 1000})
        declared = time.monotonic()

        disposable_broker.kill()
        disposable_broker.start()
    with connect_to_disposable() as channel:
        while (left := declared + LEASE - time.monotonic()) > 0:
            channel.connection.process_data_events(time_limit=left)
        try:
            channel.basic_publish("", "leased", b"is it there?", mandatory=True)
        except UnroutableError:
            return Killed(disposable_url, outlived_its_lease=False)
    return Killed(disposable_url, outlived_its_lease=True)


@pytest.fixture(scope="module")
def restarted(disposable_broker, killed, connect_to_disposable):
    """The URL of the same broker after it was stopped and started again."""
    with connect_to_disposable() as channel:
        channel.exchange_declare("transient", "direct", durable=False)
        channel.queue_declare("private", durable=True, exclusive=True)
        channel.queue_declare("log", durable=True, arguments={"x-queue-type": "stream"})
        for body in (b"1", b"2", b"3"):
            channel.basic_publish("", "log", body)

        disposable_broker.restart()
    return killed.url


class TestKilledBroker:
    """RabbitMQ: after its process was ended by `kill -9` and started again."""

    @pytest.fixture
    def url(self, killed):
        return killed.url

    @behaviour("QDUR-07")
    @lie("persistence-lost")
    def test_delivers_unacked_persistent_messages_again(self, receive):
        """Neither consumer nor broker could requeue the message. It was on disk all the time."""
        (delivery,) = receive("unacked")

        assert delivery.body == b"letter"

    @behaviour("QDUR-01")
    @lie("redelivered-lost")
    def test_marks_messages_as_redelivered_that_were_never_delivered(self, receive):
        """After a crash the broker does not know which messages were delivered, so the flag means: perhaps."""
        (delivery,) = receive("never delivered")

        assert delivery.body == b"letter"
        assert delivery.redelivered is True

    @behaviour("QDUR-05", "XDEFAULT-03")
    @lie("persistence-lost")
    def test_has_all_messages_whose_transaction_was_committed(self, channel, message_count):
        """The answer to `tx.commit` says that they are on disk; the next message finds the queue by its name."""
        assert message_count("committed") == 500

        channel.basic_publish("", "committed", b"one more")

        assert message_count("committed") == 501

    @behaviour("QDUR-09")
    @lie("priority-levels-lost")
    def test_still_delivers_higher_priority_first(self, drain):
        """The levels are part of the queue, and each message has kept its own."""
        assert drain("urgent first") == [b"5", b"3", b"1"]

    @behaviour("QDUR-10")
    @lie("expiration-lost")
    def test_dead_letters_messages_that_expired_while_it_was_down(self, receive):
        """The time of a message goes on when nobody counts it."""
        (dead,) = receive("late")

        assert dead.body == b"for today"
        assert dead.died_of == "expired"

    @behaviour("QDUR-11")
    @lie("queue-expiry-lost")
    def test_lets_a_queue_with_x_expires_live_for_its_whole_time_again(self, killed, exists, eventually):
        """The time that the broker was down does not count: consumers that come back find their queue."""
        assert killed.outlived_its_lease

        eventually(lambda: exists("leased"), False, within=2 * LEASE)


class TestKilledQueueProcess:
    """RabbitMQ: a classic queue whose process in the broker has crashed."""

    @pytest.fixture
    def url(self, disposable_url):
        return disposable_url

    @pytest.fixture
    def on_process(self, disposable_broker, disposable_vhost):
        """Has the broker do something to the process of the queue `work`: `on_process("exit(Pid, kill)")`."""
        queue = f'{{resource, <<"{disposable_vhost}">>, queue, <<"work">>}}'
        process = f"{{ok, Queue}} = rabbit_amqqueue:lookup({queue}), Pid = amqqueue:get_pid(Queue)"
        return lambda what: disposable_broker.control("eval", f"{process}, {what}.")

    @behaviour("CONFIRM-12")
    @lie("nack-confirmed")
    def test_nacks_the_publishes_that_it_has_not_confirmed(self, connection, channel, confirm_log, on_process):
        """Whether the queue has them nobody knows, so the publisher sends them again, and may send them twice."""
        channel.queue_declare("work", durable=True)
        log = confirm_log(connection)
        log.channel.basic_publish("", "work", b"confirmed", PERSISTENT)
        log.wait_for(1)

        on_process("sys:suspend(Pid)")  # so that it confirms nothing any more
        for _ in range(3):
            log.channel.basic_publish("", "work", b"order", PERSISTENT)
        log.channel.exchange_declare("amq.direct", passive=True)  # which is answered when they were routed
        on_process("exit(Pid, kill)")
        log.wait_for(4)

        assert log.acked == [1]
        assert log.nacked == [2, 3, 4]


class TestRestartedBroker:
    """RabbitMQ: after it was stopped and started again."""

    @pytest.fixture
    def url(self, restarted):
        return restarted

    @behaviour("QDUR-08")
    @lie("queue-exclusivity-lost")
    def test_deletes_an_exclusive_queue_although_it_was_declared_durable(self, lookup):
        """The queue belonged to a connection, and the restart has closed it."""
        assert lookup("queue", "private") == "missing"

    @behaviour("STREAM-14")
    @lie("stream-offset-wrong")
    def test_has_the_messages_of_a_stream_and_continues_their_offsets(self, read_log, channel, eventually):
        """A reader that has noted an offset goes on behind it; in the first second it may still be refused."""
        eventually(read_log, {0: b"1", 1: b"2", 2: b"3"})

        channel.basic_publish("", "log", b"4")

        eventually(read_log, {0: b"1", 1: b"2", 2: b"3", 3: b"4"})

    # 4.2 keeps its definitions in one of two stores: Mnesia forgets a transient exchange, Khepri does not.
    @behaviour("XDECL-17")
    @rabbitmq(before="4.2")
    @lie("exchange-made-durable")
    def test_loses_a_transient_exchange_before_4_2(self, lookup):
        """A publisher finds it missing (404) after the restart, and has to declare it again."""
        assert lookup("exchange", "transient") == "missing"

    @behaviour("XDECL-17")
    @rabbitmq(since="4.3")
    @lie("transient-exchange-not-made")
    def test_keeps_a_transient_exchange_since_4_3(self, lookup):
        """A program that relied on a restart to remove its exchanges must delete them now."""
        assert lookup("exchange", "transient") == "exists"


@pytest.fixture
def read_log(connect_to_disposable, restarted):
    """What the stream `log` has by offset, as far as it comes within a second; or the code by which it refuses."""

    def read():
        messages = {}

        def on_message(_channel, _deliver, properties, body):
            messages[properties.headers["x-stream-offset"]] = body

        with connect_to_disposable() as channel:
            channel.basic_qos(prefetch_count=10)
            try:
                channel.basic_consume("log", on_message, arguments={"x-stream-offset": "first"})
                channel.connection.process_data_events(time_limit=1)
            except (ChannelClosedByBroker, ConnectionClosedByBroker) as refused:  # it is not ready at once
                return refused.reply_code
        return messages

    return read


class TestQueueDeclare:
    """RabbitMQ: `queue.declare` of a durable queue that exists."""

    @behaviour("QDECL-07", "CHAN-03")
    @lie("precondition-hidden")
    def test_closes_the_channel_with_406_if_durable_differs(self, channel, refusal):
        """A queue that was declared transient by mistake stays so until it is deleted and declared again."""
        channel.queue_declare("letters", durable=True)

        said = refusal(lambda channel: channel.queue_declare("letters", durable=False))

        assert said.code == 406
        assert said.closed == "channel"
        assert "inequivalent arg 'durable'" in said.text

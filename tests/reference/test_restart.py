"""Restart: exclusive queues, transient exchanges, and redelivered flags after a stop or a kill.

Spec: https://www.rabbitmq.com/docs/queues#durability
Reference: QDUR-01, QDUR-07, QDUR-08, XDECL-17, QDECL-07, QDUR-05, QDUR-09, QDUR-10, XDEFAULT-03
"""

import pytest
from pika import BasicProperties, DeliveryMode

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
rabbitmq = pytest.mark.rabbitmq

# A broker of its own is started here, killed and restarted: ten seconds each on a busy machine, more on a slow one.
pytestmark = pytest.mark.timeout(180)

PERSISTENT = BasicProperties(delivery_mode=DeliveryMode.Persistent)


@pytest.fixture(scope="module")
def killed(disposable_broker, disposable_url, connect_to_disposable):
    """The URL of a broker that was killed by `kill -9` and started again."""
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

        disposable_broker.kill()
        disposable_broker.start()
    return disposable_url


@pytest.fixture(scope="module")
def restarted(disposable_broker, killed, connect_to_disposable):
    """The URL of the same broker after it was stopped and started again."""
    with connect_to_disposable() as channel:
        channel.exchange_declare("transient", "direct", durable=False)
        channel.queue_declare("private", durable=True, exclusive=True)

        disposable_broker.restart()
    return killed


class TestKilledBroker:
    """RabbitMQ: after its process was ended by `kill -9` and started again."""

    @pytest.fixture
    def url(self, killed):
        return killed

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

"""At-least-once dead lettering: what a quorum queue keeps until its dead letters are confirmed.

Spec: https://www.rabbitmq.com/docs/quorum-queues#dead-lettering
Reference: DLXALO-01…04, DLXALO-06, DLXALO-08, MAXLEN-15, QDEL-10
"""

import pytest
from pika import BasicProperties
from pika.exceptions import NackError

from rmqspec.tools.broker import Configuration

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
rabbitmq = pytest.mark.rabbitmq

AT_LEAST_ONCE = {
    "x-queue-type": "quorum",
    "x-dead-letter-exchange": "failures",
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
}

# Of the feature flags that a new node of 3.10 enables by itself, it enables this one alone.
WITHOUT_STREAMS = Configuration(advanced="[{rabbit, [{forced_feature_flags_on_init, [quorum_queue]}]}].")


@pytest.fixture(scope="module")
def disposable_broker(another_broker):
    """A broker on which streams are not enabled."""
    return another_broker(WITHOUT_STREAMS)


@pytest.fixture
def reject(channel, get_without_ack):
    """Publishes a message to `work` and rejects it there: `reject(b"order")`."""

    def publish_and_reject(body):
        channel.basic_publish("", "work", body)
        tag, _ = get_without_ack(channel, "work")
        channel.basic_reject(tag, requeue=False)

    return publish_and_reject


@pytest.fixture
def keeps_dead_letters(reject):
    """Rejects one more message of `work`; True if the queue did not accept it, as it is full of dead letters."""

    def reject_another():
        try:
            reject(b"order")
        except NackError:
            return True
        return False

    return reject_another


class TestAtLeastOnce:
    """RabbitMQ: a quorum queue with `x-dead-letter-strategy: at-least-once` and `x-overflow: reject-publish`."""

    @behaviour("DLXALO-01")
    @lie("dead-letter-exchange-lost", cases="rejected")
    @lie("expiration-lost", cases="expired")
    @pytest.mark.parametrize("reason", ["rejected", "expired"])
    def test_delivers_dead_letters_to_the_dead_letter_exchange(self, channel, bound_queue, reject, receive, reason):
        """From outside it looks like any other; it is slower, and keeps what it could not pass on."""
        channel.exchange_declare("failures", "fanout", durable=True)
        dead = bound_queue("failures")
        channel.queue_declare("work", durable=True, arguments=AT_LEAST_ONCE)

        if reason == "rejected":
            reject(b"order")
        else:
            channel.basic_publish("", "work", b"order", BasicProperties(expiration="1"))

        (delivery,) = receive(dead)
        assert delivery.body == b"order"
        assert delivery.died_of == reason

    @behaviour("DLXALO-02", "DLXALO-04", "MAXLEN-15")
    @lie("nack-confirmed")
    @pytest.mark.parametrize("missing", ["exchange", "binding"])
    def test_keeps_dead_letters_that_cannot_be_routed_and_counts_them_for_its_length_limit(
        self, connection, channel, reject, confirm_log, missing
    ):
        """A missing dead-letter queue loses nothing: publishers are refused, and somebody notices."""
        if missing == "binding":
            channel.exchange_declare("failures", "fanout", durable=True)
        channel.queue_declare("work", durable=True, arguments=AT_LEAST_ONCE | {"x-max-length": 2})
        for body in (b"1", b"2"):
            reject(body)
        log = confirm_log(connection)

        for number in range(1, 5):
            log.channel.basic_publish("", "work", b"order")
            log.wait_for(number)

        assert log.nacked[-2:] == [3, 4]

    @behaviour("DLXALO-03")
    @lie("length-limit-halved")
    def test_with_drop_head_loses_dead_letters_that_cannot_be_routed(self, channel, reject, drain):
        """Without reject-publish the strategy is at-most-once, whatever was declared, and nothing says so."""
        arguments = AT_LEAST_ONCE | {"x-overflow": "drop-head", "x-max-length": 2}
        channel.queue_declare("work", durable=True, arguments=arguments)
        for body in (b"1", b"2", b"3"):
            reject(body)

        for body in (b"4", b"5"):
            channel.basic_publish("", "work", body)

        assert drain("work") == [b"4", b"5"]


@pytest.mark.timeout(180)  # a broker of its own is started
class TestAtLeastOnceWithoutStreams:
    """RabbitMQ: such a quorum queue while the feature flag `stream_queue` is disabled; a new node enables it."""

    @pytest.fixture
    def url(self, disposable_url):
        return disposable_url

    @behaviour("DLXALO-08")
    @rabbitmq(before="3.12")
    @lie("nack-confirmed")
    def test_loses_dead_letters_that_cannot_be_routed_until_the_flag_is_enabled_before_3_12(
        self, disposable_broker, channel, keeps_dead_letters, eventually
    ):
        """After an upgrade the flag may be disabled: the queue accepts its arguments, and is no safer than before."""
        arguments = AT_LEAST_ONCE | {"x-max-length": 2}
        channel.queue_declare("work", durable=True, arguments=arguments)
        assert [keeps_dead_letters() for _ in range(5)] == [False] * 5

        disposable_broker.control("enable_feature_flag", "stream_queue")

        channel.queue_delete("work")
        channel.queue_declare("work", durable=True, arguments=arguments)
        eventually(keeps_dead_letters, True)


class TestDeadLetterStrategy:
    """RabbitMQ: the policy key `dead-letter-strategy` of a quorum queue."""

    @behaviour("DLXALO-06")
    @lie("nack-confirmed")
    def test_can_be_changed_by_a_policy_while_the_queue_is_in_use(
        self, broker, vhost, channel, keeps_dead_letters, eventually
    ):
        """A queue that loses dead letters need not be emptied and declared anew to keep them."""
        arguments = {name: value for name, value in AT_LEAST_ONCE.items() if name != "x-dead-letter-strategy"}
        channel.queue_declare("work", durable=True, arguments=arguments | {"x-max-length": 2})

        assert [keeps_dead_letters() for _ in range(5)] == [False] * 5

        broker.management.set_policy(vhost, "keep", "^work$", {"dead-letter-strategy": "at-least-once"})

        eventually(keeps_dead_letters, True)


class TestPurge:
    """RabbitMQ: `queue.purge` of a quorum queue that keeps dead letters."""

    @pytest.fixture
    def purged(self, connection, channel, reject, confirm_log):
        """A queue that was full of dead letters, and was purged; and the confirms of a publisher to it."""
        channel.queue_declare("work", durable=True, arguments=AT_LEAST_ONCE | {"x-max-length": 2})
        for body in (b"1", b"2"):
            reject(body)
        log = confirm_log(connection)
        for number in range(1, 6):  # until it is full, and its publishers know
            log.channel.basic_publish("", "work", b"order")
            log.wait_for(number)
        channel.queue_purge("work")
        return log

    @pytest.fixture
    def is_confirmed(self, purged):
        """Whether one more message is acked: `is_confirmed()`."""

        def publish():
            number = len(purged.acked) + len(purged.nacked) + 1
            purged.channel.basic_publish("", "work", b"later")
            purged.wait_for(number)
            return number in purged.acked

        return publish

    @behaviour("QDEL-10")
    @rabbitmq(since="4.3")
    @lie("purge-ignored")
    def test_deletes_dead_letters_that_wait_for_their_target_since_4_3(self, is_confirmed, eventually):
        """Who purges such a queue loses what nobody has seen yet; publishers are accepted again."""
        eventually(is_confirmed, True)

    @behaviour("QDEL-10")
    @rabbitmq(before="4.3")
    @lie("dead-letter-exchange-lost")
    def test_keeps_dead_letters_that_wait_for_their_target_before_4_3(self, is_confirmed):
        """The queue looks empty, and is as full as before: its publishers are refused."""
        assert [is_confirmed() for _ in range(5)] == [False, False, False, False, False]

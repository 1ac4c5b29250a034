"""Where classic queues keep messages: memory, disk, and lazy queues by version.

A message that waits costs memory, or disk, or both, and which of them it is has changed with every major version. Up to
3.11 a classic queue held in memory whatever fitted, and an operator with long queues turned them lazy, by an argument
or a policy, so that they lay on disk. Since then every classic queue lives on disk and holds but a few messages in
memory; the word lazy is still taken, and does nothing. What stays is the argument in a thousand declarations: it still
counts when two programs declare one queue. The order system never set it, and has nothing to change.

Spec: https://www.rabbitmq.com/docs/classic-queues
Code: rmqspec/orders/topology.py, rmqspec/client/topology.py
"""

import json
from contextlib import closing

import pytest
from pika import BasicProperties, DeliveryMode, URLParameters

from rmqspec.client import connect
from rmqspec.tools.broker import ManagementError

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie

# A broker of its own is started here: ten seconds on a busy machine, more on a slow one.
pytestmark = pytest.mark.timeout(180)

LAZY = {"x-queue-mode": "lazy"}
IN_43 = pytest.mark.rabbitmq(since="4.3")

# Ten messages go into each of these queues; a policy makes those lazy whose names end in `policy`.
FILLED = {
    "plain": {},
    "transient": {},
    "version_two": {"x-queue-version": 2},
    "lazy": LAZY,
    "lazy_transient": LAZY,
    "lazy_by_policy": {},
    "default_against_policy": {"x-queue-mode": "default"},
}


@pytest.fixture(scope="module")
def kept(disposable_broker, disposable_source):
    """What a queue says of itself: `kept("lazy", "messages_ram")`. It was asked itself: statistics lag by seconds."""
    keys = ("name", "messages", "messages_ram", "messages_unacknowledged_ram", "messages_persistent")
    vhost = URLParameters(disposable_source.urls[0]).virtual_host
    disposable_broker.management.set_policy(vhost, "lazy", "policy$", {"queue-mode": "lazy"})
    with closing(connect(disposable_source, "where queues keep messages")) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for name, arguments in (FILLED | {"held": {}, "purged": {}}).items():
            mode = DeliveryMode.Transient if "transient" in name else DeliveryMode.Persistent
            channel.queue_declare(name, durable=True, arguments=arguments)
            for _ in range(10):
                channel.basic_publish("", name, b"letter", BasicProperties(delivery_mode=mode))
        for name in ("held", "purged") * 3:
            channel.basic_get(name)
        channel.queue_purge("purged")
        rows = json.loads(disposable_broker.control("list_queues", "-p", vhost, "--formatter", "json", *keys))
    told = {row["name"]: row for row in rows}
    return lambda name, *keys: tuple(told[name][key] for key in keys)


@pytest.fixture
def refused(refusal):
    """What the broker says to the declaration of `work` with these arguments, and what it costs: `refused(LAZY)`."""
    return lambda given: refusal(lambda careless: careless.queue_declare("work", durable=True, arguments=given))


class TestRabbitMQ:
    """What the broker promises. Only pika is used here."""

    @behaviour("QDECL-17", "QDECL-11", "CHAN-03")
    @pytest.mark.parametrize(
        ("version", "reason"),
        [
            pytest.param(1, "unsupported queue version '1'", marks=IN_43, id="one"),
            pytest.param(3, "unsupported queue version '3'", id="three"),
            pytest.param("2", "expected integer", id="text"),
        ],
    )
    @lie("queue-version-lost")
    def test_refuses_an_unknown_version(self, channel, refused, version, reason):
        """Version one is gone in 4.3: a program that declares it does not start, though its queue is still there."""
        channel.queue_declare("known", durable=True, arguments={"x-queue-version": 2})

        said = refused({"x-queue-version": version})

        assert (said.code, said.closed) == (406, "channel")
        assert reason in said.text

    @behaviour("QDECL-17")
    @pytest.mark.rabbitmq(before="4.3")
    @lie("look-at-empty")
    def test_takes_version_one(self, channel, drain):
        """What is to be upgraded to 4.3 can be found before: it is the last argument that still says one."""
        channel.queue_declare("work", durable=True, arguments={"x-queue-version": 1})

        channel.basic_publish("", "work", b"letter")

        assert drain("work") == [b"letter"]

    @behaviour("QDECL-18", "CHAN-03")
    @pytest.mark.rabbitmq(before="4.3")
    @pytest.mark.parametrize("mode", ["lasy", 1], ids=["misspelt", "number"])
    @lie("queue-mode-lost")
    def test_refuses_an_unknown_mode(self, refused, mode):
        """Taken for the default, a misspelt `lazy` fills the memory that it was meant to spare."""
        said = refused({"x-queue-mode": mode})

        assert (said.code, said.closed) == (406, "channel")
        assert "x-queue-mode" in said.text

    @behaviour("QDECL-18")
    @pytest.mark.rabbitmq(since="4.3")
    @pytest.mark.parametrize("mode", ["lazy", "lasy", 1], ids=["lazy", "misspelt", "number"])
    @lie("look-at-empty")
    def test_takes_anything_for_a_mode(self, channel, drain, mode):
        """Nobody reads it any more, so nobody checks it; release notes that announce a refusal are wrong."""
        channel.queue_declare("work", durable=True, arguments={"x-queue-mode": mode})

        channel.basic_publish("", "work", b"letter")

        assert drain("work") == [b"letter"]

    @behaviour("QDECL-08", "QDECL-18", "CHAN-03")
    @pytest.mark.parametrize(
        ("was", "becomes"),
        [({}, LAZY), (LAZY, {}), ({}, {"x-queue-mode": "default"}), ({}, {"x-queue-version": 2})],
        ids=["lazy_later", "lazy_no_more", "default_named", "version_named"],
    )
    @lie("mistake-costs-connection")
    def test_refuses_to_change_storage(self, channel, refused, was, becomes):
        """It is compared even where it does nothing: who tidies up after the upgrade must make the queue anew."""
        channel.queue_declare("work", durable=True, arguments=was)

        said = refused(becomes)

        assert (said.code, said.closed) == (406, "channel")
        assert "inequivalent arg 'x-queue-" in said.text
        assert channel.queue_declare("work", durable=True, arguments=was).method.queue == "work"

    @behaviour("QQDECL-02", "CHAN-03")
    @pytest.mark.parametrize("queue_type", ["quorum", "stream"])
    @lie("queue-mode-lost")
    def test_refuses_lazy_to_other_types(self, channel, refused, queue_type):
        """They have no memory to spare: a declaration that is moved to them has to lose the argument."""
        channel.queue_declare("moved", durable=True, arguments={"x-queue-type": queue_type})

        said = refused(LAZY | {"x-queue-type": queue_type})

        assert (said.code, said.closed) == (406, "channel")
        assert f"of queue type rabbit_{queue_type}_queue" in said.text

    @behaviour("QDECL-18")
    def test_checks_the_mode_in_a_policy(self, broker, vhost):
        """4.3 checks here what it no longer checks in a declaration, and obeys neither."""
        broker.management.set_policy(vhost, "spare", "^work$", {"queue-mode": "lazy"})

        with pytest.raises(ManagementError, match="not a valid queue-mode") as error:
            broker.management.set_policy(vhost, "spare", "^work$", {"queue-mode": "lasy"})

        assert error.value.status == 400

    @behaviour("QDECL-17")
    @pytest.mark.parametrize("version", [1, 2], ids=["one", "two"])
    @lie("look-at-empty")
    def test_takes_version_from_policy(self, broker, vhost, channel, drain, version):
        """Even 4.3 takes one from a policy, which it refuses as an argument; in 4.x two is used all the same."""
        broker.management.set_policy(vhost, "version", "^work$", {"queue-version": version})
        channel.queue_declare("work", durable=True)

        channel.basic_publish("", "work", b"letter")

        assert drain("work") == [b"letter"]


class TestMemory:
    """How many of ten waiting messages are in memory; the queues were asked themselves, and no statistics."""

    @behaviour("QDECL-18")
    @pytest.mark.rabbitmq(before="3.12")
    @pytest.mark.parametrize("name", ["plain", "transient", "version_two"])
    @lie("second-message-lost")
    def test_holds_all_of_what_is_not_lazy(self, kept, name):
        """Persistent ones are on disk as well, but that frees nothing: when consumers stay away, memory fills."""
        assert kept(name, "messages", "messages_ram") == (10, 10)

    @behaviour("QDECL-18", "POLICY-01")
    @pytest.mark.rabbitmq(before="3.12")
    @pytest.mark.parametrize("name", ["lazy", "lazy_transient", "lazy_by_policy"])
    @lie("second-message-lost")
    def test_holds_nothing_of_what_is_lazy(self, kept, name):
        """Transient ones go to disk too, and are lost at a restart all the same: slow and unsafe at once."""
        assert kept(name, "messages", "messages_ram") == (10, 0)

    @behaviour("QDECL-18", "POLICY-03")
    @pytest.mark.rabbitmq(before="3.12")
    @lie("queue-mode-lost")
    def test_prefers_an_argument_of_mode(self, kept):
        """A queue whose program says `default` cannot be made lazy by an operator, who sees the policy applied."""
        assert kept("default_against_policy", "messages", "messages_ram") == (10, 10)

    @behaviour("QDECL-18")
    @pytest.mark.rabbitmq(since="4.0")
    @pytest.mark.parametrize("name", FILLED)
    @lie("second-message-lost")
    def test_holds_one_message_of_any_queue(self, kept, name):
        """What lazy mode was for is now true of all queues, and whatever argument or policy says changes nothing."""
        assert kept(name, "messages", "messages_ram") == (10, 1)

    @behaviour("QDUR-02")
    @lie("queue-durability-lost")
    def test_counts_persistent_messages(self, kept):
        """In memory or not says nothing of safety: only these are still there after a restart."""
        assert kept("plain", "messages", "messages_persistent") == (10, 10)
        assert kept("transient", "messages", "messages_persistent") == (10, 0)

    @behaviour("QDEL-06")
    @lie("purge-ignored")
    def test_holds_what_consumers_hold(self, kept):
        """A delivery stays in memory until its ack, and no purge frees it: a large prefetch undoes every lazy queue."""
        assert kept("held", "messages", "messages_unacknowledged_ram") == (10, 3)
        assert kept("purged", "messages", "messages_unacknowledged_ram") == (3, 3)

"""Security: who may do what, and where.

A broker is shared: the shop, the warehouse and the people who try something out use the same one. A vhost gives each
its own names. Within it a user has three permissions, each a regular expression over the names of queues and
exchanges: configure to create and delete, write to put something in, read to take something out. For the order system
that means a producer that can publish orders and never read one, and a worker that can read them and never delete the
queue. What a stolen password is good for is decided here, before it is stolen.

Spec: https://www.rabbitmq.com/docs/access-control
Code: rmqspec/tools/broker/management.py, rmqspec/client/refusal.py
"""

from operator import methodcaller as call

import pytest
from pika import BasicProperties, exceptions

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie

OPERATIONS = {
    "declare_queue": ("configure", call("queue_declare", "fresh", durable=True)),
    "delete_queue": ("configure", call("queue_delete", "ours")),
    "declare_exchange": ("configure", call("exchange_declare", "fresh", "topic", durable=True)),
    "delete_exchange": ("configure", call("exchange_delete", "team")),
    "publish": ("write", call("basic_publish", "team", "", b"")),
    "get": ("read", call("basic_get", "ours")),
    "consume": ("read", call("basic_consume", "ours", print)),
    "purge": ("read", call("queue_purge", "ours")),
}
DEAD_LETTERS = call("queue_declare", "mine", durable=True, arguments={"x-dead-letter-exchange": "team"})
ALTERNATE = call("exchange_declare", "mine", durable=True, arguments={"alternate-exchange": "team"})
ALL = {"configure": ".*", "write": ".*", "read": ".*"}


@pytest.fixture
def acting(user, connect_as):
    """A channel in confirm mode of a new user with these permissions: `acting(write="^orders$")`."""

    def make(**permissions):
        channel = connect_as(user(**permissions)).channel()
        channel.confirm_delivery()
        return channel

    return make


def refused(operation, channel, code=403, words="ACCESS_REFUSED"):
    """The broker closes this channel for the operation, and nothing else."""
    with pytest.raises(exceptions.ChannelClosedByBroker, match=words) as error:
        operation(channel)
    return (error.value.reply_code, channel.is_closed, channel.connection.channel().is_open) == (code, True, True)


class TestRabbitMQ:
    """What the broker promises. Only pika is used here."""

    @pytest.fixture(autouse=True)
    def names(self, channel):
        channel.queue_declare("ours", durable=True)
        for exchange in ("team", "company"):
            channel.exchange_declare(exchange, "topic", durable=True)

    @behaviour("PERM-01", "QDEL-07", "CHAN-03")
    @pytest.mark.parametrize("operation", OPERATIONS)
    @lie("code-403-changed")
    def test_asks_one_permission_for_an_operation(self, acting, operation):
        """Two of three are not enough, and one is: whoever gives all three to be safe has given away the queue."""
        needed, act = OPERATIONS[operation]
        others = {permission: ".*" for permission in ALL if permission != needed}

        assert refused(act, acting(**others))
        act(acting(**{needed: ".*"}))

    @behaviour("PERM-01")
    @lie("refusal-hidden")
    def test_compares_names_with_the_expression(self, acting):
        """It is searched for anywhere in the name: without ^ and $ `ours` allows `yours` as well."""
        loose, strict = acting(configure="ours"), acting(configure="^ours$")

        loose.queue_declare("yours", durable=True)
        assert refused(call("queue_declare", "yours", durable=True), strict)

    @behaviour("PERM-02", "CHAN-03")
    @pytest.mark.parametrize(
        ("bind", "target"),
        [(call("queue_bind", "ours", "team", "a"), "ours"), (call("exchange_bind", "company", "team", "a"), "company")],
        ids=["queue", "exchange"],
    )
    @lie("refusal-hidden")
    def test_asks_for_both_ends_of_a_binding(self, acting, bind, target):
        """Binding is a way to read what the exchange gets: a permission to create queues must not be one for that."""
        assert refused(bind, acting(write="^team$", read=f"^{target}$"))
        assert refused(bind, acting(write=f"^{target}$", read=f"^{target}$"))

        bind(acting(write=f"^{target}$", read="^team$"))

    @behaviour("PERM-03")
    @lie("code-403-changed")
    def test_knows_the_default_exchange_as_amq_default(self, acting):
        """A producer writes to the exchange without a name, whatever the queue: one for the queue lets nothing by."""
        publish = call("basic_publish", "", "ours", b"")

        assert refused(publish, acting(write="^ours$"), words="exchange 'amq.default'")
        publish(acting(write="^amq[.]default$"))

    @behaviour("PERM-04", "DLX-10")
    @pytest.mark.parametrize("declare", [DEAD_LETTERS, ALTERNATE], ids=["dead_letter_exchange", "alternate_exchange"])
    @lie("refusal-hidden")
    def test_asks_for_the_exchange_that_a_declaration_names(self, acting, declare):
        """Messages leave by it under the broker's name: else one could publish where one may not, by letting die."""
        assert refused(declare, acting(configure="^mine$", read="^mine$"), words="exchange 'team'")
        assert refused(declare, acting(configure="^mine$", write="^team$"), words="'mine'")

        declare(acting(configure="^mine$", write="^team$", read="^mine$"))

    @behaviour("PERM-05")
    @pytest.mark.rabbitmq(before="4.2")
    @lie("message-count-wrong")
    def test_asks_nothing_for_a_look(self, acting):
        """Before 4.2 whoever is in the vhost may ask how long any queue is."""
        assert acting(configure="").queue_declare("ours", passive=True).method.message_count == 0

    @behaviour("PERM-05")
    @pytest.mark.rabbitmq(since="4.3.1")
    @lie("refusal-hidden")
    def test_asks_some_permission_for_a_look(self, acting):
        """Any of the three will do: a monitor that had none has to be given one before the upgrade."""
        look = call("queue_declare", "ours", passive=True)

        assert refused(look, acting(configure=""))
        assert [look(acting(**{name: "^ours$"})).method.message_count for name in ALL] == [0, 0, 0]

    @behaviour("PERM-06")
    @lie("refusal-hidden")
    def test_asks_configure_on_amq_gen_for_names_of_its_own(self, acting):
        """The broker chooses the name, and still asks for it: a client that waits for replies needs this one."""
        declare = call("queue_declare", "", exclusive=True)

        assert refused(declare, acting(write=".*", read=".*"), words="queue 'amq.gen-")
        assert declare(acting(configure="^amq[.]gen-")).method.queue.startswith("amq.gen-")

    @behaviour("PERM-07")
    @lie("purge-ignored")
    def test_asks_anew_on_each_channel(self, broker, vhost, user, connect_as):
        """An open channel may remember for a while what it was allowed: who takes a permission away closes it too."""
        who = user(**ALL)
        connection = connect_as(who)
        connection.channel().queue_purge("ours")

        broker.management.permit(vhost, who.user, write=".*")

        assert refused(call("queue_purge", "ours"), connection.channel())

    @behaviour("TOPICPERM-01", "TOPICPERM-04", "CHAN-03")
    @lie("topic-as-fanout")
    def test_limits_topics_at_one_exchange(self, broker, vhost, user, connect_as):
        """A permission names exchanges, and all teams publish to one: this one looks at the routing key too."""
        who = user(**ALL)
        broker.management.permit_topics(vhost, who.user, "team", write="^order[.]", read=".*")
        connection = connect_as(who)
        inside, outside = connection.channel(), connection.channel()
        for channel in (inside, outside):
            channel.confirm_delivery()

        assert refused(call("basic_publish", "team", "payment.new", b""), outside, words="topic 'payment.new'")
        for exchange, key in (("team", "order.new"), ("company", "payment.new")):
            inside.basic_publish(exchange, key, b"")

    @behaviour("TOPICPERM-02", "TOPICPERM-03")
    @lie("binding-doubled")
    def test_limits_patterns_to_the_users_name(self, broker, vhost, user, connect_as):
        """One rule for a thousand customers, each of whom may listen to what is about him alone."""
        who = user(**ALL)
        broker.management.permit_topics(vhost, who.user, "team", write=".*", read="^{username}[.]")
        connection = connect_as(who)

        assert refused(call("queue_bind", "ours", "team", "#"), connection.channel(), words="topic '#'")
        connection.channel().queue_bind("ours", "team", f"{who.user}.#")

    @behaviour("PUB-08", "CHAN-03")
    @lie("delivered-user-id-lost")
    def test_vouches_for_the_user_id_of_a_message(self, user, connect_as, receive):
        """Everything else in a message may be made up by its sender; this one a consumer can believe."""
        who = user(**ALL)
        honest, liar = (connect_as(who).channel() for _ in range(2))
        liar.confirm_delivery()
        forged = call("basic_publish", "", "ours", b"", BasicProperties(user_id="boss"))

        assert refused(forged, liar, code=406, words="PRECONDITION_FAILED - user_id property set to 'boss'")
        honest.basic_publish("", "ours", b"", BasicProperties(user_id=who.user))

        assert [delivery.properties.user_id for delivery in receive("ours")] == [who.user]

    @behaviour("PUB-08", "PERM-08")
    @lie("delivered-user-id-lost")
    def test_lets_an_impersonator_sign_for_others(self, user, connect_as, receive):
        """A bridge between two brokers republishes what others wrote; the tag says whom one has to trust with it."""
        bridge = connect_as(user("impersonator", **ALL)).channel()
        bridge.confirm_delivery()

        bridge.basic_publish("", "ours", b"", BasicProperties(user_id="boss"))

        assert [delivery.properties.user_id for delivery in receive("ours")] == ["boss"]

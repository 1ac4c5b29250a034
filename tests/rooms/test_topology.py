"""Declaring from data what a broker can be told.

Code: rmqspec/client/topology.py
"""

import pytest
from pika import BasicProperties

from rmqspec.client import Binding, Exchange, ExchangeBinding, Publisher, Queue, Topology
from rmqspec.client.errors import ClientError


class TestTopology:
    """`Topology.declare`."""

    def test_declares_alternate_exchanges(self, url, channel, drain):
        """Without its arguments an exchange drops what nobody is bound for."""
        topology = Topology(
            (Exchange("main", "direct", {"alternate-exchange": "unrouted"}), Exchange("unrouted", "fanout")),
            (Queue("lost and found"),),
            (Binding("unrouted", "lost and found"),),
        )
        topology.declare(channel)

        with Publisher(url) as publisher:
            publisher.publish("main", "nobody", b"kept").result(10)

        assert drain("lost and found") == [b"kept"]

    def test_binds_by_headers(self, channel, drain):
        """A headers exchange compares arguments, and no key."""
        pdf = {"x-match": "all", "format": "pdf"}
        Topology((Exchange("docs", "headers"),), (Queue("pdfs"),), (Binding("docs", "pdfs", arguments=pdf),)).declare(
            channel
        )
        for body, kind in ((b"yes", "pdf"), (b"no", "png")):
            channel.basic_publish("docs", "", body, BasicProperties(headers={"format": kind}))

        assert drain("pdfs") == [b"yes"]

    def test_binds_exchanges_to_exchanges(self, channel, drain):
        """One team's exchange feeds another's, and neither knows the other's queues."""
        topology = Topology(
            (Exchange("theirs", "topic"), Exchange("ours", "fanout", internal=True)),
            (Queue("q"),),
            (Binding("ours", "q"),),
            (ExchangeBinding("theirs", "ours", "order.#"),),
        )
        topology.declare(channel)
        topology.declare(channel)

        for key in ("order.new", "invoice.new"):
            channel.basic_publish("theirs", key, key.encode())

        assert drain("q") == [b"order.new"]

    def test_declares_queues_of_each_kind(self, broker, vhost, channel):
        """Durable and classic is the default, not all that there is."""
        queues = (
            Queue.quorum("replicated", {"x-delivery-limit": 3}),
            Queue("own", exclusive=True),
            Queue("passing", auto_delete=True),
            Queue("kept"),
        )
        Topology(queues=queues).declare(channel)

        found = {queue["name"]: queue for queue in broker.management._call("GET", f"queues/{vhost}")}
        assert found["replicated"]["arguments"] == {"x-queue-type": "quorum", "x-delivery-limit": 3}
        assert [found[name]["exclusive"] for name in ("own", "kept")] == [True, False]
        assert [found[name]["auto_delete"] for name in ("passing", "kept")] == [True, False]

    def test_declares_exchanges_that_go_by_themselves(self, url, channel):
        """What a test or a session declares should not stay for ever."""
        Topology((Exchange("brief", "fanout", auto_delete=True),), (Queue("q"),), (Binding("brief", "q"),)).declare(
            channel
        )
        with Publisher(url) as publisher:
            publisher.publish("brief", "", b"there").result(10)
            channel.queue_delete("q")
            with pytest.raises(ClientError, match="no exchange 'brief'"):
                publisher.publish("brief", "", b"gone").result(10)

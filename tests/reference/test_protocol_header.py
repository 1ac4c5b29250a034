"""The protocol header: the eight bytes that a client sends first, and what the broker says of itself then.

Spec: https://www.rabbitmq.com/docs/specification, https://www.rabbitmq.com/docs/connections#capabilities
Reference: PROTO-01…04, PROTO-20, PROTO-28
"""

import pytest

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie

CAPABILITIES = [
    "authentication_failure_close",
    "basic.nack",
    "connection.blocked",
    "consumer_cancel_notify",
    "consumer_priorities",
    "direct_reply_to",
    "exchange_exchange_bindings",
    "per_consumer_qos",
    "publisher_confirms",
]


class TestProtocolHeader:
    """RabbitMQ: the answer to the first eight bytes of a client."""

    @behaviour("PROTO-01", "PROTO-28")
    @lie("protocol-version-changed")
    def test_of_0_9_1_is_answered_with_connection_start_of_0_9(self, raw_client):
        """The last number, the revision, is not in the answer: a client of 0-9-1 may take 0-9 for its own version."""
        start = raw_client().begin(b"AMQP\x00\x00\x09\x01")

        assert start.version_major == 0
        assert start.version_minor == 9
        assert start.locales == b"en_US"
        assert b"PLAIN" in start.mechanisms.split(b" ")

    @behaviour("PROTO-02", "PROTO-20")
    @lie(None, because="what comes before the first frame is no method, and lies are told about methods")
    @pytest.mark.parametrize(
        "header",
        [b"AMQP\x09\x09\x09\x09", b"HTTP/1.1", b"\x16\x03\x01\x02\x00\x01\x00\x01"],
        ids=["AMQP_9", "HTTP", "TLS"],
    )
    def test_that_is_not_known_is_answered_with_a_header_and_the_end_of_the_connection(self, raw_client, header):
        """A client of another protocol is told what is spoken here, and does not wait for nothing."""
        client = raw_client()

        client.send(header)

        said = client.hears_bytes()
        assert said[:4] == b"AMQP"
        assert len(said) == 8
        client.hears_the_end()


class TestServerProperties:
    """RabbitMQ: the table of properties in `connection.start`."""

    @behaviour("PROTO-03")
    @lie("server-properties-lost")
    def test_name_product_version_platform_and_cluster(self, broker, raw_client):
        """A program can ask which broker it speaks to before it uses what only some versions have."""
        properties = raw_client().begin().server_properties

        assert properties.get("product") == "RabbitMQ"
        assert properties.get("version") == broker.identity.version
        assert properties.get("platform") == broker.identity.platform
        assert properties.get("cluster_name")

    @behaviour("PROTO-04")
    @lie("server-properties-lost")
    def test_list_nine_capabilities_all_true(self, raw_client):
        """Extensions of the protocol are asked for by name; a version number would not tell of other brokers."""
        capabilities = raw_client().begin().server_properties.get("capabilities", {})

        assert sorted(capabilities) == CAPABILITIES
        assert set(capabilities.values()) == {True}

"""A project of somebody else that tests its own consumers with the fixtures of rmqspec.

Code: rmqspec/tools/plugin/__init__.py, rmqspec/tools/plugin/fixtures.py
"""

import sys
from textwrap import dedent

CONFTEST = 'pytest_plugins = ["rmqspec.tools.plugin"]'
SUITE = '''
import pika

def handle(channel, method, properties, body):
    """The consumer under test: it rejects what it cannot read."""
    if body.isdigit():
        channel.basic_ack(method.delivery_tag)
    else:
        channel.basic_reject(method.delivery_tag, requeue=False)

def test_rejects_what_is_no_number(broker, vhost, connect, channel, eventually):
    channel.exchange_declare("failed", "fanout")
    channel.queue_declare("failed")
    channel.queue_bind("failed", "failed")
    channel.queue_declare("numbers", arguments={"x-dead-letter-exchange": "failed"})
    for body in (b"1", b"two", b"3"):
        channel.basic_publish("", "numbers", body)
    consuming = connect()
    consuming.channel().basic_consume("numbers", handle)

    def depth():
        consuming.process_data_events()
        return channel.queue_declare("failed", passive=True).method.message_count

    eventually(depth, 1)

    assert broker.identity.product == "RabbitMQ"
    assert vhost.startswith("rmqspec-")
'''


class TestPlugin:
    """Named in the conftest.py of another project."""

    def test_gives_fixtures_to_a_foreign_project(self, pytester, broker, monkeypatch):
        """Testing a consumer against a real broker needs a vhost for each test and waits without sleeping."""
        monkeypatch.delenv("RABBITMQ_BROKER", raising=False)  # else it starts one of its own
        monkeypatch.setenv("RABBITMQ_URL", broker.endpoint.url())
        monkeypatch.setenv("RABBITMQ_MANAGEMENT_URL", broker.endpoint.management_url)
        pytester.makeconftest(CONFTEST)
        pytester.makepyfile(test_consumer=SUITE)

        result = pytester.run(sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-W", "error")

        result.assert_outcomes(passed=1)
        result.stdout.fnmatch_lines(["broker: RabbitMQ * at 127.0.0.1:*", "*test_rejects_what_is_no_number PASSED*"])

    def test_loads_no_order_system(self, pytester):
        """Of no use to another project, it takes a third of the plugin's start."""
        program = """
            from importlib import import_module
            from sys import modules
            for name in import_module("rmqspec.tools.plugin").pytest_plugins:
                import_module(name)
            print([name for name in modules if name.startswith(("rmqspec.orders", "pydantic"))])
        """
        result = pytester.run(sys.executable, "-c", dedent(program))

        assert result.outlines == ["[]"]

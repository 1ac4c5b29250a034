"""The caller's side of remote calls, beyond what the lesson tells."""

import threading

import pytest

from rmqspec.client import RpcClient, RpcServer
from rmqspec.client.errors import CallFailed, Unencodable


@pytest.fixture
def echo(url, channel):
    """A server that answers with the request."""
    channel.queue_declare("echo", durable=True)
    server = RpcServer(url, "echo", lambda request: request, prefetch=100)
    thread = threading.Thread(target=server.run)
    thread.start()
    yield server
    server.stop()
    thread.join(10)


class TestRpcClient:
    """Calls."""

    def test_tells_of_a_request_amqp_cannot_carry(self, url, echo):
        """Found out in the connection's thread it would end the connection, and every other call with it."""
        with RpcClient(url) as client:
            with pytest.raises(Unencodable, match="more than 255 bytes"):
                client.call("q" * 256, b"lost")

            assert client.call("echo", b"heard") == b"heard"

    def test_fails_a_call_at_once_while_its_broker_is_down(self, disposable_broker):
        """Until the broker is back there is nobody to ask, and a caller with a deadline may ask somebody else."""
        client = RpcClient(disposable_broker.endpoint.url(), timeout=60.0)
        disposable_broker.stop()

        errors = []
        for _ in range(2):
            with pytest.raises(CallFailed) as error:
                client.call("echo", b"?")
            errors.append(str(error.value))

        client.close()
        assert "connection to the broker is lost" in errors[-1]

    def test_gives_each_of_many_callers_its_own_reply(self, url, echo):
        """All of them share one connection; the correlation id tells whose reply it is."""
        wrong = []

        def ask(client, caller):
            for number in range(20):
                question = b"%d-%d" % (caller, number)
                if client.call("echo", question) != question:
                    wrong.append(question)

        with RpcClient(url) as client:
            callers = [threading.Thread(target=ask, args=(client, number)) for number in range(16)]
            for each in callers:
                each.start()
            for each in callers:
                each.join(30)

        assert (wrong, echo.answered) == ([], 320)

    def test_fails_what_is_open_when_it_is_closed(self, url, channel):
        """Whoever waits is told, and does not wait for the deadline."""
        channel.queue_declare("silent", durable=True)
        client = RpcClient(url, timeout=60.0)
        open_call = client.send("silent", b"?")

        client.close()

        with pytest.raises(CallFailed, match="closed before the reply came"):
            open_call.result(0)
        with pytest.raises(CallFailed, match="has been closed"):
            client.call("silent", b"?")

"""Our client of the management API, before servers that are not as we would like them.

Code: rmqspec/tools/broker/management.py
"""

from http.server import BaseHTTPRequestHandler

import pytest

from rmqspec.tools.broker import Endpoint
from rmqspec.tools.broker.errors import ManagementError
from rmqspec.tools.broker.management import Management

from .echo import serving


class Impatient(BaseHTTPRequestHandler):
    """Answers once, offers to keep the connection, and hangs up in the moment in which it is asked again."""

    protocol_version = "HTTP/1.1"
    answered = False

    def do_GET(self):
        if self.answered:
            self.close_connection = True
            return
        self.answered = True
        body = b'{"name": "guest"}'
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def asking(port):
    return Management(Endpoint("127.0.0.1", 5672, "guest", "guest", f"http://127.0.0.1:{port}"))


class TestManagement:
    """`Management`."""

    def test_is_not_hung_up_on_between_two_requests(self):
        """A run ends red if the deletion of its last vhost meets a connection that the broker no longer wants."""
        with serving(Impatient) as port:
            management = asking(port)

            assert [management.whoami() for _ in range(3)] == ["guest"] * 3

    def test_does_not_ask_again_where_it_was_hung_up_on(self):
        """What it asked for may have been done; a second deletion would say that there is no such vhost."""
        asked = []

        class Mute(Impatient):
            def do_GET(self):
                asked.append(self.path)
                self.close_connection = True

        with serving(Mute) as port, pytest.raises(ManagementError, match="nothing answers at http://127"):
            asking(port).whoami()

        assert asked == ["/api/whoami"]

    def test_says_that_something_else_answers(self):
        """A web server on that port answers 200 to everything, with a page."""

        class Page(Impatient):
            def do_GET(self):
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"<html>")

        with serving(Page) as port, pytest.raises(ManagementError, match="is no management API of RabbitMQ"):
            asking(port).whoami()

"""A far end for the proxy that needs no broker: it says back what it is told."""

import socket
import socketserver
import threading
from contextlib import contextmanager


class Echo(socketserver.BaseRequestHandler):
    """Says back what it is told, until it is told no more."""

    def handle(self):
        try:
            while data := self.request.recv(65536):
                self.request.sendall(data)
        except ConnectionError:
            return  # cut, as some tests do


@contextmanager
def serving(handler, context=None):
    """A server on loopback, with TLS if a context is given; yields its port."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def calling(proxy):
    with socket.create_connection(("127.0.0.1", proxy.port), 10) as link:
        yield link


def told(link, size):
    """So many bytes, or fewer if the end comes first."""
    parts = []
    while size and (part := link.recv(min(size, 65536))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def asked(link, data):
    link.sendall(data)
    return told(link, len(data))

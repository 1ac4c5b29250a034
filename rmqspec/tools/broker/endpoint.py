"""Where a broker listens, how to log in, and what it says of itself."""

from __future__ import annotations

import os
import secrets
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from pika.exceptions import AMQPError
from pika.frame import ProtocolHeader

from rmqspec.client.decoding import decode_frame

__all__ = ["Endpoint", "Identity", "greet", "random_login"]

AMQP_PORTS = {"amqp": 5672, "amqps": 5671}
FORM = "a broker's URL reads amqp://user:password@host:port or amqps://…"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A broker's addresses and one login. ``repr`` leaves the password out.

    Attributes:
        management_url: Where its management API is; empty if it has none, or if nobody has said where.
        tls_port: Where it listens for TLS beside the port; 0 if nowhere.
    """

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    management_url: str
    scheme: str = "amqp"
    tls_port: int = 0

    def url(self, vhost: str = "/") -> str:
        """The AMQP URL of a vhost. It holds the password: never print it."""
        login = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}"
        return f"{self.scheme}://{login}@{_bracketed(self.host)}:{self.port}/{quote(vhost, safe='')}"

    def tls_url(self, vhost: str = "/") -> str:
        """The ``amqps`` URL of a vhost. It holds the password too."""
        return replace(self, scheme="amqps", port=self.tls_port).url(vhost)

    @classmethod
    def parse(cls, url: str, management_url: str | None = None) -> Endpoint:
        """Reads an AMQP URL as in https://www.rabbitmq.com/docs/uri-spec.

        Args:
            url: ``amqp://user:password@host:port``; ``amqps`` for TLS. What is missing is ``guest``, ``guest`` and the
                scheme's own port.
            management_url: Where the management API listens; without it nothing is asked anywhere. It may be as a
                browser shows it, with ``/#/``, or without its scheme.

        Raises:
            ValueError: The URL is not an AMQP URL.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            # urlsplit quotes what it cannot read, and a slash in a password makes that the password: so not "from".
            raise ValueError(FORM) from None
        if parts.scheme not in AMQP_PORTS:
            raise ValueError(FORM)
        if not parts.hostname:
            raise ValueError(f"{FORM}, and in this one there is no host")
        return cls(
            host=parts.hostname,
            port=port or AMQP_PORTS[parts.scheme],
            user=unquote(parts.username or "guest"),
            password=unquote(parts.password or "guest"),
            management_url=_management(management_url) if management_url else "",
            scheme=parts.scheme,
        )


@dataclass(frozen=True, slots=True)
class Identity:
    """What a broker announces in its first frame."""

    product: str
    version: str
    platform: str

    def __str__(self) -> str:
        """As in ``RabbitMQ 4.0.5, Erlang 27.3.4``."""
        return f"{self.product} {self.version}, {self.platform.replace('Erlang/OTP', 'Erlang')}"

    @property
    def release(self) -> tuple[int, ...]:
        """The version as numbers, to be compared: ``(4, 0, 5)``."""
        numbers = self.version.split("-")[0].split("+")[0].split(".")
        return tuple(int(number) for number in numbers if number.isdigit())


def _management(url: str) -> str:
    """The address of a management API, without what a browser shows behind it.

    Without a login too: it is logged in with that of the AMQP URL, and the address is printed.
    """
    scheme, mark, rest = url.partition("#")[0].rstrip("/").removesuffix("/api").rpartition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme if mark else 'http'}://{host.rpartition('@')[2]}{slash}{path}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host  # an IPv6 address within a URL


def random_login() -> tuple[str, str]:
    """A user and a password that nobody can guess, for a broker that lives for one run."""
    return f"rmqspec-{secrets.token_hex(3)}", secrets.token_urlsafe(18)


def greet(endpoint: Endpoint, timeout: float = 5.0) -> Identity:
    """Opens the AMQP handshake, reads ``connection.start`` and hangs up.

    A port that accepts is not yet a broker that speaks, so this is what readiness is measured by.

    Args:
        endpoint: Whom to greet.
        timeout: Seconds for connecting, and for the answer.

    Raises:
        OSError: Nobody listens, or no answer came in time.
        ConnectionError: Whoever listens does not speak AMQP 0-9-1.
    """
    with socket.create_connection((endpoint.host, endpoint.port), timeout) as plain, _secured(plain, endpoint) as link:
        link.sendall(ProtocolHeader().marshal())
        received = b""
        while chunk := link.recv(65536):
            received += chunk
            properties = _server_properties(received)
            if properties is not None:
                words = (str(properties.get(name, "unknown")) for name in ("product", "version", "platform"))
                return Identity(*words)
    raise ConnectionError(f"{endpoint.host}:{endpoint.port} hung up during the AMQP handshake")


def _secured(link: socket.socket, endpoint: Endpoint) -> socket.socket:
    if endpoint.scheme == "amqp":
        return link
    return ssl.create_default_context(cafile=os.environ.get("RABBITMQ_CA")).wrap_socket(
        link, server_hostname=endpoint.host
    )


def _server_properties(received: bytes) -> Mapping[str, Any] | None:
    try:
        _, frame = decode_frame(received)
    except AMQPError as error:
        raise ConnectionError("whoever listens there does not speak AMQP 0-9-1") from error
    if frame is None:
        return None
    method = getattr(frame, "method", None)
    if method is None:
        raise ConnectionError("whoever listens there speaks another version of AMQP")
    properties: Mapping[str, Any] = method.server_properties
    return properties

"""How to reach a broker: addresses, TLS, heartbeat and timeouts, from options or from the environment.

Source: https://www.rabbitmq.com/docs/uri-spec, https://www.rabbitmq.com/docs/ssl
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pika

from rmqspec.client.errors import InvalidSetting, InvalidUrl

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True)
class Settings:
    """Where to connect, and how. ``repr`` leaves the URLs out: they hold passwords.

    Attributes:
        urls: Addresses of one cluster, tried in turn; ``amqps`` for TLS.
        heartbeat: Seconds after which a silent peer is given up.
        timeout: Seconds to wait for the socket, and again for the handshake.
        blocked_timeout: Seconds after which a connection that the broker blocks is given up; None waits for the end of
            the alarm. See https://www.rabbitmq.com/docs/connection-blocked.
        ca: A file with the authorities that the broker's certificate is checked against; by default the system's.
        certificate: A file with the client's certificate, where the broker asks for one.
        key: A file with its private key.
        server_name: The name that the broker's certificate must carry; by default the host's.
        label: Stands before the name of each connection: which program it is, or which test.
    """

    urls: tuple[str, ...] = field(default=("amqp://guest:guest@127.0.0.1:5672/%2F",), repr=False)
    heartbeat: int = 60
    timeout: float = 10.0
    blocked_timeout: float | None = None
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    server_name: str | None = None
    label: str = ""

    @classmethod
    def of(cls, source: str | Settings) -> Settings:
        """Settings of a URL, or of several with blanks between them; what is settings stays as it is."""
        return source if isinstance(source, Settings) else cls(urls=_urls(source))

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Reads ``RABBITMQ_URL`` and, for each other setting, the variable of its name: ``RABBITMQ_HEARTBEAT``.

        Raises:
            InvalidSetting: A number is none.
        """
        given: dict[str, Any] = {}
        for variable, (name, convert) in VARIABLES.items():
            if value := environment.get(variable):
                try:
                    given[name] = convert(value)
                except ValueError as error:
                    raise InvalidSetting(f"{variable} is {value!r}: a number of seconds is wanted") from error
        return cls(**given)

    def parameters(self, attempt: int, name: str) -> pika.URLParameters:
        """Pika's parameters for one of the addresses.

        Args:
            attempt: Counts up; the addresses take turns.
            name: The connection's, shown in the management UI. Without it an operator sees only a port number.

        Raises:
            InvalidUrl: The address cannot be read.
            InvalidSetting: A certificate cannot be read.
        """
        parameters = _parse(self.urls[attempt % len(self.urls)])
        parameters.client_properties = {"connection_name": f"{self.label} {name}".strip()}
        parameters.heartbeat = self.heartbeat
        parameters.socket_timeout = parameters.stack_timeout = self.timeout
        parameters.blocked_connection_timeout = self.blocked_timeout
        if parameters.ssl_options is not None:
            parameters.ssl_options = pika.SSLOptions(self._tls(), self.server_name or parameters.host)
        return parameters

    def _tls(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.certificate:
                context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(filter(None, (self.ca, self.certificate, self.key)))
            raise InvalidSetting(f"a certificate or key cannot be read ({error}): check {files}") from error
        return context


def _urls(text: str) -> tuple[str, ...]:
    return tuple(text.split()) or ("",)  # nothing at all is a URL that cannot be read


VARIABLES: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "RABBITMQ_URL": ("urls", _urls),
    "RABBITMQ_HEARTBEAT": ("heartbeat", int),
    "RABBITMQ_TIMEOUT": ("timeout", float),
    "RABBITMQ_BLOCKED_TIMEOUT": ("blocked_timeout", float),
    "RABBITMQ_CA": ("ca", str),
    "RABBITMQ_CERTIFICATE": ("certificate", str),
    "RABBITMQ_KEY": ("key", str),
    "RABBITMQ_SERVER_NAME": ("server_name", str),
}


def _parse(url: str) -> pika.URLParameters:
    if urlsplit(url).scheme not in ("amqp", "amqps"):
        raise InvalidUrl("a broker's URL reads amqp://user:password@host:port/vhost, or amqps://…")
    try:
        return pika.URLParameters(url)
    except (ValueError, TypeError) as error:
        raise InvalidUrl(f"the broker's URL cannot be read: {error}") from error

"""How to reach a broker: addresses, TLS, heartbeat and timeouts, from options or from the environment.

Source: https://www.rabbitmq.com/docs/uri-spec, https://www.rabbitmq.com/docs/ssl
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pika

from rmqspec.client.errors import InvalidSetting, InvalidUrl

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True)
class Settings:
    """Where to connect, and how. ``repr`` leaves the URLs out: they hold passwords.

    Raises:
        InvalidSetting: A number is out of range, or a key has no certificate.

    Attributes:
        urls: Addresses of one cluster, tried in turn; ``amqps`` for TLS.
        heartbeat: Seconds after which a silent peer is given up; 0 for never.
        timeout: Seconds to wait for the socket, and again for the handshake.
        answer_timeout: Seconds that the broker has to answer a method, or to confirm a message while it blocks nobody;
            None waits for ever.
        blocked_timeout: Seconds after which a connection that the broker blocks is given up; None waits for the end of
            the alarm. See https://www.rabbitmq.com/docs/connection-blocked.
        max_backoff: Seconds at most between two attempts to connect again. The pauses grow up to it, and are random.
        ca: A file with the authorities that the broker's certificate is checked against; by default the system's.
        certificate: A file with the client's certificate, where the broker asks for one.
        key: A file with its private key.
        server_name: The name that the broker's certificate must carry; by default the host's.
        label: Stands before the name of each connection: which program it is, or which test.
        refusal_is_final: Whether a login, a vhost or a certificate that is refused when a lost connection is opened
            again ends the client. By default it goes on trying: a password is being changed, a limit is reached for a
            while. At the first connection a refusal is final.
    """

    urls: tuple[str, ...] = field(default=("amqp://guest:guest@127.0.0.1:5672/%2F",), repr=False)
    heartbeat: int = 60
    timeout: float = 10.0
    answer_timeout: float | None = 30.0
    blocked_timeout: float | None = None
    max_backoff: float = 10.0
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    server_name: str | None = None
    label: str = ""
    refusal_is_final: bool = False

    def __post_init__(self) -> None:
        for name, (least, most) in RANGES.items():
            seconds = getattr(self, name)
            if seconds is not None and not least <= seconds <= most:
                raise InvalidSetting(f"{name} is {seconds}: seconds from {least} to {most} are wanted")
        if self.key and not self.certificate:
            raise InvalidSetting(f"the key {self.key} has no certificate: name that too (RABBITMQ_CERTIFICATE)")

    @classmethod
    def of(cls, source: str | Settings) -> Settings:
        """Settings of a URL, or of several with blanks between them; what is settings stays as it is."""
        return source if isinstance(source, Settings) else cls(urls=_urls(source))

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Reads ``RABBITMQ_URL`` and, for each other setting, the variable of its name: ``RABBITMQ_HEARTBEAT``.

        Raises:
            InvalidSetting: A number is none, or is out of range.
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
            InvalidUrl: One of the addresses cannot be read.
            InvalidSetting: A certificate cannot be read.
        """
        every = [_parse(url) for url in self.urls]  # the second is not to be found wrong on the day the first is down
        parameters = every[attempt % len(every)]
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
                context.load_cert_chain(self.certificate, self.key, password="")  # else OpenSSL asks at the terminal
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(filter(None, (self.ca, self.certificate, self.key)))
            raise InvalidSetting(f"a certificate or key cannot be read ({error}): check {files}") from error
        return context


def _urls(text: str) -> tuple[str, ...]:
    return tuple(text.split()) or ("",)  # nothing at all is a URL that cannot be read


# Seconds, least and most. The protocol has two bytes for a heartbeat; the rest is what a timer can be set to.
RANGES: Mapping[str, tuple[float, float]] = {
    "heartbeat": (0, 65_535),
    "timeout": (0.001, 1_000_000),
    "answer_timeout": (0.001, 1_000_000),
    "blocked_timeout": (0.001, 1_000_000),
    "max_backoff": (0.001, 1_000_000),
}
VARIABLES: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "RABBITMQ_URL": ("urls", _urls),
    "RABBITMQ_HEARTBEAT": ("heartbeat", int),
    "RABBITMQ_TIMEOUT": ("timeout", float),
    "RABBITMQ_ANSWER_TIMEOUT": ("answer_timeout", float),
    "RABBITMQ_BLOCKED_TIMEOUT": ("blocked_timeout", float),
    "RABBITMQ_MAX_BACKOFF": ("max_backoff", float),
    "RABBITMQ_CA": ("ca", str),
    "RABBITMQ_CERTIFICATE": ("certificate", str),
    "RABBITMQ_KEY": ("key", str),
    "RABBITMQ_SERVER_NAME": ("server_name", str),
}


def _parse(url: str) -> pika.URLParameters:
    try:
        if url.partition("://")[0].lower() in ("amqp", "amqps"):
            return pika.URLParameters(url)
    except (ValueError, TypeError):
        pass  # a slash in a password makes the rest of it a port, and that error quotes it: so nothing of it is told
    raise InvalidUrl(
        "a broker's URL reads amqp://user:password@host:port/vhost, or amqps://…; within user, password and vhost "
        "a / is written %2F, a : %3A, an @ %40, a blank %20"
    )

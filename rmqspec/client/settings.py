"""How to reach a broker: addresses, TLS, heartbeat and timeouts, from options, from the environment, or from the URL.

Source: https://www.rabbitmq.com/docs/uri-spec, https://www.rabbitmq.com/docs/ssl
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pika

from rmqspec.client.errors import InvalidSetting
from rmqspec.client.url import read_url

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True)
class Settings:
    """Where to connect, and how. ``repr`` leaves the URLs out: they hold passwords.

    What a URL says behind its question mark counts where a setting is not given. ``?heartbeat=5``,
    ``?blocked_connection_timeout=30``, ``?socket_timeout=3&stack_timeout=9`` and ``?ssl_options={'cafile': …}`` are
    settings; the rest of pika's parameters, such as ``frame_max``, can be given in the URL alone.

    Raises:
        InvalidSetting: A value is not a number or is out of range, there is no URL, or a key has no certificate.

    Attributes:
        urls: Addresses of one cluster, tried in turn; ``amqps`` for TLS.
        heartbeat: Seconds after which a silent peer is given up; 0 for never. By default as in the URL, else 60.
        timeout: Seconds to wait for the socket, and again for the handshake. By default as in the URL, else 10.
        answer_timeout: Seconds that the broker has to answer a method, or to confirm a message while it blocks nobody;
            None waits for ever.
        blocked_timeout: Seconds after which a connection that the broker blocks is given up. By default as in the URL,
            else when the alarm ends. See https://www.rabbitmq.com/docs/connection-blocked.
        max_backoff: Seconds at most between two attempts to connect again. The pauses grow up to it, and are random.
        ca: A file with the authorities that the broker's certificate is checked against; by default as in the URL, else
            the system's.
        certificate: A file with the client's certificate, where the broker asks for one.
        key: A file with its private key.
        server_name: The name that the broker's certificate must carry; by default the host's.
        label: Stands before the name of each connection: which program it is, or which test.
        refusal_is_final: Whether a login, a vhost or a certificate that is refused when a lost connection is opened
            again ends the client. By default it goes on trying: a password is being changed, a limit is reached for a
            while. At the first connection a refusal is final.
    """

    urls: tuple[str, ...] = field(default=("amqp://guest:guest@127.0.0.1:5672/%2F",), repr=False)
    heartbeat: int | None = None
    timeout: float | None = None
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
        urls: object = self.urls
        if isinstance(urls, str) or not urls:  # of a text each letter would be a URL
            raise InvalidSetting("urls is no tuple of URLs, or an empty one: Settings.of(…) makes settings of a text")
        for name, (least, most) in RANGES.items():
            seconds = getattr(self, name)
            if seconds is None and name not in OBLIGATORY:
                continue
            if name == "heartbeat" and not isinstance(seconds, int):
                raise InvalidSetting(f"heartbeat is {seconds!r}: a whole number of seconds is wanted")
            if not isinstance(seconds, (int, float)) or not least <= seconds <= most:
                raise InvalidSetting(f"{name} is {seconds!r}: seconds from {least} to {most} are wanted")
        if self.key and not self.certificate:
            raise InvalidSetting(f"the key {self.key} has no certificate: name that too (RABBITMQ_CERTIFICATE)")

    @classmethod
    def of(cls, source: str | Settings) -> Settings:
        """Settings of a URL, or of several separated by spaces; settings stay as they are."""
        return source if isinstance(source, Settings) else cls(urls=_urls(source))

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Reads ``RABBITMQ_URL`` and, for each other setting, the variable of its name: ``RABBITMQ_HEARTBEAT``.

        Raises:
            InvalidSetting: A value is not a number, or is out of range.
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
        every = [read_url(url) for url in self.urls]  # the second is not found wrong on the day when the first is down
        parameters, given = every[attempt % len(every)]
        properties = given.get("client_properties", {})
        name = f"{self.label or properties.get('connection_name', '')} {name}".strip()
        # Of a name from the command line, bytes that are not UTF-8 come as halves of surrogate pairs.
        name = name.encode(errors="backslashreplace").decode()
        parameters.client_properties = {**properties, "connection_name": name}
        parameters.heartbeat = _first(self.heartbeat, given.get("heartbeat"), HEARTBEAT)
        parameters.socket_timeout = _first(self.timeout, given.get("socket_timeout"), TIMEOUT)
        parameters.stack_timeout = _first(self.timeout, given.get("stack_timeout"), parameters.socket_timeout)
        parameters.blocked_connection_timeout = _first(self.blocked_timeout, given.get("blocked_connection_timeout"))
        if parameters.ssl_options is not None:
            options = given.get("ssl_options", {})
            name = self.server_name or options.get("server_hostname") or parameters.host
            parameters.ssl_options = pika.SSLOptions(self._tls(options), name)
        return parameters

    def _tls(self, options: Mapping[str, str]) -> ssl.SSLContext:
        """A context of the settings, and of a URL's options where there are none."""
        ca = {"cafile": self.ca} if self.ca else _authorities(options)
        certificate, key, password = self.certificate, self.key, ""
        if certificate is None:
            certificate, key, password = (options.get(name, "") for name in ("certfile", "keyfile", "password"))
        try:
            context = ssl.create_default_context(**ca)
            if certificate:
                # Without a password OpenSSL would ask for one at the terminal.
                context.load_cert_chain(certificate, key or None, password=password)
        except (OSError, ssl.SSLError, ValueError) as error:
            files = ", ".join(filter(None, (ca.get("cafile"), ca.get("capath"), certificate, key)))
            raise InvalidSetting(f"a certificate or key cannot be read ({error}): check {files}") from error
        try:
            if "ciphers" in options:
                context.set_ciphers(options["ciphers"])
        except ssl.SSLError as error:
            raise InvalidSetting("the ciphers in the URL's ssl_options are none that OpenSSL knows") from error
        return context


def _authorities(options: Mapping[str, str]) -> dict[str, str | None]:
    """What a context is made of, under either of the names that pika has for it."""
    names = {"cafile": "ca_certs", "capath": "ca_path", "cadata": "ca_data"}
    return {name: options.get(other) or options.get(name) for name, other in names.items()}


def _first(*choices: Any) -> Any:
    """The first that was given."""
    return next((choice for choice in choices if choice is not None), None)


def _urls(text: str) -> tuple[str, ...]:
    return tuple(text.split()) or ("",)  # nothing at all is a URL that cannot be read


HEARTBEAT, TIMEOUT = 60, 10.0  # seconds
OBLIGATORY = {"max_backoff"}  # the others may be None
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

"""What a broker's URL says: where it is, who logs in, which vhost, and parameters behind a question mark.

No error quotes the URL: a sign in a password that is not quoted makes the rest of it a port, a path or a parameter.

Source: https://www.rabbitmq.com/docs/uri-spec; for the parameters,
https://pika.readthedocs.io/en/stable/modules/parameters.html#urlparameters
"""

from __future__ import annotations

import ast
import socket
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pika
from pika import tcp_socket_opts

from rmqspec.client.bounds import LONGEST_NAME
from rmqspec.client.errors import InvalidUrl
from rmqspec.client.tables import write_table

__all__ = ["OF_TLS", "read_url"]

FORM = (
    "a broker's URL reads amqp://user:password@host:port/vhost, or amqps://…, and in this one {part}; "
    "within user, password and vhost a / is written %2F, a : %3A, an @ %40, a blank %20"
)
BEHIND = "an @ stands behind a /, a ? or a #, which the user or the password has unquoted"
HASH = "a # stands in the broker's URL: within user, password and vhost it is written %23"
LONG = "the vhost in the broker's URL has more than 255 bytes, which no vhost has"
NOT_UTF_8 = "the broker's URL has bytes in it that are not UTF-8: such a byte is written %FF, as two digits of base 16"
SLASH = "the vhost in the broker's URL has a / in it: there it is written %2F, so that of the vhost / ends in /%2F"
OF_TCP = ("TCP_USER_TIMEOUT", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")  # those that pika knows
OF_TLS = (
    "ca_certs", "cafile", "ca_path", "capath", "ca_data", "cadata", "certfile", "keyfile", "password", "ciphers",
    "server_hostname",
)  # fmt: skip


def read_url(url: str) -> tuple[pika.URLParameters, Mapping[str, Any]]:
    """Pika's parameters by a URL, and those that stand in it; ``ssl_options`` are left to whoever makes the context.

    Raises:
        InvalidUrl: It cannot be read, or has a parameter that is not known, or one that cannot be used.
    """
    try:
        url.encode()
    except UnicodeEncodeError:
        raise InvalidUrl(NOT_UTF_8) from None
    address, _, query = url.partition("?")
    parameters = _address(address)
    # An @ that is not before the host stands behind a ?, a / or a # within the password.
    if parameters is None or ("@" in url and "@" not in urlsplit(address).netloc):
        raise InvalidUrl(FORM.format(part=_wrong_part(address, url)))
    if urlsplit(address).fragment:
        raise InvalidUrl(HASH)  # else a vhost would be taken for one with a shorter name
    if len(parameters.virtual_host.encode()) > LONGEST_NAME:
        raise InvalidUrl(LONG)
    vhost, slash, rest = urlsplit(address).path.removeprefix("/").partition("/")
    if rest.strip("/") or (slash and not vhost):
        raise InvalidUrl(SLASH)
    given = {name: _value(name, values, query) for name, values in parse_qs(query, keep_blank_values=True).items()}
    for name in given.keys() - {"ssl_options"}:
        setattr(parameters, name, given[name])
    if "ssl_options" in given and parameters.ssl_options is None:
        raise InvalidUrl("the broker's URL has ssl_options, and no TLS: let it begin with amqps://")
    return parameters, given


def _address(address: str) -> pika.URLParameters | None:
    try:
        return pika.URLParameters(address) if address.partition("://")[0].lower() in ("amqp", "amqps") else None
    except (ValueError, TypeError):  # which quote it
        return None


def _wrong_part(address: str, url: str) -> str:
    """Which part cannot be read. Nothing of it is quoted: it may be a piece of the password."""
    scheme, mark, _ = address.partition("://")
    if not mark:
        return "there is no scheme: it begins with amqp://"
    if scheme.lower() not in ("amqp", "amqps"):
        return "the scheme is neither amqp nor amqps"
    try:
        parts = urlsplit(address)
        if "@" in url and "@" not in parts.netloc:
            return BEHIND
        try:
            _ = parts.port
        except ValueError:
            return "the port is no number from 0 to 65535"
    except ValueError:
        return "the host in brackets is no IPv6 address"
    return "there is a user without a password" if parts.password is None and parts.username else "a part is missing"


def _value(name: str, values: list[str], query: str) -> Any:
    if name not in PARAMETERS:
        # That of a URL whose password has a ? or an & is a part of it, and is not told.
        raise InvalidUrl(FORM.format(part=BEHIND) if "@" in query else f"{name!r} {UNKNOWN}")
    if len(values) > 1:
        raise InvalidUrl(f"the broker's URL has {name} {len(values)} times: once is wanted")
    read, wanted = PARAMETERS[name]
    try:
        value = read(values[0])
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        value = None
    if value is None:
        raise InvalidUrl(f"{name} in the broker's URL cannot be used: {wanted} is wanted")
    return value


def _number(kind: Callable[[str], float], least: float, most: float) -> tuple[Callable[[str], float | None], str]:
    def read(text: str) -> float | None:
        number = kind(text)
        return number if least <= number <= most else None

    return read, f"a number from {least:g} to {most:.0f}"


def _dict(text: str) -> dict[str, Any] | None:
    value = ast.literal_eval(text)
    return value if isinstance(value, dict) else None


def _properties(text: str) -> dict[str, Any] | None:
    value = _dict(text)
    write_table(value or {})  # Unrepresentable is a ValueError
    return value


def _tcp(text: str) -> dict[str, int] | None:
    options = _dict(text)
    if options is None or any(name not in OF_TCP or not isinstance(options[name], int) for name in options):
        return None
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tried:
            tcp_socket_opts.set_sock_opts(options, tried)
    except (OSError, OverflowError):  # the system takes no such value
        return None
    return options


def _tls(text: str) -> dict[str, Any] | None:
    options = _dict(text)
    if options is None or any(name not in OF_TLS or not isinstance(options[name], str) for name in options):
        return None
    return options


DICT = "a dict as Python writes it"
PARAMETERS: Mapping[str, tuple[Callable[[str], Any], str]] = {
    "blocked_connection_timeout": _number(float, 0.001, 1_000_000),
    "channel_max": _number(int, 1, 65_535),
    "client_properties": (_properties, DICT),
    "connection_attempts": _number(int, 1, 1_000_000),
    "frame_max": _number(int, 4_096, 131_072),
    "heartbeat": _number(int, 0, 65_535),
    "locale": (lambda text: text if 0 < len(text.encode()) <= LONGEST_NAME else None, "a language such as en_US"),
    "retry_delay": _number(float, 0, 1_000_000),
    "socket_timeout": _number(float, 0.001, 1_000_000),
    "ssl_options": (_tls, f"{DICT}, with texts under some of {', '.join(OF_TLS)},"),
    "stack_timeout": _number(float, 0.001, 1_000_000),
    "tcp_options": (_tcp, f"{DICT}, with whole numbers that the system takes under some of {', '.join(OF_TCP)},"),
}
UNKNOWN = f"in the broker's URL is no parameter that is known: those are {', '.join(PARAMETERS)}"

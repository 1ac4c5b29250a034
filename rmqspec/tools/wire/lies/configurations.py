"""Lies about how a broker is configured: what cannot be falsified on the way, as what is said over TLS.

Source: https://www.rabbitmq.com/docs/ssl, https://www.rabbitmq.com/docs/configure
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

from rmqspec.tools.broker.configuration import Configuration
from rmqspec.tools.wire.lies.lie import Lie

__all__ = ["CONFIGURATIONS"]


@dataclass(frozen=True)
class _WithoutTls(Configuration):
    """At the port for TLS plain AMQP is spoken."""

    def text(self, directory: str, listener: str) -> str:
        return super().text(directory, listener).replace("listeners.ssl.default", "listeners.tcp.other")


def _plain(configuration: Configuration) -> Configuration:
    if not configuration.tls:
        return configuration
    return _WithoutTls(**{field.name: getattr(configuration, field.name) for field in fields(configuration)})


def _option(name: str, value: str) -> Callable[[Configuration], Configuration]:
    """A line with another value; a broker without such a line stays as it is."""

    def configure(configuration: Configuration) -> Configuration:
        lines = (f"{name} = {value}" if line.startswith(f"{name} ") else line for line in configuration.lines)
        return replace(configuration, lines=tuple(lines))

    return configure


def _unknown_authority(configuration: Configuration) -> Configuration:
    if not configuration.tls:
        return configuration
    import trustme  # only who tells lies needs it

    stranger = trustme.CA().issue_cert("localhost", "127.0.0.1", "::1")
    files = {"server.pem": stranger.cert_chain_pems[0].bytes(), "server.key": stranger.private_key_pem.bytes()}
    return replace(configuration, files={**configuration.files, **files})


CONFIGURATIONS = (
    Lie.of_configuration("tls-plain", "At the port for TLS everybody can listen.", _plain),
    Lie.of_configuration("certificate-optional", "Clients that show no certificate get in.",
                         _option("ssl_options.fail_if_no_peer_cert", "false")),
    Lie.of_configuration("certificate-not-checked", "Clients get in with any certificate, or with none.",
                         lambda its: _option("ssl_options.verify", "verify_none")(
                             _option("ssl_options.fail_if_no_peer_cert", "false")(its))),
    Lie.of_configuration("handshake-timeout-longer", "A client may take ten minutes to open its connection.",
                         _option("handshake_timeout", "600000")),
    Lie.of_configuration("authority-unknown", "A broker shows a certificate that a stranger has signed.",
                         _unknown_authority),
)  # fmt: skip

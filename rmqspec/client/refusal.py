"""Why a connection could not be opened, as one sentence that says what to do.

During the handshake pika hands everything on as text, so it is read from there. No sentence holds a password.

Source: https://www.rabbitmq.com/docs/troubleshooting-ssl, https://www.rabbitmq.com/docs/access-control
"""

from __future__ import annotations

import re
import socket

import pika

from rmqspec.client.errors import ClientError, LoginRefused, TlsRefused, Unreachable, VhostRefused

__all__ = ["refusal"]


def refusal(parameters: pika.URLParameters, error: BaseException) -> ClientError:
    """What one of pika's exceptions means for whoever wanted to connect.

    Args:
        parameters: Where to.
        error: What pika raised.
    """
    where = f"{parameters.host}:{parameters.port}"
    words = repr(error) + str(error)
    user, vhost = getattr(parameters.credentials, "username", ""), parameters.virtual_host
    said = re.search(r"\((\d{3})\) ['\"](.*?)['\"]\"?,?\)", words)
    code, text = (int(said[1]), said[2]) if said else (0, "")
    if code == 403 or "AuthenticationError" in words:
        return LoginRefused(f"the broker at {where} refused the login of {user!r}: check user and password", code, text)
    if "not found" in text:
        return VhostRefused(f"the broker at {where} has no vhost {vhost!r}: create it", code, text)
    if code == 530 or "AccessDenied" in words:
        why = f"the broker at {where} does not let {user!r} into the vhost {vhost!r} ({text or 'it hung up'})"
        return VhostRefused(f"{why}: give permissions, or raise the limit", code, text)
    if parameters.ssl_options is not None and (tls := _tls_refusal(where, words + _last_words(parameters, words))):
        return tls
    if "IncompatibleProtocol" in words:
        return Unreachable(
            f"what listens at {where} hung up: if that is its port for TLS, the URL begins with amqps://"
        )
    return Unreachable(f"no broker answers at {where}: start one (rmqspec rabbitup), or correct its address")


def _tls_refusal(where: str, words: str) -> TlsRefused | None:
    """None where the other side was gone, which a broker that restarts is too: that is worth another attempt."""
    if verified := re.search(r"certificate verify failed: (.*?)\.? \(_ssl", words):
        return TlsRefused(
            f"the certificate of the broker at {where} is not trusted ({verified[1]}): check the authority "
            "(RABBITMQ_CA) and the server name (RABBITMQ_SERVER_NAME)"
        )
    if "WRONG_VERSION_NUMBER" in words or "UNKNOWN_PROTOCOL" in words or "RECORD_LAYER_FAILURE" in words:
        return TlsRefused(
            f"what listens at {where} does not speak TLS: the URL begins with amqp://, or the port is wrong"
        )
    if alert := re.search(r"ALERT_(\w+)\]", words):
        why = f"the broker at {where} does not take this client's certificate ({alert[1].replace('_', ' ').lower()})"
        return TlsRefused(f"{why}: check RABBITMQ_CERTIFICATE and RABBITMQ_KEY")
    return None


def _last_words(parameters: pika.URLParameters, words: str) -> str:
    """Why a broker hung up in the middle of TLS.

    With TLS 1.3 the broker looks at the client's certificate when the client already believes to be connected. It
    sends the reason and hangs up; whether pika reads that or first writes into the closed socket is a race. So
    the handshake is repeated by one who only listens.
    """
    options = parameters.ssl_options
    if options is None or ("EOF" not in words and "reset" not in words and "Broken pipe" not in words):
        return ""
    try:
        address, patience = (parameters.host, parameters.port), parameters.socket_timeout
        with (
            socket.create_connection(address, patience) as plain,
            options.context.wrap_socket(plain, server_hostname=options.server_hostname) as link,
        ):
            link.recv(1)
    except OSError as error:
        return repr(error)
    return ""

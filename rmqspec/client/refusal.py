"""Why a connection could not be opened, as one sentence that says what to do.

During the handshake pika hands everything on as text, so it is read from there. No sentence holds a password.

Source: https://www.rabbitmq.com/docs/troubleshooting-ssl, https://www.rabbitmq.com/docs/access-control
"""

from __future__ import annotations

import ast
import re
import socket

import pika

from rmqspec.client.errors import ClientError, LoginRefused, TlsRefused, Unreachable, VhostRefused

__all__ = ["refusal"]

FRAME_MAX_SINCE_4_1 = 8192  # bytes; https://github.com/rabbitmq/rabbitmq-server/releases/tag/v4.1.0

# What is looked for in the words, what it means, and what to do; the first that is found counts. Where the other side
# was merely gone, as a broker that restarts is, the end is Unreachable: that is worth another attempt.
REFUSALS: tuple[tuple[str, type[ClientError], str], ...] = (
    (
        r"\(403\)",
        LoginRefused,
        "the broker at {where} refused the login of {user!r}: check user and password{guest}",
    ),
    (
        r"could not negotiate use of the (\w+)",
        LoginRefused,
        "the broker at {where} takes no login by user and password ({found}): let it, with auth_mechanisms",
    ),
    (
        r"\(530\).* not found",
        VhostRefused,
        "the broker at {where} has no vhost {vhost!r}: create it, or correct its name",
    ),
    (
        r"\(530\).* limit ",
        VhostRefused,
        "the broker at {where} lets no more connections in ({text}): close some, or raise the limit",
    ),
    (
        r"\(530\)",
        VhostRefused,
        "the broker at {where} does not let {user!r} into the vhost {vhost!r} ({text}): give permissions there",
    ),
    (
        r"^amqps? small(?!.*\(\d{3}\)).*ProbableA",
        Unreachable,
        "the broker at {where} hung up when it was asked for frames of {frame_max} bytes: since RabbitMQ 4.1 frame_max "
        "in the URL has to be 8192 or more",
    ),
    (
        r"ProbableA",
        Unreachable,
        "the broker at {where} hung up before the connection was open ({text}): try again, and look into its log",
    ),
    (
        r"certificate verify failed: (.*?)\.? \(_ssl",
        TlsRefused,
        "the certificate of the broker at {where} is not trusted ({found}): check the authority (RABBITMQ_CA or --ca) "
        "and the server name (RABBITMQ_SERVER_NAME or --server-name)",
    ),
    (
        r"WRONG_VERSION_NUMBER|UNKNOWN_PROTOCOL|RECORD_LAYER_FAILURE",
        TlsRefused,
        "what listens at {where} does not speak TLS: the URL begins with amqp://, or the port is wrong",
    ),
    (
        r"ALERT_(\w*CERTIFICATE\w*|UNKNOWN_CA|ACCESS_DENIED|DECRYPT_ERROR)\]",
        TlsRefused,
        "the broker at {where} does not take this client's certificate ({found}): check RABBITMQ_CERTIFICATE and "
        "RABBITMQ_KEY, or --certificate and --key",
    ),
    (
        r"ALERT_(\w+)\]",
        TlsRefused,
        "the broker at {where} ended the TLS handshake ({found}): compare the versions and ciphers of both sides",
    ),
    (
        r"^amqp .*IncompatibleProtocol",
        Unreachable,
        "what listens at {where} hung up before it said anything: a broker that is starting does so (try again), and "
        "so does its port for TLS (let the URL begin with amqps://)",
    ),
    (
        r"StackTimeout",
        Unreachable,
        "what listens at {where} did not answer within {seconds:g} s: it is no broker, or a very busy one",
    ),
    (
        r"",
        Unreachable,
        "no broker answers at {where}: start one (rmqspec rabbitup), or correct its address",
    ),
)


def refusal(parameters: pika.URLParameters, error: BaseException) -> ClientError:
    """What one of pika's exceptions means for whoever wanted to connect.

    Args:
        parameters: Where to.
        error: What pika raised.
    """
    begin = (
        f"amqp{'s' if parameters.ssl_options else ''}{' small' if parameters.frame_max < FRAME_MAX_SINCE_4_1 else ''}"
    )
    words = f"{begin} {error!r} {error} {_last_words(parameters, repr(error))}"
    code, text = _reply(error)
    user = getattr(parameters.credentials, "username", "")
    fields = {
        "where": f"{parameters.host}:{parameters.port}",
        "user": user,
        "guest": " (guest may come from the broker's own machine alone)" if user == "guest" else "",
        "vhost": parameters.virtual_host,
        "seconds": parameters.stack_timeout,
        "frame_max": parameters.frame_max,
        "text": text or "it said nothing",
    }
    found, kind, sentence = next(
        (match, kind, sentence) for pattern, kind, sentence in REFUSALS if (match := re.search(pattern, words, re.S))
    )
    return kind(sentence.format(found=_plain(found), **fields), code, text)


def _reply(error: BaseException) -> tuple[int, str]:
    """The broker's code and words, which pika has put into its own as ``(530) 'NOT_ALLOWED - …'``."""
    said = re.search(r"\((\d{3})\) (['\"].*['\"])$", str(error), re.S)
    return (int(said[1]), ast.literal_eval(said[2])) if said else (0, "")


def _plain(found: re.Match[str]) -> str:
    """What OpenSSL said, without the capitals of its constants."""
    words = found[1] if found.re.groups else ""
    return words.replace("_", " ").lower() if "_" in words and words.isupper() else words


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

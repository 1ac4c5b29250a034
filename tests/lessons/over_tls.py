"""Both ends of a TLS connection, one step at a time: for the specs of TLS."""

import ssl

import pytest

from rmqspec.client import Publisher, connect
from rmqspec.client.errors import ClientError

WAYS = {"connect": lambda source: connect(source, "spec"), "publisher": Publisher}


def try_step(step):
    """What a step of TLS returns, or None while it waits for the other side."""
    try:
        return step() or True
    except ssl.SSLWantReadError:
        return None
    except ssl.SSLError as error:
        pytest.fail(f"there is no TLS here: {error}")


def first_words(link):
    """What the broker sends first: a refused client gets an alert; to others it is silent, as they have to begin."""
    try:
        return str(link.recv(1))
    except TimeoutError:
        return "nothing"
    except ssl.SSLError as error:
        return str(error)


def error_of(way, settings):
    """The error with which our client does not connect in this way; None if it connects."""
    try:
        WAYS[way](settings).close()
    except ClientError as error:
        return error
    return None

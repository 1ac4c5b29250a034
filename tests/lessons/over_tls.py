"""What chapter 30 asks of both ends of TLS, one step at a time."""

import ssl

import pytest

from rmqspec.client import Publisher, connect
from rmqspec.client.errors import ClientError

WAYS = {"connect": lambda source: connect(source, "spec"), "publisher": Publisher}


def attempt(step):
    """What a step of TLS returns, or None while it waits for the other side."""
    try:
        return step() or True
    except ssl.SSLWantReadError:
        return None
    except ssl.SSLError as error:
        pytest.fail(f"there is no TLS here: {error}")


def what_it_hears(link):
    """Who is refused hears an alert, where a guest has to speak first."""
    try:
        return str(link.recv(1))
    except TimeoutError:
        return "nothing"
    except ssl.SSLError as error:
        return str(error)


def refused(way, settings):
    """Why this way does not lead to the broker; None if it does."""
    try:
        WAYS[way](settings).close()
    except ClientError as error:
        return error
    return None

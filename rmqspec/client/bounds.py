"""What a caller gives, looked at before anything is opened for it: an error here names it, one from within does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rmqspec.client.errors import InvalidSetting
from rmqspec.client.tables import Unrepresentable, write_table

__all__ = ["LONGEST", "LONGEST_NAME", "check_arguments", "check_name", "check_number", "check_whole"]

LONGEST = 1_000_000.0  # seconds that a timer can be set to with certainty
LONGEST_NAME = 255  # bytes: whatever the protocol has for a name is one short string


def check_number(name: str, value: object, least: float, most: float = LONGEST) -> None:
    """Raises InvalidSetting for what is no number from ``least`` to ``most``, as NaN is."""
    if not isinstance(value, (int, float)) or not least <= value <= most:
        raise InvalidSetting(f"{name} is {value!r}: a number from {least:g} to {most:g} is wanted")


def check_whole(name: str, value: object, least: int, most: float = float("inf")) -> None:
    """The same, for what is counted."""
    if not isinstance(value, int) or not least <= value <= most:
        raise InvalidSetting(f"{name} is {value!r}: a whole number from {least:g} to {most:g} is wanted")


def check_name(what: str, name: object) -> None:
    """Raises InvalidSetting for what cannot be a name in AMQP."""
    if not isinstance(name, str):
        raise InvalidSetting(f"the name of {what} is {name!r}: a text is wanted")
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        raise InvalidSetting(f"the name of {what} is {name!r}, which has no form in UTF-8") from error
    if size > LONGEST_NAME:
        raise InvalidSetting(f"the name of {what} has {size} bytes in UTF-8: at most {LONGEST_NAME} are possible")


def check_arguments(of: str, arguments: Mapping[str, Any]) -> None:
    """Raises InvalidSetting for arguments that AMQP has no form for."""
    if not isinstance(arguments, Mapping):
        raise InvalidSetting(f"the arguments of {of} are {arguments!r}: a mapping is wanted")
    try:
        write_table(arguments)
    except (Unrepresentable, UnicodeEncodeError) as error:
        raise InvalidSetting(f"the arguments of {of} cannot be sent: {error}") from error

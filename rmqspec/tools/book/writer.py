"""Writing a run record line by line, without what is secret."""

from __future__ import annotations

import json
import re
from os import PathLike
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rmqspec.tools.book.record import Line, NoRecord, read, to_plain

__all__ = ["Writer", "check_place", "without_secrets"]

HIDDEN = "…"
LOGIN = re.compile(r"(?<=://)[^/@\s]+(?=@)")
AT_RUN_TIME = ("reason", "frames")  # all else is the text of the tests, which was there before any password


def check_place(path: str | PathLike[str]) -> None:
    """Whether a record may be written there: nothing else is to be lost.

    Raises:
        NoRecord: The file holds something else, or its directory is not there.
    """
    place = Path(path)
    if not place.parent.is_dir():
        raise NoRecord(f"{path} cannot be written: make the directory {place.parent} first")
    try:
        if place.exists() and (place.is_dir() or place.stat().st_size):
            read(place)
    except NoRecord:
        raise NoRecord(f"{path} is there, and no run record: name another file, or remove it") from None


class Writer:
    """Writes a record; whatever has been given to it is in the file when the call returns.

    Args:
        path: The file. A record that is there is replaced.
        secrets: What is hidden wherever it shows up, beside the logins of URLs.

    Raises:
        NoRecord: The file cannot be written, or holds something else.
    """

    def __init__(self, path: str | PathLike[str], *secrets: str) -> None:
        self.path = Path(path)
        self._secrets = secrets
        check_place(path)
        try:
            self._file = self.path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n")
        except OSError as error:
            raise NoRecord(f"{path} cannot be written ({error.strerror}): name another file") from error

    def write(self, line: Line) -> None:
        """Writes a line."""
        plain = to_plain(line)
        for key in AT_RUN_TIME:
            if key in plain:
                plain[key] = without_secrets(plain[key], *self._secrets)
        self._file.write(f"{json.dumps(plain, ensure_ascii=False)}\n")
        self._file.flush()

    def close(self) -> None:
        """Closes the file. More than once does no harm."""
        self._file.close()


def without_secrets(value: Any, *secrets: str) -> Any:
    """The same with these secrets hidden wherever they show up, and the logins of URLs."""
    if isinstance(value, str):
        for secret in secrets:
            for form in {secret, quote(secret, safe="")} - {""}:
                value = value.replace(form, HIDDEN)
        return LOGIN.sub(HIDDEN, value)
    if isinstance(value, dict):
        return {without_secrets(name, *secrets): without_secrets(inner, *secrets) for name, inner in value.items()}
    return [without_secrets(inner, *secrets) for inner in value] if isinstance(value, (list, tuple)) else value

"""The demo as a book: one picture of the whole order system at work, scene by scene."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import click

from rmqspec import __version__
from rmqspec.cli import terminal
from rmqspec.client import Settings
from rmqspec.tools.book import Chapter, Footer, Header, Record, Spec
from rmqspec.tools.broker import Identity
from rmqspec.tools.broker.endpoint import Endpoint
from rmqspec.tools.wire import Proxy
from rmqspec.tools.wire.recorder import Recorder

__all__ = ["Album"]

CHAPTER = Chapter(
    name="demo",
    path="rmqspec/orders/demo.py",
    number=None,
    part="demo",
    title="The order system at work",
    prose=(
        "A producer publishes orders, workers share them, and each tells everybody what it has done. What fails goes "
        "to `orders.failed`. Each scene shows what went over the wire in it."
    ),
    code=("rmqspec/orders/demo.py", "rmqspec/orders/topology.py"),
)


class Album:
    """Records a run of the demo, a scene at a time.

    Args:
        path: Where the book is written.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._recorder, self._specs = path, Recorder(), list[Spec]()
        self._words, self._begun, self._started = "", time.monotonic(), _now()

    @contextmanager
    def on_the_way(self, settings: Settings) -> Iterator[Settings]:
        """Settings that lead past the recorder.

        Raises:
            UsageError: The connection is one of TLS, or there are several addresses.
        """
        at = Endpoint.parse(settings.urls[0])
        if at.scheme == "amqps" or len(settings.urls) > 1:
            raise click.UsageError("--book reads what goes over the wire: name one address, without TLS")
        with Proxy(at.host, at.port) as proxy:
            proxy.taps = self._recorder.tap
            self._recorder.begin()
            yield replace(settings, urls=(proxy.url(settings.urls[0]),))

    def scene(self, words: str) -> None:
        """Announces a scene, and ends the one before. The first is announced when it is over."""
        terminal.scene(words)
        if not self._specs:
            self._end(words)
            return
        if self._words:
            self._end(self._words)
        self._words = words.removesuffix("; what went where:")

    def write(self, identity: Identity, description: str) -> None:
        """Makes the book of what was recorded.

        Raises:
            ClickException: The file cannot be written.
        """
        # Here, not above: no other command is to wait for Jinja2 and Pygments.
        from rmqspec.tools.book.binder import bind
        from rmqspec.tools.book.render import page

        self._end(self._words)
        book = bind([self._record(identity, description)])
        try:
            self._path.write_text(page(book), encoding="utf-8", errors="backslashreplace", newline="\n")
        except OSError as error:
            raise click.ClickException(
                f"{self._path} cannot be written ({error.strerror}): name another file"
            ) from error
        terminal.console.print(f"the book of this run: {self._path}")

    def _end(self, words: str) -> None:
        heard, left_out = self._recorder.recording()
        events = [replace(event, connection=event.connection.removeprefix("demo ")) for event in heard]
        self._recorder.begin()
        number = len(self._specs) + 1
        self._specs.append(
            Spec(
                id=f"demo.{number}",
                node="rmqspec demo",
                chapter=CHAPTER.name,
                subject="Scenes",
                sentence=words,
                outcome="passed",
                seconds=events[-1].at if events else 0.0,
                frames=events,
                left_out=left_out,
            )
        )

    def _record(self, identity: Identity, description: str) -> Record:
        header = Header(
            product=identity.product,
            version=identity.version,
            erlang=identity.platform.removeprefix("Erlang/OTP").strip(),
            source="demo",
            description=description.removeprefix(f"{identity}, "),
            clients={"rmqspec": __version__, "pika": version("pika")},
            python=platform.python_version(),
            started=self._started,
        )
        seconds = round(time.monotonic() - self._begun, 3)
        footer = Footer(outcomes={"passed": len(self._specs)}, seconds=seconds, finished=_now())
        return Record(header, (CHAPTER,), tuple(self._specs), footer)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

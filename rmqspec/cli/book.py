"""The command that makes the lesson book."""

from __future__ import annotations

from pathlib import Path

import click

from rmqspec.cli import terminal
from rmqspec.cli.options import FileToWrite
from rmqspec.tools.book import NoRecord, read

__all__ = ["book_command"]


@click.command("book", short_help="Make the lesson book of run records: one HTML file.")
@click.argument("records", nargs=-1, required=True, metavar="RECORD...", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=FileToWrite(), default=Path("book.html"), show_default=True,
    help="The file to write; what is there is replaced.",
)  # fmt: skip
def book_command(records: tuple[Path, ...], output: Path) -> None:
    """Make the lesson book of run records: one HTML file that opens without a server.

    A record is what `pytest --record FILE` left. Of several, each is a column, and what differs is marked.
    """
    if output.resolve() in {path.resolve() for path in records}:
        raise click.ClickException(f"{output} is one of the records, and would be lost: name another file")
    # Here, not above: no other command is to wait for Jinja2 and Pygments.
    from rmqspec.tools.book.binder import bind
    from rmqspec.tools.book.render import page

    try:
        book = bind(read(path) for path in records)
    except NoRecord as error:
        raise click.ClickException(str(error)) from error
    try:
        output.write_text(text := page(book), encoding="utf-8", errors="backslashreplace", newline="\n")
    except OSError as error:
        raise click.ClickException(f"{output} cannot be written ({error.strerror}): name another file") from error
    for run in book.runs:
        if run.record.cut_off:
            terminal.notice(f"the record of {run.label} was cut off; the book says so")
    count = sum(len(sentence.cases) for one in book.pages for sentence in one.sentences)
    size = len(text.encode(errors="backslashreplace")) / 1e6
    terminal.console.print(f"{output}: {book.title}, {len(book.pages)} chapters, {count} specs, {size:.1f} MB")

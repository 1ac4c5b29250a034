"""The command that shows that every spec can fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from operator import attrgetter
from pathlib import Path

import click
from rich.table import Table

from rmqspec.cli import terminal
from rmqspec.cli.settings import broker_option, image_option
from rmqspec.tools.book.matrix import Matrix, excuses
from rmqspec.tools.wire.lies import LIES

__all__ = ["lies_command"]

LESSONS = Path("tests/lessons")
KEPT = Path("tests/lies")
# An alarm in the middle of pytest's own work would end the run. In the order of the files: a module is set up once.
# What a lie leaves behind, such as a socket that nobody closed, is not the next spec's.
PATIENT = ["--timeout=20", "-o", "timeout_func_only=true", "-p", "no:randomly", "-p", "no:unraisableexception"]


@click.command("lies")
@click.argument("paths", nargs=-1, metavar="[PATH]...", type=click.Path(exists=True, path_type=Path))
@click.option("--list", "only_list", is_flag=True, help="Show the lies, and tell none.")
@click.option(
    "--sample",
    type=click.IntRange(1),
    help="So many kept pairs, of chapters that restart no broker; each must be noticed again.",
)
@click.option("--again", is_flag=True, help="All pairs of the kept matrix; each must be noticed again.")
@click.option("--new", is_flag=True, help="Only specs of which nothing is kept yet, of any version.")
@click.option("--seed", type=int, default=0, show_default=True, help="Decides which pairs.")
@click.option("--workers", type=click.IntRange(1), default=4, show_default=True, help="How many tests run at once.")
@click.option(
    "--keep",
    is_flag=True,
    help=f"Keep the matrix in {KEPT}: other specs stay as they are, and what was noticed only once is set aside.",
)
@broker_option
@image_option
def lies_command(
    paths: tuple[Path, ...],
    only_list: bool,
    sample: int | None,
    again: bool,
    new: bool,
    seed: int,
    workers: int,
    keep: bool,
    source: str,
    image: str,
) -> None:
    """Let the broker lie, one broken promise at a time: every lesson must notice.

    A proxy falsifies what client and broker say to each other. First all specs run on the truth, to see which lies
    would touch which of them; then each runs once for each of these. Exit code 1 if a lie is noticed by no spec of the
    chapter whose promise it breaks, or if there is a spec that no lie turns red: it asserts nothing.
    """
    if only_list:
        terminal.console.print(_listed())
        return
    places = [str(path) for path in paths or (LESSONS,)]
    if not all(Path(place).exists() for place in places):
        raise click.ClickException(f"there is no {LESSONS} here: run it where the project's tests are")
    runner = _Runner(["--rabbitmq-broker", source, "--rabbitmq-image", image, "-n", str(workers), *places])
    if sample or again:
        matrix = runner.run("--tell-lies", str(KEPT), *(["--lies-sample", f"{sample}:{seed}"] if sample else []))
        complaints = [f"{one.spec} does not notice {one.lie!r} any more" for one in matrix.missed()]
    else:
        matrix = runner.run("--tell-lies", str(runner.note(_kept_specs() if new else set())))
        complaints = _complaints(matrix)
        terminal.console.print(_counted(matrix))
    if keep:
        terminal.console.print(f"kept in {_keep(matrix, whole=not (sample or again))}")
    specs, pairs = len({one.spec for one in matrix.endings}), len(matrix.endings)
    noticed = pairs - len(matrix.missed())
    terminal.console.print(
        f"{matrix.broker}: {len(matrix.counts())} lies told to {specs} specs, {pairs} pairs, {noticed} noticed"
    )
    for complaint in complaints:
        terminal.notice(complaint)
    sys.exit(1 if complaints else 0)


class _Runner:
    """Runs pytest in a process of its own; what it leaves is read from a file."""

    def __init__(self, arguments: list[str]) -> None:
        self._arguments = arguments
        self._place = tempfile.TemporaryDirectory(prefix="rmqspec-lies-")  # gone with this process
        self._folder = Path(self._place.name)

    def note(self, known: set[str]) -> Path:
        """Which lies each spec would be told, but for those that are known."""
        path = self._folder / "would.json"
        self._pytest("--note-lies", str(path))
        would = json.loads(path.read_text("utf-8"))
        would["specs"] = {spec: lies for spec, lies in would["specs"].items() if spec not in known}
        path.write_text(json.dumps(would), "utf-8")
        return path

    def run(self, *options: str) -> Matrix:
        """Tells lies."""
        path = self._folder / "ended.json"
        self._pytest(*options, "--lies-result", str(path))
        return Matrix.read(path)

    def _pytest(self, *options: str) -> None:
        command = [sys.executable, "-m", "pytest", "-q", "--dist=loadgroup", "--tb=native", *PATIENT]
        code = subprocess.run([*command, *options, *self._arguments], env=os.environ, check=False).returncode  # noqa: S603
        if code:
            raise click.ClickException("pytest has not come to its end: see above")


def _complaints(matrix: Matrix) -> list[str]:
    excused = excuses(KEPT / "excused.json")
    return [
        *(f"nobody notices {lie!r}: {LIES[lie].sentence}" for lie in matrix.unnoticed_lies()),
        *(
            f"no spec of chapter {LIES[lie].chapter} notices {lie!r}: {LIES[lie].sentence}"
            for lie in matrix.unnoticed_at_home({lie.name: lie.chapter for lie in LIES.values()})
        ),
        *(f"no lie turns it red: {spec}" for spec in matrix.unmoved_specs(excused)),
        *(f"too late: {one.spec} with {one.lie!r}, {one.kind} after {one.seconds:g} s" for one in matrix.late()),
    ]


def _kept_specs() -> set[str]:
    return {spec for path in KEPT.glob("[0-9]*.json") for spec in json.loads(path.read_text("utf-8"))["specs"]}


def _keep(matrix: Matrix, *, whole: bool) -> Path:
    KEPT.mkdir(exist_ok=True)
    release = matrix.broker.split()[1].split(".")
    path = KEPT / f"{release[0]}.{release[1]}.json"
    before = json.loads(path.read_text("utf-8"))["specs"] if path.exists() else {}
    path.write_text(json.dumps(matrix.kept(before, whole=whole), indent=1) + "\n", "utf-8")
    return path


def _listed() -> Table:
    table = Table("chapter", "lie", "what a broker does that tells it", title=f"{len(LIES)} lies")
    for lie in sorted(LIES.values(), key=attrgetter("chapter")):
        table.add_row(str(lie.chapter), lie.name, lie.sentence)
    return table


def _counted(matrix: Matrix) -> Table:
    table = Table("chapter", "lie", "what the broker did", "specs", "noticed", "by its assertion", "unanswered")
    for lie, kinds in matrix.counts().items():
        told = sum(kinds.values())
        table.add_row(
            str(LIES[lie].chapter),
            lie,
            LIES[lie].sentence,
            str(told),
            str(told - kinds["unnoticed"]),
            str(kinds["assertion"]),
            str(kinds["unanswered"]),
        )
    return table

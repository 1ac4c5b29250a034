"""`rmqspec nemesis`: its verdict, its exit codes, and what it refuses.

Code: rmqspec/cli/nemesis.py
"""

import dataclasses
from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from rmqspec.cli.main import cli
from rmqspec.cli.nemesis import MEANINGS, WITHOUT_CONFIRMS, _print_account
from rmqspec.tools.nemesis.account import Account

from .nemesis_runs import disposable_broker, replace_participant

__all__ = ["disposable_broker", "replace_participant"]


class Service(NamedTuple):
    """A service of two functions."""

    run: Callable[[], None]
    stop: Callable[[], None]


@pytest.fixture
def command(disposable_broker, monkeypatch):
    """Runs `rmqspec nemesis` with the broker that is here, and leaves that running."""
    monkeypatch.setattr(import_module("rmqspec.cli.nemesis"), "find", lambda *_: disposable_broker)
    monkeypatch.setattr(disposable_broker, "close", lambda: None)
    return lambda *arguments: CliRunner().invoke(cli, ["nemesis", *arguments])


class TestCommand:
    """`rmqspec nemesis`."""

    def test_ends_with_its_verdict_and_exit_code_0(self, command):
        """A script looks at the code, a person at the last line."""
        answer = command("--seconds", "1", "--participants", "producer,consumer", "--work", "0", "--faults", "cut")

        assert answer.exit_code == 0
        last = answer.output.splitlines()[-1]
        assert last.startswith("nemesis held: ")
        assert "lost 0, unexpected 0, stalled 0; everybody moved again within" in last

    def test_ends_with_what_is_broken_and_exit_code_1(self, command, replace_participant):
        """Who, since when, after which fault, and what: enough to look for it."""
        replace_participant("consumer", lambda *_: Service(run=lambda: None, stop=lambda: None))

        answer = command("--seconds", "1", "--participants", "consumer", "--faults", "cut")

        assert answer.exit_code == 1
        last = answer.output.splitlines()[-1]
        assert last.startswith("nemesis FAILED: ")
        assert "stalled 0, ended 3; first: consumer-" in last
        assert "after no fault: run() returned" in last

    def test_calls_nothing_confirmed_where_nobody_was_asked(self, command, monkeypatch):
        """With --no-confirms an order that is written may be lost, and no promise is broken."""
        kind = import_module("rmqspec.tools.nemesis.run").Result
        monkeypatch.setattr(kind, "verdict", "FAILED: 3 confirmed orders did not arrive")

        answer = command(
            "--seconds", "1", "--bound", "1", "--no-confirms", "--participants", "consumer", "--faults", "cut"
        )

        assert answer.output.splitlines()[-1] == "nemesis FAILED: 3 written orders did not arrive"

    def test_names_the_faults_that_there_are(self):
        """A typing error must not be a run without faults."""
        answer = CliRunner().invoke(cli, ["nemesis", "--faults", "kill,cutt"])

        assert answer.exit_code == 2
        assert (
            "there is no fault 'cutt'; there are kill, restart, cut, flicker, close, half-open, delay, refuse, block"
            in answer.output
        )

    def test_refuses_a_run_without_faults(self):
        """It would hold, and prove nothing."""
        answer = CliRunner().invoke(cli, ["nemesis", "--faults", ""])

        assert answer.exit_code == 2
        assert "a run without faults proves nothing: name some of kill, restart, cut" in answer.output

    @pytest.mark.parametrize(
        ("participants", "words"),
        [
            ("consumer,produzer", "there is no participant 'produzer'; there are producer, consumer"),
            ("consumer=many", "'many' is no number of participants from 1 to 100: write consumer=2"),
            ("consumer=0", "'0' is no number of participants from 1 to 100: write consumer=2"),
            ("", "a run without participants proves nothing: name some of producer, consumer"),
        ],
        ids=["unknown", "no_number", "none", "empty"],
    )
    def test_names_the_participants_that_there_are(self, participants, words):
        """A run of others than were meant would prove something else."""
        answer = CliRunner().invoke(cli, ["nemesis", "--participants", participants])

        assert answer.exit_code == 2
        assert words in answer.output

    def test_kills_no_broker_of_somebody_else(self, run):
        """A URL may be that of a broker that people need."""
        command = run("nemesis", "--rabbitmq-broker", "url")

        assert command.ends() == 1
        assert "nemesis kills its broker, so it takes none by its URL" in command.output


class TestAccountWithoutConfirms:
    """What `nemesis --no-confirms` prints."""

    def test_confirms_nothing(self, capsys):
        """The broker was not asked; "confirmed and lost" would accuse it of what it never promised."""
        numbers = dict.fromkeys((field.name for field in dataclasses.fields(Account)), 3)

        _print_account(Account(**numbers), WITHOUT_CONFIRMS)
        without = capsys.readouterr().out
        _print_account(Account(**numbers), MEANINGS)
        asked = capsys.readouterr().out

        assert "confirm" not in without
        assert "written, and never arrived: must be 0" in without
        assert "confirmed, and never arrived: must be 0" in asked

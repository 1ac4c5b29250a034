"""`rmqspec upgrade --definitions FILE`: whom an upgrade concerns, by an export.

Code: rmqspec/tools/upgrade/definitions.py, recognisers.py, used.py
"""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from rmqspec.cli.main import cli
from rmqspec.tools.upgrade.recognisers import RECOGNISERS

from .upgrade_exports import (
    CONCERNED,
    ELSEWHERE,
    HASH,
    SECRET_URI,
    clean,
    everything,
    export,
    of_the_readme,
    policy,
    queue,
)

README = (Path(__file__).parents[2] / "README.md").read_text()

IN_AN_EXPORT = {"queues", "exchanges", "bindings", "policies", "operator_policies", "users", "topic_permissions"}
ALL = {**{name: (*case, ("3.10", "4.3")) for name, case in CONCERNED.items()}, **ELSEWHERE}

each = pytest.mark.parametrize("name", ALL)


@pytest.fixture
def ask(tmp_path):
    """Asks with an export: `ask(parts, "--json", old="3.13", new="4.3")`; the outcome."""

    def ask(definitions, *options, old="3.13", new="4.3"):
        file = tmp_path / "rabbit.json"
        file.write_text(json.dumps(definitions))
        return CliRunner().invoke(cli, ["upgrade", old, new, "--definitions", str(file), *options])

    return ask


def found(ended):
    """The findings of an answer in JSON: {id: names}."""
    return {row["id"]: row["concerned"] for row in json.loads(ended.output)["rows"]}


class TestRecogniser:
    """What an export shows, one by one."""

    @each
    def test_finds_what_is_concerned_and_names_it(self, name, ask):
        """Somebody has to go and change that queue."""
        concerned, shown, _, (old, new) = ALL[name]

        names = found(ask(export(**concerned), "--json", old=old, new=new))[name]

        assert any(shown in one for one in names), names

    @each
    def test_passes_over_its_neighbour(self, name, ask):
        """A report that names what nobody has to change is not read twice."""
        _, _, neighbour, (old, new) = ALL[name]

        assert name not in found(ask(export(**neighbour), "--json", old=old, new=new))

    def test_is_tried_here_if_it_reads_exports(self):
        """A recogniser without a case may find nothing at all, for ever."""
        in_exports = {one.id for one in RECOGNISERS if one.reads <= IN_AN_EXPORT}

        assert in_exports - ALL.keys() == set(), "add a case to upgrade_exports.py"


class TestCleanExport:
    """An export of somebody whom the upgrade does not concern."""

    def test_has_no_finding_and_exit_code_0(self, ask):
        """Only what is found may stop a pipeline."""
        ended = ask(clean())

        assert ended.exit_code == 0, ended.output
        assert "\nNothing was found in what was read.\n" in ended.output
        assert "BREAKS" not in ended.output

    def test_is_held_against_the_release_that_was_named(self, ask):
        """The export of another cluster, or a slip of the keyboard, would be found clean of the wrong differences."""
        output = " ".join(ask(clean(), old="4.1").output.split())

        assert "rabbit.json, of RabbitMQ 3.13.7, and not of 4.1: name the release that you leave" in output
        assert "of RabbitMQ 3.13.7, and not of" not in ask(clean()).output

    def test_is_told_what_was_not_read(self, ask):
        """An export knows nothing of clients; nothing found is not nothing there."""
        end = ask(clean()).output.partition("Nothing was found")[2]

        assert "--url http://" in end
        assert "B02: Channels with a global prefetch count." in end
        assert "B05: basic.nack with requeue=true" in end
        assert "--definitions" not in end
        assert "no exclusive queues, not what clients declare later" in end

    def test_is_found_clean_as_the_export_of_one_vhost_too(self, ask):
        """Its rows do not repeat the vhost, and it has no users."""
        one = {key: [{**row} for row in rows] for key, rows in clean().items() if isinstance(rows, list)}
        for rows in one.values():
            for row in rows:
                row.pop("vhost", None)
        kept = {key: one[key] for key in ("parameters", "policies", "queues", "exchanges", "bindings")}

        ended = ask({"rabbitmq_definition_format": "single_virtual_host", "original_vhost_name": "shop", **kept})

        assert ended.exit_code == 0, ended.output
        end = ended.output.partition("Nothing was found")[2]
        assert "This export does not hold it; that of a whole broker does" in end, "the users were not read"
        assert "\n  B20: A user named guest; its password cannot be seen.\n" in end
        assert "--definitions" not in end


class TestExportOfOneVhost:
    """`GET /api/definitions/VHOST`."""

    @pytest.mark.parametrize("whose", ["before 4.0", "since 4.0"])
    def test_has_its_policies_applied_to_its_queues(self, ask, whose):
        """Before 4.0 policies name the vhost and queues do not; a queue with a limit would pass for one without."""
        parts = {
            "queues": [queue("limited", "quorum"), queue("by-operator", "quorum"), queue("unlimited", "quorum")],
            "policies": [policy("limits", "^limited$", delivery_limit=5)],
            "parameters": [
                {
                    "component": "operator_policy", "vhost": "/", "name": "operator",
                    "value": policy("", "^by-operator$", delivery_limit=7),
                }
            ],
            "exchanges": [], "bindings": [],
        }  # fmt: skip
        for part in ("queues",) if whose == "before 4.0" else parts:
            for row in parts[part]:
                row.pop("vhost")
        if whose == "since 4.0":
            parts |= {"rabbitmq_definition_format": "single_virtual_host", "original_vhost_name": "/"}

        assert found(ask(parts, "--json"))["B04"] == ["queue 'unlimited' in vhost '/'"]


class TestDefaultQueueType:
    """A vhost with a default queue type, in an export."""

    @pytest.mark.parametrize(
        "vhost",
        [
            {"name": "/", "default_queue_type": "quorum"},
            {"name": "/", "metadata": {"default_queue_type": "rabbit_quorum_queue"}},
        ],
        ids=["of the vhost", "in its metadata"],
    )
    def test_is_the_type_of_a_queue_without_one(self, ask, vhost):
        """So the new broker makes it of this export: a quorum queue, whose messages are deleted after 20 failures."""
        bare = [{**queue("bare"), "arguments": {}}, queue("classic")]
        others = [
            {**queue("typed", type="classic"), "arguments": {}},
            {**queue("gone", auto_delete=True), "arguments": {}},
        ]

        assert found(ask(export(vhosts=[vhost], queues=[*bare, *others]), "--json"))["B04"] == [
            "queue 'bare' in vhost '/'"
        ]

    def test_is_that_of_an_export_of_one_vhost(self, ask):
        """There it stands at the top."""
        parts = {"original_vhost_name": "/", "default_queue_type": "quorum", "policies": [], "parameters": []}

        assert "B04" in found(ask({**parts, "queues": [{"name": "bare", "durable": True}]}, "--json"))

    @pytest.mark.parametrize("value", ["undefined", "classic", 3, None, []])
    def test_that_is_none_leaves_a_queue_classic(self, ask, value):
        """3.11 has written undefined there."""
        vhosts = [{"name": "/", "default_queue_type": value}]
        bare = {**queue("bare", arguments={"x-queue-version": 1})}
        del bare["arguments"]["x-queue-type"]

        names = found(ask(export(vhosts=vhosts, queues=[bare]), "--json"))

        assert (list(names), names["B23"]) == (["B23"], ["queue 'bare' in vhost '/'"])


class TestExportWithSilentChanges:
    """An export that an upgrade concerns, and breaks nothing of."""

    def test_is_reported_with_exit_code_0(self, ask):
        """The code counts what breaks or loses; the rest is for a person to read."""
        ended = ask(export(users=[{"name": "guest"}]))

        assert ended.exit_code == 0
        assert "concerns  user 'guest'" in ended.output
        assert "\nNothing that breaks or loses messages was found in what was read.\n" in ended.output


class TestExportWithEverything:
    """An export with something of everything."""

    def test_has_each_finding_and_exit_code_1(self, ask):
        """The union of all cases hides none of them."""
        ended = ask(everything(), "--json", old="3.10")

        assert ended.exit_code == 1
        assert set(found(ended)) == set(CONCERNED)

    def test_is_reported_by_name_under_its_heading(self, ask):
        """BREAKS comes first, with the queue to change."""
        output = ask(everything()).output

        breaks = output[output.index("\nBREAKS (") : output.index("\nLOSES MESSAGES (")]
        assert "      concerns  queue 'old' in vhost '/'\n" in breaks

    def test_shows_ten_names_and_counts_the_rest(self, ask):
        """A thousand queues are a number, not a page."""
        ended = ask(export(queues=[queue(f"q{n:02}", durable=False) for n in range(13)]))

        assert ended.output.count("concerns  queue") == 10
        assert "concerns  and 3 more" in ended.output

    @pytest.mark.parametrize("form", [(), ("--json",), ("--markdown",)], ids=["text", "json", "markdown"])
    def test_shows_no_password_hash_and_no_uri(self, ask, form):
        """The report goes into tickets; an export holds hashes, and URLs with passwords."""
        output = ask(everything(), *form, old="3.10").output

        assert "guest" in output
        assert HASH not in output
        assert SECRET_URI not in output
        assert "geheim" not in output

    def test_shows_names_without_moving_the_cursor(self, ask, tmp_path):
        """The name of a queue or file may hold what a terminal obeys, and what Markdown takes for markup."""
        tricky = export(queues=[queue("a\x1b[2Jb`<b>", durable=False)])

        odd = tmp_path / "rab\x1b[2Jbit.json"
        odd.write_text(json.dumps(tricky))

        for form in ((), ("--markdown",), ("--json",)):
            assert "\x1b" not in ask(tricky, "--definitions", str(odd), *form).output
        assert "``queue 'a" in ask(tricky, "--markdown").output.replace("`` queue", "``queue")

    @pytest.mark.parametrize("form", ["--text", "--markdown"])
    def test_shows_each_name_on_one_line(self, tmp_path, form):
        """A name with a line of its own could say that nothing was found; file systems and clients allow it."""
        forged = "x\nNothing was found in what was read.\u2028Nothing was found in what was read."
        concerned = export(
            queues=[queue("q", arguments={f"x-delayed-retry-{forged}": 1})],
            policies=[{"name": "p", "vhost": "/", "pattern": "(", "definition": {f"ha-{forged}": "all"}}],
            bindings=[
                {"source": "amq.topic", "vhost": "/", "destination_type": forged, "routing_key": "#.#.#"},
            ],
        )
        file = tmp_path / f"rabbit{forged}.json"
        file.write_text(json.dumps(concerned))
        options = [] if form == "--text" else [form]

        lines = CliRunner().invoke(cli, ["upgrade", "3.10", "4.3", "--definitions", str(file), *options]).output

        assert lines.count("Nothing was found in what was read.") == 8, "two of each name"
        assert [line for line in lines.splitlines() if line.startswith("Nothing was found")] == []


class TestReadme:
    """The excerpt in README.md."""

    def test_shows_what_the_command_prints(self, tmp_path, monkeypatch):
        """An excerpt that nobody runs shows an older program; a line of … stands for what is left out."""
        command, *shown = re.search(r"```text\n\$ (rmqspec upgrade .*?)```", README, re.S)[1].splitlines()
        (tmp_path / "rabbit.json").write_text(json.dumps(of_the_readme()))
        monkeypatch.chdir(tmp_path)

        printed = CliRunner().invoke(cli, command.split()[1:]).output

        for part in "\n".join(["", *shown, ""]).split("\n…\n"):
            _, found, printed = printed.partition(f"{part.strip()}\n") if part.strip() else ("", "nothing", printed)
            assert found, f"correct the excerpt in README.md; the command does not print, in this place:\n{part}"


class TestUnreadableExport:
    """What is no export."""

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "is no JSON"),
            (b'{"queues": [', "is no JSON (line 1)"),
            (b"[" * 100_000, "is no JSON"),
            (b"\xff\xfe\x00", "is no text in UTF-8"),
            (b"[]", "no export of RabbitMQ's definitions"),
            (b'{"name": "left-pad", "version": "1.0"}', "no export of RabbitMQ's definitions"),
            (b'{"queues": {}}', "'queues' is no list of objects"),
            (b'{"queues": [1]}', "'queues' is no list of objects"),
            (b'{"queues": [{"name": []}]}', "a 'name' is no text"),
        ],
        ids=["empty", "cut off", "deep", "binary", "a list", "other json", "no list", "no objects", "no name"],
    )
    def test_is_refused_in_one_sentence(self, tmp_path, content, reason):
        """The wrong file is the most frequent mistake; a traceback says nothing about it."""
        file = tmp_path / "rabbit.json"
        file.write_bytes(content)

        ended = CliRunner().invoke(cli, ["upgrade", "3.13", "4.3", "--definitions", str(file)])

        assert ended.exit_code == 2
        assert reason in ended.output
        assert "rabbitmqctl export_definitions" in ended.output
        assert ended.output.count("Error:") == 1

    @pytest.mark.parametrize("name", ["", "missing.json"], ids=["a directory", "no file"])
    def test_is_refused_if_there_is_no_such_file(self, tmp_path, name):
        """A path is completed to a directory by one press of the wrong key."""
        ended = CliRunner().invoke(cli, ["upgrade", "3.13", "4.3", "--definitions", str(tmp_path / name)])

        assert ended.exit_code == 2
        assert "cannot be read" in ended.output

    def test_is_refused_if_it_has_no_end(self, monkeypatch):
        """A device in the place of a file filled the memory."""
        monkeypatch.setattr("rmqspec.tools.upgrade.definitions.LARGEST", 1024 * 1024)

        ended = CliRunner().invoke(cli, ["upgrade", "3.13", "4.3", "--definitions", "/dev/zero"])

        assert ended.exit_code == 2
        assert "/dev/zero has more than 1 MiB" in ended.output

    def test_with_odd_rows_is_read_as_far_as_it_goes(self, ask):
        """Exports are edited by people: a policy without a definition is theirs, and no reason to stop."""
        odd = export(
            queues=[queue("q", "quorum"), {"name": "bare"}],
            policies=[
                {"name": "p", "vhost": "/", "pattern": "(", "definition": []},
                {"name": "r", "vhost": "/", "pattern": "q", "apply-to": "all", "priority": "high", "definition": None},
            ],
            bindings=[{"source": "amq.topic", "routing_key": "#.#.#"}],
        )

        ended = ask(odd, "--json")

        assert {"B04", "B32"} <= set(found(ended))

"""`rmqspec upgrade`: the differences as data, and the report for two releases.

Code: rmqspec/tools/upgrade/differences.py, releases.py, report.py, text.py, rmqspec/cli/upgrade.py
"""

import ast
import json
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

from rmqspec.cli.main import cli
from rmqspec.tools.upgrade import Kind, NoWay, Release, between, differences, way
from rmqspec.tools.upgrade.differences import again, read
from rmqspec.tools.upgrade.recognisers import RECOGNISERS
from rmqspec.tools.upgrade.releases import KNOWN
from rmqspec.tools.upgrade.used import PARTS

ROOT = Path(__file__).parents[2]

row = pytest.mark.parametrize("difference", differences(), ids=lambda one: one.id)


def of(text):
    return Release.parse(text)


def changed(old, new):
    return {one.id for one in between(of(old), of(new))}


def ask(*arguments):
    return CliRunner().invoke(cli, ["upgrade", *arguments])


class TestDifferences:
    """`differences.toml`."""

    def test_have_each_subject_from_the_first_to_the_last(self):
        """A row that was lost with a merge would be an upgrade that surprises."""
        assert {one.id[:3] for one in differences()} == {f"B{number:02}" for number in range(1, 97)}

    def test_have_ids_that_are_unique(self):
        """A finding is looked up by its id."""
        counted = Counter(one.id for one in differences())

        assert [name for name, count in counted.items() if count > 1] == []

    @row
    def test_have_rows_of_whole_sentences(self, difference):
        """Each cell is read alone, in a ticket; an empty one says nothing."""
        cells = [difference.does, difference.before, difference.after, difference.remedy, difference.evidence]

        assert [cell for cell in cells if len(cell) < 8 or not cell.endswith(".")] == []
        assert difference.does[0].isupper()

    @row
    def test_have_a_since_that_is_a_known_release(self, difference):
        """It decides for which upgrades the row is shown."""
        dated = [difference.since, *difference.backports, *([difference.until] if difference.until else [])]

        assert [one for one in dated if one.series not in KNOWN or one.patch is None] == []
        assert difference.before != difference.after

    @row
    def test_say_what_was_run_and_what_was_read(self, difference):
        """A release note is not a fact; only what was run on a broker is one."""
        marks = ("(run", "run)", "(source", "source)", "(release note", "release note)", "(documentation)", "Not run")

        assert any(mark in difference.evidence for mark in marks), (
            "mark the evidence: (run), (source) or (release note)"
        )

    @row
    def test_name_proofs_that_exist(self, difference):
        """A spec that was renamed proves nothing to the one who looks for it."""
        missing = []
        for node_id in (*difference.proofs.before, *difference.proofs.after):
            path, owner, name = node_id.split("::")
            assert path.startswith(("tests/lessons/", "tests/reference/"))
            classes = [node for node in ast.parse((ROOT / path).read_text()).body if isinstance(node, ast.ClassDef)]
            methods = {
                method.name for one in classes if one.name == owner for method in one.body if hasattr(method, "name")
            }
            missing += [] if name in methods else [node_id]

        assert missing == [], "correct the node ids in rmqspec/tools/upgrade/differences.toml"

    @row
    def test_say_how_they_are_recognised_or_why_not(self, difference):
        """What cannot be seen is not the same as what is not there."""
        seen = difference.recognised

        assert bool(seen.definitions or seen.management or seen.trace) != bool(seen.reason)

    @row
    def test_have_a_recogniser_where_they_say_so(self, difference):
        """A row that says an export shows it, and is never looked for, would pass for not found."""
        read_there = {"queues", "exchanges", "bindings", "policies", "operator_policies", "users", "topic_permissions"}
        mine = [one for one in RECOGNISERS if one.id == difference.id]

        assert bool(mine) == bool(difference.recognised.definitions or difference.recognised.management)
        assert any(one.reads <= read_there for one in mine) == bool(difference.recognised.definitions)
        assert all(one.reads <= set(PARTS) for one in mine)

    def test_refuse_a_row_that_lacks_a_field(self):
        """An error in the data names the row, not a line of Python."""
        with pytest.raises(ValueError, match="'B00' is not complete"):
            read('[[difference]]\nid = "B00"\nrecognised = { trace = "x" }\n')


class TestRelease:
    """`Release`."""

    @pytest.mark.parametrize(
        "text", ["4", "4.3.6.1", "four", "", "4.x", "-4.3", "4.3\n6", "٤.٣", "4.3.0-rc.1", "4.3.0~beta1"]
    )
    def test_is_refused_if_it_is_none(self, text):
        """A slip of the keyboard would otherwise be an upgrade without differences."""
        with pytest.raises(ValueError, match=r"write 4\.3 or 4\.3\.6"):
            of(text)

    @pytest.mark.parametrize(
        ("text", "shown"), [("4.3", "4.3"), ("v4.3.6", "4.3.6"), ("4.3.6-1", "4.3.6"), ("3.10.8", "3.10.8")]
    )
    def test_is_read_as_packages_and_tags_write_it(self, text, shown):
        """It is pasted from a package list or from GitHub."""
        assert str(of(text)) == shown


class TestWay:
    """`way`: the supported upgrades in place."""

    @pytest.mark.parametrize(
        ("old", "new", "series"),
        [
            ("3.10", "4.3", ["3.11", "3.12", "3.13", "4.2", "4.3"]),
            ("3.13", "4.3", ["4.2", "4.3"]),
            ("4.0.5", "4.3.6", ["4.2", "4.3"]),
            ("3.13", "4.1", ["4.1"]),
            ("4.3.0", "4.3.6", []),
            ("4.3.6", "4.3", []),
        ],
    )
    def test_is_the_shortest_of_the_documentation(self, old, new, series):
        """4.3 starts with the data of 4.2 only: who skips it has a node that does not boot."""
        assert [step.new for step in way(of(old), of(new))] == series

    def test_says_what_to_enable_before_each_step(self):
        """A node of the next series does not start while a required feature flag is off."""
        before = {step.new: step.before for step in way(of("3.10"), of("4.3"))}

        assert "3.11.18" in before["3.12"]
        assert "not khepri_db" in before["4.2"]
        assert "enable_feature_flag khepri_db" in before["4.3"]
        assert all("feature flags" in words for words in before.values())

    @pytest.mark.parametrize(("old", "new", "reason"), [
        ("4.3", "3.13", "downgrade"), ("4.3.6", "4.3.5", "downgrade"),
        ("3.8", "4.3", "not known"), ("4.3", "5.0", "not known"),
    ])  # fmt: skip
    def test_does_not_exist_for_a_downgrade_or_an_unknown_release(self, old, new, reason):
        """Data of a newer node cannot be read by an older one."""
        with pytest.raises(NoWay, match=reason):
            way(of(old), of(new))


class TestBetween:
    """`between`: which rows an upgrade crosses."""

    def test_begins_after_the_old_release_and_ends_with_the_new_one(self):
        """What has been lived with since long is no news."""
        assert "B32" in changed("4.3.4", "4.3.5")
        assert "B32" not in changed("4.3.5", "4.3.6")
        assert "B32" not in changed("4.3.0", "4.3.4")

    def test_reads_a_series_as_its_first_release_if_old_and_its_newest_if_new(self):
        """A row too many is asked about; one too few is met in production."""
        assert "B32" in changed("4.3", "4.3")
        assert "B32" not in changed("4.3.6", "4.3")

    def test_knows_what_came_to_older_series_in_a_patch_release(self):
        """From 4.2.6 on a passive declare wants a permission: at an upgrade from there nothing changes."""
        assert "B21" in changed("4.2.5", "4.3.6")
        assert "B21" not in changed("4.2.6", "4.3.6")
        assert "B21" in changed("4.1.8", "4.2.6")

    def test_does_not_count_a_backport_for_the_first_release_of_a_newer_series(self):
        """4.2.7 was mended after 4.3.0 came out: who goes from the one to the other has the fault again."""
        assert "B57" in changed("4.3.0", "4.3.1")
        assert "B57" not in changed("4.2.7", "4.3.1")

    def test_leaves_out_what_a_later_release_has_ended(self):
        """Only who stops at 4.3.0 meets its fault."""
        assert "B33" in changed("4.2", "4.3.0")
        assert "B33" not in changed("4.2", "4.3.1")

    def test_leaves_to_again_what_the_old_release_has_and_the_new_one_has_not(self):
        """4.3.0 is older than 4.2.7: who goes there has the larger error again, and is told."""
        assert [one.id for one in again(of("4.2.7"), of("4.3.0"))] == ["B57"]
        assert [one.id for one in again(of("4.3.0"), of("4.3.1"))] == ["B33"]
        assert again(of("4.2.7"), of("4.3.1")) == ()

    def test_is_empty_for_one_and_the_same_release(self):
        """Who asks about the release that runs already has nothing to prepare."""
        assert changed("4.3.6", "4.3.6") == set()


class TestReport:
    """`rmqspec upgrade OLD NEW`."""

    def test_begins_with_the_counts(self):
        """One line is what goes into a meeting."""
        rows = between(of("3.13"), of("4.3"))
        breaks = sum(one.kind is Kind.BREAKS for one in rows)
        unproved = sum(not (one.proofs.before and one.proofs.after) for one in rows)

        first = ask("3.13", "4.3").output.splitlines()[0]

        assert first.startswith(f"RabbitMQ 3.13 to 4.3: {len(rows)} differences, {breaks} break, ")
        assert first.endswith(f"{unproved} of them have no spec on both sides")

    def test_lists_the_worst_first_with_before_after_remedy_and_proof(self):
        """An operator reads from the top and stops early."""
        output = ask("3.10", "4.3").output
        places = [
            output.index(f"\n{heading} (")
            for heading in ("BREAKS", "LOSES MESSAGES", "CHANGES SILENTLY", "MILDER, OR MENDED", "NEW")
        ]

        assert places == sorted(places)
        of_poison = output[output.index("  B04 POISON-02: ") : output.index("  B16 TX-14: ")]
        assert "before    The message is redelivered without end." in of_poison
        assert "since     4.0.0" in of_poison
        assert (
            "proof     after: tests/lessons/test_24_quorum_queues.py::TestDeliveryLimit::test_is_20_by_default"
            in of_poison
        )
        assert "proof     ~" in output[output.index("  B73 ") : output.index("  B82 ")]

    def test_says_what_is_again_as_it_was(self):
        """A row that is in no section would be a change that nobody is told of."""
        line = "In 4.3.0 again as before: B57: Declare a stream with an x-max-age that is no number with a unit"

        assert line in " ".join(ask("4.2.7", "4.3.0").output.split())
        assert json.loads(ask("4.2.7", "4.3.0", "--json").output)["again_as_before"] == ["B57"]
        assert ask("4.2.2", "4.2.3").output.startswith("RabbitMQ 4.2.2 to 4.2.3: 1 difference, ")

    def test_ends_with_what_was_not_read(self):
        """Without a source nothing of what somebody uses was looked at."""
        output = ask("3.13", "4.3").output
        end = output[output.index("\nNot read:") :]

        assert "--definitions FILE" in end
        assert "--url http://" in end
        assert "B17: Content headers with a body size" in end
        assert "rabbitmq.conf" in end

    @pytest.mark.parametrize(("old", "new", "code"), [
        ("3.13", "4.3", 1), ("4.3.5", "4.3.6", 0), ("4.3", "3.13", 3), ("3.9", "4.3", 3), ("4.3", "next", 2),
    ])  # fmt: skip
    def test_ends_with_a_code_that_scripts_can_read(self, old, new, code):
        """A pipeline reads no sentences."""
        ended = ask(old, new)

        assert ended.exit_code == code, ended.output
        assert "Traceback" not in ended.output

    def test_is_one_object_with_json(self):
        """Programs want every row, with its proofs."""
        answer = json.loads(ask("3.13", "4.3", "--json").output)

        rows = {one["id"]: one for one in answer["rows"]}
        assert set(rows) == changed("3.13", "4.3")
        assert rows["B02"]["kind"] == "silent"
        assert rows["B02"]["proofs"]["before"][0].startswith("tests/lessons/test_05_fair_dispatch.py::")
        assert [step["to"] for step in answer["way"]] == ["4.2", "4.3"]

    def test_has_a_heading_for_each_row_with_markdown(self):
        """It is pasted into a ticket."""
        output = ask("3.13", "4.3", "--markdown").output

        assert output.count("\n### B") == len(changed("3.13", "4.3"))
        assert "\n## Loses messages (" in output

"""Which policy applies to a queue, as `rmqspec upgrade` decides it without a broker.

Code: rmqspec/tools/upgrade/policies.py
"""

import pytest

from rmqspec.tools.upgrade import Release
from rmqspec.tools.upgrade.policies import Policies, is_supported, unread_patterns
from rmqspec.tools.upgrade.used import Used
from tests.reference.tables import table_for
from tests.reference.test_policies import KEYS

from .upgrade_exports import policy, queue


def settings(one, *policies, operators=(), release="4.3.6"):
    """The possible settings of a queue."""
    used = Used.of({"policies": policies, "operator_policies": operators})
    return Policies(used).of(one, Release.parse(release))


class TestKeys:
    """`is_supported`."""

    @pytest.mark.parametrize("release", ["3.10.8", "4.0.5", "4.3.6"])
    def test_are_supported_by_the_types_to_which_brokers_apply_them(self, release):
        """The table of the shelf is run on these brokers; what differs from it tells an operator something untrue."""
        shown = {
            (key, kind): outcome for key, kind, outcome in table_for(KEYS, release) if outcome in ("applied", "not")
        }

        known = {(key, kind): is_supported(key, kind, Release.parse(release)) for key, kind in shown}

        assert known == {cell: outcome == "applied" for cell, outcome in shown.items()}
        assert len(shown) > 50

    def test_of_the_memory_changed_within_a_series(self):
        """An upgrade from 3.13 to 4.x changes nothing here any more."""
        releases = ["3.12.6", "3.12.7", "3.13.0"]

        known = [is_supported("max-in-memory-length", "classic", Release.parse(one)) for one in releases]

        assert known == [True, False, False]


class TestPolicies:
    """`Policies`."""

    def test_give_a_queue_the_one_with_the_highest_priority(self):
        """They are not merged: what stands in the others alone has no effect."""
        low, high = policy("low", "^q", priority=1, max_length=1), policy("high", "^q$", priority=2, expires=9000)

        assert settings(queue("q"), low, high) == [{"expires": 9000}]
        assert settings(queue("q2"), low, high) == [{"max-length": 1}]
        assert settings(queue("other"), low, high) == [{}]

    def test_pass_over_one_with_a_key_that_the_type_does_not_support(self):
        """Nobody is told: a quorum queue that seems to have a limit has none."""
        lazy = policy("lazy", ".*", priority=2, queue_mode="lazy", delivery_limit=5)
        dead = policy("dead", ".*", priority=1, dead_letter_exchange="dlx")

        assert settings(queue("q", "quorum"), lazy) == [{}]
        assert settings(queue("q", "quorum"), lazy, dead) == [{"dead-letter-exchange": "dlx"}]
        assert settings(queue("q", "stream"), lazy, dead) == [{}]

    def test_pass_over_an_operator_policy_likewise(self):
        """Both lists are searched by the same rule."""
        operators = [
            policy("aged", ".*", priority=2, max_age="1h", max_length=3),
            policy("limits", ".*", delivery_limit=7),
        ]

        assert settings(queue("q", "quorum"), operators=operators) == [{"delivery-limit": 7}]

    def test_add_what_an_operator_policy_sets(self):
        """These two are merged, key by key."""
        user, operator = policy("user", ".*", expires=9000, max_length=5), policy("operator", ".*", max_length=3)

        assert settings(queue("q"), user, operators=[operator]) == [{"expires": 9000, "max-length": 3}]

    @pytest.mark.parametrize(
        ("apply_to", "kinds"),
        [
            ("all", ["classic", "quorum", "stream"]),
            ("queues", ["classic", "quorum", "stream"]),
            ("classic_queues", ["classic"]),
            ("quorum_queues", ["quorum"]),
            ("streams", ["stream"]),
            ("exchanges", []),
        ],
    )
    def test_apply_to_the_types_that_they_are_for(self, apply_to, kinds):
        """A policy for exchanges limits no queue."""
        one = policy("p", ".*", max_length_bytes=1000) | {"apply-to": apply_to}

        concerned = [kind for kind in ("classic", "quorum", "stream") if settings(queue("q", kind), one) != [{}]]

        assert concerned == kinds

    def test_apply_in_their_own_vhost(self):
        """Another tenant's policy of the same name is no help."""
        one = policy("p", ".*", max_length=1) | {"vhost": "other"}

        assert settings(queue("q"), one) == [{}]

    def test_of_the_same_priority_are_all_possible(self):
        """The broker does not promise which of them it takes."""
        one, other = policy("one", ".*", max_length=1), policy("other", ".*", expires=9000)

        assert settings(queue("q"), one, other) == [{"max-length": 1}, {"expires": 9000}]

    def test_change_with_the_release(self):
        """What a type supports is a matter of the release."""
        one = policy("p", ".*", max_in_memory_length=5, max_length=1)

        assert settings(queue("q"), one, release="3.12.6") == [{"max-in-memory-length": 5, "max-length": 1}]
        assert settings(queue("q"), one, release="3.12.7") == [{}]


class TestPattern:
    """The pattern of a policy: PCRE on bytes at the broker, Python's here."""

    @pytest.mark.parametrize(
        ("pattern", "name", "matches"),
        [
            ("orders", "my.orders.eu", True),
            ("^(?!amq\\.).*", "amq.gen-1", False),
            ("(?i)^ORDERS$", "orders", True),
            ("^a++$", "aaa", True),
            ("^k.{2}se$", "käse", True),  # ä is two bytes
            ("^käse$", "käse", True),
            ("", "anything", True),
        ],
    )
    def test_is_read_as_the_broker_reads_it(self, pattern, name, matches):
        """A pattern that is taken to match names a queue that has no such limit, or hides one."""
        assert bool(settings(queue(name), policy("p", pattern, max_length=1))[0]) is matches

    @pytest.mark.parametrize(("pattern", "name"), [("^k\\w", "käse"), ("(?i)^\xe3", "Ã"), ("^a\\b.", "aé")])
    def test_that_brokers_read_each_in_its_way_is_possible(self, pattern, name):
        """They match on 4.0 and not on 4.3, or the other way round: a letter is one of Latin-1, or of ASCII."""
        one = policy("letters", pattern, max_length=1)

        assert settings(queue(name), one) == [{"max-length": 1}, {}]

    @pytest.mark.parametrize(
        "pattern",
        ["^a\\z", "^a\\Z", "^[[:alpha:]]+$", "^a(?i)b", "(?<name>a)", "\\p{L}", "a{,3}", "\\v", "(?a)a", "(", "a{9,1}"],
    )
    def test_that_python_reads_otherwise_is_possible_and_named(self, pattern):
        """To guess either way would be told as a fact."""
        one = policy("odd", pattern, max_length=1)

        assert settings(queue("a"), one) == [{"max-length": 1}, {}]
        (gap,) = unread_patterns(Used.of({"policies": [one]}))
        assert gap.startswith(f"the pattern {pattern!r} of policy 'odd' in vhost '/'")

    def test_is_named_ten_times_at_most(self):
        """A page of patterns hides what else was not read."""
        gaps = list(unread_patterns(Used.of({"policies": [policy(f"odd-{n}", "\\z") for n in range(13)]})))

        assert len(gaps) == 11
        assert gaps[-1] == "3 more patterns of policies, likewise"

"""A broker that stays silent: the spec fails by an assertion that says what was owed, not by a time out.

Code: rmqspec/tools/plugin/promises.py
"""

import pytest

SPEC = """
    import pytest
    from rmqspec.client import Message, persistent
    from rmqspec.client.errors import CallTimedOut, ConnectionLost, OutcomeUnknown, Unanswered

    def unknown(cause):
        error = OutcomeUnknown("unknown", Message("", "q", b"order", persistent(), True))
        error.__cause__ = cause
        return error

    def wait():
        {body}

    @pytest.fixture(scope="module")
    def made():
        {made}

    def test_spec(made):
        {call}
"""
ANSWERS = "rmqspec.tools.plugin.promises.Unkept: a broker answers each method, and in confirm mode each message: "


@pytest.fixture
def ending(pytester):
    """Runs a spec that waits like this, in itself or in its set-up, and returns what pytest says of it."""

    def run(wait, call="wait()", made="pass"):
        pytester.makepyfile(SPEC.format(body=wait, made=made, call=call))
        return pytester.runpytest_inprocess("-p", "rmqspec.tools.plugin.promises", "-p", "no:randomly")

    return run


class TestSilence:
    """What becomes of a spec that has waited in vain."""

    @pytest.mark.parametrize(
        ("wait", "words"),
        [
            ("raise Unanswered('not in 2 s')", f"{ANSWERS}not in 2 s"),
            ("raise unknown(Unanswered('not in 2 s'))", f"{ANSWERS}not in 2 s"),
            (
                "raise CallTimedOut('no reply')",
                "rmqspec.tools.plugin.promises.Unkept: a request and its reply both reach their queues: no reply",
            ),
        ],
        ids=["method", "message", "call"],
    )
    def test_is_an_assertion_that_names_the_promise(self, ending, wait, words):
        """How long it has waited tells nobody what is broken."""
        result = ending(wait)

        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines([f"E * {words}", "FAILED *"])

    def test_shows_the_line_that_waited(self, ending):
        """The assertion is made elsewhere; who reads it wants to know which call it was."""
        ending("raise Unanswered('not in 2 s')").stdout.fnmatch_lines(
            ["> * wait()", "> * raise Unanswered('not in 2 s')"]
        )

    def test_is_one_in_a_set_up_too(self, ending):
        """What a spec stands on has promises of its own; pytest keeps how it ended for the specs that come after."""
        result = ending("raise Unanswered('not in 2 s')", "pass\n\n    def test_next(made): pass", made="wait()")

        result.assert_outcomes(errors=2)
        result.stdout.fnmatch_lines([f"E * {ANSWERS}not in 2 s", f"E * {ANSWERS}not in 2 s", "ERROR *"])

    def test_is_found_behind_what_it_has_led_to(self, ending):
        """A connection that was given up is closed, and says at its end only that it is lost."""
        result = ending("raise Unanswered('not in 2 s')", "try: wait()\n        finally: raise ConnectionLost('gone')")

        result.stdout.fnmatch_lines([f"E * {ANSWERS}not in 2 s"])

    @pytest.mark.parametrize(
        ("call", "words"),
        [
            ("raise unknown(ConnectionLost('gone'))", "rmqspec.client.errors.OutcomeUnknown: unknown: *"),
            ("try: wait()\n        except Unanswered: assert [] == ['order']", "AssertionError: assert *"),
        ],
        ids=["lost connection", "assertion"],
    )
    def test_is_not_seen_where_there_is_none(self, ending, call, words):
        """A lost connection is another thing; and whoever has an assertion of his own keeps it."""
        result = ending("raise Unanswered('not in 2 s')", call)

        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines([f"E * {words}"])

    def test_may_be_what_a_spec_expects(self, ending):
        """Silence is a promise of chapters about it."""
        ending("raise Unanswered('not in 2 s')", "pytest.raises(Unanswered, wait)").assert_outcomes(passed=1)

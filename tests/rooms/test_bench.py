"""The benchmark of the lessons: what its figures are about."""

import json
import sys
from pathlib import Path

LESSONS = Path(__file__).parents[1] / "bench" / "lessons.py"
SUITE = """
    import pytest

    def test_declares(channel): channel.queue_declare("q", exclusive=True)
    def test_declares_again(channel): channel.queue_declare("q", exclusive=True)

    @pytest.mark.parametrize("number", range(8))
    @pytest.mark.rabbitmq(since="99.0")
    def test_of_the_future(number): pass

    def test_of_another_broker(): pytest.skip("not run: nobody restarts this one")
"""


class TestFigures:
    """`python tests/bench/lessons.py`."""

    def test_count_only_specs_that_ran(self, pytester, broker, monkeypatch):
        """A skip takes no time at all: 245 of them among 1267 made the median one of specs that nobody ran."""
        monkeypatch.delenv("RABBITMQ_BROKER", raising=False)
        monkeypatch.setenv("RABBITMQ_URL", broker.endpoint.url())
        monkeypatch.setenv("RABBITMQ_MANAGEMENT_URL", broker.endpoint.management_url)
        pytester.makeconftest('pytest_plugins = ["rmqspec.tools.plugin"]')
        pytester.makepyfile(test_suite=SUITE)

        result = pytester.run(sys.executable, LESSONS, "-p", "no:cacheprovider", "test_suite.py")

        figures = json.loads(result.outlines[-1])
        assert figures["tests"] == 2
        assert figures["median_test_ms"] > 1  # a connection and an answer of the broker; a skip takes none

"""`rmqspec demo --book`: the one picture of the whole order system at work."""

import re

import click
import pytest

from rmqspec.cli.demo_book import Album
from rmqspec.client import Settings

pytestmark = pytest.mark.timeout(120)  # a process of its own


class TestBookOfTheDemo:
    """What a person opens after the demo."""

    def test_shows_each_scene_and_who_takes_part(self, run, broker, tmp_path):
        """The same scenes as in the terminal; who speaks is called as there."""
        path = tmp_path / "demo.html"
        demo = run("demo", "--orders", "2", "--workers", "1", "--work-time", "0", "--book", str(path))

        assert demo.ends() == 0, demo.output
        text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", path.read_text()))
        for words in (
            "The topology is declared: 4 exchanges, 6 queues, all durable",
            "RPC: the shop asks the inventory before it takes orders",
            "1 worker, notification, analytics and logs take their places",
            "2 orders are published, each confirmed; then something that is no order",
            "All orders are settled",
            "Each sentence is a scene that was played on a real broker",
        ):
            assert words in text
        assert {"producer", "onlooker", "inventory", "basic.publish", "basic.deliver"} <= set(
            re.findall(r"[\w.-]+", text)
        )
        assert broker.endpoint.password not in path.read_text()

    def test_says_that_it_cannot_read_tls(self, tmp_path):
        """An empty picture would be a riddle."""
        settings = Settings(urls=("amqps://somebody:secret@127.0.0.1:1",))

        with (
            pytest.raises(click.UsageError, match="name one address, without TLS"),
            Album(tmp_path / "demo.html").on_the_way(settings),
        ):
            pytest.fail("it went on")

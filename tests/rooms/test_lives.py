"""When connections that end right after they were opened are given up, and when not.

Code: rmqspec/client/lives.py
"""

from rmqspec.client.lives import SHORT_LIVES, Lives


def end_many(lives, **how):
    """What `connection_ends` says of many connections that were opened and ended at once."""
    said = []
    for _ in range(3 * SHORT_LIVES):
        lives.attempt_begins()
        lives.channel_opens()
        said.append(lives.connection_ends(**how))
    return said


class TestLives:
    """`Lives`."""

    def test_gives_up_connections_that_end_by_themselves(self, monkeypatch):
        """A message that its reader cannot bear comes again with each connection, for ever."""
        monkeypatch.setattr("rmqspec.client.lives.SHORT_SPAN", 0.0)

        said = end_many(Lives(10.0))

        assert said[SHORT_LIVES - 2] is None
        assert said[SHORT_LIVES - 1] is not None

    def test_never_gives_up_because_a_broker_shuts_down(self, monkeypatch):
        """A broker that shuts down lets clients in and sends them 320 again and again; a service outlives that."""
        monkeypatch.setattr("rmqspec.client.lives.SHORT_SPAN", 0.0)
        lives = Lives(10.0)

        said = end_many(lives, forced=True)

        assert set(said) == {None}
        assert lives.pause > 1.0

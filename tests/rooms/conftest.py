"""What several tests of the brokers need: a Docker engine and an image, or the reason why there is none."""

import os

import pytest

from rmqspec.tools.broker import DEFAULT_IMAGE, Unavailable
from rmqspec.tools.broker.engine import engine, fetch, local_image


@pytest.fixture(scope="session", autouse=True)
def _plugins_of_inner_runs():
    """Runs of pytest within a test load what they need: Hypothesis alone would be half of the time of each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        patch.setenv("PYTEST_PLUGINS", "pytest_timeout,xdist.plugin")
        yield


@pytest.fixture(scope="module")
def docker():
    try:
        client = engine()
    except Unavailable as reason:
        pytest.skip(f"not run: {reason}")
    yield client
    client.close()


@pytest.fixture(scope="module")
def image(docker):
    """The one of the environment, or one that is here already, or the default."""
    chosen = os.environ.get("RABBITMQ_IMAGE") or local_image() or DEFAULT_IMAGE
    try:
        fetch(docker, chosen)
    except Unavailable as reason:
        pytest.skip(f"not run: {reason}")
    return chosen

"""What the rooms have in common: which files workers begin with, and a Docker engine, or why there is none."""

import os
from pathlib import Path

import pytest

from rmqspec.tools.broker import DEFAULT_IMAGE, Unavailable
from rmqspec.tools.broker.engine import engine, fetch, local_image

# The files that take longest, so that no worker begins one of them when the others have nothing left to do
# (`-n 4 --no-loadscope-reorder`): those that mostly wait beside those that mostly work.
LONGEST = (
    "nemesis", "conformance", "services_in_trouble", "cli", "nemesis_invariants", "harness", "lies_plugin", "rabbitup",
    "broker_node", "link_simulation", "upgrade_row_by_row", "broker_container", "services", "dead_letters",
    "nemesis_command", "record", "inbox", "rpc_client", "broker_package", "unanswered", "book_in_browser",
)  # fmt: skip


def pytest_collection_modifyitems(config, items):
    def place(item):
        name = item.path.stem.removeprefix("test_")
        return LONGEST.index(name) if item.path.parent == Path(__file__).parent and name in LONGEST else len(LONGEST)

    if hasattr(config, "workerinput"):
        items.sort(key=place)


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

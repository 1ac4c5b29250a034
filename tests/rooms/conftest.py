"""What several tests of the brokers need: a Docker engine and an image, or the reason why there is none."""

import os

import pytest

from rmqspec.tools.broker import DEFAULT_IMAGE, Unavailable
from rmqspec.tools.broker.container import check_engine, engine


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
    here = sorted(tag for image in docker.images.list("rabbitmq") for tag in image.tags if tag.endswith("-management"))
    chosen = os.environ.get("RABBITMQ_IMAGE") or next(iter(here), DEFAULT_IMAGE)
    try:
        check_engine(chosen)
    except Unavailable as reason:
        pytest.skip(f"not run: {reason}")
    return chosen

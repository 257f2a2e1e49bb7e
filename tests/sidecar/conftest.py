import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.shapes import Shape
from usher.connect.application.checkout import Checkout, Wishes, recognise
from usher.sidecar.process import Agent

NAMES = ("mitxonline", "mitxpro")


@pytest.fixture(scope="module", params=NAMES)
def shape(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Shape:
    return Shape(tmp_path_factory.mktemp("shape") / request.param, request.param)


@pytest.fixture(scope="module")
def checkout(shape: Shape) -> Checkout:
    return checkout_of(shape)


@pytest.fixture(scope="module")
def agent(checkout: Checkout) -> Iterator[Agent]:
    with Agent(checkout) as started:
        yield started


def checkout_of(shape: Shape) -> Checkout:
    return recognise(Wishes(str(shape.folder), manage=f"{Path(sys.executable)} manage.py"))

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.checkout import PlainCheckout


def pytest_configure(config: pytest.Config) -> None:
    line = "machine(release, mode, ...): the arguments of the test's tests.connect.machine.Machine"
    config.addinivalue_line("markers", line)


@pytest.fixture(scope="session")
def shop_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database of the plain application. Checkouts copy it, which is faster than
    migrating."""
    folder = tmp_path_factory.mktemp("migrated")
    migrated_checkout = PlainCheckout(folder / "shop", folder / "state")
    return migrated_checkout.folder / "db.sqlite3"


@pytest.fixture
def shop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shop_database: Path
) -> Iterator[PlainCheckout]:
    """The plain application in its own folder. Its stand-in for docker is on this process's
    PATH. Services that the test has started are stopped after the test."""
    checkout = PlainCheckout(tmp_path / "shop", tmp_path / "state", database=shop_database)
    for key, value in checkout.environment.items():
        if os.environ.get(key) != value:
            monkeypatch.setenv(key, value)
    yield checkout
    checkout.down()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Removes tests of real checkouts if no checkout is given, so that these tests don't count as
    skipped."""
    if os.environ.get("MITXONLINE") or os.environ.get("MITXPRO"):
        return
    real = [item for item in items if item.path.name == "test_real_applications.py"]
    if real:
        config.hook.pytest_deselected(items=real)
        items[:] = [item for item in items if item not in real]

"""extra_hosts are added to compose files that Tutor, and perhaps another plugin, has written."""

import pytest
import yaml

from usher.tutor.compose import ComposeError, with_hosts

GENERATED = """\
services:

  lms:
    image: openedx
    volumes:
      - ./a:/b

  lms-worker:
    image: openedx
"""
NAMES = ["a.local", "b.local"]
HOSTS = ["a.local:host-gateway", "b.local:host-gateway"]


def services(text: str) -> dict[str, dict[str, object]]:
    return dict(yaml.safe_load(text)["services"])


def test_only_the_named_service_changes() -> None:
    before, after = services(GENERATED), services(with_hosts(GENERATED, "lms", NAMES))
    assert after.pop("lms") == {**before.pop("lms"), "extra_hosts": HOSTS}
    assert after == before


def test_the_change_is_repeatable_and_can_be_undone() -> None:
    once = with_hosts(GENERATED, "lms", ["old.local"])
    assert with_hosts(once, "lms", NAMES) == with_hosts(GENERATED, "lms", NAMES)
    assert with_hosts(once, "lms", []) == GENERATED


def test_a_block_of_an_earlier_version_is_replaced() -> None:
    written = with_hosts(GENERATED, "lms", ["old.local"])
    mark = "# usher: host names of applications on this machine"
    assert mark in written
    earlier = written.replace(mark, "# usher: the way to applications on this machine")
    assert with_hosts(earlier, "lms", NAMES) == with_hosts(GENERATED, "lms", NAMES)
    assert with_hosts(earlier, "lms", []) == GENERATED


@pytest.mark.parametrize("indent", ["    ", "      "])
def test_another_plugins_hosts_stay(indent: str) -> None:
    theirs = f'    extra_hosts:\n{indent}- "other:1.2.3.4"\n'
    text = GENERATED.replace("    volumes", theirs + "    volumes", 1)
    after = with_hosts(text, "lms", NAMES)
    assert services(after)["lms"]["extra_hosts"] == [*HOSTS, "other:1.2.3.4"]
    assert with_hosts(after, "lms", []) == text


def test_a_service_that_is_not_there_is_named() -> None:
    with pytest.raises(ComposeError, match="no service lms-job"):
        with_hosts(GENERATED, "lms-job", NAMES)

"""extra_hosts are added to compose files that Tutor or another plugin has written."""

import pytest
import yaml

from usher.tutor.compose import ComposeError, with_hosts

#: A compose file as Tutor renders it.
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
#: The ``extra_hosts`` for NAMES.
HOSTS = ["a.local:host-gateway", "b.local:host-gateway"]


def services(text: str) -> dict[str, dict[str, object]]:
    return dict(yaml.safe_load(text)["services"])


def test_hosts_are_added_to_the_named_service_only() -> None:
    original, changed = services(GENERATED), services(with_hosts(GENERATED, "lms", NAMES))
    assert changed.pop("lms") == {**original.pop("lms"), "extra_hosts": HOSTS}
    assert changed == original


def test_added_hosts_can_be_replaced_and_removed() -> None:
    once = with_hosts(GENERATED, "lms", ["old.local"])
    assert with_hosts(once, "lms", NAMES) == with_hosts(GENERATED, "lms", NAMES)
    assert with_hosts(once, "lms", []) == GENERATED


def test_a_block_of_an_earlier_version_is_replaced() -> None:
    present = with_hosts(GENERATED, "lms", ["old.local"])
    first_line = "# usher: host names of applications on this machine"
    assert first_line in present
    earlier = present.replace(first_line, "# usher: the way to applications on this machine")
    assert with_hosts(earlier, "lms", NAMES) == with_hosts(GENERATED, "lms", NAMES)
    assert with_hosts(earlier, "lms", []) == GENERATED


def with_other_hosts(lines: str) -> str:
    """GENERATED with these lines in the service lms."""
    return GENERATED.replace("    volumes", lines + "    volumes", 1)


@pytest.mark.parametrize(
    "lines",
    [
        '    extra_hosts:\n    - "other:1.2.3.4"\n',
        '    extra_hosts:\n      - "other:1.2.3.4"\n',
        '    extra_hosts:  # of a plugin\n\n      # the other\n      - "other:1.2.3.4"\n',
    ],
)
def test_hosts_of_another_plugin_are_kept(lines: str) -> None:
    text = with_other_hosts(lines)
    changed = with_hosts(text, "lms", NAMES)
    assert services(changed)["lms"]["extra_hosts"] == [*HOSTS, "other:1.2.3.4"]
    assert with_hosts(changed, "lms", []) == text


def test_hosts_are_added_to_the_mapping_of_another_plugin() -> None:
    text = with_other_hosts("    extra_hosts:\n        other: 1.2.3.4\n")
    changed = with_hosts(text, "lms", NAMES)
    assert changed.count("extra_hosts:") == 1
    assert services(changed)["lms"]["extra_hosts"] == {
        "other": "1.2.3.4",
        "a.local": "host-gateway",
        "b.local": "host-gateway",
    }
    assert with_hosts(changed, "lms", []) == text


def test_hosts_are_added_to_an_empty_list_of_another_plugin() -> None:
    text = with_other_hosts("    extra_hosts:\n")
    changed = with_hosts(text, "lms", NAMES)
    assert changed.count("extra_hosts:") == 1
    assert services(changed)["lms"]["extra_hosts"] == HOSTS
    assert with_hosts(changed, "lms", []) == text


@pytest.mark.parametrize("value", ["[]", '["other:1.2.3.4"]', "{other: 1.2.3.4}", "*hosts"])
def test_hosts_of_another_plugin_on_one_line_are_refused(value: str) -> None:
    with pytest.raises(ComposeError, match="extra_hosts of the service lms is written on one line"):
        with_hosts(with_other_hosts(f"    extra_hosts: {value}\n"), "lms", NAMES)


def test_the_error_about_a_missing_service_names_the_service() -> None:
    with pytest.raises(ComposeError, match="no service lms-job"):
        with_hosts(GENERATED, "lms-job", NAMES)

"""Hostile values in config.yml: Tutor refuses them, or they are rendered as one value.

Rendered files are parsed as YAML, Python, Dockerfile or compose file.
"""

import ast
import json
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support.tutor import RELEASES, TutorRoot
from usher.tutor import compose, configuration
from usher.tutor.description import host_aliases

ENTRY = {"name": "shop", "root_url": "https://shop.example", "backend": "ol-oauth2"}
#: Parts of hostile values, each with a meaning in some rendered file. MARK is replaced by the path
#: of a file that must never exist: it would show that a value was executed.
PARTS = [
    "\n",
    "\nimport os\n",
    '"\n    privileged: true\n    x: "',
    "'; touch MARK; '",
    "$(touch MARK)",
    "`touch MARK`",
    "\\",
    '"',
    "'",
    "#",
    ": ",
    "- ",
    "&a",
    "*a",
    "!!python/object/apply:os.system ['touch MARK']",
    "\u2028",
    "\x85",
    "\x00",
    "%}",
    "shop.example",
    "ol-oauth2",
]
hostile_values = st.lists(st.sampled_from(PARTS) | st.text(max_size=4), min_size=1, max_size=3).map(
    "".join
)
#: Where a hostile value is put: a field of the entry, a setting, or a list in a setting.
ENTRY_FIELDS = ("root_url", "server_url", "backend", "provider_name", "oauth_name", "client_secret")
CONFIG_KEYS = ("USHER_REQUIREMENT", "USHER_SUPERUSER_USERNAME", "USHER_SUPERUSER_EMAIL")
LIST_KEYS = ("USHER_HOST_ALIASES", "USHER_BACKEND_REQUIREMENTS", "USHER_ANONYMOUS_PATHS")
#: Every message about a refused value of the configuration says what to write instead.
ADVICE = ": write "
places = st.sampled_from([*ENTRY_FIELDS, *CONFIG_KEYS, *LIST_KEYS])


@pytest.fixture(scope="module")
def root(
    rendered: Callable[..., TutorRoot], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TutorRoot]:
    """A root of the newest release with the application ``ENTRY``, rendered."""
    path = tmp_path_factory.mktemp("hostile") / "root"
    shutil.copytree(rendered(RELEASES[-1]).path, path)
    root = TutorRoot(RELEASES[-1], path)
    root.configure(USHER_APPLICATIONS=[ENTRY])
    root.run("config", "save")
    yield root


@pytest.fixture(scope="module")
def plain_structure(root: TutorRoot) -> dict[str, Any]:
    """The structure of the rendered files without hostile values."""
    return parse_rendered(root)


def parse_rendered(root: TutorRoot) -> dict[str, Any]:
    """The structure of all rendered files that have Usher's values: parsed, without the values.
    Raises AssertionError if the host names change anything else in the compose files."""
    env = root.env
    assert_hosts_are_entries(root)
    settings_files = sorted((env / "apps/openedx/settings/lms").glob("*.py"))
    dockerfile = (env / "build/openedx/Dockerfile").read_text().splitlines()
    lms_env = yaml.safe_load(root.lms_config.read_text())
    json.loads((root.lms_config.parent / "usher.json").read_text())
    return {
        "lms.env.yml": {key: type(value).__name__ for key, value in lms_env.items()},
        "python": {path.name: ast.dump(ast.parse(path.read_text())) for path in settings_files},
        "Dockerfile": sorted({line.split(" ")[0] for line in dockerfile if line[:1].isupper()}),
    }


def assert_hosts_are_entries(root: TutorRoot) -> None:
    """Each name of a host is one entry in the compose files, and nothing else in the services
    changes."""
    names = host_aliases({**configuration.DEFAULTS, **configuration.UNIQUE, **root.config()})
    for compose_file, service in compose.SERVICES.items():
        text = (root.env / compose_file).read_text()
        services = yaml.safe_load(compose.with_hosts(text, service, names))["services"]
        hosts = services[service].pop("extra_hosts")
        assert hosts == [f"{name}:host-gateway" for name in names]
        assert services == yaml.safe_load(text)["services"]


def with_value(place: str, value: str) -> dict[str, Any]:
    """The configuration that has the value at this place."""
    if place in ENTRY_FIELDS:
        return {"USHER_APPLICATIONS": [{**ENTRY, "backend_base": "ol-oauth2", place: value}]}
    return {place: [value] if place in LIST_KEYS else value}


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(place=places, value=hostile_values)
@example(place="backend", value="shop-oauth2\nimport os")
@example(
    place="USHER_HOST_ALIASES", value='shop.example:host-gateway"\n    privileged: true\n    #'
)
@example(place="USHER_REQUIREMENT", value="openedx-usher' ; touch MARK ; '")
@example(place="USHER_HOST_ALIASES", value="shop.example")
@pytest.mark.slow
def test_a_hostile_value_is_refused_or_rendered_as_one_value(
    root: TutorRoot, plain_structure: dict[str, Any], place: str, value: str
) -> None:
    attack_file = root.path.parent / "MARK"
    original_config = dict(root.config())
    try:
        root.configure(**with_value(place, value.replace("MARK", str(attack_file))))
        result = root.run("config", "save", check=False)
        assert not attack_file.exists()
        assert "Traceback" not in result.stderr
        if result.returncode == 0:
            structure = parse_rendered(root)
            assert structure["python"] == plain_structure["python"]
            assert set(structure["lms.env.yml"]) == set(plain_structure["lms.env.yml"])
            assert structure["Dockerfile"] == plain_structure["Dockerfile"]
        else:
            assert ADVICE in result.stderr + result.stdout
    finally:
        (root.path / "config.yml").write_text(yaml.safe_dump(original_config))


@pytest.mark.parametrize(
    "arguments",
    [
        ("usher-link", "--application", "shop", "--username", "{{ 7 * 7 }}"),
        ("usher-link", "--application", "shop", "--username", "ada", "{{ 7 * 7 }}"),
        ("usher-link", "--username", "ada", "--application", "{% set x = 1 %}"),
        ("usher-courses", "--owner", "{{ cycler }}@example.org"),
    ],
)
def test_template_code_in_the_arguments_of_a_job_is_refused(
    root: TutorRoot, arguments: tuple[str, ...]
) -> None:
    result = root.run("local", "do", *arguments, check=False)
    assert result.returncode != 0
    assert ADVICE in result.stderr


def test_the_error_about_a_further_username_names_the_option(root: TutorRoot) -> None:
    arguments = ("usher-link", "--application", "shop", "--username", "ada", "b;c")
    result = root.run("local", "do", *arguments, check=False)
    assert result.returncode != 0
    assert "Invalid value for '--username': --username is 'b;c'" in result.stderr

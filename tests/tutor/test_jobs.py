"""Jobs: real Tutor runs them, and a stand-in for Docker or Kubernetes records them."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.docker import ContainerEngine
from tests.support.docker.kubernetes import api_server
from tests.support.tutor import TutorRoot
from tests.support.tutor.environments import tutor_executable

MODES = ("local", "dev", "k8s")
#: The manage.py of the LMS in these tests.
MANAGE = """#!/bin/sh
# Records its arguments, and a copy of the description that it must read.
echo "manage.py $*" >> calls.txt
for last; do :; done  # sets last to the last argument
case "$last" in *usher.json) cp "$last" description.json;; esac
"""


@pytest.fixture
def lms(tmp_path: Path) -> Path:
    """An LMS folder whose manage.py only records its arguments."""
    folder = tmp_path / "lms"
    folder.mkdir()
    (folder / "manage.py").write_text(MANAGE)
    (folder / "manage.py").chmod(0o755)
    return folder


@pytest.fixture
def engine(tmp_path: Path, lms: Path) -> ContainerEngine:
    """Stand-ins for ``docker`` and ``kubectl``, which run jobs in the folder ``lms``."""
    return ContainerEngine.make(tmp_path / "engine", lms)


def secrets_of(root: TutorRoot) -> list[str]:
    description = root.description()
    assert description.service_worker is not None
    secrets = [root.config()["USHER_SECRET"], description.service_worker.token]
    for application in description.applications:
        secrets += [
            application.client_secret,
            application.oauth_client_secret,
            application.webhook_secret,
        ]
    return secrets


@pytest.mark.parametrize("mode", MODES)
def test_initialization_passes_the_description_as_a_file(
    rendered: Callable[..., TutorRoot],
    release: int,
    mode: str,
    engine: ContainerEngine,
    lms: Path,
) -> None:
    shared = rendered(release)
    with api_server(engine) as kubernetes:
        root = TutorRoot(release, shared.path, environment={**engine.environment, **kubernetes})
        if mode == "k8s":
            root.run("k8s", "start")
        result = root.run(mode, "do", "init", "--limit=usher")
    migrated, provisioned = (lms / "calls.txt").read_text().splitlines()
    assert migrated == "manage.py lms migrate usher_lms"
    assert provisioned.startswith("manage.py lms usher_provision --file ")
    passed_description = (lms / "description.json").read_text()
    assert passed_description == (root.lms_config.parent / "usher.json").read_text()
    # No secret is visible in a command line or in the output.
    command_lines = [" ".join(words) for words in engine.calls()]
    visible_text = "\n".join([*command_lines, result.stdout, result.stderr])
    assert [secret for secret in secrets_of(root) if secret in visible_text] == []


@pytest.mark.newest
@pytest.mark.parametrize(
    ("command", "manage_arguments"),
    [
        (("usher-provision", "--dry-run"), "lms usher_provision --file {} --dry-run"),
        (("usher-report",), "lms usher_report"),
        (("usher-remove", "--purge"), "lms usher_provision --file {} --remove --purge"),
        (
            ("usher-link", "--username", "ada", "--application", "mitxonline"),
            "lms usher_link --username ada --application mitxonline",
        ),
        (
            ("usher-link", "--username", "ada", "bob", "--application", "mitxonline"),
            "lms usher_link --username ada bob --application mitxonline",
        ),
        (
            ("usher-link", "--username", "a", "--application", "x", "--username", "b", "c"),
            "lms usher_link --username a b c --application x",
        ),
        (
            ("usher-link", "--username", "ada", "--application", "mitxonline", "--move"),
            "lms usher_link --username ada --application mitxonline --move",
        ),
        (
            ("usher-courses", "--owner", "edx@example.org"),
            "cms create_course split edx@example.org edX DemoX Demo_Course Demonstration Course",
        ),
    ],
)
def test_each_do_command_runs_its_management_command_in_the_lms(
    rendered: Callable[..., TutorRoot],
    release: int,
    command: tuple[str, ...],
    manage_arguments: str,
    engine: ContainerEngine,
    lms: Path,
) -> None:
    root = TutorRoot(release, rendered(release).path, environment=engine.environment)
    root.run("local", "do", *command)
    description = root.lms_config.parent / "usher.json"
    first_call = (lms / "calls.txt").read_text().splitlines()[0]
    assert first_call == "manage.py " + manage_arguments.format(description)


@pytest.mark.xdist_group("tutor-22")
def test_a_do_command_fails_if_its_job_fails(
    rendered: Callable[..., TutorRoot], engine: ContainerEngine, lms: Path
) -> None:
    (lms / "manage.py").write_text("#!/bin/sh\nexit 3\n")
    with api_server(engine) as kubernetes:
        environment = {**engine.environment, **kubernetes}
        root = TutorRoot(22, rendered(22).path, environment=environment)
        for mode in MODES:
            assert root.run(mode, "do", "usher-report", check=False).returncode != 0


@pytest.mark.xdist_group("tutor-22")
def test_the_stand_in_for_docker_refuses_unknown_calls(
    rendered: Callable[..., TutorRoot], engine: ContainerEngine
) -> None:
    root = TutorRoot(22, rendered(22).path, environment=engine.environment)
    unknown_service = root.run("local", "do", "sqlshell", check=False)
    assert unknown_service.returncode != 0
    unknown_command = root.run("local", "dc", "pause", check=False)
    assert "stand-in docker: no answer for: compose pause" in unknown_command.stderr


@pytest.mark.parametrize("release_with_smoke_tests", [21, 22])
def test_the_smoke_tests_of_tutor_include_those_of_the_plugin(
    release_with_smoke_tests: int,
) -> None:
    script = (
        "import usher.tutor.plugin; from tutor import hooks; "
        "print([path for service, suite, path in hooks.Filters.TESTS.iterate() "
        "if (service, suite) == ('lms', 'smoke')])"
    )
    python = tutor_executable(release_with_smoke_tests).parent / "python"
    result = subprocess.run(
        [python, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    assert "usher/tutor/smoke/test_usher.py" in result

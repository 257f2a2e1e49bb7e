"""The compose override and the Kubernetes manifest of the sidecar, and the command they run."""

import re
from pathlib import Path

import click
import pytest
import yaml

from usher.cli.main import main

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


class ComposeLoader(yaml.SafeLoader):
    """Reads compose files with the tags ``!reset`` and ``!override``."""


#: The value of a key with the tag ``!reset``, which removes the key of the extended service.
RESET = "reset"
ComposeLoader.add_constructor("!reset", lambda loader, node: RESET)
ComposeLoader.add_constructor(
    "!override", lambda loader, node: loader.construct_mapping(node, deep=True)
)


@pytest.fixture(scope="module")
def service():
    """The sidecar's service in the compose override."""
    compose = yaml.load((DEPLOY / "sidecar.compose.yml").read_text(), ComposeLoader)
    (service,) = compose["services"].values()
    return service


@pytest.fixture(scope="module")
def deployment_spec():
    """``spec`` of the Deployment in the Kubernetes manifest."""
    return yaml.safe_load((DEPLOY / "sidecar.kubernetes.yml").read_text())["spec"]


@pytest.fixture(scope="module")
def container(deployment_spec):
    """The sidecar's container in the Kubernetes manifest."""
    (container,) = deployment_spec["template"]["spec"]["containers"]
    return container


def parsed_options(words):
    """The options of this command line, as the ``usher`` command parses them. Of
    ``${NAME:-default}`` only the default is kept."""
    name, *rest = [re.sub(r"\$\{\w+:-(.*?)\}", r"\1", word) for word in words]
    command = main.get_command(click.Context(main), name)
    return command.make_context(name, rest).params


def test_the_compose_service_watches_the_application_and_extends_its_service_web(service):
    options = parsed_options(service["command"])
    assert options["watching"]
    assert options["application"] == "/src"
    assert options["manage"] == "python3 manage.py"
    assert service["extends"] == {"file": "docker-compose.yml", "service": "web"}
    assert service["restart"] == "unless-stopped"


def test_the_compose_override_publishes_no_port_and_waits_for_the_last_batch(service):
    assert service["ports"] == RESET
    assert service["stop_grace_period"] == "60s"


def test_the_sidecar_image_is_built_from_existing_files_and_starts_usher(service):
    build = service["build"]
    text = (DEPLOY.parent / build["dockerfile"]).read_text()
    for argument in build["args"]:
        assert f"ARG {argument}" in text
    assert service["entrypoint"] == ["/opt/usher/bin/usher"]
    for source in re.findall(r"^COPY (.+) \S+$", text, re.M):
        for name in source.split():
            assert (DEPLOY.parent / name).exists()


def test_the_kubernetes_manifest_runs_the_command_of_the_compose_override(service, container):
    assert parsed_options(container["args"]) == parsed_options(service["command"])
    assert container["command"] == service["entrypoint"]


def test_the_kubernetes_manifest_selects_its_pods_and_waits_for_the_last_batch(deployment_spec):
    pod = deployment_spec["template"]
    assert deployment_spec["selector"]["matchLabels"] == pod["metadata"]["labels"]
    assert pod["spec"]["terminationGracePeriodSeconds"] == 60


def test_the_compose_override_and_the_manifest_contain_no_secret(container):
    assert {"secretRef", "configMapRef"} == {
        key for source in container["envFrom"] for key in source
    }
    for name in ("sidecar.compose.yml", "sidecar.kubernetes.yml"):
        assert not re.search(
            r"(?i)(secret|token|password)\s*[:=]\s*['\"]?\w{8}", (DEPLOY / name).read_text()
        )

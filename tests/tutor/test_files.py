"""What lies in a root: secrets that only their owner reads, hosts in compose files."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.support.docker import ContainerEngine
from tests.support.tutor import TutorRoot
from usher.tutor import files

Rendered = Callable[..., TutorRoot]


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_are_readable_by_their_owner_alone(rendered: Rendered, release: int) -> None:
    root = rendered(release)
    description = root.lms_config.parent / "usher.json"
    assert mode_of(root.path / "config.yml") == 0o600
    if os.geteuid() in (0, files.CONTAINER_USER):
        # The container's user must be able to read it, too.
        assert (mode_of(description), description.stat().st_uid) == (0o600, files.CONTAINER_USER)


def test_secrets_are_in_no_other_file_that_usher_renders(rendered: Rendered, release: int) -> None:
    root = rendered(release)
    description = root.description()
    assert description.service_worker is not None
    application = description.applications[0]
    secrets = [
        root.config()["USHER_SECRET"],
        description.service_worker.token,
        application.client_secret,
        application.oauth_client_secret,
        application.webhook_secret,
    ]
    for path in root.env.rglob("*"):
        if path.is_file() and path.name != "usher.json":
            content = path.read_bytes()
            assert not [s for s in secrets if s.encode() in content], path


def test_another_user_than_the_containers_closes_the_folder_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files.os, "geteuid", lambda: 1234)
    monkeypatch.setattr(files.sys, "platform", "linux")
    (tmp_path / "config.yml").write_text("ID: x")
    files.protect_secrets(tmp_path)
    description = tmp_path / files.DESCRIPTION
    assert mode_of(description) == 0o644
    assert mode_of(description.parent.parent) == 0o700
    assert mode_of(description.parent) & 0o005 == 0o005, "the mounted folder stays open"


SERVICES = {
    "local": ("lms", "lms-worker", "lms-job"),
    "dev": ("lms", "lms-job"),
}


@pytest.mark.parametrize("mode", SERVICES)
def test_containers_find_the_applications_of_this_machine(
    own_root: TutorRoot, mode: str, tmp_path: Path
) -> None:
    own_root.configure(
        USHER_APPLICATIONS=[
            {"name": "mitxonline"},
            {"name": "shop", "root_url": "https://shop.example.org", "backend": "ol-oauth2"},
        ],
        USHER_HOST_ALIASES=["idp.example.org"],
    )
    own_root.run("config", "save")
    engine = ContainerEngine.make(tmp_path / "engine")
    own_root.environment.update(engine.environment)
    own_root.run(mode, "start", "--detach")
    expected = [
        f"{name}:host-gateway"
        for name in ("host.docker.internal", "mitxonline.odl.local", "idp.example.org")
    ]
    hosts = extra_hosts(own_root, mode)
    assert hosts == dict.fromkeys(SERVICES[mode], expected)
    # Again, and after Tutor has rendered them anew: neither doubled nor lost.
    own_root.run(mode, "start", "--detach")
    assert extra_hosts(own_root, mode) == hosts
    own_root.run("config", "save")
    own_root.run(mode, "restart")
    assert extra_hosts(own_root, mode) == hosts


def extra_hosts(root: TutorRoot, mode: str) -> dict[str, list[str]]:
    """extra_hosts of each service that has some, in the files that the mode uses."""
    places = ["local/docker-compose.yml", "local/docker-compose.jobs.yml"]
    places += ["local/docker-compose.prod.yml"] if mode == "local" else []
    found: dict[str, list[str]] = {}
    for place in places:
        for name, service in yaml.safe_load((root.env / place).read_text())["services"].items():
            if "extra_hosts" in service:
                found[name] = service["extra_hosts"]
    return found

"""Files in a Tutor root: who can read secrets, and hosts in compose files."""

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
        # The container's user must be able to read the file, too.
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
            assert not [secret for secret in secrets if secret.encode() in content], path


def test_the_folder_is_made_private_if_tutor_runs_as_another_user_than_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_user = files.CONTAINER_USER + 1
    monkeypatch.setattr(files.os, "geteuid", lambda: other_user)
    # On macOS the container's user can read all files of the user who runs Docker.
    monkeypatch.setattr(files.sys, "platform", "linux")
    (tmp_path / "config.yml").write_text("ID: x")
    files.protect_secrets(tmp_path)
    description = tmp_path / files.DESCRIPTION
    assert mode_of(description) == 0o644
    assert mode_of(description.parent.parent) == 0o700
    assert mode_of(description.parent) & 0o005 == 0o005, "the mounted folder stays open"


def test_containers_find_the_applications_of_this_machine(
    own_root: TutorRoot, tmp_path: Path
) -> None:
    public = {"name": "shop", "root_url": "https://shop.example.org", "backend": "ol-oauth2"}
    own_root.configure(
        USHER_APPLICATIONS=[{"name": "mitxonline"}, public],
        USHER_HOST_ALIASES=["idp.example.org"],
    )
    own_root.environment.update(ContainerEngine.make(tmp_path / "engine").environment)
    own_root.run("local", "start", "--detach")
    names = ("host.docker.internal", "mitxonline.odl.local", "idp.example.org")
    expected = [f"{name}:host-gateway" for name in names]
    hosts = dict.fromkeys(("lms", "lms-worker", "lms-job"), expected)
    assert extra_hosts(own_root) == hosts
    # A restart does not add the hosts twice. After Tutor has rendered the files, the hosts are
    # added again.
    own_root.run("local", "restart")
    assert extra_hosts(own_root) == hosts
    own_root.run("config", "save")
    own_root.run("dev", "start", "--detach")
    assert extra_hosts(own_root) == hosts


def extra_hosts(root: TutorRoot) -> dict[str, list[str]]:
    """Service → its extra_hosts in the compose files of ``local``, which dev mode uses, too."""
    hosts: dict[str, list[str]] = {}
    for path in (root.env / "local").glob("docker-compose*.yml"):
        for name, service in yaml.safe_load(path.read_text())["services"].items():
            if "extra_hosts" in service:
                hosts[name] = service["extra_hosts"]
    return hosts

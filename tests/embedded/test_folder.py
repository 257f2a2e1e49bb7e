"""The folder of an LMS, its commands and its settings."""

import errno
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from usher.embedded.home import folder as folders
from usher.embedded.home.process import free_port

ROOT_URL = "http://lms.example:8000"


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs Python with these arguments. environment: variables to add to the tests' own."""
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )


@pytest.fixture(scope="module")
def lms_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new LMS folder, created by the command ``init``. The LMS is not served."""
    folder = tmp_path_factory.mktemp("lms") / "home"
    result = run(
        *("-m", "usher.embedded", "init", str(folder), "--root-url", ROOT_URL, "--cheap-passwords"),
        *("--application-url", "http://app.example:8013"),
    )
    assert result.returncode == 0, result.stderr
    return folder


def test_files_with_secrets_are_readable_by_their_owner_only(lms_folder: Path) -> None:
    for name in ("lms.secrets.json", "lms.env.yml", "db.sqlite3"):
        assert stat.S_IMODE((lms_folder / name).stat().st_mode) == 0o600, name


def test_management_commands_run_with_and_without_the_word_lms(lms_folder: Path) -> None:
    manage = str(lms_folder / "manage.py")
    with_word = run(manage, "lms", "print_setting", "LMS_ROOT_URL")
    without_word = run(manage, "print_setting", "IDA_LOGOUT_URI_LIST")
    assert with_word.stdout.strip() == ROOT_URL
    assert without_word.stdout.strip() == "['http://app.example:8013/logout/']"
    # A command's exit code and error reach the caller.
    unknown = run(manage, "print_setting", "NO_SUCH_SETTING")
    assert unknown.returncode == 1
    assert "NO_SUCH_SETTING not found" in unknown.stderr


def test_a_file_named_by_lms_cfg_overrides_settings(lms_folder: Path, tmp_path: Path) -> None:
    overlay = tmp_path / "lms.env.yml"
    features = {"ENABLE_AUTHN_MICROFRONTEND": True}
    overlay.write_text(yaml.safe_dump({"FEATURES": features, "PLATFORM_NAME": "Tested"}))
    names = ("FEATURES", "PLATFORM_NAME", "LMS_ROOT_URL")
    result = run(str(lms_folder / "manage.py"), "print_setting", *names, LMS_CFG=str(overlay))
    features_line, platform, root = result.stdout.splitlines()
    assert "'ENABLE_AUTHN_MICROFRONTEND': True" in features_line
    assert "'ENABLE_THIRD_PARTY_AUTH': True" in features_line  # a default stays
    assert (platform, root) == ("Tested", ROOT_URL)


def test_creating_the_folder_again_keeps_its_secrets_and_data(lms_folder: Path) -> None:
    secrets = (lms_folder / "lms.secrets.json").read_bytes()
    folders.manage(lms_folder, "seed_courses")
    folders.make(lms_folder, folders.Plan(root_url="http://lms.example:9000"))
    assert (lms_folder / "lms.secrets.json").read_bytes() == secrets
    script = (
        "from django.contrib.sites.models import Site\n"
        "from usher.embedded.course_overviews.models import CourseOverview\n"
        "print(CourseOverview.objects.count(), *Site.objects.order_by('id').values_list())"
    )
    output = folders.manage(lms_folder, "shell", "--no-imports", "-c", script).strip()
    # The two course runs are kept; site 2 has the new address.
    assert (
        output == "2 (1, 'example.com', 'example.com') (2, 'lms.example:9000', 'lms.example:9000')"
    )


@pytest.mark.parametrize("address", ["lms.example:8000", "ftp://lms.example", "http://"])
def test_a_malformed_root_url_is_refused(tmp_path: Path, address: str) -> None:
    result = run("-m", "usher.embedded", "init", str(tmp_path / "x"), "--root-url", address)
    assert result.returncode == 1
    assert "is not an address" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "x").exists()


def test_serving_a_folder_without_an_lms_is_refused(tmp_path: Path) -> None:
    result = run("-m", "usher.embedded", "serve", str(tmp_path))
    assert result.returncode == 1
    assert "python -m usher.embedded init" in result.stderr
    assert "Traceback" not in result.stderr


def test_replaying_a_folder_without_recordings_is_refused(tmp_path: Path) -> None:
    result = run("-m", "usher.embedded", "replay", str(tmp_path))
    assert result.returncode == 2
    assert "there are no recordings" in result.stderr


def test_the_worker_process_ends_when_its_server_process_is_killed(tmp_path: Path) -> None:
    folders.make(tmp_path, folders.Plan(root_url=ROOT_URL, plugins=(), cheap_passwords=True))
    port = free_port()
    command = [sys.executable, "-m", "usher.embedded", "serve", str(tmp_path), "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: listens(port))
        server.kill()
        server.wait()
        wait_until(lambda: not listens(port))
    finally:
        server.kill()
        server.wait()


def listens(port: int) -> bool:
    """Whether a program of this machine listens on the port."""
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def wait_until(condition: Callable[[], bool], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"the condition is still false after {seconds} s"
        time.sleep(0.05)


def test_an_incomplete_copy_of_the_database_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error such as a full disk may interrupt the copy. The next process must not use the
    incomplete database."""

    def copy_in_part(source: Path, target: Path) -> None:
        target.write_bytes(b"SQLite format 3")
        raise OSError(errno.ENOSPC, "No space left on device")

    plan = folders.Plan(root_url=ROOT_URL)
    with monkeypatch.context() as patch:
        patch.setattr("usher.embedded.home.template.shutil.copyfile", copy_in_part)
        with pytest.raises(
            folders.FolderError, match=r"db\.sqlite3 can't be created.*No space left"
        ):
            folders.write(tmp_path, plan)
    assert list(tmp_path.glob("db.sqlite3*")) == []
    folders.write(tmp_path, plan)
    database = tmp_path / "db.sqlite3"
    assert database.stat().st_size > 100_000  # a whole migrated database
    assert stat.S_IMODE(database.stat().st_mode) == 0o600

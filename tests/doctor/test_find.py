"""How doctor finds the application and the LMS, and what it passes to their programs."""

import fcntl
import json
import sys
from pathlib import Path

import pytest

from usher.contract.temporary_learners import is_temporary_learner, new_username
from usher.doctor.check import Status
from usher.doctor.checks.env import EnvFileIsUnambiguous
from usher.doctor.context import look_at
from usher.doctor.find import DoctorOptions, NotFoundError, places
from usher.doctor.fixes import CONNECT, LMS_LOGS, PROVISION, RESTART, fitted

TELLS = "import json, os; print(json.dumps([os.environ['TOLD'], os.environ['KEPT']]))"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("USHER_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("KEPT", "from the environment")
    (tmp_path / "manage.py").write_text("")
    (tmp_path / ".env").write_text("TOLD=yes\nKEPT=\n")
    return tmp_path


def test_an_application_without_containers_is_given_its_env_file(checkout: Path):
    manage = places(DoctorOptions(application=str(checkout), manage=sys.executable)).manage
    assert manage is not None
    assert manage.output("-c", TELLS).strip() == '["yes", "from the environment"]'
    assert "TOLD" not in manage.shown("shell")


def test_containers_read_their_env_file_themselves(checkout: Path):
    given = "docker compose exec -T web ./manage.py"
    manage = places(DoctorOptions(application=str(checkout), manage=given)).manage
    assert manage is not None
    assert manage.env_file is None


def test_accounts_of_test_learners_are_distinguished_from_others():
    assert is_temporary_learner(new_username("usher-test"))
    assert is_temporary_learner("doctor-547c5879")
    assert not any(map(is_temporary_learner, ("doctor-who", "usher-test-", "xdoctor-547c5879")))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project for which ``usher dev`` was run."""
    monkeypatch.setenv("USHER_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "shop"
    home = folder / ".usher" / "dev"
    (home / "lms").mkdir(parents=True)
    for path in (folder / "manage.py", home / "lms" / "manage.py", home / "lock"):
        path.touch()
    (home / "env").write_text(
        "export OPENEDX_BASE_REDIRECT_URL='http://127.0.0.1:18000'\n"
        "export LOGOUT_REDIRECT_URL=''\nexport SITE_BASE_URL=http://localhost:8000\n"
    )
    (home / "prepared.json").write_text(json.dumps({"project": str(folder)}))
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("named", ["", ".", ".usher/dev"])
def test_an_lms_of_usher_dev_is_found(project: Path, named: str):
    found = places(DoctorOptions(application=named))
    assert found.dev_home == project / ".usher" / "dev"
    assert found.application_url == "http://localhost:8000"
    assert found.lms_url == "http://127.0.0.1:18000"
    assert found.manage and found.manage.folder == project
    assert found.lms_manage and found.lms_manage.folder == project / ".usher" / "dev" / "lms"


def test_usher_dev_in_another_folder_knows_its_project(project: Path, tmp_path: Path):
    elsewhere = (project / ".usher" / "dev").rename(tmp_path / "home")
    found = places(DoctorOptions(application=str(elsewhere)))
    assert found.manage and found.manage.folder == project
    with look_at(found) as context:
        assert fitted(PROVISION, context) == f"usher dev {project} --home {elsewhere} --provision"


def test_a_project_with_an_env_file_is_that_one_s_unless_usher_dev_is_running(project: Path):
    (project / ".env").touch()
    assert places(DoctorOptions()).env_file == project / ".env"
    with (project / ".usher" / "dev" / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert places(DoctorOptions()).dev_home
        assert places(DoctorOptions(application=".")).dev_home


def test_another_lms_is_not_that_of_usher_dev(project: Path):
    found = places(DoctorOptions(application=".", lms_url="http://lms.example.org"))
    assert (found.dev_home, found.lms_url) == (None, "http://lms.example.org")


def test_fixes_of_usher_dev(project: Path):
    with look_at(places(DoctorOptions())) as context:
        assert fitted(CONNECT, context) == f"usher dev {project} --provision"
        assert fitted(LMS_LOGS, context) == f"tail -n 100 {project}/.usher/dev/lms.log"
        assert fitted(RESTART, context) == "stop `usher dev` with Ctrl-C and start it again"


def test_quotes_in_what_usher_dev_wrote_are_no_problem(project: Path):
    with look_at(places(DoctorOptions())) as context:
        assert EnvFileIsUnambiguous().probe(context).status is Status.OK
    (project / ".env").write_text("OPENEDX_API_BASE_URL='http://lms.example.org'\n")
    with look_at(places(DoctorOptions())) as context:
        assert EnvFileIsUnambiguous().probe(context).status is Status.WARNING


def test_a_project_without_an_lms_reads_two_ways_to_get_one(project: Path):
    (project / ".usher" / "dev" / "prepared.json").unlink()
    with pytest.raises(NotFoundError, match=r"usher dev.*usher connect"):
        places(DoctorOptions())

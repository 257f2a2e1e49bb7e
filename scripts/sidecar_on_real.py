"""Runs the sidecar with a checkout of MITx Online or MIT xPro and an embedded LMS.

    MITXONLINE=~/mitxonline python scripts/sidecar_on_real.py mitxonline [--learners 50] [--plugin]

``MITXONLINE`` or ``MITXPRO``: the checkout, with a migrated database of its own, to which
this adds learners.
``MITXONLINE_MANAGE`` or ``MITXPRO_MANAGE``: the command that runs its manage.py, by default with
``.venv/bin/python``. The checkout's files are not changed. Without ``--plugin`` the LMS has no
``usher.lms``, and all goes through its public APIs. Prints the duration of each step; exits with 1
if a step failed.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import httpx
from tests.support.checkout import free_port
from tests.support.lms_process import (
    LMS_CLIENT_ID,
    LMS_CLIENT_SECRET,
    LmsProcess,
    lms_process,
)

from usher.contract import exits
from usher.contract.envfile import EnvFile

#: The setting with the application's own address.
BASE_URL = {"mitxonline": "MITX_ONLINE_BASE_URL", "mitxpro": "MITXPRO_BASE_URL"}
#: The mode in which each application enrolls learners by default.
MODE = {"mitxonline": "audit", "mitxpro": "no-id-professional"}
#: The application's own command that creates missing accounts and tokens.
REPAIR = "repair_missing_courseware_records"

#: Registers the LMS's OAuth client in the application, and removes what an earlier LMS left.
PREPARE = """
from django.apps import apps
from oauth2_provider.models import Application
from users.models import User
# Rows of an earlier execution of this script, whose LMS no longer exists.
User.objects.filter(username__startswith="real").update(is_active=False)
for name in ("openedx.OpenEdxUser", "openedx.OpenEdxApiAuth", "courseware.CoursewareUser",
             "courseware.OpenEdxApiAuth"):
    if apps.is_installed(name.split(".")[0]):
        apps.get_model(name).objects.all().delete()
Application.objects.filter(name="edx-oauth-app").delete()
Application.objects.create(name="edx-oauth-app", client_id={id!r}, client_secret={secret!r},
    client_type="confidential", authorization_grant_type="authorization-code",
    skip_authorization=True, redirect_uris={uri!r})
"""
#: They are two days old, because the sidecar leaves new rows to the application.
CREATE_LEARNERS = """
from datetime import timedelta
from django.utils import timezone
from courses.models import Course, CourseRun, CourseRunEnrollment
from users.models import LegalAddress, User
old = timezone.now() - timedelta(days=2)
platform_field = dict()
if {edition!r} == "mitxpro":
    from courses.models import Platform
    platform_field["platform"] = Platform.objects.get_or_create(name="xPRO")[0]
course, _ = Course.objects.get_or_create(
    readable_id={course!r}.rpartition("+")[0],
    defaults=dict(title="A course", live=True, **platform_field))
run, _ = CourseRun.objects.get_or_create(courseware_id={course!r},
    defaults=dict(course=course, title="An old title", run_tag="real", live=True,
                  start_date=timezone.now() + timedelta(days=9)))
for number in range({count}):
    name = "{stem}%d" % number
    user = User.objects.create_user(name, email=name + "@example.org", password=None)
    User.objects.filter(pk=user.pk).update(
        is_active=True, name="Name " + name, created_on=old, last_login=old)
    address, _ = LegalAddress.objects.get_or_create(user=user)
    LegalAddress.objects.filter(pk=address.pk).update(country="US")
    row = CourseRunEnrollment.all_objects.create(user=user, run=run)
    CourseRunEnrollment.all_objects.filter(pk=row.pk).update(created_on=old)
"""
#: Makes a course run of the LMS offer the mode, and prints its key.
OFFER_COURSE = """
from usher.embedded.course_modes.models import CourseMode
course = CourseMode.objects.order_by("pk").first().course_id
CourseMode.objects.get_or_create(course_id=course, mode_slug={mode!r},
    defaults={{"mode_display_name": "A mode"}})
print(course)
"""


@dataclass
class Checkout:
    """A checkout of the application. manage: the command that runs its manage.py.

    env: environment variables of ``command``. env_file: a file with the application's settings,
    which ``usher`` gets in place of ``env``."""

    edition: str
    folder: Path
    manage: str
    env_file: Path
    env: Mapping[str, str]

    def command(self, *arguments: str, text: str = "", may_fail: bool = False) -> str:
        """Runs a management command and returns its output. text: its standard input. may_fail:
        returns the error output of a failed command; otherwise this raises SystemExit."""
        result = subprocess.run(
            [*shlex.split(self.manage), *arguments],
            cwd=self.folder,
            env=dict(self.env),
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode and may_fail:
            return result.stderr
        if result.returncode:
            raise SystemExit(
                f"{arguments[0]} failed:\n{result.stdout[-2000:]}\n{result.stderr[-4000:]}"
            )
        return result.stdout

    def usher(self, *arguments: str) -> Any:
        """Runs ``usher`` and returns its JSON; prints how many seconds it took."""
        started = time.monotonic()
        options = ["--application", str(self.folder), "--manage", self.manage, "--json"]
        options += ["--edition", self.edition, "--env-file", str(self.env_file)]
        result = subprocess.run(
            [sys.executable, "-m", "usher.cli.main", arguments[0], *options, *arguments[1:]],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if result.returncode not in (exits.DONE, exits.FAILED):
            raise SystemExit(f"usher {' '.join(arguments)} ended with {result.returncode}")
        data = json.loads(result.stdout)
        print(f"{time.monotonic() - started:7.1f} s  usher {' '.join(arguments)}", flush=True)
        return data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("edition", choices=sorted(BASE_URL))
    parser.add_argument("--learners", type=int, default=50)
    parser.add_argument("--plugin", action="store_true")
    parser.add_argument("--port", type=int, default=0, help="port of the application's server")
    arguments = parser.parse_args()
    folder = os.environ.get(arguments.edition.upper())
    if not folder:
        raise SystemExit(f"Set {arguments.edition.upper()} to the folder of the checkout.")
    port = arguments.port or free_port()
    with (
        lms_process(with_plugin=arguments.plugin) as lms,
        tempfile.TemporaryDirectory() as temporary,
    ):
        url = f"http://127.0.0.1:{port}"
        if arguments.plugin:
            lms.connect_with_plugin(url)
        else:
            lms.connect_without_plugin(url)
        checkout = connect(arguments.edition, Path(folder).expanduser(), url, lms, Path(temporary))
        server = subprocess.Popen(
            [*shlex.split(checkout.manage), "runserver", "--noreload", f"127.0.0.1:{port}"],
            cwd=checkout.folder,
            env=dict(checkout.env),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_for(url, server)
            reconcile_and_report(checkout, lms, arguments.learners)
        finally:
            server.kill()
            server.wait()


def connect(edition: str, folder: Path, url: str, lms: LmsProcess, temporary: Path) -> Checkout:
    """Connects the checkout: writes settings into its environment, and the LMS's OAuth client into
    its tables."""
    values = {name: str(value) for name, value in lms.application_settings(url).items()}
    values[BASE_URL[edition]] = values.pop("SITE_BASE_URL")
    values_in_env = EnvFile.read(folder / ".env").values()
    env_file = temporary / "connected.env"
    # The caller's environment takes precedence over the checkout's file.
    values_of_caller = {name: os.environ[name] for name in values_in_env if name in os.environ}
    merged = {**values_in_env, **values_of_caller, **values}
    lines = [f"{name}={value}\n" for name, value in merged.items() if value]
    env_file.touch(0o600)
    env_file.write_text("".join(lines))
    manage = os.environ.get(f"{edition.upper()}_MANAGE", ".venv/bin/python manage.py")
    checkout = Checkout(
        edition=edition,
        folder=folder,
        manage=manage,
        env_file=env_file,
        env={**os.environ, **merged},
    )
    oauth_client = {"id": LMS_CLIENT_ID, "secret": LMS_CLIENT_SECRET, "uri": lms.redirect_uri}
    checkout.command("shell", text=PREPARE.format(**oauth_client))
    return checkout


def wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    """Waits until the application's server answers. Raises SystemExit if it ended, or after five
    minutes."""
    deadline = time.monotonic() + 300
    while True:
        try:
            httpx.get(url + "/api/users/me", trust_env=False, timeout=60)
        except httpx.TransportError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("the application's server did not start") from None
            time.sleep(0.2)
        else:
            return


def reconcile_and_report(checkout: Checkout, lms: LmsProcess, count: int) -> None:
    """Creates learners without account and token, each enrolled in a run with an outdated title.
    Reconciles twice and prints what happened. Raises SystemExit if accounts or enrollments are
    missing in the LMS, or still due, afterwards.
    """
    course = lms.shell(OFFER_COURSE.format(mode=MODE[checkout.edition]))
    stem = f"real{int(time.time())}x"
    script = CREATE_LEARNERS.format(edition=checkout.edition, course=course, count=count, stem=stem)
    checkout.command("shell", text=script)

    drift = checkout.usher("drift")
    print(f"           {len(drift['differences'])} differences, {len(drift['given_up'])} given up")
    print(f"           due: {checkout.usher('reconcile', '--dry-run')['due']}")
    first = checkout.usher("reconcile")
    print(f"           {json.dumps(first['kinds'])}")
    for reason in first["reasons"][:5]:
        print(f"           {reason}")
    second = checkout.usher("reconcile")
    print(f"           again: {json.dumps(second['kinds'])}")

    counts_in_lms = lms.shell(
        "from django.contrib.auth import get_user_model\n"
        "from usher.embedded.student.models import CourseEnrollment\n"
        f"users = list(get_user_model().objects.filter(username__startswith={stem!r}))\n"
        "print(len(users), CourseEnrollment.objects.filter(user__in=users, is_active=True).count())"
    )
    print(f"           the LMS has {counts_in_lms} (accounts, enrollments) of {count}")
    repair_output = checkout.command(REPAIR, may_fail=True)
    print(f"           {REPAIR} afterwards: {repair_output.strip().splitlines()[-1:] or 'nothing'}")
    # Runs may stay due, because MIT xPro refuses those that have ended. Accounts and enrollments
    # may not.
    still_due = {"account", "enrollment"} & set(second["kinds"])
    all_are_in_lms = counts_in_lms.split() == [str(count), str(count)]
    if still_due or not all_are_in_lms:
        raise SystemExit("accounts or enrollments are missing in the LMS, or still due")


if __name__ == "__main__":
    main()

"""An embedded LMS in a temporary folder, served by another process."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.django_process import DjangoProcess
from usher.embedded.home import folder as folders
from usher.embedded.home.process import free_port, running_lms

#: Settings that switch rate limits off: all tests have the same IP address.
NO_LIMITS = {
    "API_THROTTLE_RATES": {
        family: {"user": None, "staff": None} for family in ("course_list", "enrollment")
    },
    "REGISTRATION_RATELIMIT": None,
    "REGISTRATION_VALIDATION_RATELIMIT": None,
    "LOGIN_AND_REGISTER_FORM_RATELIMIT": None,
    "LOGISTRATION_RATELIMIT_RATE": None,
    "RATELIMIT_RATE": None,
}


@dataclass(frozen=True)
class ServedLms:
    """A served LMS. folder: its files. url: its address. django: runs scripts and commands of the
    LMS in one process."""

    folder: Path
    url: str
    django: DjangoProcess


def make_lms(folder: Path, plan: folders.Plan, *commands: Sequence[str]) -> DjangoProcess:
    """Creates an LMS and runs these management commands in it. The caller closes the result."""
    folders.write(folder, plan)
    django = DjangoProcess(folder)
    for command in (folders.PREPARE, *commands):
        django.command(*command).checked()
    return django


@contextmanager
def served_lms(
    *seeding: str,
    plugins: tuple[str, ...] = ("usher",),
    features: dict[str, Any] | None = None,
    **settings: Any,
) -> Iterator[ServedLms]:
    """Creates an LMS, serves it and deletes it afterwards. seeding: words of the management command
    that fills its database. plugins, features, settings: as in ``folders.Plan``."""
    temporary_folder = Path(tempfile.mkdtemp(prefix="usher-lms-"))
    folder, port = temporary_folder / "lms", free_port()
    plan = folders.Plan(
        root_url=f"http://127.0.0.1:{port}",
        plugins=plugins,
        features=features or {},
        # Seconds that the LMS waits for the application: many, since other tests may keep the
        # machine busy.
        settings={"SOCIAL_AUTH_REQUESTS_TIMEOUT": 90, **settings},
        cheap_passwords=True,
    )
    commands = [seeding] if seeding else []
    try:
        with (
            closing(make_lms(folder, plan, *commands)) as django,
            running_lms(folder, port) as url,
        ):
            yield ServedLms(folder, url, django)
    finally:
        shutil.rmtree(temporary_folder, ignore_errors=True)

"""Python processes for tests that start in a third of the time: they are forked, not begun.

A test starts hundreds of commands and servers, and most of what each takes is importing Django and
its kind. Here a process imports them once and forks. What is forked is a process of its own, with
the arguments, environment, streams and folder it was given; it is ended with the one that stands
for it, and Python itself is run for what can't be forked.
"""

import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

#: Environment: the folder of a run's servers. Without it Python is Python.
RUN = "USHER_FORKSERVERS"
_HERE = Path(__file__).parent
_START_SECONDS = 5.0
#: Python as it is, for tests that are about how a process starts.
PYTHON = sys.executable
#: What most processes of both sides import. None of it asks for Django's settings.
MODULES = (
    "asyncio",
    "attr",
    "celery",
    "celery.app.backends",
    "celery.utils.term",
    "click",
    "cryptography.x509",
    "dateutil.parser",
    "django.contrib.admin.options",
    "django.contrib.admin.sites",
    "django.contrib.postgres.fields",
    "django.core.management.commands.runserver",
    "django.db.backends.sqlite3.base",
    "django.db.migrations.autodetector",
    "django.db.models",
    "django.template.defaulttags",
    "django.test",
    "django.urls",
    "django_countries.fields",
    "dotenv",
    "drf_spectacular.utils",
    "edx_django_utils.monitoring",
    "granian",
    "httpx",
    "jwcrypto.jwk",
    "jwcrypto.jwt",
    "jwt",
    "kombu.utils.collections",
    "oauth2_provider.validators",
    "oauthlib.oauth2",
    "openedx_events.content_authoring.data",
    "openedx_events.data",
    "openedx_events.enterprise.data",
    "openedx_events.event_bus",
    "openedx_events.learning.data",
    "psutil",
    "psycopg",
    "requests",
    "rest_framework.serializers",
    "rich",
    "semantic_version",
    "social_core.backends.oauth",
    "social_core.storage",
    "stevedore",
    "structlog",
    "uritemplate",
    "yaml",
)


@contextmanager
def servers() -> Iterator[dict[str, str]]:
    """Environment in which tests find servers, for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="usher-forks-") as run:
        Path(run, "owner").write_text(str(os.getpid()))
        yield {RUN: run}


def forking(python: Path, modules: Sequence[str] = MODULES, scripts: Sequence[str] = ()) -> Path:
    """What to run instead of ``python``: itself where there is no run or no way to fork.

    modules: imported before; scripts: names of scripts beside ``python`` that it interprets, and
    that are beside what is returned, too.
    """
    run = os.environ.get(RUN)
    if not run or sys.platform != "linux":  # elsewhere a script can't interpret scripts
        return python
    folder = Path(run) / hashlib.sha256(str(python).encode()).hexdigest()[:8]
    forked = folder / "bin/python"
    with folder.with_suffix(".lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not folder.exists():
            _start(python, folder, modules)
            for script in scripts:
                text = python.with_name(script).read_text()
                _executable(folder / "bin" / script, text.replace(str(python), str(forked)))
    return forked


def _start(python: Path, folder: Path, modules: Sequence[str]) -> None:
    launcher = folder / "bin/python"
    launcher.parent.mkdir(parents=True)
    _executable(launcher, f"#!{python} -ISE\n{(_HERE / 'launcher.py').read_text()}")
    (launcher.parent / "python3").symlink_to("python")
    with (folder / "log").open("w") as log:
        subprocess.Popen(
            [python, _HERE / "server.py", folder, *modules],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    deadline = time.monotonic() + _START_SECONDS
    while not (folder / "socket").exists() and time.monotonic() < deadline:
        time.sleep(0.01)


def _executable(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)

"""The engine is a separate package, which works without the application."""

from __future__ import annotations

import subprocess
import sys

import pytest
from celery import current_app
from scripts.circles import _circle

from usher.engine import registry

#: Imports every module of the engine in a project without other packages of Usher.
SCRIPT_WITHOUT_OTHER_PACKAGES = """
import importlib, pkgutil, sys
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "usher.engine"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField", USE_TZ=True,
)
import django
django.setup()
import usher.engine
for module in pkgutil.walk_packages(usher.engine.__path__, "usher.engine."):
    importlib.import_module(module.name)
from django.core.management import call_command
call_command("makemigrations", "--check", "--dry-run", "usher_engine", verbosity=0)
call_command("migrate", verbosity=0)
packages = {name.split(".")[1] for name in sys.modules if name.startswith("usher.")}
print(sorted(packages))
"""


def test_the_engine_imports_only_the_contract():
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT_WITHOUT_OTHER_PACKAGES],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert result.stdout.strip() == "['contract', 'engine']"


@pytest.mark.parametrize("name", ["work", "work_share", "sweep", "sync_all_runs"])
def test_celery_tasks_are_also_registered_under_their_former_names(name):
    import usher.application.tasks  # noqa: F401 - registers the tasks

    assert f"usher.application.engine.tasks.{name}" in current_app.tasks


def test_kinds_are_registered_in_the_order_in_which_they_are_processed():
    names = registry.kind_names()
    assert names.index("account") < names.index("token") < names.index("enrollment")
    assert [kind.name for kind in registry.all_kinds().values()] == list(names)


def test_circle_finds_files_that_import_each_other():
    assert _circle({"a": ["b", "c"], "b": ["c"], "c": []}) == []
    assert _circle({"a": ["b"], "b": ["c"], "c": ["b"]}) == ["b", "c", "b"]

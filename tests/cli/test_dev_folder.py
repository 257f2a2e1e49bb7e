"""The folder of ``usher dev`` is readable by its owner only; the project's files are not
changed."""

import stat
from pathlib import Path

import pytest

from usher.cli.demo.errors import DemoError
from usher.cli.dev.project import Project
from usher.cli.dev.project_with_lms import ProjectWithLms
from usher.embedded.home.process import free_port


def test_it_is_closed_to_others_and_touches_nothing_of_the_project(tmp_path: Path) -> None:
    (tmp_path / "manage.py").write_text("")
    (tmp_path / ".gitignore").write_text("build/\n")
    home = tmp_path / "lms"
    home.mkdir(mode=0o755)
    servers = ProjectWithLms(Project.at(tmp_path), home, free_port(), free_port())
    try:
        servers.open()
    finally:
        servers.stop()
    assert (tmp_path / ".gitignore").read_text() == "build/\n"
    assert (home / ".gitignore").read_text() == "*\n"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in home.iterdir()
        if path.name not in (".gitignore", "lock")
    }
    assert len(modes) >= 3
    assert set(modes.values()) == {0o600}, modes


def test_a_user_model_without_migrations_is_named_before_anything_is_made(tmp_path: Path) -> None:
    """``migrate`` would create the admin's tables and then fail, also at every later attempt."""
    (tmp_path / "people").mkdir()
    (tmp_path / "people" / "__init__.py").touch()
    (tmp_path / "people" / "models.py").write_text(
        "from django.contrib.auth.models import AbstractUser\nclass User(AbstractUser):\n    pass\n"
    )
    (tmp_path / "settings.py").write_text(
        "SECRET_KEY = 'x' * 50\nROOT_URLCONF = 'urls'\nAUTH_USER_MODEL = 'people.User'\n"
        "INSTALLED_APPS = ['people', 'django.contrib.auth', 'django.contrib.contenttypes',\n"
        "    'django.contrib.sessions']\n"
        "DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': 'db.sqlite3'}}\n"
        "LOGIN_URL = '/login/'\nDEBUG = True\n"
        "from usher.application import defaults\ndefaults.apply(globals())\n"
    )
    (tmp_path / "urls.py").write_text(
        "from django.urls import include, path\n"
        "urlpatterns = [path('', include('usher.application.urls'))]\n"
    )
    (tmp_path / "manage.py").write_text(
        "import os, sys\nos.environ['DJANGO_SETTINGS_MODULE'] = 'settings'\n"
        "from django.core.management import execute_from_command_line\n"
        "execute_from_command_line(sys.argv)\n"
    )
    servers = ProjectWithLms(Project.at(tmp_path), tmp_path / "lms", free_port(), free_port())
    try:
        servers.open()
        _, look = next(servers.steps(recheck=False))
        with pytest.raises(DemoError, match=r"Run: python manage.py makemigrations people"):
            look()
    finally:
        servers.stop()
    assert not (tmp_path / "db.sqlite3").exists()

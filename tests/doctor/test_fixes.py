"""Fixes fit the application and the LMS, and commands in them can be copied into a shell."""

import fcntl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from usher.contract.application_report import ApplicationReport, Celery
from usher.doctor import fixes
from usher.doctor.context import Context, Places, create_context
from usher.doctor.facts.commands import Command
from usher.doctor.fixes import adapt, is_command, split_into_commands

#: All placeholders of fixes.
PLACEHOLDERS = [
    value
    for name, value in vars(fixes).items()
    if name.isupper() and isinstance(value, str) and value.startswith("<")
]


@pytest.mark.parametrize(
    "fix",
    [
        "tutor config save",
        "tutor plugins enable usher && tutor config save && tutor local reboot",
        "(cd '/srv/mitx online' && docker compose run --rm web ./manage.py reconcile --recheck)",
        "DEBUG=1 /usr/bin/python3 manage.py reconcile --watch",
        "./manage.py lms shell -c \"from a import b; b().filter(username='w').update(c=False)\"",
        "echo 127.0.0.1 lms.example | sudo tee -a /etc/hosts",
        "usher doctor --tutor-root <the root of that LMS>",
        "export TUTOR_ROOT='/root (old)'",
    ],
)
def test_a_single_command_line_is_a_command(fix: str) -> None:
    assert is_command(fix)


@pytest.mark.parametrize(
    "fix",
    [
        "",
        "publish it in Studio, or clear 'offered to learners' in the application",
        "remove the cause, then ./manage.py reconcile --recheck --wait 60",
        "./manage.py lms usher_link --username NAME (on the LMS)",
        "when it is the same person: ./manage.py lms usher_link --username NAME",
        "OPENEDX_API_BASE_URL=http://lms.example in .env, then docker compose up -d",
        "tutor local logs --tail=100 lms; usher disconnect restores the LMS's own sign-in",
        "granian --interface wsgi --blocking-threads 16, or gunicorn --threads 16",
        "stop `usher dev` with Ctrl-C and start it again",
        "export",
    ],
)
def test_a_fix_with_words_around_a_command_is_no_command(fix: str) -> None:
    assert not is_command(fix)


@pytest.mark.parametrize(
    ("fix", "expected"),
    [
        ("tutor config save", [("tutor config save", True)]),
        (
            "remove the cause, then (cd /srv/shop && ./manage.py reconcile --recheck)",
            [
                ("remove the cause, then", False),
                ("(cd /srv/shop && ./manage.py reconcile --recheck)", True),
            ],
        ),
        (
            "tail -n 100 lms.log; to restore the LMS's own sign-in: usher disconnect",
            [
                ("tail -n 100 lms.log", True),
                ("to restore the LMS's own sign-in:", False),
                ("usher disconnect", True),
            ],
        ),
        (
            "git rm --cached .env && echo .env >> .gitignore, then make new secrets",
            [
                ("git rm --cached .env && echo .env >> .gitignore", True),
                ("then make new secrets", False),
            ],
        ),
        (
            "usher connect, then ./manage.py reconcile --recheck",
            [("usher connect", True), ("then", False), ("./manage.py reconcile --recheck", True)],
        ),
        (
            "./manage.py lms usher_link --username NAME (on the LMS)",
            [("./manage.py lms usher_link --username NAME", True), ("(on the LMS)", False)],
        ),
        (
            "stop `usher dev` with Ctrl-C and start it again, or: (cd /s && ./manage.py x)",
            [
                ("stop `usher dev` with Ctrl-C and start it again, or:", False),
                ("(cd /s && ./manage.py x)", True),
            ],
        ),
        (
            'python manage.py shell -c "a; then, b: c; usher doctor"',
            [('python manage.py shell -c "a; then, b: c; usher doctor"', True)],
        ),
        (
            "publish it in the LMS; the enrollments are then sent again",
            [("publish it in the LMS; the enrollments are then sent again", False)],
        ),
    ],
)
def test_a_fix_is_split_into_sentences_and_commands(
    fix: str, expected: list[tuple[str, bool]]
) -> None:
    assert split_into_commands(fix) == expected


def project(
    folder: Path, report: ApplicationReport | None = None, **places: Path | Command
) -> Context:
    """Doctor's context for a project whose ``manage.py`` is not run: ``report`` is its answer.
    places: values of ``Places`` that name the LMS."""
    (folder / ".env").touch()
    manage = Command(("python", "manage.py"), folder, env_file=folder / ".env")
    context = create_context(
        Places(
            lms_url="http://lms.example",
            application_url="http://shop.example",
            env_file=folder / ".env",
            manage=manage,
            **places,  # type: ignore[arg-type]
        )
    )
    context.application.read_report = lambda: report or {"usher": "1", "celery": None}
    return context


@pytest.mark.parametrize("lms", ["embedded", "dev", "demo", "tutor", "other"])
def test_no_fix_needs_containers_in_a_project_without_them(tmp_path: Path, lms: str) -> None:
    places = {
        "embedded": {"lms_manage": Command(("python", "manage.py", "lms"), tmp_path)},
        "dev": {"dev_home": tmp_path / ".usher/dev"},
        "demo": {"demo_home": tmp_path / ".demo/mitxonline"},
        "tutor": {"tutor_root": tmp_path},
        "other": {},
    }
    context = project(tmp_path, **places[lms])
    # With the three placeholders that have an argument.
    for placeholder in [
        *PLACEHOLDERS,
        fixes.manage("migrate"),
        fixes.lms_manage("check"),
        fixes.setting("A=1"),
    ]:
        fix = adapt(placeholder, context)
        assert "docker" not in fix
        assert "<" not in fix.replace("<description>", "")
        if lms != "tutor":
            assert "tutor" not in fix


def test_the_fix_connects_an_embedded_lms_in_its_own_folder(tmp_path: Path) -> None:
    home = tmp_path / "lms 2"
    context = project(tmp_path, lms_manage=Command(("python", "manage.py", "lms"), home))
    fix = f"usher connect --application {tmp_path} --lms embedded --lms-home '{home}'"
    assert adapt(fixes.LMS_START, context) == adapt(fixes.CONNECT, context) == fix


def test_an_application_in_containers_is_restarted_by_compose(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").touch()
    manage = ("docker", "compose", "exec", "-T", "web", "./manage.py")
    context = project(tmp_path)
    context.application.manage = Command(manage, tmp_path)
    assert adapt(fixes.RESTART, context) == f"(cd {tmp_path} && docker compose up -d)"
    assert adapt(fixes.START, context) == f"(cd {tmp_path} && docker compose up -d)"
    assert split_into_commands(adapt(fixes.START_BROKER, context))[-1] == (
        f"(cd {tmp_path} && docker compose up -d redis)",
        True,
    )


def test_no_fix_uses_compose_for_an_application_that_runs_outside_of_containers(
    tmp_path: Path,
) -> None:
    (tmp_path / "compose.yaml").touch()
    context = project(tmp_path)
    assert adapt(fixes.RESTART, context) == "restart the application's processes"
    assert "docker" not in adapt(fixes.START, context)


@pytest.mark.parametrize("celery", [None, {"workers": 0}])
def test_the_fix_starts_celery_only_in_a_project_that_uses_celery(
    tmp_path: Path, celery: Celery
) -> None:
    """celery: the application's report about its workers, None without a broker."""
    report: ApplicationReport = {"usher": "1", "celery": celery}
    with_usher_dev = project(tmp_path, report, dev_home=tmp_path / ".usher/dev")
    without_usher_dev = project(tmp_path, report)
    with running(tmp_path / ".usher/dev"):
        fix_with_usher_dev = adapt(fixes.START_WORKER, with_usher_dev)
        fix_without_usher_dev = adapt(fixes.START_WORKER, without_usher_dev)
    for fix in (fix_with_usher_dev, fix_without_usher_dev):
        assert ("reconcile --watch" in fix) == (celery is None)
    assert "stop `usher dev`" in fix_with_usher_dev
    assert "stop `usher dev`" not in fix_without_usher_dev


def test_usher_dev_or_the_demo_is_started_if_it_is_stopped_and_restarted_if_it_is_running(
    tmp_path: Path,
) -> None:
    dev = project(tmp_path, dev_home=tmp_path / ".usher/dev")
    demo = project(tmp_path, demo_home=tmp_path / ".demo/mitxonline")
    for placeholder in (fixes.START, fixes.RESTART, fixes.LMS_START, fixes.START_WORKER):
        assert split_into_commands(adapt(placeholder, dev)) == [(f"usher dev {tmp_path}", True)]
        assert adapt(placeholder, demo) == "start the demo again"
    with running(tmp_path / ".usher/dev"), running(tmp_path / ".demo/mitxonline"):
        for placeholder in (fixes.START, fixes.RESTART, fixes.LMS_START):
            for context, name in ((dev, "`usher dev`"), (demo, "the demo")):
                assert adapt(placeholder, context) == f"stop {name} with Ctrl-C and start it again"


@contextmanager
def running(home: Path) -> Iterator[None]:
    """Locks the folder, as ``usher dev`` and the demo do while they run."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def test_reconcile_names_the_application_only_if_it_is_known(tmp_path: Path) -> None:
    expected_command = f"usher reconcile --application {tmp_path}"
    assert adapt(fixes.RECONCILE, project(tmp_path)) == expected_command
    assert adapt(fixes.RECONCILE, create_context(Places())) == "usher reconcile"


@pytest.mark.parametrize("name", [".usher/dev/env", ".env"])
def test_a_command_in_a_fix_gets_the_env_file_that_doctor_read(tmp_path: Path, name: str) -> None:
    """The command works as printed, in any folder."""
    settings = tmp_path / "my shop" / name
    settings.parent.mkdir(parents=True)
    settings.write_text("OPENEDX_API_BASE_URL=http://lms.example\n")
    (tmp_path / "my shop/manage.py").write_text(
        "import os, sys; print(os.environ['OPENEDX_API_BASE_URL'], *sys.argv[1:])"
    )
    context = create_context(
        Places(
            env_file=settings,
            manage=Command(("python3", "manage.py"), tmp_path / "my shop", env_file=settings),
        )
    )
    context.application.read_report = lambda: {"site_base_url": ""}
    fix = adapt(fixes.manage("reconcile --recheck"), context)
    assert is_command(fix)
    result = subprocess.run(["sh", "-c", fix], cwd="/", capture_output=True, text=True, check=True)
    assert result.stdout == "http://lms.example reconcile --recheck\n"


def test_a_command_for_an_application_built_on_usher_passes_no_env_file(tmp_path: Path) -> None:
    fix = adapt(fixes.manage("migrate"), project(tmp_path))
    assert fix == f"(cd {tmp_path} && python manage.py migrate)"

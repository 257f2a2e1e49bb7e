"""The client works without Django. The sessions in docs/client.md run against a real LMS."""

import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.lms_process import SERVICE_TOKEN, SERVICE_WORKER
from usher.client import BadAddress, BadAnswer, OpenEdx
from usher.client.payloads import RunPage

PAGE = Path(__file__).resolve().parents[2] / "docs" / "client.md"


@pytest.fixture
def lms(connected_lms):
    """A client of the embedded LMS, with the service worker's token."""
    with OpenEdx(connected_lms.url, worker=SERVICE_WORKER, token=SERVICE_TOKEN) as client:
        yield client


@pytest.mark.slow
def test_the_python_sessions_in_client_md_run_against_a_real_lms(connected_lms):
    connected_lms.shell(
        "from usher.embedded.home.seeds import create_person; "
        "create_person('ada', 'ada@example.org')"
    )
    text = PAGE.read_text()
    sessions = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    for shown, real in (
        ("https://lms.example.org", connected_lms.url),
        ("service_worker", SERVICE_WORKER),
        ('token="…"', f'token="{SERVICE_TOKEN}"'),
    ):
        assert shown in sessions
        sessions = sessions.replace(shown, real)
    # Undoes the replacement in the attribute ``who.service_worker``.
    sessions = sessions.replace(f"who.{SERVICE_WORKER}", "who.service_worker")
    parsed = doctest.DocTestParser().get_doctest(sessions, {}, "client.md", None, 0)
    assert len(parsed.examples) >= 15, "the sessions of the page were found"
    printed: list[str] = []
    result = doctest.DocTestRunner(verbose=False).run(parsed, out=printed.append)
    assert result.failed == 0, "".join(printed)


def test_client_md_shows_the_tree_of_errors_of_the_code():
    from usher.client import errors

    match = re.search(r"```text\n(.*?)```", PAGE.read_text(), re.DOTALL)
    tree_of_page = match[1].strip().splitlines()
    _, blank_line, *tree_of_code = (errors.__doc__ or "").splitlines()
    assert blank_line == ""
    assert tree_of_code[: len(tree_of_page)] == tree_of_page


def test_importing_the_client_imports_neither_django_nor_other_packages_of_usher():
    script = (
        "import sys\n"
        "import usher.client, usher.client.batch, usher.client.registration\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & "
        "{'django', 'celery', 'redis', 'rest_framework', 'opaque_keys'}))\n"
        "print(sorted(m for m in sys.modules if m.startswith('usher.') "
        "and not m.startswith(('usher.client', 'usher.contract'))))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n[]\n"


def test_runs_returns_the_course_runs_of_all_pages_or_of_the_given_keys(lms, connected_lms):
    keys = [run.course_key for run in lms.runs()]
    assert len(keys) == len(set(keys)) >= 2
    assert [run.course_key for run in lms.runs(keys[:1])] == keys[:1]


def test_a_course_list_with_too_many_pages_is_refused(lms, monkeypatch):
    monkeypatch.setattr(lms, "runs_page", lambda number, keys: RunPage([], 3_000_000, 0))
    with pytest.raises(BadAnswer, match="3000000 pages"):
        list(lms.runs())


def test_an_address_with_a_password_is_refused():
    with pytest.raises(BadAddress, match="password"):
        OpenEdx("https://me:secret@lms.example", worker="w", token="t")

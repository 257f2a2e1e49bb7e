"""Which fixes are commands that can be copied into a shell."""

import pytest

from usher.doctor.fixes import is_command


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
def test_commands(fix: str) -> None:
    assert is_command(fix)


@pytest.mark.parametrize(
    "fix",
    [
        "",
        "publish it in Studio, or switch 'offered to learners' off here",
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
def test_sentences(fix: str) -> None:
    assert not is_command(fix)

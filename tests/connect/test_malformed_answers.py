"""Malformed answers of an application are refused with a message and without a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.connect.test_application import application
from tests.doctor.small_server import Answer, serving
from tests.support.checkout import checkout_of
from usher.connect.application.checkout import ApplicationOptions, recognise
from usher.connect.application.remote import RemoteApplication
from usher.connect.application.target import Addresses, TargetApplication
from usher.connect.errors import Refused
from usher.contract.paths import ApplicationPath
from usher.contract.secret_values import Secrets

MARK = "usher-answer: "
#: Outputs of the script: no answer, answers that are no JSON or no object, and objects with
#: missing or wrong values.
ANSWERS = [
    "",
    f"{MARK}no json",
    f"{MARK}[]",
    f"{MARK}7",
    MARK + "[" * 100_000,  # the parser raises RecursionError
    MARK + '{"error": ["a list"]}',
    MARK + '{"error": "' + "x" * 1_000_000 + '"}',
    MARK + "{}",
    MARK + '{"scopes": "user:read", "usher": 1, "django": null, "settings": []}',
    MARK + '{"scopes": null}',
]


@pytest.mark.parametrize("body", [b"no json", b"[]", b"[" * 100_000], ids=range(3))
def test_a_remote_application_whose_token_endpoint_answers_no_object_has_no_record(
    body: bytes,
) -> None:
    with serving({ApplicationPath.TOKEN: Answer(400, body)}) as url:
        options = ApplicationOptions(url, name="shop")
        remote = RemoteApplication(recognise(options), options, Secrets())
        lms = Addresses("http://lms.example", "http://lms.example", lms_on_this_machine=False)
        assert not remote.record_agrees(application(url), lms)
        # The answer does not prove that there is no record.
        assert remote.has_record(application(url))


@pytest.mark.parametrize("answer", ANSWERS, ids=range(len(ANSWERS)))
def test_malformed_answers_are_refused_with_a_message(answer: str, tmp_path: Path) -> None:
    script = tmp_path / "manage.py"
    script.write_text(f"import sys; sys.stdin.read(); print({answer!r})")
    checkout = checkout_of(script)
    target = TargetApplication(checkout, ApplicationOptions(str(tmp_path)), Secrets())
    lms = Addresses("http://lms.example", "http://lms.example", lms_on_this_machine=False)
    with pytest.raises(Refused, match="Shop") as refusal:
        target.examine(application=None, addresses=lms)
    assert len(str(refusal.value)) < 20_000  # of a longer error only the beginning is shown

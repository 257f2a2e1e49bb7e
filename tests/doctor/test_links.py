"""Learners' links are moved if their backend was renamed, but not if they belong to another
application."""

from types import SimpleNamespace
from typing import Any

from usher.doctor.check import Finding, Status
from usher.doctor.checks.prv import LinksUseThisBackend


def check_links(old_record: dict[str, Any]) -> Finding:
    """Checks an LMS in which two learners have links of a backend that is no longer used.
    old_record: fields of that backend's provider record."""
    own_record = {
        "backend_name": "mitxpro-oauth2",
        "enabled": True,
        "other_settings": {"AUTHORIZATION_URL": "http://online.example:9080/oauth2/authorize/"},
    }
    report = {
        "learners": {"by_backend": {"mitxpro-oauth2": 3, "ol-oauth2": 2}},
        "connections": [{"backend": "mitxpro-oauth2"}],
        "providers": [own_record, {"backend_name": "ol-oauth2", "enabled": False, **old_record}],
    }
    context: Any = SimpleNamespace(backend="mitxpro-oauth2", lms=SimpleNamespace(report=report))
    return LinksUseThisBackend().probe(context)


def test_links_of_a_disconnected_application_are_not_to_be_moved() -> None:
    """If these links were moved, learners of this application would get accounts of the other
    application's learners."""
    record_of_another_application = {"other_settings": {"API_ROOT": "http://xpro.example:8053/"}}
    assert check_links(record_of_another_application).status is Status.OK


def test_links_of_a_renamed_backend_are_to_be_moved() -> None:
    record_of_the_same_application = {"other_settings": {"API_ROOT": "http://online.example:9080/"}}
    for record in (
        record_of_the_same_application,
        {"other_settings": {}},  # no address: nothing shows that it leads to another application
        {"other_settings": None},
    ):
        assert check_links(record).status is Status.FAILED
        assert "usher_move_links" in check_links(record).fix

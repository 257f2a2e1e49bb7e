"""Learners' links are moved if their backend was renamed, but not if they belong to another
application."""

from types import SimpleNamespace
from typing import Any

from usher.doctor.check import Finding, Status
from usher.doctor.checks.prv import LinksUseThisBackend


def check_links(old_record: dict[str, Any]) -> Finding:
    ours = {
        "backend_name": "mitxpro-oauth2",
        "enabled": True,
        "other_settings": {"AUTHORIZATION_URL": "http://online.example:9080/oauth2/authorize/"},
    }
    report = {
        "learners": {"by_backend": {"mitxpro-oauth2": 3, "ol-oauth2": 2}},
        "connections": [{"backend": "mitxpro-oauth2"}],
        "providers": [ours, {"backend_name": "ol-oauth2", "enabled": False, **old_record}],
    }
    context: Any = SimpleNamespace(backend="mitxpro-oauth2", lms=SimpleNamespace(report=report))
    return LinksUseThisBackend().probe(context)


def test_links_of_a_disconnected_application_stay_where_they_are() -> None:
    """If these links were moved, learners of this application would get accounts of the other
    application's learners."""
    another = {"other_settings": {"API_ROOT": "http://xpro.example:8053/"}}
    assert check_links(another).status is Status.OK


def test_links_of_a_renamed_backend_are_to_be_moved() -> None:
    same = {"other_settings": {"API_ROOT": "http://online.example:9080/"}}
    for record in (same, {"other_settings": {}}, {"other_settings": None}):
        assert check_links(record).status is Status.FAILED
        assert "usher_move_links" in check_links(record).fix

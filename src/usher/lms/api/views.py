"""Views of the batch API. Each parses the request, calls one service and returns its outcomes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib.sites.models import Site
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from usher.contract.limits import BATCH_ITEMS_A_REQUEST
from usher.lms import conf
from usher.lms.api import changes
from usher.lms.api.access import ServiceWorkerView, calling_application
from usher.lms.api.accounts import process_accounts
from usher.lms.api.enrollments import process_enrollments
from usher.lms.api.forms import AccountBatch, ChangesQuery, EnrollmentBatch, LinksQuery
from usher.lms.api.links import describe_links
from usher.lms.api.repetitions import RequestIdReused
from usher.lms.events.outbox import count_waiting
from usher.lms.reporting.services import report


class Capabilities(ServiceWorkerView):
    """GET: what this LMS can do for an application; with ``?outbox=1`` also how many webhooks are
    waiting, and for how long (seconds)."""

    def get(self, request: Request) -> Response:
        application = calling_application(request)
        outbox = (
            {"outbox": count_waiting(application)} if request.query_params.get("outbox") else {}
        )
        return Response(
            {
                "version": 1,
                "release": conf.platform().release(),
                "capabilities": ["accounts", "enrollments", "course-runs", "tokens", "links"],
                "max_items": BATCH_ITEMS_A_REQUEST,
                "applications": [
                    {
                        "name": application.name,
                        "backend": application.backend,
                        "oauth_client_id": application.oauth_client_id,
                    }
                ],
                **outbox,
            }
        )


class Accounts(ServiceWorkerView):
    """GET: learners' accounts that changed. POST: create or update a batch of accounts."""

    def get(self, request: Request) -> Response:
        query = _parse_changes_query(request)
        application = calling_application(request, query.get("client_id", ""))
        return _page(query, changes.list_accounts, application)

    def post(self, request: Request) -> Response:
        data = _validate(AccountBatch(data=request.data))
        application = calling_application(request, data.get("client_id", ""))
        site = Site.objects.get_current(request)
        with _conflict_if_request_id_reused():
            outcomes = process_accounts(data["items"], application, site, data["request_id"])
        return Response({"results": outcomes})


class Enrollments(ServiceWorkerView):
    """GET: learners' enrollments that changed. POST: create or update a batch of enrollments."""

    def get(self, request: Request) -> Response:
        query = _parse_changes_query(request)
        application = calling_application(request, query.get("client_id", ""))
        return _page(query, changes.list_enrollments, application)

    def post(self, request: Request) -> Response:
        data = _validate(EnrollmentBatch(data=request.data))
        application = calling_application(request, data.get("client_id", ""))
        with _conflict_if_request_id_reused():
            outcomes = process_enrollments(request, data["items"], application, data["request_id"])
        return Response({"results": outcomes})


class CourseRuns(ServiceWorkerView):
    """GET: course runs that changed, with their modes."""

    def get(self, request: Request) -> Response:
        return _page(_parse_changes_query(request), changes.list_course_runs)


class Links(ServiceWorkerView):
    """GET: the LMS account that a learner signs in to, and the one with the learner's username."""

    def get(self, request: Request) -> Response:
        query = _validate(LinksQuery(data=request.query_params.dict()))
        application = calling_application(request, query.get("client_id", ""))
        return Response(describe_links(query["username"], application))


class Report(ServiceWorkerView):
    """GET: the report for doctor (``contract.report``), about the process that answers."""

    def get(self, request: Request) -> Response:
        return Response(report(caller=calling_application(request)))


class Conflict(APIException):
    """409: the request id was used for other items."""

    status_code = 409
    default_code = "request_id_reused"


@contextmanager
def _conflict_if_request_id_reused() -> Iterator[None]:
    """Within the block, answer 409 in place of RequestIdReused."""
    try:
        yield
    except RequestIdReused as error:
        raise Conflict(str(error)) from error


def _validate(form: Any) -> dict[str, Any]:
    form.is_valid(raise_exception=True)
    return form.validated_data


def _parse_changes_query(request: Request) -> dict[str, Any]:
    return _validate(ChangesQuery(data=request.query_params.dict()))


def _page(query: dict[str, Any], list_changes: Any, *scope: Any) -> Response:
    """Answer with a page. list_changes: a function of ``changes``. scope: its arguments before
    ``since``."""
    now = changes.now()
    try:
        results, next_cursor = list_changes(
            *scope, query["changed_since"], query["cursor"], query["limit"]
        )
    except changes.CursorError as error:
        raise ValidationError({"cursor": [str(error)]}) from error
    return Response({"results": results, "next": next_cursor, "now": now.isoformat()})

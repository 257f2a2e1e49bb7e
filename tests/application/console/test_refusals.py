"""Refusals: groups, retry, ignore, export."""

import ast
import csv
import warnings
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

import usher.application
from tests.application.console.conftest import DEMO
from usher.application.enrollments.models import Enrollment
from usher.application.runs.services import ensure_run
from usher.console import words
from usher.console.refusals import services, table
from usher.contract.spreadsheets import safe_cell, text_of_cell
from usher.engine.models import ReconciledQuerySet
from usher.engine.registry import kind
from usher.engine.work import Work

LONG_AGO = timezone.now() - timedelta(days=9)

pytestmark = pytest.mark.django_db


def refuse(rows: Any, code: str, message: str = "No.") -> None:
    """Records that the LMS refused these rows, a queryset."""
    rows.set_work(
        refused_at=timezone.now(),
        due_at=None,
        attempts=1,
        error_class="rejected",
        error_code=code,
        error_message=message,
    )


@pytest.fixture
def row_ids() -> list[int]:
    """The ids of four refused enrollments: three with the code mode-not-offered, then one with
    enrollment-closed."""
    run = ensure_run(DEMO)
    for number in range(4):
        user = get_user_model().objects.create_user(f"n{number}", f"n{number}@e.org")
        Enrollment.objects.create(user=user, run=run)
    ids = list(Enrollment.objects.order_by("pk").values_list("pk", flat=True))
    refuse(Enrollment.objects.filter(pk__in=ids[:3]), "mode-not-offered", "The mode is not there.")
    refuse(Enrollment.objects.filter(pk=ids[3]), "enrollment-closed")
    return ids


def counts() -> dict[str, int]:
    """Error code → the number of refused records that the console shows."""
    return {group.code: group.count for group in services.groups()}


def post(staff: Client, action: str, **data: Any) -> Any:
    """Submits a form about refused enrollments. Returns the page after it."""
    return staff.post(f"/staff/refusals/{action}/", {"kind": "enrollment", **data}, follow=True)


def test_groups_show_the_lms_s_message(staff: Client, row_ids: list[int]) -> None:
    first, second = services.groups()
    assert (first.code, first.count, second.count) == ("mode-not-offered", 3, 1)
    page = staff.get("/staff/refusals/").content.decode()
    assert "The run does not offer this mode" in page
    assert "The mode is not there." in page
    assert "n2" in page


def test_only_the_selected_records_are_retried(staff: Client, row_ids: list[int]) -> None:
    # Invalid ids in the form are ignored.
    post(staff, "retry", code="mode-not-offered", row=[str(row_ids[0]), "x", "-1", "9" * 30])
    due = Enrollment.objects.filter(work__refused_at=None, work__due_at__isnull=False)
    assert list(due.values_list("pk", flat=True)) == [row_ids[0]]
    assert due.get().error_code == ""


def test_an_empty_selection_retries_no_record(staff: Client, row_ids: list[int]) -> None:
    page = post(staff, "retry", code="mode-not-offered")
    assert "Nothing was chosen" in page.content.decode()
    assert not Enrollment.objects.filter(work__refused_at=None).exists()


def test_all_records_of_a_group_can_be_retried(staff: Client, row_ids: list[int]) -> None:
    page = post(staff, "retry", code="mode-not-offered", all="1")
    assert "3 retried" in page.content.decode()
    assert counts() == {"enrollment-closed": 1}


def test_a_retry_ends_at_the_most_rows_of_one_request_and_says_that_records_are_left(
    row_ids: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "_ROWS_PER_STATEMENT", 1)
    monkeypatch.setattr(services, "_MAX_ROWS", 2)
    count, are_left = services.retry(kind("enrollment"), "mode-not-offered")
    assert (count, are_left) == (2, True)
    count, are_left = services.retry(kind("enrollment"), "mode-not-offered")
    assert (count, are_left) == (1, False)


def test_rows_without_a_record_do_not_stop_the_retry_of_their_group(
    row_ids: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The work queue keeps the row of a record that was deleted with SQL. That row can't be
    retried, and must not block the retry of other rows."""
    monkeypatch.setattr(services, "_ROWS_PER_STATEMENT", 1)
    deleted = [pk + 1000 for pk in row_ids]
    # Two of them are older than the rows of the records, and one is newer.
    rows_of_deleted_records = [
        Work(kind="enrollment", object_id=pk, refused_at=at, error_code="mode-not-offered")
        for pk, at in [(deleted[0], LONG_AGO), (deleted[1], LONG_AGO), (deleted[2], timezone.now())]
    ]
    Work.objects.bulk_create(rows_of_deleted_records)
    count, are_left = services.retry(kind("enrollment"), "mode-not-offered")
    assert (count, are_left) == (3, False)
    count, are_left = services.retry(kind("enrollment"), "mode-not-offered")
    assert (count, are_left) == (0, False)


def test_a_record_refused_again_during_a_retry_is_retried_only_once(
    row_ids: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "_ROWS_PER_STATEMENT", 1)
    make_due = ReconciledQuerySet.make_due

    def make_due_and_refuse(rows: Any, *args: Any, **options: Any) -> int:
        """Refuses the rows again immediately, as a fast worker would."""
        ids = list(rows.values_list("pk", flat=True))
        count = make_due(rows, *args, **options)
        refuse(Enrollment.objects.filter(pk__in=ids), "mode-not-offered")
        return count

    monkeypatch.setattr(ReconciledQuerySet, "make_due", make_due_and_refuse)
    count, are_left = services.retry(kind("enrollment"), "mode-not-offered")
    assert (count, are_left) == (3, False)


def test_the_page_counts_selected_records_that_are_no_longer_refused(
    staff: Client, row_ids: list[int]
) -> None:
    Enrollment.objects.get(pk=row_ids[0]).delete()
    Enrollment.objects.filter(pk=row_ids[1]).make_due()
    selected = [str(pk) for pk in (*row_ids[:3], row_ids[2])]  # one of them twice
    page = post(staff, "retry", code="mode-not-offered", row=selected).content.decode()
    assert "1 retried: a worker will send them to the LMS. 2 not changed: no longer" in page
    page = post(staff, "retry", code="mode-not-offered", row=selected).content.decode()
    assert "Nothing was retried. 3 not changed: no longer refused" in page


def test_an_ignored_record_is_hidden_until_it_is_refused_again(
    staff: Client, row_ids: list[int]
) -> None:
    post(staff, "ignore", code="mode-not-offered", row=[str(row_ids[0])], note="known")
    assert counts() == {"mode-not-offered": 2, "enrollment-closed": 1}
    post(staff, "ignore", code="enrollment-closed", all="1", note="next term")
    assert counts() == {"mode-not-offered": 2}
    page = staff.get("/staff/refusals/").content.decode()
    assert "2 ignored" in page
    assert "next term" in page
    # A retry of a whole group leaves out ignored records.
    post(staff, "retry", code="mode-not-offered", all="1")
    assert Enrollment.objects.get(pk=row_ids[0]).refused_at is not None

    # All four records are refused again.
    refuse(Enrollment.objects.all(), "mode-not-offered")
    assert counts() == {"mode-not-offered": 4}


def test_a_record_has_the_note_of_the_last_time_it_was_ignored(
    staff: Client, row_ids: list[int]
) -> None:
    first, second = str(row_ids[0]), str(row_ids[1])
    post(staff, "ignore", code="mode-not-offered", row=[first], note="first")
    post(staff, "ignore", code="mode-not-offered", row=[first, second], note="second")
    notes = {row.row_id: row.note for row in services.last_ignore_decisions()}
    assert notes == {row_ids[0]: "second", row_ids[1]: "second"}
    post(staff, "ignore", code="mode-not-offered", all="1", note="all of them")
    page = post(staff, "ignore", code="mode-not-offered", all="1", note="pressed twice")
    assert "0 ignored" in page.content.decode()
    assert [row.note for row in services.last_ignore_decisions()] == [
        "all of them",
        "second",
        "second",
    ]
    # Unignoring the group does not unignore the two records that were ignored by selection.
    staff.post(
        "/staff/refusals/unignore/", {"ignored": str(services.last_ignore_decisions()[0].pk)}
    )
    assert counts() == {"mode-not-offered": 1, "enrollment-closed": 1}


def test_a_selected_record_of_another_error_code_is_not_ignored(
    staff: Client, row_ids: list[int]
) -> None:
    selected = [str(row_ids[0]), str(row_ids[3])]
    page = post(staff, "ignore", code="mode-not-offered", row=selected, note="known")
    assert "1 ignored" in page.content.decode()
    assert "1 not changed: no longer refused for this reason" in page.content.decode()
    assert counts() == {"mode-not-offered": 2, "enrollment-closed": 1}


def test_ignoring_a_group_requires_a_note(staff: Client, row_ids: list[int]) -> None:
    page = post(staff, "ignore", code="mode-not-offered", all="1", note="  ")
    assert "Write a note" in page.content.decode()
    assert counts()["mode-not-offered"] == 3


@pytest.mark.parametrize("text", ["", "x", "²", "9" * 18, "9" * 5000])
def test_unignore_accepts_an_invalid_id_without_an_error(staff: Client, text: str) -> None:
    assert staff.post("/staff/refusals/unignore/", {"ignored": text}).status_code == 302


def test_unignore_shows_the_records_of_a_group_again(staff: Client, row_ids: list[int]) -> None:
    post(staff, "ignore", code="mode-not-offered", all="1", note="known")
    assert "mode-not-offered" not in counts()
    (row,) = services.last_ignore_decisions()
    staff.post("/staff/refusals/unignore/", {"ignored": str(row.pk)})
    assert counts()["mode-not-offered"] == 3


def test_each_page_of_a_group_begins_after_the_last_record_of_the_page_before(
    staff: Client, row_ids: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "PAGE_SIZE", 2)
    page = staff.get("/staff/refusals/group/", {"kind": "enrollment", "code": "mode-not-offered"})
    pks = [row.pk for row in page.context["rows"]]
    next_page = {"kind": "enrollment", "code": "mode-not-offered", "before": page.context["before"]}
    page = staff.get("/staff/refusals/group/", next_page)
    pks += [row.pk for row in page.context["rows"]]
    assert sorted(pks) == row_ids[:3]
    assert page.context["before"] == ""


def test_a_page_of_a_group_accepts_any_position(
    staff: Client, row_ids: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The position, ``before``, is a time and an id. People can change it in the address."""
    monkeypatch.setattr(services, "PAGE_SIZE", 2)
    group = {"kind": "enrollment", "code": "mode-not-offered"}
    # A malformed position gives the first page.
    page = staff.get("/staff/refusals/group/", group | {"before": "x|y"})
    assert len(page.context["rows"]) == 2
    # In UTC, these times are before the year 1 and after the year 9999.
    for earliest_or_latest in ("0001-01-01T00:00:00+14:00|1", "9999-12-31T23:59:59-12:00|1"):
        page = staff.get("/staff/refusals/group/", group | {"before": earliest_or_latest})
        assert page.status_code == 200
    # All records of the group are newer than this time.
    page = staff.get("/staff/refusals/group/", group | {"before": "1999-01-01T00:00:00|1"})
    assert "No older record is refused" in page.content.decode()


def test_an_export_contains_the_records_of_one_group_with_formulas_as_text(
    staff: Client, row_ids: list[int]
) -> None:
    formula = '=HYPERLINK("http://evil.example","x")'
    Enrollment.objects.filter(pk=row_ids[0]).set_work(error_message=formula)
    user = Enrollment.objects.get(pk=row_ids[1]).user
    get_user_model().objects.filter(pk=user.pk).update(username="@SUM(1)")
    answer = post(staff, "export", code="mode-not-offered")
    text = b"".join(answer.streaming_content).decode()
    lines = list(csv.DictReader(StringIO(text)))
    assert len(lines) == 3
    assert {line["message"] for line in lines} == {f"'{formula}", "The mode is not there."}
    assert {line["learner"] for line in lines} == {"n0", "'@SUM(1)", "n2"}
    assert answer["Content-Disposition"].startswith("attachment")


def test_an_export_skips_records_that_are_no_longer_refused(
    row_ids: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export reads the work queue first, and then the records. In between, a record may be
    deleted or retried."""
    monkeypatch.setattr(services, "_ROWS_PER_QUERY", 1)
    last = row_ids[2]
    Work.objects.filter(object_id=last).update(object_id=last + 1000, refused_at=timezone.now())
    exported = services.export_rows(kind("enrollment"), "mode-not-offered")
    assert sorted(record.pk for record in exported) == row_ids[:2]


def test_an_export_reads_the_next_page_only_when_needed(
    row_ids: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export of 100,000 records is never in memory as a whole."""
    monkeypatch.setattr(services, "_ROWS_PER_QUERY", 2)
    lines = table.lines(
        "enrollment",
        "mode-not-offered",
        services.export_rows(kind("enrollment"), "mode-not-offered"),
    )
    with CaptureQueriesContext(connection) as queries:
        next(lines)  # the names of the columns
        assert len(queries) == 0
        next(lines)
        queries_of_first_page = len(queries)
        next(lines)
        assert len(queries) == queries_of_first_page
        assert len(list(lines)) == 1
        assert len(queries) > queries_of_first_page


def test_an_export_is_streamed_under_asgi(
    staff: Client, row_ids: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "_ROWS_PER_QUERY", 1)
    monkeypatch.setattr(table, "_LINES_AT_A_TIME", 2)
    newest_positions = services._newest_positions
    limits = []  # one entry for each page that the export reads

    def record_page(works: Any, limit: int) -> Any:
        limits.append(limit)
        return newest_positions(works, limit)

    monkeypatch.setattr(services, "_newest_positions", record_page)
    browser = AsyncClient()
    browser.cookies = staff.cookies

    async def export() -> tuple[list[str], list[int]]:
        """(chunks of the answer, number of pages that had been read when each chunk arrived)."""
        chunks, pages_read = [], []
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Django warns if it reads a whole iterator into memory
            answer = await browser.post(
                "/staff/refusals/export/", {"kind": "enrollment", "code": "mode-not-offered"}
            )
            async for chunk in answer:
                chunks.append(chunk.decode())
                pages_read.append(len(limits))
        return chunks, pages_read

    chunks, pages_read = async_to_sync(export)()
    assert [chunk.count("\r\n") for chunk in chunks] == [2, 2]
    assert 0 < pages_read[0] < pages_read[1]
    lines = csv.DictReader(StringIO("".join(chunks)))
    assert {line["learner"] for line in lines} == {"n0", "n1", "n2"}


@pytest.mark.parametrize(
    "text", ["=1", "+1", "-1", "@x", "\t=1", "\r=1", "\n=1", " =1", "\u00a0=1", "\uff1d1"]
)
def test_a_cell_that_a_spreadsheet_would_calculate_becomes_text(text: str) -> None:
    assert safe_cell(text).startswith("'")
    assert text_of_cell(safe_cell(text)) == text
    assert safe_cell("plain = text") == "plain = text"
    assert text_of_cell("'quoted") == "'quoted", "no formula follows the quote"


def test_the_message_about_a_value_that_can_not_be_stored_is_labelled_as_usher_s() -> None:
    assert words.message_label("bad-value") == "Why"


def test_every_error_code_in_the_application_has_an_explanation_and_its_message_is_usher_s() -> (
    None
):
    codes = set()
    for path in Path(usher.application.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                codes |= error_codes_of_refusal(node)
    assert codes >= {"mode-kept", "activation-by-hand"}
    assert codes - words.REASONS.keys() == set()
    # The LMS uses this code, too.
    codes.discard("registration-refused")
    assert {code for code in codes if words.message_label(code) != "Why"} == set()


def error_codes_of_refusal(call: ast.Call) -> set[Any]:
    """The literal argument ``code`` of a call that creates a refusal, if the call is one."""
    class_name = ast.unparse(call.func).split(".")[-1]
    if class_name not in {"Refused", "EnrollmentRefused", "SignInStopped"}:
        return set()
    codes = [argument.value for argument in call.keywords if argument.arg == "code"]
    return {code.value for code in codes if isinstance(code, ast.Constant)}


def test_every_error_code_of_a_refusal_has_an_explanation() -> None:
    from usher.client.errors import InvalidGrant, Refused
    from usher.client.payloads import BadValue
    from usher.contract.failures import RegistrationError
    from usher.engine.errors import Unwritable
    from usher.lms.errors import EnrollmentError

    # These two codes never refuse a single record: they stop or delay the whole kind.
    no_refusals = {RegistrationError.INVALID_ACCESS_TOKEN, RegistrationError.RATE_LIMITED}
    codes = {
        str(code) for code in (*EnrollmentError, *RegistrationError) if code not in no_refusals
    }
    codes |= {Refused.default_code, BadValue.default_code, Unwritable.default_code}
    # After an invalid grant, the worker obtains a new token; the record is not refused.
    refusals = [subclass for subclass in Refused.__subclasses__() if subclass is not InvalidGrant]
    codes |= {refusal.default_code for refusal in refusals}
    assert codes - words.REASONS.keys() == set()
    # Codes without an explanation have a general one.
    assert words.reason("something-new") == "Refused with something-new"
    assert words.advice("something-new")

"""The agent inside the applications: what it reads and writes, and how it ends."""

import ast
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from tests.sidecar.conftest import checkout_of
from tests.support.stand_ins import REQUIRED, StandIn
from usher.connect.application.checkout import Checkout
from usher.sidecar.adapters.known import adapter_of, check
from usher.sidecar.agent import SAMPLE_SIZE, message_of
from usher.sidecar.errors import AgentFailed, NotAsKnown, RequestFailed
from usher.sidecar.process import Agent

#: No row has this primary key.
UNKNOWN_PK = 10**9
#: A script whose result is the primary keys of the created users.
CREATE_USERS = """
from users.models import User
for number in range({count}):
    User.objects.create_user("{name}%d" % number, "{name}%d@example.org" % number, is_active=True)
result = list(User.objects.filter(username__startswith="{name}").values_list("pk", flat=True))
"""


def test_an_application_with_the_known_tables_is_accepted(
    agent: Agent, application: StandIn
) -> None:
    check(agent, adapter_of(application.name))  # raises NotAsKnown if a table or column is missing


def test_the_check_names_everything_that_a_release_lacks(
    agent: Agent, application: StandIn
) -> None:
    adapter = adapter_of(application.name)
    # What no release has: a column, a model, a column of a related model, a method, a function.
    answer = agent.ask(
        "check",
        tables=[
            {"model": adapter.token.model, "fields": ["access_token", "renewed"], "methods": []},
            {"model": "courses.Seat", "fields": ["user"]},
            {"model": adapter.users.model, "fields": ["legal_address__planet"]},
            {"model": adapter.enrollments.model, "fields": [], "methods": ["save_quietly"]},
        ],
        functions=["users.models.rename_everybody"],
    )
    assert answer["missing"] == [
        f"{adapter.token.model}.renewed",
        "courses.Seat",
        "users.User.legal_address__planet",
        "courses.CourseRunEnrollment.save_quietly()",
        "users.models.rename_everybody()",
    ]


def test_the_adapter_of_another_application_is_refused(agent: Agent, application: StandIn) -> None:
    other_edition = {"mitxonline": "mitxpro", "mitxpro": "mitxonline"}[application.name]
    with pytest.raises(NotAsKnown) as refused:
        check(agent, adapter_of(other_edition))
    assert refused.value.missing
    assert refused.value.missing[0] in str(refused.value)


def test_reading_page_by_page_returns_every_row_once(agent: Agent, application: StandIn) -> None:
    users = application.run(CREATE_USERS.format(count=7, name="page"))
    condition = {"username__startswith": "page"}
    keys, after = [], None
    while True:
        page = agent.ask(
            "page", model="users.User", fields=["email"], filter=[condition], after=after, limit=3
        )
        keys += [row["pk"] for row in page["rows"]]
        after = page["next"]
        if after is None:
            break
    assert keys == users


def test_pages_have_rows_that_the_application_s_managers_hide(
    agent: Agent, application: StandIn
) -> None:
    (user_pk,) = application.run(CREATE_USERS.format(count=1, name="hidden"))
    # The manager ``objects`` hides inactive enrollments.
    pk = application.run(
        _CREATE_ENROLLMENT.format(user=user_pk, run="course-v1:a+b+hidden", active=False)
    )
    page = agent.ask("page", model="courses.CourseRunEnrollment", fields=["active"])
    assert {"pk": pk, "active": False} in page["rows"]


_CREATE_ENROLLMENT = """
from courses.models import Course, CourseRun, CourseRunEnrollment
course, _ = Course.objects.get_or_create(readable_id="{run}", title="A course")
names = dict(courseware_id="{run}", title="t", run_tag="R1")
run, _ = CourseRun.objects.get_or_create(course=course, **names)
result = CourseRunEnrollment.all_objects.create(user_id={user}, run=run, active={active}).pk
"""


def test_a_write_adds_an_audit_row_and_never_overwrites_a_changed_row(
    agent: Agent, application: StandIn
) -> None:
    (user_pk,) = application.run(CREATE_USERS.format(count=1, name="write"))
    pk = application.run(
        _CREATE_ENROLLMENT.format(user=user_pk, run="course-v1:a+b+write", active=True)
    )
    # The row is written only if it has the expected values, which the first write changes.
    row = {
        "pk": pk,
        "expect": {"edx_enrolled": False, "active": True},
        "set": {"edx_enrolled": True},
    }

    def write() -> list[dict[str, str]]:
        return agent.ask(
            "write", model="courses.CourseRunEnrollment", save_method="save_and_log", rows=[row]
        )

    assert write() == [{"outcome": "written"}]
    assert write() == [{"outcome": "changed"}]
    audit = application.run(
        "from courses.models import CourseRunEnrollmentAudit as Audit\n"
        f"rows = Audit.objects.filter(enrollment_id={pk})\n"
        "result = [(a.data_before['edx_enrolled'], a.data_after['edx_enrolled']) for a in rows]"
    )
    assert audit == [[False, True]]


def test_a_batch_adds_the_same_audit_rows_as_the_application_s_own_code(
    agent: Agent, application: StandIn
) -> None:
    """The agent writes the rows of a batch together, and a single row by the application's own
    code. Both leave the same audit rows."""
    model, audit = "courses.CourseRunEnrollment", adapter_of(application.name).audit.request()
    users = application.run(CREATE_USERS.format(count=27, name="audited"))
    course = "course-v1:a+b+audited"
    keys = [
        application.run(_CREATE_ENROLLMENT.format(user=user, run=course, active=True))
        for user in users
    ]
    batch, mismatched, single = keys[:12], keys[12:24], keys[24:]

    def write(keys: list[int], audit: dict[str, Any]) -> list[dict[str, str]]:
        expect, values = {"edx_enrolled": False}, {"edx_enrolled": True}
        rows = [{"pk": pk, "expect": expect, "set": values} for pk in keys]
        return agent.ask("write", model=model, save_method="save_and_log", audit=audit, rows=rows)

    changed_row = batch[5]
    application.run(
        "from courses.models import CourseRunEnrollment\n"
        f"CourseRunEnrollment.objects.filter(pk={changed_row}).update(edx_enrolled=True)\n"
        "result = None"
    )
    outcomes = [row["outcome"] for row in write(batch, audit)]
    assert outcomes == ["changed" if pk == changed_row else "written" for pk in batch]
    # If the application's own code writes other audit rows than expected, that code writes the
    # whole batch.
    swapped = {**audit, "before": audit["after"], "after": audit["before"]}
    assert write(mismatched, swapped) == [{"outcome": "written"}] * 12
    for pk in single:
        assert write([pk], audit) == [{"outcome": "written"}]

    written = application.run(_READ_AUDIT_ROWS.format(users=users))
    rows_as_json = {json.dumps({**row, "moments": len(row["moments"])}) for row in written.values()}
    assert len(written) == len(users) - 1  # all but the changed row
    assert len(rows_as_json) == 1, rows_as_json
    # The application's own code saved the first rows of the first batch. One statement wrote the
    # other rows of that batch, without the changed row.
    moments = Counter(row["moments"][2] for row in written.values())
    assert max(moments.values()) == len(batch) - SAMPLE_SIZE - 1
    for row in written.values():
        before, after, updated, logged = row["moments"]
        assert before < after == updated <= logged


#: Its result: primary key → audit row of these users' enrollments, with the times in ``moments``
#: and without the other values that differ between users.
_READ_AUDIT_ROWS = """
from courses.models import CourseRunEnrollmentAudit as Audit
result = {{}}
for row in Audit.objects.filter(enrollment__user__in={users}).select_related("enrollment__user"):
    before, after, enrollment = row.data_before, row.data_after, row.enrollment
    assert (before.pop("id"), after.pop("id")) == (enrollment.pk, enrollment.pk)
    assert before.pop("user") == after.pop("user") == enrollment.user_id
    assert before.pop("email") == after.pop("email") == enrollment.user.email
    result[row.pk] = dict(
        moments=[before.pop("updated_on"), after.pop("updated_on"),
                 enrollment.updated_on.isoformat(), row.created_on.isoformat()],
        before=before, after=after, acting_user=row.acting_user_id,
        enrolled=enrollment.edx_enrolled, stack=bool(row.call_stack))
"""


def test_a_row_that_another_write_created_is_not_created_again(
    agent: Agent, application: StandIn
) -> None:
    (user_pk,) = application.run(CREATE_USERS.format(count=1, name="twice"))
    model = adapter_of(application.name).token.model
    values = {
        "access_token": "a" * 30,
        "refresh_token": "r" * 30,
        "access_token_expires_on": "2030-01-01T00:00:00Z",
    }
    row = {"find": {"user_id": user_pk}, "set": values}
    outcomes = agent.ask(
        "write", model=model, rows=[row, {**row, "set": {**values, "access_token": "b"}}]
    )
    assert outcomes == [{"outcome": "written"}, {"outcome": "changed"}]
    stored = agent.ask("page", model=model, fields=["access_token"], filter=[{"user_id": user_pk}])
    assert [found["access_token"] for found in stored["rows"]] == ["a" * 30]


def test_only_the_row_that_lacks_a_required_value_is_refused(
    agent: Agent, application: StandIn
) -> None:
    users = application.run(CREATE_USERS.format(count=2, name="batch"))
    model = adapter_of(application.name).token.model
    rows = [
        {"find": {"user_id": pk}, "set": {"refresh_token": token}}
        for pk, token in zip(users, [None, "r"], strict=True)
    ]
    first, second = agent.ask("write", model=model, rows=rows)
    assert first["outcome"] == "refused"
    assert second == {"outcome": "written"}


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValidationError("The start is in the past."), "The start is in the past."),
        (ValidationError({"title": ["Empty.", "Too short."]}), "title: Empty.; Too short."),
        (ValidationError({"__all__": ["No such run."]}), "No such run."),
        (KeyError("title"), "'title'"),
        (ValueError(), "ValueError"),
    ],
)
def test_the_message_of_a_refused_row_has_the_error_s_texts_or_its_type(
    error: Exception, message: str
) -> None:
    assert message_of(error) == message


def test_only_the_token_of_a_deleted_learner_is_refused(agent: Agent, application: StandIn) -> None:
    (user_pk,) = application.run(CREATE_USERS.format(count=1, name="remaining"))
    model = adapter_of(application.name).token.model
    rows = [
        {"find": {"user_id": pk}, "set": {"refresh_token": "r"}} for pk in (UNKNOWN_PK, user_pk)
    ]
    first, second = agent.ask("write", model=model, rows=rows)
    assert first["outcome"] == "refused"
    assert second == {"outcome": "written"}


def test_the_agent_continues_after_a_failed_request(agent: Agent) -> None:
    with pytest.raises(RequestFailed, match="no model users"):
        agent.ask("page", model="users.Nobody", fields=[])
    assert agent.ask("about")["version"] == 1


def test_output_of_the_application_does_not_break_the_protocol(application: StandIn) -> None:
    noisy = application.env_file.read_text() + "NOISE_ON_STDOUT=1\n"
    quiet = application.env_file.read_text()
    application.env_file.write_text(noisy)
    try:
        with Agent(checkout_of(application)) as agent:
            assert isinstance(agent.ask("count", model="users.User"), int)
    finally:
        application.env_file.write_text(quiet)


def test_invalid_settings_end_the_agent_with_their_error(
    application: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``manage.py shell`` starts even without settings, and a thread of the agent then reads
    requests."""
    checkout = checkout_of(application)
    for name in application.values:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(AgentFailed) as caught:
        Agent(replace(checkout, env_file=None))
    assert "ended with 1" in str(caught.value)
    assert "is required" in str(caught.value)
    # Python's error if a thread still reads from standard input at the end.
    assert "Fatal" not in str(caught.value)


def test_an_application_that_does_not_start_is_reported_with_its_output(
    application: StandIn,
) -> None:
    text = application.env_file.read_text()
    application.env_file.write_text(text.replace("MAILGUN_KEY=mail-key\n", ""))
    try:
        with pytest.raises(AgentFailed, match="MAILGUN_KEY is required"):
            Agent(checkout_of(application))
    finally:
        application.env_file.write_text(text)


def test_the_agent_s_command_line_has_no_secret(checkout: Checkout) -> None:
    with Agent(checkout) as agent:
        command = Path(f"/proc/{agent.pid}/cmdline").read_bytes()
        assert REQUIRED["SECRET_KEY"].encode() not in command


def test_the_agent_gets_the_settings_module_of_the_env_file_and_not_that_of_this_process(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (setting,) = re.findall(
        r'"DJANGO_SETTINGS_MODULE", "(.+)"', (checkout.folder / "manage.py").read_text()
    )
    env = checkout.env_file.read_text() if checkout.env_file else ""
    env_file = tmp_path / ".env"
    env_file.write_text(f"{env}\nDJANGO_SETTINGS_MODULE={setting}\n")
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "settings.of.this.process")
    with Agent(replace(checkout, env_file=env_file)) as agent:
        environment = Path(f"/proc/{agent.pid}/environ").read_text().split("\0")
    assert f"DJANGO_SETTINGS_MODULE={setting}" in environment


def test_the_agent_ends_when_its_parent_is_killed(checkout: Checkout, application: StandIn) -> None:
    script = (
        "import sys, time\n"
        "from usher.connect.application.checkout import ApplicationOptions, recognise\n"
        "from usher.sidecar.process import Agent\n"
        f"options = ApplicationOptions({str(application.folder)!r}, "
        f"manage={application.manage_command!r})\n"
        "agent = Agent(recognise(options))\n"
        "print(agent.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while is_running(pid):
        assert time.monotonic() < deadline, "the agent outlived its parent"
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state != "Z"


def test_the_agent_imports_only_the_standard_library_and_django() -> None:
    tree = ast.parse(resources.files("usher.sidecar").joinpath("agent.py").read_text())
    modules = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert modules - set(sys.stdlib_module_names) == {"django"}


def test_only_the_row_with_a_value_that_the_database_can_not_store_is_refused(
    agent: Agent, application: StandIn
) -> None:
    first, second, third = application.run(CREATE_USERS.format(count=3, name="stored"))
    values = {first: "Ada", second: "\ud800", third: "Cy"}
    rows = [{"pk": pk, "expect": {}, "set": {"name": name}} for pk, name in values.items()]
    answers = agent.ask("write", model="users.User", rows=rows)
    assert [answer["outcome"] for answer in answers] == ["written", "refused", "written"]
    assert "surrogates" in answers[1]["message"]


def test_the_error_has_the_output_of_a_process_that_ended_before_its_output_was_read(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_at_once = Agent._collect_stderr

    def read_late(agent: Agent) -> None:
        time.sleep(0.3)
        read_at_once(agent)

    monkeypatch.setattr(Agent, "_collect_stderr", read_late)
    ends_at_once = ("sh", "-c", "echo the reason >&2; exit 3")
    with (
        pytest.raises(AgentFailed, match=r"ended with 3:\n  the reason"),
        Agent(replace(checkout, manage=ends_at_once)),
    ):
        pass

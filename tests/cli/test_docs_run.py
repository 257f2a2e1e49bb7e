"""Each command and snippet of README and docs is run by a test, or this file gives the reason why
it is not run.

``tests/application/commands/test_docs.py`` parses each command as its program does.
"""

import re
import shlex

import pytest

from tests.support.pages import ROOT, read_blocks, read_commands

GUIDE = "tests/cli/test_integration_guide.py"
WHOLE = "tests/connect/test_whole.py"
EMBEDDED = "tests/connect/test_embedded.py"

#: The beginning of a command → the test that runs it. If several match, the longest one counts.
#: Text after `` … `` is an option that the command must have.
RUN_BY = {
    "usher connect": f"{WHOLE}::test_connect_and_disconnect_in_local_mode",
    "usher connect … --lms embedded": (
        f"{EMBEDDED}::test_connect_creates_an_embedded_lms_and_disconnect_stops_it"
    ),
    "usher connect … --mode dev": (
        f"{WHOLE}::test_connect_killed_at_every_step_ends_in_the_same_state"
    ),
    "usher connect … --mode k8s": f"{WHOLE}::test_connect_and_disconnect_in_a_cluster",
    "usher connect … --mode nightly": (
        f"{WHOLE}::test_one_of_two_applications_on_an_lms_can_be_disconnected"
    ),
    "usher disconnect": f"{WHOLE}::test_connect_and_disconnect_in_local_mode",
    "usher status": f"{WHOLE}::test_connect_and_disconnect_in_local_mode",
    "usher doctor": "tests/doctor/faults/test_commands.py"
    "::test_doctor_with_journey_leaves_a_demo_unchanged",
    "usher conformance": "tests/doctor/faults/test_commands.py"
    "::test_conformance_without_write_changes_nothing",
    "usher drift": "tests/sidecar/test_drift.py"
    "::test_differences_are_printed_and_end_with_exit_code_1",
    "usher reconcile": "tests/sidecar/test_reconcile.py"
    "::test_learners_are_repaired_and_a_second_reconcile_has_nothing_to_do",
    "usher reconcile … --watch": "tests/sidecar/test_reconcile.py"
    "::test_watching_continues_after_the_application_s_process_is_killed",
    "usher why": f"{GUIDE}::test_usher_dev_provision_restores_changed_records",
    "usher dev": f"{GUIDE}::test_usher_dev_enrolls_the_test_learner",
    "usher demo": "tests/cli/test_demo.py::test_the_demo_works_and_prints_one_json_object",
    "usher demo … --provision": "tests/cli/test_demo.py"
    "::test_the_demo_keeps_running_refuses_a_second_start_stops_on_interrupt_and_keeps_its_data",
    "make demo": "tests/cli/test_demo.py"
    "::test_the_demo_keeps_running_refuses_a_second_start_stops_on_interrupt_and_keeps_its_data",
    "make simulate": "tests/simulation/test_simulation.py"
    "::test_a_seed_prints_the_same_events_each_time",
    "django-admin startproject": f"{GUIDE}::integrator",
    ". .usher/dev/env": f"{GUIDE}::test_the_code_of_the_page_enrolls_and_unenrolls_a_learner",
    "python manage.py check": f"{GUIDE}"
    "::test_the_check_after_the_second_step_warns_only_of_the_missing_lms",
    "python manage.py shell": f"{GUIDE}::test_the_code_of_the_page_enrolls_and_unenrolls_a_learner",
    "python manage.py reconcile --watch": "tests/application/engine/test_stopping.py"
    "::test_reconcile_ends_with_exit_code_130_after_a_signal",
    "python manage.py adopt_users": "tests/application/accounts/test_adoption.py"
    "::test_adopt_users_makes_the_records_due_when_run_again_after_usher_link",
    "./manage.py lms usher_link": "tests/application/accounts/test_adoption.py"
    "::test_adopt_users_makes_the_records_due_when_run_again_after_usher_link",
    "celery": f"{GUIDE}::test_usher_dev_runs_celery_as_the_page_describes",
    "sh deploy/new_env.sh": "tests/deploy/test_compose.py"
    "::test_new_env_writes_a_file_for_its_owner_only_and_keeps_an_existing_file",
    "tutor plugins enable": "tests/tutor/test_whole.py::connected",
    "tutor config save": "tests/tutor/test_whole.py::connected",
    "tutor local do": "tests/tutor/test_whole.py::connected",
}
#: The beginning of a command that no test runs → the reason.
NOT_RUN = {
    "make install": "installs into the environment of the tests",
    "make test": "runs the tests",
    "make check": "continuous integration runs it before the tests",
    "make format": "changes the files of the checkout",
    "make wheel": "tests/cli/test_extras.py builds a wheel in the same way",
    ".venv/bin/python -m pytest": "runs tests",
    ".venv/bin/python scripts/test.py": "runs tests",
    "python -m benchmarks": "loads an LMS for minutes; tests/benchmarks runs its parts",
    "pip install": "installs into the environment of the tests; see test_extras.py",
    "git clone": "fetches from GitHub",
    "docker compose": "needs a Docker engine",
    "tutor images": "builds an image for many minutes, with Docker",
    "tutor local launch": "needs a Docker engine",
    "tutor k8s": "needs a cluster",
    "python manage.py createsuperuser": "Django's own; asks for a password",
    "granian": "listens until it is stopped; the demo's tests serve campus with it",
    "cd": "changes the folder",
    "$EDITOR": "opens an editor",
    "echo": "writes the settings of a real host",
    "printf": "writes the key of a real host",
    "chmod": "with the line above it",
}
#: Page → the test that runs its Python, INI and YAML snippets.
SNIPPETS = {
    "CONTRIBUTING.md": (
        "tests/application/enrollments/test_enrollments.py"
        "::test_a_learner_is_enrolled_in_the_free_mode"
    ),
    "docs/client.md": "tests/client/test_alone.py"
    "::test_the_python_sessions_in_client_md_run_against_a_real_lms",
    "docs/integrate.md": f"{GUIDE}::test_the_code_of_the_page_enrolls_and_unenrolls_a_learner",
    "docs/metrics.md": "tests/deploy/test_prometheus.py"
    "::test_promtool_accepts_the_names_and_help_texts_of_the_metrics",
    "docs/doctor/README.md": "tests/doctor/test_runner.py"
    "::test_the_example_in_the_documentation_is_a_working_check",
    "docs/console.md": "tests/campus/test_console.py"
    "::test_the_overview_refreshes_itself_until_staff_turn_it_off",
    "docs/production.md": "tests/application/engine/test_lanes.py"
    "::test_records_of_an_enrollment_are_interactive_unless_an_import_enrolls",
}


def matching_key(command: str) -> str:
    """The longest key of RUN_BY or NOT_RUN that matches the command; '' if no key matches."""
    words = shlex.split(command, comments=True)
    while words and re.match(r"[A-Z_]+=", words[0]):  # a variable set for the command
        del words[0]
    if words[0].endswith("bin/usher"):
        words[0] = "usher"
    text = " ".join(words)

    def matches(key: str) -> bool:
        begin, _, option = key.partition(" … ")
        return text.startswith(begin) and f" {option}" in f" {text}"

    matching_keys = [key for key in (*RUN_BY, *NOT_RUN) if matches(key)]
    return max(matching_keys, key=len, default="")


@pytest.mark.parametrize(("page", "command"), read_commands())
def test_every_command_in_the_documentation_has_a_test_or_a_reason_why_it_is_not_run(
    page: str, command: str
) -> None:
    assert matching_key(command), f"{page}: say in this file which test runs `{command}`"


def test_every_key_of_run_by_and_not_run_matches_a_command_in_the_documentation() -> None:
    matching_keys = {matching_key(command) for _, command in read_commands()}
    assert {*RUN_BY, *NOT_RUN} - matching_keys == set()


def test_every_page_with_snippets_has_a_test_that_runs_them() -> None:
    pages = {page for page, language, _ in read_blocks() if language in ("python", "ini", "yaml")}
    assert pages == set(SNIPPETS)


@pytest.mark.parametrize("test", sorted({*RUN_BY.values(), *SNIPPETS.values()}))
def test_the_named_tests_of_commands_and_snippets_exist(test: str) -> None:
    path, _, name = test.partition("::")
    assert re.search(rf"def {re.escape(name)}\(", (ROOT / path).read_text()), test

"""OAuth clients with the grant client credentials: created, examined, used, removed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.lms.conftest import DEMO, WORKER, Lms, connected_lms, description
from usher.contract.applications import read_entries, to_application
from usher.contract.environment import SERVICE_CLIENTS, ServiceEnv
from usher.contract.provisioning import PURPOSES
from usher.doctor.check import Finding, Status
from usher.doctor.checks.oau import ServiceClientsWork
from usher.doctor.context import Places, create_context

#: The LMS account of the client for retirements.
RETIRING = "campus_retirement"


@pytest.fixture(scope="module")
def lms() -> Iterator[Lms]:
    """An LMS whose clients may retire learners, in place of the LMS that other modules use."""
    with connected_lms(USHER_RETIREMENT=True) as running:
        yield running


def plan_of(lms: Lms, *purposes: str) -> dict[str, Any]:
    """A description of the application, with an OAuth client for each of these purposes."""
    application_entry = lms.application.description()
    entry = {
        "name": application_entry["name"],
        "root_url": lms.application.url,
        "service_clients": [*purposes],
    }
    (parsed_entry,) = read_entries([entry])
    clients = to_application(parsed_entry, "secret").service_clients
    application_entry["service_clients"] = [vars(client) for client in clients]
    return description(application_entry)


def examine(lms: Lms, plan: dict[str, Any], folder: Path, **changed: str) -> Finding:
    """Doctor's finding about the clients. changed: settings of the application's ``.env`` with
    other values than connect writes."""
    clients = plan["applications"][0]["service_clients"]
    values = {ServiceEnv.OPENEDX_STUDIO_API_BASE_URL: lms.url}
    for client in clients:
        values |= zip(
            SERVICE_CLIENTS[client["purpose"]],
            (client["client_id"], client["client_secret"]),
            strict=True,
        )
    env = folder / ".env"
    env.write_text("".join(f"{key}={value}\n" for key, value in (values | changed).items()))
    with create_context(Places(lms_url=lms.url, env_file=env)) as context:
        return ServiceClientsWork().probe(context)


def signed_in_client(lms: Lms, plan: dict[str, Any], purpose: str) -> httpx.Client:
    """An HTTP client with an access token of the OAuth client for this purpose."""
    clients = plan["applications"][0]["service_clients"]
    (client,) = [client for client in clients if client["purpose"] == purpose]
    answer = httpx.post(
        f"{lms.url}/oauth2/access_token",
        data={
            "grant_type": "client_credentials",
            "token_type": "jwt",
            "client_id": client["client_id"],
            "client_secret": client["client_secret"],
        },
        trust_env=False,
    )
    headers = {"Authorization": f"jwt {answer.json()['access_token']}"}
    return httpx.Client(base_url=lms.url, headers=headers, timeout=60, trust_env=False)


def test_a_service_client_is_created_used_and_removed(lms: Lms, name: str, tmp_path: Path) -> None:
    # Created: the answer names no secret, and the account for retirement is staff.
    plan = plan_of(lms, *PURPOSES)
    answer = lms.provision(plan)
    secrets = [client["client_secret"] for client in plan["applications"][0]["service_clients"]]
    assert not [secret for secret in secrets if secret in json.dumps(answer)]
    assert lms.provision(plan)["changed"] == 0
    retirement_account = (
        "select is_staff, is_superuser, is_active from auth_user where username = ?"
    )
    assert lms.execute(retirement_account, RETIRING) == [(1, 0, 1)]

    # Used: each client only for its own purpose.
    with signed_in_client(lms, plan, "courses") as studio:
        assert studio.get("/api/user/v1/me").json() == {"username": WORKER}
        assert studio.get(f"/api/v1/course_runs/{DEMO}/").status_code == 200
        body = {"usernames": name}
        assert studio.post("/v1/accounts/bulk_retire_users", json=body).status_code == 403
    lms.sign_in(name).close()
    with signed_in_client(lms, plan, "retirement") as api:
        retired = api.post("/v1/accounts/bulk_retire_users", json={"usernames": name}).json()
    assert retired == {"successful_user_retirements": [name], "failed_user_retirements": []}
    assert examine(lms, plan, tmp_path).status is Status.OK

    # Removed: the description has no purposes any more.
    lms.provision(plan_of(lms))
    assert lms.execute(retirement_account, RETIRING) == [(0, 0, 0)]
    clients = "select count(*) from oauth2_provider_application where name like 'campus %'"
    assert lms.value(clients) == 0
    finding = examine(lms, plan, tmp_path)
    assert (finding.status, finding.repair) == (Status.FAILED, "provision")
    assert "OPENEDX_COURSES_SERVICE_WORKER_CLIENT_ID" in finding.seen

    lms.provision(plan)
    assert examine(lms, plan, tmp_path).status is Status.OK


# The parameter of each statement is the name of the OAuth client. Statements that don't need it
# compare it with itself.
@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("update oauth2_provider_application set client_secret = 'x' where name = ?", "refuses"),
        (
            "delete from auth_user_user_permissions where 'campus retirement' = ?",
            "bulk_retire_users answers 403",
        ),
        (
            "update auth_user set is_staff = 0 where 'campus retirement' = ? "
            f"and username = '{RETIRING}'",
            "bulk_retire_users answers 403",
        ),
    ],
)
def test_doctor_names_a_broken_client_and_provisioning_repairs_it(
    lms: Lms, tmp_path: Path, sql: str, message: str
) -> None:
    assert ServiceClientsWork.id == "OAU-3"
    plan = plan_of(lms, *PURPOSES)
    lms.provision(plan)
    lms.execute(sql, "campus retirement")
    finding = examine(lms, plan, tmp_path)
    assert finding.status is Status.FAILED
    assert message in finding.seen
    lms.provision(plan)
    assert examine(lms, plan, tmp_path).status is Status.OK


def test_an_unreachable_studio_is_a_warning(lms: Lms, tmp_path: Path) -> None:
    plan = plan_of(lms, "courses")
    lms.provision(plan)
    unreachable_studio = {ServiceEnv.OPENEDX_STUDIO_API_BASE_URL: "http://127.0.0.1:9"}
    assert examine(lms, plan, tmp_path, **unreachable_studio).status is Status.WARNING


def test_an_existing_account_can_not_become_the_retirement_account(lms: Lms) -> None:
    lms.provision(plan_of(lms))
    lms.provision(plan_of(lms, "retirement"))
    # The account is now like one that somebody else created: no row says that it is Usher's.
    lms.execute("delete from usher_lms_serviceclient")
    lms.execute("update auth_user set is_staff = 0 where username = ?", RETIRING)
    result = lms.run("usher_provision", "--file", "-", text=json.dumps(plan_of(lms, "retirement")))
    assert result.returncode != 0
    assert f"'{RETIRING}' can't be the account for retirement" in result.stderr
    # Otherwise no later test could create the account.
    lms.execute("delete from auth_user_user_permissions")
    lms.execute("delete from oauth2_provider_application where name like ?", "campus %")
    lms.execute("delete from auth_user where username = ?", RETIRING)

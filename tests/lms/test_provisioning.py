"""usher_provision: one description, one transaction; the same description again changes nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.lms.application import CLIENT_SECRET, WEBHOOK_SECRET
from tests.lms.conftest import TOKEN, WORKER, Lms, description
from tests.lms.test_batch_transactions import run_script

#: SQL that counts provider records; the platform keeps each version of a record as a row.
PROVIDERS = "select count(*) from third_party_auth_oauth2providerconfig"
#: The secrets in the description of ``plan``.
SECRETS = (TOKEN, CLIENT_SECRET, WEBHOOK_SECRET, "secret-of-campus-at-the-lms")


def outcomes(answer: dict[str, Any]) -> dict[str, str]:
    """What an item is, and its name → its outcome."""
    return {f"{item['what']} {item['name']}": item["outcome"] for item in answer["items"]}


@pytest.fixture
def plan(lms: Lms) -> dict[str, Any]:
    """A copy of the LMS's description for the test to change. The LMS is provisioned with the
    original afterwards."""
    plan = description(lms.application.description())
    yield json.loads(json.dumps(plan))
    lms.provision(plan)


def test_a_second_provisioning_changes_nothing(lms: Lms, plan: dict[str, Any]) -> None:
    before = lms.value(PROVIDERS)

    answer = lms.provision(plan)

    assert answer["changed"] == 0
    assert set(outcomes(answer).values()) == {"unchanged"}
    assert lms.value(PROVIDERS) == before
    assert answer["warnings"] == []


def test_a_changed_secret_changes_only_the_provider_record(lms: Lms, plan: dict[str, Any]) -> None:
    before = lms.value(PROVIDERS)
    plan["applications"][0]["client_secret"] = "another-secret-of-the-lms-0123456789"

    answer = lms.provision(plan)

    changed = [item for item in answer["items"] if item["outcome"] != "unchanged"]
    assert [(item["what"], item["changes"]) for item in changed] == [
        ("provider record", ["secret"])
    ]
    assert lms.value(PROVIDERS) == before + 1


def test_the_provider_record_has_the_values_of_the_manual_procedure(lms: Lms) -> None:
    columns = (
        "enabled, name, slug, site_id, skip_hinted_login_dialog, skip_registration_form, "
        "skip_email_verification, sync_learner_profile_data, enable_sso_id_verification"
    )
    (newest,) = lms.execute(
        f"select {columns}, other_settings from third_party_auth_oauth2providerconfig "
        "where backend_name = 'mitxpro-oauth2' order by change_date desc limit 1"
    )
    *values, other_settings = newest

    assert dict(zip(columns.split(", "), values, strict=True)) == {
        "enabled": 1,
        "name": "mitxApplication",
        "slug": "mitxpro-oauth2",
        "site_id": 2,
        "skip_hinted_login_dialog": 1,
        "skip_registration_form": 1,
        "skip_email_verification": 1,
        "sync_learner_profile_data": 1,
        "enable_sso_id_verification": 1,
    }
    url = lms.application.url
    assert json.loads(other_settings) == {
        "AUTHORIZATION_URL": f"{url}/oauth2/authorize/",
        "ACCESS_TOKEN_URL": f"{url}/oauth2/token/",
        "API_ROOT": url,
    }


def test_a_dry_run_reports_and_changes_nothing(lms: Lms, plan: dict[str, Any]) -> None:
    plan["applications"][0]["provider_name"] = "Renamed"
    before = lms.value(PROVIDERS)

    answer = lms.provision(plan, "--dry-run")

    assert answer["dry_run"] is True
    assert answer["changed"] == 1
    assert lms.value(PROVIDERS) == before


def test_secrets_are_not_printed(lms: Lms, plan: dict[str, Any]) -> None:
    plan["applications"][0]["oauth_client_secret"] += "-changed"

    result = lms.run("usher_provision", "--file", "-", text=json.dumps(plan))

    assert result.returncode == 0
    assert not [secret for secret in SECRETS if secret in result.stdout + result.stderr]


def test_a_description_is_read_from_a_file(lms: Lms, plan: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "description.json"
    file.write_text(json.dumps(plan))

    result = lms.run("usher_provision", "--file", str(file))

    assert json.loads(result.stdout)["changed"] == 0


def test_a_service_worker_deactivated_by_hand_is_activated(lms: Lms, plan: dict[str, Any]) -> None:
    lms.execute("update auth_user set is_active = 0, is_staff = 0 where username = ?", WORKER)

    answer = lms.provision(plan)

    worker = next(item for item in answer["items"] if item["what"] == "service worker")
    assert worker["outcome"] == "changed"
    assert sorted(worker["changes"]) == ["is_active", "is_staff"]
    flags = "select is_active, is_staff from auth_user where username = ?"
    assert lms.execute(flags, WORKER) == [(1, 1)]


def test_a_token_that_expires_soon_is_prolonged(lms: Lms, plan: dict[str, Any]) -> None:
    # Less than half of the token's lifetime is left.
    soon = (datetime.now(UTC) + timedelta(days=100)).strftime("%Y-%m-%d %H:%M:%S")
    lms.execute("update oauth2_provider_accesstoken set expires = ? where token = ?", soon, TOKEN)

    answer = lms.provision(plan)

    assert outcomes(answer)[f"service worker's token {WORKER}"] == "changed"
    ends = lms.value("select expires from oauth2_provider_accesstoken where token = ?", TOKEN)
    ends = datetime.fromisoformat(ends).replace(tzinfo=UTC)
    assert ends > datetime.now(UTC) + timedelta(days=364)


def test_a_replaced_token_is_no_longer_valid(lms: Lms, plan: dict[str, Any]) -> None:
    plan["service_worker"]["token"] = "another-token-" + "2" * 40

    lms.provision(plan)

    with lms.api(TOKEN) as old, lms.api(plan["service_worker"]["token"]) as new:
        assert old.get("/api/user/v1/me").status_code == 401
        assert new.get("/api/user/v1/me").json() == {"username": WORKER}


def test_an_oauth_client_that_was_created_by_hand_is_adopted(
    lms: Lms, plan: dict[str, Any]
) -> None:
    """The manual procedure created the client, with another id and secret."""
    landing = "http://xpro.example/login/_private/complete"
    lms.execute(
        "insert into oauth2_provider_application (client_id, redirect_uris, client_type, "
        "authorization_grant_type, client_secret, name, skip_authorization, created, updated, "
        "algorithm, post_logout_redirect_uris, hash_client_secret, allowed_origins, "
        "registration_source) values ('by-hand', ?, 'confidential', 'authorization-code', 'x', "
        "'edx-oauth-app', 0, '2026-01-01', '2026-01-01', '', '', 1, '', '')",
        f"{landing} http://other.example/complete",
    )
    second = lms.application.description(
        name="xpro",
        backend="xpro-oauth2",
        oauth_name="xpro-oauth-app",
        oauth_client_id="xpro-at-the-lms",
        oauth_redirect_uris=[landing, "http://xpro.example/_/auth/complete"],
    )
    plan["applications"].append(second)

    first, second_provisioning = lms.provision(plan), lms.provision(plan)

    assert outcomes(first)["OAuth client edx-oauth-app"] == "adopted"
    assert second_provisioning["changed"] == 0
    clients = lms.execute(
        "select client_id, redirect_uris, skip_authorization from oauth2_provider_application "
        "where name in ('edx-oauth-app', 'xpro-oauth-app')"
    )
    ((client_id, redirect_uris, skips_authorization),) = clients
    assert client_id == "xpro-at-the-lms"
    assert redirect_uris.split() == [
        landing,
        "http://xpro.example/_/auth/complete",
        "http://other.example/complete",
    ]
    assert skips_authorization == 1

    # A client that Usher did not create is not deleted.
    removed = lms.provision({"applications": [second]}, "--remove", "--purge")
    assert outcomes(removed)["OAuth client edx-oauth-app"] == "kept"


def test_an_unknown_site_is_refused_with_the_list_of_sites(lms: Lms, plan: dict[str, Any]) -> None:
    plan["site"] = "lms.example:8000"

    result = lms.run("usher_provision", "--file", "-", text=json.dumps(plan))

    assert result.returncode == 1
    assert "no site 'lms.example:8000'" in result.stderr
    assert lms.url.removeprefix("http://") in result.stderr


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"applications": [{"name": "x"}]}', "applications[0] is incomplete"),
        ('{"applications": [], "service_worker": {"username": 3}}', "service_worker"),
        ('{"version": 99}', "version 99"),
        (
            '{"applications": [], "service_worker": {"username": "", "email": "e", "token": "t"}}',
            "service_worker.username is empty",
        ),
        (
            '{"applications": [], "service_worker": '
            '{"username": "w", "email": "e", "token": "t", "token_days": 0}}',
            "token_days is less than 1",
        ),
    ],
)
def test_an_invalid_description_is_refused(lms: Lms, text: str, complaint: str) -> None:
    result = lms.run("usher_provision", "--file", "-", text=text)

    assert result.returncode == 1
    assert complaint in result.stderr
    assert "Traceback" not in result.stderr


def test_a_refused_description_changes_nothing(lms: Lms, plan: dict[str, Any]) -> None:
    """The description's superuser is created first. The description's second application is refused
    later, because it has the first application's backend."""
    plan["superuser"] = {"username": "late_edx", "email": "late@example.org"}
    plan["applications"].append(lms.application.description(name="other"))

    result = lms.run("usher_provision", "--file", "-", text=json.dumps(plan))

    assert result.returncode == 1
    assert "already belongs to application 'campus'" in result.stderr
    assert lms.execute("select 1 from auth_user where username = 'late_edx'") == []


def test_the_application_s_superuser_signs_in_through_the_application(
    lms: Lms, plan: dict[str, Any], name: str
) -> None:
    plan["superuser"] = {
        "username": name,
        "email": f"{name}@learners.example",
        "backend": "mitxpro-oauth2",
    }

    assert outcomes(lms.provision(plan))[f"superuser {name}"] == "created"
    assert lms.provision(plan)["changed"] == 0

    arrived = lms.sign_in(name, goal="/admin/").last  # type: ignore[attr-defined]
    assert (arrived.status_code, arrived.url.path) == (200, "/admin/")


@pytest.mark.parametrize("shared_field", ["username", "email"])
def test_an_existing_account_is_not_made_a_superuser(
    lms: Lms, plan: dict[str, Any], name: str, shared_field: str
) -> None:
    # The account shares its username or its e-mail address with the superuser of the description.
    other = {"username": f"{name}x", "email": f"{name}x@learners.example"}
    described = {"username": name, "email": f"{name}@learners.example"}
    existing = {**other, shared_field: described[shared_field]}
    lms.provision({**plan, "superuser": existing})
    remove_rights = "update auth_user set is_superuser = 0, is_staff = 0 where username = ?"
    lms.execute(remove_rights, existing["username"])
    plan["superuser"] = {**described, "backend": "mitxpro-oauth2"}

    answer = lms.provision(plan)

    assert answer["changed"] == 0
    assert outcomes(answer)[f"superuser {name}"] == "kept"
    assert any(f"{name} is not a superuser yet" in warning for warning in answer["warnings"])
    rights = "select is_superuser, is_staff from auth_user where username = ?"
    assert lms.execute(rights, existing["username"]) == [(0, 0)]


def test_a_learner_is_made_a_superuser_only_with_the_described_email(
    lms: Lms, plan: dict[str, Any], name: str
) -> None:
    """The LMS's user of that name may be another person than the application's superuser."""
    lms.sign_in(name)
    plan["superuser"] = {
        "username": name,
        "email": f"{name}.another@example.org",
        "backend": "mitxpro-oauth2",
    }

    answer = lms.provision(plan)

    assert outcomes(answer)[f"superuser {name}"] == "kept"
    assert any("another e-mail address" in warning for warning in answer["warnings"])
    rights = "select is_superuser, is_staff from auth_user where username = ?"
    assert lms.execute(rights, name) == [(0, 0)]

    # The case of an address makes no difference.
    plan["superuser"]["email"] = f"{name}@LEARNERS.example"
    assert outcomes(lms.provision(plan))[f"superuser {name}"] == "changed"
    assert lms.execute(rights, name) == [(1, 1)]


@pytest.mark.parametrize("backend", ["", "mitxpro-oauth2"])
def test_a_learner_who_took_the_superuser_s_name_first_is_not_made_a_superuser(
    lms: Lms, plan: dict[str, Any], name: str, backend: str
) -> None:
    """A learner signed in first, with the name and e-mail address that the description gives to the
    superuser."""
    # With a backend, the learner's name differs in case, which is the same name for the LMS.
    taken = name if not backend else name.upper()
    lms.sign_in(taken)
    plan["superuser"] = {
        "username": name,
        "email": f"{taken}@learners.example",
        "backend": backend,
    }

    answer = lms.provision(plan)

    assert outcomes(answer)[f"superuser {name}"] == "kept"
    assert any(f"{name} is not a superuser yet" in warning for warning in answer["warnings"])
    rights = "select is_superuser, is_staff from auth_user where username = ?"
    assert lms.execute(rights, taken) == [(0, 0)]


def test_a_backend_that_is_not_loaded_causes_a_warning(lms: Lms, plan: dict[str, Any]) -> None:
    plan["applications"][0]["backend"] = "not-there"

    answer = lms.provision(plan, "--dry-run")

    assert any("not-there is not loaded" in warning for warning in answer["warnings"])


def test_a_change_of_the_backend_moves_the_learners_links(lms: Lms, plan: dict[str, Any]) -> None:
    """Each link has its backend's name. Unless links are moved, no learner can sign in."""
    links = "select count(*) from social_auth_usersocialauth where provider = ?"
    lms.execute(
        "insert into social_auth_usersocialauth (user_id, provider, uid, extra_data, created,"
        " modified) select id, 'mitxpro-oauth2', 'linked', '{}', '2026-01-01', '2026-01-01'"
        " from auth_user where username != ? order by id limit 1",
        WORKER,
    )
    links_before = lms.value(links, "mitxpro-oauth2")
    plan["applications"][0]["backend"] = "ol-oauth2"
    item = f"links {links_before} learners' links from mitxpro-oauth2 to ol-oauth2"

    assert outcomes(lms.provision(plan, "--dry-run"))[item] == "moved"
    assert lms.execute(links, "mitxpro-oauth2") == [(links_before,)]

    answer = outcomes(lms.provision(plan))
    assert answer[item] == "moved"
    assert answer["provider record mitxpro-oauth2"] == "changed"  # switched off
    assert lms.execute(links, "mitxpro-oauth2") == [(0,)]

    plan["applications"][0]["backend"] = "mitxpro-oauth2"
    assert "moved" in outcomes(lms.provision(plan)).values()
    assert lms.execute(links, "mitxpro-oauth2") == [(links_before,)]
    # So that later tests find the LMS as it was.
    lms.execute("delete from social_auth_usersocialauth where uid = 'linked'")
    lms.execute(
        "delete from third_party_auth_oauth2providerconfig where backend_name = 'ol-oauth2'"
    )


def test_remove_switches_the_connection_off_and_purge_deletes_its_rows(
    lms: Lms, plan: dict[str, Any]
) -> None:
    # Remove: the provider record, the service worker's account and its token stop working.
    removed = lms.provision(plan, "--remove")

    assert outcomes(removed)["provider record mitxpro-oauth2"] == "changed"
    assert outcomes(removed)["OAuth client campus-oauth-app"] == "removed"
    newest = "select enabled from third_party_auth_oauth2providerconfig order by change_date desc"
    assert lms.execute(newest)[0] == (0,)
    assert lms.execute("select is_active from auth_user where username = ?", WORKER) == [(0,)]
    with lms.api() as api:
        assert api.get("/api/user/v1/me").status_code == 401
    # Visitors get the LMS's own form again.
    with lms.browser() as browser:
        page = browser.get("/login")
        assert (page.status_code, page.url.path) == (200, "/login")

    # Purge: the version of the provider record that somebody created by hand stays, and is current
    # again.
    columns = [
        row[1] for row in lms.execute("pragma table_info(third_party_auth_oauth2providerconfig)")
    ]
    copied = ", ".join(column for column in columns if column not in ("id", "change_date"))
    lms.execute(
        f"insert into third_party_auth_oauth2providerconfig ({copied}, change_date) "
        f"select {copied}, '2020-01-01 00:00:00' from third_party_auth_oauth2providerconfig limit 1"
    )
    lms.provision(plan)
    lms.provision(plan, "--remove", "--purge")

    assert lms.execute("select change_date from third_party_auth_oauth2providerconfig") == [
        ("2020-01-01 00:00:00",)
    ]
    lms.execute("delete from third_party_auth_oauth2providerconfig")
    assert lms.execute("select 1 from auth_user where username = ?", WORKER) == []
    assert lms.provision(plan, "--remove", "--purge")["changed"] == 0


@pytest.mark.parametrize(
    "call", ["provision(description", "remove(description", "remove(description, purge=True"]
)
def test_the_cached_provider_is_deleted_also_if_nothing_changes(
    lms: Lms, plan: dict[str, Any], call: str
) -> None:
    """A run may be killed between its commit and the deletion of the cached record. Sign-in would
    use this record until it expires, so the next run deletes it."""
    script = f"""
from usher.contract.provisioning import Description
from usher.lms.provisioning import services
deleted = []
platform.delete_cached_provider = lambda site_id, backend: deleted.append(backend)
description = Description.from_json(given["text"])
services.{call})
deleted.clear()
services.{call}, dry_run=True)
after_dry_run = list(deleted)
result = services.{call})
outcome = [after_dry_run, result.as_dict()["changed"], deleted]
"""
    after_dry_run, changed, deleted = run_script(lms, script, text=json.dumps(plan))

    assert (after_dry_run, changed) == ([], 0)
    assert "mitxpro-oauth2" in deleted

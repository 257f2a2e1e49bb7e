"""The batch API: many items, an outcome for each, and the same outcome for a repeated request."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.lms.conftest import DEMO, E2E, TOKEN, WORKER, Lms, account, wait_for

ACCOUNTS, ENROLLMENTS = "/usher/api/v1/accounts/", "/usher/api/v1/enrollments/"


def post(lms: Lms, path: str, items: list[dict[str, Any]], **more: Any) -> list[dict[str, Any]]:
    """Sends a batch, which must be answered with 200, and returns the items' results."""
    with lms.api() as api:
        answer = api.post(path, json={"items": items, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()["results"]


def post_one(lms: Lms, path: str, **item: Any) -> dict[str, Any]:
    return post(lms, path, [{"id": 1, **item}])[0]


def enroll(lms: Lms, username: str, **item: Any) -> dict[str, Any]:
    return post_one(lms, ENROLLMENTS, **{"username": username, "course_id": DEMO, **item})


def error_code(result: dict[str, Any]) -> str:
    """The error code of an item that must be refused."""
    assert result["status"] == "refused"
    assert result["error"]["message"]
    return result["error"]["code"]


class TestAccounts:
    def test_a_second_request_reports_the_accounts_as_existing(self, lms: Lms, name: str) -> None:
        items = [account(f"{name}_{number}") for number in range(40)]

        first, second = post(lms, ACCOUNTS, items), post(lms, ACCOUNTS, items)

        assert [result["id"] for result in first] == [item["id"] for item in items]
        assert {result["status"] for result in first} == {"created"}
        assert {result["status"] for result in second} == {"exists"}
        first_ids = [result["lms_user_id"] for result in first]
        assert [result["lms_user_id"] for result in second] == first_ids

    def test_only_the_application_s_client_can_refresh_created_tokens(
        self, lms: Lms, name: str
    ) -> None:
        result = post(lms, ACCOUNTS, [account(name, tokens=True)])[0]

        tokens = result["tokens"]
        assert tokens["scope"] == "read write"
        # The access token is the learner's.
        with lms.api(tokens["access_token"]) as learner:
            assert learner.get("/api/user/v1/me").json() == {"username": name}
        form = {
            "grant_type": "refresh_token",
            "refresh_token": tokens["refresh_token"],
            "client_id": "campus-at-the-lms",
            "client_secret": "secret-of-campus-at-the-lms",
        }
        refreshed = httpx.post(f"{lms.url}/oauth2/access_token", data=form, trust_env=False)
        assert refreshed.status_code == 200
        form_of_another_client = {
            **form,
            "refresh_token": refreshed.json()["refresh_token"],
            "client_id": "svc",
        }
        stolen = httpx.post(
            f"{lms.url}/oauth2/access_token", data=form_of_another_client, trust_env=False
        )
        assert stolen.status_code in (400, 401)

    def test_a_request_creates_tokens_for_an_existing_account(self, lms: Lms, name: str) -> None:
        post(lms, ACCOUNTS, [account(name)])

        result = post(lms, ACCOUNTS, [account(name, tokens=True)])[0]

        assert result["status"] == "exists"
        assert result["tokens"]["access_token"]

    def test_fields_that_differ_are_updated(self, lms: Lms, name: str) -> None:
        post(lms, ACCOUNTS, [account(name)])

        new = {"email": f"{name}@new.example", "name": "Neuer Name", "country": "DE"}
        result = post(lms, ACCOUNTS, [account(name, **new, is_active=False)])[0]

        assert result["status"] == "updated"
        row = lms.execute(
            "select email, is_active, name, country from auth_user u join auth_userprofile p "
            "on p.user_id = u.id where username = ?",
            name,
        )
        assert row == [(new["email"], 0, "Neuer Name", "DE")]
        assert post(lms, ACCOUNTS, [account(name, **new, is_active=False)])[0]["status"] == "exists"

    @pytest.mark.parametrize(
        ("change", "code", "column"),
        [
            ({"name": "<b>Ada</b>"}, "validation-error", "name"),
            ({"email": "nonsense"}, "validation-error", "email"),
            ({"country": "ZZ"}, "invalid-country", "country"),
        ],
    )
    def test_an_existing_account_gets_no_invalid_value(
        self, lms: Lms, name: str, change: dict[str, str], code: str, column: str
    ) -> None:
        """A deactivation is not refused because of such a value."""
        post(lms, ACCOUNTS, [account(name, country="GB")])
        saved = (
            f"select {column}, is_active from auth_user u join auth_userprofile p "
            "on p.user_id = u.id where username = ?"
        )
        before = lms.execute(saved, name)

        result = post(lms, ACCOUNTS, [account(name, **{"country": "GB", **change})])[0]

        assert error_code(result) == code
        assert set(result["error"]["fields"]) == {column}
        assert lms.execute(saved, name) == before
        item = account(name, **{"country": "GB", **change}, is_active=False)
        assert post(lms, ACCOUNTS, [item])[0]["status"] == "updated"
        assert lms.execute(saved, name) == [(before[0][0], 0)]
        assert post(lms, ACCOUNTS, [item])[0]["status"] == "exists"

    def test_a_learner_with_a_taken_address_is_deactivated_without_it(
        self, lms: Lms, name: str
    ) -> None:
        post(lms, ACCOUNTS, [account(name + "a"), account(name + "b")])
        taken = account(name + "a")["email"]
        active = account(name + "b", email=taken, name="<b>")
        assert error_code(post(lms, ACCOUNTS, [active])[0]) == "duplicate-email"

        item = {**active, "is_active": False}
        assert post(lms, ACCOUNTS, [item])[0]["status"] == "updated"

        saved = (
            "select email, name, is_active from auth_user u join auth_userprofile p "
            "on p.user_id = u.id where username = ?"
        )
        # The account keeps its own address and name.
        before = account(name + "b")
        assert lms.execute(saved, name + "b") == [(before["email"], before["name"], 0)]
        assert post(lms, ACCOUNTS, [item])[0]["status"] == "exists"

    def test_an_invalid_value_that_the_account_has_already_is_no_reason_to_refuse(
        self, lms: Lms, name: str
    ) -> None:
        key = post(lms, ACCOUNTS, [account(name)])[0]["lms_user_id"]
        lms.execute("update auth_userprofile set name = '<b>' where user_id = ?", key)

        item = account(name, name="<b>", email=f"{name}@new.example")

        assert post(lms, ACCOUNTS, [item])[0]["status"] == "updated"

    @pytest.mark.parametrize("left_out", [{"name": "", "country": ""}, {"country": None}])
    def test_an_item_without_a_name_leaves_the_name_of_an_existing_account(
        self, lms: Lms, name: str, left_out: dict[str, Any]
    ) -> None:
        post(lms, ACCOUNTS, [account(name, name="Ada Lovelace", country="GB")])

        item = {"id": name, "username": name, "email": account(name)["email"], **left_out}

        assert post(lms, ACCOUNTS, [item])[0]["status"] == "exists"
        row = lms.execute(
            "select name, country from auth_user u join auth_userprofile p on p.user_id = u.id "
            "where username = ?",
            name,
        )
        assert row == [("Ada Lovelace", "GB")]

    def test_an_account_without_a_profile_gets_one(self, lms: Lms, name: str) -> None:
        key = post(lms, ACCOUNTS, [account(name)])[0]["lms_user_id"]
        lms.execute("delete from auth_userprofile where user_id = ?", key)

        result = post(lms, ACCOUNTS, [account(name, name="")])[0]

        assert result["status"] == "updated"
        assert lms.value("select name from auth_userprofile where user_id = ?", key) == name

    def test_a_new_account_without_a_name_gets_the_username_as_name(
        self, lms: Lms, name: str
    ) -> None:
        items = [account(name + each, name="") for each in ("a", "b")]

        results = [*post(lms, ACCOUNTS, items), *post(lms, ACCOUNTS, [account(name, name="")])]

        assert {result["status"] for result in results} == {"created"}
        for result in results:
            profile = "select name from auth_userprofile where user_id = ?"
            assert lms.value(profile, result["lms_user_id"]) == result["username"]

    def test_refused_accounts_have_the_error_codes_of_registration(
        self, lms: Lms, name: str
    ) -> None:
        post(lms, ACCOUNTS, [account(name + "a"), account(name + "b")])
        lms.execute("delete from social_auth_usersocialauth where uid = ?", name + "a")
        # Now the account "a" is no learner's, and its username and address are taken. The second
        # and the third item have them in another case. "b" is a learner's account, whose address
        # the fifth item would change.
        items = [
            account(name + "a", email=f"{name}1@x.example"),
            account((name + "a").upper(), email=f"{name}2@x.example"),
            account(name + "c", email=f"{name}A@learners.example"),
            account(name + "a"),
            account(name + "b", email=f"{name}a@learners.example"),
            account(name + "d", country="ZZ"),
            account(name + "e", email="nonsense"),
            account("x" * 31),
            account(name + "f", name="<b>"),
            account(name + "g"),
        ]

        results = post(lms, ACCOUNTS, items)

        assert [error_code(result) for result in results[:-1]] == [
            "duplicate-username",
            "duplicate-username",
            "duplicate-email",
            "duplicate-email-username",
            "duplicate-email",
            "invalid-country",
            "validation-error",
            "validation-error",
            "validation-error",
        ]
        assert results[0]["error"]["suggestions"]
        assert set(results[6]["error"]["fields"]) == {"email"}
        assert results[-1]["status"] == "created"

    def test_an_item_that_conflicts_with_an_earlier_item_of_the_request_is_refused(
        self, lms: Lms, name: str
    ) -> None:
        items = [
            account(name),
            account(name),
            account(name.upper(), email=f"{name}3@x.example"),
            account(name + "x", email=f"{name}@learners.example"),
        ]

        results = post(lms, ACCOUNTS, items)

        assert [result["status"] for result in results] == [
            "created",
            "exists",
            "refused",
            "refused",
        ]

    def test_an_unknown_client_id_is_refused(self, lms: Lms, name: str) -> None:
        with lms.api() as api:
            body = {"items": [account(name)], "client_id": "somebody-else"}
            answer = api.post(ACCOUNTS, json=body)

        assert answer.status_code == 400
        assert "client_id" in answer.json()


@pytest.mark.parametrize("form", [" {}", "{} ", "{}\n", "\t{}", "{}\u00a0"])
def test_a_username_with_white_space_around_it_is_not_taken_for_another_learner_s(
    lms: Lms, name: str, form: str
) -> None:
    """The other learner's account must not be changed, nor its tokens given away."""
    other = form.format(name)
    post(lms, ACCOUNTS, [account(name)])
    item = {"id": 1, "username": other, "email": f"{name}@other.example", "tokens": True}

    refused = post(lms, ACCOUNTS, [item])[0]

    assert error_code(refused) in ("validation-error", "duplicate-username")
    assert refused["tokens"] is None
    assert post(lms, ACCOUNTS, [account(name)])[0]["status"] == "exists"
    assert error_code(enroll(lms, other)) == "unknown-user"
    assert error_code(enroll(lms, name, uid=other)) == "linked-elsewhere"
    with lms.api() as api:
        links = api.get("/usher/api/v1/links/", params={"username": other}).json()
    assert (links["leads_to"], links["account"]) == (None, None)


def test_an_account_gets_no_username_with_white_space_around_it(lms: Lms, name: str) -> None:
    item = {**account(name), "username": f"{name}\n"}

    assert set(post(lms, ACCOUNTS, [item])[0]["error"]["fields"]) == {"username"}


class TestEnrollments:
    @pytest.fixture(autouse=True)
    def learner(self, lms: Lms, name: str) -> None:
        """Creates the account ``name``, with no enrollment."""
        post(lms, ACCOUNTS, [account(name)])

    def test_an_enrollment_is_created_changed_ended_and_resumed(self, lms: Lms, name: str) -> None:
        # Each step: changed fields of the item, then the result's status, mode and is_active.
        steps = [
            ({"mode": "audit"}, "changed", "audit", True),
            ({"mode": "audit"}, "unchanged", "audit", True),
            ({"mode": "verified"}, "changed", "verified", True),
            ({"is_active": False}, "changed", "verified", False),
            ({"is_active": False}, "unchanged", "verified", False),
            ({"mode": "verified", "is_active": True}, "changed", "verified", True),
        ]
        for changes, status, mode, is_active in steps:
            result = enroll(lms, name, **changes)
            assert (result["status"], result["mode"], result["is_active"]) == (
                status,
                mode,
                is_active,
            ), changes
            rows = lms.execute(
                "select e.mode, e.is_active from student_courseenrollment e join auth_user u "
                "on u.id = e.user_id where username = ?",
                name,
            )
            assert rows == [(mode, int(is_active))]

    def test_one_request_enrolls_many_learners(self, lms: Lms, name: str) -> None:
        names = [f"{name}_{number}" for number in range(20)]
        post(lms, ACCOUNTS, [account(name) for name in names])
        items = [
            {"id": f"{name} {run}", "username": name, "course_id": run, "mode": "audit"}
            for name in names
            for run in (DEMO, E2E)
        ]

        first, second = post(lms, ENROLLMENTS, items), post(lms, ENROLLMENTS, items)

        assert {result["status"] for result in first} == {"changed"}
        assert {result["status"] for result in second} == {"unchanged"}
        assert [result["id"] for result in first] == [item["id"] for item in items]

    def test_refused_enrollments_have_error_codes(self, lms: Lms, name: str) -> None:
        enroll(lms, name, mode="audit")

        assert error_code(enroll(lms, "nobody_of_this_name")) == "unknown-user"
        assert error_code(enroll(lms, name, course_id="nonsense")) == "unknown-run"
        assert error_code(enroll(lms, name, course_id="course-v1:edX+None+2026")) == "unknown-run"
        assert error_code(enroll(lms, name, mode="no-such-mode")) == "mode-unavailable"
        mismatch = enroll(lms, name, mode="verified", is_active=False)
        assert error_code(mismatch) == "mode-mismatch"
        assert "active mode=audit" in mismatch["error"]["message"]
        assert error_code(enroll(lms, name, course_id=E2E, is_active=False)) == "not-enrolled"

    def test_enrolling_in_a_closed_run_requires_force(self, lms: Lms, name: str) -> None:
        table = "course_overviews_courseoverview"
        ended = "2018-12-31 00:00:00"
        before = lms.value(f"select enrollment_end from {table} where id = ?", E2E)
        lms.execute(f"update {table} set enrollment_end = ? where id = ?", ended, E2E)
        try:
            assert error_code(enroll(lms, name, course_id=E2E, mode="audit")) == "enrollment-closed"
            forced = enroll(lms, name, course_id=E2E, mode="audit", force=True)
            assert forced["status"] == "changed"
        finally:
            lms.execute(f"update {table} set enrollment_end = ? where id = ?", before, E2E)

    def test_a_learner_can_leave_a_run_whose_mode_no_longer_exists(
        self, lms: Lms, name: str
    ) -> None:
        """The request to leave names no mode."""
        enroll(lms, name, course_id=E2E, mode="verified")
        rename = "update course_modes_coursemode set mode_slug = ? where course_id = ? and "
        lms.execute(rename + "mode_slug = ?", "withdrawn", E2E, "verified")
        try:
            # The same request with the mode is refused.
            with_mode = enroll(lms, name, course_id=E2E, mode="verified", is_active=False)
            assert error_code(with_mode) == "mode-unavailable"
            assert enroll(lms, name, course_id=E2E, is_active=False)["status"] == "changed"
        finally:
            lms.execute(rename + "mode_slug = ?", "verified", E2E, "withdrawn")


class TestChanges:
    def test_course_runs_are_listed_page_by_page(self, lms: Lms) -> None:
        with lms.api() as api:
            first = api.get("/usher/api/v1/course-runs/", params={"limit": 1}).json()
            second = api.get(
                "/usher/api/v1/course-runs/", params={"limit": 1, "cursor": first["next"]}
            ).json()
            future = {"changed_since": "2999-01-01T00:00:00Z"}
            assert api.get("/usher/api/v1/course-runs/", params=future).json()["results"] == []

        keys = [page["results"][0]["course_id"] for page in (first, second)]
        assert sorted(keys) == keys
        assert len(set(keys)) == 2
        run = first["results"][0]
        assert {mode["mode_slug"] for mode in run["modes"]} == {"audit", "verified"}
        assert run["pacing"] == "self"

    def test_changes_since_a_moment_are_listed(self, lms: Lms, name: str) -> None:
        """A request without ``changed_since`` lists everything."""
        post(lms, ACCOUNTS, [account(name + "a"), account(name + "b")])
        with lms.api() as api:
            everything = self.read_all_pages(api, "accounts")
            assert {name + "a", name + "b"} <= {row["username"] for row in everything}
            # The time of the newest change in the LMS's log, which is listed again. The answer's
            # ``now`` can't be used here: it is a minute in the past, and all changes of this test
            # are later.
            since = lms.value("select max(created) from usher_lms_message").replace(" ", "T") + "Z"
            enroll(lms, name + "a", mode="audit")
            post(lms, ACCOUNTS, [account(name + "b", name="Other")])

            params = {"changed_since": since, "limit": 1}
            accounts = self.read_all_pages(api, "accounts", **params)
            enrollments = self.read_all_pages(api, "enrollments", **params)

        newest_change = accounts[-1]
        assert (newest_change["username"], newest_change["name"]) == (name + "b", "Other")
        assert {(row["username"], row["course_id"], row["mode"]) for row in enrollments} == {
            (name + "a", DEMO, "audit")
        }

    def test_the_change_of_a_renamed_account_is_listed(self, lms: Lms, name: str) -> None:
        """Staff renamed the account, so its username is no longer the uid of its link."""
        post(lms, ACCOUNTS, [account(name)])
        created = datetime.fromisoformat(lms.value("select max(created) from usher_lms_message"))
        # After the creation of the account, in whose message the username is still the uid.
        since = (created + timedelta(microseconds=1)).isoformat() + "Z"
        renaming = (
            "from django.contrib.auth import get_user_model\n"
            f"user = get_user_model().objects.get(username={name!r})\n"
            f"user.username = {name + '_renamed'!r}\n"
            "user.save()"
        )
        assert lms.run("shell", "--command", renaming).returncode == 0
        with lms.api() as api:
            accounts = self.read_all_pages(api, "accounts", changed_since=since)
        assert {"id": name, "username": name + "_renamed"} in [
            {"id": row["id"], "username": row["username"]} for row in accounts
        ]

    def test_all_pages_of_a_list_come_from_the_source_of_the_first(
        self, lms: Lms, name: str
    ) -> None:
        """Between two pages the log becomes too short for the list."""
        post(lms, ACCOUNTS, [account(name + "a"), account(name + "b")])
        since = lms.value("select max(created) from usher_lms_message").replace(" ", "T") + "Z"
        post(lms, ACCOUNTS, [account(name + "a", name="A"), account(name + "b", name="B")])
        params = {"changed_since": since, "limit": 1}
        with lms.api() as api:
            page = api.get("/usher/api/v1/accounts/", params=params).json()
            assert page["next"]
            created = lms.value("select max(created) from usher_lms_connectedapplication")
            lms.execute("update usher_lms_connectedapplication set created = '2999-01-01 00:00:00'")
            try:
                cursor = page["next"]
                others = self.read_all_pages(api, "accounts", **params, first_cursor=cursor)
            finally:
                lms.execute("update usher_lms_connectedapplication set created = ?", created)
        assert {row["name"] for row in [*page["results"], *others]} >= {"A", "B"}

    def read_all_pages(
        self, api: httpx.Client, kind: str, *, first_cursor: str = "", **params: Any
    ) -> list[dict[str, Any]]:
        """Returns the results on all pages of this list, or on those from this cursor on."""
        rows: list[dict[str, Any]] = []
        cursor = first_cursor
        while cursor is not None:
            page = api.get(f"/usher/api/v1/{kind}/", params={**params, "cursor": cursor})
            assert page.status_code == 200, page.text
            rows += page.json()["results"]
            cursor = page.json()["next"]
        return rows

    def test_enrollments_are_listed_page_by_page(self, lms: Lms, name: str) -> None:
        post(lms, ACCOUNTS, [account(name)])
        enroll(lms, name, mode="audit")
        with lms.api() as api:
            rows = self.read_all_pages(api, "enrollments", limit=2)

        rows_of_learner = [row for row in rows if row["username"] == name]
        assert [(row["course_id"], row["mode"], row["is_active"]) for row in rows_of_learner] == [
            (DEMO, "audit", True)
        ]


class TestAccess:
    @pytest.mark.parametrize("method", ["GET", "POST"])
    @pytest.mark.parametrize("path", [ACCOUNTS, ENROLLMENTS])
    def test_only_the_service_worker_s_token_gives_access(
        self, lms: Lms, name: str, method: str, path: str
    ) -> None:
        created = post(lms, ACCOUNTS, [account(name, tokens=True)])[0]
        learner_token = created["tokens"]["access_token"]
        for token, status in (("nonsense", 401), ("a b", 401), (learner_token, 403)):
            with lms.api(token) as api:
                answer = api.request(method, path, json={"items": []})
            assert answer.status_code == status
            assert ("WWW-Authenticate" in answer.headers) == (status == 401)

    def test_a_browser_s_session_gives_no_access(self, lms: Lms, name: str) -> None:
        browser = lms.sign_in(name)
        assert browser.get(ACCOUNTS).status_code == 401

    def test_a_service_worker_that_is_no_longer_staff_has_no_access(self, lms: Lms) -> None:
        set_is_staff = "update auth_user set is_staff = ? where username = ?"
        lms.execute(set_is_staff, 0, WORKER)
        try:
            with lms.api() as api:
                assert api.get("/usher/api/v1/").status_code == 403
        finally:
            lms.execute(set_is_staff, 1, WORKER)

    def test_the_start_page_lists_capabilities_limits_and_applications(self, lms: Lms) -> None:
        with lms.api() as api:
            answer = api.get("/usher/api/v1/").json()

        assert answer["capabilities"] == [
            "accounts",
            "enrollments",
            "course-runs",
            "tokens",
            "links",
        ]
        assert answer["max_items"] == 500
        assert answer["applications"] == [
            {
                "name": "campus",
                "backend": "mitxpro-oauth2",
                "oauth_client_id": "campus-at-the-lms",
            }
        ]


class TestLimits:
    def test_the_course_list_does_not_throttle_the_service_worker(
        self, lms: Lms, name: str
    ) -> None:
        """It does throttle a learner."""
        created = post(lms, ACCOUNTS, [account(name, tokens=True)])[0]
        learner_token = created["tokens"]["access_token"]
        path = "/api/courses/v1/courses/?page_size=1"
        with lms.api() as worker, lms.api(learner_token) as learner:
            # The platform allows staff 40 requests a minute, and other users 20.
            assert {worker.get(path).status_code for _ in range(45)} == {200}
            assert wait_for(lambda: learner.get(path).status_code == 429)

    def test_registration_does_not_throttle_the_service_worker(self, lms: Lms) -> None:
        """It throttles requests with a wrong token."""
        path = f"{lms.url}/user_api/v1/account/registration/"
        with httpx.Client(timeout=60, trust_env=False) as client:

            def is_limited(headers: dict[str, str]) -> bool:
                answer = client.post(path, data={"username": "a"}, headers=headers)
                return answer.status_code == 403

            bearer = {"Authorization": f"Bearer {TOKEN}"}
            # The platform allows 60 registrations from one address.
            assert not any(is_limited(bearer) for _ in range(31))
            assert not any(is_limited({"X-Access-Token": TOKEN}) for _ in range(31))
            assert any(is_limited({"X-Access-Token": "wrong"}) for _ in range(62))
            assert not is_limited(bearer)

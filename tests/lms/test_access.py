"""The limits of a service worker's token."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.lms.conftest import DEMO, TOKEN, WORKER, Lms, account, description, wait_for

API = "/usher/api/v1/"
ACCOUNTS, ENROLLMENTS = API + "accounts/", API + "enrollments/"
OTHER_TOKEN = "token-of-the-other-service-worker-" + "2" * 30
OTHER_WORKER = {
    "username": "xpro_serviceworker",
    "email": "xpro_worker@example.org",
    "token": OTHER_TOKEN,
}
OTHER_CLIENT = "xpro-oauth-id"


def second(lms: Lms, **changes: Any) -> dict[str, Any]:
    """A second application, with its own service worker."""
    return lms.application.description(
        name="xpro",
        backend="xpro-oauth2",
        oauth_name="xpro-oauth-app",
        oauth_client_id=OTHER_CLIENT,
        oauth_redirect_uris=["http://xpro.example/login/_private/complete"],
        service_worker=OTHER_WORKER,
        **changes,
    )


@pytest.fixture(scope="module")
def two(lms: Lms) -> Iterator[Lms]:
    both = description(lms.application.description(), second(lms))
    lms.provision(both)
    yield lms
    lms.provision({"applications": [second(lms)]}, "--remove", "--purge")


def post(
    lms: Lms, path: str, *items: dict[str, Any], token: str = TOKEN, **more: Any
) -> httpx.Response:
    with lms.api(token) as api:
        return api.post(path, json={"items": list(items), **more})


def result(answer: httpx.Response) -> dict[str, Any]:
    """The result of a batch's first item."""
    assert answer.status_code == 200, answer.text
    return dict(answer.json()["results"][0])


def learner(lms: Lms, name: str, *, token: str = TOKEN, **rights: int) -> None:
    """Creates a linked account as the service worker with this token. rights: columns of the LMS's
    user, such as ``is_staff=1``."""
    assert result(post(lms, ACCOUNTS, account(name), token=token))["status"] == "created"
    for right, value in rights.items():
        lms.rows(f"update auth_user set {right} = ? where username = ?", value, name)


TOKENS_LEFT = (
    "select count(*) from oauth2_provider_refreshtoken t join auth_user u on u.id = t.user_id "
    "where u.username = ? and t.revoked is null"
)


def revoke(lms: Lms, name: str) -> None:
    lms.rows(
        "update oauth2_provider_refreshtoken set revoked = datetime('now') where user_id = "
        "(select id from auth_user where username = ?)",
        name,
    )


@pytest.mark.parametrize(
    "change",
    [
        "update auth_user set is_active = 0 where username = ?",
        "update social_auth_usersocialauth set provider = 'another-oauth2' where uid = ?",
        "delete from social_auth_usersocialauth where uid = ?",
    ],
    ids=["deactivated", "moved", "unlinked"],
)
def test_a_repetition_returns_no_tokens_of_former_learners_of_the_application(
    lms: Lms, name: str, change: str
) -> None:
    asked = account(name, tokens=True)
    assert result(post(lms, ACCOUNTS, asked, request_id=name))["tokens"]
    lms.rows(change, name)
    revoke(lms, name)

    item_result = result(post(lms, ACCOUNTS, asked, request_id=name))

    assert (item_result["status"], item_result["tokens"]) == ("created", None)
    assert lms.value(TOKENS_LEFT, name) == 0


@pytest.mark.parametrize("change", [{}, {"email": "new@example.org"}, {"is_active": False}])
def test_an_account_of_another_name_is_neither_changed_nor_used(
    lms: Lms, name: str, change: dict[str, Any]
) -> None:
    """An account has another name if the LMS's staff renamed it, or if the learner's link leads to
    another person's account."""
    learner(lms, name)
    other = f"{name}_new"
    lms.rows("update auth_user set username = ? where username = ?", other, name)
    state = "select email, is_active from auth_user where username = ?"
    before = lms.rows(state, other)
    refused = result(post(lms, ACCOUNTS, account(name, tokens=True) | change))
    assert (refused["error"]["code"], refused["tokens"]) == ("linked-elsewhere", None)
    assert other in refused["error"]["message"]
    assert lms.rows(state, other) == before


RIGHTS = [{"is_staff": 1}, {"is_superuser": 1}, {"is_staff": 1, "is_superuser": 1}]


@pytest.mark.parametrize("rights", RIGHTS, ids=lambda r: "+".join(r))
class TestAccountsWithRights:
    def test_their_tokens_are_refused(self, lms: Lms, name: str, rights: dict[str, int]) -> None:
        learner(lms, name, **rights)
        tokens = "select count(*) from oauth2_provider_accesstoken t join auth_user u on " + (
            "u.id = t.user_id where u.username = ?"
        )

        refused = result(post(lms, ACCOUNTS, account(name, tokens=True)))

        assert refused["status"] == "refused"
        assert refused["error"]["code"] == "protected-account"
        assert refused["tokens"] is None
        assert lms.value(tokens, name) == 0

    def test_nor_does_a_repetition_of_an_earlier_request_give_them(
        self, lms: Lms, name: str, rights: dict[str, int]
    ) -> None:
        """The LMS keeps the outcome of the first request for a day. The learner became staff after
        that request."""
        asked = account(name, tokens=True)
        assert result(post(lms, ACCOUNTS, asked, request_id=name))["tokens"]
        for right, value in rights.items():
            lms.rows(f"update auth_user set {right} = ? where username = ?", value, name)
        assert result(post(lms, ACCOUNTS, asked, request_id=name))["tokens"] is None
        revoke(lms, name)

        item_result = result(post(lms, ACCOUNTS, asked, request_id=name))

        assert item_result["tokens"] is None
        assert lms.value(TOKENS_LEFT, name) == 0

    @pytest.mark.parametrize(
        "change",
        [
            {"email": "attacker@evil.example"},
            {"name": "Another Name"},
            {"country": "NL"},
            {"is_active": False},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_accounts_of_staff_are_not_changed(
        self, lms: Lms, name: str, rights: dict[str, int], change: dict[str, Any]
    ) -> None:
        learner(lms, name, **rights)
        sql = (
            "select u.email, u.is_active, u.is_staff, u.is_superuser, p.name, p.country "
            "from auth_user u join auth_userprofile p on p.user_id = u.id where username = ?"
        )
        before = lms.rows(sql, name)

        refused = result(post(lms, ACCOUNTS, {**account(name), **change}))

        assert refused["error"]["code"] == "protected-account"
        assert name in refused["error"]["message"]
        assert lms.rows(sql, name) == before

    def test_a_request_that_changes_nothing_is_answered(
        self, lms: Lms, name: str, rights: dict[str, int]
    ) -> None:
        """An application may send such a request about a superuser who is also a learner."""
        learner(lms, name, **rights)

        assert result(post(lms, ACCOUNTS, account(name)))["status"] == "exists"
        enrolled = {"id": 1, "username": name, "course_id": DEMO, "mode": "audit"}
        assert result(post(lms, ENROLLMENTS, enrolled))["status"] == "changed"

    def test_others_of_the_same_request_are_served(
        self, lms: Lms, name: str, rights: dict[str, int]
    ) -> None:
        learner(lms, name, **rights)

        answer = post(lms, ACCOUNTS, account(name, tokens=True), account(name + "b", tokens=True))

        statuses = [item["status"] for item in answer.json()["results"]]
        assert statuses == ["refused", "created"]


def test_a_service_worker_is_no_target_even_when_linked(lms: Lms, two: Lms) -> None:
    """An operator may have linked the service worker by mistake."""
    worker_id = lms.value("select id from auth_user where username = ?", OTHER_WORKER["username"])
    lms.rows("update auth_user set is_staff = 0 where id = ?", worker_id)
    lms.rows(
        "insert into social_auth_usersocialauth (provider, uid, user_id, extra_data, created, "
        "modified) values ('mitxpro-oauth2', ?, ?, '{}', '2026-01-01', '2026-01-01')",
        OTHER_WORKER["username"],
        worker_id,
    )
    try:
        for item in (
            account(OTHER_WORKER["username"], tokens=True),
            account(OTHER_WORKER["username"], email="attacker@evil.example"),
        ):
            assert result(post(lms, ACCOUNTS, item))["error"]["code"] == "protected-account"
    finally:
        lms.rows("delete from social_auth_usersocialauth where user_id = ?", worker_id)
        lms.rows("update auth_user set is_staff = 1 where id = ?", worker_id)


class TestLearnersOfAnotherApplication:
    @pytest.fixture
    def theirs(self, two: Lms, name: str) -> str:
        """The name of an enrolled learner of the second application."""
        learner(two, name, token=OTHER_TOKEN)
        enrolled = {"id": 1, "username": name, "course_id": DEMO, "mode": "audit"}
        assert result(post(two, ENROLLMENTS, enrolled, token=OTHER_TOKEN))["status"] == "changed"
        return name

    @pytest.mark.parametrize("path", [ACCOUNTS, ENROLLMENTS])
    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_naming_its_client_is_refused(self, two: Lms, path: str, method: str) -> None:
        with two.api() as api:
            named = {"client_id": OTHER_CLIENT}
            answer = api.request(method, path, params=named, json={"items": [], **named})
        assert answer.status_code == 400
        assert "client_id" in answer.json()

    @pytest.mark.parametrize("client_id", [None, "", "campus-at-the-lms"])
    def test_no_client_id_gives_access_to_them(
        self, two: Lms, theirs: str, client_id: str | None
    ) -> None:
        named = {} if client_id is None else {"client_id": client_id}
        item = account(theirs, email="attacker@evil.example", tokens=True)
        item_result = result(post(two, ACCOUNTS, item, **named))
        assert (item_result["status"], item_result["tokens"]) == ("refused", None)
        leaves = {"id": 1, "username": theirs, "course_id": DEMO, "is_active": False}
        unknown = result(post(two, ENROLLMENTS, leaves, **named))
        assert unknown["error"]["code"] == "unknown-user"
        with two.api() as api:
            for path in (ACCOUNTS, ENROLLMENTS):
                listed = api.get(path, params={**named, "limit": 500}).json()["results"]
                assert theirs not in [row["username"] for row in listed]
        assert two.value("select email from auth_user where username = ?", theirs) == (
            f"{theirs}@learners.example"
        )

    def test_nor_does_the_log_of_changes(self, two: Lms, theirs: str) -> None:
        """The log does not show changes of a learner of the other application, even after the
        learner's link was deleted."""
        since = two.value("select datetime('now', '-1 hour')")
        two.rows("delete from social_auth_usersocialauth where uid = ?", theirs)
        with two.api(OTHER_TOKEN) as api:
            listed = api.get(ENROLLMENTS, params={"changed_since": since + "+00:00"}).json()
        assert theirs not in [row["username"] for row in listed["results"]]

    def test_nor_does_how_they_sign_in(self, two: Lms, theirs: str) -> None:
        with two.api() as api:
            body = api.get(API + "links/", params={"username": theirs}).json()
            named = {"username": theirs, "client_id": OTHER_CLIENT}
            assert api.get(API + "links/", params=named).status_code == 400
        assert body["application"] == "campus"
        assert body["leads_to"] is None
        assert body["account"]["linked_from"] == []

    def test_capabilities_name_the_caller_alone(self, two: Lms) -> None:
        for token, name in ((TOKEN, "campus"), (OTHER_TOKEN, "xpro")):
            with two.api(token) as api:
                names = [application["name"] for application in api.get(API).json()["applications"]]
            assert names == [name]

    def test_the_report_has_no_secrets_of_other_applications(self, two: Lms) -> None:
        for token, name in ((TOKEN, WORKER), (OTHER_TOKEN, OTHER_WORKER["username"])):
            with two.api(token) as api:
                data = api.get(API + "report/").json()
            assert data["service_worker"]["username"] == name
            shown = [
                row["name"] for row in data["connections"] if row["webhook_secret_fingerprint"]
            ]
            assert shown == ["campus" if token == TOKEN else "xpro"]
            clients = [row["client_id"] for row in data["oauth_clients"]]
            assert {"campus-at-the-lms", OTHER_CLIENT} <= set(clients)
            known = [row["client_id"] for row in data["oauth_clients"] if row["secret_fingerprint"]]
            assert known == ["campus-at-the-lms" if token == TOKEN else OTHER_CLIENT]


class TestTokens:
    @pytest.fixture
    def set_token(self, lms: Lms) -> Iterator[Any]:
        """A function that changes columns of the service worker's token until the test ends."""
        columns = "scope, application_id, user_id, expires"
        sql = f"select {columns} from oauth2_provider_accesstoken where token = ?"
        before = lms.rows(sql, TOKEN)[0]

        def change(**values: Any) -> None:
            for column, value in values.items():
                lms.rows(
                    f"update oauth2_provider_accesstoken set {column} = ? where token = ?",
                    value,
                    TOKEN,
                )

        yield change
        change(**dict(zip(columns.split(", "), before, strict=True)))

    @pytest.mark.parametrize("scope", ["read", "read email profile", "", "writes", "READ WRITE"])
    def test_only_the_scope_write_writes(
        self, lms: Lms, name: str, set_token: Any, scope: str
    ) -> None:
        set_token(scope=scope)
        assert post(lms, ACCOUNTS, account(name)).status_code == 403
        enrolled = {"id": 1, "username": name, "course_id": DEMO}
        assert post(lms, ENROLLMENTS, enrolled).status_code == 403
        assert lms.rows("select 1 from auth_user where username = ?", name) == []
        reads = 200 if scope.startswith("read") else 403
        with lms.api() as api:
            statuses = {api.get(path).status_code for path in (API, ACCOUNTS, API + "course-runs/")}
        assert statuses == {reads}

    def test_write_alone_does_not_read(self, lms: Lms, name: str, set_token: Any) -> None:
        set_token(scope="write")
        with lms.api() as api:
            assert api.get(ACCOUNTS).status_code == 403

    def test_a_token_of_another_client_is_refused(
        self, two: Lms, name: str, set_token: Any
    ) -> None:
        ids = dict(two.rows("select client_id, id from oauth2_provider_application"))
        for client in (None, ids[OTHER_CLIENT], ids["login-service-client-id"]):
            set_token(application_id=client)
            answer = post(two, ACCOUNTS, account(name))
            assert answer.status_code == 403
            assert "usher connect" in answer.json()["detail"]

    def test_nor_does_such_a_token_lift_the_limit_of_registrations(
        self, lms: Lms, set_token: Any
    ) -> None:
        set_token(scope="read")
        path = f"{lms.url}/user_api/v1/account/registration/"
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        with httpx.Client(timeout=60, trust_env=False) as client:

            def status() -> int:
                return client.post(path, data={"username": "a"}, headers=bearer).status_code

            assert any(status() == 403 for _ in range(62))


class TestProvisioning:
    def test_the_token_belongs_to_the_applications_client(self, two: Lms) -> None:
        sql = (
            "select a.client_id from oauth2_provider_accesstoken t "
            "join oauth2_provider_application a on a.id = t.application_id where t.token = ?"
        )
        assert two.rows(sql, TOKEN) == [("campus-at-the-lms",)]
        assert two.rows(sql, OTHER_TOKEN) == [(OTHER_CLIENT,)]

    @pytest.mark.parametrize("field", ["username", "token"])
    def test_two_applications_can_not_share_one(self, lms: Lms, field: str) -> None:
        first = description(lms.application.description())["service_worker"]
        other = second(lms)
        other["service_worker"] = {**OTHER_WORKER, field: first[field]}
        text = json.dumps(description(lms.application.description(), other))

        done = lms.run("usher_provision", "--file", "-", "--dry-run", text=text)

        assert done.returncode == 1
        assert "give each its own" in done.stderr

    @pytest.mark.parametrize(
        ("rights", "reason"),
        [
            ({}, "learner who signs in with an application"),
            ({"is_staff": 1}, "learner who signs in with an application"),
            ({"is_superuser": 1}, "is a superuser"),
        ],
    )
    def test_an_existing_account_with_the_worker_s_name_does_not_become_staff(
        self, lms: Lms, name: str, rights: dict[str, int], reason: str
    ) -> None:
        learner(lms, name, **rights)
        flags = "select is_staff, is_superuser from auth_user where username = ?"
        before = lms.rows(flags, name)

        provisioning = self.provision_named(lms, name)

        assert provisioning.returncode == 1
        assert reason in provisioning.stderr
        assert lms.rows(flags, name) == before

    def test_an_account_registered_in_the_lms_does_not_become_staff(
        self, lms: Lms, name: str
    ) -> None:
        lms.rows(
            "insert into auth_user (username, email, password, is_staff, is_superuser, is_active, "
            "first_name, last_name, date_joined) values (?, ?, '', 0, 0, 1, '', '', '2026-01-01')",
            name,
            f"{name}@squatter.example",
        )

        provisioning = self.provision_named(lms, name)

        assert provisioning.returncode == 1
        assert "isn't staff" in provisioning.stderr
        assert lms.rows("select is_staff from auth_user where username = ?", name) == [(0,)]

    def test_one_that_gets_another_name_leaves_nothing_behind(self, lms: Lms, name: str) -> None:
        provisioning = self.provision_named(lms, name, token="token-after-rotation-" + "3" * 40)
        try:
            assert provisioning.returncode == 0, provisioning.stderr
            old = "select is_staff, is_active from auth_user where username = ?"
            assert lms.rows(old, WORKER) == [(0, 0)]
            with lms.api(TOKEN) as api:
                assert api.get(API).status_code == 401
        finally:
            lms.provision(description(lms.application.description()))
        with lms.api(TOKEN) as api:
            assert wait_for(lambda: api.get(API).status_code == 200)

    @staticmethod
    def provision_named(lms: Lms, name: str, token: str = "t" * 64) -> Any:
        plan = description(lms.application.description())
        plan["service_worker"] = {"username": name, "email": f"{name}@w.example", "token": token}
        return lms.run("usher_provision", "--file", "-", text=json.dumps(plan))

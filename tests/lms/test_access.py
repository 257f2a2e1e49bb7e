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
#: The second application's OAuth client of the LMS.
OTHER_CLIENT = "xpro-oauth-id"
#: The platform allows 60 registrations from one address.
MORE_THAN_THE_LIMIT_OF_REGISTRATIONS = 62


def second_application(lms: Lms, **changes: Any) -> dict[str, Any]:
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
def two_app_lms(lms: Lms) -> Iterator[Lms]:
    """The LMS, with a second application until the module's tests end."""
    two_applications = description(lms.application.description(), second_application(lms))
    lms.provision(two_applications)
    yield lms
    lms.provision({"applications": [second_application(lms)]}, "--remove", "--purge")


def post(
    lms: Lms, path: str, *items: dict[str, Any], token: str = TOKEN, **more: Any
) -> httpx.Response:
    with lms.api(token) as api:
        return api.post(path, json={"items": list(items), **more})


def first_result(answer: httpx.Response) -> dict[str, Any]:
    """The result of a batch's first item."""
    assert answer.status_code == 200, answer.text
    return dict(answer.json()["results"][0])


def create_learner(lms: Lms, name: str, *, token: str = TOKEN, **rights: int) -> None:
    """Creates a linked account as the service worker with this token. rights: columns of the LMS's
    user, such as ``is_staff=1``."""
    assert first_result(post(lms, ACCOUNTS, account(name), token=token))["status"] == "created"
    for right, value in rights.items():
        lms.execute(f"update auth_user set {right} = ? where username = ?", value, name)


#: SQL that counts a learner's refresh tokens that still work.
COUNT_VALID_REFRESH_TOKENS = (
    "select count(*) from oauth2_provider_refreshtoken t join auth_user u on u.id = t.user_id "
    "where u.username = ? and t.revoked is null"
)


def revoke_refresh_tokens(lms: Lms, name: str) -> None:
    """Makes all refresh tokens of the learner invalid."""
    lms.execute(
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
def test_a_repeated_request_returns_no_tokens_of_former_learners_of_the_application(
    lms: Lms, name: str, change: str
) -> None:
    item = account(name, tokens=True)
    assert first_result(post(lms, ACCOUNTS, item, request_id=name))["tokens"]
    lms.execute(change, name)
    revoke_refresh_tokens(lms, name)  # a valid one is then a token of the repeated request

    item_result = first_result(post(lms, ACCOUNTS, item, request_id=name))

    # The status is still that of the first request.
    assert (item_result["status"], item_result["tokens"]) == ("created", None)
    assert lms.value(COUNT_VALID_REFRESH_TOKENS, name) == 0


@pytest.mark.parametrize("change", [{}, {"email": "new@example.org"}, {"is_active": False}])
def test_a_linked_account_with_another_username_is_refused_and_not_changed(
    lms: Lms, name: str, change: dict[str, Any]
) -> None:
    """An account has another name if the LMS's staff renamed it, or if the learner's link leads to
    another person's account."""
    create_learner(lms, name)
    new_username = f"{name}_new"
    lms.execute("update auth_user set username = ? where username = ?", new_username, name)
    state = "select email, is_active from auth_user where username = ?"
    before = lms.execute(state, new_username)
    refused = first_result(post(lms, ACCOUNTS, account(name, tokens=True) | change))
    assert (refused["error"]["code"], refused["tokens"]) == ("linked-elsewhere", None)
    assert new_username in refused["error"]["message"]
    assert lms.execute(state, new_username) == before


@pytest.fixture
def owner_and_stranger(lms: Lms, name: str) -> tuple[str, str]:
    """Two learners of the application. The LMS's staff renamed the accounts of both: the second
    learner's account has the first learner's username now."""
    owner, stranger = f"{name}_a", f"{name}_b"
    create_learner(lms, owner)
    create_learner(lms, stranger)
    rename = "update auth_user set username = ? where username = ?"
    lms.execute(rename, f"{owner}_new", owner)
    lms.execute(rename, owner, stranger)
    return owner, stranger


class TestAccountsThatWereRenamed:
    """An item of an enrollment names its learner by ``uid``, the name at sign-in."""

    ENROLLMENTS_OF = (
        "select e.course_id, e.is_active from student_courseenrollment e join auth_user u "
        "on u.id = e.user_id where u.username = ?"
    )

    @pytest.mark.parametrize("number_of_items", [1, 3])
    def test_the_account_of_another_learner_is_not_enrolled(
        self, lms: Lms, owner_and_stranger: tuple[str, str], number_of_items: int
    ) -> None:
        owner, _ = owner_and_stranger
        item = {"username": owner, "uid": owner, "course_id": DEMO}
        items = [{"id": number, **item} for number in range(number_of_items)]

        answer = post(lms, ENROLLMENTS, *items)

        for result in answer.json()["results"]:
            assert result["status"] == "refused"
            assert result["error"]["code"] == "linked-elsewhere"
            assert f"The learner {owner} does not sign in" in result["error"]["message"]
        assert lms.execute(self.ENROLLMENTS_OF, owner) == []

    def test_the_account_of_another_learner_is_not_unenrolled(
        self, lms: Lms, owner_and_stranger: tuple[str, str]
    ) -> None:
        """Not even if it has the requested state already."""
        owner, stranger = owner_and_stranger
        item = {"id": 1, "username": owner, "course_id": DEMO}
        enrolled_by_stranger = first_result(post(lms, ENROLLMENTS, {**item, "uid": stranger}))
        assert enrolled_by_stranger["status"] == "changed"

        for is_active in (True, False):
            change = {**item, "uid": owner, "is_active": is_active}
            refused = first_result(post(lms, ENROLLMENTS, change))
            assert refused["error"]["code"] == "linked-elsewhere"

        assert lms.execute(self.ENROLLMENTS_OF, owner) == [(DEMO, 1)]

    @pytest.mark.parametrize("uid", [{}, {"uid": ""}], ids=["missing", "empty"])
    def test_an_item_without_uid_is_found_by_username_alone(
        self, lms: Lms, owner_and_stranger: tuple[str, str], uid: dict[str, str]
    ) -> None:
        owner, _ = owner_and_stranger
        item = {"id": 1, "username": owner, "course_id": DEMO, **uid}
        assert first_result(post(lms, ENROLLMENTS, item))["status"] == "changed"

    def test_an_account_of_several_learners_is_enrolled_for_each(self, lms: Lms, name: str) -> None:
        create_learner(lms, name)
        lms.execute(
            "insert into social_auth_usersocialauth "
            "(provider, uid, user_id, extra_data, created, modified) select provider, ?, user_id, "
            "extra_data, created, modified from social_auth_usersocialauth where uid = ?",
            f"{name}_too",
            name,
        )
        items = [
            {"id": uid, "username": name, "uid": uid, "course_id": DEMO}
            for uid in (name, f"{name}_too", name.upper())
        ]
        results = post(lms, ENROLLMENTS, *items).json()["results"]
        assert [result["status"] for result in results] == ["changed", "unchanged", "refused"]


RIGHTS = [{"is_staff": 1}, {"is_superuser": 1}, {"is_staff": 1, "is_superuser": 1}]


@pytest.mark.parametrize("rights", RIGHTS, ids=lambda rights: "+".join(rights))
class TestAccountsWithRights:
    def test_tokens_of_staff_are_refused(self, lms: Lms, name: str, rights: dict[str, int]) -> None:
        create_learner(lms, name, **rights)
        count_tokens = (
            "select count(*) from oauth2_provider_accesstoken t join auth_user u "
            "on u.id = t.user_id where u.username = ?"
        )

        refused = first_result(post(lms, ACCOUNTS, account(name, tokens=True)))

        assert refused["status"] == "refused"
        assert refused["error"]["code"] == "protected-account"
        assert refused["tokens"] is None
        assert lms.value(count_tokens, name) == 0

    def test_a_repeated_request_returns_no_tokens_of_a_learner_who_became_staff(
        self, lms: Lms, name: str, rights: dict[str, int]
    ) -> None:
        """The LMS keeps the outcome of the first request for a day. The learner became staff after
        that request."""
        item = account(name, tokens=True)
        assert first_result(post(lms, ACCOUNTS, item, request_id=name))["tokens"]
        for right, value in rights.items():
            lms.execute(f"update auth_user set {right} = ? where username = ?", value, name)
        assert first_result(post(lms, ACCOUNTS, item, request_id=name))["tokens"] is None
        revoke_refresh_tokens(lms, name)  # a valid one is then a token of the repeated request

        item_result = first_result(post(lms, ACCOUNTS, item, request_id=name))

        assert item_result["tokens"] is None
        assert lms.value(COUNT_VALID_REFRESH_TOKENS, name) == 0

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
        create_learner(lms, name, **rights)
        sql = (
            "select u.email, u.is_active, u.is_staff, u.is_superuser, p.name, p.country "
            "from auth_user u join auth_userprofile p on p.user_id = u.id where username = ?"
        )
        before = lms.execute(sql, name)

        refused = first_result(post(lms, ACCOUNTS, {**account(name), **change}))

        assert refused["error"]["code"] == "protected-account"
        assert name in refused["error"]["message"]
        assert lms.execute(sql, name) == before

    def test_a_request_about_staff_that_changes_nothing_in_the_account_succeeds(
        self, lms: Lms, name: str, rights: dict[str, int]
    ) -> None:
        """An application may send such a request about a superuser who is also a learner."""
        create_learner(lms, name, **rights)

        assert first_result(post(lms, ACCOUNTS, account(name)))["status"] == "exists"
        enrolled = {"id": 1, "username": name, "course_id": DEMO, "mode": "audit"}
        assert first_result(post(lms, ENROLLMENTS, enrolled))["status"] == "changed"

    def test_other_items_of_a_request_about_staff_succeed(
        self, lms: Lms, name: str, rights: dict[str, int]
    ) -> None:
        create_learner(lms, name, **rights)

        answer = post(lms, ACCOUNTS, account(name, tokens=True), account(name + "b", tokens=True))

        statuses = [item["status"] for item in answer.json()["results"]]
        assert statuses == ["refused", "created"]


def test_a_service_worker_that_is_linked_as_a_learner_is_a_protected_account(
    lms: Lms, two_app_lms: Lms
) -> None:
    """An operator may have linked the service worker by mistake."""
    worker_id = lms.value("select id from auth_user where username = ?", OTHER_WORKER["username"])
    # Otherwise the account would be protected because it is staff.
    lms.execute("update auth_user set is_staff = 0 where id = ?", worker_id)
    lms.execute(
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
            assert first_result(post(lms, ACCOUNTS, item))["error"]["code"] == "protected-account"
    finally:
        lms.execute("delete from social_auth_usersocialauth where user_id = ?", worker_id)
        lms.execute("update auth_user set is_staff = 1 where id = ?", worker_id)


class TestLearnersOfAnotherApplication:
    @pytest.fixture
    def other_learner(self, two_app_lms: Lms, name: str) -> str:
        """The name of an enrolled learner of the second application."""
        create_learner(two_app_lms, name, token=OTHER_TOKEN)
        enrolled = {"id": 1, "username": name, "course_id": DEMO, "mode": "audit"}
        assert (
            first_result(post(two_app_lms, ENROLLMENTS, enrolled, token=OTHER_TOKEN))["status"]
            == "changed"
        )
        return name

    @pytest.mark.parametrize("path", [ACCOUNTS, ENROLLMENTS])
    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_the_client_id_of_another_application_is_refused(
        self, two_app_lms: Lms, path: str, method: str
    ) -> None:
        with two_app_lms.api() as api:
            client_parameter = {"client_id": OTHER_CLIENT}
            answer = api.request(
                method, path, params=client_parameter, json={"items": [], **client_parameter}
            )
        assert answer.status_code == 400
        assert "client_id" in answer.json()

    # Requests without the parameter, with an empty one, and with the caller's own client id.
    @pytest.mark.parametrize("client_id", [None, "", "campus-at-the-lms"])
    def test_learners_of_another_application_can_not_be_read_or_changed(
        self, two_app_lms: Lms, other_learner: str, client_id: str | None
    ) -> None:
        client_parameter = {} if client_id is None else {"client_id": client_id}
        item = account(other_learner, email="attacker@evil.example", tokens=True)
        item_result = first_result(post(two_app_lms, ACCOUNTS, item, **client_parameter))
        assert (item_result["status"], item_result["tokens"]) == ("refused", None)
        unenrollment = {"id": 1, "username": other_learner, "course_id": DEMO, "is_active": False}
        refused = first_result(post(two_app_lms, ENROLLMENTS, unenrollment, **client_parameter))
        assert refused["error"]["code"] == "unknown-user"
        with two_app_lms.api() as api:
            for path in (ACCOUNTS, ENROLLMENTS):
                listed = api.get(path, params={**client_parameter, "limit": 500}).json()["results"]
                assert other_learner not in [row["username"] for row in listed]
        assert two_app_lms.value(
            "select email from auth_user where username = ?", other_learner
        ) == (f"{other_learner}@learners.example")

    def test_the_log_of_changes_omits_a_learner_whose_link_was_deleted(
        self, two_app_lms: Lms, other_learner: str
    ) -> None:
        since = two_app_lms.value("select datetime('now', '-1 hour')")
        two_app_lms.execute("delete from social_auth_usersocialauth where uid = ?", other_learner)
        with two_app_lms.api(OTHER_TOKEN) as api:
            listed = api.get(ENROLLMENTS, params={"changed_since": since + "+00:00"}).json()
        assert other_learner not in [row["username"] for row in listed["results"]]

    def test_links_of_another_application_are_hidden(
        self, two_app_lms: Lms, other_learner: str
    ) -> None:
        with two_app_lms.api() as api:
            body = api.get(API + "links/", params={"username": other_learner}).json()
            parameters = {"username": other_learner, "client_id": OTHER_CLIENT}
            assert api.get(API + "links/", params=parameters).status_code == 400
        assert body["application"] == "campus"
        assert body["leads_to"] is None  # the account to which this learner's sign-in leads
        assert body["account"]["linked_from"] == []

    def test_capabilities_name_only_the_caller_s_application(self, two_app_lms: Lms) -> None:
        for token, name in ((TOKEN, "campus"), (OTHER_TOKEN, "xpro")):
            with two_app_lms.api(token) as api:
                names = [application["name"] for application in api.get(API).json()["applications"]]
            assert names == [name]

    @pytest.mark.parametrize(
        ("token", "worker", "own_connection", "own_client"),
        [
            pytest.param(TOKEN, WORKER, "campus", "campus-at-the-lms", id="first"),
            pytest.param(OTHER_TOKEN, OTHER_WORKER["username"], "xpro", OTHER_CLIENT, id="other"),
        ],
    )
    def test_the_report_has_no_secrets_of_other_applications(
        self, two_app_lms: Lms, token: str, worker: str, own_connection: str, own_client: str
    ) -> None:
        with two_app_lms.api(token) as api:
            report = api.get(API + "report/").json()

        assert report["service_worker"]["username"] == worker
        connections_with_secret = [
            row["name"] for row in report["connections"] if row["webhook_secret_fingerprint"]
        ]
        assert connections_with_secret == [own_connection]
        clients = {row["client_id"] for row in report["oauth_clients"]}
        assert {"campus-at-the-lms", OTHER_CLIENT} <= clients
        clients_with_secret = [
            row["client_id"] for row in report["oauth_clients"] if row["secret_fingerprint"]
        ]
        assert clients_with_secret == [own_client]


class TestTokens:
    @pytest.fixture
    def change_token(self, lms: Lms) -> Iterator[Any]:
        """A function that changes columns of the service worker's token until the test ends."""
        columns = "scope, application_id, user_id, expires"
        sql = f"select {columns} from oauth2_provider_accesstoken where token = ?"
        before = lms.execute(sql, TOKEN)[0]

        def change(**values: Any) -> None:
            for column, value in values.items():
                lms.execute(
                    f"update oauth2_provider_accesstoken set {column} = ? where token = ?",
                    value,
                    TOKEN,
                )

        yield change
        change(**dict(zip(columns.split(", "), before, strict=True)))

    @pytest.mark.parametrize("scope", ["read", "read email profile", "", "writes", "READ WRITE"])
    def test_writing_requires_the_scope_write(
        self, lms: Lms, name: str, change_token: Any, scope: str
    ) -> None:
        change_token(scope=scope)
        assert post(lms, ACCOUNTS, account(name)).status_code == 403
        enrolled = {"id": 1, "username": name, "course_id": DEMO}
        assert post(lms, ENROLLMENTS, enrolled).status_code == 403
        assert lms.execute("select 1 from auth_user where username = ?", name) == []
        status_of_reading = 200 if scope.startswith("read") else 403
        with lms.api() as api:
            statuses = {api.get(path).status_code for path in (API, ACCOUNTS, API + "course-runs/")}
        assert statuses == {status_of_reading}

    def test_reading_requires_the_scope_read(self, lms: Lms, name: str, change_token: Any) -> None:
        change_token(scope="write")
        with lms.api() as api:
            assert api.get(ACCOUNTS).status_code == 403

    def test_a_token_of_another_client_is_refused(
        self, two_app_lms: Lms, name: str, change_token: Any
    ) -> None:
        ids = dict(two_app_lms.execute("select client_id, id from oauth2_provider_application"))
        # A token without a client, of the other application's client, and of the LMS's own client.
        for client_pk in (None, ids[OTHER_CLIENT], ids["login-service-client-id"]):
            change_token(application_id=client_pk)
            answer = post(two_app_lms, ACCOUNTS, account(name))
            assert answer.status_code == 403
            assert "usher connect" in answer.json()["detail"]

    def test_a_token_with_only_the_scope_read_does_not_lift_the_limit_of_registrations(
        self, lms: Lms, change_token: Any
    ) -> None:
        change_token(scope="read")
        path = f"{lms.url}/user_api/v1/account/registration/"
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        with httpx.Client(timeout=60, trust_env=False) as client:

            def is_limited() -> bool:
                answer = client.post(path, data={"username": "a"}, headers=bearer)
                return answer.status_code == 403

            assert any(is_limited() for _ in range(MORE_THAN_THE_LIMIT_OF_REGISTRATIONS))


class TestProvisioning:
    def test_a_service_worker_s_token_belongs_to_the_application_s_client(
        self, two_app_lms: Lms
    ) -> None:
        sql = (
            "select a.client_id from oauth2_provider_accesstoken t "
            "join oauth2_provider_application a on a.id = t.application_id where t.token = ?"
        )
        assert two_app_lms.execute(sql, TOKEN) == [("campus-at-the-lms",)]
        assert two_app_lms.execute(sql, OTHER_TOKEN) == [(OTHER_CLIENT,)]

    @pytest.mark.parametrize("field", ["username", "token"])
    def test_two_applications_can_not_share_a_service_worker(self, lms: Lms, field: str) -> None:
        first = description(lms.application.description())["service_worker"]
        other = second_application(lms)
        other["service_worker"] = {**OTHER_WORKER, field: first[field]}
        text = json.dumps(description(lms.application.description(), other))

        provisioning = lms.run("usher_provision", "--file", "-", "--dry-run", text=text)

        assert provisioning.returncode == 1
        assert "give each application its own" in provisioning.stderr

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
        create_learner(lms, name, **rights)
        flags = "select is_staff, is_superuser from auth_user where username = ?"
        before = lms.execute(flags, name)

        provisioning = self.provision_worker(lms, name)

        assert provisioning.returncode == 1
        assert reason in provisioning.stderr
        assert lms.execute(flags, name) == before

    def test_an_account_registered_in_the_lms_does_not_become_staff(
        self, lms: Lms, name: str
    ) -> None:
        lms.execute(
            "insert into auth_user (username, email, password, is_staff, is_superuser, is_active, "
            "first_name, last_name, date_joined) values (?, ?, '', 0, 0, 1, '', '', '2026-01-01')",
            name,
            f"{name}@squatter.example",
        )

        provisioning = self.provision_worker(lms, name)

        assert provisioning.returncode == 1
        assert "isn't staff" in provisioning.stderr
        assert lms.execute("select is_staff from auth_user where username = ?", name) == [(0,)]

    def test_another_name_for_the_service_worker_deactivates_the_former_account_and_token(
        self, lms: Lms, name: str
    ) -> None:
        provisioning = self.provision_worker(lms, name, token="token-after-rotation-" + "3" * 40)
        try:
            assert provisioning.returncode == 0, provisioning.stderr
            flags = "select is_staff, is_active from auth_user where username = ?"
            assert lms.execute(flags, WORKER) == [(0, 0)]
            with lms.api(TOKEN) as api:
                assert api.get(API).status_code == 401
        finally:
            lms.provision(description(lms.application.description()))
        with lms.api(TOKEN) as api:
            assert wait_for(lambda: api.get(API).status_code == 200)

    @staticmethod
    def provision_worker(lms: Lms, username: str, token: str = "t" * 64) -> Any:
        """Provisions a service worker with this username. Returns the command's result."""
        plan = description(lms.application.description())
        plan["service_worker"] = {
            "username": username,
            "email": f"{username}@w.example",
            "token": token,
        }
        return lms.run("usher_provision", "--file", "-", text=json.dumps(plan))

"""Nobody is signed in as another person, and no existing account is linked: for each value of
auth_entry, each kind of account and each backend."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

import httpx
import pytest

from tests.lms.conftest import Lms, connected_lms, description
from usher.embedded.platform import PIPELINE_ANCHOR
from usher.embedded.third_party_auth.switch import PIPELINE

#: A value of auth_entry that the operator added.
CUSTOM_ENTRY = "partner_form"
#: The password of existing accounts.
PASSWORD = "password-of-before"
#: Values of auth_entry: the platform's, the operator's own, none (None), and invalid ones.
ENTRIES = (
    "login",
    "register",
    "account_settings",
    "login_api",
    "register_api",
    CUSTOM_ENTRY,
    None,
    "",
    "no-such-entry",
    "register_api\n",
)
BACKENDS = ("mitxpro-oauth2", "xpro-oauth2")
#: Kind of existing account → columns of the user, and "other" if it is linked to the other
#: application.
KINDS: dict[str, tuple[dict[str, object], str]] = {
    "learner": ({}, ""),
    "staff": ({"is_staff": True}, ""),
    "superuser": ({"is_staff": True, "is_superuser": True}, ""),
    "inactive": ({"is_active": False}, ""),
    "of another application": ({}, "other"),
}
#: The application's claim about the learner who signs in → function that returns the claimed
#: username and e-mail address. Its arguments are the learner's own username, and the existing
#: account's username and e-mail address.
CLAIMS = {
    "same e-mail": lambda own, name, email: (own, email),
    "same e-mail in other case": lambda own, name, email: (own, email.upper()),
    "same username": lambda own, name, email: (name, f"{own}@learners.example"),
    "both": lambda own, name, email: (name, email),
    "look-alike e-mail": lambda own, name, email: (own, f"{own}.{email.replace('a', 'á')}"),
}
#: Number of the pipeline step at which the platform resumes: it asks for missing data, after
#: Usher's steps.
STEP_OF_RESUMING = [*PIPELINE, ""].index(PIPELINE_ANCHOR) + 1
#: Creates an account, and links it if ``linked`` names a backend.
CREATE_ACCOUNT = """
from django.contrib.auth import get_user_model
from social_django.models import UserSocialAuth
from usher.lms import conf
user = get_user_model().objects.create_user({name!r}, {email!r}, "{password}", **{columns!r})
conf.platform().profile_model().objects.create(user=user, name="Was here before")
if {linked!r}:
    UserSocialAuth.objects.create(user=user, provider={linked!r}, uid=user.username)
"""


@pytest.fixture(scope="module")
def two_app_lms() -> Iterator[Lms]:
    """An LMS with two applications, one for each backend. One server plays both applications."""
    forms = {CUSTOM_ENTRY: {"secret_key": "key", "url": "/partner/"}}
    with connected_lms(THIRD_PARTY_AUTH_CUSTOM_AUTH_FORMS=forms) as lms:
        second = lms.application.description(
            name="second",
            backend="xpro-oauth2",
            oauth_name="second-oauth-app",
            oauth_client_id="second-at-the-lms",
        )
        lms.provision(description(lms.application.description(), second))
        yield lms


def existing_account(lms: Lms, name: str, kind: str, backend: str) -> str:
    """Creates an account of this kind and returns its e-mail address. backend: the one with which
    the test signs in. An account of another application is linked with the other backend."""
    columns, linked_application = KINDS[kind]
    email = f"{name}@was-here.example"
    other_backend = next(each for each in BACKENDS if each != backend)
    result = lms.run(
        "shell",
        "-c",
        CREATE_ACCOUNT.format(
            name=name,
            email=email,
            password=PASSWORD,
            columns=columns,
            linked=other_backend if linked_application else "",
        ),
    )
    assert result.returncode == 0, result.stderr
    return email


def links_of(lms: Lms, name: str) -> list[tuple[str, str]]:
    """(backend, username in the application) of each link of this LMS account."""
    return lms.execute(
        "select provider, uid from social_auth_usersocialauth"
        " where user_id = (select id from auth_user where username = ?)",
        name,
    )


def signed_in_as(browser: httpx.Client) -> str | None:
    """The username with which the browser is signed in to the LMS; None if it isn't signed in."""
    me = browser.get("/api/user/v1/me")
    return me.json()["username"] if me.status_code == 200 else None


def sign_in_by_password(lms: Lms, browser: httpx.Client, name: str) -> None:
    browser.get("/admin/login/")
    form = {
        "username": name,
        "password": PASSWORD,
        "csrfmiddlewaretoken": browser.cookies["csrftoken"],
    }
    browser.post("/admin/login/", data=form, headers={"Referer": lms.url})
    assert signed_in_as(browser) == name


def start_sign_in(browser: httpx.Client, backend: str, entry: str | None) -> httpx.Response:
    query = {"next": "/dashboard"} | ({} if entry is None else {"auth_entry": entry})
    return browser.get(f"/auth/login/{backend}/", params=query)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_sign_in_gives_a_learner_an_existing_account(
    two_app_lms: Lms, name: str, kind: str, backend: str
) -> None:
    email = existing_account(two_app_lms, name, kind, backend)
    before = links_of(two_app_lms, name)

    cases = itertools.product(ENTRIES, CLAIMS.items())
    for number, (entry, (claim, claimed_identity)) in enumerate(cases):
        own_username = f"{name}x{number}"
        username, address = claimed_identity(own_username, name, email)
        two_app_lms.application.signed_in_learner = {
            "username": username,
            "email": address,
            "name": "Mallory",
        }
        with two_app_lms.browser() as browser:
            arrived = start_sign_in(browser, backend, entry)
            username_after = signed_in_as(browser)
            case = f"{kind} by {entry!r} with the {claim}"
            assert username_after in (None, own_username), case
            assert username_after == own_username or arrived.url.path == "/usher/stopped/", case
            # Resuming the pipeline has no effect.
            browser.get(f"/auth/complete/{backend}/")
            assert signed_in_as(browser) == username_after, case
        assert links_of(two_app_lms, name) == before, case


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("entry", ENTRIES)
def test_a_browser_s_signed_in_account_is_not_linked_to_another_learner(
    two_app_lms: Lms, name: str, entry: str | None, backend: str
) -> None:
    email = existing_account(two_app_lms, name, "superuser", backend)
    two_app_lms.application.signed_in_learner = {
        "username": f"{name}x",
        "email": email,
        "name": "Mallory",
    }

    with two_app_lms.browser() as browser:
        sign_in_by_password(two_app_lms, browser, name)
        stopped = start_sign_in(browser, backend, entry)
        browser.get(f"/auth/complete/{backend}/")

        assert stopped.url.path == "/usher/stopped/"
        assert signed_in_as(browser) == name
    assert links_of(two_app_lms, name) == []
    assert two_app_lms.value("select email from auth_user where username = ?", name) == email


def test_another_browser_can_not_finish_an_unfinished_pipeline(two_app_lms: Lms, name: str) -> None:
    """An attacker may send a superuser a link with the token of the unfinished pipeline."""
    email = existing_account(two_app_lms, name, "superuser", BACKENDS[0])
    attacker = f"{name}x"
    two_app_lms.application.signed_in_learner = {
        "username": attacker,
        "email": f"{attacker}@a.example",
        "name": "M",
    }
    with two_app_lms.browser() as browser:
        start_sign_in(browser, BACKENDS[0], "login")
    # The state of the attacker's unfinished pipeline, with the token that the link contains.
    token = f"left-by-{name}"
    arguments = {
        "uid": attacker,
        "details": {"username": attacker, "email": f"{attacker}@evil.example"},
        "auth_entry": "login",
        "response": {},
    }
    two_app_lms.execute(
        "insert into social_auth_partial (token, backend, next_step, data, timestamp)"
        " values (?, ?, ?, ?, datetime('now'))",
        token,
        BACKENDS[0],
        STEP_OF_RESUMING,
        json.dumps({"args": [], "kwargs": arguments}),
    )

    finish = f"/auth/complete/{BACKENDS[0]}/"
    # The superuser opens the link.
    with two_app_lms.browser() as browser:
        sign_in_by_password(two_app_lms, browser, name)
        stopped = browser.get(finish, params={"partial_token": token})
        assert stopped.url.path == "/usher/stopped/"
        assert signed_in_as(browser) == name
    # Somebody who is not signed in opens the link.
    with two_app_lms.browser() as browser:
        browser.get(finish, params={"partial_token": token})
        assert signed_in_as(browser) is None
        browser.post(finish, data={"partial_token": token})
        assert signed_in_as(browser) is None

    assert links_of(two_app_lms, name) == []
    assert two_app_lms.value("select email from auth_user where username = ?", name) == email


#: Runs the sign-in pipeline with an access token, without and with a user. Prints whom it found.
SIGN_IN_BY_ACCESS_TOKEN = """
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.test import RequestFactory
from social_django.utils import load_backend, load_strategy

for path in {paths!r}:
    for entry in {entries!r}:
        request = RequestFactory().post(path)
        request.user, request.session = AnonymousUser(), {{"auth_entry": entry}}
        request.social_strategy = load_strategy(request)
        request.backend = load_backend(request.social_strategy, {backend!r}, redirect_uri=None)
        for user in (None, get_user_model().objects.get(username={name!r})):
            found = request.backend.do_auth({token!r}, user=user, allow_inactive_user=True)
            print("GOT", getattr(found, "username", None))
"""


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["superuser", "staff", "learner"])
def test_an_access_token_of_the_application_gives_no_account_with_the_same_email(
    two_app_lms: Lms, name: str, kind: str, backend: str
) -> None:
    """The platform runs the sign-in pipeline, too, when it exchanges such a token for its own and
    when somebody registers with one."""
    email = existing_account(two_app_lms, name, kind, backend)
    # Its owner has signed in, so the account is not one that was created just now.
    two_app_lms.execute(
        "update auth_user set last_login = datetime('now') where username = ?", name
    )
    two_app_lms.application.signed_in_learner = {
        "username": f"{name}x",
        "email": email,
        "name": "Mallory",
    }
    token = two_app_lms.application.issue_token(two_app_lms.application.signed_in_learner)
    entries = ("login_api", "register_api", "login")
    paths = (
        f"/oauth2/exchange_access_token/{backend}/",
        "/user_api/v1/account/registration/",
        "/create_account",
    )
    script = SIGN_IN_BY_ACCESS_TOKEN.format(
        name=name,
        backend=backend,
        token=token,
        entries=entries,
        paths=paths,
    )

    result = two_app_lms.run("shell", "-c", script)

    assert result.returncode == 0, result.stderr
    users = [line for line in result.stdout.splitlines() if line.startswith("GOT")]
    # For each path and entry, without a signed-in user and with one.
    assert users == ["GOT None"] * (len(paths) * len(entries) * 2)
    assert links_of(two_app_lms, name) == []


def compare_without_case(lms: Lms) -> None:
    """Makes the LMS's database ignore case when it compares the names in links, as MySQL and
    MariaDB do."""
    table = "social_auth_usersocialauth"
    [(sql,)] = lms.execute("select sql from sqlite_master where name = ?", table)
    column = '"uid" varchar(255) NOT NULL'
    assert column in sql
    indexes = lms.execute(
        "select sql from sqlite_master where tbl_name = ? and type = 'index'", table
    )
    lms.execute(f"alter table {table} rename to former_links")
    lms.execute(sql.replace(column, f"{column} COLLATE NOCASE"))
    lms.execute(f"insert into {table} select * from former_links")
    lms.execute("drop table former_links")
    for (index,) in indexes:
        if index:  # the index of a constraint has no SQL, and the new table has it already
            lms.execute(index)


@pytest.mark.parametrize("entry", ["login", "register_api"])
def test_a_username_that_only_the_database_considers_equal_is_refused(
    name: str, entry: str
) -> None:
    with connected_lms() as lms:
        compare_without_case(lms)
        assert signed_in_as(lms.sign_in(name)) == name
        email = lms.value("select email from auth_user where username = ?", name)
        lms.application.signed_in_learner = {
            "username": name.upper(),
            "email": f"other-{name}@a.example",
            "name": "M",
        }

        with lms.browser() as browser:
            stopped = start_sign_in(browser, "mitxpro-oauth2", entry)
            assert stopped.status_code == 403
            assert signed_in_as(browser) is None

        assert links_of(lms, name) == [("mitxpro-oauth2", name)]
        assert lms.value("select email from auth_user where username = ?", name) == email

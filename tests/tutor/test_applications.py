"""Entries of USHER_APPLICATIONS: the values derived from them, and entries that are refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usher.contract.applications import EntryError, derive, read_entries, to_application
from usher.contract.description import describe, lms_settings
from usher.contract.limits import USERNAME_MAX_LENGTH
from usher.contract.provisioning import Description
from usher.tutor import configuration
from usher.tutor.description import host_aliases

#: Two values of USHER_SECRET.
SECRET, OTHER_SECRET = "0" * 64, "1" * 64


def config(*applications: Any, **values: Any) -> dict[str, Any]:
    """The plugin's configuration with these entries of applications and other values."""
    entries = {"USHER_APPLICATIONS": list(applications)} if applications else {}
    return {**configuration.DEFAULTS, **configuration.UNIQUE, **entries, **values}


def test_an_entry_of_an_edition_needs_only_a_name() -> None:
    (entry,) = read_entries([{"name": "mitxonline"}])
    application = to_application(entry, SECRET)
    assert application.backend == "mitxpro-oauth2"
    assert application.provider_name == "mitxApplication"
    assert application.oauth_name == "edx-oauth-app"
    assert application.authorization_url == "http://mitxonline.odl.local:8013/oauth2/authorize/"
    assert application.access_token_url == "http://mitxonline.odl.local:8013/oauth2/token/"
    assert application.api_root == "http://mitxonline.odl.local:8013/"
    assert "http://mitxonline.odl.local:8013/login/_private/complete" in (
        application.oauth_redirect_uris
    )
    assert "http://mitxonline.odl.local:9080/_/auth/complete" in application.oauth_redirect_uris


def test_browsers_and_servers_may_use_different_addresses() -> None:
    entry = {"name": "shop", "root_url": "https://shop.org/", "server_url": "http://10.0.0.7:81"}
    application = to_application(read_entries([entry])[0], SECRET)
    assert application.authorization_url == "https://shop.org/oauth2/authorize/"
    assert application.logout_url == "https://shop.org/logout/"
    assert application.access_token_url == "http://10.0.0.7:81/oauth2/token/"
    assert application.webhook_url.startswith("http://10.0.0.7:81/")
    # The issuer is only compared, not requested, so it has the application's own address.
    assert application.issuer == "https://shop.org/oauth2"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_containers_reach_an_application_on_localhost_by_another_host_name(host: str) -> None:
    (entry,) = read_entries([{"name": "shop", "root_url": f"http://{host}:8099"}])
    assert entry.root_url == f"http://{host}:8099"
    assert entry.server_url == "http://host.docker.internal:8099"


def test_an_application_that_is_not_built_on_usher_gets_no_webhook_address() -> None:
    (entry,) = read_entries([{"name": "mitxpro", "usher": False}])
    application = to_application(entry, SECRET)
    assert application.webhook_url == application.backchannel_logout_url == ""
    assert application.webhook_secret == application.jwks_url == ""
    assert application.client_secret


def test_explicit_values_of_an_entry_are_kept() -> None:
    (entry,) = read_entries([{"name": "mitxpro", "client_id": "id", "client_secret": "given"}])
    application = to_application(entry, SECRET)
    assert (application.client_id, application.client_secret) == ("id", "given")
    assert application.oauth_client_secret == derive(SECRET, "mitxpro", "oauth_client_secret")


@given(st.lists(st.tuples(st.text(), st.text()), min_size=2, max_size=2, unique=True))
def test_each_application_and_purpose_has_a_secret_of_its_own(pair: list[tuple[str, str]]) -> None:
    first, second = (derive(SECRET, name, purpose) for name, purpose in pair)
    # ``derive`` joins name and purpose with a colon.
    if ":".join(pair[0]) != ":".join(pair[1]):
        assert first != second
    assert derive(OTHER_SECRET, *pair[0]) != first


def test_the_second_application_has_an_oauth_client_of_its_own() -> None:
    second = {"name": "mitxpro", "backend": "ol-oauth2"}
    names = [entry.oauth_name for entry in read_entries([{"name": "mitxonline"}, second])]
    assert names == ["edx-oauth-app", "mitxpro-oauth-app"]


@pytest.mark.parametrize(
    ("applications", "message"),
    [
        ("mitxonline", "not a list"),
        (["mitxonline"], "USHER_APPLICATIONS[0] is not a mapping"),
        ([{"root_url": "http://x"}], "USHER_APPLICATIONS[0] has no name"),
        ([{"name": "shop"}], "root_url is None"),
        ([{"name": "shop", "root_url": "shop.org"}], "write an address such as"),
        ([{"name": "mitxpro", "rooturl": "http://x"}], "unknown field 'rooturl'"),
        ([{"name": "mitxpro", "backend": "saml"}], "mitxpro-oauth2, ol-oauth2"),
        ([{"name": "mitxpro", "usher": "no"}], "true or false"),
        ([{"name": "mitxpro", "client_id": 7}], "which is not text"),
        ([{"name": "mitxpro"}, {"name": "mitxpro", "backend": "ol-oauth2"}], "the same name"),
        ([{"name": "mitxpro"}, {"name": "mitxonline"}], "the same backend"),
    ],
)
def test_an_invalid_entry_is_refused_with_the_reason(applications: Any, message: str) -> None:
    with pytest.raises(EntryError) as refusal:
        read_entries(applications)
    assert message in str(refusal.value)


def test_a_description_is_the_same_after_a_round_trip_through_json() -> None:
    description = describe(config(USHER_SUPERUSER_USERNAME="edx"))
    assert Description.from_json(description.to_json()) == description


def test_a_description_has_a_service_worker_and_only_if_configured_a_superuser() -> None:
    description = describe(config(USHER_SUPERUSER_USERNAME="edx"))
    assert description.service_worker is not None
    assert description.service_worker.username == "mit_Application_serviceworker"
    assert description.superuser is not None
    assert description.superuser.email == "edx@example.org"
    assert description.superuser.backend == ""
    assert describe(config()).superuser is None


def test_a_superuser_of_an_application_signs_in_by_its_backend() -> None:
    first, second = {"name": "mitxonline"}, {"name": "mitxpro", "backend": "ol-oauth2"}
    superuser_settings = {
        "USHER_SUPERUSER_USERNAME": "edx",
        "USHER_SUPERUSER_APPLICATION": "mitxpro",
    }
    superuser = describe(config(first, second, **superuser_settings)).superuser
    assert superuser is not None
    assert superuser.backend == "ol-oauth2"
    with pytest.raises(EntryError, match="USHER_SUPERUSER_APPLICATION is 'mitxpro'"):
        describe(config(first, **superuser_settings))


def test_each_application_has_a_service_worker_of_its_own() -> None:
    second, third = (
        {"name": name, "root_url": f"https://{name}.org", "backend": backend, "backend_base": base}
        for name, backend, base in (
            ("shop", "ol-oauth2", "ol-oauth2"),
            ("a-name-that-is-far-too-long-for-a-form", "long-oauth2", "ol-oauth2"),
        )
    )
    description = describe(config({"name": "mitxonline"}, second, third))
    service_workers = [
        description.service_worker_of(application.name) for application in description.applications
    ]
    names = [worker.username for worker in service_workers if worker]
    assert names[:2] == ["mit_Application_serviceworker", "shop_serviceworker"]
    assert len(names[2]) <= USERNAME_MAX_LENGTH
    assert len({worker.token for worker in service_workers if worker}) == 3
    assert Description.from_json(description.to_json()) == description

    # The username in an entry is used even if this entry is the only one.
    alone = describe(config({**second, "service_worker_username": "shop_serviceworker"}))
    assert alone.service_worker_of("shop") == service_workers[1]


def test_two_applications_can_not_have_the_same_service_worker() -> None:
    second = {"name": "mitxpro", "backend": "ol-oauth2", "service_worker_username": "worker"}
    first = {"name": "mitxonline", "service_worker_username": "worker"}
    with pytest.raises(EntryError, match="the same service_worker_username, 'worker'"):
        describe(config(first, second))


def test_host_aliases_are_the_host_names_of_applications_on_this_machine() -> None:
    public = {"name": "shop", "root_url": "https://shop.org", "backend": "ol-oauth2"}
    assert host_aliases(config({"name": "mitxpro"}, public)) == [
        "host.docker.internal",
        "xpro.odl.local",
    ]
    # ``on_host`` prevails over the application's address.
    assert host_aliases(config({**public, "on_host": True}))[1:] == ["shop.org"]
    assert host_aliases(config({"name": "mitxpro", "on_host": False}))[1:] == []


def test_the_default_application_is_the_first_the_named_one_or_none() -> None:
    two_applications = [{"name": "mitxonline"}, {"name": "mitxpro", "backend": "ol-oauth2"}]
    assert lms_settings(config(*two_applications))["USHER_DEFAULT_BACKEND"] == "mitxpro-oauth2"
    named = config(*two_applications, USHER_DEFAULT_APPLICATION="mitxpro")
    assert lms_settings(named)["USHER_DEFAULT_BACKEND"] == "ol-oauth2"
    # With "choice", the LMS's sign-in page shows both applications.
    choice = config(*two_applications, USHER_DEFAULT_APPLICATION="choice")
    assert lms_settings(choice)["USHER_DEFAULT_BACKEND"] == ""
    with pytest.raises(EntryError, match="mitxonline, mitxpro, or choice"):
        lms_settings(config(*two_applications, USHER_DEFAULT_APPLICATION="xpro"))


def test_an_lms_without_applications_gets_no_settings() -> None:
    assert lms_settings(config(USHER_SIGN_IN=False)) == {}
    assert lms_settings({**config(), "USHER_APPLICATIONS": []}) == {}


#: Values and fields for entries, most of them wrong.
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=30), st.just("http://[")
)
FIELDS = st.sampled_from(["name", "root_url", "server_url", "backend", "redirect_uris", "usher"])


@given(
    st.one_of(
        VALUES,
        st.lists(st.dictionaries(FIELDS, st.one_of(VALUES, st.lists(VALUES, max_size=2)))),
        st.lists(
            st.fixed_dictionaries(
                {"name": st.just("shop")},
                optional={"root_url": st.text(max_size=30), "backend": st.text(max_size=12)},
            )
        ),
    )
)
def test_any_configuration_is_read_or_refused_with_a_message(items: Any) -> None:
    try:
        entries = read_entries(items)
    except EntryError as refusal:
        assert str(refusal)
    else:
        for entry in entries:
            text = Description([to_application(entry, SECRET)]).to_json()
            assert Description.from_json(text).applications[0].name == entry.name

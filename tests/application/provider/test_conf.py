"""The settings object: names, defaults by edition, and all problems in one error."""

from types import SimpleNamespace

import pytest
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from hypothesis import given
from hypothesis import strategies as st

from usher.application import conf
from usher.contract.environment import Env


def read(**values):
    """Reads settings with these values. Returns the settings object and a list of problems."""
    return conf.read(SimpleNamespace(**values))


def test_each_edition_has_its_own_defaults():
    online, problems = read(USHER_EDITION="mitxonline")
    assert problems == []
    assert (online.api_base_url, online.oauth_provider, online.social_login_path) == (
        "http://edx.odl.local:18000",
        "mitxpro-oauth2",
        "/auth/login/mitxpro-oauth2/?auth_entry=login",
    )
    xpro, _ = read(USHER_EDITION="mitxpro")
    assert (xpro.api_base_url, xpro.oauth_provider, xpro.social_login_path) == (
        "http://local.openedx.io:8000",
        "ol-oauth2",
        "/auth/login/ol-oauth2/?auth_entry=login",
    )
    # Without an edition.
    other, _ = read()
    assert other.oauth_provider == "mitxpro-oauth2"
    assert other.timeout_seconds == 60.0
    assert other.api_base_url == other.base_redirect_url == other.backchannel_logout_url == ""
    assert other.course_path("k") == "/courses/k/course/"
    assert other.oauth_app_name == "edx-oauth-app"


def test_browsers_and_servers_can_have_different_addresses_of_the_lms():
    read_settings, _ = read(
        OPENEDX_API_BASE_URL="http://172.17.0.1:8000/",
        OPENEDX_BASE_REDIRECT_URL="http://local.openedx.io:8000",
    )
    assert read_settings.api_base_url == "http://172.17.0.1:8000"
    assert read_settings.sign_in_url("/courses/x y/").startswith(
        "http://local.openedx.io:8000/auth/login/"
    )
    assert read_settings.sign_in_url("/courses/x y/").endswith("&next=%2Fcourses%2Fx+y%2F")
    assert read_settings.backchannel_logout_url.startswith("http://172.17.0.1:8000/usher/")


@pytest.mark.parametrize("name", [Env.OPENEDX_API_BASE_URL, Env.OPENEDX_BASE_REDIRECT_URL])
def test_addresses_are_normalised_and_an_address_with_a_password_is_a_problem(name):
    _, problems = read(**{name: "https://worker:hunter2@lms.example"})
    assert len(problems) == 1
    assert name in problems[0]
    assert "hunter2" not in problems[0]
    read_settings, problems = read(**{name: "HTTPS://LMS.Bücher.example:443/"})
    assert problems == []
    assert read_settings.base_redirect_url == "https://lms.xn--bcher-kva.example"


def test_the_address_for_browsers_defaults_to_the_address_for_servers():
    read_settings, _ = read(OPENEDX_API_BASE_URL="http://lms:8000")
    assert read_settings.base_redirect_url == "http://lms:8000"


@pytest.mark.parametrize("value", [None, 5, object()])
def test_course_path_and_sign_in_url_accept_only_strings(value):
    with pytest.raises(TypeError, match=r"run\.course_key"):
        conf.settings().course_path(value)
    with pytest.raises(TypeError, match="path of the LMS"):
        conf.settings().sign_in_url(value)


def test_course_path_uses_the_configured_base_and_suffix():
    read_settings, _ = read(OPENEDX_API_BASE_URL="http://lms:8000")
    assert read_settings.course_path("course-v1:a+b+c") == "/courses/course-v1:a+b+c/course/"
    with_suffix, _ = read(
        OPENEDX_COURSE_BASE_URL="http://apps.lms/learning/course/",
        OPENEDX_COURSE_BASE_URL_SUFFIX="/home",
    )
    assert with_suffix.course_path("course-v1:a+b+c") == (
        "http://apps.lms/learning/course/course-v1:a+b+c/home"
    )
    # The base differs from the LMS's address only by its port.
    with_other_port, _ = read(
        OPENEDX_BASE_REDIRECT_URL="http://lms",
        OPENEDX_COURSE_BASE_URL="http://lms:2000/learning/course/",
    )
    assert with_other_port.course_path("k").startswith("http://lms:2000/learning/course/k")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (Env.OPENEDX_API_BASE_URL, "local.openedx.io:8000"),
        (Env.OPENEDX_API_BASE_URL, "ftp://lms"),
        (Env.OPENEDX_API_BASE_URL, "http://lms:port"),
        (Env.OPENEDX_BASE_REDIRECT_URL, "http://"),
        (Env.LOGOUT_REDIRECT_URL, "/logout"),
        (Env.OPENEDX_OAUTH_PROVIDER, "mitx"),
        (Env.OPENEDX_SOCIAL_LOGIN_PATH, "//evil.example/"),
        # The path of another backend than the default one.
        (Env.OPENEDX_SOCIAL_LOGIN_PATH, "/auth/login/ol-oauth2/?auth_entry=login"),
        (Env.EDX_API_CLIENT_TIMEOUT, "soon"),
        (Env.EDX_API_CLIENT_TIMEOUT, "-1"),
        (Env.EDX_API_CLIENT_TIMEOUT, "nan"),
    ],
)
def test_a_malformed_setting_is_named_in_one_problem(name, value):
    _, problems = read(**{name: value})
    assert len(problems) == 1
    assert name in problems[0]


def test_one_error_names_all_problems(settings):
    settings.OPENEDX_API_BASE_URL = "nonsense"
    settings.EDX_API_CLIENT_TIMEOUT = "never"
    with pytest.raises(ImproperlyConfigured) as raised:
        conf.settings()
    assert Env.OPENEDX_API_BASE_URL in str(raised.value)
    assert Env.EDX_API_CLIENT_TIMEOUT in str(raised.value)
    assert [message.id for message in run_checks(tags=["usher"])].count("usher.E001") == 2


def test_the_lms_s_address_is_required_without_an_edition(settings):
    for name in conf.REQUIRED:
        setattr(settings, name, "x")
    settings.OPENEDX_API_BASE_URL = ""
    assert conf.missing() == [], "the edition has a default address"
    settings.USHER_EDITION = ""
    assert conf.missing() == [Env.OPENEDX_API_BASE_URL]


def test_all_missing_settings_are_named_in_one_warning(settings):
    for name in conf.REQUIRED:
        setattr(settings, name, "")
    settings.OPENEDX_API_CLIENT_ID = "set"
    (warning,) = [message for message in run_checks(tags=["usher"]) if message.id == "usher.W001"]
    assert Env.OPENEDX_API_CLIENT_SECRET in warning.msg
    assert Env.OPENEDX_API_CLIENT_ID not in warning.msg


@pytest.mark.parametrize(("key", "id_"), [("", "usher.W002"), ("no key", "usher.E004")])
def test_a_missing_or_unusable_signing_key_is_named(settings, key, id_):
    settings.OAUTH2_PROVIDER = {**settings.OAUTH2_PROVIDER, "OIDC_RSA_PRIVATE_KEY": key}
    messages = run_checks(tags=["usher"], include_deployment_checks=True)
    assert id_ in [message.id for message in messages]


def test_a_changed_setting_is_read_at_the_next_access(settings):
    settings.OPENEDX_API_BASE_URL = "http://one"
    assert conf.settings().api_base_url == "http://one"
    settings.OPENEDX_API_BASE_URL = "http://two"
    assert conf.settings().api_base_url == "http://two"


@given(
    st.dictionaries(
        st.sampled_from(sorted(value for name, value in vars(Env).items() if name.isupper())),
        st.text() | st.integers() | st.none(),
    )
)
def test_read_returns_problems_for_any_values_and_raises_no_exception(values):
    read_settings, problems = read(**values)
    assert not read_settings.api_base_url or read_settings.api_base_url.startswith("http")
    assert all(isinstance(problem, str) for problem in problems)


@pytest.mark.parametrize("name", ["campus-oauth2", "campus-app-oauth2", "mitxpro-app-oauth2"])
def test_backend_names_of_a_second_application_are_accepted(name: str):
    """The application must accept the backend names that ``usher connect`` writes."""
    values = {
        Env.OPENEDX_OAUTH_PROVIDER: name,
        Env.OPENEDX_SOCIAL_LOGIN_PATH: f"/auth/login/{name}/?auth_entry=login",
    }
    read_settings, problems = read(**values)
    assert (read_settings.oauth_provider, problems) == (name, [])

"""The whole connection: real Tutor provisions an LMS, and a learner signs in to it.

There are no containers: jobs run in a real LMS folder, and the LMS is served with the lms.env.yml
that Tutor rendered. The application is not built on Usher.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.support.checkout import PlainCheckout
from tests.support.docker import ContainerEngine
from tests.support.tutor import TutorRoot
from usher.contract.oauth import DEFAULT_BACKEND, lms_redirect_uri
from usher.embedded.home import folder
from usher.embedded.home.process import free_port, running_lms

pytestmark = pytest.mark.slow

LMS_HOST = "localhost"
LEARNER, PASSWORD = "ada", "a word of hers"
#: A script that creates the application's record of the LMS, as connect does, with Tutor's values.
MAKE_RECORD = """
from oauth2_provider.models import get_application_model
Application = get_application_model()
Application.objects.create(
    name="edx-oauth-app", client_id={id!r}, client_secret={secret!r}, redirect_uris={uri!r},
    client_type=Application.CLIENT_CONFIDENTIAL, skip_authorization=True,
    authorization_grant_type=Application.GRANT_AUTHORIZATION_CODE)
"""


@dataclass
class Connected:
    """A provisioned LMS, its Tutor root, and the application that it is connected to."""

    root: TutorRoot
    lms_url: str
    shop: PlainCheckout

    def provision(self, *options: str) -> list[dict[str, Any]]:
        """Runs ``usher-provision`` and returns the items of its report."""
        result = self.root.run("local", "do", "usher-provision", *options)
        # Tutor prints other lines before the JSON.
        return list(json.loads(result.stdout[result.stdout.index("{\n") :])["items"])


@pytest.fixture
def connected(tmp_path: Path) -> Iterator[Connected]:
    """A provisioned LMS and the application, both served. The learner ``LEARNER`` has an account in
    the application only."""
    home = tmp_path
    # The host name differs from the application's, because cookies ignore ports.
    port = free_port()
    url = f"http://{LMS_HOST}:{port}"
    lms = home / "lms"
    folder.make(lms, folder.Plan(url, cheap_passwords=True))
    shop = PlainCheckout(home / "shop", home / "state")
    shop.make_learner(LEARNER, PASSWORD)
    entry = {"name": "shop", "root_url": shop.url, "server_url": shop.url, "usher": False}
    config = {"LMS_HOST": LMS_HOST, "USHER_APPLICATIONS": [entry]}
    root = TutorRoot.make(22, home / "root", config=config)
    root.environment.update(ContainerEngine.make(home / "engine", lms).environment)
    root.run("local", "do", "init", "--limit=usher")
    application = root.description().applications[0]
    record = {
        "id": application.client_id,
        "secret": application.client_secret,
        "uri": lms_redirect_uri(url, DEFAULT_BACKEND),
    }
    shop.manage("shell", stdin=MAKE_RECORD.format(**record))
    # The LMS is served with the rendered settings, not with those in its folder.
    variables = {"LMS_CFG": str(settings_of_dev_mode(root, url, home))}
    shop.up()
    try:
        with running_lms(lms, port, variables):
            yield Connected(root, url, shop)
    finally:
        shop.down()


def settings_of_dev_mode(root: TutorRoot, url: str, home: Path) -> Path:
    """The path of a copy of the rendered lms.env.yml, in which the LMS's address has a port, as
    development.py sets it."""
    settings = yaml.safe_load(root.lms_config.read_text())
    # Browsers refuse cookies of a domain without a dot, such as this LMS_HOST.
    del settings["SESSION_COOKIE_DOMAIN"]
    settings |= {"LMS_BASE": url.removeprefix("http://"), "LMS_ROOT_URL": url}
    path = home / "lms.env.yml"
    path.write_text(yaml.safe_dump(settings))
    return path


def test_a_learner_signs_in_to_a_provisioned_lms_until_the_records_are_removed(
    connected: Connected,
) -> None:
    assert_learner_signs_in_to_the_lms(connected)
    assert_service_worker_token_works(connected)
    assert_provisioning_again_changes_nothing(connected)
    assert_report_has_the_settings_of_the_patches_and_no_secret(connected)
    assert_removal_ends_sign_in_and_provisioning_restores_it(connected)


def assert_learner_signs_in_to_the_lms(connected: Connected) -> None:
    with httpx.Client(follow_redirects=True, trust_env=False, timeout=120) as browser:
        form = browser.get(f"{connected.shop.url}/signin/").text
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', form)
        assert token
        answers = {"username": LEARNER, "password": PASSWORD, "csrfmiddlewaretoken": token[1]}
        browser.post(f"{connected.shop.url}/signin/", data=answers)
        page = browser.get(f"{connected.lms_url}/login", params={"next": "/dashboard"})
        redirects = [str(step.url) for step in page.history]
        # The platform leaves its provider hint in the address.
        assert str(page.url).split("?")[0] == f"{connected.lms_url}/dashboard", redirects
        # The LMS shows no form in between: /login redirects to the application and back.
        assert any(url.startswith(f"{connected.shop.url}/oauth2/authorize/") for url in redirects)
        assert not any("/register" in url for url in redirects)
        me = browser.get(f"{connected.lms_url}/api/user/v1/me")
        assert me.json() == {"username": LEARNER}


def assert_service_worker_token_works(connected: Connected) -> None:
    service_worker = connected.root.description().service_worker
    assert service_worker is not None
    answer = httpx.get(
        f"{connected.lms_url}/api/user/v1/me",
        headers={"Authorization": f"Bearer {service_worker.token}"},
        trust_env=False,
    )
    assert answer.json() == {"username": service_worker.username}


def assert_provisioning_again_changes_nothing(connected: Connected) -> None:
    assert {item["outcome"] for item in connected.provision()} == {"unchanged"}


def assert_report_has_the_settings_of_the_patches_and_no_secret(connected: Connected) -> None:
    result = connected.root.run("local", "do", "usher-report")
    report = json.loads(result.stdout[result.stdout.index("{\n") :])
    assert report["features"]["THIRD_PARTY_AUTH_HINT"] == f"oa2-{DEFAULT_BACKEND}"
    assert report["providers"][0]["enabled"] is True
    assert f"{connected.shop.url}/logout/" in report["settings"]["IDA_LOGOUT_URI_LIST"]
    description = connected.root.description()
    assert description.service_worker is not None
    application = description.applications[0]
    for secret in (
        description.service_worker.token,
        application.client_secret,
        application.oauth_client_secret,
    ):
        assert secret not in result.stdout


def assert_removal_ends_sign_in_and_provisioning_restores_it(connected: Connected) -> None:
    start = f"{connected.lms_url}/auth/login/{DEFAULT_BACKEND}/?auth_entry=login"
    assert httpx.get(start, trust_env=False).is_redirect
    connected.root.run("local", "do", "usher-remove")
    assert not httpx.get(start, trust_env=False).is_redirect
    connected.provision()
    assert httpx.get(start, trust_env=False).is_redirect

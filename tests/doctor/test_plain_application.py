"""Doctor's facts about an application without Usher, run by docker compose."""

import subprocess
from collections.abc import Iterator

import pytest

from tests.support.checkout import PlainCheckout
from usher.contract import envfile
from usher.doctor.context import Context, create_context
from usher.doctor.find import DoctorOptions, find_places
from usher.doctor.runner import run

pytestmark = pytest.mark.xdist_group("doctor-plain")
#: Registers the LMS as an OAuth client of the application.
MAKE_CLIENT = """
from oauth2_provider.models import get_application_model
get_application_model().objects.create(
    name="edx-oauth-app", client_id="lms", client_secret="secret", client_type="confidential",
    authorization_grant_type="authorization-code", skip_authorization=True,
    redirect_uris="http://lms.example/auth/complete/ol-oauth2/")
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlainCheckout]:
    """The checkout of an application that docker compose runs. Programs of the tests use its
    ``docker``."""
    folder = tmp_path_factory.mktemp("plain")
    state = folder / "state"
    state.mkdir()
    new_checkout = PlainCheckout(folder / "shop", state)
    new_checkout.up()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in new_checkout.environment.items():
            patch.setenv(name, value)
        yield new_checkout
    new_checkout.down()


def context_of(checkout: PlainCheckout) -> Context:
    return create_context(find_places(DoctorOptions(application=str(checkout.folder))))


def root_cause_ids(checkout: PlainCheckout, *only: str) -> list[str]:
    with context_of(checkout) as context:
        return [line.id for line in run(context, only).root_causes]


def test_a_plain_application_reports_its_clients_and_settings(checkout: PlainCheckout) -> None:
    checkout.manage("shell", stdin=MAKE_CLIENT)
    with context_of(checkout) as context:
        assert context.application.url == checkout.url
        report = context.application.report
    (client,) = report["clients"]
    assert client["redirect_uris"] == ["http://lms.example/auth/complete/ol-oauth2/"]
    assert client["secret_hasher"] == "pbkdf2_sha256"
    assert client["pkce_required"] is False
    assert "user:read" in report["scopes"]
    assert report["settings"]["OPENEDX_OAUTH_PROVIDER"] == "mitxpro-oauth2"
    assert "secret" not in str(report["settings"])


@pytest.mark.slow
def test_env_3_fails_if_containers_were_restarted_and_not_re_created(
    checkout: PlainCheckout,
) -> None:
    checkout.env_file.chmod(0o600)
    assert root_cause_ids(checkout, "ENV-1", "ENV-2", "ENV-3") == []
    envfile.update(checkout.env_file, {"OPENEDX_OAUTH_PROVIDER": "ol-oauth2"})
    checkout.docker("compose", "restart")
    with context_of(checkout) as context:
        report = run(context, ["ENV-1", "ENV-2", "ENV-3"])
    assert [line.id for line in report.root_causes] == ["ENV-3"]
    assert "OPENEDX_OAUTH_PROVIDER" in report.root_causes[0].finding.seen
    subprocess.run(report.root_causes[0].finding.fix, shell=True, check=True, timeout=600)
    assert root_cause_ids(checkout, "ENV-1", "ENV-2", "ENV-3") == []

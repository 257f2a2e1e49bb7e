"""Faults of the LMS's records: provider, clients, service worker, learners."""

import pytest

from tests.doctor.faults.system import System

#: Reads the newest provider record as ``row``. Without its key, ``save`` adds a newer record, as
#: the LMS's admin does.
GET_PROVIDER = """
from django.conf import settings
from django.contrib.sites.models import Site
from django.utils.module_loading import import_string
from importlib import import_module
Provider = import_module(settings.USHER_PLATFORM).provider_model()
row = Provider.objects.order_by("-change_date", "-pk").first()
row.pk = None
"""
#: The service worker's account, as ``worker``.
GET_WORKER = """
from django.contrib.auth import get_user_model
from oauth2_provider.models import get_access_token_model
from usher.lms.connections.models import ServiceWorker
worker = ServiceWorker.objects.get().user
User, Token = get_user_model(), get_access_token_model()
"""
#: The application's OAuth client at the LMS, as a queryset.
GET_CLIENTS = """
from oauth2_provider.models import get_application_model
Client = get_application_model()
clients = Client.objects.filter(name="edx-oauth-app")
"""
#: The link of the learner ``ada``.
GET_LINK = """
from social_django.models import UserSocialAuth
link = UserSocialAuth.objects.get(uid="ada")
"""


def test_a_healthy_system_has_no_findings(system: System) -> None:
    report = system.examine()
    assert [line.id for line in report.root_causes] == []
    assert report.healthy
    skipped = [line.id for line in report.lines if line.finding.status == "skipped"]
    # There is no Tutor here, and the application uses no clients for services.
    assert skipped == ["TUT-1", "TUT-2", "TUT-3", "TUT-4", "TUT-7", "OAU-3"]
    assert report.stage == "connected"


@pytest.mark.parametrize(
    ("expected_id", "expected_text", "fault"),
    [
        ("PRV-1", "is disabled", "row.enabled = False; row.save()"),
        ("PRV-1", "there is no provider record", "Provider.objects.all().delete()"),
        (
            "PRV-2",
            "the provider record is on example.com",
            "Provider.objects.all().delete(); row.site = Site.objects.get(pk=1); row.save()",
        ),
        ("PRV-3", "it is empty", "row.other_settings = ''; row.save()"),
        ("PRV-3", "it is not JSON", "row.other_settings = '{'; row.save()"),
        ("PRV-3", "AUTHORIZATION_URL", "row.other_settings = '{\"x\": 1}'; row.save()"),
        ("PRV-4", "skip_registration_form", "row.skip_registration_form = False; row.save()"),
        ("LMS-5", "skip_email_verification", "row.skip_email_verification = False; row.save()"),
        # Somebody copied the hash that the application's admin shows.
        ("PRV-5", "invalid_client", "row.secret = 'pbkdf2_sha256$1000000$copied'; row.save()"),
        (
            "NET-2",
            "the LMS does not reach",
            "import json\nvalues = json.loads(row.other_settings)\n"
            "values['ACCESS_TOKEN_URL'] = 'http://127.0.0.1:9/oauth2/token/'\n"
            "row.other_settings = json.dumps(values)\nrow.save()",
        ),
        (
            "APP-6",
            "the LMS has ol-oauth2",
            "Provider.objects.all().delete(); row.backend_name = 'ol-oauth2'; row.save()",
        ),
    ],
)
def test_a_fault_of_the_provider_record_is_the_root_cause(
    system: System, expected_id: str, expected_text: str, fault: str
) -> None:
    system.lms.run(GET_PROVIDER + fault)
    report = system.examine()
    assert [line.id for line in report.root_causes] == [expected_id]
    assert expected_text in report.root_causes[0].finding.seen
    assert not report.healthy


def test_prv_1_warns_about_a_missing_record_if_the_application_is_not_connected_yet(
    system: System,
) -> None:
    """The manual procedure changes the settings first, and creates the provider record later."""
    system.lms.run(GET_PROVIDER + "Provider.objects.all().delete()")
    env_file = system.pair.home / "not-connected.env"
    env_file.write_text(f"OPENEDX_API_BASE_URL={system.pair.lms_url}\n")
    env_file.chmod(0o600)
    report = system.examine(env_file=env_file, manage=None, application_url="")
    (finding,) = (line.finding for line in report.lines if line.id == "PRV-1")
    assert "as expected before provisioning" in finding.seen
    assert finding.status == "warning"
    assert report.stage == "the LMS's settings are done; its provider record comes next"


@pytest.mark.parametrize(
    ("expected_id", "expected_text", "fault"),
    [
        ("SVC-1", "answers 401", "Token.objects.filter(user=worker).delete()"),
        (
            "SVC-1",
            "token expired",
            "from django.utils import timezone\n"
            "Token.objects.filter(user=worker).update(expires=timezone.now())",
        ),
        (
            "SVC-2",
            "refuses the service worker",
            "User.objects.filter(pk=worker.pk).update(is_staff=False)",
        ),
        ("SVC-3", "not active", "User.objects.filter(pk=worker.pk).update(is_active=False)"),
        (
            "SVC-4",
            "token is edx's",
            "Token.objects.filter(user=worker).update(user=User.objects.get(username='edx'))",
        ),
        (
            "SVC-5",
            "token expires on",
            "from datetime import timedelta\nfrom django.utils import timezone\n"
            "soon = timezone.now() + timedelta(days=3)\n"
            "Token.objects.filter(user=worker).update(expires=soon)",
        ),
    ],
)
def test_a_fault_of_the_service_worker_is_the_root_cause(
    system: System, expected_id: str, expected_text: str, fault: str
) -> None:
    system.lms.run(GET_WORKER + fault)
    report = system.examine()
    assert [line.id for line in report.root_causes] == [expected_id]
    assert expected_text in report.root_causes[0].finding.seen


@pytest.mark.parametrize(
    ("expected_id", "expected_text", "fault"),
    [
        ("OAU-1", "has no edx-oauth-app", "clients.delete()"),
        ("OAU-1", "redirect URIs", "clients.update(redirect_uris='http://elsewhere.example/')"),
        ("OAU-1", "not confidential", "clients.update(client_type='public')"),
        ("OAU-1", "consent", "clients.update(skip_authorization=False)"),
        (
            "OAU-1",
            "refuses OPENEDX_API_CLIENT_SECRET",
            "client = clients.get(); client.client_secret = 'another'; client.save()",
        ),
        ("OAU-2", "another client id", "clients.update(client_id='made-anew')"),
        (
            "LMS-7",
            "login-service-client-id is missing",
            "Client.objects.filter(client_id='login-service-client-id').delete()",
        ),
    ],
)
def test_a_fault_of_an_oauth_client_of_the_lms_is_the_root_cause(
    system: System, expected_id: str, expected_text: str, fault: str
) -> None:
    system.lms.run(GET_CLIENTS + fault)
    report = system.examine()
    # The service worker's token was deleted with its client.
    further_causes = ["SVC-1"] if fault == "clients.delete()" else []
    finding_by_id = {line.id: line.finding for line in report.root_causes}
    assert sorted(finding_by_id) == sorted([expected_id, *further_causes])
    assert expected_text in finding_by_id[expected_id].seen


@pytest.mark.parametrize(
    ("expected_id", "fault"),
    [
        ("ACC-4", "link.uid = 'somebody-else'; link.save()"),
        ("ACC-5", "link.user.set_unusable_password(); link.user.save()"),
    ],
)
def test_a_fault_of_a_linked_learner_is_the_root_cause(
    system: System, expected_id: str, fault: str
) -> None:
    system.lms.run(GET_LINK + fault)
    assert system.root_cause_ids() == [expected_id]


@pytest.mark.parametrize("field", ["backchannel_logout_url", "jwks_url"])
def test_out_2_fails_if_the_lms_lacks_an_address_for_messages_about_sign_outs(
    system: System, field: str
) -> None:
    system.lms.run(
        "from usher.lms.connections.models import ConnectedApplication\n"
        f"ConnectedApplication.objects.update({field}='')"
    )
    assert system.root_cause_ids() == ["OUT-2"]


def test_out_2_is_unknown_without_the_applications_report(system: System) -> None:
    system.lms.run(
        "from usher.lms.connections.models import ConnectedApplication\n"
        "ConnectedApplication.objects.update(backchannel_logout_url='')"
    )
    report = system.examine(manage=None)
    assert report.root_causes == []
    assert "OUT-2" in [line.id for line in report.unknown]


def test_enr_2_fails_if_an_enrollment_was_changed_in_the_lms(system: System) -> None:
    system.lms.run(
        "from django.conf import settings\nfrom importlib import import_module\n"
        "model = import_module(settings.USHER_PLATFORM).enrollment_model()\n"
        "assert model.objects.filter(user__username='ada').update(is_active=False)"
    )
    assert system.root_cause_ids() == ["ENR-2"]

"""Each page and each action for staff requires a permission."""

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core.cache import cache
from django.db.models import F
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from oauth2_provider.models import AccessToken, RefreshToken

from tests.support.staff import staff_browser
from usher.application import models
from usher.application.accounts.services import ensure_account
from usher.application.enrollments.services import enroll
from usher.application.health import staff
from usher.application.provider.clients import ensure_client
from usher.application.runs.services import ensure_run
from usher.application.states import State
from usher.contract.fingerprints import configuration_fingerprints, proof_of

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]
DEMO = "course-v1:edX+DemoX+Demo_Course"


@pytest.fixture
def learner():
    """A learner with an LMS account and an enrollment. There is a refused retirement, too."""
    user = get_user_model().objects.create_user("ada", "ada@learners.example")
    ensure_account(user)
    enroll(user, ensure_run(DEMO))
    models.Retirement.objects.create(username="gone", refused_at=timezone.now())
    return user


def run_action(browser, model, action, query=""):
    """Runs the action of the model's admin on all rows. query: the filter of the page. Returns the
    page after it."""
    url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist", query=query)
    ids = list(model.objects.values_list("pk", flat=True))
    return browser.post(url, {"action": action, "_selected_action": ids}, follow=True)


ACTIONS = [
    (models.LmsAccount, "retry", "usher.retry_records"),
    (models.LmsAccount, "repair", "usher.repair_records"),
    (models.LmsAccount, "activate", "usher.activate_accounts"),
    (models.Enrollment, "retry", "usher.retry_records"),
    (models.Enrollment, "unenroll", "usher.unenroll_learners"),
    (models.Retirement, "mark_done", "usher.close_retirements"),
]


@pytest.mark.parametrize(("model", "action", "permission"), ACTIONS)
@pytest.mark.parametrize("standard_permissions", [("view",), ("view", "change")])
def test_an_action_is_hidden_and_refused_without_its_own_permission(
    learner, model, action, permission, standard_permissions
):
    name = model._meta.model_name
    permissions_of_model = [f"usher.{word}_{name}" for word in standard_permissions]
    other_actions = {other for _, _, other in ACTIONS} - {permission}
    browser = staff_browser(*permissions_of_model, *other_actions)
    rows = list(model.objects.values())

    page = run_action(browser, model, action)

    assert page.status_code == 200
    assert f'value="{action}"' not in page.content.decode()
    assert list(model.objects.values()) == rows


def test_an_action_runs_with_its_permission(learner):
    browser = staff_browser("usher.view_retirement", "usher.close_retirements")
    assert (
        "Marked as done: 1" in run_action(browser, models.Retirement, "mark_done").content.decode()
    )
    assert models.Retirement.objects.get().refused_at is None


@pytest.mark.parametrize("query", [{}, {"state": State.PENDING}])
def test_a_retirement_marked_as_done_leaves_the_filter_and_has_no_work_left(learner, query):
    models.Retirement.objects.make_due()
    browser = staff_browser("usher.view_retirement", "usher.close_retirements")
    page = run_action(browser, models.Retirement, "mark_done", query)
    assert "Marked as done: 1" in page.content.decode()
    assert models.Retirement.objects.get().work is None


def test_an_activated_account_that_leaves_the_filter_is_counted(learner):
    models.LmsAccount.objects.update(observed_generation=F("generation"))
    models.LmsAccount.objects.all().forget_work()
    browser = staff_browser("usher.view_lmsaccount", "usher.activate_accounts")
    page = run_action(browser, models.LmsAccount, "activate", {"state": State.IN_SYNC})
    assert "Activated: 1." in page.content.decode()


def test_every_action_in_the_admin_declares_its_own_permission():
    """Django's standard permissions are not enough."""
    from django.contrib.admin import site

    labels = ("usher", "usher_provider", "usher_audit", "oauth2_provider", "accounts")
    for model, model_admin in site._registry.items():
        if model._meta.app_label in labels:
            for action in model_admin.actions:
                function = getattr(type(model_admin), action) if isinstance(action, str) else action
                permissions = getattr(function, "allowed_permissions", ())
                assert permissions, f"{model.__name__}.{action}"
                assert not {"view", "change", "add", "delete"} & set(permissions)


@pytest.fixture
def tokens(learner):
    """The learner's access token and refresh token, issued by this application."""
    client, _, _ = ensure_client("edx-oauth-app", ["http://lms.example/auth/complete/x/"])
    token = AccessToken.objects.create(
        user=learner,
        application=client,
        token="an-access-token-that-nobody-may-read",
        expires=timezone.now() + timezone.timedelta(hours=1),
    )
    RefreshToken.objects.create(
        user=learner, application=client, token="refresh", access_token=token
    )


@pytest.mark.parametrize("model", [AccessToken, RefreshToken])
def test_tokens_can_be_revoked_with_the_permission_but_never_changed(tokens, model):
    name = model._meta.model_name
    browser = staff_browser(f"oauth2_provider.view_{name}", f"oauth2_provider.change_{name}")
    # The permission to change tokens is not enough for this action.
    run_action(browser, model, "revoke_tokens")
    assert AccessToken.objects.exists()
    url = reverse(f"admin:oauth2_provider_{name}_change", args=[model.objects.get().pk])
    page = browser.get(url)
    assert page.status_code == 200
    assert "an-access-token-that" not in page.content.decode()
    assert browser.post(url, {"scope": "user:read", "user": 1}).status_code == 403

    user = get_user_model().objects.get(username="support")  # the user of staff_browser
    user.user_permissions.add(Permission.objects.get(codename="revoke_tokens"))
    run_action(browser, model, "revoke_tokens")
    assert not AccessToken.objects.exists()


# -- health


@pytest.fixture
def calls_of_examine(monkeypatch):
    """Replaces ``examine``, which runs doctor's checks. The list grows by one item whenever the
    health page calls it."""
    cache.clear()
    calls = []
    report = {"healthy": True, "checks": [], "counts": {}, "next": "", "stage": ""}
    monkeypatch.setattr(staff, "examine", lambda run_checks: calls.append(run_checks) or report)
    yield calls
    cache.clear()


def test_the_health_page_requires_its_permission(calls_of_examine):
    assert Client().get("/staff/health/").status_code == 302
    browser = staff_browser("usher.view_lmsaccount")
    assert browser.get("/staff/health/").status_code == 403
    assert not calls_of_examine
    user = get_user_model().objects.get(username="support")  # the user of staff_browser
    user.user_permissions.add(Permission.objects.get(codename="view_health"))
    assert browser.get("/staff/health/").status_code == 200


def test_several_loads_of_the_health_page_run_the_checks_once(calls_of_examine):
    browser = staff_browser("usher.view_health")
    for _ in range(5):
        assert browser.get("/staff/health/?format=json").json()["at"]
    assert len(calls_of_examine) == 1


@pytest.mark.parametrize(
    "proof", ["", "Bearer wrong", "Bearer token-of-the-worker", "Basic eDp5", "Bearer \xff"]
)
def test_the_ready_page_shows_no_fingerprints_of_settings_without_a_valid_proof(settings, proof):
    settings.OPENEDX_SERVICE_WORKER_API_TOKEN = "token-of-the-worker"
    headers = {"Authorization": proof} if proof else {}
    answer = Client().get("/health/ready", headers=headers)
    assert answer.status_code == 200
    assert not answer.json().get("configuration")
    assert Client().get("/health/live").json() == {"status": "ok"}


def test_the_ready_page_shows_fingerprints_of_settings_with_a_proof_of_the_token(settings):
    settings.OPENEDX_SERVICE_WORKER_API_TOKEN = "token-of-the-worker"
    headers = {"Authorization": f"Bearer {proof_of('token-of-the-worker')}"}
    configuration = Client().get("/health/ready", headers=headers).json()["configuration"]
    name = "OPENEDX_SERVICE_WORKER_API_TOKEN"
    fingerprints = configuration_fingerprints({name: "token-of-the-worker"}, "token-of-the-worker")
    assert configuration[name] == fingerprints[name]


def test_the_ready_page_shows_no_fingerprints_if_no_token_is_configured(settings):
    settings.OPENEDX_SERVICE_WORKER_API_TOKEN = ""
    answer = Client().get("/health/ready", headers={"Authorization": f"Bearer {proof_of('')}"})
    assert not answer.json().get("configuration")

from django.urls import path, re_path

from usher.embedded.user_authn import pages, views

_FORM = pages.login_and_registration_form

urlpatterns = [
    path("login", _FORM, {"initial_mode": "login"}, name="signin_user"),
    path("register", _FORM, {"initial_mode": "register"}, name="register_user"),
    path("logout", views.logout_view, name="logout"),
    re_path(
        r"^(user_api/v1|api/user/v1|api/user/v2)/account/registration/$",
        lambda request, _prefix: views.RegistrationView.as_view()(request),
        name="user_api_registration",
    ),
    re_path(
        r"^(user_api/v1|api/user/v1|api/user/v2)/account/login_session/$",
        lambda request, _prefix: views.LoginSessionView.as_view()(request),
        name="user_api_login_session",
    ),
    path(
        "api/user/v1/validation/registration",
        views.RegistrationValidationView.as_view(),
        name="registration_validation",
    ),
    path("auth/jwks.json", views.jwks_view, name="get_public_signing_jwks"),
]

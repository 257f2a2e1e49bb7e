from django.urls import path

from usher.embedded.user_authn import pages, views

_FORM = pages.login_and_registration_form

urlpatterns = [
    path("login", _FORM, {"initial_mode": "login"}, name="signin_user"),
    path("register", _FORM, {"initial_mode": "register"}, name="register_user"),
    path("logout", views.logout_view, name="logout"),
    *(
        path(f"{prefix}/account/{name}/", view, name=f"{prefix}_{name}")
        for prefix in ("user_api/v1", "user_api/v2", "api/user/v1", "api/user/v2")
        for name, view in (
            ("registration", views.RegistrationView.as_view()),
            ("login_session", views.LoginSessionView.as_view()),
        )
    ),
    path(
        "api/user/v1/validation/registration",
        views.RegistrationValidationView.as_view(),
        name="registration_validation",
    ),
    path("auth/jwks.json", views.jwks_view, name="get_public_signing_jwks"),
]

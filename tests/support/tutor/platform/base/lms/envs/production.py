# ruff: noqa: F403, F405, SIM105, PTH123 - as the platform writes its settings
"""Like the platform's production settings: values of a YAML file, sign-in backends, plugins."""

import os

import yaml
from edx_django_utils.plugins import add_plugins

from .common import *

try:
    FEATURES = FeaturesProxy(globals())
except NameError:
    pass  # a release in which FEATURES is a dict

with open(os.environ["LMS_CFG"]) as file:
    _YAML_TOKENS = yaml.safe_load(file)
ENV_TOKENS = AUTH_TOKENS = _YAML_TOKENS  # names in the release of Tutor 20
SPECIAL = ("FEATURES", "JWT_AUTH")
globals().update({key: value for key, value in _YAML_TOKENS.items() if key not in SPECIAL})
for feature, value in _YAML_TOKENS.get("FEATURES", {}).items():
    FEATURES[feature] = value

if FEATURES.get("ENABLE_THIRD_PARTY_AUTH"):
    # The only place that reads THIRD_PARTY_AUTH_BACKENDS: setting it later has no effect.
    AUTHENTICATION_BACKENDS = _YAML_TOKENS.get(
        "THIRD_PARTY_AUTH_BACKENDS",
        [
            "social_core.backends.google.GoogleOAuth2",
            "common.djangoapps.third_party_auth.saml.SAMLAuthBackend",
        ],
    ) + list(AUTHENTICATION_BACKENDS)
OAUTH_ENFORCE_SECURE = True
JWT_AUTH.update(_YAML_TOKENS.get("JWT_AUTH", {}))

add_plugins(__name__, "lms.djangoapp", "production")

"""Names for the sign-in backends, so that several applications can be connected to one LMS.

A provider record is keyed by its backend's name. Two applications that use the same backend class
therefore need two names. ``USHER_BACKENDS`` maps each name to the backend it behaves as:

    USHER_BACKENDS = {"mitxpro-oauth2": "mitxpro-oauth2", "xpro-oauth2": "ol-oauth2"}

and ``usher.lms.backends.XproOauth2`` is then a class like ``OLOAuth2``, named ``xpro-oauth2``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from usher.contract.oauth import BACKENDS

log = logging.getLogger(__name__)


def class_path(name: str, base: str) -> str:
    """Dotted path of the backend ``name`` that behaves as ``base``, for settings."""
    if name == base:
        return BACKENDS[base].class_path
    return f"{__name__}.{class_name(name)}"


def class_name(name: str) -> str:
    """``xpro-oauth2`` -> ``XproOauth2``."""
    return "".join(part.capitalize() for part in name.replace("_", "-").split("-"))


def send_plain_redirect_uris(names: Mapping[str, str]) -> None:
    """Make the backends in use send the redirect URI exactly as it is registered.

    python-social-auth adds the parameter ``redirect_state`` to the URI. The parameter repeats
    ``state``, and no provider checks it. Providers that compare redirect URIs to the letter (RFC
    9700 2.1; the OAuth toolkit since 3.4) refuse such a URI.
    """
    from django.utils.module_loading import import_string

    for name, base in names.items():
        try:
            import_string(class_path(name, base)).REDIRECT_STATE = False
        except ImportError:
            log.warning("the sign-in backend %s is not in this image: see usher_report", name)


def __getattr__(attribute: str) -> Any:
    """Create the backend class that ``class_path`` names, when it is first imported."""
    if attribute.startswith("_"):
        raise AttributeError(attribute)
    from django.conf import settings

    for name, base in getattr(settings, "USHER_BACKENDS", {}).items():
        if name != base and class_name(name) == attribute:
            module, _, parent = BACKENDS[base].class_path.rpartition(".")
            backend = type(attribute, (getattr(import_module(module), parent),), {"name": name})
            backend.__module__ = __name__
            globals()[attribute] = backend
            return backend
    raise AttributeError(f"no backend of USHER_BACKENDS is called {attribute}")

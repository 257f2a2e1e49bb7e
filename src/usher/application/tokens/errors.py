"""Errors of tokens, in addition to those in ``usher.client.errors``."""

from usher.contract.failures import FailureClass
from usher.engine.errors import EngineError


class NoAccount(Exception):
    """The learner has no LMS account yet; the token is obtained when the account is created."""


class NotConnected(EngineError):
    """The application has no OAuth2 record for the LMS: run ``manage.py configure_instance``."""

    failure_class = FailureClass.SYSTEMIC
    default_code = "not-connected"

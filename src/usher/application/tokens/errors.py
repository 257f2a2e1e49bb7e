"""What stands between a learner and a token of the LMS, beside what ``lms.errors`` draws."""

from usher.contract.failures import FailureClass
from usher.engine.errors import EngineError


class NoAccount(Exception):
    """The learner has no LMS account yet: it is made first, and the token with it."""


class NotConnected(EngineError):
    """The application has no OAuth2 record for the LMS: run ``manage.py configure_instance``."""

    failure_class = FailureClass.SYSTEMIC
    default_code = "not-connected"

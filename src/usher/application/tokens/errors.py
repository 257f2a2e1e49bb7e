"""What stands between a learner and a token of the LMS, beside what ``lms.errors`` draws."""


class NoAccount(Exception):
    """The learner has no LMS account yet: it is made first, and the token with it."""


class NotConnected(Exception):
    """The application has no OAuth2 record for the LMS: run ``manage.py configure_instance``."""

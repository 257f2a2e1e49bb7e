"""Where campus differs from allauth."""

from allauth.account.adapter import DefaultAccountAdapter


class CampusAccountAdapter(DefaultAccountAdapter):
    pass

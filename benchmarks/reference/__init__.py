"""The serial implementation: what applications connected to Open edX do today.

It uses ``requests`` and ``edx-api-client`` and processes one learner, enrollment or page after the
other. As OAuth2 provider it has django-oauth-toolkit without changes.
"""

"""The serial implementation: what applications connected to Open edX do today.

It uses ``requests`` and ``edx-api-client``, processes one learner, enrollment or page after the
other, and has a stock django-oauth-toolkit.
"""

"""The reference: what applications connected to Open edX do today, written down honestly.

``requests`` and ``edx-api-client``, one learner, one enrollment, one page after the other, on a
stock django-oauth-toolkit.
"""

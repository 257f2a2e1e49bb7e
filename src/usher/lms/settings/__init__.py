"""What the plugin sets in the LMS, in every place where a release or mode reads it.

``common`` is read while the platform's defaults are made, ``production`` at the end of
``lms.envs.production`` (Tutor's local and k8s), ``devstack`` at the end of ``lms.envs.devstack``
(Tutor's dev). Tutor's own patches are read after all of them. Usher's settings are given at the
top level of ``lms.env.yml``:

USHER_BACKENDS           {backend name: backend it behaves as} of every application; {} is off
USHER_DEFAULT_BACKEND    where /login and /register lead; default: the first; "" for a choice
USHER_LOGOUT_URIS        each application's sign-out address for browsers
USHER_REDIRECT_ANONYMOUS true: every page of an anonymous visitor leads to the application
USHER_RETIREMENT         true: an application retires learners (ENABLE_BULK_USER_RETIREMENT)
USHER_ANONYMOUS_PATHS    regular expressions of paths that stay open to anonymous visitors
USHER_PLATFORM           module that stands for the platform
"""

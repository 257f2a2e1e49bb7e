"""LMS settings that the plugin changes, for every settings module of the platform.

``common`` is applied to the platform's defaults, ``production`` at the end of
``lms.envs.production`` (Tutor's local and k8s), ``devstack`` at the end of ``lms.envs.devstack``
(Tutor's dev). Tutor's own patches are applied after all of them. Usher's own settings stand at the
top level of ``lms.env.yml``:

USHER_BACKENDS             {backend name of an application: backend class it uses}; {} disables
                           the plugin
USHER_DEFAULT_BACKEND      the backend that /login and /register redirect to; default: the first;
                           "" lets the learner choose
USHER_LOGOUT_URIS          each application's sign-out URL for browsers
USHER_REDIRECT_ANONYMOUS   true: redirect anonymous visitors of every page to sign-in
USHER_ANONYMOUS_PATHS      regular expressions of paths that stay open to anonymous visitors
USHER_DIRECT_REGISTRATION  true: allow registrations that don't come from an application
USHER_RETIREMENT           true: an application retires learners (ENABLE_BULK_USER_RETIREMENT)
USHER_PLATFORM             adapter module for the platform
"""

"""Registration as a plugin of edx-platform."""

from __future__ import annotations

from django.apps import AppConfig

LMS = "lms.djangoapp"


class UsherLmsConfig(AppConfig):
    name = "usher.lms"
    label = "usher_lms"
    verbose_name = "Usher"
    default_auto_field = "django.db.models.BigAutoField"

    #: Keys as edx_django_utils.plugins documents them.
    plugin_app = {
        "url_config": {
            LMS: {"namespace": "usher", "regex": r"^usher/", "relative_path": "urls"},
        },
        "settings_config": {
            LMS: {
                "common": {"relative_path": "settings.common"},
                "production": {"relative_path": "settings.production"},
                "devstack": {"relative_path": "settings.devstack"},
            },
        },
    }

    def ready(self) -> None:
        from django.conf import settings

        from usher.lms import backends, conf, limits, locks, pipeline
        from usher.lms.events import listeners as event_listeners
        from usher.lms.settings.apply import apply_late, is_enabled
        from usher.lms.signout import listeners as signout_listeners

        if not is_enabled(settings):
            return
        apply_late(settings)
        backends.send_plain_redirect_uris(conf.backends())
        pipeline.install(settings)
        limits.install()
        locks.avoid_forum_role_deadlocks()
        event_listeners.connect()
        signout_listeners.connect()

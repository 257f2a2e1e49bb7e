from typing import Any

from usher.application.audit.services import record_many
from usher.application.management.output import EngineCommand
from usher.application.tokens.models import LmsToken
from usher.application.tokens.services import rotate_keys
from usher.engine.summary import Summary


class Command(EngineCommand):
    help = (
        "Encrypt learners' tokens with the newest of USHER_ENCRYPTION_KEYS; "
        "the older keys can then be removed."
    )

    def act(self, **options: Any) -> None:
        if options["dry_run"]:
            count = LmsToken.objects.exclude(access_token="").count()
            self.would_change(count, "tokens", options)
            return
        done, lost = rotate_keys()
        record_many("encryption-keys", [("rotated", not lost, {"done": done, "lost": lost})])
        if lost:
            self.note(f"{lost} tokens could not be read with any key: they are made anew.")
        self.finish(Summary(changed=done), "tokens", options, lost=lost)

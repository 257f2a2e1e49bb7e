from typing import Any

from usher.application.audit.services import Event, record_many
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
            self.finish_dry_run(count, "tokens", options)
            return
        rotated, unreadable = rotate_keys()
        counts = {"done": rotated, "lost": unreadable}
        event = Event("encryption-keys", "rotated", succeeded=unreadable == 0, detail=counts)
        record_many([event])
        if unreadable:
            self.note(
                f"{unreadable} tokens could not be decrypted with any key: new ones will be "
                "obtained."
            )
        self.finish(Summary(changed=rotated), "tokens", options, lost=unreadable)

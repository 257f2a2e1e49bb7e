"""The provider's periodic tasks, for Celery beat."""

from celery import shared_task

from usher.application import retention
from usher.application.provider.signout import sending


@shared_task(ignore_result=True)  # type: ignore[untyped-decorator,unused-ignore]
def deliver_sign_outs() -> int:
    """Sends the sign-out messages that were not yet delivered to an LMS."""
    return sending.deliver_due()


@shared_task(ignore_result=True)  # type: ignore[untyped-decorator,unused-ignore]
def forget_old() -> None:
    """Deletes rows past their retention, see ``usher.application.retention``."""
    retention.forget_old()

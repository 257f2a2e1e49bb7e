"""For Celery's beat, or any other clock: what the provider does from time to time."""

from celery import shared_task

from usher.application import retention
from usher.application.provider.signout import sending


@shared_task(ignore_result=True)  # type: ignore[untyped-decorator,unused-ignore]
def deliver_sign_outs() -> int:
    """Sign-outs that an LMS was not told of yet, whatever process they came from."""
    return sending.deliver_due()


@shared_task(ignore_result=True)  # type: ignore[untyped-decorator,unused-ignore]
def forget_old() -> None:
    """Rows that are older than they need to be: audit log, expired tokens, ids of messages."""
    retention.forget_old()

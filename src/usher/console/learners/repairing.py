"""Actions of staff for one learner: repair the records, or link an existing LMS account."""

from __future__ import annotations

import threading
import time
from typing import Any

from django.db import transaction
from django.db.models import Q

from usher.application.accounts import adoption
from usher.application.accounts.models import LmsAccount
from usher.application.accounts.services import ensure_account
from usher.application.adapter import AdapterFailed, adapter, log_failure
from usher.application.lms_client import client
from usher.application.tokens.models import LmsToken
from usher.application.tokens.store import forget_tokens
from usher.client.errors import LmsError
from usher.console import lms_requests, words
from usher.console.learners import tokens
from usher.console.learners.services import read_learner
from usher.engine.clock import database_now
from usher.engine.gate import Gate
from usher.engine.lanes import Lane
from usher.engine.models import IN_SYNC
from usher.engine.registry import all_kinds
from usher.engine.services import Patience, reconcile
from usher.engine.stopping import StopAfter
from usher.engine.summary import Summary

#: Seconds that a person waits for a repair.
REPAIR_SECONDS = 20.0
#: Seconds for asking the LMS whether it accepts the token.
_TOKEN_CHECK_SECONDS = 5.0
#: Seconds to wait for a worker that has claimed the records already.
_WORKER_SECONDS = 5.0
_SECONDS_BETWEEN_READS = 0.1


def repair(user: Any) -> Summary:
    """Requests an account if the learner may have one and has none, renews an invalid token, and
    retries the records that are not in sync, including refused ones. Reads an account and
    enrollments that are in sync from the LMS, and sends them again if they differ there. Waits some
    seconds for the LMS.

    The summary's ``by_others`` is the number of records that a worker had already claimed; the
    function waits a few seconds for that worker. Raises InTransaction within a transaction, and
    NoFreeName as ``ensure_account``.
    """
    try:
        if adapter().is_eligible(user):
            ensure_account(user)
    except AdapterFailed as error:
        log_failure(error)  # the page shows the reason; existing records are repaired

    # Make the records due. Those in sync are compared with the LMS, and sent only if they differ.
    _renew_token(user)
    is_due_or_refused = Q(work__due_at__isnull=False) | Q(work__refused_at__isnull=False)
    for kind in _learner_kinds():
        rows = kind.rows().filter(user_id=user.pk)
        rows.filter(~IN_SYNC).filter(is_due_or_refused).make_due(lane=Lane.INTERACTIVE)
    rechecked_count = 0
    for name in ("account", "enrollment"):
        rechecked_count += all_kinds()[name].rows().filter(user_id=user.pk).compare_again()

    # Reconcile them, and wait for a worker that has claimed some.
    # Neither number covers all: the first leaves out kinds such as tokens, the second leaves out
    # rows that a worker has claimed.
    due_count = max(rechecked_count, _count_due(user))
    never_set = threading.Event()  # only the time ends a repair
    stop = StopAfter(never_set, REPAIR_SECONDS)
    # Half of the time at most is spent waiting for rows that failed and are due again soon.
    summary = reconcile(user=user, patience=Patience(REPAIR_SECONDS / 2), stop=stop)
    handled_count = summary.changed + summary.unchanged + summary.failed + summary.waiting_count
    if handled_count < due_count:
        summary.by_others = due_count - handled_count
        _wait_for_workers(user)
    return summary


def _wait_for_workers(user: Any) -> None:
    """Waits until no worker has claimed the learner's records, at most ``_WORKER_SECONDS``."""
    deadline = time.monotonic() + _WORKER_SECONDS
    while time.monotonic() < deadline and _is_any_claimed(user):
        time.sleep(_SECONDS_BETWEEN_READS)


def _learner_kinds() -> list[Any]:
    """The kinds whose records belong to one learner each."""
    return [kind for kind in all_kinds().values() if kind.user_field == "user_id"]


def _count_due(user: Any) -> int:
    now = database_now()
    return sum(kind.rows().filter(user_id=user.pk).due(now).count() for kind in _learner_kinds())


def _is_any_claimed(user: Any) -> bool:
    now = database_now()
    for kind in _learner_kinds():
        if kind.rows().filter(user_id=user.pk, work__lease_until__gt=now).exists():
            return True
    return False


def _renew_token(user: Any) -> None:
    """Makes the token due if the LMS rejects it, or if it belongs to another account, cannot be
    decrypted or expires soon."""
    account = LmsAccount.objects.filter(user=user).first()
    token = LmsToken.objects.filter(user=user).first()
    if account is None or token is None:
        return
    can_sign_in = account.is_ready and account.observed_is_active
    if not can_sign_in:
        return
    try:
        with lms_requests.page_requests(_TOKEN_CHECK_SECONDS):
            token_state = tokens.check(token, account.username)
    except LmsError:
        return  # whether the token works is unknown; the repair reports the LMS's error
    if token_state.is_useless:
        with transaction.atomic():
            forget_tokens([user.pk], Lane.INTERACTIVE)
    elif token_state.is_wrong:
        LmsToken.objects.filter(pk=token.pk).make_due(lane=Lane.INTERACTIVE)


def stopped_kinds(user: Any) -> list[str]:
    """Returns the names, for people, of the kinds whose gate is closed and of which this learner
    has a record that is not in sync. A repair of one learner does not open a gate, since the cause
    concerns all learners."""
    shared_state = client().http.state
    kinds = dict.fromkeys(record.kind for record in read_learner(user).unsettled)
    return [words.plural(name) for name in kinds if Gate(name, shared_state).is_closed]


def link(user: Any, lms_username: str, lms_user_id: str) -> str:
    """Links the learner to an existing LMS account. Returns '', or the reason why the account was
    not linked.

    Reads the account from the LMS again, and refuses any other account than the one shown to the
    person. Raises LmsError.
    """
    row = {
        "user_id": str(user.pk),
        "user": str(user.get_username()),
        "lms_username": lms_username,
        "lms_user_id": lms_user_id,
        "decision": adoption.LINK,
    }
    (result,) = adoption.decide([row])
    return result.problem

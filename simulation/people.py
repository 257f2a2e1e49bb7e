"""Actions of learners, staff and the LMS's own users during a simulation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from simulation.event_log import short
from simulation.lms import course_key

if TYPE_CHECKING:
    from simulation.run import Simulation

#: How many course runs the LMS has.
RUN_COUNT = 3
#: The usernames of the learners who may sign up.
NAMES = ("ann", "bob", "eve", "kim", "lee")
#: A course key that the LMS does not have.
UNKNOWN_RUN = "course-v1:BenchX+Nowhere+2026_T1"
#: A mode that no course run offers.
UNKNOWN_MODE = "masters"


class People:
    """Does random actions. Each call of ``act`` does one action in a web process; each call of
    ``act_in_lms`` does one action in the LMS."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.rng = simulation.rng
        #: Usernames of all who have signed up, also of users who were deleted since.
        self.signed_up: list[str] = []
        self.title_count = 0  # numbers the titles of renamed runs
        self.has_deleted_user = False

    def act(self) -> None:
        """Do one action of a user or staff."""
        if len(self.signed_up) < 2:
            return self._sign_up()
        weights: dict[Callable[[], None], int] = {  # a greater number is chosen more often
            self._sign_up: 12,
            self._enroll: 34,
            self._unenroll: 12,
            self._change_mode: 12,
            self._enroll_and_wait: 8,
            self._enroll_within_transaction: 5,
            self._expire_token: 6,
            self._request_token: 5,
            self._change_name: 6,
            self._delete_user: 4,
            self._deactivate_user: 4,
            self._retry_refused: 6,
            self._recheck: 3,
            self._sync_runs: 4,
            self._enroll_in_missing_run_or_mode: 5,
        }
        (action,) = self.rng.choices(list(weights), weights=list(weights.values()))
        return action()

    def act_unless_deleted(self) -> None:
        """Do one action. Ignore an error that can occur if the user was deleted meanwhile."""
        from django.core.exceptions import ObjectDoesNotExist
        from django.db import IntegrityError

        try:
            self.act()
        except (ObjectDoesNotExist, IntegrityError) as error:
            if not self.has_deleted_user:
                raise
            self._log(f"too late: {error}")

    def act_in_lms(self) -> None:
        """Do one action of somebody in the LMS."""
        actions = (
            self._rename_run,
            self._open_or_close_run,
            self._change_modes_of_run,
            self._change_enrollment_in_lms,
            self._lose_account,
        )
        self.rng.choice(actions)()

    # Learners

    def _sign_up(self) -> None:
        """Somebody signs up; if all names are taken, a learner enrolls instead."""
        from django.contrib.auth import get_user_model

        from usher.application.accounts.services import ensure_account

        free_names = [name for name in NAMES if name not in self.signed_up]
        if not free_names:
            return self._enroll()
        name = self.rng.choice(free_names)
        self.signed_up.append(name)
        self._log(f"{name} signs up")
        user = get_user_model()(username=name, email=f"{name}@learners.example", name=name.title())
        user.password = "!"  # unusable; hashing a password would take long
        user.save()
        ensure_account(user)
        return None

    def _user(self, name: str) -> Any:
        """The user of that name; None if the user was deleted."""
        from django.contrib.auth import get_user_model

        return get_user_model().objects.filter(username=name).first()

    def _choose_enrollment(self) -> tuple[Any, Any, str]:
        """A user (None if deleted), a course run and a mode."""
        from usher.application.runs.models import CourseRun

        name, number = self.rng.choice(self.signed_up), self.rng.randrange(RUN_COUNT)
        mode = self.rng.choice(("audit", "verified"))
        run = CourseRun.objects.get(course_key=course_key(number))
        return self._user(name), run, mode

    def _enroll(self, *, reconcile_now: bool = False) -> None:
        from usher.application.enrollments.services import ModeNotAllowed, enroll

        user, run, mode = self._choose_enrollment()
        if user is None:
            return
        self._log(f"{user.username} enrolls in {short(run.course_key)}, {mode}")
        try:
            enroll(user, run, mode, reconcile_now=reconcile_now)
        except ModeNotAllowed as error:
            self._log(f"not allowed: {error}")

    def _enroll_and_wait(self) -> None:
        self._enroll(reconcile_now=True)

    def _enroll_within_transaction(self) -> None:
        """Enroll within a transaction, as a view with ATOMIC_REQUESTS does."""
        from django.db import transaction

        from usher.engine.transactions import InTransaction

        try:
            with transaction.atomic():
                self._enroll(reconcile_now=True)
        except InTransaction:
            self._log("refused: within a transaction")

    def _act_on_enrollment(self, verb: str, act: Callable[[Any, Any, str], Any]) -> None:
        """Call ``act`` with the user and run of an enrollment, and any mode; if nobody is enrolled
        yet, a learner enrolls instead. verb: what the user does, for the log."""
        from usher.application.enrollments.models import Enrollment
        from usher.application.enrollments.services import ModeNotAllowed, NotEnrolled

        rows = list(Enrollment.objects.select_related("user", "run").order_by("pk"))
        if not rows:
            return self._enroll()
        row, mode = self.rng.choice(rows), self.rng.choice(("audit", "verified"))
        self._log(f"{row.user.username} {verb} {short(row.run.course_key)} ({mode})")
        try:
            act(row.user, row.run, mode)
        except (ModeNotAllowed, NotEnrolled) as error:
            self._log(f"not done: {error}")
        return None

    def _unenroll(self) -> None:
        from usher.application.enrollments.services import unenroll

        self._act_on_enrollment("leaves", lambda user, run, _: unenroll(user, run))

    def _change_mode(self) -> None:
        from usher.application.enrollments.services import change_mode

        self._act_on_enrollment("changes the mode in", change_mode)

    def _enroll_in_missing_run_or_mode(self) -> None:
        """Enroll in a run that the LMS does not have, or in a mode that the run does not offer."""
        from usher.application.enrollments.services import enroll
        from usher.application.runs.services import ensure_run

        user, run, _ = self._choose_enrollment()
        if user is None:
            return
        if self.rng.random() < 0.5:
            run = ensure_run(UNKNOWN_RUN)
        self._log(f"{user.username} enrolls in {short(run.course_key)}, {UNKNOWN_MODE}")
        enroll(user, run, UNKNOWN_MODE, force=True)

    def _expire_token(self) -> None:
        from django.utils import timezone

        from usher.application.tokens.models import LmsToken

        name = self.rng.choice(self.signed_up)
        rows = LmsToken.objects.filter(user__username=name, expires_at__isnull=False)
        self._log(f"the token of {name} runs out")
        rows.update(expires_at=timezone.now())
        rows.make_due()

    def _request_token(self) -> None:
        from usher.application.tokens.errors import NoAccount
        from usher.application.tokens.services import access_token_for
        from usher.client.errors import LmsError

        user = self._user(self.rng.choice(self.signed_up))
        if user is None:
            return
        self._log(f"a page asks for the token of {user.username}")
        try:
            access_token_for(user)
        except (NoAccount, LmsError) as error:
            self._log(f"no token: {error}")

    def _change_name(self) -> None:
        user = self._user(self.rng.choice(self.signed_up))
        if user is None:
            return
        user.name = f"{user.username.title()} {self.rng.randrange(100)}"
        user.country = self.rng.choice(("", "DE", "FR"))
        self._log(f"{user.username} is now called {user.name}")
        user.save()

    def _delete_user(self) -> None:
        from django.db import transaction

        user = self._user(self.rng.choice(self.signed_up))
        if user is None:
            return
        self._log(f"{user.username} is deleted")
        self.has_deleted_user = True
        with transaction.atomic():
            user.delete()

    def _deactivate_user(self) -> None:
        user = self._user(self.rng.choice(self.signed_up))
        if user is None:
            return
        self._log(f"{user.username} is deactivated")
        user.is_active = False
        user.save()

    # Staff

    def _retry_refused(self) -> None:
        """Retry refused enrollments and accounts, as the admin's action does."""
        from usher.application.accounts.models import LmsAccount
        from usher.application.enrollments.models import Enrollment

        self._log("staff retry what was refused")
        Enrollment.objects.refused().make_due()
        LmsAccount.objects.refused().make_due()

    def _recheck(self) -> None:
        from usher.engine.services import recheck

        kind = self.rng.choice(("account", "enrollment", "profile", "mode"))
        self._log(f"staff recheck every {kind}")
        recheck([kind])

    def _sync_runs(self) -> None:
        from usher.application.runs.services import sync_runs

        self._log("staff run sync_courserun")
        sync_modes_too = self.rng.random() < 0.5
        summary = sync_runs(modes=sync_modes_too, patience=60.0)
        self._log(f"sync_courserun: {summary.line()}")

    # In the LMS

    def _rename_run(self) -> None:
        key = course_key(self.rng.randrange(RUN_COUNT))
        self.title_count += 1
        self.simulation.lms_data.rename_run(key, f"Title {self.title_count}")
        self._log_lms(f"{short(key)} is now called Title {self.title_count}")
        self.simulation.notify("course_run.changed", username="", key=key)

    def _open_or_close_run(self) -> None:
        key = course_key(self.rng.randrange(RUN_COUNT))
        is_closed = key not in self.simulation.lms_data.closed
        self.simulation.lms_data.set_closed(key, is_closed)
        self._log_lms(f"{short(key)} is {'closed' if is_closed else 'open again'}")
        self.simulation.notify("course_run.changed", username="", key=key)

    def _change_modes_of_run(self) -> None:
        """Change a run's modes; one mode may be in several currencies, as the platform allows."""
        key = course_key(self.rng.randrange(RUN_COUNT))
        modes = [("audit", 0, "usd"), ("verified", 49, "usd"), ("verified", 45, "eur")]
        mode_count = self.rng.randrange(1, len(modes) + 1)
        self.simulation.lms_data.set_modes(key, *modes[:mode_count])
        self._log_lms(f"{short(key)} has other modes")
        self.simulation.notify("course_run.changed", username="", key=key)

    def _change_enrollment_in_lms(self) -> None:
        """Change an enrollment in the LMS; the application is notified later, or never."""
        lms_data = self.simulation.lms_data
        enrollments = sorted(
            (username, key)
            for username, key in lms_data.enrollments
            if lms_data.people.get(username.lower()) is not None
        )
        if not enrollments:
            return
        username, key = self.rng.choice(enrollments)
        enrollment = lms_data.enrollments[username, key]
        enrollment.mode, enrollment.is_active = "verified", self.rng.random() < 0.5
        self._log_lms(f"an instructor changes {username} in {short(key)}")
        self.simulation.invariants.unreported_changes.add((username, key))
        self.simulation.notify("enrollment.changed", username, key, must_arrive=False)

    def _lose_account(self) -> None:
        lms_data = self.simulation.lms_data
        usernames = sorted(name for name, person in lms_data.people.items() if person is not None)
        if usernames:
            name = self.rng.choice(usernames)
            lms_data.lose_account(name)
            self._log_lms(f"the account {name} is lost, as by a restored backup")
            self.simulation.invariants.lost_accounts.add(name)

    # Log

    def _log(self, text: str) -> None:
        task = self.simulation.scheduler.task
        self.simulation.event_log.add(task.process if task else "", text)

    def _log_lms(self, text: str) -> None:
        self.simulation.event_log.add("LMS", text)

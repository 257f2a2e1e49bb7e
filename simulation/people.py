"""Actions of learners, staff and the LMS's own users during a simulation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from simulation.event_log import short
from simulation.lms import course_key

if TYPE_CHECKING:
    from simulation.run import Seed

RUNS = 3
NAMES = ("ann", "bob", "eve", "kim", "lee")
UNKNOWN_RUN = "course-v1:BenchX+Nowhere+2026_T1"


class People:
    """Does random actions, one for each call: ``act`` in a web process, ``in_the_lms`` in the
    LMS."""

    def __init__(self, seed: Seed) -> None:
        self.seed = seed
        self.rng = seed.rng
        self.signed_up: list[str] = []
        self.titles = 0
        self.deleted = False

    def act(self) -> None:
        """Do one action of a user or staff."""
        if len(self.signed_up) < 2:
            return self._signs_up()
        acts: dict[Callable[[], None], int] = {
            self._signs_up: 12,
            self._enrolls: 34,
            self._leaves: 12,
            self._changes_mode: 12,
            self._enrolls_and_waits: 8,
            self._enrolls_within_a_transaction: 5,
            self._token_runs_out: 6,
            self._asks_for_token: 5,
            self._changes_name: 6,
            self._is_deleted: 4,
            self._is_deactivated: 4,
            self._retries: 6,
            self._rechecks: 3,
            self._syncs_runs: 4,
            self._enrolls_in_vain: 5,
        }
        return self.rng.choices(list(acts), weights=list(acts.values()))[0]()

    def act_unless_deleted(self) -> None:
        """Do one action; ignore its error if the user was deleted meanwhile."""
        from django.core.exceptions import ObjectDoesNotExist
        from django.db import IntegrityError

        try:
            self.act()
        except (ObjectDoesNotExist, IntegrityError) as error:
            if not self.deleted:
                raise
            self._log(f"too late: {error}")

    def in_the_lms(self) -> None:
        """Do one action of somebody in the LMS."""
        acts = (
            self._renames_run,
            self._closes_run,
            self._changes_modes,
            self._instructor_enrolls,
            self._account_is_lost,
        )
        self.rng.choice(acts)()

    # Learners

    def _signs_up(self) -> None:
        from django.contrib.auth import get_user_model

        from usher.application.accounts.services import ensure_account

        free_names = [name for name in NAMES if name not in self.signed_up]
        if not free_names:
            return self._enrolls()
        name = self.rng.choice(free_names)
        self.signed_up.append(name)
        self._log(f"{name} signs up")
        user = get_user_model()(username=name, email=f"{name}@learners.example", name=name.title())
        user.password = "!"
        user.save()
        ensure_account(user)
        return None

    def _user(self, name: str) -> Any:
        from django.contrib.auth import get_user_model

        return get_user_model().objects.filter(username=name).first()

    def _pick(self) -> tuple[Any, Any, str]:
        from usher.application.runs.models import CourseRun

        name, number = self.rng.choice(self.signed_up), self.rng.randrange(RUNS)
        mode = self.rng.choice(("audit", "verified"))
        run = CourseRun.objects.get(course_key=course_key(number))
        return self._user(name), run, mode

    def _enrolls(self, *, reconcile_now: bool = False) -> None:
        from usher.application.enrollments.services import ModeNotAllowed, enroll

        user, run, mode = self._pick()
        if user is None:
            return
        self._log(f"{user.username} enrolls in {short(run.course_key)}, {mode}")
        try:
            enroll(user, run, mode, reconcile_now=reconcile_now)
        except ModeNotAllowed as error:
            self._log(f"not allowed: {error}")

    def _enrolls_and_waits(self) -> None:
        self._enrolls(reconcile_now=True)

    def _enrolls_within_a_transaction(self) -> None:
        """Enroll within a transaction, as a view with ATOMIC_REQUESTS does."""
        from django.db import transaction

        from usher.engine.transactions import InTransaction

        try:
            with transaction.atomic():
                self._enrolls(reconcile_now=True)
        except InTransaction:
            self._log("refused: within a transaction")

    def _on_enrollment(self, words: str, act: Callable[[Any, Any, str], Any]) -> None:
        from usher.application.enrollments.models import Enrollment
        from usher.application.enrollments.services import ModeNotAllowed, NotEnrolled

        rows = list(Enrollment.objects.select_related("user", "run").order_by("pk"))
        if not rows:
            return self._enrolls()
        row, mode = self.rng.choice(rows), self.rng.choice(("audit", "verified"))
        self._log(f"{row.user.username} {words} {short(row.run.course_key)} ({mode})")
        try:
            act(row.user, row.run, mode)
        except (ModeNotAllowed, NotEnrolled) as error:
            self._log(f"not done: {error}")
        return None

    def _leaves(self) -> None:
        from usher.application.enrollments.services import unenroll

        self._on_enrollment("leaves", lambda user, run, _: unenroll(user, run))

    def _changes_mode(self) -> None:
        from usher.application.enrollments.services import change_mode

        self._on_enrollment("changes the mode in", change_mode)

    def _enrolls_in_vain(self) -> None:
        """Enroll in a run that the LMS does not have, or in a mode that it no longer has."""
        from usher.application.enrollments.services import enroll
        from usher.application.runs.services import ensure_run

        user, run, _ = self._pick()
        if user is None:
            return
        if self.rng.random() < 0.5:
            run = ensure_run(UNKNOWN_RUN)
        self._log(f"{user.username} enrolls in {short(run.course_key)}, masters")
        enroll(user, run, "masters", force=True)

    def _token_runs_out(self) -> None:
        from django.utils import timezone

        from usher.application.tokens.models import LmsToken

        name = self.rng.choice(self.signed_up)
        rows = LmsToken.objects.filter(user__username=name, expires_at__isnull=False)
        self._log(f"the token of {name} runs out")
        rows.update(expires_at=timezone.now())
        rows.make_due()

    def _asks_for_token(self) -> None:
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

    def _changes_name(self) -> None:
        user = self._user(self.rng.choice(self.signed_up))
        if user is None:
            return
        user.name = f"{user.username.title()} {self.rng.randrange(100)}"
        user.country = self.rng.choice(("", "DE", "FR"))
        self._log(f"{user.username} is now called {user.name}")
        user.save()

    def _is_deleted(self) -> None:
        from django.db import transaction

        user = self._user(self.rng.choice(self.signed_up))
        if user is None:
            return
        self._log(f"{user.username} is deleted")
        self.deleted = True
        with transaction.atomic():
            user.delete()

    def _is_deactivated(self) -> None:
        user = self._user(self.rng.choice(self.signed_up))
        if user is None:
            return
        self._log(f"{user.username} is deactivated")
        user.is_active = False
        user.save()

    # Staff

    def _retries(self) -> None:
        """Retry refused rows, as the admin's action does."""
        from usher.application.accounts.models import LmsAccount
        from usher.application.enrollments.models import Enrollment

        self._log("staff retry what was refused")
        Enrollment.objects.refused().make_due()
        LmsAccount.objects.refused().make_due()

    def _rechecks(self) -> None:
        from usher.engine.services import recheck

        kind = self.rng.choice(("account", "enrollment", "profile", "mode"))
        self._log(f"staff recheck every {kind}")
        recheck([kind])

    def _syncs_runs(self) -> None:
        from usher.application.runs.services import sync_runs

        self._log("staff run sync_courserun")
        summary = sync_runs(modes=self.rng.random() < 0.5, patience=60.0)
        self._log(f"sync_courserun: {summary.line()}")

    # In the LMS

    def _renames_run(self) -> None:
        key = course_key(self.rng.randrange(RUNS))
        self.titles += 1
        self.seed.world.rename(key, f"Title {self.titles}")
        self._log_lms(f"{short(key)} is now called Title {self.titles}")
        self.seed.notify("course_run.changed", "", key)

    def _closes_run(self) -> None:
        key = course_key(self.rng.randrange(RUNS))
        is_closed = key not in self.seed.world.closed
        self.seed.world.close(key, is_closed)
        self._log_lms(f"{short(key)} is {'closed' if is_closed else 'open again'}")
        self.seed.notify("course_run.changed", "", key)

    def _changes_modes(self) -> None:
        """Change a run's modes; one mode may be in several currencies, as the platform allows."""
        key = course_key(self.rng.randrange(RUNS))
        modes = [("audit", 0, "usd"), ("verified", 49, "usd"), ("verified", 45, "eur")]
        self.seed.world.offer(key, *modes[: self.rng.randrange(1, 4)])
        self._log_lms(f"{short(key)} has other modes")
        self.seed.notify("course_run.changed", "", key)

    def _instructor_enrolls(self) -> None:
        """Change an enrollment in the LMS; the application is notified later, or never."""
        world = self.seed.world
        enrollments = sorted(
            k for k in world.enrollments if world.people.get(k[0].lower()) is not None
        )
        if not enrollments:
            return
        username, key = self.rng.choice(enrollments)
        world.enrollments[username, key][:2] = "verified", self.rng.random() < 0.5
        self._log_lms(f"an instructor changes {username} in {short(key)}")
        self.seed.invariants.foreign.add((username, key))
        self.seed.notify("enrollment.changed", username, key, certain=False)

    def _account_is_lost(self) -> None:
        world = self.seed.world
        usernames = sorted(name for name, person in world.people.items() if person is not None)
        if usernames:
            name = self.rng.choice(usernames)
            world.lose(name)
            self._log_lms(f"the account {name} is lost, as by a restored backup")
            self.seed.invariants.lost.add(name)

    # Log

    def _log(self, text: str) -> None:
        task = self.seed.scheduler.task
        self.seed.event_log.add(task.process if task else "", text)

    def _log_lms(self, text: str) -> None:
        self.seed.event_log.add("LMS", text)

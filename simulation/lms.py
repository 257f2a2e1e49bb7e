"""A model of the LMS: the benchmark LMS with refusals, changes and a log of changes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from benchmarks.lms.api import PublicApi
from benchmarks.lms.api import Refused as NoEnrollment
from benchmarks.lms.batch import BatchApi
from benchmarks.lms.callbacks import CallbackFailed
from benchmarks.lms.routes import Lms
from benchmarks.lms.server import Request, Response, as_json
from benchmarks.lms.sign_in import SignIn
from benchmarks.lms.world import Account, World, moment, run_of

from usher.contract.paths import LmsPath

SITE = "http://app.example"
CLIENT_ID = "lms-at-application"
OAUTH_CLIENT_ID, OAUTH_CLIENT_SECRET = "application-at-lms", "secret"
SERVICE_TOKEN = "service-token"


def course_key(number: int) -> str:
    return str(run_of(number)["course_id"])


class LmsData(World):
    """The data of the LMS.

    people: username in lower case → id of the application's user to whom the account belongs; None
    for an account that a stranger created in the LMS; ``GONE`` for an account that was created
    after the user had been deleted. modes: course key → the run's modes. closed: keys of runs that
    accept no new learners. refused: (kind, subject) of everything this LMS has ever refused.
    """

    def __init__(self) -> None:
        super().__init__(
            application_url=SITE,
            client_id=CLIENT_ID,
            oauth_client_id=OAUTH_CLIENT_ID,
            oauth_client_secret=OAUTH_CLIENT_SECRET,
            service_token=SERVICE_TOKEN,
        )
        self.people: dict[str, int | None] = {}
        self.modes: dict[str, list[dict[str, Any]]] = {}
        self.closed: set[str] = set()
        self.refused: set[tuple[str, str]] = set()

    def add_runs(self, count: int) -> None:
        for number in range(count):
            run = run_of(number)
            self.runs[run["course_id"]] = run
            self.modes[run["course_id"]] = [
                _mode("audit", price=0, currency="usd"),
                _mode("verified", price=49, currency="usd"),
            ]
        self.render_pages()

    def add_stranger(self, username: str, email: str) -> None:
        """Add an account that somebody created in the LMS before the application was connected."""
        account = self.add_account(username, email, name="Somebody else", country="", uid="")
        account.date_joined = moment(-timedelta(days=30))
        self.people[username.lower()] = None

    def lose_account(self, username: str) -> None:
        """Delete an account with its enrollments, as restoring an old backup would."""
        account = self.accounts.pop(username.lower())
        self.by_email.pop(account.email.lower(), None)
        self.by_uid.pop(account.uid, None)
        self.people.pop(username.lower())
        for owners_by_token in (self.access, self.refresh):
            tokens = [
                token for token, owner in owners_by_token.items() if owner == account.username
            ]
            for token in tokens:
                del owners_by_token[token]
        for key in self.by_user.pop(account.username, ()):
            self.enrollments.pop((account.username, key), None)

    def rename_run(self, key: str, title: str) -> None:
        self.runs[key]["name"] = title
        self.render_pages()

    def set_closed(self, key: str, is_closed: bool) -> None:
        """Close the run for new learners, or open it again."""
        if is_closed:
            self.closed.add(key)
            time_until_end = timedelta(days=-1)
        else:
            self.closed.discard(key)
            time_until_end = timedelta(days=300)
        self.runs[key]["enrollment_end"] = moment(time_until_end)
        self.render_pages()

    def set_modes(self, key: str, *modes: tuple[str, int, str]) -> None:
        """Set the run's modes. modes: slug, price and currency of each."""
        self.modes[key] = [_mode(slug, price, currency) for slug, price, currency in modes]

    def account_of(self, username: str) -> Account | None:
        return self.accounts.get(username.lower())


def _mode(slug: str, price: int, currency: str) -> dict[str, Any]:
    """An enrollment mode, as the LMS answers it."""
    return {
        "mode_slug": slug,
        "mode_display_name": slug.title(),
        "min_price": price,
        "currency": currency,
        "expiration_datetime": None,
        "description": None,
        "sku": None,
        "bulk_sku": None,
    }


@dataclass
class DirectCallbacks:
    """The LMS's requests to the application, answered from the application's database without HTTP.
    Each method returns the learner's username, or None for an unknown token or code.
    callback_fails: returns whether the application is unreachable."""

    world: LmsData
    callback_fails: Callable[[], bool] = lambda: False

    async def me(self, token: str) -> str | None:
        from oauth2_provider.models import get_access_token_model

        self._fail_if_unreachable()
        digest = hashlib.sha256(token.encode()).hexdigest()
        row = get_access_token_model().objects.filter(token_checksum=digest).first()
        return self._name(row.user_id) if row is not None else None

    async def exchange(self, code: str, redirect_uri: str) -> str | None:
        from oauth2_provider.models import get_grant_model

        self._fail_if_unreachable()
        row = get_grant_model().objects.filter(code=code).first()
        if row is None:
            return None
        get_grant_model().objects.filter(pk=row.pk).delete()  # a code can be used only once
        return self._name(row.user_id)

    def _name(self, user_id: int) -> str | None:
        """The LMS username of this user; None if the user has none."""
        from usher.application.accounts.models import LmsAccount

        names = LmsAccount.objects.filter(user_id=user_id).values_list("username", flat=True)
        return names.first()

    def _fail_if_unreachable(self) -> None:
        if self.callback_fails():
            raise CallbackFailed("the application does not answer")


class SimulatedLms(Lms):
    """The benchmark LMS with the model's data and rules. It answers each request immediately."""

    world: LmsData

    def __post_init__(self) -> None:
        super().__post_init__()
        self.callbacks = DirectCallbacks(self.world)
        self.sign_in = _SignIn(self.world, self.callbacks)
        self.api = _PublicApi(self.world)
        self.batch_api = _BatchApi(self.world, has_plugin=self.has_batch_api)
        self.set_routes()
        self.routes["GET", LmsPath.USHER_ACCOUNTS] = self.batch_api.no_changes
        self.routes["GET", LmsPath.USHER_COURSE_RUNS] = self.batch_api.no_changes
        self.routes["GET", LmsPath.USHER_ENROLLMENTS] = self.batch_api.changed_enrollments

    def answer(self, request: Request) -> Response:
        """The answer to a request, whose effect in the LMS has then taken place."""
        answer, _ = self.handle(request)  # not used: the delay, which is 0 here
        if isinstance(answer, Response):
            return answer
        coroutine: Any = answer
        try:
            coroutine.send(None)  # starts the coroutine, which runs to its end without waiting
        except StopIteration as stop:
            response: Response = stop.value
            return response
        raise AssertionError("the model waits for something")


class _SignIn(SignIn):
    """Records to whom new accounts belong, and who was refused."""

    world: LmsData

    async def register(self, request: Request) -> Response:
        form = request.form()
        answer = await super().register(request)
        if answer.status == 200:
            self.world.people[form["username"].lower()] = _user_id_of(form["username"])
        elif answer.status == 409:  # the username or e-mail address is taken
            self.world.refused.add(("account", form["username"]))
        return answer

    async def complete(self, request: Request) -> Response:
        answer = await super().complete(request)
        location = dict(answer.headers).get("Location", "")
        if answer.status == 403 or location in (LmsPath.LOGIN, LmsPath.REGISTER):
            self.world.refused.add(("token", ""))  # recorded without a username
        return answer


#: In place of a user's id if the user was deleted from the application.
GONE = -1


def _user_id_of(username: str) -> int:
    """The id of the application's user for whom this username is reserved; ``GONE`` if there is
    none any more."""
    from usher.application.accounts.models import UsernameReservation

    rows = UsernameReservation.objects.filter(username=username)
    return rows.values_list("user_id", flat=True).first() or GONE


class _PublicApi(PublicApi):
    """The public API with the model's modes and its rules for enrollments."""

    world: LmsData

    def enroll(self, request: Request) -> Response:
        """Changes an enrollment by the model's rules; other requests than those of the service
        worker about known users are refused as in the benchmark LMS."""
        if request.token != self.world.service_token:
            return super().enroll(request)  # which answers 401
        body = request.json()
        username, key = body["user"], body["course_details"]["course_id"]
        if username.lower() not in self.world.accounts:
            return super().enroll(request)  # which answers that the user does not exist
        try:
            mode, is_active = enroll(
                self.world,
                username,
                key,
                body.get("mode"),
                body.get("is_active", True),
                force=body.get("force_enrollment", False),
            )
        except NoEnrollment as refusal:
            return as_json({"message": str(refusal)}, 400)
        return as_json(self._enrollment(username, key, mode, is_active))

    def modes(self, request: Request) -> Response:
        key = request.path.split("/courses/")[1].strip("/")
        modes = [{"course_id": key, **mode} for mode in self.world.modes.get(key, ())]
        return as_json(modes)


def enroll(
    world: LmsData, username: str, key: str, mode: str | None, is_active: bool, *, force: bool
) -> tuple[str, bool]:
    """Changes an enrollment as the platform does for the service worker. Returns the new mode, and
    whether the enrollment is active. mode: None to keep the mode, which is audit for a new
    enrollment. force: also in a closed run. Raises NoEnrollment with the platform's message."""
    try:
        return _enroll(world, username, key, mode, is_active, force=force)
    except NoEnrollment:
        world.refused.add(("enrollment", f"{username} in {key}"))
        raise


def _enroll(
    world: LmsData, username: str, key: str, mode: str | None, is_active: bool, *, force: bool
) -> tuple[str, bool]:
    """As ``enroll``, without recording refusals."""
    enrollment = world.enrollments.get((username, key))
    current_mode, is_enrolled = enrollment.state if enrollment else ("audit", False)
    if key not in world.runs:
        raise NoEnrollment(f"No course '{key}' found for enrollment")
    if enrollment is None and not is_active:
        raise NoEnrollment(f"{username} is not enrolled in {key}.")
    offered_modes = [offered["mode_slug"] for offered in world.modes[key]]
    keeps_mode = enrollment is not None and current_mode == mode
    if is_active and mode and mode not in offered_modes and not keeps_mode:
        raise NoEnrollment(
            f"The [{mode}] course mode is expired or otherwise unavailable for course run [{key}]."
        )
    if enrollment is None and key in world.closed and not force:
        raise NoEnrollment(f"Enrollment is closed for course run [{key}].")
    if is_enrolled and not is_active and mode and current_mode != mode:
        raise NoEnrollment(
            f"Enrollment mode mismatch: active mode={current_mode}, requested mode={mode}. "
            "Won't deactivate."
        )
    return world.enroll(username, key, mode or current_mode, is_active).state


class _BatchApi(BatchApi):
    """The batch API with the model's rules, and with lists of changes."""

    world: LmsData

    def no_changes(self, request: Request) -> Response:
        """An empty list of changes, so that the application learns of them in other ways."""
        if not self._is_authorized(request):
            return Response(404)
        return as_json({"results": [], "next": None, "now": moment()})

    def changed_enrollments(self, request: Request) -> Response:
        """All enrollments of the application's learners: the answer to a query for changes may
        also contain enrollments that did not change."""
        if not self._is_authorized(request):
            return Response(404)
        items = [
            {
                "username": username,
                "course_id": key,
                "mode": enrollment.mode,
                "is_active": enrollment.is_active,
            }
            for (username, key), enrollment in self.world.enrollments.items()
            if self.world.people.get(username.lower()) is not None
        ]
        return as_json({"results": items, "next": None, "now": moment()})

    def _account(self, item: dict[str, Any]) -> dict[str, Any]:
        """Creates the item's account, or changes the account that exists. Returns the result."""
        username = item["username"]
        account = self.world.by_uid.get(username)
        result = super()._account(item)
        if result["status"] == "refused":
            self.world.refused.add(("account", username))
        elif account is None:
            self.world.people[username.lower()] = _user_id_of(username)
        elif self._change(account, item):
            result["status"] = "updated"
        return result

    def _change(self, account: Account, item: dict[str, Any]) -> bool:
        """Gives the account the item's details that are not empty. Returns whether one of them is
        new."""
        details = {name: item[name] for name in ("name", "country", "email") if item[name]}
        has_changed = any(getattr(account, name) != value for name, value in details.items())
        self.world.by_email.pop(account.email.lower(), None)
        for name, value in details.items():
            setattr(account, name, value)
        self.world.by_email[account.email.lower()] = account
        return has_changed

    def _enrollment(self, item: dict[str, Any]) -> dict[str, Any]:
        """Changes the item's enrollment. Returns the result."""
        username, key = item["username"], item["course_id"]
        # Linked accounts only: the uid of an account that the application created is its username.
        account = self.world.by_uid.get(username)
        if account is None:
            return _refused_result(item, "unknown-user", f"The user {username} does not exist.")
        enrollment = self.world.enrollments.get((username, key))
        former_state = enrollment.state if enrollment else None
        try:
            mode, is_active = enroll(
                self.world,
                username,
                key,
                item["mode"] or None,
                item["is_active"],
                force=item["force"],
            )
        except NoEnrollment as refusal:
            return _refused_result(item, _error_code(str(refusal)), str(refusal))
        return {
            "id": item["id"],
            "status": "unchanged" if former_state == (mode, is_active) else "changed",
            "mode": mode,
            "is_active": is_active,
            "error": None,
        }


def _error_code(message: str) -> str:
    """The batch API's error code for a message of ``enroll``."""
    for words, code in (
        ("No course", "unknown-run"),
        ("not enrolled", "not-enrolled"),
        ("unavailable", "mode-unavailable"),
        ("closed", "closed"),
        ("mismatch", "mode-mismatch"),
    ):
        if words in message:
            return code
    raise AssertionError(message)


def _refused_result(item: dict[str, Any], code: str, message: str) -> dict[str, Any]:
    """The result of a refused enrollment. Unlike the LMS's, it has the fields of the result of an
    account."""
    error = {"code": code, "message": message, "suggestions": []}
    return {"id": item["id"], "status": "refused", "tokens": None, "error": error}

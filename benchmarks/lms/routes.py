"""The paths of the benchmark LMS, and its control endpoints for benchmarks."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.lms.api import PublicApi
from benchmarks.lms.batch import BatchApi
from benchmarks.lms.callbacks import CallbackFailed, Callbacks
from benchmarks.lms.server import Request, Response, as_json
from benchmarks.lms.sign_in import COMPLETE, ApplicationRequests, SignIn
from benchmarks.lms.world import World
from usher.contract.oauth import DEFAULT_BACKEND
from usher.contract.paths import LmsPath

#: Seconds from a request to its answer.
DEFAULT_DELAY = 0.05
_START = LmsPath.sign_in_start(DEFAULT_BACKEND)


@dataclass
class Lms:
    """The benchmark LMS. delay: seconds from the request to the answer. application_server: address
    of the application's server; '' for an LMS that sends it no requests."""

    world: World
    delay: float
    has_batch_api: bool = True
    application_server: str = ""
    routes: dict[tuple[str, str], Any] = field(init=False)
    prefixes: list[tuple[str, str, Any]] = field(init=False)

    def __post_init__(self) -> None:
        application: ApplicationRequests | None = None
        if self.application_server:
            application = Callbacks(self.world, self.application_server)
        self.sign_in = SignIn(self.world, application)
        self.api = PublicApi(self.world)
        self.batch_api = BatchApi(self.world, has_plugin=self.has_batch_api)
        self.set_routes()

    def set_routes(self) -> None:
        """Sets ``routes``: method and path → function that answers; and ``prefixes``: the same for
        all paths that begin with a text, in the order in which they are tried."""
        self.routes = {
            ("POST", LmsPath.REGISTRATION): self.sign_in.register,
            ("GET", _START): self.sign_in.start,
            ("GET", COMPLETE): self.sign_in.complete,
            ("GET", LmsPath.DASHBOARD): self.sign_in.dashboard,
            ("GET", LmsPath.AUTHORIZE): self.sign_in.authorize,
            ("POST", LmsPath.ACCESS_TOKEN): self.sign_in.token,
            ("GET", LmsPath.ME): self.api.me,
            ("POST", LmsPath.ENROLLMENT): self.api.enroll,
            ("GET", LmsPath.ENROLLMENTS): self.api.enrollments,
            ("GET", LmsPath.COURSES): self.api.courses,
            ("GET", LmsPath.USHER_API): self.batch_api.capabilities,
            ("POST", LmsPath.USHER_ACCOUNTS): self.batch_api.accounts,
            ("POST", LmsPath.USHER_ENROLLMENTS): self.batch_api.enrollments,
        }
        self.prefixes = [
            ("GET", LmsPath.ENROLLMENT + "/", self.api.enrollment),
            ("POST", LmsPath.ACCOUNTS + "/", self.api.deactivate),
            ("GET", LmsPath.ACCOUNTS, self.api.account),
            ("PATCH", LmsPath.ACCOUNTS + "/", self.api.account),
            ("GET", "/api/course_modes/v1/courses/", self.api.modes),
        ]

    def handle(self, request: Request) -> tuple[Response | Awaitable[Response], float]:
        """Returns the answer, and the seconds to wait before it is sent."""
        if request.path.startswith("/control/"):
            return self._control(request), 0.0
        # Shortened, so that requests with a list of usernames or with long names count together.
        self.world.requests[f"{request.method} {request.path.split(',')[0][:40]}"] += 1
        action = self._action(request)
        if action is None:
            body = b"<title>Page not found</title>"
            return Response(404, body, kind="text/html; charset=utf-8"), self.delay
        answer = action(request)
        if not isinstance(answer, Response):
            answer = _answer_or_500(answer)
        return answer, self.delay

    def _action(self, request: Request) -> Any:
        """The function that answers the request; None for an unknown path."""
        action = self.routes.get((request.method, request.path))
        if action is not None:
            return action
        for method, prefix, action in self.prefixes:
            if request.method == method and request.path.startswith(prefix):
                return action
        return None

    # Control endpoints, with which a benchmark reads or changes the LMS's data directly.

    def _control(self, request: Request) -> Response:
        """A request of a benchmark to ``/control/<name>``: reads the LMS's data, or changes the
        LMS."""
        name = request.path.removeprefix("/control/")
        params = request.params()
        if name == "titles":
            return as_json({key: run["name"] for key, run in self.world.runs.items()})
        if name == "dump":
            return as_json(self._dump())
        if name == "counts":
            return as_json({"requests": dict(self.world.requests)})
        if name == "change-runs":
            changed = self.world.change_runs(int(params["one_in"]), params["mark"])
            return as_json({"changed": changed})
        self._change(name, params)
        return as_json({})

    def _change(self, name: str, params: dict[str, str]) -> None:
        """Changes the LMS as the control endpoint ``name`` says; an unknown name changes
        nothing."""
        world = self.world
        match name:
            case "runs":
                world.make_runs(int(params["count"]))
            case "rename":
                world.runs[params["key"]]["name"] = params["title"]
                world.render_pages()
            case "delay":
                self.delay = float(params["seconds"])
            case "batch":
                self.batch_api.has_plugin = params["on"] == "yes"
            case "stranger":
                username = params["username"]
                world.add_account(username, params["email"], name=username)
            case "accounts":
                for number in range(int(params["first"]), int(params["end"])):
                    username = params["username_pattern"].format(number)
                    world.add_account(username, f"{username}@bench.example", uid=username)
            case "enrollment":
                is_active = params["on"] == "yes"
                world.enroll(params["username"], params["key"], params["mode"], is_active)
            case "reset":
                world.delete_all_but_runs()

    def _dump(self) -> dict[str, Any]:
        """The data that ``benchmarks.chaos.verdict`` compares. access: access token → username.
        made: username → how often the account was created."""
        return {
            "accounts": [asdict(account) for account in self.world.accounts.values()],
            "enrollments": [
                [username, key, enrollment.mode, enrollment.is_active]
                for (username, key), enrollment in self.world.enrollments.items()
            ],
            "access": self.world.access,
            "made": {
                name.removeprefix("made:"): count
                for name, count in self.world.requests.items()
                if name.startswith("made:")
            },
        }


async def _answer_or_500(answer: Awaitable[Response]) -> Response:
    try:
        return await answer
    except CallbackFailed:
        return Response(500, b"<title>Server Error</title>", kind="text/html; charset=utf-8")

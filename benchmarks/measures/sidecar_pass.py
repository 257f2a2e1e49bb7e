"""``python -m benchmarks.measures.sidecar_pass FOLDER PASSES``: runs passes of the sidecar over one
application. Prints JSON with the seconds of the first and the last pass, which do not include the
start of processes. ``numbers`` is the number of processed rows in the last pass, ``mb`` the peak
memory of the sidecar and the application together."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from usher.connect.application.checkout import ApplicationOptions
from usher.sidecar.accounts import ACCOUNT
from usher.sidecar.enrollments import ENROLLMENT
from usher.sidecar.reconcile import PassScope, reconcile
from usher.sidecar.runs import RUN
from usher.sidecar.session import open_application, open_session
from usher.sidecar.summary import Summary
from usher.sidecar.watching import QuickPasses


def main() -> None:
    folder, passes = sys.argv[1], int(sys.argv[2])
    options = ApplicationOptions(folder, manage=f"{sys.executable} manage.py")
    # Without the modes of course runs, which the application's own sync does not change.
    full_scope = PassScope(kinds=(ACCOUNT, ENROLLMENT, RUN))
    quick = QuickPasses(full_scope)
    seconds = []
    with open_application(options) as (checkout, adapter, agent):
        session = open_session(checkout, adapter, agent)
        for number in range(passes):
            started = time.monotonic()
            is_first = number == 0
            pass_scope = full_scope if is_first else quick.next_scope(started)
            summary = reconcile(session, pass_scope, Summary())
            quick.finish_pass(started, busy_seconds=0.0)
            seconds.append(time.monotonic() - started)
        figures = {
            "ok": summary.succeeded,
            "numbers": sum(summary.numbers.values()),
            "reasons": summary.reasons[:5],
            "seconds": seconds[0],
            "later": seconds[-1],
            "mb": _peak_mb("self") + _peak_mb(str(agent.pid)),
        }
    print(json.dumps(figures))


def _peak_mb(pid: str) -> float:
    """The peak memory of a process, in megabytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    _, _, after_name = status.partition("VmHWM:")
    kilobytes = int(after_name.split()[0])
    return kilobytes / 1024


if __name__ == "__main__":
    main()

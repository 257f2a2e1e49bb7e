# mypy: ignore-errors
"""Runs inside the application: whether its server reaches the LMS (PARAMS: ``url``)."""

import json
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

ANSWER_MARK = "usher-answer: "


def main(params):
    try:
        with urlopen(params["url"], timeout=10) as answer:  # noqa: S310 - the operator's own LMS
            found = {"status": answer.status}
    except HTTPError as error:
        found = {"status": error.code}
    except (URLError, OSError, ValueError) as error:
        found = {"status": None, "reason": str(getattr(error, "reason", error))}
    print("\n" + ANSWER_MARK + json.dumps(found), flush=True)  # noqa: T201


if "PARAMS" in globals():
    main(globals()["PARAMS"])

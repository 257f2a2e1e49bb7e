"""The release of an Open edX: reported by usher.lms if installed, else read from its pages."""

import re

import httpx

from usher.contract.paths import LmsPath

#: Documentation links in the LMS's pages carry the release line (openedx/core/release.py).
_DOCUMENTATION_LINK = re.compile(
    r"/(?:open-release-|release-?)([a-z]+)(?:\.master|\.\d+)?/", re.IGNORECASE
)
_RECORDED = "the recorded answers of an Open edX of June 2025 (between Teak and Ulmo)"


def find_release(client: httpx.Client, token: str) -> str:
    """Returns the release's name, such as ``teak``; '' if it is unknown."""
    try:
        answer = client.get(LmsPath.USHER_API, headers={"Authorization": f"Bearer {token}"})
        if answer.status_code == httpx.codes.OK and (release := answer.json().get("release")):
            return str(release)
        for path in ("/", LmsPath.LOGIN):
            if match := _DOCUMENTATION_LINK.search(client.get(path, follow_redirects=True).text):
                return match[1].lower()
    except (httpx.HTTPError, ValueError, AttributeError, RecursionError):
        return ""
    return ""


def describe(release: str, deviating: int) -> str:
    """A sentence: the release that the LMS reports, and how many of its answers differ from the
    recorded answers. deviating: their number."""
    reported = f"its release is {release}" if release else "it does not report its release"
    if not deviating:
        return f"{reported}; all its answers agree with {_RECORDED}"
    answers = "1 of its answers differs" if deviating == 1 else f"{deviating} of its answers differ"
    return f"{reported}; {answers} from {_RECORDED}"

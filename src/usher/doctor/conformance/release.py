"""The release of an Open edX: reported by usher.lms if installed, else read from its pages."""

import re

import httpx

from usher.contract.paths import LmsPath

#: Documentation links in the LMS's pages carry the release line (openedx/core/release.py).
_LINKS = re.compile(r"/(?:open-release-|release-?)([a-z]+)(?:\.master|\.\d+)?/", re.IGNORECASE)
_RECORDED = "a tree of June 2025 (between Teak and Ulmo)"


def seen_release(client: httpx.Client, token: str) -> str:
    """Returns the release's name, such as ``teak``; '' if it is unknown."""
    try:
        answer = client.get(LmsPath.USHER_API, headers={"Authorization": f"Bearer {token}"})
        if answer.status_code == httpx.codes.OK and (release := answer.json().get("release")):
            return str(release)
        for path in ("/", LmsPath.LOGIN):
            if match := _LINKS.search(client.get(path, follow_redirects=True).text):
                return match[1].lower()
    except (httpx.HTTPError, ValueError, AttributeError):
        return ""
    return ""


def describe(release: str, deviating: int) -> str:
    """A sentence: the release that the LMS reports, and how its answers compare with the recorded
    ones."""
    named = f"it says {release}; " if release else "it does not report its release; "
    if not deviating:
        return f"{named}in all requests that were sent, it answers like {_RECORDED}"
    plural = "answer differs" if deviating == 1 else "answers differ"
    return f"{named}{deviating} {plural} from {_RECORDED}"

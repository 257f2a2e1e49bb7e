"""A minimal browser on httpx: cookies, redirects and forms, as the test learner needs them."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import httpx

from usher.cli.demo.errors import DemoError
from usher.contract import agents

MAX_REDIRECTS = 20


@dataclass
class Form:
    """A form of a page. action: address as in the page. fields: name → value."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)


class _Forms(HTMLParser):
    """Collects the forms of a page, with the values of their ``input`` elements; '' for ``select``
    and ``textarea``."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        #: Whether the parser is inside a form.
        self._open = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._open = True
            self.forms.append(Form(values.get("action", ""), values.get("method", "get").lower()))
        elif tag in ("input", "select", "textarea") and self._open and values.get("name"):
            self.forms[-1].fields[values["name"]] = values.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._open = False


class Browser:
    """Keeps cookies for each host and follows redirects between them."""

    def __init__(self) -> None:
        self.client = httpx.Client(
            headers=agents.LEARNER,
            follow_redirects=True,
            timeout=30,
            max_redirects=MAX_REDIRECTS,
            trust_env=False,
        )

    def get(self, url: str) -> httpx.Response:
        return self.client.get(url)

    def submit(self, page: httpx.Response, action_part: str, **values: str) -> httpx.Response:
        """Sends the POST form of ``page`` whose address contains ``action_part``, with ``values``
        in its fields. Raises DemoError if there is no such form."""
        parser = _Forms()
        parser.feed(page.text)
        for form in parser.forms:
            target = urljoin(str(page.url), form.action or str(page.url))
            if form.method == "post" and action_part in urlsplit(target).path:
                return self.client.post(
                    target,
                    data={**form.fields, **values},
                    # As a browser sends them; Django's CSRF protection checks them.
                    headers={"Referer": str(page.url), "Origin": origin_of(target)},
                )
        raise DemoError(f"The page {page.url} has no form that posts to {action_part!r}.")

    def close(self) -> None:
        self.client.close()


def origin_of(url: str) -> str:
    """Scheme, host and port of an address."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"

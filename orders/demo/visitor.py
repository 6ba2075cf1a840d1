"""A browser without a screen: keeps cookies, fills in forms, follows redirects."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.cookiejar import CookieJar
from urllib.error import HTTPError
from urllib.parse import urlencode, urljoin, urlsplit
from urllib.request import HTTPCookieProcessor, ProxyHandler, Request, build_opener

from orders.demo.errors import Unexpected

TIMEOUT = 20.0

Attributes = Mapping[str, str]


@dataclass
class Form:
    """A form of a page: where it is sent and what it holds; ``fields`` are the inputs by name."""

    action: str
    fields: dict[str, Attributes] = field(default_factory=dict)

    def values(self) -> dict[str, str]:
        """What the form sends when nobody touches it."""
        return {
            name: attributes.get("value", "")
            for name, attributes in self.fields.items()
            if attributes.get("type") not in {"checkbox", "radio", "submit"}
        }


@dataclass
class Page:
    """An answer: the address it was found at, its status, and what stands on it."""

    address: str
    status: int
    text: str

    @property
    def path(self) -> str:
        return urlsplit(self.address).path

    def form(self, path: str) -> Form:
        """The form that is sent to ``path``. Raises Unexpected."""
        reader = _FormReader(self.address)
        reader.feed(self.text)
        for form in reader.forms:
            if urlsplit(form.action).path == path:
                return form
        raise Unexpected(f"{self.address} (status {self.status}) has no form for {path}.")


class Visitor:
    """Somebody at ``site``, an address without a path."""

    def __init__(self, site: str) -> None:
        self.site = site
        # No proxy: the site is on this machine.
        self._opener = build_opener(ProxyHandler({}), HTTPCookieProcessor(CookieJar()))

    def get(self, path: str) -> Page:
        return self._open(Request(urljoin(self.site, path)))

    def send(self, form: Form, **values: str) -> Page:
        """Fill in ``values``, send the form, and return the page it leads to."""
        body = urlencode({**form.values(), **values}).encode()
        return self._open(Request(form.action, data=body, method="POST"))

    def sign_in(self, login: str, password: str, *, at: str) -> None:
        """Sign in as staff on the page ``at``. Raises Unexpected."""
        answer = self.send(self.get(at).form(at), username=login, password=password)
        if answer.status != 200 or answer.path == at:
            raise Unexpected(f"{login} could not sign in at {at} (status {answer.status}).")

    def _open(self, request: Request) -> Page:
        try:
            with self._opener.open(request, timeout=TIMEOUT) as response:
                return Page(response.url, response.status, response.read().decode())
        except HTTPError as error:
            with error:
                return Page(error.url or "", error.code, error.read().decode(errors="replace"))


class _FormReader(HTMLParser):
    """Collects forms; a button with an address of its own is a form of its own."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self.address = address
        self._forms: list[Form] = []
        self._by_id: dict[str, Form] = {}
        self._buttons: list[tuple[Form, Attributes]] = []
        self._open: Form | None = None

    @property
    def forms(self) -> list[Form]:
        return [*self._forms, *(self._sent_by(form, button) for form, button in self._buttons)]

    def _sent_by(self, form: Form, button: Attributes) -> Form:
        pressed = Form(urljoin(self.address, button["formaction"]), dict(form.fields))
        if button.get("name"):
            pressed.fields[button["name"]] = {"value": button.get("value", "")}
        return pressed

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        owner = self._by_id.get(attributes["form"]) if "form" in attributes else self._open
        if tag == "form":
            self._open = Form(urljoin(self.address, attributes.get("action", "")))
            self._forms.append(self._open)
            self._by_id[attributes.get("id", "")] = self._open
        elif tag in {"input", "textarea"} and owner and attributes.get("name"):
            owner.fields[attributes["name"]] = attributes
        elif tag == "button" and owner and attributes.get("formaction"):
            self._buttons.append((owner, attributes))

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._open = None

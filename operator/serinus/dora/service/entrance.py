"""Who is let in, by HTTP. Data asks for `may_read` or `may_write`; a browser, which cannot send a token by itself, logs in first.

In this order: the secret for reading, which an authenticating proxy has; a token that the API server knows, where the cluster is
asked; where neither is set, this machine.
"""

from __future__ import annotations

import hmac
import json
import secrets
import time
from collections.abc import Callable
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from pydantic import BaseModel

from serinus.dora.service.body import body_of
from serinus.dora.service.config import METRICS, READING, Config
from serinus.dora.service.reviews import Reviews
from serinus.dora.service.rights import LONGEST, Denied, Kept, Verb, from_elsewhere, of_this_machine

#: The cookie of a session, the seconds that one lasts, and how many there are at most.
COOKIE, SESSION, SESSIONS = "serinus-dora", 8 * 3600, 1000
#: Who marks, where nobody says who it is.
SECRET_HOLDER, THIS_MACHINE = "whoever has the reading secret", "somebody on the service's machine"
#: The longest name that a mark keeps, in characters.
NAME = 512


class Entrance:
    """What is remembered between requests."""

    def __init__(self, config: Config, clock: Callable[[], float] = time.monotonic, reviews: Reviews | None = None) -> None:
        self._secret, self._header = config.secrets.get(READING), config.user_header
        self._metrics = config.secrets.get(METRICS)
        self._reviews = reviews or (Reviews(config.audiences, clock) if config.kubernetes else None)
        #: Tokens by the sessions' ids. The token is asked about again whenever the answer about it is too old.
        self._sessions = Kept[str](SESSION, SESSIONS, clock)

    async def close(self) -> None:
        """Ends what it holds open."""
        if self._reviews:
            await self._reviews.close()

    async def admit(self, request: Request, verb: Verb) -> str:
        """The name of whoever asks. Raises Denied."""
        elsewhere = from_elsewhere(request.headers)
        if verb == "update" and elsewhere:
            raise Denied(403, "a page of another origin sent this")
        proxied = request.headers.get(self._header, "") if self._header else ""
        if self._secret is None and self._reviews is None:
            return self._here(request, proxied)
        given = _bearer(request)
        if given is not None:
            return await self.name(given, verb, proxied)
        session = self._sessions.get(request.cookies.get(COOKIE, ""))
        if session is None:
            raise Denied(401, "this needs Authorization: Bearer <token>, or POST /login; kubectl create token gives one")
        if verb == "update" and elsewhere is None:
            raise Denied(403, "with a session, a change has to say where it comes from: Origin or Sec-Fetch-Site")
        if verb == "update" and request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise Denied(403, "with a session, a change needs Content-Type: application/json")
        return await self.name(session, verb)

    async def scrape(self, request: Request) -> None:
        """Lets in whoever has the secret for metrics, which opens nothing else, and whoever may read. Raises Denied."""
        if not _same(_bearer(request) or "", self._metrics):
            await self.admit(request, "get")

    async def name(self, token: str, verb: Verb, proxied: str = "") -> str:
        """The name of whoever has the token, if they may; `proxied` is believed of whoever has the secret. Raises Denied."""
        if _same(token, self._secret):
            return (proxied or SECRET_HOLDER)[:NAME]
        if self._reviews is None:
            raise Denied(401, "this is not the secret for reading: SERINUS_DORA_SECRET_READING")
        return (await self._reviews.name(token, verb))[:NAME]

    def _here(self, request: Request, proxied: str) -> str:
        near = request.client is not None and of_this_machine(request.client.host)
        # A page whose name was made to lead here comes from here too, and is told by that name; a proxy keeps its own.
        if not near or not (self._header or of_this_machine(request.url.hostname or "")):
            raise Denied(403, "this is open on this machine only: set kubernetes: true, or SERINUS_DORA_SECRET_READING")
        return (proxied or THIS_MACHINE)[:NAME]

    def begin(self, token: str) -> str:
        """A session's id."""
        session = secrets.token_urlsafe(32)
        self._sessions.put(token, session)
        return session

    def end(self, session: str) -> None:
        """It opens nothing any more."""
        self._sessions.drop(session)


def _bearer(request: Request) -> str | None:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else None


def _same(token: str, secret: bytes | None) -> bool:
    return secret is not None and hmac.compare_digest(token.encode(errors="surrogatepass"), secret)


class Known(BaseModel):
    """Whoever asks, as marks name them."""

    name: str


def _entrance(request: Request) -> Entrance:
    found: Entrance = request.app.state.entrance
    return found


async def may_read(request: Request, response: Response) -> str:
    """Their name. Raises Denied."""
    response.headers["Cache-Control"] = "no-store"
    return await _entrance(request).admit(request, "get")


async def may_scrape(request: Request) -> None:
    """Raises Denied."""
    await _entrance(request).scrape(request)


async def may_write(request: Request) -> str:
    """Their name. Raises Denied."""
    return await _entrance(request).admit(request, "update")


async def still_reads(request: Request) -> bool:
    """Whether whoever was let in would be now: for answers that last."""
    try:
        await _entrance(request).admit(request, "get")
    except Denied:
        return False
    return True


async def login(request: Request) -> Response:
    """Begins a session of eight hours at most, for browsers: the token in a form's field `token`, or in JSON.

    Its cookie is for this origin only, and the token is asked about again all along. A form goes on to `/`.
    """
    if from_elsewhere(request.headers):
        raise Denied(403, "a page of another origin sent this")
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    token = _token(kind, await body_of(request, 4 * LONGEST))
    name = await _entrance(request).name(token, "get")
    form = kind != "application/json"
    answer: Response = RedirectResponse("/", 303) if form else JSONResponse({"name": name})
    https = request.url.scheme == "https" or request.headers.get("origin", "").startswith("https:")  # or so before a proxy
    _entrance(request).end(request.cookies.get(COOKIE, ""))
    answer.set_cookie(COOKIE, _entrance(request).begin(token), SESSION, secure=https, httponly=True, samesite="strict")
    return answer


def _token(kind: str, body: bytes) -> str:
    found: object = None
    try:
        if kind == "application/json":
            said = json.loads(body)
            found = said.get("token") if isinstance(said, dict) else None
        elif kind == "application/x-www-form-urlencoded":
            found = parse_qs(body.decode()).get("token", [""])[0]
    except (ValueError, RecursionError):
        pass  # as where there is none
    if not isinstance(found, str) or not found.strip():
        raise Denied(422, 'there is no token: send {"token": "…"} as JSON, or a form with a field token')
    return found.strip()


async def logout(request: Request) -> Response:
    """Ends the session."""
    if from_elsewhere(request.headers):
        raise Denied(403, "a page of another origin sent this")
    _entrance(request).end(request.cookies.get(COOKIE, ""))
    answer = Response(status_code=204)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer


async def whoever(name: Annotated[str, Depends(may_read)]) -> Known:
    """Who asks. 401: nobody yet."""
    return Known(name=name)


async def _denied(_: Request, denied: Exception) -> Response:
    assert isinstance(denied, Denied)  # noqa: S101  # registered for those
    headers = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "5"}}.get(denied.status)
    return JSONResponse({"detail": denied.reason}, denied.status, headers)


def guard(app: FastAPI, entrance: Entrance) -> None:
    """Gives the service its entrance. Whoever does so closes it."""
    app.state.entrance = entrance
    app.post("/login", response_model=Known)(login)
    app.get("/login")(whoever)
    app.post("/logout", status_code=204)(logout)
    app.add_exception_handler(Denied, _denied)

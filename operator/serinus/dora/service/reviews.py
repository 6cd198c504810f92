"""Asking the API server who may: TokenReview, then SubjectAccessReview, and a short memory of the answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from kubernetes.aio.config import ConfigException

from serinus.dora.service.rights import LONGEST, Denied, Kept, Verb, access_review, name_of, token_review, user_of
from serinus.kube import Kind, Kube, KubeError, connect

TOKEN_REVIEWS = Kind("authentication.k8s.io", "v1", "tokenreviews")
ACCESS_REVIEWS = Kind("authorization.k8s.io", "v1", "subjectaccessreviews")

#: Seconds for which a yes and a no count, and how many of each are remembered.
YES, NO, MOST = 30.0, 5.0, 1024
#: Questions that are with the API server at once, and the seconds one may wait and take, all of it.
AT_ONCE, PATIENCE = 8, 10.0


class Reviews:
    """One for the process. Whoever cannot be asked about is not let in."""

    def __init__(
        self,
        audiences: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
        connected: Callable[[], Awaitable[Kube]] = connect,
    ) -> None:
        self._audiences, self._connected = tuple(audiences), connected
        self._yes, self._no = Kept[str](YES, MOST, clock), Kept[tuple[int, str]](NO, MOST, clock)
        self._kube: Kube | None = None
        self._connecting, self._room = asyncio.Lock(), asyncio.Semaphore(AT_ONCE)

    async def close(self) -> None:
        """Ends the session with the API server."""
        if self._kube:
            await self._kube.close()

    async def name(self, token: str, verb: Verb) -> str:
        """The name of whoever has the token, if they may. Raises Denied."""
        if not token or len(token) > LONGEST or not token.isascii():
            raise Denied(401, f"this is no token of Kubernetes: those are 1 to {LONGEST} ASCII characters")
        if known := self._known(token, verb):
            return known
        try:
            async with asyncio.timeout(PATIENCE), self._room:
                return self._known(token, verb) or await self._ask(token, verb)
        except TimeoutError:
            raise Denied(503, "the API server does not say in time who may: come again") from None

    def _known(self, token: str, verb: Verb) -> str | None:
        if no := self._no.get(token, verb):
            raise Denied(*no)
        return self._yes.get(token, verb)

    async def _ask(self, token: str, verb: Verb) -> str:
        try:
            kube = await self._client()
            user = user_of(await kube.create(TOKEN_REVIEWS, "", token_review(token, self._audiences)), self._audiences)
            name = name_of(user, await kube.create(ACCESS_REVIEWS, "", access_review(user, verb)), verb)
        except Denied as no:
            self._no.put((no.status, no.reason), token, verb)
            raise
        except (KubeError, ConfigException) as error:
            raise Denied(503, f"the API server cannot be asked who may: {error}") from None
        self._yes.put(name, token, verb)
        return name

    async def _client(self) -> Kube:
        async with self._connecting:
            self._kube = self._kube or await self._connected()
        return self._kube

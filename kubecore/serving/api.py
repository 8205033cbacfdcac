"""The front of the API: who is asking, may they, and an answer to everything, errors included."""

from __future__ import annotations

import logging

from aiohttp import web

from kubecore.access import authn
from kubecore.access.accounts import Accounts
from kubecore.access.authn import User
from kubecore.access.authz import Authorizer
from kubecore.access.target import target_of
from kubecore.errors import ApiStatusError, bad_request
from kubecore.objects.operations import Operations
from kubecore.serving.answers import error_answer
from kubecore.serving.api_documents import DocumentApi
from kubecore.serving.api_objects import ObjectApi
from kubecore.serving.requests import MAX_BODY_BYTES
from kubecore.streams.kubelet import KubeletClient
from kubecore.streams.scraper import Scraper

logger = logging.getLogger(__name__)


class Api:
    """The web application."""

    def __init__(
        self,
        operations: Operations,
        kubelets: KubeletClient,
        accounts: Accounts,
        scraper: Scraper,
    ) -> None:
        self._authorizer, self._accounts = Authorizer(operations.store), accounts
        self._objects = ObjectApi(operations, self._authorizer, kubelets, accounts, scraper)
        self._documents = DocumentApi(operations.registry, accounts)

    def application(self) -> web.Application:
        """Return the aiohttp application, to be run once."""
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_route("*", "/{path:.*}", self._handle)
        return app

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._serve(request)
        except ApiStatusError as exc:
            if exc.status >= 500 and exc.status != 501:
                logger.warning("%s %s: %s", request.method, request.path, exc.message)
            return error_answer(exc)
        except ConnectionResetError:  # the client has gone, in the middle of its answer
            logger.debug("%s %s: the client went away", request.method, request.path)
            raise
        except RecursionError:
            return error_answer(bad_request("the body is nested too deeply"))
        except Exception:  # the boundary of one request: its fault must not reach the others
            logger.exception("%s %s failed", request.method, request.path)
            problem = "an internal error was logged; the request had no effect or is incomplete"
            return error_answer(ApiStatusError(500, "InternalError", problem))

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        user, target = self._user(request), target_of(request)
        self._authorizer.require(user, target)
        if target.plural:
            return await self._objects.serve(request, user, target)
        return self._documents.serve(request, target)

    def _user(self, request: web.Request) -> User:
        user = authn.user_of(request, self._accounts)
        wanted, needed = authn.impersonated(request)
        for target in needed:
            self._authorizer.require(user, target)
        return wanted or user

"""The ASGI application of a service: routes, token, time limits, and errors as JSON."""

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pfedmoap.serving.bodies import Bodies
from pfedmoap.serving.limits import ServingLimits
from pfedmoap.serving.openapi import document
from pfedmoap.serving.refusals import Departed, Refusal
from pfedmoap.serving.service import Operation, Service
from pfedmoap.serving.workplace import Workplace

logger = logging.getLogger(__name__)

Endpoint = Callable[[Request], Awaitable[Response]]


def make_application(
    service: Service, limits: ServingLimits, workplace: Workplace, token: str | None
) -> Starlette:
    """Make the application.

    Args:
        service: What it answers.
        limits: Bounds on each request.
        workplace: Where models work.
        token: What a request must bear; ``None`` answers everybody. ``/healthz`` never asks for it.

    Returns:
        The application, for any ASGI server. Only `pfedmoap.serving.listener` adds the bounds on
        connections and on the heads of requests.
    """
    bodies = Bodies(limits)

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def description(_: Request) -> Response:
        return JSONResponse(document(service, token=token is not None))

    def guarded(endpoint: Endpoint) -> Endpoint:
        async def answer(request: Request) -> Response:
            try:
                _check_head(request, limits, token)
                return await endpoint(request)
            except Refusal as refusal:
                return _failure(refusal)
            except Departed:
                return Response(status_code=499)  # goes nowhere
            except asyncio.CancelledError:  # by the server alone, when its time to end is over
                return _failure(Refusal(503, "the server is ending"))

        return answer

    def asked(operation: Operation) -> Endpoint:
        async def answer(request: Request) -> Response:
            late = Refusal(503, f"no answer within {limits.request_seconds:g} seconds")
            try:
                async with asyncio.timeout(limits.request_seconds):
                    return await _answer(operation, request, bodies, workplace, limits)
            except TimeoutError as error:
                raise late from error

        return answer

    routes = [
        Route("/healthz", health),
        Route("/openapi.json", guarded(description)),
        *(Route(each.path, guarded(asked(each)), methods=["POST"]) for each in service.operations),
    ]
    application = Starlette(routes=routes, exception_handlers={HTTPException: _not_found})
    application.router.redirect_slashes = False  # a redirect would repeat the asker's own Host
    return application


async def _answer(
    operation: Operation,
    request: Request,
    bodies: Bodies,
    workplace: Workplace,
    limits: ServingLimits,
) -> Response:
    """Receive a question and answer it."""
    slow = Refusal(408, "the request did not arrive in time")
    scope = asyncio.timeout(limits.body_seconds)
    with bodies.place(scope) as held:
        try:
            async with scope:
                content = await bodies.receive(request.receive, request.headers, held)
        except TimeoutError as error:
            raise slow from error
        try:
            reply = await workplace.run(
                lambda proceed: operation.answer(content, proceed), request.receive
            )
        except operation.refuses as error:
            raise Refusal(400, str(error)) from error
        except (Refusal, Departed):
            raise
        except Exception as error:
            logger.exception("a question could not be answered")
            raise Refusal(500, "the model failed; the server's log says why") from error
    return Response(reply.content, media_type=reply.media_type)


def _check_head(request: Request, limits: ServingLimits, token: str | None) -> None:
    """Refuse a request before anything of its body is read."""
    size = sum(len(name) + len(value) for name, value in request.headers.raw)
    if size + len(request.scope.get("raw_path", b"")) > limits.header_bytes:
        raise Refusal(431, f"headers have at most {limits.header_bytes} bytes")
    if token is None:
        return
    given = request.headers.get("authorization", "")
    scheme, _, word = given.partition(" ")
    # compared as bytes, in a time that does not depend on where they differ
    same = hmac.compare_digest(word.strip().encode("utf-8", "replace"), token.encode())
    if scheme.lower() != "bearer" or not same:
        raise Refusal(401, "the token is missing or wrong: send Authorization: Bearer TOKEN")


def _failure(refusal: Refusal) -> Response:
    return JSONResponse({"error": refusal.message}, refusal.status, refusal.headers)


async def _not_found(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = error.headers if isinstance(error, HTTPException) else None
    takes = (headers or {}).get("Allow", "another method")
    message = {
        404: "there is nothing at this path; /openapi.json says what there is",
        405: f"this path takes {takes}",
    }
    return JSONResponse({"error": message.get(status, "not answered")}, status, headers)

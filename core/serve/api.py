"""The application: /v1/models and /v1/chat/completions behind a key; replies come from the chat's own process.

So the weights are in memory once for the page and all clients, adapters are switched around one base, replies are given
in the order in which they were asked for, and a run that starts gets the card.
"""

import asyncio
import hmac
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, closing, suppress

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from core.chat import chat, chat_models
from core.chat.types import Reply
from core.serve import replies, requests
from core.serve.replies import Answer
from core.serve.requests import Asked, RequestRefused
from core.sharing import gate

MOST_BYTES = 8 * 2**20  # of a request: a context of 128,000 tokens, escaped
MOST_WAITING = 32  # requests that are answered or wait for it


class ClientDisconnected(Exception):
    """The client has disconnected."""


class Api:
    """Answers who has the key; `key()` is asked at each request, so that a new one holds at once."""

    def __init__(self, key: Callable[[], str]):
        self.key, self.waiting = key, 0

    def application(self) -> Starlette:
        routes = [
            Route("/v1/models", self._models),
            Route("/v1/models/{id:path}", self._model),
            Route("/v1/chat/completions", self._complete, methods=["POST"]),
        ]
        handlers = {HTTPException: _no_such_route, Exception: _answer_error}
        app = Starlette(routes=routes, exception_handlers=handlers)

        async def guarded(scope, receive, send) -> None:
            if scope["type"] == "http" and not self._has_key(request := Request(scope)):
                await (await _answer_error(request, _wrong_key()))(scope, receive, send)
            elif scope["type"] != "websocket":
                await app(scope, receive, send)

        return guarded

    def _has_key(self, request: Request) -> bool:
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        wanted = self.key()
        return (
            kind.lower() == "bearer" and bool(wanted) and hmac.compare_digest(given.strip().encode(), wanted.encode())
        )

    async def _models(self, _: Request) -> Response:
        listed = await run_in_threadpool(lambda: [_described(model) for model in chat_models.listed()])
        return JSONResponse({"object": "list", "data": listed})

    async def _model(self, request: Request) -> Response:
        try:
            return JSONResponse(_described(await run_in_threadpool(chat_models.find, request.path_params["id"])))
        except Exception as error:
            return await _answer_error(request, error)

    async def _complete(self, request: Request) -> Response:
        try:
            asked = requests.read(_json(await gate.read_body(request, MOST_BYTES)))
            await run_in_threadpool(chat_models.find, asked.question.model_id)
            if self.waiting >= MOST_WAITING:
                raise RequestRefused(429, f"{MOST_WAITING} requests are waiting already.", code="rate_limit_exceeded")
            return await self._reply(request, asked)
        except Exception as error:
            return await _answer_error(request, error)

    async def _reply(self, request: Request, asked: Asked) -> Response:
        """The whole reply, or a stream that begins with its first token: until then an error has its own status."""
        answer, growing = Answer(asked), self._growing(asked)
        if not asked.stream:
            return JSONResponse(answer.whole(await _unless_gone(request, _last(growing))))
        first = await _unless_gone(request, anext(growing))

        async def rest() -> AsyncIterator[Reply]:
            async with aclosing(growing):
                yield first
                async for reply in growing:
                    yield reply

        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(answer.events(rest()), media_type="text/event-stream", headers=headers)

    async def _growing(self, asked: Asked) -> AsyncIterator[Reply]:
        """A reply as it grows; whoever closes this hangs up, and the reply ends where it is."""
        loop, grown, gone = asyncio.get_running_loop(), asyncio.Queue(), threading.Event()

        def put(what: Reply | Exception | None) -> None:
            with suppress(RuntimeError):  # the loop is closed: the server ends
                loop.call_soon_threadsafe(grown.put_nowait, what)

        self.waiting += 1
        threading.Thread(target=_talk, args=[asked, put, gone], daemon=True).start()
        try:
            while (reply := await grown.get()) is not None:
                if isinstance(reply, Exception):
                    raise reply
                yield reply
        finally:
            gone.set()
            self.waiting -= 1


def _talk(asked: Asked, put: Callable, gone: threading.Event) -> None:
    """Ask the chat's process, on a thread of its own, and put what comes, an error, and None at the end."""

    def look() -> None:
        if gone.is_set():
            raise ClientDisconnected

    try:
        with closing(chat.talk({"reply": asked.question}, asked.sampling, look=look)) as talking:
            for columns in talking:
                look()
                put(columns["reply"])
    except ClientDisconnected:
        pass
    except Exception as error:
        put(error)
    put(None)


async def _last(growing: AsyncIterator[Reply]) -> Reply:
    reply = Reply()
    async with aclosing(growing):
        async for grown in growing:
            reply = grown
    return reply


async def _unless_gone(request: Request, work):
    """The result of work that ends when the client hangs up."""

    async def disconnected() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    tasks = asyncio.ensure_future(_awaited(work)), asyncio.ensure_future(disconnected())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done():
            raise ClientDisconnect
        return tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _awaited(work):
    return await work


def _described(model: chat_models.ChatModel) -> dict:
    created = int(model.weights.stat().st_mtime) if model.weights else 0
    return {"id": model.id, "object": "model", "created": created, "owned_by": "soulsmith", "name": model.title}


def _wrong_key() -> RequestRefused:
    return RequestRefused(401, "The API key is missing or wrong.", code="invalid_api_key")


async def _no_such_route(request: Request, error: HTTPException) -> Response:
    message = f"{request.method} {request.url.path} is not served here."
    return await _answer_error(request, RequestRefused(error.status_code, message, code="unknown_url"))


def _json(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:  # also of a number with thousands of digits
        raise RequestRefused(400, "The body is not JSON.", code="invalid_json") from error


async def _answer_error(request: Request, error: Exception) -> Response:
    if isinstance(error, ClientDisconnect):
        return Response(status_code=499)
    if isinstance(error, gate.Refused):
        words = {413: f"The body has more than {MOST_BYTES} bytes.", 408: "The body did not arrive in time."}
        error = RequestRefused(error.args[0], words.get(error.args[0], "The body was cut off."), code="bad_body")
    refused = replies.refusal(error)
    if refused.code == "internal_error":
        logging.getLogger("uvicorn.error").exception("a request failed", exc_info=error)
    headers = {"retry-after": "5"} if refused.status in (429, 503) else None
    return JSONResponse(replies.error_object(refused), refused.status, headers)

"""The HTTP server of ``tui-lab serve``: OpenAI's interface over one playground process, which holds the base
and every adapter. Requests that come at once are answered in one batch, and their number is bounded.
No torch: the model is in the process."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import itertools
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.playground.client import PlaygroundClient
from tui_lab.playground.messages import GenerateRequest, GenerationEvent, LaneDone, PromptTooLongError, Tokens
from tui_lab.playground.openai_api import (
    AnswerObjects,
    ApiError,
    Body,
    ChatBody,
    CompletionBody,
    generate_request,
    lane_of,
    read_body,
)

MAX_BODY_BYTES = 4 << 20
#: Requests that may wait or be answered at once.
MAX_WAITING = 33
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    return host in LOOPBACK or host.startswith("127.")


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises LabError for a busy port and for an address that is not this machine's."""
    if port > 65_535:  # getaddrinfo would take the remainder
        raise LabError(f"--port is at most 65535, not {port}; 0 takes a free one")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(128)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise LabError(
            f"{sanitize(host)}:{port} cannot be used ({reason}); choose another with --port or --host"
        ) from None
    return found


class LabServer:
    """Answers requests with one playground process. ``models``: the names in requests, with what each is;
    ``key``: what a request must carry, "" for none."""

    def __init__(self, client: PlaygroundClient, models: Mapping[str, str], key: str = "") -> None:
        self._client, self._models, self._key = client, dict(models), key
        self._waiting = 0
        self._numbers = itertools.count(1)
        self._started = int(time.time())

    def app(self, loopback: bool) -> Starlette:
        """The application. On a loopback address only names of this machine are answered, so that a web page
        cannot reach it by a name of its own (DNS rebinding)."""
        hosts = [*LOOPBACK, "[::1]"] if loopback else ["*"]
        return Starlette(
            routes=[
                Route("/v1/models", self._list),
                Route("/v1/models/{name:path}", self._one),
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
                Route("/v1/completions", self._complete, methods=["POST"]),
            ],
            middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts)],
            exception_handlers={LabError: _on_error, 404: _on_missing, 405: _on_missing},
        )

    # --- models -----------------------------------------------------------------------------------

    async def _list(self, request: Request) -> Response:
        self._authorise(request)
        return _json({"object": "list", "data": [self._model(name) for name in self._models]})

    async def _one(self, request: Request) -> Response:
        self._authorise(request)
        return _json(self._model(self._known(request.path_params["name"])))

    def _model(self, name: str) -> dict[str, object]:
        return {
            "id": name, "object": "model", "created": self._started, "owned_by": "tui-lab",
            "description": self._models[name],
        }  # fmt: skip

    def _known(self, name: str) -> str:
        if name in self._models:
            return name
        raise ApiError(
            f"there is no model {sanitize(name)[:80]!r}; there are {', '.join(self._models)}",
            404,
            "model_not_found",
        )

    def _authorise(self, request: Request) -> None:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self._key and not hmac.compare_digest(given.encode(), self._key.encode()):
            raise ApiError(
                "the key is missing or wrong: send it as the API key of the client", 401, "invalid_api_key"
            )

    # --- answers ----------------------------------------------------------------------------------

    async def _chat(self, request: Request) -> Response:
        return await self._answer(request, ChatBody)

    async def _complete(self, request: Request) -> Response:
        return await self._answer(request, CompletionBody)

    async def _answer(self, request: Request, kind: type[Body]) -> Response:
        self._authorise(request)
        body = read_body(await _body(request), kind)
        name = self._known(body.model)
        number = next(self._numbers)
        generate = generate_request(body, lane_of(body, name, number))
        if self._waiting >= MAX_WAITING:
            raise ApiError(
                f"{MAX_WAITING} requests are waiting or being answered; try again later", 429, "busy"
            )
        objects = AnswerObjects(body, name, number)
        if body.stream:
            usage = bool(body.stream_options and body.stream_options.include_usage)
            events = self._stream(generate, objects, usage)
            return StreamingResponse(events, media_type="text/event-stream")
        work = asyncio.ensure_future(self._whole(generate))
        gone = asyncio.ensure_future(_disconnected(request))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            return _json(objects.whole(await work)) if work.done() else Response(status_code=499)
        finally:
            for task in (work, gone):  # a client that left ends its answer
                task.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)

    async def _whole(self, generate: GenerateRequest) -> LaneDone:
        with self._counted():
            return await self._generate(generate, lambda _event: None)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    async def _generate(
        self, generate: GenerateRequest, on_event: Callable[[GenerationEvent], None]
    ) -> LaneDone:
        try:
            [done] = await self._client.generate(generate, on_event)
        except PromptTooLongError as error:
            raise ApiError(str(error), 400, "context_length_exceeded") from None
        except LabError as error:
            if self._client.status.state == "died":
                raise ApiError(str(error), 500, "server_error") from None
            raise
        return done

    async def _stream(
        self, generate: GenerateRequest, objects: AnswerObjects, usage: bool
    ) -> AsyncIterator[bytes]:
        """Server-sent events: a chunk for each new text, the end, and ``[DONE]``."""
        texts: asyncio.Queue[str | None] = asyncio.Queue()

        def on_event(event: GenerationEvent) -> None:
            if isinstance(event, Tokens) and event.text:
                texts.put_nowait(event.text)

        async def work() -> LaneDone:
            try:
                return await self._generate(generate, on_event)
            finally:
                texts.put_nowait(None)

        with self._counted():
            task = asyncio.ensure_future(work())
            try:
                yield _event(objects.chunk("", first=True))
                while (text := await texts.get()) is not None:
                    yield _event(objects.chunk(text))
                done = await task
                yield _event(objects.chunk("", done))
                if usage:
                    yield _event(objects.usage(done))
            except LabError as error:
                yield _event(_error_object(error))
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            yield b"data: [DONE]\n\n"


# --- HTTP -------------------------------------------------------------------------------------------


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _event(value: object) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def _error_object(error: Exception) -> dict[str, object]:
    code = error.code if isinstance(error, ApiError) else "invalid_request_error"
    return {"error": {"message": str(error), "type": code, "param": None, "code": code}}


async def _on_error(_request: Request, error: Exception) -> Response:
    """What a request asks for and cannot be done is its own error, unless the process has ended."""
    return _json(_error_object(error), error.status if isinstance(error, ApiError) else 400)


async def _on_missing(request: Request, _error: Exception) -> Response:
    what = f"{request.method} {sanitize(request.url.path)[:100]}"
    return _json(_error_object(ApiError(f"there is no {what}; see /v1/models", 404, "not_found")), 404)


async def _body(request: Request) -> bytes:
    """The body, of at most MAX_BODY_BYTES. Raises ApiError."""
    found = b""
    async for part in request.stream():
        found += part
        if len(found) > MAX_BODY_BYTES:
            raise ApiError(f"the body is larger than {MAX_BODY_BYTES >> 20} MiB", 413)
    return found


async def _disconnected(request: Request) -> None:
    """Returns when the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass

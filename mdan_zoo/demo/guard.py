"""Request guard: an allow list for Gradio's server, and a Content Security Policy for browsers.

Gradio serves more than this page needs, such as files by path, a proxy and an API. File names in
requests may be URLs, which Gradio fetches, or any path of this machine, because Gradio only checks
paths if `Blocks.launch` was called. The guard answers 404 to everything that is not on the allow
list, and accepts only uploaded files.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_API = "/gradio_api"

_GET = re.compile(
    r"/|/config/?|/theme\.css|/favicon\.ico|/manifest\.json|/robots\.txt|/(assets|static)/.+"
    rf"|{_API}/(startup-events|upload_progress|queue/data|heartbeat/\w+)"
)
_QUEUE = f"{_API}/queue/join"
_POST = re.compile(rf"{_QUEUE}|{_API}/(upload|cancel|reset/?)")

_MAX_QUESTION = 100_000  # bytes; a request for 50 images takes about 20,000

_POLICY = "; ".join(
    [
        "default-src 'self'",
        "img-src 'self' data: blob:",
        "style-src 'self' 'unsafe-inline'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",  # Gradio's templates are functions
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'self'",
    ]
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Guard:
    """ASGI middleware that passes only the requests that the page needs."""

    def __init__(self, app: ASGIApp, uploads: Path) -> None:
        self._app = app
        self._uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reject a request, or pass it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        allowed = {"GET": _GET, "HEAD": _GET, "POST": _POST}.get(scope.get("method", ""))
        if scope["type"] != "http" or allowed is None or not allowed.fullmatch(scope["path"]):
            refusal = PlainTextResponse("there is nothing here", 404, headers=_HEADERS)
            await refusal(scope, receive, send)
            return
        if scope["path"] == _QUEUE:
            question = read_question(await _read(receive))
            if question is None or not names_only(self._uploads, question):
                refusal = PlainTextResponse("not a request of this page", 400, headers=_HEADERS)
                await refusal(scope, receive, send)
                return
            receive = _replay(json.dumps(question).encode(), receive)  # exactly what was checked

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await self._app(scope, receive, send_with_headers)


def read_question(body: bytes | None) -> dict[str, Any] | None:
    """Return the JSON object in the body of a request, or None."""
    try:
        question = json.loads(body or b"")
    except (ValueError, RecursionError):
        return None
    return question if isinstance(question, dict) else None


def names_only(uploads: Path, value: Any) -> bool:
    """Return whether all files named in a JSON value are in the upload folder.

    Every object with a "path", at any depth, names a file.
    """
    folder = uploads.resolve()
    unseen = [value]  # no recursion: requests may be nested arbitrarily deep
    while unseen:
        part = unseen.pop()
        if isinstance(part, dict):
            try:  # after links and dots are resolved
                inside = "path" not in part or Path(part["path"]).resolve().is_relative_to(folder)
            except (TypeError, ValueError, OSError, RuntimeError):  # no text, null byte, link loop
                inside = False
            if not inside:
                return False
            unseen += part.values()
        elif isinstance(part, list):
            unseen += part
    return True


async def _read(receive: Receive) -> bytes | None:
    """Return the body of a request; None if it is too long or the client has disconnected."""
    body = b""
    while len(body) <= _MAX_QUESTION:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += bytes(message.get("body", b""))
        if not message.get("more_body", False):
            break
    return body if len(body) <= _MAX_QUESTION else None


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that repeats a body that was already read, then continues."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed

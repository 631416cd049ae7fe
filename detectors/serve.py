"""A web page for one person: a picture in, its map out. Pictures stay in memory and nothing is written to disk."""

import asyncio
import io
import ipaddress
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import TypeVar

import cv2
import numpy as np
import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from torch import nn

from configs.errors import UserError
from configs.pictures import decode_photo
from detectors.inference import MINIMUM_SIDE, default_tile, predict_map

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
"""What Pillow may take a picture for: with few formats of distinct beginnings, it and OpenCV see the same one."""

SECURITY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; "
                               "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
                               "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

Image.MAX_IMAGE_PIXELS = None  # our own limit stands in its place

Result = TypeVar("Result")


@dataclass(frozen=True)
class Limits:
    """The largest picture that is taken: MB (10⁶ bytes) as uploaded, and megapixels as decoded."""

    megabytes: float = 32
    megapixels: float = 50


class StoppedError(Exception):
    """Nobody waits for the map any more."""


class Guard:
    """Refuses requests that another site's page makes, and adds the `SECURITY` headers to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SECURITY)
            await send(message)

        headers = Headers(scope=scope) if scope["type"] == "http" else {}
        origin = headers.get("origin")
        if origin and origin.partition("://")[2] != headers.get("host"):
            await PlainTextResponse("Requests from other sites are refused.", 403)(scope, receive, send_guarded)
        else:
            await self.app(scope, receive, send_guarded)


def build_app(modules: Mapping[str, nn.Module], limits: Limits, host: str,
              thresholds: Mapping[str, float] = MappingProxyType({})) -> Starlette:
    """The page, its settings and `POST /map?detector=NAME` and `/picture`, whose bodies are a picture's file.

    `modules` are detectors in eval mode by name, and `thresholds` where the page's slider begins for them, up to a
    hundredth above, 0.5 by default. `/map` answers with the map as `.npy`, float32 H×W, and `/picture`
    with the picture as the detector sees it, as PNG. One picture is worked on at a time. On a loopback `host`,
    requests by any other name are refused: a foreign site could have its own name resolved to this machine.
    """
    turn, ending = asyncio.Lock(), threading.Event()
    starts = {name: ceil(100 * thresholds.get(name, 0.5)) / 100 for name in modules}

    async def settings(request: Request) -> Response:
        colours = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_INFERNO)[:, 0, ::-1]
        return JSONResponse({"detectors": list(modules), "thresholds": starts, "megabytes": limits.megabytes,
                             "megapixels": limits.megapixels, "colours": colours.tolist()})

    async def make_map(request: Request) -> Response:
        module = modules.get(request.query_params.get("detector", next(iter(modules))))
        if module is None:
            raise HTTPException(404, f"No such detector; known are {', '.join(modules)}.")
        data = await read_body(request, limits)
        async with turn:
            found = await run_while_wanted(request, ending, lambda wanted: map_bytes(module, data, limits, wanted))
        return Response(found, media_type="application/octet-stream")

    async def show_picture(request: Request) -> Response:
        data = await read_body(request, limits)
        async with turn:
            image = await asyncio.to_thread(decode_within, data, limits)
            shown = await asyncio.to_thread(cv2.imencode, ".png", image[..., ::-1])
        return Response(shown[1].tobytes(), media_type="image/png")

    hosts = ["127.0.0.1", "localhost", "[::1]", host] if is_loopback(host) else ["*"]
    app = Starlette(
        routes=[Route("/settings", settings), Route("/map", make_map, methods=["POST"]),
                Route("/picture", show_picture, methods=["POST"]),
                Mount("/", StaticFiles(directory=Path(__file__).parent / "page", html=True))],
        middleware=[Middleware(Guard), Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)],
        exception_handlers={UserError: _tell, StoppedError: _tell})
    app.state.ending = ending
    return app


async def _tell(request: Request, error: Exception) -> Response:
    return PlainTextResponse(str(error), 400)


async def read_body(request: Request, limits: Limits) -> bytes:
    """The request's body, counted as it arrives: its announced length may be wrong or missing.

    Raises:
        HTTPException: 413, more than the limit.
    """
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limits.megabytes * 1e6:
            raise HTTPException(413, f"This file: larger than {limits.megabytes:g} MB.")
    return bytes(body)


def decode_within(data: bytes, limits: Limits) -> np.ndarray:
    """RGB uint8 H×W×3 of a file's bytes; its size is read from the header before anything is decoded.

    Raises:
        UserError: no picture, or a damaged or too small one.
        HTTPException: 413, too many pixels.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as header:
            width, height = header.size
    except Exception:  # on damaged files, Pillow's readers raise whatever they come across
        raise UserError("This file: not a PNG, JPEG, BMP, TIFF or WebP picture.") from None
    if width * height > limits.megapixels * 1e6:
        raise HTTPException(413, f"This picture: {width}×{height} is more than {limits.megapixels:g} megapixels.")
    if min(width, height) < MINIMUM_SIDE:
        raise UserError(f"This picture: {width}×{height} is smaller than {MINIMUM_SIDE} pixels.")
    return decode_photo(data, "This file")


def map_bytes(module: nn.Module, data: bytes, limits: Limits, wanted: Callable[[], bool]) -> bytes:
    """The map of a picture's file as `.npy`, float32 H×W.

    Raises:
        StoppedError: it is not `wanted` any more, which each layer asks before it starts.
        UserError, HTTPException: as `decode_within`.
    """
    def check(*_: object) -> None:
        if not wanted():
            raise StoppedError("The server stopped working on this picture.")

    hooks = [layer.register_forward_pre_hook(check) for layer in module.modules()]
    try:
        probability = predict_map(module, decode_within(data, limits), default_tile(module))
    finally:
        for hook in hooks:
            hook.remove()
    buffer = io.BytesIO()
    np.save(buffer, probability)
    return buffer.getvalue()


async def run_while_wanted(request: Request, ending: threading.Event,
                           work: Callable[[Callable[[], bool]], Result]) -> Result:
    """Runs `work` in a thread; what it is given says whether the client is still there and the server not `ending`."""
    gone = threading.Event()

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone.set()

    watcher = asyncio.create_task(watch())
    try:
        return await asyncio.to_thread(work, lambda: not (gone.is_set() or ending.is_set()))
    finally:
        gone.set()
        watcher.cancel()


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine alone."""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one.

    Raises:
        UserError: the port is in use, or there is no such address here.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise UserError(f"{host}:{port}: cannot listen there ({error.strerror}); name another --port or --host") \
            from None


def address(host: str, listening: socket.socket) -> str:
    """The page's URL."""
    return f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}/"


class Server(uvicorn.Server):
    """Tells the work at hand to stop at Ctrl-C, for which uvicorn would wait."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.config.app.state.ending.set()  # type: ignore[union-attr]
        super().handle_exit(sig, frame)


def answer(app: Starlette, listening: socket.socket) -> None:
    """Answers requests until Ctrl-C."""
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=10, limit_concurrency=16,
                            server_header=False)
    with suppress(KeyboardInterrupt):
        Server(config).run(sockets=[listening])

"""kserve's model server, with what it lacks: a bind address, a body limit, metrics per version and status, a drain.

Takes health, metrics page and error handling from kserve, and puts its own inference and metadata routes, of both
protocols, before kserve's. One model per process; no gRPC.
"""

import asyncio
import logging
import socket
import time
from functools import partial
from types import FrameType

import kserve
import uvicorn
from kserve.model_server import app
from kserve.protocol.rest.server import RESTServer
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from penstock.components.contracts.errors import ConfigError
from penstock.inference import protocol, v1
from penstock.inference.model import Classifier, Protocol, RawRequest
from penstock.inference.protocol import Refusal

__all__ = ["run"]

GRACE_SECONDS = 30  # for requests in flight, after the listener has closed
CLIENT_GONE = 499  # nginx's word for it: nobody reads this answer, but the metrics count it

log = logging.getLogger("penstock.inference")


def run(model: Classifier, host: str, port: int, drain_seconds: float) -> None:
    """Serve until SIGTERM or SIGINT; answers 503 until the model has loaded.

    Args:
        host: address to listen on.
        port: TCP port.
        drain_seconds: from the signal, which turns readiness to 503, until the listener closes; requests are
            answered meanwhile, so that whoever routes to this server can look elsewhere.

    Raises:
        ConfigError: the address is not this machine's, or the port is taken.
        ContractError: the model does not load.
    """
    try:
        listener = socket.create_server((host, port), backlog=2048)
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror}; choose another --http_port") from error
    config = uvicorn.Config(_application(model), log_config=None, access_log=False, timeout_keep_alive=65,
                            timeout_graceful_shutdown=GRACE_SECONDS)
    server = _DrainingServer(config, model, drain_seconds)
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(_serve(server, listener, model))


class _DrainingServer(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, model: Classifier, drain_seconds: float) -> None:
        super().__init__(config)
        self._model = model
        self._drain_seconds = drain_seconds

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop being ready at once and stop listening later; a second signal does not wait."""
        if not self._model.ready:
            self.should_exit = True
            return
        log.info("event=draining signal=%d seconds=%g", sig, self._drain_seconds)
        self._model.stop()
        asyncio.get_running_loop().call_later(self._drain_seconds, setattr, self, "should_exit", True)


async def _serve(server: uvicorn.Server, listener: socket.socket, model: Classifier) -> None:
    serving = asyncio.create_task(server.serve([listener]))
    try:
        await asyncio.to_thread(model.load)
    except BaseException:
        server.should_exit = True
        raise
    finally:
        await serving
    log.info("event=stopped model=%s", model.name)


def _application(model: Classifier) -> Starlette:
    server = kserve.ModelServer(enable_grpc=False)
    server.register_model(model)
    server.dataplane.ready = model.healthy  # kserve's answers True whatever the model does
    app.router.routes += [  # the first match wins, and kserve's own routes come after these
        Route("/v2/models/{name}/infer", partial(_infer, model, "v2"), methods=["POST"]),
        Route("/v2/models/{name}", partial(_metadata, model), methods=["GET"]),
        Route("/v2/repository/{path:path}", _refuse, methods=["POST"]),
        Route("/v1/models", partial(_v1_models, model), methods=["GET"]),
        Route("/v1/models/{name}:predict", partial(_infer, model, "v1"), methods=["POST"]),
        Route("/v1/models/{name}", partial(_v1_ready, model), methods=["GET"]),
        Route("/v1/{path:path}", _refuse, methods=["GET", "POST"]),
    ]
    RESTServer("", server.dataplane, server.model_repository_extension, 0).create_application()
    app.user_middleware.clear()  # kserve's timing middleware: a fifth of the requests per second (2026-11-20)
    application: Starlette = app
    return application


async def _infer(model: Classifier, spoken: Protocol, request: Request) -> Response:
    started = time.perf_counter()
    if refused := _not_here(model, request):
        return refused
    try:
        response = await _answer(model, spoken, request)
    except Refusal as refusal:
        response = JSONResponse({"error": str(refusal)}, refusal.status)
        if refusal.status >= 500:
            log.error("event=failed model=%s version=%s reason=%s", model.name, model.version, refusal)
    except ClientDisconnect:
        response = Response(status_code=CLIENT_GONE)
    except BaseException:
        model.metrics.count(500, 0)
        raise
    model.metrics.count(response.status_code, time.perf_counter() - started)
    response.headers["x-model-version"] = model.version
    if not model.ready:
        response.headers["connection"] = "close"  # draining: the client's next request goes elsewhere
    return response


async def _answer(model: Classifier, spoken: Protocol, request: Request) -> Response:
    limit = (v1 if spoken == "v1" else protocol).body_limit(model.signature, model.max_batch)
    body = await _read(request, limit)
    headers = dict(request.headers)
    raw = RawRequest(body, headers.get(protocol.HEADER_LENGTH, ""), spoken)
    answer, _ = await model(raw, headers)
    if not answer.json_size:
        return Response(answer.body, media_type="application/json")
    return Response(answer.body, media_type="application/octet-stream",
                    headers={protocol.HEADER_LENGTH: str(answer.json_size)})


async def _read(request: Request, limit: int) -> bytes:
    """Read the body; one that is too large is read to its end, not kept: a client reads no answer while it sends."""
    body = bytearray()
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= limit:
            body += chunk
    if size > limit:
        raise Refusal(f"expected a body of at most {limit} bytes; found {size}; send several requests", 413)
    return bytes(body)


async def _metadata(model: Classifier, request: Request) -> Response:
    return _not_here(model, request) or JSONResponse(protocol.metadata(model.name, model.version, model.signature))


async def _v1_models(model: Classifier, request: Request) -> Response:
    return JSONResponse({"models": [model.name]})


async def _v1_ready(model: Classifier, request: Request) -> Response:
    """Answer as kserve does: 503 while the model loads or drains."""
    if refused := _not_here(model, request):
        return refused
    return JSONResponse({"name": model.name, "ready": bool(model.ready)}, 200 if model.ready else 503)


def _not_here(model: Classifier, request: Request) -> Response | None:
    name = request.path_params["name"]
    if name != model.name:
        return JSONResponse({"error": f"expected model {model.name!r}; found {name!r}"}, 404)
    if not model.loaded:
        return JSONResponse({"error": f"model {model.name!r} is still loading; ask again"}, 503)
    return None


async def _refuse(request: Request) -> Response:
    text = (f"{request.url.path}: this server serves one model, by the Open Inference Protocol v2, "
            "/v2/models/NAME/infer, and by KServe's V1, /v1/models/NAME:predict")
    return JSONResponse({"error": text}, 404)

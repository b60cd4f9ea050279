"""Consumes HTTP requests, produces JSON answers: 4xx says what to change in the request, 5xx is a failure of ours."""

from __future__ import annotations

import contextlib
import json
import logging
import uuid
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from assay.serving.request import BadRequest, Limits, parsed
from assay.serving.served import Served

LOG = logging.getLogger("assay.serving")
MEGABYTE = 1 << 20


def app_of(served: Served, limits: Limits) -> FastAPI:
    """The web application. It starts and stops `served` with itself."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        served.start()
        yield
        await run_in_threadpool(served.stop)

    app = FastAPI(title="assay", docs_url=None, redoc_url=None, lifespan=lifespan)

    @app.get("/health")
    async def health() -> Response:
        """Whether the process lives."""
        return answer({"status": "ok"})

    @app.get("/ready")
    async def ready() -> Response:
        """Whether a model is loaded and has priced a row."""
        if served.pricer is None:
            return answer({"status": "loading"}, 503)
        return answer({"status": "ready"})

    @app.get("/version")
    async def version() -> Response:
        """What is served."""
        return answer(served.about())

    async def predict(request: Request) -> Response:
        """Price raw rows."""
        try:
            body = await body_of(request, limits)
            return Response(await run_in_threadpool(_priced, served, body), media_type="application/json")
        except BadRequest as error:
            return answer({"error": str(error)}, error.status)
        except ClientDisconnect:
            return Response(status_code=400)  # which nobody reads any more
        except Exception as error:
            number = uuid.uuid4().hex[:12]
            LOG.error("request %s failed", number, exc_info=error)
            return answer({"error": f"assay failed, which is not the request's fault; see its log for {number}"}, 500)

    app.post("/predict")(predict)
    app.post("/invocations")(predict)
    return app


def _priced(served: Served, body: bytes) -> bytes:
    priced = served.price(*parsed(body))
    return _json({"predictions": priced.answers, "rows": priced.rows, "wrong": priced.wrong})


async def body_of(request: Request, limits: Limits) -> bytes:
    """The whole body.

    Raises:
        BadRequest: it is larger than the limit, which is noticed before all of it is read.
    """
    most = int(limits.body_mb * MEGABYTE)
    told = request.headers.get("content-length", "")
    size, parts = 0, []
    if not told.isdigit() or int(told) <= most:
        async for part in request.stream():
            size += len(part)
            if size > most:
                break
            parts.append(part)
        else:
            return b"".join(parts)
    raise BadRequest(f"the body is larger than {limits.body_mb:g} MB (--max-body-mb)", 413)


def answer(content: Any, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(_json(content), status_code=status, media_type="application/json")


def _json(content: Any) -> bytes:
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()

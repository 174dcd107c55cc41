"""Errors of the admin port: always `{"error": {kind, code, message, context, next_step}}`."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from firepond.fs import errors
from firepond.fs.logging import get_logger

_STATUS: dict[type[errors.FirepondError], int] = {
    errors.InvalidArgument: 400,
    errors.NodeUnknown: 404,
    errors.NamespaceUnknown: 404,
    errors.NotFound: 404,
    errors.NamespaceConflict: 409,
    errors.ManagerNotLeader: 503,
    errors.ClusterNotReady: 503,
    errors.DeadlineExceeded: 504,
}


def install(app: FastAPI) -> None:
    """Makes every failure of a route a JSON error with a fitting status."""
    log = get_logger("firepond.http")

    @app.exception_handler(errors.FirepondError)
    async def on_firepond(_request: Request, error: errors.FirepondError) -> JSONResponse:
        return _response(error, _STATUS.get(type(error), 500))

    @app.exception_handler(RequestValidationError)
    async def on_invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return _response(errors.InvalidArgument(first["msg"], {"where": where}), 400)

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> JSONResponse:
        kind = errors.NotFound if error.status_code == 404 else errors.InvalidArgument
        context = {"path": request.url.path, "method": request.method}
        return _response(kind(str(error.detail), context), error.status_code)

    @app.exception_handler(Exception)
    async def on_defect(request: Request, error: Exception) -> JSONResponse:
        log.error("a request failed", path=request.url.path, error=repr(error))
        return _response(errors.Internal(repr(error), {"path": request.url.path}), 500)


def _response(error: errors.FirepondError, status: int) -> JSONResponse:
    body = {
        "kind": error.kind,
        "code": error.code,
        "message": error.message or error.summary,
        "context": error.context,
        "next_step": error.next_step,
    }
    return JSONResponse({"error": body}, status_code=status)

"""Applications for test_asgi_servers.py, which do what those of wsgi_apps.py do."""

import asyncio
import os

from onceflight.asgi import EXECUTION, Idempotency
from wsgi_apps import begins, executed


async def execute(scope, body):
    """Says how often it was executed."""
    if begins(scope[EXECUTION], body):
        await asyncio.Event().wait()
    return executed()


def starlette():
    from starlette.applications import Starlette
    from starlette.responses import FileResponse, Response, StreamingResponse
    from starlette.routing import Route

    async def pay(request):
        made = Response(await execute(request.scope, await request.body()), 201)
        made.set_cookie("a", "1")
        made.set_cookie("b", "2")
        return made

    async def stream(request):
        body = await request.body()

        async def pieces():
            yield b"in pieces: "
            yield await execute(request.scope, body)

        return StreamingResponse(pieces(), 202)

    async def file(request):
        path = os.environ["ONCEFLIGHT_TEST_LOG"] + ".told"
        with open(path, "wb") as file:
            file.write(await execute(request.scope, b""))
        return FileResponse(path, media_type="text/plain")

    paths = {"/pay": pay, "/stream": stream, "/file": file}
    return served(Starlette(routes=[Route(path, serve, methods=["POST"]) for path, serve in paths.items()]))


def django():
    import django
    from django.conf import settings
    from django.core.handlers.asgi import ASGIHandler
    from django.http import HttpResponse, StreamingHttpResponse
    from django.urls import path

    async def pay(request):
        made = HttpResponse(await execute(request.scope, request.body), status=201)
        made.set_cookie("a", "1")
        made.set_cookie("b", "2")
        return made

    async def stream(request):
        body = request.body

        async def pieces():
            yield b"in pieces: "
            yield await execute(request.scope, body)

        return StreamingHttpResponse(pieces(), status=202)

    async def file(request):
        return HttpResponse(await execute(request.scope, b""), content_type="text/plain")

    class urls:
        urlpatterns = [path("pay", pay), path("stream", stream), path("file", file)]

    settings.configure(ROOT_URLCONF=urls, ALLOWED_HOSTS=["*"], SECRET_KEY="of a test")
    django.setup()
    return served(ASGIHandler())


def served(app):
    return Idempotency(app, os.environ["ONCEFLIGHT_TEST_URL"], lease=1, wait=60)

"""Applications for test_wsgi_servers.py: `create(FRAMEWORK)`, with its settings in the environment.

They append `PID ATTEMPT` to the file ONCEFLIGHT_TEST_LOG for each execution. What a request with the body `hang`
waits for never comes.
"""

import io
import os
import sys
import threading

import support  # noqa: F401 # finds the package
from onceflight.wsgi import EXECUTION, Idempotency


def execute(environ, body):
    """Says how often it was executed."""
    if begins(environ[EXECUTION], body):
        threading.Event().wait()
    return executed()


def begins(execution, body):
    """Whether it is to hang."""
    with open(os.environ["ONCEFLIGHT_TEST_LOG"], "a") as file:
        file.write(f"{os.getpid()} {execution.attempt}\n")
    return body == b"hang" and execution.attempt == 1


def executed():
    with open(os.environ["ONCEFLIGHT_TEST_LOG"]) as file:
        return f"execution {len(file.readlines())}".encode()


def flask():
    from flask import Flask, Response, request, send_file, stream_with_context

    app = Flask(__name__)

    @app.post("/pay")
    def pay():
        made = Response(execute(request.environ, request.get_data()), 201)
        made.set_cookie("a", "1")
        made.set_cookie("b", "2")
        return made

    @app.post("/stream")
    def stream():
        body = request.stream.read()

        def pieces():
            yield b"in pieces: "
            yield execute(request.environ, body)

        return app.response_class(stream_with_context(pieces()), 202)

    @app.post("/file")
    def file():
        return send_file(io.BytesIO(execute(request.environ, b"")), "text/plain")

    return app.wsgi_app


def django():
    import django
    from django.conf import settings
    from django.core.handlers.wsgi import WSGIHandler
    from django.http import FileResponse, HttpResponse, StreamingHttpResponse
    from django.urls import path

    def pay(request):
        made = HttpResponse(execute(request.environ, request.body), status=201)
        made.set_cookie("a", "1")
        made.set_cookie("b", "2")
        return made

    def stream(request):
        body = request.body

        def pieces():
            yield b"in pieces: "
            yield execute(request.environ, body)

        return StreamingHttpResponse(pieces(), status=202)

    def file(request):
        return FileResponse(io.BytesIO(execute(request.environ, b"")), content_type="text/plain")

    class urls:
        urlpatterns = [path("pay", pay), path("stream", stream), path("file", file)]

    settings.configure(ROOT_URLCONF=urls, ALLOWED_HOSTS=["*"], SECRET_KEY="of a test")
    django.setup()
    return WSGIHandler()


def create(framework):
    app = {"flask": flask, "django": django}[framework]()
    return Idempotency(app, os.environ["ONCEFLIGHT_TEST_URL"], lease=1, wait=60)


def main():
    """Serves by waitress."""
    import waitress

    server = waitress.create_server(create(sys.argv[1]), listen="127.0.0.1:0", threads=16)
    print("Listening at: http://{}:{}".format(*server.socket.getsockname()), file=sys.stderr, flush=True)
    server.run()


if __name__ == "__main__":
    main()

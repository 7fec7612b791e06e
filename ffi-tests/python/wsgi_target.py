"""The server under test of tests/http/conformance: `Idempotency` before an application that asks the suite's origin.

    python3 wsgi_target.py [wsgiref | waitress]

Its options are JSON in ONCEFLIGHT_TARGET; it says `listening on ADDR`, and ends with its standard input. A request's
x-leave is left as a checkpoint before the origin is asked, its x-leave-late after, and x-left says how that went.
"""

import http.client
import json
import os
import socketserver
import sys
import threading
from urllib.parse import quote, urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import support  # noqa: F401 # finds the package
from onceflight.errors import OnceflightError
from onceflight.wsgi import EXECUTION, Idempotency, Keep, Requirement

HOPS = {"connection", "content-length", "transfer-encoding", "expect", "host"}
KEEPS = {"response": Keep.RESPONSE, "nothing": Keep.NOTHING_HAPPENED, "maybe": Keep.MAY_HAVE_HAPPENED}


def idempotency(told, app):
    seconds = {
        name: told[option] / 1000
        for option, name in [
            ("wait_ms", "wait"),
            ("retry_after_ms", "retry_after"),
            ("ttl_ms", "completed_ttl"),
            ("store_timeout_ms", "store_timeout"),
        ]
        if told.get(option) is not None
    }
    as_they_are = {
        name: told[option]
        for option, name in [
            ("docs", "docs"),
            ("strip", "strip"),
            ("max_in_flight", "max_in_flight"),
            ("max_request", "max_request"),
            ("max_response", "max_response_len"),
        ]
        if told.get(option) is not None
    }
    options = {**seconds, **as_they_are, "lenient_keys": told.get("lenient", False)}
    if "lease_ms" in told:
        options["lease"] = told["lease_ms"] / 1000 or float("inf")
    options["disabled"] = told.get("disabled", False)
    if told.get("hold"):
        options["on_lease_expired"] = "hold"
    if told.get("optional"):
        options["require"] = lambda method, path: Requirement.OPTIONAL
    if told.get("keep"):
        keeps = {int(status): KEEPS[keep] for status, keep in told["keep"].items()}
        options["keep"] = lambda status: keeps.get(status, Keep.usual(status))
    if told.get("payload_field"):
        options["payload"] = lambda environ, body: json.dumps(json.loads(body)[told["payload_field"]])
    make = Idempotency.created_then_ok if told.get("created_then_ok") else Idempotency
    return make(app, told["store"], **options)


class Forward:
    """Has the origin execute it, which is told the execution's number and fence."""

    def __init__(self, origin):
        self.origin = urlsplit(origin).netloc

    def __call__(self, environ, start_response):
        if "HTTP_X_LEAVE" in environ:
            environ[EXECUTION].set_checkpoint(environ["HTTP_X_LEAVE"].encode())
        connection = http.client.HTTPConnection(self.origin)
        try:
            connection.putrequest(environ["REQUEST_METHOD"], target(environ), skip_host=False)
            for name, value in headers(environ):
                connection.putheader(name, value)
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            connection.putheader("content-length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            start_response("502 Bad Gateway", [("Content-Type", "text/plain")])
            return [f"{error!r}\n".encode()]
        finally:
            connection.close()
        told = [(name, value) for name, value in answer.getheaders() if name.lower() not in HOPS]
        if "HTTP_X_LEAVE_LATE" in environ:
            told.append(("x-left", leave(environ[EXECUTION], environ["HTTP_X_LEAVE_LATE"].encode())))
        start_response(f"{answer.status} Said", told)
        return [content[:1], content[1:]]  # as streams come: in pieces


def leave(execution, checkpoint):
    try:
        execution.set_checkpoint(checkpoint)
    except OnceflightError as error:
        return type(error).__name__
    return "true"


def target(environ):
    path = quote(environ["PATH_INFO"].encode("latin-1"), safe="/!$&'()*+,;=:@~")
    return path + (f"?{environ['QUERY_STRING']}" if environ.get("QUERY_STRING") else "")


def headers(environ):
    for name, value in environ.items():
        header = name[len("HTTP_") :].replace("_", "-").lower()
        if name.startswith("HTTP_") and header not in HOPS:
            yield header, value.encode("latin-1")
    execution = environ.get(EXECUTION)
    if execution is not None:
        yield "x-key", execution.key
        yield "onceflight-attempt", str(execution.attempt)
        yield "onceflight-fence", str(execution.fence)
        if execution.checkpoint is not None:
            yield "x-checkpoint", execution.checkpoint


class Threaded(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 256


class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass


def by_wsgiref(app):
    server = Threaded(("127.0.0.1", 0), Quiet)
    server.set_app(app)
    print("listening on {}:{}".format(*server.server_address), flush=True)
    server.serve_forever()


def by_waitress(app):
    import waitress

    server = waitress.create_server(app, listen="127.0.0.1:0", threads=64, ident=None)
    print("listening on {}:{}".format(*server.socket.getsockname()), flush=True)
    server.run()


def main():
    told = json.loads(os.environ["ONCEFLIGHT_TARGET"])
    threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(0)), daemon=True).start()
    serve = {"wsgiref": by_wsgiref, "waitress": by_waitress}[(sys.argv[1:] or ["wsgiref"])[0]]
    serve(idempotency(told, Forward(told["origin"])))


if __name__ == "__main__":
    main()

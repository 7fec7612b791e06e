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


def idempotency(middleware, told, app):
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
        options["payload"] = lambda asked, body: json.dumps(json.loads(body)[told["payload_field"]])
    make = middleware.created_then_ok if told.get("created_then_ok") else middleware
    return make(app, told["store"], **options)


class Forward:
    """Has the origin execute it, which is told the execution's number and fence."""

    def __init__(self, origin):
        self.origin = urlsplit(origin).netloc

    def __call__(self, environ, start_response):
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        status, told, content = self.ask(
            environ.get(EXECUTION), environ["REQUEST_METHOD"], target(environ), dict(headers(environ)), body
        )
        start_response(f"{status} Said", told)
        return [content[:1], content[1:]]  # as streams come: in pieces

    def ask(self, execution, method, target, headers, body):
        """The origin's status, headers and body."""
        if "x-leave" in headers:
            execution.set_checkpoint(headers["x-leave"])
        connection = http.client.HTTPConnection(self.origin)
        try:
            connection.putrequest(method, target)
            for name, value in [*headers.items(), *known(execution)]:
                connection.putheader(name, value)
            connection.putheader("content-length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            return 502, [("Content-Type", "text/plain")], f"{error!r}\n".encode()
        finally:
            connection.close()
        told = [(name, value) for name, value in answer.getheaders() if name.lower() not in HOPS]
        if "x-leave-late" in headers:
            told.append(("x-left", leave(execution, headers["x-leave-late"])))
        return answer.status, told, content


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


def known(execution):
    """What the origin is told of an execution; nothing of a request without a key."""
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


def options():
    """What the suite wants; and its end is this process's."""
    threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(0)), daemon=True).start()
    return json.loads(os.environ["ONCEFLIGHT_TARGET"])


def main():
    told = options()
    serve = {"wsgiref": by_wsgiref, "waitress": by_waitress}[(sys.argv[1:] or ["wsgiref"])[0]]
    serve(idempotency(Idempotency, told, Forward(told["origin"])))


if __name__ == "__main__":
    main()

"""The server under test of tests/http/conformance: `Idempotency` before an application that asks the suite's origin.

    python3 asgi_target.py [uvicorn | hypercorn]

Its options are those of wsgi_target.py.
"""

import asyncio
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

import wsgi_target
from onceflight.asgi import EXECUTION, Idempotency


class Forward(wsgi_target.Forward):
    """Has the origin execute it, by a thread of its own."""

    def __init__(self, origin):
        super().__init__(origin)
        self.threads = ThreadPoolExecutor(64)

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return
        method, query = scope["method"], scope["query_string"].decode()
        target = scope["raw_path"].decode() + (f"?{query}" if query else "")
        headers = {name.decode(): value for name, value in scope["headers"] if name.decode() not in wsgi_target.HOPS}
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        asked = scope.get(EXECUTION), method, target, headers, body
        status, told, content = await asyncio.get_running_loop().run_in_executor(self.threads, self.ask, *asked)
        told = [(name.lower().encode(), value.encode("latin-1")) for name, value in told]
        await send({"type": "http.response.start", "status": status, "headers": told})
        await send({"type": "http.response.body", "body": content[:1], "more_body": True})
        await send({"type": "http.response.body", "body": content[1:]})


def by_uvicorn(app, listener):
    import uvicorn

    uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off")).run([listener])


def by_hypercorn(app, listener):
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    config = Config()
    config.bind = [f"fd://{listener.fileno()}"]
    asyncio.run(serve(app, config))


def main():
    told = wsgi_target.options()
    serve = {"uvicorn": by_uvicorn, "hypercorn": by_hypercorn}[(sys.argv[1:] or ["uvicorn"])[0]]
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    print("listening on {}:{}".format(*listener.getsockname()), flush=True)
    serve(wsgi_target.idempotency(Idempotency, told, Forward(told["origin"])), listener)


if __name__ == "__main__":
    main()

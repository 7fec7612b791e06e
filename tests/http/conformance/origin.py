"""The origin: where requests are executed. It counts them, holds them up, and answers as it is told."""

import contextlib
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

PATIENCE = 60  # seconds; longer than anything here takes


@dataclass
class Answer:
    """Byte by byte what is sent: the status, these headers in this order, the body."""

    status: int = 201
    headers: list = field(default_factory=list)  # pairs of bytes
    body: bytes = None  # None: says the number of the execution
    hangs_up: bool = False  # instead of an answer


@dataclass
class Execution:
    method: str
    target: str
    headers: object  # by name, whatever its case
    body: bytes


class Origin:
    """Each path has a script of its own."""

    def __init__(self):
        self.changed = threading.Condition()
        self.scripts, self.done, self.held = {}, {}, set()
        origin = self

        class Handler(BaseHTTPRequestHandler):
            def __getattr__(self, name):
                if name.startswith("do_"):
                    return lambda: origin.execute(self)
                raise AttributeError(name)

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 256

            def handle_error(self, *_):
                pass  # whoever asked was killed, as a case wanted

        self.server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self):
        return "http://%s:%d" % self.server.server_address

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def answers(self, path, *answers):
        """What the executions of a path are answered, one after the other; the last one from then on."""
        with self.changed:
            self.scripts[path] = answers

    def executions(self, path):
        with self.changed:
            return list(self.done.get(path, []))

    def count(self):
        """Executions of all paths together."""
        with self.changed:
            return sum(map(len, self.done.values()))

    @contextlib.contextmanager
    def holding(self, path):
        """Executions of a path begin, and don't end before this is left."""
        with self.changed:
            self.held.add(path)
        try:
            yield
        finally:
            with self.changed:
                self.held.discard(path)
                self.changed.notify_all()

    def wait_for(self, path, count):
        """Until so many executions have begun."""
        with self.changed:
            begun = lambda: len(self.done.get(path, [])) >= count
            assert self.changed.wait_for(begun, PATIENCE), f"not {count} executions of {path}"

    def execute(self, connection):
        length = int(connection.headers.get("content-length", 0))
        body = connection.rfile.read(length)
        path = urlsplit(connection.path).path
        with self.changed:
            done = self.done.setdefault(path, [])
            done.append(Execution(connection.command, connection.path, connection.headers, body))
            number = len(done)
            script = self.scripts.get(path, (Answer(),))
            self.changed.notify_all()
            assert self.changed.wait_for(lambda: path not in self.held, PATIENCE)
        answer = script[min(number, len(script)) - 1]
        connection.close_connection = True
        if not answer.hangs_up:
            connection.wfile.write(render(answer, b"execution %d" % number))


def render(answer, usual):
    body = usual if answer.body is None else answer.body
    head = [b"HTTP/1.1 %d Said" % answer.status]
    head += [name + b": " + value for name, value in answer.headers]
    head += [b"connection: close", b"content-length: %d" % len(body)]
    return b"\r\n".join(head) + b"\r\n\r\n" + body

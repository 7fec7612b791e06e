"""A threaded HTTP server whose identical requests, at the same time, cost one look-up.

Starts on a free port, sends itself a burst of requests, tells what happened and ends.
"""

import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from onceflight import Table

CLIENTS = 20

table = Table()
lookups = 0


def look_up(path):
    """The slow part. It ends when all clients have come, so that the demonstration is the same each time."""
    global lookups
    lookups += 1
    while table.stats().waiting < CLIENTS - 1:
        threading.Event().wait(0.005)
    return f"the page of {path}\n".encode()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = table.run(f"GET {self.path}", lambda: look_up(self.path), timeout=30)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = CLIENTS


def fetch(url):
    with urllib.request.urlopen(url) as answer:
        return answer.read()


if __name__ == "__main__":
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/a"
    with ThreadPoolExecutor(CLIENTS) as clients:
        pages = list(clients.map(fetch, [url] * CLIENTS))
    server.shutdown()
    print(f"{len(pages)} requests, {len(set(pages))} page, {lookups} look-up")
    table.close()

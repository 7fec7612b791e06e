"""Clients that aren't ours."""

import http.client
import socket
import subprocess
from dataclasses import dataclass

from origin import PATIENCE

# What is of the connection or of the moment, or marks a replay, and isn't of the response.
PASSING = frozenset(
    b"connection content-length date idempotent-replayed keep-alive server transfer-encoding via x-onceflight".split()
)


@dataclass
class Reply:
    status: int
    fields: list  # pairs of bytes in their order, names in lower case
    body: bytes

    def header(self, name):
        """The first of that name, as text; "" if there is none."""
        return next((value.decode("latin-1") for field, value in self.fields if field == name.encode()), "")

    @property
    def replayed(self):
        return self.header("idempotent-replayed") == "true"

    @property
    def essence(self):
        """What has to be the same in a replay."""
        kept = [pair for pair in self.fields if pair[0] not in PASSING]
        return self.status, kept, self.body


class Gone(Exception):
    """There was no answer."""


def by_http_client(address, method, path, headers, body):
    connection = http.client.HTTPConnection(address, timeout=PATIENCE)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        connection.putheader("content-length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        fields = [(name.lower().encode(), value.encode("latin-1")) for name, value in answer.getheaders()]
        return Reply(answer.status, fields, answer.read())
    except (ConnectionError, http.client.HTTPException) as error:
        raise Gone from error
    finally:
        connection.close()


def by_curl(address, method, path, headers, body):
    command = ["curl", "-sS", "-i", "--noproxy", "*", "--max-time", str(PATIENCE), "--path-as-is"]
    command += ["-X", method, "--data-binary", "@-", "-H", "Expect:", "-H", "Content-Type:"]
    for name, value in headers:
        value = value if isinstance(value, bytes) else value.encode()
        # To curl "name:" means none, and "name;" an empty one.
        command += ["-H", name.encode() + (b": " + value if value else b";")]
    done = subprocess.run(command + [f"http://{address}{path}"], input=body, capture_output=True)
    if done.returncode != 0:
        raise Gone(done.stderr.decode())
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    while head.split()[1].startswith(b"1"):
        head, _, body = body.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    fields = [line.split(b":", 1) for line in lines[1:]]
    return Reply(int(lines[0].split()[1]), [(name.lower(), value.strip()) for name, value in fields], body)


CLIENTS = {"http.client": by_http_client, "curl": by_curl}


def dial(address):
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=PATIENCE)


def raw(address, request):
    """Sends bytes and that there are no more, and returns all that comes. Whoever never closes hangs."""
    with dial(address) as connection:
        said = b""
        try:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            while chunk := connection.recv(65536):
                said += chunk
        except ConnectionError:
            pass  # it had heard enough
        return said

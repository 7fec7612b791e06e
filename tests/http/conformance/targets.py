"""How a kind of server is started with options.

| option | |
|-|-|
| store, origin | where the records are; where requests are executed |
| created_then_ok | 201 at first, 200 when told again, 409 at once |
| optional | nobody has to have a key |
| lenient | keys without quotes are taken too |
| hold | an execution that was lost isn't repeated |
| docs | what a problem's Link names |
| wait_ms, retry_after_ms | how long a request waits for another; what it is told to wait then |
| ttl_ms, lease_ms | how long responses are kept; how long a lead that was lost is (0: for ever) |
| store_timeout_ms | how long the store may take |
| max_in_flight | keys at once |
| max_request, max_response | bytes, of what has a key |
| strip | names of headers that aren't kept |
| keep | by status: response, nothing, maybe (happened) |
| payload_field | of a JSON body, the field that says what the payload is |
| disabled | keys count for nothing; it says so on stderr |

Beside them, what a server may lack: `fences` (its origin is told onceflight-attempt and onceflight-fence),
`checkpoints` (its handler leaves what a request's x-leave or x-leave-late says, answers the latter with x-left,
and tells its origin what it found as x-checkpoint),
`panics` (a handler of its own, that dies when the origin answers with x-then: panic), `endless_lease`,
`keep_alive` and `chunks` (of HTTP/1.1), `empty_query` (a handler sees whether there is one), `hosts` (another
host has other keys).
"""

import json
import os
import re
import signal
import subprocess
import tempfile


class Refused(Exception):
    """It didn't start."""


class Target:
    """A kind of server: a command, and how it takes options."""

    lacks = frozenset()

    def __init__(self, command, lacks=frozenset()):
        self.command = command
        self.lacks = self.lacks | lacks

    def start(self, options):
        command, environment = self.told(options)
        return Server(command, environment)


class Core(Target):
    """Options are JSON in ONCEFLIGHT_TARGET. Anything that follows this convention is a target: say
    `listening on ADDR` on a line of stdout, and end when stdin does."""

    lacks = frozenset(["hosts"])

    def told(self, options):
        return self.command, {"ONCEFLIGHT_TARGET": json.dumps(options)}


class Proxy(Target):
    """`onceflight proxy`, by its flags. Its store_timeout_ms is always 5000."""

    lacks = frozenset(
        "created_then_ok docs retry_after_ms max_request strip keep payload_field disabled"
        " panics checkpoints endless_lease".split()
    )

    def told(self, options):
        flags = ["--listen", "127.0.0.1:0", "--backend", options["origin"]]
        flags += [] if options["store"] == "memory:" else ["--store", options["store"]]
        flags += [] if options.get("optional") else ["--require-key"]
        for option, flag, unit in [
            ("lenient", "--lenient-keys", None),
            ("hold", "--hold", None),
            ("wait_ms", "--wait-ms", ""),
            ("ttl_ms", "--ttl", "ms"),
            ("lease_ms", "--lease", "ms"),
            ("max_in_flight", "--max-in-flight", ""),
            ("max_response", "--max-body", ""),
        ]:
            if option in options:
                flags += [flag] if unit is None else [flag, f"{options[option]}{unit}"]
        return self.command + flags, {}


KINDS = {"core": Core, "proxy": Proxy}


class Server:
    """A running one."""

    def __init__(self, command, environment):
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
        )
        for line in self.process.stdout:
            if found := re.search(rb"listening on (\S+)", line):
                self.address = found[1].decode()
                return
        self.kill()
        raise Refused(self.said())

    def said(self):
        """All of its stderr."""
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace")

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

"""Where the tests of WSGI and ASGI find frameworks and servers: an environment that is made once.

$ONCEFLIGHT_TEST_WSGI_PYTHON is a Python that has them already. Without one, and without a network to fetch them
from, there is none, and whoever wanted it says so.
"""

import atexit
import functools
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from capi import LIBRARY, PATIENCE, ROOT, Thread, until

PACKAGES = ("flask", "django", "starlette", "gunicorn", "waitress", "uvicorn", "hypercorn")
HERE = Path(__file__).resolve().parent


@functools.cache
def python():
    """Its Python; None if they can't be had."""
    given = os.environ.get("ONCEFLIGHT_TEST_WSGI_PYTHON")
    if given:
        return given
    made = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    venv.create(made, with_pip=True)
    found = str(Path(made, "bin", "python"))
    fetch = [found, "-m", "pip", "install", "-q", "--disable-pip-version-check", *PACKAGES]
    done = subprocess.run(fetch, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=10 * PATIENCE)
    if done.returncode == 0:
        return found
    print(f"\n!!!! {', '.join(PACKAGES)} SKIPPED: they can't be installed:\n{done.stdout}", file=sys.stderr)
    return None


def gunicorn(framework, *arguments):
    return ["-m", "gunicorn", "--bind", "127.0.0.1:0", *arguments, f"wsgi_apps:create('{framework}')"]


def waitress(framework):
    return [str(HERE / "wsgi_apps.py"), framework]


def uvicorn(framework, *arguments):
    return ["-m", "uvicorn", "--port", "0", "--no-access-log", *arguments, "--factory", f"asgi_apps:{framework}"]


def hypercorn(framework, *arguments):
    return ["-m", "hypercorn", "--bind", "127.0.0.1:0", *arguments, f"asgi_apps:{framework}()"]


class Server:
    """A running one, by one of these commands."""

    def __init__(self, command, url, log):
        environment = dict(
            os.environ, ONCEFLIGHT_LIBRARY=LIBRARY, ONCEFLIGHT_TEST_URL=url, ONCEFLIGHT_TEST_LOG=str(log),
            PYTHONPATH=f"{ROOT / 'python'}:{HERE}",
        )  # fmt: skip
        self.process = subprocess.Popen(
            [python(), *command], env=environment, stderr=subprocess.PIPE, text=True
        )
        said = []
        for line in self.process.stderr:
            said.append(line)
            if found := re.search(r"(?:Listening at:|unning on) http://(\S+)", line):
                self.address = found[1]
                Thread(self.process.stderr.read)  # what nobody read would block it in the end
                until(self.listens, "that it listens")  # uvicorn says where before it does
                return
        raise AssertionError("".join(said))

    def listens(self):
        host, _, port = self.address.partition(":")
        with socket.socket() as client:
            return client.connect_ex((host, int(port))) == 0

    def close(self):
        self.process.terminate()
        self.process.wait(PATIENCE)

"""Where the WSGI tests find Flask, Django, gunicorn and waitress: an environment that is made once.

$ONCEFLIGHT_TEST_WSGI_PYTHON is a Python that has them already. Without one, and without a network to fetch them
from, there is none, and whoever wanted it says so.
"""

import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from capi import LIBRARY, PATIENCE, ROOT, Thread

PACKAGES = ("flask", "django", "gunicorn", "waitress")
HERE = Path(__file__).resolve().parent
environments = []  # that were made


@functools.cache
def python():
    """Its Python; None if they can't be had."""
    given = os.environ.get("ONCEFLIGHT_TEST_WSGI_PYTHON")
    if given:
        return given
    made = tempfile.mkdtemp()
    environments.append(made)
    venv.create(made, with_pip=True)
    found = str(Path(made, "bin", "python"))
    fetch = [found, "-m", "pip", "install", "-q", "--disable-pip-version-check", *PACKAGES]
    done = subprocess.run(fetch, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=10 * PATIENCE)
    if done.returncode == 0:
        return found
    print(f"\n!!!! Flask, Django, gunicorn and waitress SKIPPED: they can't be installed:\n{done.stdout}", file=sys.stderr)
    return None


def remove():
    """What was made."""
    while environments:
        shutil.rmtree(environments.pop(), ignore_errors=True)
    python.cache_clear()


class Server:
    """A running one, of those applications."""

    def __init__(self, arguments, framework, url, log):
        waitress = arguments == ["waitress"]
        command = [str(HERE / "wsgi_apps.py"), framework]
        if not waitress:
            bound = ["--bind", "127.0.0.1:0", "--chdir", str(HERE), f"wsgi_apps:create('{framework}')"]
            command = ["-m", "gunicorn", *arguments, *bound]
        environment = dict(
            os.environ, ONCEFLIGHT_LIBRARY=LIBRARY, ONCEFLIGHT_TEST_URL=url, ONCEFLIGHT_TEST_LOG=str(log),
            PYTHONPATH=str(ROOT / "python"),
        )  # fmt: skip
        self.process = subprocess.Popen(
            [python(), *command], env=environment, stderr=subprocess.PIPE, text=True
        )
        said = []
        for line in self.process.stderr:
            said.append(line)
            if found := re.search(r"Listening at: http://(\S+)", line):
                self.address = found[1]
                Thread(self.process.stderr.read)  # what nobody read would block it in the end
                return
        raise AssertionError("".join(said))

    def close(self):
        self.process.terminate()
        self.process.wait(PATIENCE)

"""The wheel installs into a bare virtual environment, and works there without anything else."""

import os
import subprocess
import sys
import tempfile
import unittest
import venv
from pathlib import Path

from capi import LIBRARY, PATIENCE, ROOT

PROGRAM = """
import asyncio, os, onceflight
from onceflight import Table, _native

assert "ONCEFLIGHT_LIBRARY" not in os.environ
package = os.path.dirname(onceflight.__file__)
assert _native._path.startswith(package), _native._path
assert os.path.exists(os.path.join(package, "py.typed"))

async def work():
    return 2

with Table(completed_ttl=60) as table:
    assert table.run("k", lambda: 1) == 1
    assert table.run("k", lambda: 0) == 1
    assert asyncio.run(table.aio.run("a", work)) == 2
print("works", onceflight.__version__)
"""


class Wheel(unittest.TestCase):
    def test_it_installs_and_works(self):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        with tempfile.TemporaryDirectory() as folder:
            dist = Path(folder) / "dist"
            self.check(
                ["sh", str(ROOT / "python" / "build_wheel.sh"), str(dist)],
                dict(environment, ONCEFLIGHT_LIBRARY=LIBRARY, PYTHON=sys.executable),
            )
            (wheel,) = dist.iterdir()
            self.assertRegex(wheel.name, r"^onceflight-[\d.]+-py3-none-(manylinux|linux|macosx)\w+\.whl$")

            bare = Path(folder) / "venv"
            venv.create(bare, with_pip=True)
            environment.pop("ONCEFLIGHT_LIBRARY", None)
            python = str(bare / "bin" / "python")
            self.check([python, "-m", "pip", "uninstall", "-qy", "setuptools", "wheel"], environment)
            self.check([python, "-m", "pip", "install", "-q", "--no-index", "--no-deps", wheel], environment)
            out = self.check([python, "-c", PROGRAM], environment, cwd=folder)
            self.assertEqual(out, "works 0.1.0\n")

    def check(self, command, environment, **options):
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            timeout=10 * PATIENCE, **options,
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout


if __name__ == "__main__":
    unittest.main()

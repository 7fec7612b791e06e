"""Puts the package of this tree first on the path, with the library that the C tests use."""

import os
import subprocess
import sys

from capi import LIBRARY, PATIENCE, ROOT, Thread, in_child, until

os.environ["ONCEFLIGHT_LIBRARY"] = LIBRARY
sys.path.insert(0, str(ROOT / "python"))

import onceflight  # noqa: E402

__all__ = ["PATIENCE", "ROOT", "Thread", "in_child", "onceflight", "python", "until", "until_waiting"]


def until_waiting(table, count):
    until(lambda: table.stats().waiting == count, f"{count} waiting")


def python(*arguments, **options):
    """A Python process that finds the package and the library."""
    environment = dict(os.environ, PYTHONPATH=str(ROOT / "python"), PYTHONUNBUFFERED="1")
    return subprocess.Popen(
        [sys.executable, *arguments], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
    )  # fmt: skip

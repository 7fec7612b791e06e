"""Where the store tests run: SQLite always, each server whose URL is set."""

import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

from support import PATIENCE, Thread, python
from onceflight import Table

SERVERS = {
    name: os.environ[variable]
    for name, variable in (
        ("Postgres", "ONCEFLIGHT_TEST_POSTGRES"),
        ("Redis", "ONCEFLIGHT_TEST_REDIS"),
        ("RedisCluster", "ONCEFLIGHT_TEST_REDIS_CLUSTER"),
        ("Memcached", "ONCEFLIGHT_TEST_MEMCACHED"),
    )
    if os.environ.get(variable)
}

# Holds the write lock of a SQLite file until its input ends.
LOCKER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


class Sqlite:
    """For a TestCase: a file of its own."""

    def setUp(self):
        directory = tempfile.mkdtemp()
        # SQLite itself removes files as the last connection closes, a moment after the table.
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        self.path = str(Path(directory, "a table.db"))
        self.url = f"sqlite:{self.path}"

    def table(self, **options):
        table = Table(self.url, **options)
        self.addCleanup(table.close)
        return table

    def key(self):
        return uuid.uuid4().hex

    def locked(self):
        """A process that keeps everybody from writing to the file, until its `stdin` is closed. Not this
        one: two copies of SQLite in one process take each other's locks away."""
        locker = python("-c", LOCKER, self.path, stdin=subprocess.PIPE)
        self.addCleanup(locker.communicate)
        assert locker.stdout.readline() == "locked\n"
        return locker


def on_every_store(case):
    """The tests of a class that has `Sqlite` among its bases, on the servers too."""
    for name, url in SERVERS.items():

        def setUp(self, url=url):
            self.url = url

        made = type(f"{case.__name__}On{name}", (case,), {"setUp": setUp, "__module__": case.__module__})
        setattr(sys.modules[case.__module__], made.__name__, made)
    return case


__all__ = ["PATIENCE", "Sqlite", "Thread", "on_every_store"]

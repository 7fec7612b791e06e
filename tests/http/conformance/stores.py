"""The store behind the server: taken away for a while, and written to by others."""

import contextlib
import os
import sqlite3
import subprocess
from pathlib import Path


class Store:
    """One that can't be got at."""

    shared = True  # by processes
    lasting = True  # longer than a process
    can_be_down = False
    can_be_written = False

    def __init__(self, url):
        self.url = url


class Memory(Store):
    shared = lasting = False


class Sqlite(Store):
    can_be_down = can_be_written = True

    def __init__(self, url, directory):
        path = url[len("sqlite:") :] or str(directory / "records.db")
        super().__init__(f"sqlite:{path}")
        self.path = Path(path)

    @contextlib.contextmanager
    def down(self):
        """Nobody else writes meanwhile."""
        with contextlib.closing(self.open()) as file:
            file.execute("BEGIN IMMEDIATE")
            yield
            file.execute("ROLLBACK")

    def write(self, change, key, *values):
        """Changes the body of the record with that in its key: an SQL expression of `body`."""
        with contextlib.closing(self.open()) as file:
            update = f"UPDATE onceflight_records SET body = CAST({change} AS BLOB) WHERE instr(key, CAST(? AS BLOB))"
            assert file.execute(update, [*values, key]).rowcount == 1

    def contents(self):
        """Every byte that it has."""
        files = [self.path, self.path.with_name(self.path.name + "-wal")]
        return b"".join(file.read_bytes() for file in files if file.exists())

    def open(self):
        return sqlite3.connect(self.path, isolation_level=None, timeout=30)


class Servers(Store):
    """Servers of `scripts/servers.sh`, frozen and thawed."""

    def __init__(self, url, *names):
        super().__init__(url)
        self.directory, self.names = os.environ.get("ONCEFLIGHT_TEST_SERVERS"), names
        self.can_be_down = self.directory is not None

    @contextlib.contextmanager
    def down(self):
        self.control("freeze")
        try:
            yield
        finally:
            self.control("thaw")

    def control(self, verb):
        for name in self.names:
            subprocess.run([f"{self.directory}/{name}.{verb}"], check=True)


def at(url, directory):
    kinds = {
        "memory": lambda: Memory(url),
        "sqlite": lambda: Sqlite(url, directory),
        "postgres": lambda: Servers(url, "postgres"),
        "redis": lambda: Servers(url, "redis"),
        "redis-cluster": lambda: Servers(url, "redis-cluster-1", "redis-cluster-2", "redis-cluster-3"),
        "memcached": lambda: Servers(url, "memcached-1", "memcached-2"),
    }
    return kinds[url.partition(":")[0]]()

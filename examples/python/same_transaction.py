"""Same-transaction mode with the sqlite3 module: a payment and the record of its request commit together.

However often a request comes, and wherever the program is killed, there is one payment or none, and
once there is one its answer is replayed. No lease is needed: an open transaction ends with its process.

    same_transaction.py FILE KEY AMOUNT      pays, or tells what was paid
"""

import json
import secrets
import sqlite3
import sys
import tempfile
import time

from onceflight import Table, fingerprint, sql

LOOK, LEAD, COMPLETE = (sql("sqlite:", statement) for statement in ("look", "lead", "complete"))
RETENTION_MS = 24 * 3600 * 1000


def boot():
    with open("/proc/sys/kernel/random/boot_id") as file:
        return bytes.fromhex(file.read().strip().replace("-", ""))


class Refused(Exception):
    """The key is in use: with another payload, or by somebody who works outside a transaction."""


def once(connection, key, payload, work):
    """The response of the one transaction in which `work` was called for this key."""
    scope, wall = b"", time.time_ns() // 1_000_000
    names = {
        "id": fingerprint(scope, key), "scope": scope, "key": key, "fingerprint": fingerprint(*payload),
        "token": secrets.token_bytes(16), "boot": boot(), "now": time.clock_gettime_ns(time.CLOCK_BOOTTIME),
        "wall": wall, "following": None, "take_over": 1, "lease_until": None, "ends": None, "keep": None,
        "expires": wall + RETENTION_MS, "status": 0,
    }  # fmt: skip
    connection.execute("BEGIN IMMEDIATE")  # others wait here until this commits or is gone
    with connection:  # commits, or rolls back if an exception leaves it
        row = connection.execute(LOOK, names).fetchone()
        verdict = row["verdict"] if row else "vacant"
        if row and (row["scope"], row["key"]) != (scope, key):
            raise Refused("another key has this id")
        if verdict == "completed":
            return json.loads(row["body"])
        if verdict == "vacant":
            names.update(attempt=1, checkpoint=None)
        elif verdict == "succeed":
            names.update(attempt=row["attempt"] + 1, checkpoint=row["checkpoint"])
        else:
            raise Refused(verdict)
        names["epoch"] = connection.execute(LEAD, names).fetchone()["epoch"]
        response = work()
        names["body"] = json.dumps(response).encode()
        assert connection.execute(COMPLETE, names).rowcount == 1
        return response


def pay(file, key, amount, before_commit=lambda: None):
    connection = sqlite3.connect(file, isolation_level=None, timeout=30)
    connection.row_factory = sqlite3.Row

    def work():
        paid = connection.execute("INSERT INTO payments (amount) VALUES (?)", [amount])
        before_commit()
        return {"payment": paid.lastrowid, "amount": amount}

    try:
        connection.execute("CREATE TABLE IF NOT EXISTS payments (id INTEGER PRIMARY KEY, amount INTEGER)")
        return once(connection, key, [b"pay", str(amount).encode()], work)
    finally:
        connection.close()


if __name__ == "__main__":
    if len(sys.argv) == 4:
        print(json.dumps(pay(sys.argv[1], sys.argv[2].encode(), int(sys.argv[3]))))
    else:
        with tempfile.TemporaryDirectory() as directory:
            file = f"{directory}/shop.db"
            Table(f"sqlite:{file}").close()  # makes the tables; closed before sqlite3 opens the file
            print(pay(file, b"order-7", 100))
            print(pay(file, b"order-7", 100))
            try:
                pay(file, b"order-7", 999)
            except Refused as refused:
                print(f"refused: {refused}")

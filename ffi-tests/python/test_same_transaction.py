"""Statements for transactions of a program's own: examples/python/same_transaction.py, and its ends."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import unittest

from stores import PATIENCE, SERVERS, Sqlite, Thread
from support import ROOT, onceflight, python
from onceflight import Table, sql

sys.path.insert(0, str(ROOT / "examples" / "python"))
from same_transaction import Refused, pay  # noqa: E402

EXAMPLE = str(ROOT / "examples" / "python" / "same_transaction.py")

# Pays, but is still there to be killed before it commits.
SLOW = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from same_transaction import pay

def before_commit():
    print("paying", flush=True)
    sys.stdin.read()

pay(sys.argv[1], b"order", 100, before_commit)
"""

# A process that has a table open on the file, and says what it sees of the key.
SEER = """
import sys
from onceflight import Lead, Table

with Table(sys.argv[1]) as table:
    got = table.begin("order", timeout=0, fingerprint=bytes.fromhex(sys.argv[2]) or None)
    print("vacant" if isinstance(got, Lead) else got.data.decode())
    if isinstance(got, Lead):
        got.cancel()
"""

# Leads, and abandons when it is told to go on.
HOLDER = """
import sys
from onceflight import Table, fingerprint

table = Table(sys.argv[1])
lead = table.begin("order", fingerprint=fingerprint(b"pay", b"100"))
print("leading", flush=True)
sys.stdin.read()
lead.abandon()
"""


class SameTransaction(Sqlite, unittest.TestCase):
    def setUp(self):
        super().setUp()
        Table(self.url).close()  # makes the tables

    def payments(self):
        connection = sqlite3.connect(self.path)
        try:
            return connection.execute("SELECT amount FROM payments").fetchall()
        finally:
            connection.close()

    def records(self):
        connection = sqlite3.connect(self.path)
        try:
            return connection.execute("SELECT count(*) FROM onceflight_records").fetchone()[0]
        finally:
            connection.close()

    def seen(self, payload):
        with python("-c", SEER, self.url, payload) as seer:
            out, err = seer.communicate(timeout=PATIENCE)
        self.assertEqual(err, "")
        return out.strip()

    def test_both_are_there_and_a_table_replays(self):
        paid = pay(self.path, b"order", 100)
        self.assertEqual(pay(self.path, b"order", 100), paid)
        self.assertEqual(self.payments(), [(100,)])
        print_ = onceflight.fingerprint(b"pay", b"100").hex()
        self.assertEqual(json.loads(self.seen(print_)), paid)
        with self.assertRaisesRegex(Refused, "mismatch"):
            pay(self.path, b"order", 101)
        self.assertEqual(self.payments(), [(100,)])

    def test_an_exception_leaves_neither(self):
        def refuse():
            raise KeyError("no such account")

        with self.assertRaises(KeyError):
            pay(self.path, b"order", 100, refuse)
        self.assertEqual((self.payments(), self.records()), ([], 0))
        self.assertEqual(pay(self.path, b"order", 101)["amount"], 101)  # nothing happened: the key is free

    def test_a_kill_before_the_commit_leaves_neither(self):
        with python("-c", SLOW, os.path.dirname(EXAMPLE), self.path, stdin=-1) as slow:
            self.assertEqual(slow.stdout.readline(), "paying\n")
            slow.kill()
        self.assertEqual((self.payments(), self.records()), ([], 0))
        self.assertEqual(self.seen(onceflight.fingerprint(b"pay", b"100").hex()), "vacant")
        self.assertEqual(pay(self.path, b"order", 100)["payment"], 1)

    def test_a_second_waits_for_the_first_ones_commit(self):
        with python("-c", SLOW, os.path.dirname(EXAMPLE), self.path, stdin=-1) as slow:
            self.assertEqual(slow.stdout.readline(), "paying\n")
            with python(EXAMPLE, self.path, "order", "100") as second:
                slow.stdin.close()
                self.assertEqual(slow.wait(PATIENCE), 0)
                out, err = second.communicate(timeout=PATIENCE)
        self.assertEqual((err, json.loads(out)), ("", {"payment": 1, "amount": 100}))
        self.assertEqual(self.payments(), [(100,)])

    def test_threads_pay_once(self):
        payers = [Thread(pay, self.path, b"order", 100) for _ in range(8)]
        self.assertEqual([payer.result() for payer in payers], [{"payment": 1, "amount": 100}] * 8)
        self.assertEqual(self.payments(), [(100,)])

    def test_a_lead_of_a_table_is_respected(self):
        with python("-c", HOLDER, self.url, stdin=-1) as holder:
            self.assertEqual(holder.stdout.readline(), "leading\n")
            with self.assertRaisesRegex(Refused, "in progress"):
                pay(self.path, b"order", 100)
            holder.communicate("", timeout=PATIENCE)
        self.assertEqual(pay(self.path, b"order", 100)["amount"], 100)  # abandoned: the next may lead

    def test_names(self):
        for statement in ("look", "lead", "complete", "cancel"):
            self.assertIn(":id", sql("sqlite:", statement))
        with self.assertRaisesRegex(onceflight.InvalidArgument, "no statement drop"):
            sql("sqlite:", "drop")
        with self.assertRaises(onceflight.Unsupported):
            sql("memory:", "look")


# Claims, pays, completes, and commits or not.
SCRIPT = r"""
\set ON_ERROR_STOP on
CREATE TEMPORARY TABLE payments (amount integer);
PREPARE once_claim AS {claim};
PREPARE once_complete AS {complete};
BEGIN;
EXECUTE once_claim('\x{id}', '\x', '\x{key}', NULL, '\x{token}', NULL, NULL, true, false, NULL) \gset
INSERT INTO payments VALUES (100);
EXECUTE once_complete('\x{id}', '\x{token}', :epoch, 200, 'paid', 60000000);
{end};
SELECT :'verdict', count(*) FROM payments;
"""


@unittest.skipUnless("Postgres" in SERVERS and shutil.which("psql"), "no Postgres, or no psql")
class Postgres(unittest.TestCase):
    def test_psql_pays_in_its_own_transaction(self):
        url, key, token = SERVERS["Postgres"], os.urandom(16), os.urandom(16).hex()
        texts = {name: sql(url, name) for name in ("claim", "complete")}
        names = {"id": onceflight.fingerprint(b"", key).hex(), "key": key.hex(), "token": token, **texts}
        with Table(url) as table:
            for end, left in (("ROLLBACK", 0), ("COMMIT", 1)):
                script = SCRIPT.format(end=end, **names)
                psql = subprocess.run(
                    ["psql", "-qAtX", url], input=script, text=True, capture_output=True, timeout=PATIENCE
                )
                self.assertEqual(psql.stderr, "")
                self.assertEqual(psql.stdout.splitlines()[-1], f"granted|{left}")
                if not left:
                    table.begin(key, timeout=0).cancel()
            response = table.begin(key, timeout=0)
            self.assertEqual((response.status, response.data), (200, b"paid"))


if __name__ == "__main__":
    unittest.main()

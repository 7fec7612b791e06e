"""Tables over stores: run and its serializer, threads, exceptions, other processes."""

import json
import multiprocessing
import os
import pickle
import signal
import tempfile
import time
import unittest

from stores import PATIENCE, Sqlite, Thread, on_every_store
from support import in_child, onceflight, python, until_waiting
from onceflight import BYPASS, Lead, Response, Table, dedupe

RACER = """
import json, os, sys
from onceflight import Table

url, key, executed = sys.argv[1:]

def work():
    with open(executed, "a") as file:
        file.write(f"{os.getpid()}\\n")
    return {"by": os.getpid()}

with Table(url) as table:
    for round in range(5):
        print(json.dumps(table.run(f"{key}-{round}", work)))
"""

# Leads, with a checkpoint, until it is killed.
VICTIM = """
import sys, time
from onceflight import Table

table = Table(sys.argv[1], lease=0.5)
lead = table.begin(sys.argv[2])
lead.checkpoint(b"half")
print(lead.details().fence, flush=True)
time.sleep(600)
"""

WAITER = """
import signal, sys, time
from onceflight import Table

signal.signal(signal.SIGINT, signal.default_int_handler)
url, key = sys.argv[1:]
table = Table(url)
try:
    print("ready", flush=True)
    {wait}
except KeyboardInterrupt:
    print(time.monotonic(), flush=True)
"""


def raising(error):
    def work():
        raise error

    return work


def spawned(url, key, results):
    """A worker as multiprocessing starts one anew: it opens its own table."""
    with Table(url) as table:
        try:
            results.put(table.run(key, lambda: {"by": os.getpid()}))
        except BaseException as error:
            results.put(repr(error))


@on_every_store
class Runs(Sqlite, unittest.TestCase):
    def test_many_callers_one_execution(self):
        table, key, calls = self.table(), self.key(), []

        def work():
            calls.append(1)
            until_waiting(table, 7)
            return {"price": 7, "items": ["a", None, 1.5]}

        made = {"price": 7, "items": ["a", None, 1.5]}
        callers = [Thread(table.run, key, work) for _ in range(8)]
        self.assertEqual([caller.result() for caller in callers], [made] * 8)
        self.assertEqual(table.run(key, work), made)
        self.assertEqual((len(calls), table.stats().leads, table.stats().shared), (1, 1, 7))
        self.assertEqual((table.stats().replayed, table.stats().timeouts), (1, 0))

    def test_all_see_what_a_retry_sees(self):
        table, key = self.table(), self.key()
        self.assertEqual(table.run(key, lambda: (1, 2)), [1, 2])
        self.assertEqual(table.run(key, lambda: (3, 4)), [1, 2])

    def test_what_cannot_be_written_is_told_to_everybody_and_not_kept(self):
        table, key = self.table(), self.key()

        def work():
            until_waiting(table, 1)
            return {1, 2}

        callers = [Thread(table.run, key, work) for _ in range(2)]
        errors = []
        for caller in callers:
            with self.assertRaisesRegex(TypeError, "json can't keep a set .* serializer") as caught:
                caller.result()
            errors.append(caught.exception)
        self.assertIs(errors[0], errors[1])
        self.assertEqual(table.run(key, lambda: [1, 2]), [1, 2])

    def test_serializers(self):
        table, key, other = self.table(), self.key(), self.key()
        self.assertEqual(table.run(key, lambda: {1, 2}, serializer=pickle), {1, 2})
        self.assertEqual(table.run(key, lambda: None, serializer=pickle), {1, 2})
        with self.assertRaisesRegex(ValueError, "json can't read"):
            table.run(key, lambda: None)
        own = self.table(serializer=pickle)
        self.assertEqual(own.run(key, lambda: None), {1, 2})

        class Shout:
            def dumps(self, value):
                return value.upper()

            def loads(self, data):
                return data.decode() + "!"

        calls = []

        @dedupe(table, key=lambda: other, scope="", serializer=Shout())
        def greet():
            calls.append(1)
            return "hello"

        self.assertEqual([greet(), greet(), len(calls)], ["HELLO!", "HELLO!", 1])
        with self.assertRaisesRegex(TypeError, "Shout can't keep a int"):
            table.run(self.key(), lambda: 1, serializer=Shout())

    def test_an_exception_is_everybodys_and_not_kept(self):
        table, key, mine = self.table(), self.key(), ValueError("no")

        def work():
            until_waiting(table, 3)
            raise mine

        for caller in [Thread(table.run, key, work) for _ in range(4)]:
            with self.assertRaises(ValueError) as caught:
                caller.result()
            self.assertIs(caught.exception, mine)
        self.assertEqual(table.run(key, lambda: "again"), "again")
        self.assertEqual(len(table._objects._links), 0)

    def test_a_base_exception_abandons(self):
        table, key = self.table(), self.key()
        with self.assertRaises(SystemExit):
            table.run(key, raising(SystemExit()))
        lead = table.begin(key)
        self.assertEqual(lead.details().attempt, 2)
        lead.cancel()

    def test_an_exception_of_another_process_is_described(self):
        """Another table is like another process."""
        table, other, key = self.table(), self.table(), self.key()
        follower = []

        def work():
            follower.append(Thread(other.run, key, lambda: "mine"))
            time.sleep(head_start)
            raise LookupError("no such user")

        head_start = 0.05  # nothing tells when another process waits
        while True:
            with self.assertRaises(LookupError):
                table.run(key, work)
            try:
                self.assertEqual(follower.pop().result(), "mine")  # it came late
            except onceflight.CalleeFailed as error:
                self.assertEqual(str(error), "LookupError: no such user")
                self.assertEqual(error.kind, "builtins.LookupError")
                return
            key, head_start = self.key(), 2 * head_start

    def test_other_forms_of_a_key(self):
        table, key, declined = self.table(), self.key(), self.key()
        table.begin(key).complete(json.dumps({"from": "C"}).encode())
        self.assertEqual(table.run(key, lambda: None), {"from": "C"})
        table.forget(key)
        table.begin(key).complete(b"\xff", status=404)
        response = table.run(key, lambda: None)
        self.assertEqual((response.status, response.data), (404, b"\xff"))
        lead = table.begin(declined)
        caller = Thread(table.run, declined, lambda: "own")
        until_waiting(table, 1)
        lead.decline()
        self.assertEqual(caller.result(), "own")

    def test_terms(self):
        table, key = self.table(), self.key()
        self.assertEqual(table.run(key, lambda: 1, fingerprint=b"one", ttl=0.2), 1)
        with self.assertRaises(onceflight.Mismatch):
            table.run(key, lambda: 2, fingerprint=b"two")
        while table.run(key, lambda: 3, fingerprint=b"one", ttl=60) == 1:
            pass
        self.assertEqual(table.run(key, lambda: 4, fingerprint=b"one"), 3)
        lead = table.begin(self.key())
        self.assertIsInstance(lead, Lead)
        lead.cancel()
        lead = table.begin(key + "-led")
        with self.assertRaises(onceflight.Timeout):
            table.run(key + "-led", lambda: 5, timeout=0)
        with self.assertRaises(onceflight.Timeout):
            table.run(key + "-led", lambda: 5, timeout=0.02)
        lead.cancel()

    def test_what_is_too_large_is_its_callers_alone(self):
        table, key = self.table(max_response_len=4), self.key()
        self.assertEqual(table.run(key, lambda: "too large"), "too large")
        self.assertEqual(table.run(key, lambda: 1), 1)

    def test_an_overtaken_run_has_its_value(self):
        table, key = self.table(heartbeat=False), self.key()

        def work():
            Thread(table.begin, key).result().complete(b'"the other"')
            return "late"

        with self.assertRaises(onceflight.Stale) as caught:
            table.run(key, work, lease=0.05)
        self.assertEqual(caught.exception.value, "late")
        self.assertEqual(table.run(key, lambda: None), "the other")

    def test_waits_that_would_never_end(self):
        table, key = self.table(), self.key()
        with self.assertRaises(onceflight.WouldDeadlock):
            table.run(key, lambda: table.run(key, lambda: 1))
        with self.assertRaises(onceflight.WouldDeadlock):  # and on a thread that isn't the main one
            Thread(table.run, key, lambda: table.run(key, lambda: 1)).result()
        self.assertEqual(table.run(key, lambda: table.run(key + "-inner", lambda: 2)), 2)
        # The key of one's own is answered, if there is an answer.
        self.assertEqual(table.run(self.key(), lambda: table.run(key, lambda: 3)), 2)


@on_every_store
class Leads(Sqlite, unittest.TestCase):
    def test_begin_and_settle(self):
        table, key = self.table(), self.key()
        lead = table.begin(key)
        with self.assertRaises(onceflight.Timeout):
            table.begin(key, timeout=0)
        lead.checkpoint(b"half")
        lead.renew(60)
        details = lead.details()
        self.assertEqual((details.attempt, details.checkpoint), (1, b"half"))
        follower = Thread(table.begin, key)
        until_waiting(table, 1)
        lead.complete(b"done", status=200)
        shared = follower.result()
        self.assertEqual((shared.status, shared.data, shared.replayed), (200, b"done", False))
        self.assertTrue(table.begin(key).replayed)
        with self.assertRaises(onceflight.Stale):
            lead.complete(b"again")

    def test_a_block_that_is_left_abandons(self):
        table, key = self.table(), self.key()
        with self.assertRaises(KeyError):
            with table.begin(key):
                raise KeyError
        with table.begin(key) as lead:
            self.assertEqual(lead.details().attempt, 2)
            lead.decline()

    def test_settlements_reach_followers(self):
        table = self.table()
        for settle, outcome in (("cancel", Lead), ("abandon", Lead), ("decline", type(BYPASS))):
            key = self.key()
            lead = table.begin(key)
            follower = Thread(table.begin, key)
            until_waiting(table, 1)
            getattr(lead, settle)()
            got = follower.result()
            self.assertIsInstance(got, outcome)
            if isinstance(got, Lead):
                self.assertEqual(got.details().attempt, 2)
                got.cancel()

    def test_hold(self):
        table, key = self.table(on_lease_expired="hold"), self.key()
        table.begin(key).abandon()
        with self.assertRaises(onceflight.Unknown):
            table.begin(key)
        with self.assertRaises(onceflight.Unknown):
            table.run(key, lambda: 1)
        table.begin(key, recover=True).cancel()

    def test_close_wakes_those_who_wait(self):
        table, key = self.table(), self.key()
        lead = table.begin(key)
        waiters = [Thread(table.begin, key), Thread(table.run, key, lambda: 1)]
        until_waiting(table, 2)
        table.close()
        for waiter in waiters:
            with self.assertRaises(onceflight.Closed):
                waiter.result()
        lead.complete(b'"after all"')
        self.assertEqual(self.table().run(key, lambda: None), "after all")


@on_every_store
class Processes(Sqlite, unittest.TestCase):
    def test_a_response_outlives_its_process(self):
        key = self.key()
        for program in ("lambda: {'made': [1, 2]}", "lambda: 1 / 0"):
            call = f"import sys, onceflight\nprint(onceflight.Table(sys.argv[1]).run(sys.argv[2], {program}))"
            with python("-c", call, self.url, key) as process:
                out, err = process.communicate(timeout=PATIENCE)
            self.assertEqual((out, err), ("{'made': [1, 2]}\n", ""))
        self.assertEqual(self.table().run(key, lambda: None), {"made": [1, 2]})
        with self.assertRaises(onceflight.Mismatch):
            self.table().run(key, lambda: None, fingerprint=b"another payload")

    def test_many_processes_one_execution(self):
        with tempfile.NamedTemporaryFile("r") as executed:
            arguments = ("-c", RACER, self.url, self.key(), executed.name)
            processes = [python(*arguments) for _ in range(4)]
            told = [process.communicate(timeout=PATIENCE) for process in processes]
            self.assertEqual([err for _, err in told], [""] * 4)
            self.assertEqual(len({out for out, _ in told}), 1, told)
            self.assertEqual(len(executed.read().splitlines()), 5)

    def test_spawned_workers_open_their_own(self):
        context, key = multiprocessing.get_context("spawn"), self.key()
        results = context.SimpleQueue()
        workers = [context.Process(target=spawned, args=(self.url, key, results)) for _ in range(3)]
        for worker in workers:
            worker.start()
        told = [results.get() for _ in workers]
        for worker in workers:
            worker.join()
        self.assertEqual(told, [told[0]] * 3)
        self.assertIn(told[0]["by"], [worker.pid for worker in workers])

    def test_a_killed_leader_is_succeeded(self):
        table, key = self.table(), self.key()
        with python("-c", VICTIM, self.url, key) as victim:
            fence = int(victim.stdout.readline())
            with self.assertRaises(onceflight.Timeout):
                table.begin(key, timeout=1.5)  # longer than the lease: its heart beats
            victim.kill()
            lead = table.begin(key)
        details = lead.details()
        self.assertEqual((details.attempt, details.checkpoint), (2, b"half"))
        self.assertGreater(details.fence, fence)
        lead.complete(b"1")
        self.assertEqual(table.run(key, lambda: 2), 1)

    def test_ctrl_c_ends_a_wait_for_another_process(self):
        lead = self.table().begin(key := self.key())
        for wait in ("table.begin(key)", "table.run(key, print, timeout=600)"):
            best = PATIENCE
            for head_start in (0.1, 0.2, 0.4, 0.8, 1.6):  # a loaded machine may delay one
                with python("-c", WAITER.format(wait=wait), self.url, key) as waiter:
                    self.assertEqual(waiter.stdout.readline(), "ready\n")
                    time.sleep(head_start)
                    sent = time.monotonic()  # one clock for all processes
                    waiter.send_signal(signal.SIGINT)
                    out, err = waiter.communicate(timeout=PATIENCE)
                self.assertEqual((waiter.returncode, err), (0, ""))
                best = min(best, float(out) - sent)
                if best < 0.1:
                    break
            self.assertLess(best, 0.1)
        lead.cancel()

    def test_a_forked_child_is_told(self):
        table, key = self.table(), self.key()
        lead = table.begin(key)

        def child():
            for call in (
                lambda: table.begin(key), lambda: table.run(key, lambda: 2), lead.cancel, table.stats,
                lambda: table.forget(key),
            ):  # fmt: skip
                try:
                    call()
                    return "no exception"
                except onceflight.Forked:
                    pass
            return "forked"

        self.assertEqual(in_child(child), "forked")
        lead.complete(b'"still mine"')
        self.assertEqual(table.run(key, lambda: None), "still mine")


class Prefork(Sqlite, unittest.TestCase):
    """As gunicorn does it: the master opens nothing, each worker its own. In a process of its own,
    since a master that has opened the file once forbids it to its children."""

    MASTER = """
import os, sys
from onceflight import Table

url, key, executed = sys.argv[1:]
for _ in range(4):
    if os.fork() == 0:
        with Table(url) as table:
            table.run(key, lambda: os.write(os.open(executed, os.O_WRONLY | os.O_APPEND), b"x"))
        os._exit(0)
print([os.wait()[1] for _ in range(4)])
"""

    def test_each_worker_opens_its_own(self):
        with tempfile.NamedTemporaryFile() as executed:
            with python("-c", self.MASTER, self.url, self.key(), executed.name) as master:
                out, err = master.communicate(timeout=PATIENCE)
            self.assertEqual((out, err), ("[0, 0, 0, 0]\n", ""))
            self.assertEqual(executed.read(), b"x")


class Failures(Sqlite, unittest.TestCase):
    def test_a_store_that_is_not_there(self):
        with self.assertRaises(onceflight.StoreFailed):
            Table("sqlite:/nonexistent/directory/table.db")

    def test_others_run_while_the_store_is_asked(self):
        """Each call waits for the lock that this thread lets go: were the GIL held meanwhile, it
        never could, and the store would time out."""
        table, kept = self.table(), []
        lead, other = table.begin(self.key()), table.begin(self.key())
        for call in (
            lambda: table.begin(self.key()), lambda: table.begin(self.key(), timeout=0),
            lambda: table.run(self.key(), lambda: 1), lambda: lead.checkpoint(b"x"), lambda: lead.renew(60),
            lambda: lead.complete(b"x"), other.cancel,
        ):  # fmt: skip
            locker = self.locked()
            caller = Thread(call)
            caller.join(0.05)
            locker.communicate("")
            kept.append(caller.result())  # dropped, a lead would be abandoned, and wait for the lock itself

    def test_a_store_that_hangs_fails_in_time(self):
        table = self.table(store_timeout=0.2)
        locker = self.locked()
        with self.assertRaisesRegex(onceflight.StoreFailed, "."):  # on the main thread, by its queue
            table.run(self.key(), lambda: 1)
        with self.assertRaises(onceflight.StoreFailed):
            Thread(table.begin, self.key()).result()
        locker.communicate("")
        self.assertEqual(table.run(self.key(), lambda: 1), 1)

    def test_what_the_store_does_not_take_is_not_lost(self):
        table, key = self.table(store_timeout=0.3), self.key()
        lockers = []

        def work():
            lockers.append(self.locked())
            return (1, 2)

        with self.assertRaises(onceflight.Unrecorded) as caught:
            table.run(key, work)
        self.assertEqual(caught.exception.value, [1, 2])
        self.assertIsInstance(caught.exception.__cause__, onceflight.StoreFailed)
        self.assertNotIsInstance(caught.exception, onceflight.StoreFailed)
        lockers[0].communicate("")

    def test_an_exception_survives_a_store_that_fails(self):
        table = self.table(store_timeout=0.3)
        lockers = []

        def work():
            lockers.append(self.locked())
            raise LookupError("mine")

        with self.assertRaisesRegex(LookupError, "mine"):
            table.run(self.key(), work)
        lockers[0].communicate("")


if __name__ == "__main__":
    unittest.main()

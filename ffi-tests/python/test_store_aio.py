"""asyncio over stores: the loop never waits for the store."""

import asyncio
import unittest

from stores import PATIENCE, Sqlite, Thread, on_every_store
from support import onceflight, until_waiting
from onceflight import Lead, dedupe
from test_aio import Gate, bounded, waiting


@on_every_store
class Runs(Sqlite, unittest.TestCase):
    async def flight(self, table, key, result, followers):
        """The first of the tasks leads."""
        gate = Gate(result)
        tasks = [asyncio.ensure_future(table.aio.run(key, gate))]
        await gate.started.wait()
        tasks += [asyncio.ensure_future(table.aio.run(key, gate)) for _ in range(followers)]
        await waiting(table, followers)
        return gate, tasks

    @bounded
    async def test_many_tasks_one_execution(self):
        table, key = self.table(), self.key()
        gate, tasks = await self.flight(table, key, (1, "a"), 50)
        gate.open.set()
        self.assertEqual(await asyncio.gather(*tasks), [[1, "a"]] * 51)
        self.assertEqual(await table.aio.run(key, gate), [1, "a"])
        self.assertEqual(gate.calls, 1)
        self.assertEqual(await asyncio.to_thread(table.run, key, lambda: None), [1, "a"])

    @bounded
    async def test_an_exception_is_everybodys_and_not_kept(self):
        table, key, mine = self.table(), self.key(), LookupError("no")
        gate, tasks = await self.flight(table, key, mine, 3)
        gate.open.set()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            self.assertIs(outcome, mine)
        gate.result = "again"
        self.assertEqual(await table.aio.run(key, gate), "again")

    @bounded
    async def test_a_cancelled_leader_passes_on(self):
        table, key = self.table(), self.key()
        gate, tasks = await self.flight(table, key, "second", 1)
        gate.open.set()
        tasks[0].cancel()
        with self.assertRaises(asyncio.CancelledError):
            await tasks[0]
        self.assertEqual(await tasks[1], "second")
        self.assertEqual(gate.calls, 2)

    @bounded
    async def test_a_cancelled_follower_leaves(self):
        table, key = self.table(), self.key()
        gate, tasks = await self.flight(table, key, "x", 2)
        tasks[1].cancel()
        await waiting(table, 1)
        gate.open.set()
        self.assertEqual([await tasks[0], await tasks[2]], ["x", "x"])

    @bounded
    async def test_waiting_for_oneself_is_refused(self):
        table, key = self.table(), self.key()

        async def again():
            return await table.aio.run(key, again)

        with self.assertRaises(onceflight.WouldDeadlock):
            await table.aio.run(key, again)

    @bounded
    async def test_errors_have_their_detail(self):
        table, key = self.table(), self.key()
        self.assertEqual(await table.aio.run(key, Opened("x"), fingerprint=b"one"), "x")
        with self.assertRaises(onceflight.Mismatch):
            await table.aio.run(key, Opened("x"), fingerprint=b"two")
        with self.assertRaisesRegex(TypeError, "json can't keep a object"):
            await table.aio.run(self.key(), Opened(object()))
        lead = await table.aio.begin(self.key())
        self.assertIsInstance(lead, Lead)
        await asyncio.to_thread(lead.complete, b"1")

    @bounded
    async def test_dedupe(self):
        table, key, calls = self.table(), self.key(), []

        @dedupe(table, key=lambda user: f"{key}-{user}")
        async def profile(user):
            calls.append(user)
            return {"user": user}

        told = await asyncio.gather(*[profile(7) for _ in range(5)], profile(8))
        self.assertEqual(told, [{"user": 7}] * 5 + [{"user": 8}])
        self.assertEqual(sorted(calls), [7, 8])

    @bounded
    async def test_threads_and_tasks_share(self):
        table, key = self.table(), self.key()
        gate, tasks = await self.flight(table, key, "task's", 0)
        follower = Thread(table.run, key, lambda: "thread's")
        await asyncio.to_thread(until_waiting, table, 1)
        gate.open.set()
        self.assertEqual(await tasks[0], "task's")
        self.assertEqual(await asyncio.to_thread(follower.result), "task's")


class Opened(Gate):
    def __init__(self, result):
        super().__init__(result)
        self.open.set()


class Loops(Sqlite, unittest.TestCase):
    @bounded
    async def test_the_loop_goes_on_while_the_store_is_asked(self):
        """The claim and the completion both wait for a lock that the loop itself lets go."""
        table, key = self.table(), self.key()
        locker = await asyncio.to_thread(self.locked)
        gate = Gate("x")
        task = asyncio.ensure_future(table.aio.run(key, gate))
        await asyncio.sleep(0.05)
        self.assertFalse(gate.started.is_set())
        locker.communicate("")
        await gate.started.wait()
        locker = await asyncio.to_thread(self.locked)
        gate.open.set()
        await asyncio.sleep(0.05)
        self.assertFalse(task.done())
        locker.communicate("")
        self.assertEqual(await asyncio.wait_for(task, PATIENCE), "x")

    @bounded
    async def test_a_store_that_hangs_is_told_with_its_reason(self):
        table = self.table(store_timeout=0.2)
        locker = await asyncio.to_thread(self.locked)
        with self.assertRaisesRegex(onceflight.StoreFailed, "locked"):
            await table.aio.run(self.key(), Gate("x"))
        locker.communicate("")


if __name__ == "__main__":
    unittest.main()

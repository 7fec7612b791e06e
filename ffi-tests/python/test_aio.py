"""asyncio through the event queue."""

import asyncio
import gc
import os
import threading
import unittest
import weakref
from pathlib import Path

from support import PATIENCE, Thread, onceflight, until, until_waiting
from onceflight import BYPASS, Lead, Response, Table, dedupe


class Thing:
    pass


def bounded(test):
    """An async test that can't hang."""

    def run(self):
        asyncio.run(asyncio.wait_for(test(self), PATIENCE))

    return run


async def waiting(table, count):
    while table.stats().waiting != count:
        await asyncio.sleep(0)


class Gate:
    def __init__(self, result=None):
        self.calls, self.result = 0, result
        self.started, self.open = asyncio.Event(), asyncio.Event()

    async def __call__(self):
        self.calls += 1
        self.started.set()
        await self.open.wait()
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


async def flight(table, result, followers):
    gate = Gate(result)
    tasks = [asyncio.ensure_future(table.aio.run("k", gate)) for _ in range(1 + followers)]
    await gate.started.wait()
    await waiting(table, followers)
    return gate, tasks


class Runs(unittest.TestCase):
    @bounded
    async def test_many_tasks_one_execution(self):
        with Table() as table:
            thing = Thing()
            gate, tasks = await flight(table, thing, 200)
            gate.open.set()
            self.assertTrue(all(got is thing for got in await asyncio.gather(*tasks)))
            self.assertEqual(gate.calls, 1)
            self.assertEqual(table.stats()[:5], (1, 200, 0, 0, 0))
            loop = asyncio.get_running_loop()
            watched = loop.remove_reader(table._pumps[loop]._queue.fd)
            self.assertFalse(watched, "nobody waits, so nothing is watched")

    @bounded
    async def test_an_exception_reaches_every_task(self):
        with Table() as table:
            error = KeyError("no")
            gate, tasks = await flight(table, error, 5)
            gate.open.set()
            self.assertEqual(await asyncio.gather(*tasks, return_exceptions=True), [error] * 6)

    @bounded
    async def test_replay_and_forget(self):
        with Table(completed_ttl=60) as table:
            async def one():
                return Thing()

            first = await table.aio.run("k", one)
            self.assertIs(await table.aio.run("k", one), first)
            self.assertIs(table.run("k", self.fail), first)
            table.forget("k")
            self.assertIsNot(await table.aio.run("k", one), first)

    @bounded
    async def test_timeout(self):
        with Table() as table:
            gate, (leader,) = await flight(table, 1, 0)
            for timeout in (0, 0.01):
                with self.assertRaises(onceflight.Timeout):
                    await table.aio.run("k", gate, timeout=timeout)
            gate.open.set()
            self.assertEqual(await leader, 1)
            self.assertEqual((table.stats().timeouts, table.stats().waiting), (2, 0))

    @bounded
    async def test_a_cancelled_follower_leaves_the_line(self):
        with Table() as table:
            gate, tasks = await flight(table, 1, 3)
            tasks[2].cancel()
            await waiting(table, 2)
            gate.open.set()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            self.assertIsInstance(results.pop(2), asyncio.CancelledError)
            self.assertEqual((results, gate.calls), ([1, 1, 1], 1))

    @bounded
    async def test_a_cancelled_leader_is_succeeded(self):
        with Table() as table:
            gate, tasks = await flight(table, 1, 3)
            tasks[0].cancel()
            gate.open.set()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            self.assertIsInstance(results.pop(0), asyncio.CancelledError)
            self.assertEqual((results, gate.calls), ([1, 1, 1], 2))
            self.assertEqual(table.stats().takeovers, 1)

    @bounded
    async def test_a_promoted_task_that_is_cancelled_in_the_same_turn_passes_the_lead_on(self):
        with Table() as table:
            lead = table.begin("k")
            first = asyncio.ensure_future(table.aio.begin("k"))
            await waiting(table, 1)
            second = asyncio.ensure_future(table.aio.begin("k"))
            await waiting(table, 2)
            pump = table._pumps[asyncio.get_running_loop()]
            lead.cancel()
            until(lambda: table.stats().waiting == 1)
            pump._drain(table)  # the event is read ...
            first.cancel()  # ... and its task cancelled before it could run
            with self.assertRaises(asyncio.CancelledError):
                await first
            self.assertIsInstance(await second, Lead)

    @bounded
    async def test_reentry_would_deadlock(self):
        with Table() as table:
            async def again():
                return await table.aio.run("k", Gate())

            with self.assertRaises(onceflight.WouldDeadlock):
                await table.aio.run("k", again)

            async def block():
                return table.run("k", self.fail)  # would stop the loop that the leader needs

            with self.assertRaises(onceflight.WouldDeadlock):
                await table.aio.run("k", block)

    @bounded
    async def test_threads_and_tasks_share(self):
        with Table() as table:
            gate, tasks = await flight(table, Thing(), 1)
            thread = Thread(table.run, "k", self.fail)
            await waiting(table, 2)
            gate.open.set()
            self.assertIs(await asyncio.get_running_loop().run_in_executor(None, thread.result), await tasks[1])

    @bounded
    async def test_close_wakes_tasks(self):
        table = Table()
        gate, tasks = await flight(table, 1, 3)
        table.close()
        for task in tasks[1:]:
            with self.assertRaises(onceflight.Closed):
                await task
        gate.open.set()
        self.assertEqual(await tasks[0], 1)

    @bounded
    async def test_begin(self):
        with Table() as table:
            lead = await table.aio.begin("k")
            followers = [asyncio.ensure_future(table.aio.begin("k")) for _ in range(2)]
            await waiting(table, 2)
            lead.complete(b"x", status=3)
            for follower in followers:
                got = await follower
                self.assertIsInstance(got, Response)
                self.assertEqual((got.data, got.status, got.replayed), (b"x", 3, False))
            lead = await table.aio.begin("k")
            follower = asyncio.ensure_future(table.aio.begin("k"))
            await waiting(table, 1)
            lead.decline()
            self.assertIs(await follower, BYPASS)

    @bounded
    async def test_dedupe(self):
        with Table() as table:
            calls = []

            @dedupe(table, key=lambda number: str(number))
            async def work(number):
                calls.append(number)
                await asyncio.sleep(0)
                await waiting(table, 4)
                return number

            self.assertEqual(await asyncio.gather(*(work(1) for _ in range(5))), [1] * 5)
            self.assertEqual(calls, [1])
            self.assertTrue(asyncio.iscoroutinefunction(work))


class Lifetimes(unittest.TestCase):
    def test_nothing_stays(self):
        table = Table()

        async def once():
            thing = Thing()
            gate, tasks = await flight(table, thing, 10)
            gate.open.set()
            await asyncio.gather(*tasks)
            return weakref.ref(thing)

        for _ in range(3):
            watch = asyncio.run(once())
            gc.collect()
            self.assertIsNone(watch())
        self.assertEqual(len(table._objects._links), 0)

    def test_loops_come_and_go_without_descriptors(self):
        descriptors = Path("/proc/self/fd")
        if not descriptors.exists():
            self.skipTest("no /proc")
        with Table() as table:
            async def once():
                gate, tasks = await flight(table, 1, 2)
                gate.open.set()
                await asyncio.gather(*tasks)

            asyncio.run(once())
            gc.collect()
            before = len(os.listdir(descriptors))
            for _ in range(10):
                asyncio.run(once())
            gc.collect()
            self.assertLessEqual(len(os.listdir(descriptors)), before)

    def test_two_loops_at_once(self):
        with Table() as table:
            ready, go = threading.Barrier(2), threading.Event()
            calls = []

            async def work():
                calls.append(1)
                await asyncio.get_running_loop().run_in_executor(None, go.wait, PATIENCE)
                return len(calls)

            def loop():
                ready.wait()
                return asyncio.run(table.aio.run("k", work))

            threads = [Thread(loop), Thread(loop)]
            until_waiting(table, 1)
            go.set()
            self.assertEqual([thread.result() for thread in threads], [1, 1])


if __name__ == "__main__":
    unittest.main()

"""The Python contestants, one a process: "cycle NAME N" prints nanoseconds a cycle, "wake NAME N" prints
microseconds a follower, "list" prints the names of those that are installed.

A cycle is one uncontended use with a fresh 16-byte key and a 64-byte response, as each package's user
writes it. A wake-up is from the opening of a leader's gate to the last of N followers' having returned.
"""

import importlib
import sys
import threading
import time

RESPONSE = b"r" * 64


class Pure:
    """What one writes without a package: a dict, a lock, and an Event a key."""

    def __init__(self):
        self._lock, self._flights = threading.Lock(), {}

    def run(self, key, fn):
        with self._lock:
            flight = self._flights.get(key)
            leads = flight is None
            if leads:
                flight = self._flights[key] = _Flight()
        if not leads:
            flight.done.wait()
        else:
            try:
                flight.value = fn()
            except BaseException as error:
                flight.error = error
            finally:
                with self._lock:
                    del self._flights[key]
                flight.done.set()
        if flight.error is not None:
            raise flight.error
        return flight.value


class _Flight:
    __slots__ = ("done", "value", "error")

    def __init__(self):
        self.done, self.value, self.error = threading.Event(), None, None


def respond():
    return RESPONSE


def each(call):
    """Cycles of a call that takes a key and a function."""

    def cycles(keys):
        for key in keys:
            call(key, respond)

    return cycles


class Onceflight:
    """begin and complete in a cycle; in a wake-up the leader completes when its gate opens."""

    def __init__(self):
        self._table = importlib.import_module("onceflight").Table()

    def cycles(self, keys):
        begin = self._table.begin
        for key in keys:
            begin(key).complete(RESPONSE)

    def run(self, key, work):
        begun = self._table.begin(key)
        complete = getattr(begun, "complete", None)
        if complete is not None:
            work()
            complete(RESPONSE)


class OnceflightRun:
    def __init__(self):
        self.run = importlib.import_module("onceflight").Table().run
        self.cycles = each(self.run)


class PurePython(Pure):
    def __init__(self):
        super().__init__()
        self.cycles = each(self.run)


class Coalescer:
    def __init__(self):
        self.run = importlib.import_module("coalescer.sync").Coalescer().do
        self.cycles = each(self.run)


class Oneflight:
    def __init__(self):
        self.run = importlib.import_module("oneflight").OneFlight().do
        self.cycles = each(self.run)


class Singleflight:
    def __init__(self):
        self._call = importlib.import_module("singleflight.basic").SingleFlight().call

    def cycles(self, keys):
        call = self._call
        for key in keys:
            call(respond, key)

    def run(self, key, work):
        return self._call(work, self.key(key))

    @staticmethod
    def key(key):
        return key.decode("latin-1")  # it takes no bytes


class Cachetools:
    """With a condition, it calls once for identical calls; a cache of one entry keeps next to nothing."""

    def __init__(self):
        tools = importlib.import_module("cachetools")
        self._work = respond

        def call(key):
            return self._work()

        condition = threading.Condition()
        self._call = tools.cached(tools.LRUCache(1), condition=condition, key=lambda key: key)(call)

    def cycles(self, keys):
        call = self._call
        for key in keys:
            call(key)

    def run(self, key, work):
        self._work = work
        return self._call(key)


CONTESTANTS = {
    "onceflight": Onceflight,
    "onceflight-run": OnceflightRun,
    "pure": PurePython,
    "cachetools": Cachetools,
    "coalescer": Coalescer,
    "oneflight": Oneflight,
    "singleflight": Singleflight,
}


def cycle(contestant, count):
    to_key = getattr(contestant, "key", bytes)
    keys = [to_key(number.to_bytes(16, "little")) for number in range(count)]
    contestant.cycles(keys[: count // 10 + 1])  # the interpreter adapts itself to the code
    start = time.perf_counter_ns()
    contestant.cycles(keys)
    return (time.perf_counter_ns() - start) / count


def wake(contestant, count):
    threading.stack_size(256 << 10)
    gate, leads = threading.Lock(), threading.Event()
    returned, key, clock = [0] * count, b"sixteen byte key", time.perf_counter_ns

    def work():
        leads.set()
        gate.acquire()
        return RESPONSE

    def follow(number):
        contestant.run(key, respond)
        returned[number] = clock()

    gate.acquire()
    threads = [threading.Thread(target=contestant.run, args=(key, work))]
    threads[0].start()
    leads.wait()
    threads += [threading.Thread(target=follow, args=(number,)) for number in range(count)]
    for thread in threads[1:]:
        thread.start()
    settle()
    start = clock()
    gate.release()
    for thread in threads:
        thread.join()
    if not start < min(returned):
        raise SystemExit("a follower did not wait")
    return (max(returned) - start) / count / 1000


def settle():
    """Until this process has used no time to speak of for a while: all followers wait."""
    for _ in range(100):
        before = time.process_time()
        time.sleep(0.1)
        if time.process_time() - before < 0.002:
            return
    raise SystemExit("the followers don't come to rest")


def installed():
    for name, contestant in CONTESTANTS.items():
        try:
            contestant()
            yield name
        except ImportError as error:
            print(f"{name}: not here, left out: {error}", file=sys.stderr)


if __name__ == "__main__":
    if sys.argv[1] == "list":
        print(*installed())
    else:
        function = {"cycle": cycle, "wake": wake}[sys.argv[1]]
        print(f"{function(CONTESTANTS[sys.argv[2]](), int(sys.argv[3])):.2f}")

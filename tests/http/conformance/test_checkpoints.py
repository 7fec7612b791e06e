"""What an execution leaves for the next one of its key."""

from case import Answer, Case, needs
from client import Gone

LEASE = 400  # milliseconds; one that is waited for


class Checkpoints(Case):
    def leave(self, text, *, late=False, **more):
        """A request whose handler leaves a checkpoint before it asks the origin, or after."""
        return self.post(headers=[("x-leave-late" if late else "x-leave", text)], **more)

    def found(self, *checkpoints):
        """That the executions found these."""
        executions = self.origin.executions(self.path)
        self.assertEqual([done.headers.get("x-checkpoint") for done in executions], list(checkpoints))

    @needs("checkpoints")
    def test_a_failure_leaves_it(self):
        for status in [500, 503]:
            self.path, self.key = f"{self.path}/{status}", f"{self.key}{status}"
            self.origin.answers(self.path, Answer(status), Answer(201))
            self.told(self.leave("charged"), status=status)
            # Something happened, whatever the answer says: it is for that payload alone.
            self.problem(self.post(body=b"999"), 422, "key-reused")
            self.told(self.post(), body=b"execution 2")
            self.found(None, "charged")

    @needs("checkpoints", "panics")
    def test_a_panic_leaves_it(self):
        self.origin.answers(self.path, Answer(headers=[(b"x-then", b"panic")]), Answer(201))
        with self.assertRaises(Gone):
            self.leave("charged")
        self.told(self.post(), body=b"execution 2")
        self.found(None, "charged")

    @needs("checkpoints", "lasting")
    def test_a_dead_process_leaves_it(self):
        mortal, other = self.own_server(lease_ms=LEASE), self.server(lease_ms=LEASE)
        with self.origin.holding(self.path):
            lost = self.later(self.leave, "charged", at=mortal)
            self.origin.wait_for(self.path, 1)
            mortal.kill()
            self.assertIsNotNone(lost.exception())
        self.told(self.post(at=other), body=b"execution 2")
        self.found(None, "charged")

    @needs("checkpoints")
    def test_a_later_one_takes_its_place(self):
        self.origin.answers(self.path, Answer(500), Answer(500), Answer(500), Answer(201))
        self.leave("one")
        self.post()  # leaves none, and takes none away
        self.leave("two")
        self.told(self.post(), body=b"execution 4")
        self.found(None, "one", "one", "two")

    @needs("checkpoints", "lasting")
    def test_26_a_late_execution_leaves_nothing(self):
        """It was frozen, and another took over, which failed in its turn."""
        self.origin.answers(self.path, Answer(201), Answer(500), Answer(201))
        late, other = self.own_server(lease_ms=LEASE), self.server(lease_ms=LEASE)
        with self.origin.holding(self.path):
            first = self.later(self.leave, "late", late=True, at=late)
            self.origin.wait_for(self.path, 1)
            late.freeze()
            second = self.later(self.leave, "of the second", at=other)
            self.origin.wait_for(self.path, 2)
        self.told(second.result(), status=500)
        late.thaw()
        self.told(first.result(), body=b"execution 1")
        self.assertEqual(first.result().header("x-left"), "Stale")
        self.told(self.post(at=other), body=b"execution 3")
        self.found(None, None, "of the second")

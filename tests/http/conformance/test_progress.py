"""Several at once, and processes that die: items 18 to 29."""

from case import Answer, Case, needs
from client import dial, raw

LEASE = 400  # milliseconds; one that is waited for
BEAT = 1200  # one that a heartbeat keeps up even on a machine that stalls for a while


class Progress(Case):
    def test_18_fifty_at_once_are_one_execution(self):
        replies = self.at_once(50, lambda _: self.post())
        self.one_led(replies)

    @needs("shared")
    def test_18_and_20_across_processes(self):
        servers = [self.server(), self.own_server()]
        replies = self.at_once(32, lambda number: self.post(at=servers[number % 2]))
        self.one_led(replies)

    @needs("keep_alive")
    def test_18_twice_on_one_connection(self):
        request = self.head() + b"Content-Length: 7\r\n\r\npayload"
        said = raw(self.server().address, request + request).lower()
        self.assertEqual(said.count(b"http/1.1 201"), 2, said)
        self.assertEqual(said.count(b"idempotent-replayed: true"), 1)
        self.assertEqual(said.count(b"execution 1"), 2)
        self.executed(1)

    def test_18_others_arent_held_up(self):
        other = f"{self.path}/other"
        with self.origin.holding(self.path):
            held = self.later(self.post)
            self.origin.wait_for(self.path, 1)
            self.told(self.post(other))
            self.told(self.post(other, key=f"{self.key}2"))
        self.told(held.result())

    def test_19_the_work_goes_on_when_its_client_leaves(self):
        with self.origin.holding(self.path):
            with dial(self.server().address) as leaver:
                leaver.sendall(self.head() + b"Content-Length: 7\r\n\r\npayload")
                self.origin.wait_for(self.path, 1)
            stays = self.later(self.post)
        self.told(stays.result(), replayed=True, body=b"execution 1")
        self.told(self.post(), replayed=True, body=b"execution 1")
        self.executed(1)

    def test_19_past_the_wait_it_is_in_progress(self):
        server = self.server(wait_ms=20)
        with self.origin.holding(self.path):
            first = self.later(self.post, at=server)
            self.origin.wait_for(self.path, 1)
            reply = self.post(at=server)
            self.problem(reply, 409, "in-progress")
            self.passes(reply)
        self.told(first.result())
        self.replays(self.post(at=server), first.result())
        self.executed(1)

    @needs("retry_after_ms")
    def test_19_retry_after_can_be_said(self):
        server = self.server(wait_ms=0, retry_after_ms=7000)
        with self.origin.holding(self.path):
            first = self.later(self.post, at=server)
            self.origin.wait_for(self.path, 1)
            self.passes(self.post(at=server), seconds=7)
        self.told(first.result())

    @needs("shared")
    def test_19_and_20_in_progress_elsewhere(self):
        here, there = self.server(wait_ms=20), self.own_server(wait_ms=20)
        with self.origin.holding(self.path):
            first = self.later(self.post, at=here)
            self.origin.wait_for(self.path, 1)
            self.problem(self.post(at=there), 409, "in-progress")
            self.problem(self.post(at=there, body=b"999"), 422, "key-reused")
            patient = self.later(self.post, at=self.server())
        self.told(first.result())
        self.replays(patient.result(), first.result())
        self.replays(self.post(at=there), first.result())
        self.executed(1)

    def test_21_what_expires_at_once_is_still_for_those_who_wait(self):
        """Each execution is told to whoever waited, and to nobody else."""
        server = self.server(ttl_ms=0)
        replies = self.at_once(16, lambda _: self.post(at=server))
        executions = len(self.origin.executions(self.path))
        self.assertEqual(sum(not reply.replayed for reply in replies), executions)
        told = {reply.body for reply in replies if not reply.replayed}
        self.assertTrue({reply.body for reply in replies} <= told)
        self.assertFalse(self.post(at=server).replayed)

    def test_22_a_lease_isnt_what_bounds_the_work(self):
        """A heartbeat renews it; 409s are asked for until three leases have passed."""
        server = self.own_server(lease_ms=BEAT, wait_ms=BEAT)
        with self.origin.holding(self.path):
            first = self.later(self.post, at=server)
            self.origin.wait_for(self.path, 1)
            for _ in range(3):
                self.problem(self.post(at=server), 409, "in-progress")
        self.told(first.result())
        self.replays(self.post(at=server), first.result())
        self.executed(1)

    @needs("lasting")
    def test_24_a_dead_process_holds_its_key_no_longer_than_its_lease(self):
        mortal, other = self.own_server(lease_ms=LEASE), self.server(lease_ms=LEASE)
        with self.origin.holding(self.path):
            lost = self.later(self.post, at=mortal)
            self.origin.wait_for(self.path, 1)
            mortal.kill()
            self.assertIsNotNone(lost.exception())
        self.told(self.post(at=other), body=b"execution 2")
        self.told(self.post(at=other), replayed=True, body=b"execution 2")
        self.executed(2)
        self.rises()

    @needs("lasting", "hold")
    def test_24_or_for_ever_if_it_is_held(self):
        mortal = self.own_server(lease_ms=LEASE, hold=True)
        other = self.server(lease_ms=LEASE, hold=True)
        with self.origin.holding(self.path):
            lost = self.later(self.post, at=mortal)
            self.origin.wait_for(self.path, 1)
            mortal.kill()
            self.assertIsNotNone(lost.exception())
        self.problem(self.post(at=other), 409, "outcome-unknown")
        self.problem(self.post(at=other, body=b"999"), 422, "key-reused")
        self.executed(1)

    @needs("lasting")
    def test_26_a_late_leader_changes_nothing(self):
        """It was frozen, and another took over. Its client has what it did; everybody else what is kept."""
        late, other = self.own_server(lease_ms=LEASE), self.server(lease_ms=LEASE)
        with self.origin.holding(self.path):
            first = self.later(self.post, at=late)
            self.origin.wait_for(self.path, 1)
            late.freeze()
            second = self.later(self.post, at=other)
            self.origin.wait_for(self.path, 2)
        self.told(second.result(), body=b"execution 2")
        late.thaw()
        self.told(first.result(), body=b"execution 1")
        for server in [late, other]:
            self.told(self.post(at=server), replayed=True, body=b"execution 2")
        self.executed(2)
        self.rises()

    @needs("lasting", "endless_lease")
    def test_28_a_lease_can_be_for_ever(self):
        mortal, other = self.own_server(lease_ms=0), self.server(lease_ms=0, wait_ms=LEASE)
        with self.origin.holding(self.path):
            self.later(self.post, at=mortal)
            self.origin.wait_for(self.path, 1)
            mortal.kill()
        self.problem(self.post(at=other), 409, "in-progress")
        self.executed(1)

    @needs("fences")
    def test_29_a_fence_never_goes_back(self):
        server = self.server(ttl_ms=0)
        self.origin.answers(self.path, Answer(201), Answer(500), Answer(503), Answer(201))
        for status in [201, 500, 503, 201, 201]:
            self.told(self.post(at=server), status=status)
        self.rises()

    def one_led(self, replies):
        """That one request was executed, and the others were told the same."""
        self.executed(1)
        first = [reply for reply in replies if not reply.replayed]
        self.assertEqual(len(first), 1, first)
        for reply in replies:
            if reply is not first[0]:
                self.replays(reply, first[0])

    def rises(self):
        """That the origin saw fences rise."""
        if "fences" not in self.world.target.lacks:
            fences = [int(done.headers["onceflight-fence"]) for done in self.origin.executions(self.path)]
            self.assertEqual(fences, sorted(set(fences)))

"""The classic exercise: a server that remembers, for each client, what it last said to it.

    ClientTracker: register_request, record_response, gc_expired_sessions
    DedupKVStore:  a key-value store that executes no request twice

Each of the tracker's three methods is one call. In a cluster the tracker is a part of the replicated
state machine: requests come from the log, with the time that the leader gave them, and the sessions'
snapshot goes into the machine's own.
"""

import json

from onceflight import Sessions, fingerprint


class ClientTracker:
    def __init__(self, session_timeout=300):
        self.sessions = Sessions(window=1, timeout_ms=session_timeout * 1000)

    def register_request(self, client_id, seq, operation, now_ms):
        """(is_dup, cached_response or None). A client's request number 1 makes its session."""
        digest = fingerprint(json.dumps(operation))
        cached = self.sessions.begin(client_id, 0, seq, digest=digest, now_ms=now_ms)
        return cached is not None, cached and json.loads(cached.data)

    def record_response(self, client_id, seq, response):
        self.sessions.record(client_id, 0, seq, json.dumps(response).encode())

    def gc_expired_sessions(self, now_ms):
        return self.sessions.expire(now_ms)


class DedupKVStore:
    def __init__(self, kv_store, tracker):
        self.kv = kv_store
        self.tracker = tracker
        self.executed = 0

    def handle_request(self, client_id, seq, operation, now_ms):
        is_dup, response = self.tracker.register_request(client_id, seq, operation, now_ms)
        if not is_dup:
            response = self.execute(operation)
            self.tracker.record_response(client_id, seq, response)
        return response

    def execute(self, operation):
        self.executed += 1
        key = operation["key"]
        if operation["type"] == "append":  # twice would show
            self.kv[key] = self.kv.get(key, "") + operation["value"]
        return {"type": operation["type"] + "_ok", "value": self.kv.get(key)}


if __name__ == "__main__":
    store = DedupKVStore({}, ClientTracker(session_timeout=300))
    log = [
        ("c1", 1, {"type": "append", "key": "x", "value": "a"}, 1_000),
        ("c1", 1, {"type": "append", "key": "x", "value": "a"}, 2_000),  # a retry
        ("c2", 1, {"type": "append", "key": "x", "value": "b"}, 3_000),
        ("c1", 2, {"type": "read", "key": "x"}, 4_000),
        ("c1", 2, {"type": "read", "key": "x"}, 5_000),
    ]
    for entry in log:
        print(*entry[:2], store.handle_request(*entry)["value"])
    print(f"{len(log)} requests, {store.executed} executed")
    print(f"{store.tracker.gc_expired_sessions(304_000)} of 2 sessions expired")

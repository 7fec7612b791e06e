"""What was aimed for, and whether it was reached."""


def digits(value):
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}"


OURS, FOLD, C = "onceflight", "onceflight fold", "onceflight C"


class Check:
    """One bound: where its figure comes from, and which side of it is good."""

    def __init__(self, label, find, bound, above=False):
        self.label, self.find, self.bound, self.above = label, find, bound, above

    def see(self, figures):
        """The figure, and whether it is good; None where it wasn't measured."""
        value = self.find(figures)
        if value is None:
            return None
        return value, value >= self.bound if self.above else value <= self.bound

    def told(self, figures):
        sign = "≥" if self.above else "≤"
        goal = f"{self.label} {sign} {self.bound:g}".strip()
        seen = self.see(figures)
        if seen is None:
            return f"{goal}: not measured"
        value, good = seen
        return f"{goal}: **{digits(value)}**" + ("" if good else " ✗")


def ratio(work, contestant, to, **wanted):
    """A ratio inside the rounds."""

    def find(figures):
        line = figures.one(work, contestant, **wanted)
        return line and line.get("ratios", {}).get(to)

    return find


def value(work, contestant, **wanted):
    def find(figures):
        line = figures.one(work, contestant, **wanted)
        return line and line["value"]

    return find


def against_best(work, contestant, best, **wanted):
    """A figure divided by the best of the peers, not of the same round."""

    def find(figures):
        ours = figures.one(work, contestant, **wanted)
        others = [
            line["value"]
            for line in figures.of(work, **wanted)
            if not line["contestant"].startswith("onceflight")
        ]
        return ours["value"] / best(others) if ours and others else None

    return find


def against_named(work, contestant, to, **wanted):
    """A figure divided by another contestant's, of the same round where that was written down."""

    def find(figures):
        line, other = figures.one(work, contestant, **wanted), figures.one(work, to, **wanted)
        if not line or not other:
            return None
        return line.get("ratios", {}).get(to) or line["value"] / other["value"]

    return find


def between(work, contestant, more, less, by):
    """A figure at `more` of something divided by the one at `less`."""

    def find(figures):
        lines = {line[by]: line["value"] for line in figures.of(work, contestant=contestant)}
        return lines[more] / lines[less] if more in lines and less in lines else None

    return find


def growth(work, contestant):
    """A figure at the most keys held divided by the one at the fewest."""

    def find(figures):
        sizes = figures.sizes(work)
        return between(work, contestant, sizes[-1], sizes[0], "n")(figures) if len(sizes) > 1 else None

    return find


def most_zipf(contestant, to, threads):
    def find(figures):
        sizes = figures.sizes("replay-zipf")
        return sizes and ratio("replay-zipf", contestant, to, threads=threads, n=sizes[-1])(figures) or None

    return find


GOALS = [
    (
        "uncontended cycle, 16-byte keys",
        [
            Check("/ qc", ratio("cycle16", OURS, "qc"), 0.30),
            Check("fold / qc", ratio("cycle16", FOLD, "qc"), 0.20),
            Check("instructions", value("count-instructions16", OURS), 430),
            Check("fold", value("count-instructions16", FOLD), 300),
            Check("allocations", value("count-allocations16", OURS), 0),
        ],
    ),
    (
        "the same, 64-byte keys",
        [
            Check("/ qc", ratio("cycle64", OURS, "qc"), 0.40),
            Check("fold / qc", ratio("cycle64", FOLD, "qc"), 0.28),
        ],
    ),
    (
        "cycles on 2 and 4 threads",
        [
            Check("2 threads / qc", ratio("threads", OURS, "qc", threads=2), 6, above=True),
            Check("2 threads / best peer", against_best("threads", OURS, max, threads=2), 1, above=True),
            Check("4 threads / 2 threads", between("threads", OURS, 4, 2, "threads"), 0.9, above=True),
        ],
    ),
    (
        "replay, 1,000 hot keys",
        [
            Check("1 thread / qc ttl", ratio("replay-hot", OURS, "qc ttl", threads=1), 0.60),
            Check("2 threads / qc ttl", ratio("replay-hot", OURS, "qc ttl", threads=2), 0.45),
            Check("fold, 1 thread / qc", ratio("replay-hot", FOLD, "qc", threads=1), 1.0),
            Check("fold, 2 threads / qc", ratio("replay-hot", FOLD, "qc", threads=2), 1.0),
        ],
    ),
    (
        "replay, zipf over 10^6 keys",
        [
            Check("1 thread / qc ttl", most_zipf(OURS, "qc ttl", 1), 0.65),
            Check("2 threads / qc ttl", most_zipf(OURS, "qc ttl", 2), 0.50),
        ],
    ),
    (
        "complete to the last follower's response",
        [
            *(Check(f"{n} / futex", ratio("wake", OURS, "futex", n=n), 1.10) for n in (64, 512, 4096)),
            *(Check(f"{n} / qc", ratio("wake", OURS, "qc", n=n), 0.8) for n in (64, 512)),
            *(Check(f"{n}, switches", value("wake-switches", OURS, n=n), 1.1) for n in (64, 512, 4096)),
        ],
    ),
    (
        "64 threads, zipf over 10,000 keys, 50 µs of work",
        [
            Check("/ qc", ratio("load", OURS, "qc"), 1.05, above=True),
            Check("/ no dedup", ratio("load", OURS, "no dedup"), 0.92, above=True),
            Check("p99 / qc", ratio("load-p99", OURS, "qc"), 0.6),
        ],
    ),
    (
        "memory, a completed entry",
        [
            Check("/ qc", ratio("memory-completed", OURS, "qc"), 0.70),
            Check("C / qc", ratio("memory-completed", C, "qc"), 0.70),
            Check("C / qc with byte keys, as C's are", ratio("memory-completed", C, "qc byte keys"), 0.70),
        ],
    ),
    (
        "memory, a key in flight",
        [
            Check("/ qc", ratio("memory-flight", OURS, "qc"), 0.45),
            Check("C / qc", ratio("memory-flight", C, "qc"), 0.45),
            Check("C / qc with byte keys, as C's are", ratio("memory-flight", C, "qc byte keys"), 0.45),
        ],
    ),
    (
        "as it grows",
        [
            Check("hot replay, most / fewest keys", growth("grow-hot", OURS), 1.25),
            Check("longest begin while 10^6 expire, µs", value("expiry-longest", OURS), 100),
        ],
    ),
    (
        "C ABI over Rust",
        [
            Check("cycle", ratio("cycle16", C, OURS), 1.05),
            Check("replay, 64 KiB / 64 B", ratio("replay-size", "64 KiB", "64 B"), 1.05),
        ],
    ),
    (
        "sessions: a small write / the same without",
        [
            *(
                Check(who, ratio("session-write", who, "no sessions", n=1000), 1.5)
                for who in ("1 session", "1,000 sessions", "1,000 sessions, W 16")
            ),
            Check(
                "100,000 sessions and keys", ratio("session-write", "100,000 sessions", "no sessions", n=100_000), 1.5
            ),
        ],
    ),
    (
        "sessions: memory and snapshots",
        [
            Check("W 1, without the reply, bytes", value("session-bare", "W 1, 32 bytes"), 140),
            Check("W 64, without the replies", value("session-bare", "W 64, full of 32 bytes"), 1150),
            Check("freeze of 100,000, µs", value("session-freeze", "100,000 sessions"), 1000),
        ],
    ),
    (
        "Python through ctypes",
        [
            Check("cycle / best package", against_best("python-cycle", OURS, min), 0.30),
            Check("wake of 512 / pure Python", against_named("python-wake", OURS, "pure", n=512), 1.0),
        ],
    ),
]


def store(name, title, wake, served=True):
    """A store's goals. On several threads: how many flights the floor does in the time of one of ours."""
    slower = [
        Check("1 thread, median / floor", ratio(f"{name}-flight-p50", OURS, "floor", threads=1), 1.15),
        Check("8 threads, time / floor", ratio(f"{name}-flight-rate", "floor", OURS, threads=8), 1.15),
    ]
    trips = [
        Check("trips of a replay", value(f"{name}-replay-trips", OURS), 1),
        Check("of a follower here", value(f"{name}-follower-trips", OURS), 0),
    ]
    woken = Check("follower elsewhere, median ms", value(f"{name}-wake-p50", OURS), wake)
    return f"{title}: a leader, a replay, followers", [*slower, *(trips if served else []), woken]


GOALS += [
    store("sqlite", "SQLite", 20, served=False),
    store("postgres", "Postgres", 5),
    store("redis", "Redis", 5),
    store("memcached", "memcached", 5),
]


def table(figures):
    rows = ["| work | goals and **figures** | reached |", "|-|-|-|"]
    for work, checks in GOALS:
        seen = [check.see(figures) for check in checks]
        if None in seen:
            reached = "not all measured" if any(seen) else "not measured"
        elif all(good for _, good in seen):
            reached = "yes"
        else:
            reached = f"{sum(good for _, good in seen)} of {len(seen)}"
        told = "<br>".join(check.told(figures) for check in checks)
        rows.append(f"| {work} | {told} | {reached} |")
    return "\n".join(rows) + "\n"

"""Turns the benchmark's JSON lines into docs/benchmarks.md and its plots.

    python3 bench/plot.py FILE... [--docs DIR]

Of the same work, contestant, threads and n, the last line counts. Standard library only.
"""

import argparse
import json
import pathlib
import sys

import goals
import svg

BENCH = pathlib.Path(__file__).resolve().parent


class Figures:
    """What was measured, found by what it is of."""

    def __init__(self):
        self.lines = {}
        self.facts = {}  # of where it was measured

    def read(self, path):
        for number, text in enumerate(path.read_text().splitlines(), 1):
            if not text.strip():
                continue
            try:
                line = json.loads(text)
                if "work" not in line:
                    self.facts.update(line)
                    continue
                key = (line["work"], line["contestant"], line.get("threads", 1), line.get("n", 0))
            except (ValueError, KeyError, TypeError) as error:
                sys.exit(f"{path}:{number}: no figure: {error!r}")
            self.lines.pop(key, None)
            self.lines[key] = line

    def of(self, work, **wanted):
        """The lines of a work, in the order in which they were measured."""
        return [
            line
            for line in self.lines.values()
            if line["work"] == work
            and line.get("value") is not None
            and all(line.get(name) == value for name, value in wanted.items())
        ]

    def one(self, work, contestant, **wanted):
        lines = self.of(work, contestant=contestant, **wanted)
        return lines[-1] if lines else None

    def sizes(self, work):
        return sorted({line.get("n", 0) for line in self.of(work)})


def count(number):
    """1000000 as 1,000,000; from ten million on as a power."""
    return f"{number:,}" if number < 10_000_000 else f"10^{len(str(number)) - 1}"


def bars(figures, panels):
    """Panels of bars; one without lines is left out."""
    drawn = []
    for title, lines in panels:
        if lines:
            rows = [(line["contestant"], line["value"]) for line in lines]
            drawn.append((f"{title}, {lines[0]['unit']}", rows))
    return svg.bars(drawn) if drawn else None


def curves(figures, panels):
    """Panels of curves over `x`; one with a single point a curve is left out."""
    drawn = []
    for title, lines, x in panels:
        by_name = {}
        for line in lines:
            by_name.setdefault(line["contestant"], []).append((line[x], line["value"]))
        by_name = {name: sorted(points) for name, points in by_name.items()}
        if any(len(points) > 1 for points in by_name.values()):
            drawn.append((f"{title}, {lines[0]['unit']}", by_name))
    return svg.curves(drawn) if drawn else None


def sections(figures):
    """Title, what it says, its plot's name, the plot, and the works of its table."""
    of = figures.of
    replay = sorted(of("replay-zipf"), key=lambda line: line["n"])
    keys = replay[-1]["n"] if replay else 0
    zipf = [line for line in replay if line["n"] == keys]
    hot = of("replay-hot")

    def on(lines, threads):
        return [line for line in lines if line["threads"] == threads]

    yield (
        "Uncontended cycle",
        "Begin, complete, gone, on unique keys with nothing kept and nobody waiting. The loop is counted "
        "too: it makes the key and clones the response, an `Arc`. `scripts/cost.sh` counts the calls "
        "almost alone (the bounds in tests/cost/bounds.txt are 3 % above what it counted).",
        "cycle",
        bars(figures, [("16-byte keys", of("cycle16")), ("64-byte keys", of("cycle64"))]),
        ["cycle16", "cycle64", "count-instructions16", "count-allocations16"],
    )
    yield (
        "Cycles on several threads",
        "Each thread has keys of its own; more is better.",
        "threads",
        curves(figures, [("cycles on 1, 2 and 4 threads", of("threads"), "threads")]),
        ["threads"],
    )
    yield (
        "Replays",
        "A look-up of what is held, as each thread sees it. `qc ttl` is quick_cache with the expiry "
        "in the value and looked at by whoever finds it, since it has none; onceflight's ttl is "
        "always on. By the response's size: through the C ABI a replay is a hold, no copy.",
        "replay-hot",
        bars(
            figures,
            [("1,000 hot keys, 1 thread", on(hot, 1)), ("1,000 hot keys, 2 threads", on(hot, 2))],
        ),
        ["replay-hot", "replay-size"],
    )
    yield (
        "Replays by Zipf's law",
        f"The same over {count(keys)} keys, with exponent 0.99.",
        "replay-zipf",
        bars(figures, [("1 thread", on(zipf, 1)), ("2 threads", on(zipf, 2))]),
        ["replay-zipf"],
    )
    yield (
        "Waking followers",
        "From complete until the last of n blocked followers has the response, divided by n. "
        "`futex` is the floor: one word, all wait on it, one wake of all.",
        "wake",
        bars(
            figures,
            [(f"{count(n)} followers", of("wake", n=n)) for n in figures.sizes("wake")],
        ),
        ["wake", "wake-switches"],
    )
    yield (
        "Under load",
        "64 threads that ask for 10,000 keys by Zipf's law, each with 50 µs of work behind it, "
        "which sleeps. Nothing is kept, so only what is in flight at once is shared.",
        "load",
        bars(
            figures,
            [("throughput", of("load")), ("99th percentile of a request", of("load-p99"))],
        ),
        ["load", "load-p99", "load-led"],
    )
    yield (
        "Memory",
        "Bytes of the heap in malloc's own blocks, the table and the responses included; `memory-resident` is "
        "what a process of its own grew by, with what its heap can't use again.",
        "memory",
        bars(
            figures,
            [
                ("a completed entry", of("memory-completed")),
                ("a key in flight", of("memory-flight")),
            ],
        ),
        ["memory-completed", "memory-resident", "memory-flight"],
    )
    yield (
        "As it grows",
        "Beside ever more keys that are held. A thousand hot keys stay in the caches whatever else is "
        "held; any key doesn't, nor does the place of a new one. Expiry: a thread begins hot keys of all "
        "shards while the rest expires at one instant; a begin during which the scheduler took the "
        "thread off its core isn't counted, and `nothing expires` is what the machine itself makes of it.",
        "growth",
        curves(
            figures,
            [
                ("cycle of a new key", of("grow-cycle"), "n"),
                ("replay of 1,000 hot keys", of("grow-hot"), "n"),
                ("replay of any key", of("grow-any"), "n"),
            ],
        ),
        ["grow-cycle", "grow-hot", "grow-any", "expiry-longest", "expiry-late", "expiry-time"],
    )
    yield (
        "Python",
        "Through ctypes, against published packages and plain Python.",
        "python",
        bars(
            figures,
            [
                ("cycle", of("python-cycle")),
                *((f"wake of {count(n)}", of("python-wake", n=n)) for n in figures.sizes("python-wake")),
            ],
        ),
        ["python-cycle", "python-wake"],
    )
    yield (
        "Sessions",
        "A small write to a map of 1,000 or 100,000 keys (16-byte key, 24-byte value, a reply of its own), applied by "
        "a state machine without sessions and with them: clients with 16-byte names in turn, each with one "
        "request under way or (W 16) sixteen. `session-bare` is a session without the blocks of its replies. "
        "`session-freeze` is what applies stop for when a snapshot is taken, `session-in-place` what they would "
        "stop for if it were written then; `session-during` is an apply while one is alive, in the worst order: one "
        "to each session, so that all of them are copied. The longest applies have the machine's own delays in them.",
        "sessions",
        bars(
            figures,
            [
                *((f"a write, {count(n)} keys", of("session-write", n=n)) for n in figures.sizes("session-write")),
                ("memory of a session", of("session-memory")),
            ],
        ),
        [
            "session-write",
            "session-memory",
            "session-bare",
            "session-freeze",
            "session-in-place",
            "session-before",
            "session-during",
            "session-worst",
            "session-slowest",
            "session-restore",
        ],
    )
    for store, title in STORES.items():
        yield store_section(figures, store, title)


STORES = {"sqlite": "SQLite", "postgres": "Postgres", "redis": "Redis", "memcached": "memcached"}


def store_section(figures, store, title):
    """Flights and replays, and what goes over the wire for them."""
    of = figures.of
    text = {
        "sqlite": "A flight is begin and complete of a fresh 16-byte key with a 64-byte response; `floor` is the least "
        "that the store must do for it, the bare statements or scripts on the same client, as durable; "
        "`store` is ours without the table. `trips` are round trips; a follower is one of 64 in the leader's "
        "process. `wake` is from complete's return to that of a follower in another process which has waited "
        "for a second. Client and server share the machine.\n\n"
        f"SQLite's file is on {figures.facts.get('disk', 'an unknown file system')}. A flight is two synced commits, "
        "which callers that wait have in common; "
        "checkpoints of the WAL are in the figures.",
        "postgres": "The server as it comes: a flight is two commits that it syncs.",
        "redis": "The server appends to its file and doesn't sync. `powertools` is AWS Powertools for Python "
        "with its Redis layer, which neither waits nor fences; `onceflight` beside it is `Table.run` through "
        "ctypes.",
        "memcached": "One server. The floor speaks meta commands, by which adding tells the number that a later "
        "`cas` wants: the client crate can't.",
    }
    panels = [
        (f"{what}s, {threads} thread{'s' * (threads > 1)}", of(f"{store}-{what}-rate", threads=threads))
        for what in ("flight", "replay")
        for threads in (1, 8)
    ]
    works = [
        *(f"{store}-{what}-{figure}" for what in ("flight", "replay") for figure in ("rate", "p50", "p99")),
        *(f"{store}-{what}-trips" for what in ("flight", "replay", "follower")),
        *(f"{store}-wake-{figure}" for figure in ("p50", "p99")),
        *(f"{store}-python-{what}-{figure}" for what in ("flight", "replay") for figure in ("rate", "p50", "p99")),
    ]
    return (
        f"Stores: {title}",
        text[store],
        f"store-{store}",
        bars(figures, panels),
        works,
    )


def tables(figures, works):
    """All figures of some works; one that varies much has a table of its own."""
    wide = [work for work in works if len(figures.of(work, contestant="qc")) > 3]
    groups = [[work] for work in wide]
    # What begins alike stands side by side: a store's flights, replays, round trips, wakes.
    for kind in dict.fromkeys(kind_of(work) for work in works):
        groups.append([work for work in works if work not in wide and kind_of(work) == kind])
    return "\n".join(filter(None, (table(figures, group) for group in groups)))


def kind_of(work):
    """Of a store's work, what is measured, and of the sessions'; of any other, nothing."""
    store, _, rest = work.partition("-")
    if store == "session":
        return {"write": "write", "memory": "memory", "bare": "memory"}.get(rest, "snapshot")
    if store not in STORES:
        return ""
    what, _, figure = rest.rpartition("-")
    return "trips" if figure == "trips" else what


def table(figures, works):
    """A row a contestant, a column what varies."""
    columns, names = [], []
    for work in works:
        for line in figures.of(work):
            column = (work, line.get("threads", 1), line.get("n", 0), line["unit"])
            if column not in columns:
                columns.append(column)
            if line["contestant"] not in names:
                names.append(line["contestant"])
    if not columns:
        return ""
    heads = [head(column, columns) for column in columns]
    rows = ["| | " + " | ".join(heads) + " |", "|-" * (len(columns) + 1) + "|"]
    for name in names:
        cells = []
        for work, threads, n, _ in columns:
            line = figures.one(work, name, threads=threads, n=n)
            cells.append(goals.digits(line["value"]) if line else "")
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"


def head(column, columns):
    """A column's name; of what varies, what differs from its neighbours of the same work."""
    work, threads, n, unit = column
    same = [other for other in columns if other[0] == work]
    varies = []
    if len({other[2] for other in same}) > 1:
        varies.append(count(n))
    elif len({other[1] for other in same}) > 1:
        varies.append(f"{threads} thread" + "s" * (threads > 1))
    return ", ".join([work, *varies, unit])


def page(figures, plots):
    loud = [line for line in figures.lines.values() if line.get("loud")]
    parts = [
        "# Benchmarks\n",
        "Generated by `bench/plot.py` from what `bench/` measured; don't edit. Contestants take turns in "
        "rounds, and ratios are medians over the rounds of the ratio inside a round: the machine "
        "is another one minutes later, so figures of different tables are not to be compared. `qc` is "
        "quick_cache 0.7 as it comes; `onceflight` has the default, DoS-safe hasher, `fold` foldhash, `C` goes "
        "through the C ABI.\n",
        f"Machine: {figures.facts.get('machine', 'not told')}.\n",
        "```sh\n" + RUN + "```\n",
        "## Goals\n",
        goals.table(figures),
    ]
    if loud:
        works = sorted({line["work"] for line in loud})
        parts.append(
            "Others were at work, or the host moved the cores, in some rounds of: " + ", ".join(works) + ".\n"
        )
    for title, text, name, plot, works in sections(figures):
        rows = tables(figures, works)
        if not rows:
            continue
        parts += [f"## {title}\n", text + "\n"]
        if plot:
            plots[name] = plot
            parts.append(f"![{title}](benchmarks/{name}.svg)\n")
        parts.append(rows)
    return "\n".join(parts)


RUN = """\
cd bench
cargo run --release -- --json figures.json all   # on a quiet machine; one work alone: its name
../scripts/servers.sh run cargo run --release --features stores -- --json figures.json store
python3 plot.py figures.json                     # more files, of other languages, if there are
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=pathlib.Path)
    parser.add_argument("--docs", type=pathlib.Path, default=BENCH.parent / "docs")
    asked = parser.parse_args()
    figures = Figures()
    for path in asked.files:
        figures.read(path)
    plots = {}
    text = page(figures, plots)
    directory = asked.docs / "benchmarks"
    directory.mkdir(parents=True, exist_ok=True)
    for name, plot in plots.items():
        (directory / f"{name}.svg").write_text(plot)
    (asked.docs / "benchmarks.md").write_text(text)


if __name__ == "__main__":
    main()

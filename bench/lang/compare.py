"""Runs every work with its contestants in interleaved rounds, and prints a table and JSON lines.

compare.py DIRECTORY [--quick] [--json FILE]; DIRECTORY holds the built programs. See run.sh.

In each round every contestant of a work runs once, in a process of its own, and each round begins with
another. The value is the median over the rounds; the ratio is the median of the rounds' own ratios of
the work's first contestant, which is onceflight, to this one: below 1, onceflight takes less.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, NamedTuple

HERE = Path(__file__).resolve().parent
PATIENCE = 300  # seconds a run


class Work(NamedTuple):
    name: str
    threads: int
    n: int
    unit: str
    commands: Dict[str, List[str]]  # by contestant


def works(built: Path, share: int) -> List[Work]:
    programs = {
        "onceflight C": built / "capi",
        "C++ map + shared_future": built / "future",
        "Go singleflight": built / "flight",
    }
    present = {name: str(path) for name, path in programs.items() if path.exists()}
    found = []
    for threads in (1, 2):
        n = 1_000_000 // share
        commands = {name: [path, "cycle", str(threads), str(n)] for name, path in present.items()}
        found.append(Work("cycle, 16-byte key, 64-byte response", threads, n, "ns", commands))
    for threads in (1, 2):
        n = 2_000_000 // share
        replay = [present["onceflight C"], "replay", str(threads), str(n)]
        commands = {f"onceflight C, {size} bytes": [*replay, str(size)] for size in (64, 65536)}
        found.append(Work("replay of one hot key", threads, n, "ns", commands))

    peers = [sys.executable, str(HERE / "peers.py")]
    names = subprocess.run([*peers, "list"], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    cycles, wakes = 200_000 // share, 512
    for first, second in (("onceflight", "onceflight-run"), ("onceflight-run", "onceflight")):
        order = [first] + [name for name in names if name not in (first, second)]
        label = "begin + complete" if first == "onceflight" else "run"
        commands = {name: [*peers, "cycle", name, str(cycles)] for name in order}
        found.append(Work(f"Python {label}, 16-byte key", 1, cycles, "ns", commands))
        commands = {name: [*peers, "wake", name, str(wakes)] for name in order}
        found.append(Work(f"Python wake-up, {label}", wakes, wakes, "us a follower", commands))
    return found


def measured(work: Work, rounds: int) -> List[Dict[str, object]]:
    names = list(work.commands)
    values: Dict[str, List[float]] = {name: [] for name in names}
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            values[name].append(run(work.commands[name]))
    ours = values[names[0]]
    return [
        {
            "work": work.name,
            "contestant": name,
            "threads": work.threads,
            "n": work.n,
            "unit": work.unit,
            "value": round(statistics.median(values[name]), 2),
            "ratio": round(statistics.median(a / b for a, b in zip(ours, values[name])), 3),
        }
        for name in names
    ]


def run(command: List[str]) -> float:
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=PATIENCE)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: exit status {done.returncode}")
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("built", type=Path)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, 3 rounds for 9")
    parser.add_argument("--json", type=Path, help="where the JSON lines go, besides the output")
    arguments = parser.parse_args()
    share, rounds = (10, 3) if arguments.quick else (1, 9)
    lines: List[str] = []
    print(f"{os.cpu_count()} cores, {rounds} rounds; ratio: the first of a work to this one", flush=True)
    for work in works(arguments.built, share):
        print(f"\n{work.name}, threads: {work.threads}")
        for row in measured(work, rounds):
            value = f"{row['value']:10.2f} {row['unit']:14}"
            print(f"  {row['contestant']:28} {value} ratio {row['ratio']:.3f}", flush=True)
            lines.append(json.dumps(row))
    print()
    print(*lines, sep="\n")
    if arguments.json:
        arguments.json.write_text("".join(line + "\n" for line in lines))


if __name__ == "__main__":
    main()

"""Flights over Redis through Python: onceflight beside AWS Powertools' idempotency with its Redis layer.

powertools.py redis://HOST:PORT [--quick] [--json FILE]

Needs onceflight's package and library (PYTHONPATH, ONCEFLIGHT_LIBRARY, built with the feature `redis`), and in
the same interpreter `pip install "aws-lambda-powertools[redis]" boto3`: powertools imports boto3 whatever the
store. Without either it says so and measures nothing.

A flight is one call with a fresh key of 32 characters and a response of 64; a replay is the same call again. The
contestants take turns in rounds, each with a connection of its own; figures are medians over the rounds.
Powertools doesn't wait for a flight in progress, nor fence a late one: what it does is less.
"""

import argparse
import json
import os
import statistics
import sys
import time
import warnings
from pathlib import Path
from typing import Callable, Dict, List

RESPONSE = "r" * 64
TTL = 3600

Call = Callable[[str], object]


def onceflight(url: str) -> Call:
    from onceflight import Table

    table = Table(url, completed_ttl=TTL)
    return lambda key: table.run(key, lambda: RESPONSE, fingerprint=b"9" * 16)


def powertools(url: str) -> Call:
    os.environ.setdefault("POWERTOOLS_SERVICE_NAME", "bench")
    warnings.simplefilter("ignore")  # outside of Lambda nothing tells it how much time is left
    import redis
    from aws_lambda_powertools.utilities.idempotency import IdempotencyConfig, idempotent_function
    from aws_lambda_powertools.utilities.idempotency.persistence.redis import CachePersistenceLayer

    layer = CachePersistenceLayer(client=redis.Redis.from_url(url))
    config = IdempotencyConfig(expires_after_seconds=TTL)

    @idempotent_function(data_keyword_argument="key", persistence_store=layer, config=config)
    def work(key: str) -> str:
        return RESPONSE

    return lambda key: work(key=key)


def laps(call: Call, keys: List[str]) -> List[float]:
    """Microseconds of each call."""
    took = []
    for key in keys:
        start = time.perf_counter()
        if call(key) != RESPONSE:
            raise SystemExit("a call didn't return the response")
        took.append((time.perf_counter() - start) * 1e6)
    return took


def figures(took: List[float]) -> Dict[str, float]:
    ordered = sorted(took)
    return {
        "rate": 1e6 * len(took) / sum(took),
        "p50": statistics.median(ordered),
        "p99": ordered[len(ordered) * 99 // 100],
    }


def measured(calls: Dict[str, Call], rounds: int, count: int) -> Dict[str, Dict[str, List[float]]]:
    """By work and contestant: a value a round."""
    found: Dict[str, Dict[str, List[float]]] = {}
    names = list(calls)
    for turn in range(rounds + 1):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            keys = [os.urandom(16).hex() for _ in range(count)]
            for what in ("flight", "replay"):
                for figure, value in figures(laps(calls[name], keys)).items():
                    if turn:  # the first one warms up
                        work = found.setdefault(f"redis-python-{what}-{figure}", {})
                        work.setdefault(name, []).append(value)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("--quick", action="store_true", help="a tenth of the calls, 3 rounds for 9")
    parser.add_argument("--json", type=Path, help="lines are added to it, for plot.py")
    asked = parser.parse_args()
    try:
        calls = {"onceflight": onceflight(asked.url), "powertools": powertools(asked.url)}
    except ImportError as error:
        sys.exit(f"LEFT OUT: {error}")
    rounds, count = (3, 100) if asked.quick else (9, 1000)
    for work, values in measured(calls, rounds, count).items():
        unit = "1/s" if work.endswith("rate") else "us"
        for name, mine in values.items():
            ratio = statistics.median(a / b for a, b in zip(mine, values["powertools"]))
            value = statistics.median(mine)
            print(f"{work:26} {name:12} {value:10.1f} {unit:4} / powertools {ratio:.3f}")
            if asked.json:
                line = {"work": work, "contestant": name, "threads": 1, "n": 0, "unit": unit}
                line.update(value=round(value, 3), ratio=round(ratio, 4), ratios={"powertools": round(ratio, 4)})
                with asked.json.open("a") as file:
                    print(json.dumps(line), file=file)


if __name__ == "__main__":
    main()

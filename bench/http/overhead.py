#!/usr/bin/env python3
"""What a proxy adds to a request: onceflight beside nginx, before the same backend.

    python3 bench/http/overhead.py target/release/onceflight [--seconds N] [--rounds N] [--quick]

64 connections, each sending its next request as soon as it has its response; every request is another
one, so nobody waits for anybody. The backend is an nginx that answers at once. Every round runs every
contestant once, in rotated order; what counts is the median over the rounds of the ratio to nginx as a
plain proxy in the same round. Proxies, backend and clients share the machine's cores, so a ratio is of
all that happens for a request, and not of the proxy's part alone.

Needs nginx and wrk (Debian: nginx-light, wrk). Nothing is installed, and nothing stays.
"""

import argparse
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONNECTIONS = 64

NGINX = """
daemon off;
worker_processes auto;
error_log stderr emerg;
pid {directory}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    proxy_cache_path {directory}/cache keys_zone=cache:64m max_size=64m;
    upstream backend {{ server 127.0.0.1:{backend}; keepalive {connections}; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{backend};
        location / {{ return 200 "a response of some length, as many have, but no more than that\\n"; }}
    }}
    server {{
        listen 127.0.0.1:{plain};
        location / {{ proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    }}
    server {{
        listen 127.0.0.1:{cached};
        location / {{
            proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_cache cache; proxy_cache_lock on; proxy_cache_valid 200 1s;
        }}
    }}
}}
"""

# Every request is another one: by its URL, or by its key.
WRK = """
local thread = 0
function setup(each) each:set("number", thread); thread = thread + 1 end
local count = 0
local run = "{run}"
function request()
    count = count + 1
    local which = run .. "-" .. number .. "-" .. count
    if "{method}" == "GET" then return wrk.format("GET", "/" .. which) end
    return wrk.format("POST", "/orders", {{["Idempotency-Key"] = '"' .. which .. '"'}}, "a cup of tea")
end
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("onceflight", type=Path, help="the program, built with optimization")
    parser.add_argument("--seconds", type=int, default=3, help="of each contestant in each round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="only shows that all of it works")
    options = parser.parse_args()
    if options.quick:
        options.seconds, options.rounds = 1, 1
    for program in ["nginx", "wrk", str(options.onceflight)]:
        if not shutil.which(program):
            sys.exit(f"overhead: no {program}")
    # nginx keeps its cache, and SQLite its file, where a disk's moods aren't measured.
    shm = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=shm) as directory, Servers() as servers:
        os.chmod(directory, 0o777)  # nginx's workers may be somebody else
        contestants = start(servers, options.onceflight, Path(directory))
        rounds = [one(contestants, turn, options.seconds, Path(directory)) for turn in range(options.rounds)]
    tell(contestants, rounds)


class Servers(list):
    """Processes that end with this."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # The backend's last: until then they have something to wait for.
        for server in reversed(self):
            server.send_signal(signal.SIGTERM)
            server.wait()


def start(servers, onceflight, directory):
    """Name, method, port of each contestant; nginx as a plain proxy comes first of each method."""
    backend, plain, cached = ports(3)
    config = directory / "nginx.conf"
    config.write_text(
        NGINX.format(directory=directory, backend=backend, plain=plain, cached=cached, connections=CONNECTIONS)
    )
    servers.append(subprocess.Popen(["nginx", "-p", str(directory), "-c", str(config)]))
    while not reachable(cached):
        if servers[0].poll() is not None:
            sys.exit("overhead: nginx doesn't start")
        time.sleep(0.01)

    def proxy(*flags):
        command = [onceflight, "proxy", "--listen", "127.0.0.1:0", "--backend", f"http://127.0.0.1:{backend}"]
        # A minute, so that memory isn't what is measured in the end.
        quiet = {**os.environ, "RUST_LOG": "warn"}
        server = subprocess.Popen([*command, "--ttl", "60s", *flags], stdout=subprocess.PIPE, env=quiet)
        servers.append(server)
        return int(server.stdout.readline().rsplit(b":", 1)[1])

    store = f"sqlite:{directory}/keys.db"
    return [
        ("GET", "nginx, plain", plain),
        ("GET", "no proxy", backend),
        ("GET", "nginx, proxy_cache_lock", cached),
        ("GET", "onceflight, coalescing", proxy()),
        ("POST", "nginx, plain", plain),
        ("POST", "onceflight, keys in memory", proxy()),
        ("POST", "onceflight, keys in SQLite", proxy("--store", store)),
    ]


def one(contestants, turn, seconds, directory):
    """Requests a second of each, by its place."""
    rates = {}
    for step in range(len(contestants)):
        place = (turn + step) % len(contestants)
        method, _, port = contestants[place]
        script = directory / "wrk.lua"
        script.write_text(WRK.format(run=f"{turn}-{place}", method=method))
        said = subprocess.run(
            ["wrk", "-t2", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", script, f"http://127.0.0.1:{port}"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        if "Non-2xx" in said or "Socket errors" in said:
            sys.exit(f"overhead: {contestants[place]}: {said}")
        rates[place] = float(re.search(r"Requests/sec:\s*([\d.]+)", said)[1])
    return rates


def tell(contestants, rounds):
    print("| | contestant | requests/s | µs a request | time, × nginx |\n|-|-|-|-|-|")
    first = {}
    for place, (method, name, _) in enumerate(contestants):
        first.setdefault(method, place)
        rate = statistics.median(round[place] for round in rounds)
        ratio = statistics.median(round[first[method]] / round[place] for round in rounds)
        print(f"| {method} | {name} | {rate:,.0f} | {1e6 / rate:.1f} | {ratio:.2f} |")


def ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    found = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return found


def reachable(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    main()

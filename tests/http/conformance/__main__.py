"""One suite for every server that honours Idempotency-Key, over real sockets.

    python3 tests/http/conformance [flags] [NAME...] -- COMMAND...

starts the server under test by COMMAND, as often and with such options as the cases want, plays the
origin whose requests it executes, and is its client. NAMEs choose cases: those whose name has one in it.
Needs Python 3.9 or newer, and curl; nothing else.

| file | its one idea |
|-|-|
| `targets.py` | how a kind of server is told what to do, and what it lacks |
| `origin.py`  | what is executed, counted, held up, answered as a case says |
| `client.py`  | http.client, curl, and a bare socket |
| `stores.py`  | a store is taken away, and written to by others |
| `case.py`    | what the cases share |
| `test_*.py`  | the cases, each named after its number in the list of what idempotency keys must do |
"""

import argparse
import sys
import tempfile
import unittest
from pathlib import Path

import case
import client
import stores
import targets


def main():
    arguments, command = sys.argv[1:], []
    if "--" in arguments:
        cut = arguments.index("--")
        arguments, command = arguments[:cut], arguments[cut + 1 :]
    usage = __doc__.partition("\n\n")[0]
    parser = argparse.ArgumentParser(prog="conformance", description=usage)
    parser.add_argument("--target", choices=targets.KINDS, default="core", help="the kind of server")
    parser.add_argument("--store", default="sqlite:", help="its URL; sqlite: is a new file")
    parser.add_argument("--client", choices=client.CLIENTS, default="http.client")
    parser.add_argument("--seed", type=int, help="of what is drawn at random")
    parser.add_argument("--lacks", default="", help="options, by commas, that this server hasn't")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args(arguments)
    if not command:
        parser.error("no command that starts the server: ... -- COMMAND")

    with tempfile.TemporaryDirectory() as directory:
        world = case.World(
            target=targets.KINDS[options.target](command, set(filter(None, options.lacks.split(",")))),
            store=stores.at(options.store, Path(directory)),
            send=client.CLIENTS[options.client],
            seed=options.seed,
        )
        try:
            result = unittest.TextTestRunner(verbosity=2).run(chosen(options.names, world))
            if not result.wasSuccessful():
                for server in world.started:
                    print(server.said(), file=sys.stderr)
        finally:
            world.close()
    if not result.testsRun:
        sys.exit("no case has such a name")
    sys.exit(not result.wasSuccessful())


def chosen(names, world):
    """The cases whose name has one of `names` in it; all, without any."""
    case.Case.world = world
    suite = unittest.TestSuite()
    pending = [unittest.defaultTestLoader.discover(str(Path(__file__).parent))]
    while pending:
        for item in pending.pop():
            if isinstance(item, unittest.TestSuite):
                pending.append(item)
            elif not names or any(name in item.id() for name in names):
                suite.addTest(item)
    return suite


if __name__ == "__main__":
    main()

"""Runs every Python test: python3 run.py [--no-wheel] [pattern]

The library is $ONCEFLIGHT_LIBRARY, else target/release/libonceflight.so of this tree.
"""

import faulthandler
import sys
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIMIT = 300  # seconds a test: then every thread's stack is printed, and the run fails


class Result(unittest.TextTestResult):
    def startTest(self, test):
        faulthandler.dump_traceback_later(LIMIT, exit=True)
        super().startTest(test)


def tests(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from tests(item)
        else:
            yield item


def main(arguments):
    faulthandler.enable()
    patterns = [argument for argument in arguments if not argument.startswith("-")]
    sys.path.insert(0, str(HERE))
    found = [
        test
        for test in tests(unittest.defaultTestLoader.discover(str(HERE), "test_*.py"))
        if not ("--no-wheel" in arguments and test.id().startswith("test_wheel."))
        and all(pattern in test.id() for pattern in patterns)
    ]
    runner = unittest.TextTestRunner(verbosity=2 if "-v" in arguments else 1, resultclass=Result)
    result = runner.run(unittest.TestSuite(found))
    failed = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
    print(f"{result.testsRun - failed - len(result.skipped)} passed, {failed} failed")
    return 1 if failed or not result.testsRun else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

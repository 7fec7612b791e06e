"""Each example runs, and says what it should."""

import unittest

from support import PATIENCE, ROOT, python

EXPECTED = {
    "threads.py": "20 requests, 1 page, 1 look-up\n",
    "asyncio_server.py": "100 clients, 1 answer, computed 1 time\n",
    "decorator.py": (
        "100 calls, 2 executions, 2 objects\nno user -1\nno user -1\n2 executions of the failing one\n"
    ),
    "client_tracker.py": (
        "c1 1 a\nc1 1 a\nc2 1 ab\nc1 2 ab\nc1 2 ab\n5 requests, 3 executed\n1 of 2 sessions expired\n"
    ),
    "same_transaction.py": (
        "{'payment': 1, 'amount': 100}\n{'payment': 1, 'amount': 100}\nrefused: mismatch\n"
    ),
}


class Examples(unittest.TestCase):
    def test_each_example_is_known_here(self):
        found = {path.name for path in (ROOT / "examples" / "python").glob("*.py")}
        self.assertEqual(found, set(EXPECTED))

    def test_each_says_what_happened(self):
        for name, expected in EXPECTED.items():
            with self.subTest(name), python(str(ROOT / "examples" / "python" / name)) as child:
                out, err = child.communicate(timeout=PATIENCE)
                self.assertEqual((child.returncode, out, err), (0, expected, ""))


if __name__ == "__main__":
    unittest.main()

"""The statements of the stores in SQL, for transactions of a program's own."""

from __future__ import annotations

from ._native import check, lib, told


def sql(url: str, statement: str) -> str:
    """The text of a statement, to run on a connection of your own: the record of a request and your
    own rows then commit together, or not at all. ``onceflight.h`` tells the statements of each store
    and their parameters; ``examples/python/same_transaction.py`` shows them at work.

    For ``postgres://…`` the server is asked for its schema. For ``sqlite:`` nothing is opened. A process
    that runs them with the ``sqlite3`` module mustn't have a Table open on the same file meanwhile: the
    library has a copy of SQLite of its own, and two of them in one process take each other's locks away.
    """
    code, text = told(lib.sql, url.encode(), statement.encode())
    check(code)
    return text

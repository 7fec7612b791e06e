"""`onceflight.asgi` before Starlette and Django, under uvicorn and hypercorn."""

import unittest

from test_wsgi_servers import Served, Workers, over_stores
from wsgi_servers import hypercorn, uvicorn

WAYS = {
    "StarletteUnderUvicorn": (uvicorn("starlette", "--workers", "2"), Workers),
    "DjangoUnderUvicorn": (uvicorn("django"), Served),
    # It ends when a worker is killed.
    "StarletteUnderHypercorn": (hypercorn("starlette", "--workers", "2"), Served),
}
over_stores(WAYS, globals())


if __name__ == "__main__":
    unittest.main()

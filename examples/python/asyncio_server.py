"""An asyncio server: connections that ask the same thing at the same time share one answer.

One line in, one line out. Starts on a free port, connects to itself, tells what happened and ends.
"""

import asyncio

from onceflight import Table

CLIENTS = 100

table = Table()
computed = 0


async def compute(question):
    """The slow part. It ends when all clients have come, so that the demonstration is the same each time."""
    global computed
    computed += 1
    while table.stats().waiting < CLIENTS - 1:
        await asyncio.sleep(0.005)
    return question.upper()


async def serve(reader, writer):
    question = (await reader.readline()).strip()
    answer = await table.aio.run(question, lambda: compute(question), timeout=30)
    writer.write(answer + b"\n")
    await writer.drain()
    writer.close()


async def ask(port, question):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(question + b"\n")
    answer = await reader.readline()
    writer.close()
    return answer.strip()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    answers = await asyncio.gather(*(ask(port, b"what is it?") for _ in range(CLIENTS)))
    server.close()
    print(f"{len(answers)} clients, {len(set(answers))} answer, computed {computed} time")


if __name__ == "__main__":
    asyncio.run(main())
    table.close()

"""@dedupe: one line makes a function run once for all who call it together, and for a window after."""

from concurrent.futures import ThreadPoolExecutor

from onceflight import Table, dedupe

table = Table(completed_ttl=60)
calls = []


@dedupe(table, key=lambda user: str(user))
def profile(user):
    calls.append(user)
    if user < 0:
        raise KeyError(user)
    return {"user": user}


if __name__ == "__main__":
    with ThreadPoolExecutor(8) as pool:
        profiles = list(pool.map(profile, [1, 2] * 50))
    print(f"{len(profiles)} calls, {len(calls)} executions, {len({id(p) for p in profiles})} objects")
    for _ in range(2):  # an exception reaches all who wait, and is not retained
        try:
            profile(-1)
        except KeyError as error:
            print(f"no user {error}")
    print(f"{calls.count(-1)} executions of the failing one")
    table.close()

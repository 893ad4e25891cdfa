"""Eight processes at once want the claim of a job that was killed. Prints how many got it, a line for each round.

python compete_for_claims.py STORE ROUNDS
"""

import multiprocessing
import sys
from pathlib import Path

from featlift.store.claims import Claims

JOBS = 8
fork = multiprocessing.get_context("fork")


def hold(store, ready):
    Claims(store).take("a")
    ready.wait()
    ready.wait()  # never: it is killed


def compete(store, ready, start, done, won):
    claims = Claims(store)
    ready.wait()
    start.wait()
    if claims.take("a"):
        with won:
            won.value += 1
    done.wait()  # alive until everybody has tried


def winners(store):
    held = fork.Barrier(2)
    holder = fork.Process(target=hold, args=(store, held))
    holder.start()
    held.wait()
    won, (ready, start, done) = fork.Value("i"), (fork.Barrier(JOBS + 1) for _ in range(3))
    jobs = [fork.Process(target=compete, args=(store, ready, start, done, won)) for _ in range(JOBS)]
    for job in jobs:
        job.start()
    ready.wait()
    holder.kill()
    holder.join()
    start.wait()
    done.wait()
    for job in jobs:
        job.join()
    return won.value


if __name__ == "__main__":
    for _ in range(int(sys.argv[2])):
        print(winners(Path(sys.argv[1])))

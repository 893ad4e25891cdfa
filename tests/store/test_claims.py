"""Jobs on one store share its volumes out, whatever becomes of them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from featlift.staging import this_process
from featlift.store import claims as module
from featlift.store.claims import Claims

HOLDER = "import sys, time\nfrom pathlib import Path\nfrom featlift.store.claims import Claims\n" + (
    "print(Claims(Path(sys.argv[1])).take('a'), flush=True)\ntime.sleep(600)"
)


@pytest.fixture
def store(tmp_path):
    (tmp_path / ".staging").mkdir()
    return tmp_path


def files(store):
    return list((store / ".staging").iterdir())


def claim_from_elsewhere(store, case_id="a", silent_for=0.0):
    """A claim as another machine leaves it."""
    others = set(files(store))
    with Claims(store) as claims:
        claims.take(case_id)
        (place,) = set(files(store)) - others
        content = {**json.loads(place.read_text()), "host": "elsewhere", "job": "another"}
    place.write_text(json.dumps(content))
    os.utime(place, (time.time() - silent_for,) * 2)
    return place


def test_a_case_is_one_jobs(store):
    with Claims(store) as one, Claims(store) as other:
        assert one.take("a")
        assert one.take("a")
        assert not other.take("a")
        assert other.take("b")
        one.release("a")
        assert other.take("a")
        assert (one.held, other.held) == (frozenset(), {"a", "b"})
    assert files(store) == []


def test_a_claim_says_whose_it_is(store):
    with Claims(store) as claims:
        claims.take("ct/" + 300 * "long")
        owner = json.loads(files(store)[0].read_text())
    assert (owner["pid"], owner["case"][:7]) == (os.getpid(), "ct/long")
    assert {"host", "since"} <= owner.keys()


def test_the_claim_of_a_killed_job_is_free_at_once(store):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, store], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "True\n"
    with Claims(store) as claims:
        assert not claims.take("a")
        assert list(claims.take_left(["a", "b"])) == ["b"]  # its process lives: no need to wait
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert claims.take("a")
    claim_from_elsewhere(store, silent_for=1000)
    Claims(store)
    assert files(store) == []  # the next job clears away what nobody will


def test_a_process_that_got_the_number_of_a_dead_one_does_not_hold_its_claims(store):
    """As the first process of a container that is started again: number 1, on a host of the same name."""
    place = claim_from_elsewhere(store)
    own = {**json.loads(place.read_text()), **asdict(this_process()), "job": "before"}
    with Claims(store) as claims:
        place.write_text(json.dumps(own))
        assert not claims.take("a")  # so far it is the claim of this very process
        place.write_text(json.dumps({**own, "started": "12-of-another-start"}))
        assert claims.take("a")


def test_a_claim_from_another_container_is_judged_by_its_age(store):
    """The number of its process says nothing here, whether or not there is a process of that number."""
    for pid in (os.getpid(), 2**22 - 1):
        place = claim_from_elsewhere(store)
        content = {**json.loads(place.read_text()), **asdict(this_process()), "pid": pid, "namespace": "1"}
        with Claims(store) as claims:
            place.write_text(json.dumps({**content, "job": "another"}))
            assert not claims.take("a")
            os.utime(place, (0, 0))
            assert claims.take("a")


def test_a_claim_of_before_is_judged_by_its_process_alone(store):
    place = claim_from_elsewhere(store)
    content = {**json.loads(place.read_text()), "host": this_process().host}
    del content["started"], content["namespace"]
    with Claims(store) as claims:
        place.write_text(json.dumps({**content, "pid": os.getpid()}))
        assert not claims.take("a")
        place.write_text(json.dumps({**content, "pid": 2**22 - 1}))
        assert claims.take("a")


@pytest.mark.skipif(
    subprocess.run(["unshare", "--pid", "--fork", "true"], capture_output=True, check=False).returncode != 0
    if shutil.which("unshare")
    else True,
    reason="no PID namespaces can be made here",
)
def test_a_restarted_container_takes_its_own_volumes_up_again(store):
    """Two real processes, each number 1 of a namespace of its own: the first is killed, the second waits it out."""
    command = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable, "-c"]
    first = subprocess.Popen([*command, HOLDER, store], stdout=subprocess.PIPE, text=True)
    assert first.stdout.readline() == "True\n"
    assert json.loads(files(store)[0].read_text())["pid"] == 1
    first.kill()
    first.wait()
    again = "import sys\nfrom featlift.store import claims\nclaims.SILENCE = 3.0\n" + (
        "print(list(claims.Claims(sys.argv[1]).take_left(['a'])), flush=True)"
    )
    done = subprocess.run([*command, again, store], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "['a']\n", done.stderr


def test_one_job_gets_the_claim_of_a_killed_one(store):
    command = [sys.executable, Path(__file__).with_name("compete_for_claims.py"), store, "20"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["1"] * 20, done.stderr


def test_another_machines_claim_holds_while_it_is_touched(store):
    place = claim_from_elsewhere(store, silent_for=module.SILENCE - 30)
    with Claims(store) as claims:
        assert not claims.take("a")
        os.utime(place, (time.time() - module.SILENCE - 30,) * 2)
        assert claims.take("a")


def test_what_is_left_is_waited_for_until_it_is_known_who_lives(store, monkeypatch):
    monkeypatch.setattr(module, "SILENCE", 3.0)
    claim_from_elsewhere(store, "dead")
    living = claim_from_elsewhere(store, "living")
    over = threading.Event()

    def beat():
        while not over.wait(0.3):
            os.utime(living)

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        with Claims(store) as claims:
            assert list(claims.take_left(["dead", "living", "free"])) == ["free", "dead"]
    finally:
        over.set()
        beating.join()


def test_a_living_job_touches_its_claims(store, monkeypatch):
    monkeypatch.setattr(module, "BEAT", 0.05)
    with Claims(store) as claims:
        claims.take("a")
        (place,) = files(store)
        os.utime(place, (0, 0))
        deadline = time.monotonic() + 30
        while place.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert place.stat().st_mtime > 0


def test_a_stolen_claim_is_not_given_back_by_its_first_owner(store):
    with Claims(store) as slept, Claims(store) as thief:
        slept.take("a")
        os.utime(files(store)[0], (0, 0))
        assert thief.take("a")
        slept.release("a")
        assert not slept.take("a")


def test_work_goes_on_where_nothing_can_be_claimed(store):
    (store / ".staging").rmdir()
    (store / ".staging").write_text("")  # whatever is done there fails
    with Claims(store) as claims:
        assert claims.take("a")
        assert list(claims.take_left(["a", "b"])) == ["a", "b"]
        assert claims.held == frozenset()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"host": 3, "pid": "x"}'])
def test_a_claim_that_says_nothing_is_judged_by_its_age(store, content):
    place = claim_from_elsewhere(store)
    place.write_bytes(content)
    with Claims(store) as claims:
        assert not claims.take("a")
        os.utime(place, (0, 0))
        assert claims.take("a")


def test_turns(store):
    inside = []

    def take_turn(number):
        with Claims(store) as claims, claims.turn("/index"):
            inside.append(number)
            time.sleep(0.05)
            assert inside.pop() == number

    threads = [threading.Thread(target=take_turn, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (inside, files(store)) == ([], [])

"""Who meets whom, from a CSV: pairs, or cases that are paired at random."""

import numpy as np
import pytest

from featlift.errors import FeatliftError, InputError, OptionError
from featlift.registration.network.who import moving_of, pairing_of

IDS = [f"c{number}" for number in range(10)]


@pytest.fixture
def listed(tmp_path):
    def write(text):
        path = tmp_path / "pairs.csv"
        path.write_text(text)
        return path

    return write


def test_given_pairs_train_both_ways(listed):
    pairs = "fixed,moving,split\nc0,c1,train\nc1,c0,train\nc2,c0,train\nc3,c4,val\nc5,c6,test\n"
    found = pairing_of(listed(pairs), IDS)
    assert found.train == [("c0", "c1"), ("c1", "c0"), ("c2", "c0"), ("c0", "c2")]
    assert found.val == [("c3", "c4")]
    assert found.cases == ["c0", "c1", "c2", "c3", "c4"], "no case of the test"


def test_cases_meet_at_random(listed):
    text = "id,split\n" + "".join(f"c{number},{'train' if number < 4 else 'val'}\n" for number in range(7))
    found = pairing_of(listed(text), IDS)
    assert found.val == [("c4", "c5"), ("c5", "c6"), ("c6", "c4")]
    assert found.training_cases == ["c0", "c1", "c2", "c3"]
    drawn = {
        index: {moving_of(found.train, index, np.random.default_rng([0, number, index])) for number in range(40)}
        for index in range(4)
    }
    for index, pairs in drawn.items():
        assert {fixed for fixed, _ in pairs} == {f"c{index}"}
        assert {moving for _, moving in pairs} == {f"c{other}" for other in range(4) if other != index}


def test_patients_stay_together(listed):
    text = "id,split,patient\n" + "".join(f"c{number},train,p{number // 2}\n" for number in range(10))
    found = pairing_of(listed(text), IDS)
    (one, other), *_ = found.val
    assert int(one[1:]) // 2 == int(other[1:]) // 2
    assert not {one, other} & set(found.training_cases)


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("fixed,moving,split\nc0,c1,train\n", OptionError, "no pair has the split val"),
        ("fixed,moving,split\nc0,c1,train\nc1,c2,val\n", OptionError, "c1 is in pairs of two splits"),
        ("fixed,moving,split\nc0,c1,train\nc2,c3,val\nc1,c5,test\n", OptionError, "c1 is in pairs of two splits"),
        ("fixed,moving,split\nc0,c1,train\nc2,x9,val\n", InputError, "line 3: there is no case 'x9'"),
        ("name,split\nc0,train\n", InputError, "fixed,moving,split, or with id,split"),
        ("id\nc0\nc1\n", InputError, "no column split"),
        ("id,split\nc0,train\nc1,train\nc2,val\n", OptionError, "2 cases train, 1 validate"),
    ],
)
def test_nobody_to_train_on(listed, text, kind, message):
    with pytest.raises(FeatliftError, match=message) as caught:
        pairing_of(listed(text), IDS)
    assert isinstance(caught.value, kind)


def test_an_atlas_may_be_in_all_splits(listed):
    found = pairing_of(listed("fixed,moving,split\nc0,c1,train\nc0,c2,val\nc0,c3,test\n"), IDS)
    assert found.val == [("c0", "c2")]

"""Planes in batches: whatever fits gives the same features, and memory that runs out corrupts none."""

import pytest
import torch
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from featlift import lift
from featlift.backbones.footprint import PeakMemory
from featlift.errors import FeatliftError, LiftingMemoryError
from featlift.lifting.batches import cut, evenly
from tests.support.networks import load_backbone

CPU = "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory"
OUT_OF_MEMORY = {"device": torch.OutOfMemoryError("CUDA out of memory."), "host": RuntimeError(CPU)}


@pytest.mark.parametrize("volumes", [1, 2, 5])
@pytest.mark.parametrize("planes", [1, 3, 4])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 100])
def test_every_plane_is_cut_out_once(volumes, planes, size):
    seen = torch.zeros(volumes, planes)
    done = 0
    while done < seen.numel():
        where = cut(done, volumes, planes, size)
        assert seen[where].numel() <= size
        seen[where] += 1
        done += seen[where].numel()
    assert torch.equal(seen, torch.ones_like(seen))


@pytest.mark.parametrize(
    ("planes", "most", "size"),
    [(32, 6, 4), (300, 64, 60), (211, 64, 64), (7, 64, 64), (32, 1, 1), (9, 5, 3), (10, 5, 5)],
)
def test_batches_on_an_accelerator_are_of_one_shape_where_that_costs_little(planes, most, size):
    assert evenly(planes, most) == size


@pytest.fixture
def exhausted(monkeypatch):
    """Make a backbone run out of memory in some of its calls with several planes, when the work is done already."""

    def arrange(backbone, failing, error, single=False):
        run_block, sizes, several = type(backbone).run_block, [], []

        def run(index, planes, tokens, rope):
            sizes.append(len(planes))
            results = run_block(backbone, index, planes, tokens, rope)
            if len(planes) > 1 or single:
                several.append(len(planes))
                if len(several) - 1 in failing:
                    raise error
            return results

        monkeypatch.setattr(backbone, "run_block", run)
        return sizes

    return arrange


@pytest.mark.parametrize("name", ["tiny_vit", "lite0", "golden_backbone"])
@pytest.mark.parametrize("kind", OUT_OF_MEMORY)
@pytest.mark.parametrize("mode", ["2d", "pcg", "pcm"])
def test_planes_that_failed_run_again_and_no_others(request, exhausted, name, kind, mode):
    backbone = request.getfixturevalue(name)
    volume = torch.rand(2, 1, 5, 2 * backbone.stride, 4 * backbone.stride)
    calls = exhausted(backbone, (), None)
    want = lift(backbone, mode, layers=(0, -1), plane_batch=4)(volume)
    for n in range(4):
        sizes = exhausted(backbone, {n, n + 2}, OUT_OF_MEMORY[kind])
        got = lift(backbone, mode, layers=(0, -1), plane_batch=4)(volume)
        assert len(sizes) > len(calls)
        for index, layer in got.layers.items():
            assert_close(layer.dense, want.layers[index].dense, atol=5e-5, rtol=1e-5)
            assert_close(layer.tokens, want.layers[index].tokens, atol=5e-5, rtol=1e-5)


def test_a_failed_batch_is_halved_and_later_ones_stay_small(golden_backbone, exhausted):
    sizes = exhausted(golden_backbone, {1}, OUT_OF_MEMORY["device"])
    lift(golden_backbone, "2d", layers=(0,), plane_batch=4)(torch.rand(1, 1, 13, 32, 32))
    assert sizes == [4, 4, 2, 2, 2, 2, 1]


def test_memory_that_runs_out_for_the_results_is_asked_for_before_any_is_written(golden_backbone, monkeypatch):
    """The first batch takes the memory for all tokens: failing there must not leave its planes half done."""
    volume = torch.rand(1, 1, 4, 32, 48)
    want = lift(golden_backbone)(volume)
    empty, calls = torch.empty, []

    def scarce(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return empty(*arguments, **options)

    monkeypatch.setattr(torch, "empty", scarce)
    got = lift(golden_backbone, plane_batch=2)(volume)
    assert len(calls) > 4
    assert_close(got.dense, want.dense, atol=5e-5, rtol=1e-5)
    assert_close(got.tokens, want.tokens, atol=5e-5, rtol=1e-5)


def test_a_single_plane_that_does_not_fit_says_what_would_help(golden_backbone, exhausted):
    exhausted(golden_backbone, range(1000), OUT_OF_MEMORY["device"], single=True)
    with pytest.raises(LiftingMemoryError, match=r"needs about [\d.]+ MiB .* cpu has [\d,.]+ MiB free: .*--offload"):
        lift(golden_backbone)(torch.rand(1, 1, 3, 32, 32))
    assert issubclass(LiftingMemoryError, FeatliftError)
    assert issubclass(LiftingMemoryError, MemoryError)


def test_other_errors_are_not_taken_for_a_lack_of_memory(golden_backbone, exhausted):
    sizes = exhausted(golden_backbone, {0}, RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        lift(golden_backbone)(torch.rand(1, 1, 3, 32, 32))
    assert len(sizes) == 1


def test_memory_decides_how_many_planes_run_together(golden_backbone, exhausted):
    sizes = exhausted(golden_backbone, (), None)
    volume = torch.rand(1, 1, 24, 64, 64)
    want = lift(golden_backbone, "2d")(volume)
    largest = {}
    for memory in ("200KB", "400KB", "2MB"):
        sizes.clear()
        got = lift(golden_backbone, "2d", memory=memory)(volume)
        largest[memory] = max(sizes)
        assert_close(got.dense, want.dense, atol=5e-5, rtol=1e-5)
    assert 1 <= largest["200KB"] < largest["400KB"] < largest["2MB"] <= 24
    assert largest["400KB"] // 2 == largest["200KB"]


def test_a_memory_below_one_plane_is_refused_with_what_it_takes(golden_backbone):
    volume = torch.rand(1, 1, 24, 64, 64)
    with pytest.raises(LiftingMemoryError, match=r"needs about 0\.1\d MiB .*--memory allows 0\.01 MiB: give"):
        lift(golden_backbone, memory="10KB")(volume)


def test_a_host_without_memory_for_one_plane_is_not_tried(golden_backbone, exhausted, monkeypatch):
    """Its kernel would end the process."""
    sizes = exhausted(golden_backbone, (), None)
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "1")
    with pytest.raises(LiftingMemoryError, match="one plane needs"):
        lift(golden_backbone)(torch.rand(1, 1, 3, 32, 32))
    assert not sizes
    lift(golden_backbone, plane_batch=1)(torch.rand(1, 1, 3, 32, 32))  # whoever says how many knows better
    assert sizes


def test_features_in_host_memory_are_the_same(golden_backbone):
    volume = torch.rand(2, 1, 5, 32, 48)
    want = lift(golden_backbone, layers=(2, -1))(volume)
    got = lift(golden_backbone, layers=(2, -1), offload=True, plane_batch=2)(volume)
    for index, layer in got.layers.items():
        assert_close(layer.dense, want.layers[index].dense, atol=5e-5, rtol=1e-5)
        assert_close(layer.tokens, want.layers[index].tokens, atol=5e-5, rtol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_offloaded_features_are_never_on_the_device():
    backbone = load_backbone("vits16", "random:0", depth=3, init_values=0.5)
    volume = torch.rand(1, 1, 64, 512, 512)
    want = lift(backbone)(volume).dense
    backbone.cuda()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    got = lift(backbone, offload=True, memory="48MiB")(volume).dense
    assert got.device.type == "cpu"
    assert torch.cuda.max_memory_allocated() - before < want.nbytes
    assert torch.cosine_similarity(got, want, dim=1).min() > 0.999


@pytest.mark.parametrize("mode", ["2d", "pcg", "pcm"])
def test_nothing_but_the_features_grows_with_the_volume(mode):
    """Peak memory stays below 1.2 feature volumes and the memory asked for, weights and input aside."""
    backbone = load_backbone("vits16", "random:0", depth=3, init_values=0.5)
    for depth in (8, 32):
        volume = torch.rand(1, 1, depth, 256, 256)
        with torch.no_grad(), PeakMemory() as memory:
            features = lift(backbone, mode, memory="12MB")(volume)
        assert memory.peak < 1.2 * features.dense.nbytes + 12e6


def test_planes_are_copied_once_on_their_way_in_and_once_back(golden_backbone, monkeypatch):
    """Into one sequence with their tokens, and to where they came from: lifting itself moves nothing else."""
    monkeypatch.setattr(golden_backbone, "blocks", [lambda sequence, rope: sequence] * 6)
    volume = torch.rand(1, 1, 16, 160, 160)

    class Copies(TorchDispatchMode):
        copied = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if func.overloadpacket in (torch.ops.aten.copy_, torch.ops.aten.clone, torch.ops.aten.cat):
                self.copied += result.numel()
            return result

    def copied(blocks):
        lifted = lift(golden_backbone, layers=(blocks - 1,), norm=False)
        with torch.no_grad(), Copies() as copies:
            lifted(volume)
        return copies.copied

    patch_tokens = 16 * 10 * 10 * 128
    assert copied(4) - copied(1) < 3 * 2 * 1.15 * patch_tokens  # blocks in DW, DH and HW; the rest is global tokens

"""Which attention kernels are asked for, by GPU, type and length."""

import pytest
import torch
from torch.nn.attention import SDPBackend

from featlift.lifting.attention import attention_order, best_attention

HOPPER, AMPERE = (9, 0), (8, 0)


@pytest.mark.parametrize(
    ("capability", "dtype", "length", "first"),
    [
        (HOPPER, torch.bfloat16, 9600, SDPBackend.CUDNN_ATTENTION),
        (HOPPER, torch.float16, 1029, SDPBackend.FLASH_ATTENTION),
        (HOPPER, torch.bfloat16, 21, SDPBackend.EFFICIENT_ATTENTION),
        (HOPPER, torch.float32, 9600, None),
        (AMPERE, torch.bfloat16, 9600, None),
    ],
)
def test_order(capability, dtype, length, first):
    order = attention_order(capability, dtype, length)
    assert (order[0] if order else None) == first
    assert order is None or set(order) >= {SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH}  # none is left without


def test_a_cpu_keeps_its_own():
    q = torch.rand(1, 2, 600, 64)
    want = torch.nn.functional.scaled_dot_product_attention(q, q, q)
    with best_attention(torch.device("cpu"), torch.float32, 600):
        assert torch.equal(torch.nn.functional.scaled_dot_product_attention(q, q, q), want)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("length", [21, 600, 5000])
def test_a_gpu_gives_the_same_attention(length):
    q, k, v = (torch.randn(2, 6, length, 64, device="cuda", dtype=torch.bfloat16) for _ in range(3))
    want = torch.nn.functional.scaled_dot_product_attention(q.float(), k.float(), v.float())
    with best_attention(q.device, q.dtype, length):
        got = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    assert torch.cosine_similarity(got.float(), want, dim=-1).min() > 0.999

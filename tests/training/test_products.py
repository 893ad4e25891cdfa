"""Gradients of products in bfloat16 are those of float32, to the precision that bfloat16 has."""

import pytest
import torch
from torch import nn

from featlift.training.precision import products_in_bf16


@pytest.mark.parametrize("slices", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("kernel", [(3, 3, 3), (5, 5, 5), (3, 1, 1), (1, 3, 3)])
def test_of_convolutions_over_few_slices(kernel, slices):
    torch.manual_seed(0)
    padding = tuple(size // 2 for size in kernel)
    network = nn.Conv3d(16, 8, kernel, padding=padding)
    volume, wanted = torch.randn(2, 16, slices, 6, 6), torch.randn(2, 8, slices, 6, 6)
    found = []
    for bf16 in (False, True):
        network.zero_grad()
        with products_in_bf16(torch.device("cpu"), bf16):
            outputs = network(volume)
        (outputs.float() * wanted).sum().backward()
        found.append([value.grad.clone() for value in network.parameters()])
    for whole, half in zip(*found, strict=True):
        assert (whole - half).norm() < 0.05 * whole.norm()


def test_they_are_in_bfloat16_elsewhere():
    volume = torch.randn(1, 4, 3, 6, 6)
    with products_in_bf16(torch.device("cpu")):
        assert nn.Conv3d(4, 4, 3, padding=1)(volume).dtype == torch.bfloat16
    with products_in_bf16(torch.device("cpu"), False):
        assert nn.Conv3d(4, 4, 3, padding=1)(volume).dtype == torch.float32

"""Tiny networks of every family, as timm itself builds them, with weights of which each one matters."""

import torch
from safetensors.torch import save_file

from featlift.backbones.torchvision_guard import import_timm

TINY = {"embed_dim": 48, "depth": 3, "num_heads": 3}


def build(name, **arguments):
    """timm's own model, classifier included, in evaluation mode and randomised."""
    net = import_timm().create_model(name, **arguments).eval()
    randomise(net)
    return net


def randomise(net):
    """Give values that matter to what starts as zero, one or nearly nothing: biases, norms, LayerScale, tokens."""
    with torch.no_grad():
        for name, value in net.named_parameters():
            if value.ndim == 1 or "token" in name or "pos_embed" in name:
                value.normal_(1.0 if value.ndim == 1 and not name.endswith("bias") else 0.0, 0.2)
        for name, value in net.named_buffers():
            if name.endswith("running_mean"):
                value.normal_(0.0, 0.2)
            elif name.endswith("running_var"):
                value.uniform_(0.5, 1.5)


def save(state, path):
    """Write a state dict as safetensors."""
    save_file({key: value.contiguous() for key, value in state.items()}, path)
    return path


def says(refusal, *words):
    """Whether an error is one line that holds all of `words`."""
    message = str(refusal.value)
    return "\n" not in message and all(str(word) in message for word in words)

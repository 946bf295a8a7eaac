from __future__ import annotations

import collections
import json
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn.utils import prune as torch_prune

from sparsity_roofline.bench.matrices import open_collection, prune, read_matrix
from sparsity_roofline.bench.matrices.checkpoint import Checkpoint
from sparsity_roofline.model.errors import UserError


def state() -> dict[str, torch.Tensor]:
    """Weights of every kind: 2:4, block, unstructured, dense, convolution, half precision, and what is no weight."""
    torch.manual_seed(0)
    weight = torch.randn(64, 32)
    sparse = {p: torch.from_numpy(prune(weight.numpy(), p, s).to_dense()) for p, s in PRUNED.items()}
    return {
        "two_four.weight": sparse["2:4"],
        "block.weight": sparse["block16x16"].to(torch.bfloat16),
        "free.weight": sparse["unstructured"].half(),
        "dense.weight": weight.double(),
        "conv.weight": torch.randn(8, 4, 3, 3),
        "conv.bias": torch.randn(8),
        "pos_embed": torch.randn(1, 4, 8),
        "index.weight": torch.ones(4, 4, dtype=torch.int64),
        "none.weight": torch.zeros(0, 4),
        "steps": torch.tensor(3),
    }


PRUNED: dict[str, float | None] = {"2:4": None, "block16x16": 0.75, "unstructured": 0.8}
EXPECTED = {
    "two_four": ("2:4", 64, 32, 1024),
    "block": ("block16x16", 64, 32, 512),
    "free": ("unstructured", 64, 32, 410),
    "dense": ("dense", 64, 32, 2048),
    "conv": ("dense", 8, 36, 288),
}


def check(collection: Any) -> None:
    """The collection holds ``state()``."""
    infos = {info.name: info for info in collection.infos()}
    assert {n: (str(i.pattern), i.rows, i.cols, i.nnz) for n, i in infos.items()} == EXPECTED
    assert not any(info.synthetic for info in infos.values())
    for name, tensor in state().items():
        if name.removesuffix(".weight") in EXPECTED:
            matrix = collection.load(name)  # the tensor's name is as good as the layer's
            assert matrix.name == name.removesuffix(".weight")
            assert np.array_equal(matrix.to_dense(), tensor.float().reshape(len(tensor), -1).numpy())
            assert matrix.pattern == infos[matrix.name].pattern
            assert not matrix.seeded_values
            assert np.array_equal(matrix.dense_operand(), matrix.to_dense())


@pytest.mark.parametrize("scheme", ["", "checkpoint:"])
def test_safetensors(tmp_path: Path, scheme: str) -> None:
    save_file(state(), tmp_path / "net.safetensors")
    collection = open_collection(f"{scheme}{tmp_path / 'net.safetensors'}")
    assert collection.label == "net"
    check(collection)
    check(open_collection(collection.uri))  # the second time from the cached counts


@pytest.mark.parametrize("nested", ["", "state_dict", "model"])
@pytest.mark.parametrize("new_format", [True, False], ids=["zip", "legacy"])
def test_torch_files(tmp_path: Path, nested: str, new_format: bool) -> None:
    tensors: dict[str, Any] = collections.OrderedDict(state())
    tensors = {nested: tensors, "epoch": 3, "args": {"lr": 0.1}} if nested else tensors
    torch.save(tensors, tmp_path / "net.pth", _use_new_zipfile_serialization=new_format)
    collection = open_collection(f"checkpoint:{tmp_path / 'net.pth'}")
    names = {info.name: info for info in collection.infos()}
    prefix = f"{nested}." if nested else ""
    assert set(names) == {prefix + name for name in EXPECTED}
    if not nested:
        check(collection)


def test_shards_of_a_directory(tmp_path: Path) -> None:
    tensors = state()
    keys = list(tensors)
    save_file({key: tensors[key] for key in keys[:3]}, tmp_path / "model-00001-of-00002.safetensors")
    save_file({key: tensors[key] for key in keys[3:]}, tmp_path / "model-00002-of-00002.safetensors")
    (tmp_path / "config.json").write_text("{}")
    check(open_collection(str(tmp_path)))
    save_file({keys[0]: tensors[keys[0]]}, tmp_path / "model-00003-of-00002.safetensors")
    with pytest.raises(UserError, match="two_four is also in"):
        open_collection(str(tmp_path))


def test_saved_prune_masks_are_used(tmp_path: Path) -> None:
    layer = torch.nn.Linear(16, 8)
    with torch.no_grad():
        layer.weight[0, 0] = 100.0
    torch_prune.l1_unstructured(layer, "weight", amount=0.75)
    torch.save(layer.state_dict(), tmp_path / "net.pt")
    matrix = open_collection(str(tmp_path / "net.pt")).load("weight")
    assert matrix.nnz == 32
    assert np.array_equal(matrix.to_dense(), layer.weight.detach().numpy())
    assert np.array_equal(matrix.dense_operand(), layer.weight_orig.detach().numpy())


def test_real_weights_are_pruned_as_they_are(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "net.safetensors")
    collection = open_collection(str(tmp_path / "net.safetensors"), prune=["block8x8", "2:4"], sparsities=[0.75])
    infos = {info.name: info for info in collection.infos()}
    assert not any(info.synthetic for info in infos.values())
    matrix = collection.load("net/dense@block8x8@0.75")
    weight = state()["dense.weight"].float().numpy()
    assert not matrix.synthetic
    assert matrix.digest == prune(weight, "block8x8", 0.75).digest
    assert np.array_equal(matrix.dense_operand(), weight)
    with pytest.raises(UserError, match="dense, so there is no sparsity"):
        open_collection(str(tmp_path / "net.safetensors"), prune=["unstructured"])


class Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        import os

        return (os.system, (f"touch {self.marker}",))


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("new_format", [True, False])
def test_a_pickle_that_runs_code_is_refused_and_not_run(tmp_path: Path, nested: bool, new_format: bool) -> None:
    marker, evil = tmp_path / "executed", Evil(tmp_path / "executed")
    content = {"w.weight": torch.ones(2, 2), "x": evil} if nested else evil
    torch.save(content, tmp_path / "evil.pt", _use_new_zipfile_serialization=new_format)
    for open_it in (
        lambda: open_collection(f"checkpoint:{tmp_path / 'evil.pt'}"),
        lambda: read_matrix(tmp_path / "evil.pt"),
    ):
        with pytest.raises(UserError, match=r"refused: it refers to posix\.system") as caught:
            open_it()
        assert "\n" not in str(caught.value)
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(evil))
    with pytest.raises(UserError, match=r"refused|not loadable"):
        open_collection(f"checkpoint:{tmp_path / 'raw.pt'}")
    assert not marker.exists()


def test_a_whole_module_is_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(UserError, match=r"refers to torch\.nn\.modules\.linear\.Linear"):
        open_collection(f"checkpoint:{tmp_path / 'module.pt'}")


def test_a_shape_larger_than_its_storage_is_refused(tmp_path: Path) -> None:
    huge = torch.ones(1).expand(1 << 20, 1 << 20)
    torch.save({"w.weight": huge}, tmp_path / "huge.pt")
    with pytest.raises(UserError, match="larger than its stored data"):
        open_collection(f"checkpoint:{tmp_path / 'huge.pt'}")


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt", "a.pth"])
@pytest.mark.parametrize(
    "content", [b"", b"x", b"\xff" * 100, b"\x08\0\0\0\0\0\0\0{}      ", b"PK\x03\x04" + b"\0" * 60]
)
def test_garbage(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        open_collection(f"checkpoint:{tmp_path / name}")
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_truncated_checkpoints(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "net.safetensors")
    torch.save(state(), tmp_path / "net.pt")
    for name in ("net.safetensors", "net.pt"):
        data = (tmp_path / name).read_bytes()
        for share in (0.01, 0.3, 0.9, 0.999):
            (tmp_path / f"cut-{name}").write_bytes(data[: int(len(data) * share)])
            with pytest.raises(UserError, match="cut-net"):
                open_collection(f"checkpoint:{tmp_path / f'cut-{name}'}")


def test_a_safetensors_header_that_lies(tmp_path: Path) -> None:
    header = json.dumps({"w.weight": {"dtype": "F32", "shape": [1 << 20, 1 << 20], "data_offsets": [0, 16]}}).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 16)
    with pytest.raises(UserError, match="not a valid safetensors file"):
        open_collection(str(tmp_path / "a.safetensors"))
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", 1 << 62) + header)
    with pytest.raises(UserError, match="not a valid safetensors file"):
        open_collection(str(tmp_path / "a.safetensors"))


def test_no_weights_and_bad_values(tmp_path: Path) -> None:
    save_file({"bias": torch.ones(3)}, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="no weight matrix"):
        open_collection(str(tmp_path / "a.safetensors"))
    save_file({"w.weight": torch.tensor([[1.0, float("inf")]])}, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"a\.safetensors:w\.weight: value 1 is inf"):
        open_collection(str(tmp_path / "a.safetensors")).infos()
    with pytest.raises(UserError, match="no weight 'v'"):
        Checkpoint(tmp_path / "a.safetensors").load("v")
    save_file({"w.weight": torch.ones(2, 2), "w.weight_mask": torch.ones(4, 2)}, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"its mask has shape \(4, 2\)"):
        Checkpoint(tmp_path / "a.safetensors").load("w")


def test_one_weight_of_many_as_a_file(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "net.safetensors")
    assert read_matrix(tmp_path / "net.safetensors", tensor="conv.weight").shape == (8, 36)
    with pytest.raises(UserError, match="which weight is meant"):
        read_matrix(tmp_path / "net.safetensors")
    with pytest.raises(UserError, match="no weight 'x'"):
        read_matrix(tmp_path / "net.safetensors", tensor="x")


def test_a_cache_that_cannot_be_written_is_no_hindrance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPARSITY_ROOFLINE_HOME", str(tmp_path / "file"))
    save_file(state(), tmp_path / "net.safetensors")
    check(open_collection(str(tmp_path / "net.safetensors")))


def test_nobody_is_told_to_allow_code(tmp_path: Path) -> None:
    """torch's message advises loading without weights_only; ours must not pass that on."""
    path = tmp_path / "w.pt"
    path.write_bytes(pickle.dumps({"a": collections.deque([1])}, protocol=4))
    with pytest.raises(UserError) as caught:
        open_collection(str(path))
    assert "weights_only" not in str(caught.value)
    assert "\n" not in str(caught.value)

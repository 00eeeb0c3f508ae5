"""Files of ``torch.save`` are read without PyTorch, and without running anything that is in them."""

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import assert_sentence

from minispike.checkpoint import load_weights, save_tensors
from minispike.errors import CheckpointError
from minispike.models.spikebert import SpikeBERT
from minispike.models.spikebert_config import SpikeBERTConfig
from minispike.torch_file import load_torch

FILES = Path(__file__).parent / "fixtures"


def test_every_type_and_view() -> None:
    tensors = load_torch(FILES / "torch_table.pt")
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    expected: dict[str, Any] = {
        "float32": base,
        "part": base[1:3, 2:5],
        "transposed": base.T,
        "float64": np.array([1.5, -2.0]),
        "float16": np.array([0.5, 65504.0], np.float16),
        "bfloat16": np.array([1.0, -3.140625, 9.9692e37], np.float32),
        "int64": np.array([[2**40], [-1]]),
        "int32": np.array([7], np.int32),
        "int16": np.array([-7], np.int16),
        "int8": np.array([-8], np.int8),
        "uint8": np.array([200], np.uint8),
        "bool": np.array([True, False]),
        "number": np.array(3.5, np.float32),
        "empty": np.zeros((0, 3), np.float32),
        "parameter": np.ones(2, np.float32),
    }
    assert list(tensors) == list(expected)
    for name, array in expected.items():
        assert tensors[name].dtype == array.dtype and tensors[name].shape == array.shape, name
        np.testing.assert_allclose(tensors[name], array, rtol=1e-5 if name == "bfloat16" else 0, err_msg=name)
        assert not tensors[name].flags.writeable or not tensors[name].size
    assert np.shares_memory(tensors["part"], tensors["float32"])


def test_a_state_dict() -> None:
    tensors = load_weights(FILES / "torch_module.pt")
    assert {name: a.shape for name, a in tensors.items()} == {"weight": (2, 3), "bias": (2,)}


def test_a_checkpoint_of_the_authors_program() -> None:
    model = SpikeBERT(SpikeBERTConfig.reference(7, 4, 1, 2, 2))
    model.load_reference(FILES / "torch_reference.pt")
    tensors = load_torch(FILES / "torch_reference.pt")
    np.testing.assert_array_equal(model.blocks[0].mlp.hidden.norm.bias.numpy(), tensors["module.blocks.0.mlp.ln1.bias"])
    np.testing.assert_array_equal(model.classifier.weight.numpy(), tensors["module.classifier.weight"])
    other = SpikeBERT(SpikeBERTConfig.reference(7, 4, 2, 2, 2))
    with pytest.raises(CheckpointError, match=r"blocks\.1\."):
        other.load_reference(FILES / "torch_reference.pt")


def test_either_kind_of_file(tmp_path: Path) -> None:
    save_tensors(tmp_path / "a.pt", {"x": np.ones(2)})  # whatever it is called
    np.testing.assert_array_equal(load_weights(tmp_path / "a.pt")["x"], np.ones(2))
    with pytest.raises(CheckpointError, match="expected a file, got none"):
        load_weights(tmp_path / "b.pt")


@pytest.mark.parametrize(
    ("name", "got"),
    [
        ("torch_nested.pt", "got 'model' with a dict"),
        ("torch_whole.pt", "got something that needs torch.nn.modules.linear.Linear"),
        ("torch_old.pt", "got File is not a zip file"),
    ],
)
def test_refuses_what_is_no_plain_table(name: str, got: str) -> None:
    with pytest.raises(CheckpointError, match=got) as caught:
        load_weights(FILES / name)
    assert_sentence(caught.value)


class Runs:
    """Pickled, it makes whoever unpickles it call a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def archive(path: Path, table: Any, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", table if isinstance(table, bytes) else pickle.dumps(table, protocol=2))
        for name, content in members.items():
            file.writestr(f"archive/data/{name}", content)
    return path


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_runs_nothing(tmp_path: Path, protocol: int) -> None:
    left = tmp_path / "left"
    for call in (Runs(Path.touch, left), Runs(exec, f"open({str(left)!r}, 'w')"), Runs(__import__, "os")):
        bad = archive(tmp_path / "bad.pt", pickle.dumps({"x": call}, protocol=protocol))
        with pytest.raises(CheckpointError, match="something that needs") as caught:
            load_torch(bad)
        assert_sentence(caught.value)
    assert not left.exists()


STORAGE = b"ctorch\nFloatStorage\n"


def described(count: int, offset: int, shape: str, strides: str, key: bytes = b"0") -> bytes:
    """A table of one float tensor, as a pickle of protocol 0."""
    storage = b"(V" + b"storage\n" + STORAGE + b"V" + key + b"\nVcpu\nI%d\ntQ" % count
    rest = f"I{offset}\n{shape}{strides}".encode() + b"I00\nNtR"
    return b"}Vx\nctorch._utils\n_rebuild_tensor_v2\n(" + storage + rest + b"s."


@pytest.mark.parametrize(
    ("table", "got"),
    [
        (described(4, 0, "(I2\nI2\nt", "(I2\nI1\nt", b"9"), "no member archive/data/9"),
        (described(5, 0, "(I2\nI2\nt", "(I2\nI1\nt"), "fewer than 5 numbers"),
        (described(4, 1, "(I2\nI2\nt", "(I2\nI1\nt"), "ends behind its 4 numbers"),
        (described(4, 0, "(I9999999\nI9999999\nt", "(I0\nI0\nt"), "ends behind its 4 numbers"),
        (described(4, 0, "(I2\nI2\nt", "(I-2\nI1\nt"), "an impossible shape, stride or offset"),
        (described(4, 0, "(I2\nt", "(I2\nI1\nt"), "strides"),
        (described(4, -1, "(I2\nt", "(I1\nt"), "an impossible shape, stride or offset"),
        (pickle.dumps([1.0], protocol=2), "a list"),
        (pickle.dumps({"x": 1.0}, protocol=2), "'x' with a float"),
        (pickle.dumps(OrderedDict({1: 2}), protocol=2), "a int for a name"),
        (b"}Vx\n", "exhausted before seeing STOP"),
        (b"", "exhausted before seeing STOP"),
        (b"}bb.", "a description that takes more"),
        (b"(I1\nI2\ns.", "entries without a table"),
        (b"g5\n.", "KeyError"),
        (b"\x80\x02}" + b")" + b"\x85" * 100_000 + b"Ns.", "a tuple for a name"),
        (described(4, 0, f"(I{2**70}\nt", "(I1\nt"), "more than 62 bits"),
        (described(4, 0, "(" + "I1\n" * 100 + "t", "(" + "I1\n" * 100 + "t"), ""),
        (described(-1, 0, "(I4\nt", "(I1\nt"), "no storage"),
    ],
)
def test_refuses_damaged_tables(tmp_path: Path, table: bytes, got: str) -> None:
    bad = archive(tmp_path / "bad.pt", table, **{"0": np.arange(4, dtype="<f4").tobytes()})
    with pytest.raises(CheckpointError) as caught:
        load_torch(bad)
    assert got in str(caught.value)
    assert_sentence(caught.value)


@pytest.mark.parametrize(
    "state",
    [
        b"}Voffset\nI-4000\ns", b"}Vstrides\n(I-100\nts", b"(NI-1\n(I4\nt(I-100\ntt", b"]", b"N",
    ],
)  # fmt: skip
def test_a_tensor_cannot_be_changed_after_it_was_described(tmp_path: Path, state: bytes) -> None:
    """The instruction BUILD hands an object a state, which it may take over without a look."""
    table = described(4, 0, "(I4\nt", "(I1\nt").removesuffix(b"s.") + state + b"bs."
    file = archive(tmp_path / "a.pt", table, **{"0": np.arange(4, dtype="<f4").tobytes()})
    np.testing.assert_array_equal(load_torch(file)["x"], [0.0, 1.0, 2.0, 3.0])


def test_nothing_is_kept_from_one_file_to_the_next(tmp_path: Path) -> None:
    content = {"0": np.arange(4, dtype="<f4").tobytes()}
    poison = archive(tmp_path / "bad.pt", b"}Vx\n" + STORAGE + b"}Vname\nVIntStorage\nsbs.", **content)
    with pytest.raises(CheckpointError):
        load_torch(poison)
    good = archive(tmp_path / "good.pt", described(4, 0, "(I4\nt", "(I1\nt"), **content)
    np.testing.assert_array_equal(load_torch(good)["x"], [0.0, 1.0, 2.0, 3.0])


def test_refuses_what_is_compressed(tmp_path: Path) -> None:
    """A megabyte of archive may be a gigabyte of zeros."""
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", described(4, 0, "(I4\nt", "(I1\nt"), zipfile.ZIP_STORED)
        file.writestr("archive/data/0", bytes(1 << 20))
    with pytest.raises(CheckpointError, match="compressed or encrypted"):
        load_torch(tmp_path / "bomb.pt")


def test_the_pickles_of_these_tests_are_sound(tmp_path: Path) -> None:
    content = np.arange(4, dtype="<f4").tobytes()
    good = archive(tmp_path / "good.pt", described(4, 0, "(I2\nI2\nt", "(I1\nI2\nt"), **{"0": content})
    np.testing.assert_array_equal(load_torch(good)["x"], [[0.0, 2.0], [1.0, 3.0]])
    with zipfile.ZipFile(good, "a") as file:
        file.writestr("archive/byteorder", "big")
    assert load_torch(good)["x"][1, 0] == np.array([1.0], "<f4").byteswap()[0]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_refuses_a_truncated_file(tmp_path: Path, share: float) -> None:
    whole = (FILES / "torch_table.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(CheckpointError, match="expected a whole file of torch.save"):
        load_weights(tmp_path / "cut.pt")


def test_refuses_an_archive_of_something_else(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.pt", "w") as file:
        file.writestr("readme.txt", "hello")
    with pytest.raises(CheckpointError, match="0 members data.pkl"):
        load_weights(tmp_path / "other.pt")

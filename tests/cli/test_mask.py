"""nmref verify --mask, and the examples of docs/masks.md."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from nmref.cli import main
from nmref.container.safetensors import open_raw
from nmref.interop.dense import unpack_folder
from nmref.model.checkpoint import open_checkpoint
from nmref.model.config import linear_names
from nmref.prune.masks import maskfile
from nmref.prune.masks.maskfile import Mask
from nmref.tensor import SparseWeight
from tests.cli.test_bad_input import edit_tensors, refuse, snapshot

DOC = Path(__file__).parents[2] / "docs" / "masks.md"
Q = "model.layers.1.self_attn.q_proj.weight"


@pytest.fixture
def pruned(model, tmp_path, capsys):
    """A packed model, its dense form, and the masks of its weights."""
    options = ["--pattern", "2:4", "--outliers", "none", "--score", "magnitude"]
    assert main(["prune", str(model), str(tmp_path / "packed"), *options]) == 0
    unpack_folder(tmp_path / "packed", tmp_path / "dense")
    checkpoint = open_checkpoint(tmp_path / "packed")
    masks = {}
    for name in linear_names(checkpoint.config):
        weight = checkpoint.tensors[name]
        assert isinstance(weight, SparseWeight)
        masks[name] = Mask(weight.to_dense() != 0)
    maskfile.write(tmp_path / "masks", masks)
    capsys.readouterr()
    return tmp_path


def verify(*arguments: object) -> int:
    return main(["verify", *map(str, arguments)])


@pytest.mark.parametrize("place", ["dense", "dense/model.safetensors"])
def test_a_dense_model_keeps_to_its_masks(pruned, place, capsys):
    before = snapshot(pruned)
    assert verify(pruned / place, "--mask", pruned / "masks") == 0
    out = capsys.readouterr().out
    assert re.fullmatch(
        rf"OK {pruned / place}: 14 weights are zero outside {pruned / 'masks'}, "
        r"\d\d\.\d\d% of their elements are not zero\n",
        out,
    )
    assert snapshot(pruned) == before


@pytest.mark.parametrize("place", ["packed", "packed/model.nmref.safetensors"])
def test_a_packed_model_is_checked_by_its_own_rules_too(pruned, place, capsys):
    assert verify(pruned / place, "--mask", pruned / "masks") == 0
    ok, digest, zeros = capsys.readouterr().out.splitlines()
    assert ok.startswith("OK ")
    assert "14 sparse weights" in ok
    assert digest.startswith("   content_sha256 ")
    assert zeros.startswith(f"OK {pruned / place}: 14 weights are zero outside ")
    file = pruned / "packed" / "model.nmref.safetensors"
    damaged = bytearray(file.read_bytes())
    damaged[-1] ^= 1
    file.write_bytes(damaged)
    assert refuse(["verify", pruned / place, "--mask", pruned / "masks"], capsys).startswith("E_")


def test_json(pruned, capsys):
    raw = open_raw(pruned / "dense" / "model.safetensors")
    weights = [raw.array(name) for name in maskfile.read(pruned / "masks")]
    nonzero = sum(int(np.count_nonzero(weight)) for weight in weights)
    for place, files in (("dense", 0), ("packed", 1)):
        assert verify(pruned / place, "--mask", pruned / "masks", "--json") == 0
        document = json.loads(capsys.readouterr().out)
        assert document["valid"]
        assert len(document["files"]) == files
        assert document["mask"] == {
            "path": str(pruned / "masks"),
            "weights": 14,
            "elements": sum(weight.size for weight in weights),
            "kept": nonzero,
            "nonzero": nonzero,
        }


def test_without_mask_nothing_is_said_of_one(pruned, capsys):
    assert verify(pruned / "packed", "--json") == 0
    assert set(json.loads(capsys.readouterr().out)) == {"valid", "files"}
    assert verify(pruned / "packed") == 0
    assert "zero" not in capsys.readouterr().out


def test_the_first_weight_outside_its_mask_is_one_line(pruned, capsys):
    row, column = np.argwhere(~maskfile.read(pruned / "masks")[Q].kept)[2]
    edit_tensors(pruned / "dense", lambda tensors: tensors[Q].__setitem__((row, column), 0.5))
    line = refuse(["verify", pruned / "dense", "--mask", pruned / "masks"], capsys)
    got = "0.5 outside the mask, 1 such in this weight, want 0"
    assert line == f"T_TENSOR {Q} row {row} column {column}: {got}"


def test_a_dense_checkpoint_before_pruning_has_no_zeros(model, pruned, capsys):
    line = refuse(["verify", model, "--mask", pruned / "masks"], capsys)
    assert line.startswith("T_TENSOR model.layers.0.mlp.down_proj.weight row 0 column ")


def test_a_missing_weight_and_a_file_that_is_no_mask(pruned, capsys):
    edit_tensors(pruned / "dense", lambda tensors: tensors.pop(Q))
    line = refuse(["verify", pruned / "dense", "--mask", pruned / "masks"], capsys)
    assert line == f"T_TENSOR {Q}: missing, want the weight of this mask"
    dense = pruned / "dense" / "model.safetensors"
    line = refuse(["verify", pruned / "dense", "--mask", dense], capsys)
    assert line.startswith(f"E_META {dense} __metadata__: keys ['format'], want exactly the key")
    line = refuse(["verify", pruned / "dense", "--mask", pruned / "nowhere"], capsys)
    assert line.startswith(f"T_FILE {pruned / 'nowhere'}: No such file or directory")


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit) as stopped:
        verify("--help")
    assert stopped.value.code == 0
    assert "nmref verify DENSE_FOLDER --mask" in capsys.readouterr().out


# The examples of the documentation


def examples(kind: str) -> str:
    """All blocks of one kind, as one program."""
    blocks = re.findall(rf"(?ms)^```{kind}\n(.*?)^```$", DOC.read_text("utf-8"))
    assert blocks
    return "\n".join(blocks)


def test_the_numpy_examples_of_the_docs_run(tmp_path, monkeypatch):
    pytest.importorskip("safetensors")  # the block that reads without nmref
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(examples("python"), str(DOC), "exec"), names)
    weight, tuned, kept = (names[name] for name in ("weight", "tuned", "kept"))
    assert isinstance(tuned, np.ndarray)
    assert not np.array_equal(tuned, np.where(kept, weight, 0))  # it did learn something
    assert not tuned[~kept].any()
    x, y = names["x"], names["y"]
    before = np.square(x @ np.where(kept, weight, 0).T - y).mean()
    assert np.square(x @ tuned.T - y).mean() < 0.5 * before


def test_without_the_line_that_clears_the_example_of_the_docs_fails(tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    monkeypatch.chdir(tmp_path)
    program = examples("python").replace("    tuned[~kept] = 0\n", "")
    with pytest.raises(
        ValueError, match=r"^T_TENSOR layer\.weight row 0 column .* outside the mask"
    ):
        exec(compile(program, str(DOC), "exec"), {})


@pytest.mark.parametrize("hook", [True, False])
def test_the_torch_hook_of_the_docs_keeps_zeros(hook):
    torch = pytest.importorskip("torch")
    names: dict = {}
    exec(compile(examples("python torch"), str(DOC), "exec"), names)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(16, 8), torch.nn.ReLU(), torch.nn.Linear(8, 4))
    rng = np.random.default_rng(0)
    masks = {
        name: Mask(rng.random(size) < 0.5)
        for name, size in (("0.weight", (8, 16)), ("2.weight", (4, 8)))
    }
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    x, y = torch.randn(32, 16), torch.randn(32, 4)
    if hook:
        names["keep_zeros"](model, optimizer, masks)
    norms, inside = [], []
    for _ in range(5):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(x), y).backward()
        gradients = {n: p.grad.clone() for n, p in model.named_parameters()}
        for name, mask in masks.items():
            gradients[name][torch.from_numpy(~mask.kept)] = 0
        inside.append(torch.stack([g.norm() for g in gradients.values()]).norm().item())
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item())
        optimizer.step()
    lost = any(
        np.count_nonzero(model.get_parameter(name).detach().numpy()[~mask.kept])
        for name, mask in masks.items()
    )
    assert lost != hook
    assert np.allclose(norms, inside, rtol=1e-5) == hook

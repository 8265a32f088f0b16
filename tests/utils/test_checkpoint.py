"""Checkpoints rebuild a network from the file alone, and a bad file is one clear error."""

import pickle

import pytest
import torch

from models import build_model
from utils.checkpoint import load_checkpoint, network_from, save_checkpoint
from utils.prediction.predictor import ChangePredictor

STATISTICS = {"mean": [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], "std": [[0.9, 0.8, 0.7], [0.6, 0.5, 0.4]]}


def content(**changes):
    options = {"width": 8, "row": False}
    network = build_model("hanet", **options)
    basis = {"model": "hanet", "options": options, "weights": network.state_dict(), "statistics": STATISTICS}
    return network.eval(), {**basis, "threshold": 0.3, **changes}


def test_network_from_the_file_alone(tmp_path):
    network, saved = content()
    save_checkpoint(tmp_path / "best.pt", saved)
    loaded = load_checkpoint(tmp_path / "best.pt")
    assert loaded["versions"].keys() == {"python", "torch"}
    x, y = torch.rand(2, 1, 3, 16, 16).unbind()
    with torch.no_grad():
        assert torch.equal(network_from(loaded)(x, y)[0], network(x, y)[0])


def test_predictor_scales_as_the_run_did(tmp_path):
    network, saved = content()
    save_checkpoint(tmp_path / "best.pt", saved)
    predictor = ChangePredictor(tmp_path / "best.pt", "cpu")
    assert predictor.threshold == 0.3
    before, after = torch.randint(0, 256, (2, 2, 3, 16, 16), dtype=torch.uint8).unbind()
    mean, std = (torch.tensor(STATISTICS[name]).view(2, 3, 1, 1) for name in ("mean", "std"))
    dates = ((x.double() / 255 - mean[date]) / std[date] for date, x in enumerate((before, after)))
    with torch.no_grad():
        expected = network.double()(*dates)[0].softmax(1)[:, 1]
    assert torch.allclose(predictor.probability(before, after).double(), expected, atol=1e-5)


class Dangerous:
    def __reduce__(self):
        return print, ("code from a file ran",)


@pytest.mark.parametrize("kind", ["missing", "text", "truncated", "state dict", "pickle with code"])
def test_bad_files_are_named(kind, tmp_path, capsys):
    path = tmp_path / "best.pt"
    network, saved = content()
    save_checkpoint(path, saved)
    if kind == "missing":
        path.unlink()
    elif kind == "text":
        path.write_text("no checkpoint")
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[:2000])
    elif kind == "state dict":
        torch.save(network.state_dict(), path)
    else:
        path.write_bytes(pickle.dumps(Dangerous()))
    hint = {"missing": "train_aux.py", "state dict": "tools.import_weights"}.get(kind, "")
    with pytest.raises((ValueError, FileNotFoundError), match=rf"best\.pt: .*checkpoint.*{hint}"):
        load_checkpoint(path)
    assert "ran" not in capsys.readouterr().out


def test_weights_of_another_network_are_told_in_a_line():
    saved = content()[1]
    with pytest.raises(ValueError, match="weights and options of this checkpoint do not fit: .*conv1.weight") as caught:
        network_from({**saved, "model": "amfnet", "options": {}})
    assert len(str(caught.value)) < 300

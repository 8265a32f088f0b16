"""Packed checkpoints: smaller files that predict the same to float16's rounding."""

import torch

from tests.scripts import fails
from tools.pack_checkpoint import main
from utils.checkpoint import load_checkpoint, network_from, save_checkpoint


def test_half_the_size_and_the_same_map(checkpoint, tmp_path):
    content = {**load_checkpoint(checkpoint), "tuned_threshold": 0.4, "optimizer": {"state": torch.zeros(10**5)}}
    save_checkpoint(tmp_path / "best.pt", content)
    (tmp_path / "note.txt").write_text("Apache-2.0; drawn scenes")
    main([str(tmp_path / "best.pt"), "--output", str(tmp_path / "small.pt"), "--note", str(tmp_path / "note.txt")])
    packed = load_checkpoint(tmp_path / "small.pt")
    assert (packed["threshold"], packed["note"]) == (0.4, "Apache-2.0; drawn scenes")
    assert "optimizer" not in packed
    assert packed["statistics"] == content["statistics"]
    networks = [network_from(each) for each in (content, packed)]
    assert {p.dtype for p in networks[1].parameters()} == {torch.float32}
    dates = torch.rand(2, 1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        first, second = (network(*dates)[0].softmax(1) for network in networks)
    assert 0 < (first - second).abs().max() < 5e-3
    shapes = sum(value.numel() for value in packed["weights"].values())
    assert (tmp_path / "small.pt").stat().st_size < 2.6 * shapes + 60_000


def test_what_cannot_be_packed(checkpoint, tmp_path, capsys):
    content = load_checkpoint(checkpoint)
    content["weights"]["head.weight"] = torch.full_like(content["weights"]["head.weight"], 1e6)
    save_checkpoint(tmp_path / "best.pt", content)
    output, says = str(tmp_path / "small.pt"), "head.weight: values up to 1e+06 do not fit into float16"
    fails(lambda: main([str(tmp_path / "best.pt"), "--output", output]), capsys, says)
    (tmp_path / "small.pt").touch()
    fails(lambda: main([str(checkpoint), "--output", output]), capsys, "small.pt: exists")

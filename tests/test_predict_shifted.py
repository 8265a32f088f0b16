"""predict_batch.py --register: measured, corrected, told; the label stays on the grid of the earlier date."""

import numpy as np
import pytest

from datasets.pairs import find_pairs
from datasets.registration import Unshifted
from datasets.scenes import draw_scene
from datasets.windows import Window
from tests.conftest import write_pairs, write_tiff
from tests.scripts import contents, metrics_of, pixels, predict_pair, predict_set, rows_of
from utils.prediction.predictor import ChangePredictor

SIZE = 192


@pytest.fixture(scope="module")
def shifted(tmp_path_factory):
    """Three labelled pairs: moved by 5 rows up and 3 columns to the right, in place, and of two unlike places."""
    scene = draw_scene(1, SIZE + 10)[0]
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[40:80, 50:120] = 255
    before = scene[:SIZE, 10:]
    pairs = {
        "moved": (before, scene[5 : SIZE + 5, 7:-3], mask),
        "still": (before, before, mask),
        "unlike": (before, draw_scene(2, SIZE)[0], mask),
    }
    root = tmp_path_factory.mktemp("shifted")
    write_pairs(root / "test", pairs)
    return root


def named(folder):
    """Rows by the names of their pairs."""
    return {row["name"]: row for row in rows_of(folder)}


def test_a_shift_is_reported_and_nothing_is_moved(checkpoint, shifted, tmp_path, capsys):
    predict_set(checkpoint, shifted, tmp_path / "off", "--no-report")
    predict_set(checkpoint, shifted, tmp_path / "report", "--register", "report", "--no-report")
    said = capsys.readouterr().err
    assert "shift of the later image: reliable in 2 of 3 pairs, over 0.5 pixel in 1" in said
    assert "largest 5.8 (moved); not corrected; pass --register auto" in said
    rows = named(tmp_path / "report")
    assert [float(rows["moved"][f"shift_{axis}"]) for axis in ("rows", "columns")] == pytest.approx([-5, 3], abs=0.1)
    assert float(rows["still"]["shift_rows"]) == pytest.approx(0, abs=0.1)
    assert (rows["unlike"]["shift_rows"], rows["moved"]["shift_corrected"]) == ("", "False")
    maps, reported = contents(tmp_path / "off"), contents(tmp_path / "report")
    assert all(maps[name] == reported[name] for name in maps if name.endswith(".png"))
    assert metrics_of(tmp_path / "report")["protocol"]["register"] == "report"
    assert "shift_rows" not in named(tmp_path / "off")["moved"]


def test_a_shift_is_corrected_at_the_later_date_alone(checkpoint, shifted, tmp_path, capsys):
    predict_set(checkpoint, shifted, tmp_path, "--register", "auto", "--save", "probability16,mask,error")
    said = capsys.readouterr().err
    assert "read without it; labels stay on the grid of the earlier image" in said
    rows = named(tmp_path)
    assert [rows[name]["shift_corrected"] for name in ("moved", "still", "unlike")] == ["True", "False", "False"]
    before, after, label = (pixels(shifted / "test" / folder / "moved.png") for folder in ("A", "B", "label"))
    shift = (float(rows["moved"][f"shift_{axis}"]) for axis in ("rows", "columns"))
    whole = Window(0, 0, SIZE, SIZE)
    image, known = Unshifted((SIZE, SIZE), *shift).read(whole, lambda window: (after[window.slices], None))
    probability = ChangePredictor(checkpoint, "cpu")(np.where(known[..., None], before, 0), image)
    found = pixels(tmp_path / "probability16" / "moved.png") / 65535
    assert np.abs(found - probability)[known].max() < 0.02  # per_image.csv has the shift to 0.01 pixel
    assert not found[~known].any()
    counted = sum(int(rows["moved"][name]) for name in ("tn", "fp", "fn", "tp"))
    assert counted == known.sum()
    assert sum(int(rows["moved"][name]) for name in ("fn", "tp")) == (label[known] == 255).sum()


def test_in_metres_and_on_the_grid_of_the_earlier_date(checkpoint, shifted, tmp_path, capsys):
    dates = [pixels(shifted / "test" / folder / "moved.png") for folder in "AB"]
    files = [write_tiff(tmp_path / f"{name}.tif", date) for name, date in zip(("before", "after"), dates, strict=True)]
    flags = ("--register", "auto", "--save", "geo", "--no-resample", "--no-report")
    predict_pair(checkpoint, *files, tmp_path / "out", *flags)
    (row,) = rows_of(tmp_path / "out")
    assert float(row["shift_metres"]) == pytest.approx(2 * 34**0.5, abs=0.3)
    assert "m (" in next(line for line in capsys.readouterr().err.splitlines() if "largest" in line)
    (path,) = (tmp_path / "out" / "geo").iterdir()
    rasterio = pytest.importorskip("rasterio")
    with rasterio.open(path) as there, rasterio.open(files[0]) as source:
        assert there.transform == source.transform
        assert (there.read(1)[:5] == 127).all()  # the later image does not cover these rows
        assert (there.read(1)[10:-10, 10:-10] != 127).all()


def test_a_resumed_prediction_keeps_its_registration(checkpoint, shifted, tmp_path, capsys):
    predict_set(checkpoint, shifted, tmp_path, "--register", "auto")
    made = contents(tmp_path)
    (tmp_path / "mask" / "moved.png").unlink()
    predict_set(checkpoint, shifted, tmp_path, "--register", "auto", "--skip-existing")
    assert contents(tmp_path) == made
    predict_set(checkpoint, shifted, tmp_path, "--skip-existing", code=2)
    assert "register: auto there, off here" in capsys.readouterr().err


def test_small_pairs_cannot_be_measured(checkpoint, drawn_set, tmp_path, capsys):
    predict_set(checkpoint, drawn_set, tmp_path, "--register", "auto")
    assert "shift of the later image: reliable in 0 of 4 pairs" in capsys.readouterr().err
    assert len(find_pairs(drawn_set, "test")) == 4


def test_bands_of_16_bits(checkpoint, shifted, tmp_path):
    """Values are interpolated before they are scaled, and compared after."""
    pytest.importorskip("rasterio")
    for folder, name in (("A", "before"), ("B", "after")):
        date = pixels(shifted / "test" / folder / "moved.png").astype(np.uint16) * 15
        write_tiff(tmp_path / f"{name}.tif", date)
    flags = ("--bands", "1,2,3", "--scale", "4000", "--register", "auto", "--no-report")
    predict_pair(checkpoint, tmp_path / "before.tif", tmp_path / "after.tif", tmp_path / "out", *flags)
    (row,) = rows_of(tmp_path / "out")
    assert row["shift_corrected"] == "True"

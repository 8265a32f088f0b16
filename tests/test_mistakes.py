"""Every foreseeable mistake ends either script in one line that says what to do."""

import os
import shutil

import pytest

from tests.scripts import contents, fails, loaded, predict_set, train


@pytest.fixture
def run(tmp_path):
    """The folder of the run, or of the maps, which is not there yet."""
    return tmp_path / "run"


@pytest.fixture(params=["train", "predict"])
def script(request, runs):
    """Either script, called with a data set and a folder to write to."""

    return train if request.param == "train" else lambda data, output: predict_set(runs("hanet"), data, output)


@pytest.mark.parametrize("workers", [0, 1])
def test_truncated_image(workers, data, run, capsys):
    broken = data / "train" / "B" / "scene_0002.png"
    broken.write_bytes(broken.read_bytes()[:3000])
    fails(lambda: train(data, run, "--num-workers", workers), capsys, str(broken), "replace the file")
    assert not (run / "last.pt").exists()


@pytest.mark.parametrize(
    ("recipe", "flags", "words"),
    [
        ("amfnet", ["--batch-size", 1], ("at least two pairs", "--batch-size 2")),
        ("hanet", ["--backbone-weights", "imagenet"], ("hanet has no encoder", "--backbone-weights none")),
        ("hanet", ["--augmentation", "rotate"], ("--augmentation rotate: not known", "open-cd, ours, colours, none")),
        ("hanet", ["--crop-size", 128], ("scene_0000.png", "64 x 64 pixels do not hold a crop of 128")),
        ("hanet", ["--crop-size", -8], ("--crop-size -8: must be at least 0",)),
    ],
)
def test_settings_that_cannot_be(recipe, flags, words, drawn_set, run, capsys):
    fails(lambda: train(drawn_set, run, *flags, recipe=recipe), capsys, *words)
    assert not run.exists()


@pytest.mark.parametrize("split", ["train", "val"])
def test_missing_files(split, data, run, capsys):
    link = data / split / "B" / "scene_0001.png"
    link.unlink()
    link.symlink_to(run.parent / "gone.png")
    fails(lambda: train(data, run), capsys, f"{link}: broken link to {run.parent / 'gone.png'}")
    assert not run.exists()


def test_output_that_cannot_be_written(script, drawn_set, run, capsys):
    """Root may write into read-only folders, so a file stands in the way instead."""
    run.write_text("in the way")
    fails(lambda: script(drawn_set, run / "x"), capsys, str(run / "x"))
    assert run.read_text() == "in the way"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_output(script, drawn_set, run, capsys):
    run.mkdir(mode=0o555)
    fails(lambda: script(drawn_set, run), capsys, str(run), "Permission denied")
    assert not list(run.iterdir())


def test_overwriting_loses_nothing_before_the_first_step(runs, drawn_set, run, capsys):
    shutil.copytree(runs("hanet"), run)
    flags = ("--overwrite", "--aux-weights", "0.5")
    fails(lambda: train(drawn_set, run, *flags, recipe="amfnet"), capsys, "4 outputs need 4 loss weights")
    assert contents(run) == contents(runs("hanet"))


def test_existing_run_is_not_touched_unasked(runs, data, run, capsys):
    """Not without a flag, nor by the settings of another network, nor on other data, nor from best.pt."""
    shutil.copytree(runs("hanet"), run)
    fails(lambda: train(data, run), capsys, "holds a run", "--resume", "--overwrite", "--output")
    words = ("last.pt", "model: hanet there, amfnet here", f"or --resume --output {run} alone")
    fails(lambda: train(data, run, "--resume", recipe="amfnet"), capsys, *words)
    other = data.parent / "other"
    shutil.copytree(data, other)
    shutil.copy(data / "train" / "A" / "scene_0001.png", other / "train" / "A" / "scene_0002.png")
    fails(lambda: train(other, run, "--resume"), capsys, "the data set is not the one last.pt was trained on")
    assert contents(run) == contents(runs("hanet"))
    shutil.copy(run / "best.pt", run / "last.pt")
    fails(lambda: train(data, run, "--resume"), capsys, "not the last.pt of a run", "--overwrite")
    train(data, run, "--overwrite", epochs=1)
    assert loaded(run)["epoch"] == 1


@pytest.mark.parametrize("inside", ["test", "test/A", "test/label/maps", "train"])
def test_output_among_the_images_is_refused(inside, runs, data, capsys):
    """Masks in a data set would be taken for its labels, and score 100."""
    before = sorted(data.rglob("*"))
    split, flags = inside.split("/")[0], (runs("hanet"), data, data / inside)
    fails(lambda: predict_set(*flags, "--split", split), capsys, str(data / inside), "name a folder outside")
    if split == "train":
        fails(lambda: train(data, data / inside), capsys, str(data / inside), "name a folder outside")
    assert sorted(data.rglob("*")) == before


def test_a_cache_among_the_images(data, run, capsys):
    cache = data / "train" / "A"
    fails(lambda: train(data, run, "--cache", cache), capsys, f"--cache {cache}", "among the images")
    assert not list(cache.glob("*.tiles"))

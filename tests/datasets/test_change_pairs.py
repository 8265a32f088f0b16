"""Samples and batches hold the pixels of the files, draws repeat, and sizes and labels are checked before a run."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import BatchSampler, DataLoader

from datasets.change_pairs import ChangePairs, check_sizes, same_size_batches
from datasets.label_codes import count_changed, decide
from datasets.label_counts import LabelCounts, collect
from datasets.pfbs import PFBSSampler
from datasets.reading import MASKS, PixelFormat
from datasets.transforms import AUGMENTATIONS, build_augmentation
from tests.conftest import write_image, write_pairs
from tests.scripts import forkserver


def make(root, names="012", size=(32, 32), codes=(0, 255)):
    return write_pairs(root, names, size, codes=codes)


def decided(pairs):
    return decide(collect(pairs, LabelCounts()), PixelFormat())


def test_sample_is_the_file(tmp_path):
    pairs = make(tmp_path)
    sample = ChangePairs(pairs, reading=MASKS)[1]
    assert (sample["before"].dtype, sample["mask"].dtype, sample["name"]) == (torch.uint8, torch.uint8, "1")
    assert np.array_equal(sample["after"].permute(1, 2, 0).numpy(), np.array(Image.open(pairs[1].after)))
    assert np.array_equal(sample["mask"].numpy() * 255, np.array(Image.open(pairs[1].label)))


def test_drawn_scenes_take_the_place_of_pairs(tmp_path):
    """As often as asked for, in the size of the tiles or crops, other ones each time, with the changes they have."""
    pairs = make(tmp_path, size=(32, 48), codes=(0,))
    data = ChangePairs(pairs, build_augmentation("none", drawn_share=0.3), MASKS)
    samples = [data[1, (seed,)] for seed in range(60)]
    drawn = [sample for sample in samples if sample["name"] == "drawn in place of 1"]
    assert 8 < len(drawn) < 30
    assert all(torch.equal(s["before"], data[1]["before"]) for s in samples if s["name"] == "1")
    assert {(s["before"].shape, s["after"].shape, s["mask"].shape) for s in drawn} == {((3, 32, 48),) * 2 + ((32, 48),)}
    assert len({s["before"].numpy().tobytes() for s in drawn}) == len(drawn)
    assert set(torch.cat([s["mask"].unique() for s in drawn]).tolist()) == {0, 1}
    again = next(seed for seed in range(60) if samples[seed] is drawn[0])
    assert torch.equal(data[1, (again,)]["after"], drawn[0]["after"])
    cropped = ChangePairs(pairs, build_augmentation("none", crop_size=24, drawn_share=1.0), MASKS)
    assert cropped[0, (0,)]["before"].shape == (3, 24, 24)
    with pytest.raises(ValueError, match="--drawn: scenes are drawn in RGB, and these images have 4 bands"):
        ChangePairs(pairs, build_augmentation("none", drawn_share=0.3), PixelFormat(bands=(1, 2, 3, 4)))


def test_without_label_every_pixel_is_ignored(tmp_path):
    pairs = write_pairs(tmp_path, folders=("A", "B"))
    assert ChangePairs(pairs)[0]["mask"].unique().tolist() == [255]


@pytest.mark.parametrize("workers", [0, 1])
def test_draws_do_not_depend_on_who_loads_them(workers, tmp_path):
    """Epochs differ from each other, and repeat exactly, also with workers that outlive an epoch."""
    pairs = make(tmp_path, names="0123")
    sampler = PFBSSampler([1] * 4, seed=5)
    options = {"persistent_workers": True, "multiprocessing_context": forkserver()} if workers else {}
    loader = DataLoader(
        ChangePairs(pairs, AUGMENTATIONS["amfnet"], MASKS), 2, sampler=sampler, num_workers=workers, **options
    )
    epochs = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        epochs.append(torch.cat([batch["before"] for batch in loader]))
    assert torch.equal(epochs[0], epochs[2])
    assert not torch.equal(epochs[0], epochs[1])
    alone = ChangePairs(pairs, AUGMENTATIONS["amfnet"], MASKS)
    sampler.set_epoch(1)
    assert torch.equal(epochs[1], torch.stack([alone[draw]["before"] for draw in sampler]))


def test_sizes_of_one_pair_must_agree(tmp_path):
    pairs = make(tmp_path)
    write_image(pairs[2].label, np.zeros((32, 40), np.uint8))
    with pytest.raises(ValueError, match=r"2\.png: 32 x 40 pixels, but .*2\.png has 32 x 32: a pair differs in size"):
        check_sizes(pairs, 32, alike=False)
    with pytest.raises(ValueError, match="differs in size"):
        ChangePairs(pairs, reading=MASKS)[2]


def test_images_whose_size_changes_during_a_run_are_named(tmp_path):
    pairs, other = make(tmp_path / "a"), make(tmp_path / "b", size=(64, 32))
    with pytest.raises(ValueError, match="0 and 1: differ in size since the run began"):
        ChangePairs([pairs[0], other[1]], reading=MASKS)[[0, 1]]


def test_sizes_fit_the_network_and_each_other(tmp_path):
    pairs = make(tmp_path / "a", size=(250, 250), names="0")
    with pytest.raises(
        ValueError, match=r"0\.png: 250 x 250 pixels.* multiples of 32; .*python -m tools\.prepare_tiles \(never resize"
    ):
        check_sizes(pairs, 32, alike=True)
    mixed = make(tmp_path / "b") + make(tmp_path / "c", size=(64, 32))
    assert check_sizes(mixed, 32, alike=False) == [(32, 32)] * 3 + [(64, 32)] * 3
    with pytest.raises(ValueError, match=r"64 x 32 pixels among tiles of 32 x 32;.*python -m tools\.prepare_tiles"):
        check_sizes(mixed, 32, alike=True)


def test_with_a_crop_sizes_may_differ_but_each_holds_it(tmp_path):
    mixed = make(tmp_path / "b", size=(40, 50)) + make(tmp_path / "c", size=(64, 33))
    assert check_sizes(mixed, 32, alike=True, crop_size=32)[-1] == (64, 33)
    with pytest.raises(ValueError, match="--crop-size 40: this network takes multiples of 32"):
        check_sizes(mixed, 32, alike=True, crop_size=40)
    with pytest.raises(ValueError, match=r"0\.png: 40 x 50 pixels do not hold a crop of 64; lower --crop-size"):
        check_sizes(mixed, 32, alike=True, crop_size=64)


@pytest.mark.parametrize(("name", "workers"), [*((name, 0) for name in AUGMENTATIONS), ("open-cd", 1)])
def test_batches_are_the_samples_in_channels_last(name, workers, tmp_path):
    """Whatever an augmentation did to the strides; from a worker too, in one piece of memory."""
    pairs = ChangePairs(make(tmp_path, names="0123", size=(32, 48)), build_augmentation(name, crop_size=32), MASKS)
    sampler = PFBSSampler([1] * 4, seed=5)
    (batch,) = DataLoader(pairs, None, sampler=BatchSampler(sampler, 4, drop_last=True), num_workers=workers)
    samples = [pairs[draw] for draw in sampler]
    for key in ("before", "after", "mask"):
        assert batch[key].dtype == torch.uint8
        assert torch.equal(batch[key], torch.stack([sample[key] for sample in samples]))
        assert batch[key].untyped_storage().data_ptr() == batch["before"].untyped_storage().data_ptr()
    assert type(batch) is dict
    assert batch["before"].is_contiguous(memory_format=torch.channels_last)
    assert batch["name"] == [sample["name"] for sample in samples]


def test_batches_hold_one_size_and_every_pair_once():
    sizes = [(32, 32), (64, 32), (32, 32), (32, 32), (64, 32)]
    batches = same_size_batches(sizes, 2)
    assert sorted(i for batch in batches for i in batch) == [0, 1, 2, 3, 4]
    assert all(len({sizes[i] for i in batch}) == 1 and len(batch) <= 2 for batch in batches)


@pytest.mark.parametrize("values", [(0, 1), (0, 255)])
def test_changed_pixels_whatever_the_coding(values, tmp_path, caplog):
    caplog.set_level("INFO")
    pairs = make(tmp_path, codes=values)
    expected = [int((np.array(Image.open(p.label)) > 0).sum()) for p in pairs]
    assert count_changed(pairs, decided(pairs)) == expected
    assert f"{values[1]} means changed: {100 * sum(expected) / (3 * 1024):.2f} % of pixels, in 3 pairs" in caplog.text


def test_training_labels_without_change_are_an_error(tmp_path):
    """And so are labels of which all is changed, or of two values that are both other than 0."""
    pairs = make(tmp_path / "a", codes=(0,))
    with pytest.raises(ValueError, match=r"3 labels of values 0: 100\.00 %: no pixel is changed where both"):
        count_changed(pairs, decided(pairs))
    pairs = make(tmp_path / "b", codes=(1,))
    with pytest.raises(ValueError, match="every known pixel is changed"):
        count_changed(pairs, decided(pairs))
    with pytest.raises(ValueError, match=r"values 1: .*, 2: .*none of them is 0, which means unchanged"):
        decided(make(tmp_path / "c", codes=(1, 2)))

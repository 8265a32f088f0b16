"""Published weight files: nothing guessed, every problem by its name."""

import pytest
import torch

from models.official import from_official
from tests import golden


@pytest.fixture(scope="module")
def hanet_state():
    return golden.official_state("hanet")


def test_unknown_key_is_named(hanet_state):
    with pytest.raises(ValueError, match=r"unknown extra\.weight"):
        from_official({**hanet_state, "extra.weight": torch.zeros(1)})


def test_missing_key_is_named_as_in_the_file(hanet_state):
    with pytest.raises(ValueError, match=r"missing conv7\.weight"):
        from_official({key: value for key, value in hanet_state.items() if key != "conv7.weight"})


def test_other_shape_is_named(hanet_state):
    with pytest.raises(ValueError, match=r"conv7\.weight has shape \(2, 40, 3, 3\)"):
        from_official({**hanet_state, "conv7.weight": torch.zeros(2, 40, 3, 3)})


def test_prefix_of_a_parallel_module_is_stripped(hanet_state):
    network = from_official({f"module.{key}": value for key, value in hanet_state.items()})
    assert torch.equal(network.head.weight, hanet_state["conv7.weight"])


def test_hanet_without_column_attention(hanet_state):
    network = from_official({key: value for key, value in hanet_state.items() if not key.startswith("col_")})
    names = dict(network.named_parameters())
    assert "hans.0.row.gamma" in names
    assert "hans.0.column.gamma" not in names


def test_no_known_network():
    with pytest.raises(ValueError, match=r"not the published keys .*conv0_0\.weight"):
        from_official({"conv1.weight": torch.zeros(1)})


def test_unknown_variant_lists_the_known():
    with pytest.raises(ValueError, match="backbone, bfam, bfm, iam, exchange, full"):
        from_official({"net.net.conv1.weight": torch.zeros(1)}, "aux")

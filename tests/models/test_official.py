"""Published weight files: nothing guessed, every problem by its name."""

import pytest
import torch

from models.official import from_official
from tests import golden


@pytest.fixture(scope="module")
def hanet_state():
    return golden.official_state("hanet")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra.weight": torch.zeros(1)}, r"unknown extra\.weight"),
        ({"conv7.weight": None}, r"missing conv7\.weight"),
        ({"conv7.weight": torch.zeros(2, 40, 3, 3)}, r"conv7\.weight has shape \(2, 40, 3, 3\)"),
    ],
)
def test_a_key_that_does_not_fit_is_named_as_in_the_file(change, message, hanet_state):
    state = {key: value for key, value in {**hanet_state, **change}.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        from_official(state)


def test_prefix_of_a_parallel_module_is_stripped(hanet_state):
    network = from_official({f"module.{key}": value for key, value in hanet_state.items()})
    assert torch.equal(network.head.weight, hanet_state["conv7.weight"])


def test_hanet_without_column_attention(hanet_state):
    network = from_official({key: value for key, value in hanet_state.items() if not key.startswith("col_")})
    names = dict(network.named_parameters())
    assert "hans.0.row.gamma" in names
    assert "hans.0.column.gamma" not in names


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("conv1", r"not the published keys .*conv0_0\.weight"),
        ("net.net.conv1", "backbone, bfam, bfm, iam, exchange, full"),
    ],
)
def test_no_known_network_and_an_unknown_variant(key, message):
    with pytest.raises(ValueError, match=message):
        from_official({f"{key}.weight": torch.zeros(1)}, "aux")

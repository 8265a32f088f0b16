"""Loads the authors' weight files by a table from their names to ours.

Layers of these files that no forward pass uses are dropped by name and logged. Any other unknown or missing key is an
error.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, nn

from models import build_model

log = logging.getLogger(__name__)

AMFNET_VARIANTS: dict[str, dict[str, object]] = {  # the released ablations, in their order
    "backbone": {"bfam": False, "bfm": False, "iam": False, "deep_supervision": False},
    "bfam": {"bfm": False, "iam": False, "deep_supervision": False},
    "bfm": {"iam": False, "deep_supervision": False},
    "iam": {"deep_supervision": False},
    "exchange": {"channel_exchange": True, "deep_supervision": False},
    "full": {},
}
UNUSED = {f"up_{n}" for n in (2, 3, 4)} | {f"layer{n}_1x1" for n in (1, 2, 3, 4)} | {f"c{n}_conv" for n in (1, 2, 3, 4)}
UNUSED |= {"fc", "fc1", "fc2", "fc3", "fc4", "resnet.fc", "resnet.layer4"}
LISTED = 8  # problems, or keys, that a message names before it counts the rest


def _amfnet_names() -> dict[str, str]:
    names = {"net.net": "backbone", "up1.0.conv": "up1", "output": "head"}
    for s in range(4):
        names |= {f"dpfa{s + 1}.channel_conv{d + 1}": f"bfams.{s}.channel_convs.{d}" for d in range(2)}
        names |= {f"dpfa{s + 1}.spatial_conv{d + 1}": f"bfams.{s}.spatial_convs.{d}" for d in range(2)}
        names |= {f"dpfa{s + 1}.conv1": f"bfams.{s}.conv", f"dpfa{s + 1}.dwconv": f"bfams.{s}.dwconv"}
        names |= {f"ffm{s + 1}.conv1": f"bfms.{s}.reduce", f"ffm{s + 1}.conv1_": f"bfms.{s}.shared"}
        names |= {f"ffm{s + 1}.dwconv": f"bfms.{s}.dwconv", f"att{s + 1}.ca": f"iams.{s}.cam"}
        names |= {f"att{s + 1}.sa.conv1": f"iams.{s}.sam.conv", f"att{s + 1}.conv": f"iams.{s}.conv"}
    for s in range(3):
        names |= {f"up{s + 2}.0.conv": f"ups.{s}", f"output_aux_{s + 1}": f"aux_heads.{s}"}
    return names


def _hanet_names() -> dict[str, str]:
    names = {"conv0_0": "stem", "conv6": "reduce", "conv7": "head"}
    names |= {f"conv{n}": f"blocks.{m}" for m, n in enumerate((0, 2, 4, 5))}
    for m in range(4):
        names |= {f"conv6_{m + 1}_{d + 1}": f"hans.{m}.pcs.branches.{d}" for d in range(4)}
        names |= {f"conv{m + 1}_1": f"hans.{m}.pcs.merge", f"cam_attention_{m + 1}.attn": f"hans.{m}.cam"}
        for axis, ours in (("col", "column"), ("row", "row")):
            names[f"{axis}_attention_{m + 1}.gamma"] = f"hans.{m}.{ours}.gamma"
            for part in ("query", "key", "value"):
                names[f"{axis}_attention_{m + 1}.{part}_conv"] = f"hans.{m}.{ours}.{part}"
    return names


def _fc_names() -> dict[str, str]:
    names = {"conv11d": "head"}
    for s, units in enumerate((2, 2, 3, 3)):
        names[f"upconv{s + 1}"] = f"ups.{3 - s}"
        for d in range(units):
            down, place = f"encoder.{s}.{4 * d}", f"decoder.{3 - s}"
            names |= {f"conv{s + 1}{d + 1}": down, f"bn{s + 1}{d + 1}": f"encoder.{s}.{4 * d + 1}"}
            if s or d:  # the decoder counts its units from the last
                at = 4 * (units - 1 - d)
                names |= {f"conv{s + 1}{d + 1}d": f"{place}.{at}", f"bn{s + 1}{d + 1}d": f"{place}.{at + 1}"}
    return names


def _snunet_names() -> dict[str, str]:
    names = {"ca": "inter", "ca1": "intra", "conv_final": "head"}
    layers = {"conv1": "conv", "bn1": "rest.0", "conv2": "rest.2", "bn2": "rest.3"}
    for node in (f"{i}_{j}" for i in range(5) for j in range(5 - i)):
        names |= {f"conv{node}.{theirs}": f"nodes.{node}.{ours}" for theirs, ours in layers.items()}
        names[f"Up{node}.up"] = f"ups.{node}"
    return names


def _bit_names() -> dict[str, str]:
    names = {"resnet": "backbone", "conv_pred": "reduce", "conv_a": "tokenizer"}
    names |= {"pos_embedding": "encoder.position", "classifier": "head"}
    for theirs, ours, matrices in (("", "encoder", ("qkv",)), ("_decoder", "decoder", ("q", "k", "v"))):
        for n in range(8):
            layer, block = f"transformer{theirs}.layers.{n}", f"{ours}.{n}"
            names |= {f"{layer}.0.fn.fn.to_{each}": f"{block}.project.{m}" for m, each in enumerate(matrices)}
            names |= {f"{layer}.0.fn.norm": f"{block}.norm", f"{layer}.0.fn.fn.to_out.0": f"{block}.out"}
            names |= {f"{layer}.1.fn.norm": f"{block}.mlp.0", f"{layer}.1.fn.fn.net.0": f"{block}.mlp.1"}
            names[f"{layer}.1.fn.fn.net.3"] = f"{block}.mlp.3"
    return names


NAMES = {  # a key that no other network's file has -> the table: prefix of published keys -> prefix of ours
    "net.net.conv1.weight": _amfnet_names(),
    "conv0_0.weight": _hanet_names(),
    "conv11.weight": _fc_names(),  # of FC-EF, FC-Siam-conc and FC-Siam-diff
    "conv0_0.conv1.weight": _snunet_names(),
    "pos_embedding": _bit_names(),
}


def _table(keys: Iterable[str]) -> dict[str, str]:
    known = set(keys) & NAMES.keys()
    return NAMES[known.pop()] if known else {}


def our_names(keys: Iterable[str]) -> dict[str, str]:
    """Published keys -> ours, without layers that no forward pass uses; unknown keys keep their name."""
    keys = list(keys)
    return {key: _rename(key, _table(keys)) for key in keys if not _within(key, UNUSED)}


def behind(state: Mapping[str, Tensor], variant: str = "full") -> tuple[str, dict[str, object]]:
    """Name and options of the network behind a published state dict, for `build_model`; ValueError if unknown.

    Keys, without the prefix `module.`, and shapes tell the networks apart. `variant` is AMFNet's released ablation, of
    AMFNET_VARIANTS; iam, exchange and full share their keys.
    """
    state = _stripped(state)
    if "conv0_0.weight" in state:
        axes = {axis: f"{key}_attention_1.gamma" in state for axis, key in (("column", "col"), ("row", "row"))}
        return "hanet", {"width": len(state["conv0_0.weight"]), **axes}
    if "conv0_0.conv1.weight" in state:
        return "snunet", {"width": len(state["conv0_0.conv1.weight"])}
    if "pos_embedding" in state:
        return "bit", {}
    if "conv11.weight" in state:
        first, joined = state["conv11.weight"], state.get("conv43d.weight", state["conv11.weight"])
        form = "siam-conc" if len(joined) == 3 * joined.shape[1] else "ef" if first.shape[1] == 6 else "siam-diff"
        return f"fc-{form}", {"width": len(first)}
    if "net.net.conv1.weight" not in state:
        raise ValueError(
            f"not the published keys of a network known here (one of {', '.join(NAMES)} is there), but "
            f"{_listed(list(state))}"
        )
    if variant not in AMFNET_VARIANTS:
        raise ValueError(f"AMFNet has no variant {variant!r}; choose one of {', '.join(AMFNET_VARIANTS)}")
    return "amfnet", AMFNET_VARIANTS[variant]


def from_official(state: Mapping[str, Tensor], variant: str = "full") -> nn.Module:
    """Build the network behind a published state dict and load it; arguments as for `behind`.

    A ValueError names an unknown variant, and each unknown, missing or misshapen key.
    """
    name, options = behind(state, variant)
    state, network = _stripped(state), build_model(name, **options)
    unused, table = UNUSED, _table(state)
    if not options.get("deep_supervision", True):
        unused = unused | {f"output_aux_{n}" for n in (1, 2, 3)}
    dropped = [key for key in state if _within(key, unused)]
    ours = {_rename(key, table): value for key, value in state.items() if key not in dropped}
    problems = _misfits(network, ours, {prefix: published for published, prefix in table.items()})
    if problems:
        raise ValueError(f"the weights do not fit {type(network).__name__}: {_listed(problems, '; ')}")
    network.load_state_dict(ours)
    log.info("dropped %d tensors that no forward pass uses: %s", len(dropped), ", ".join(dropped))
    return network


def _stripped(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The keys without the prefix that DataParallel gives them."""
    return {key.removeprefix("module."): value for key, value in state.items()}


def _listed(words: Sequence[str], comma: str = ", ") -> str:
    """The first LISTED words, and the number of the others."""
    more = len(words) - LISTED
    return comma.join(words[:LISTED]) + (f" and {more} more" if more > 0 else "")


def _within(key: str, prefixes: Iterable[str]) -> bool:
    return any(key.startswith(f"{prefix}.") for prefix in prefixes)


def _rename(key: str, names: Mapping[str, str]) -> str:
    """Our name of a published key: its longest known prefix replaced. Unknown keys stay as they are."""
    parts = key.split(".")
    for length in range(len(parts), 0, -1):
        ours = names.get(".".join(parts[:length]))
        if ours is not None:
            return ".".join([ours, *parts[length:]])
    return key


def _misfits(network: nn.Module, state: Mapping[str, Tensor], published: Mapping[str, str]) -> list[str]:
    """Keys that keep a renamed state dict from loading, with the names of the published file."""
    own = network.state_dict()
    problems = [f"unknown {key}" for key in state if key not in own]
    problems += [f"missing {_rename(key, published)}" for key in own if key not in state]
    problems += [
        f"{_rename(key, published)} has shape {tuple(state[key].shape)}, not {tuple(value.shape)}"
        for key, value in own.items()
        if key in state and state[key].shape != value.shape
    ]
    return problems

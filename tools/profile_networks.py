"""Measures the cost of networks and compares it with the papers: `python -m tools.profile_networks --sizes 256,512`.

The tables have parameters; multiply-adds and FLOPs (twice as many) with attention, for both dates and with shared
layers counted once; time and memory per pair in fp32 and channels_last, each size in its own process; costs by module.
"""

import math
import platform
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

if __name__ == "__main__":  # python path/to/tools/profile_networks.py works from any folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from models import MODELS, build_model
from tools.costs import count_macs, count_parameters, in_own_process, time_and_memory
from tools.tables.layout import Table, plain_table
from tools.tables.results import COUNTED_SIDE, PAPERS, read_csv
from tools.tables.text import format_of, write_tables
from utils.console import UserError, errors_in_one_line, mistakes_of_users, show_log
from utils.flags import at_least, given_flags, setting, words
from utils.machine import pick_device
from utils.training.config import network_option

QUANTITIES = {  # in docs/papers/networks.csv: our words, divisor and its sign
    "parameters": ("parameters", 1e6, "M"),
    "convolutions": ("multiply-adds of convolutions, both dates", 1e9, "G"),
    "one_date": ("multiply-adds of convolutions, one date", 1e9, "G"),
    "attention": ("multiply-adds of attention", 1e9, "G"),
}
Options = dict[str, object]


@dataclass(frozen=True)
class ProfileConfig:
    """Settings of a profile; the flags are made from these fields."""

    models: tuple[str, ...] = setting(tuple(MODELS), "networks", parse=words)
    model_options: Options = setting(None, "settings of the network, such as width=20", parse=network_option)
    sizes: tuple[int, ...] = setting(
        (256, 512, 1024), "sides of a pair in pixels", parse=lambda text: tuple(map(int, words(text)))
    )
    time: bool = setting(True, "also measure time and memory")
    rounds: int = setting(5, "timed predictions of a pair, after one for warm-up")
    device: str = setting("auto", "auto, cpu, cuda or cuda:N")
    output: Path | None = setting(None, "file to write: .md, .csv, .tex or .html (default: print)", parse=Path)


def main(argv: Sequence[str] | None = None) -> None:
    """Write the tables: cost by size, compared with the papers, and by module."""
    with errors_in_one_line():
        show_log()
        config = ProfileConfig(**given_flags(ProfileConfig, str(__doc__), argv))
        at_least(config, rounds=1)
        format_of(config.output)  # refuses a wrong suffix before anything is measured
        options = config.model_options or {}
        with mistakes_of_users():
            networks = {name: build_model(name, **options) for name in config.models}
        check_sizes(config.sizes, networks)
        tables = [cost_table(config, networks)]
        tables += [] if options else [paper_table(networks)]
        tables += [module_table(network, config.sizes[0], channels_of(options)) for network in networks.values()]
        write_tables(tables, config.output)


def channels_of(options: Options) -> int:
    """Bands that a network with these options takes."""
    return int(str(options.get("in_channels", 3)))


def check_sizes(sizes: Sequence[int], networks: dict[str, nn.Module]) -> None:
    """Raise UserError unless every network takes images of every size."""
    for name, network in networks.items():
        for size in sizes:
            if size < 1 or size % int(network.size_divisor):
                raise UserError(f"--sizes {size}: {name} takes multiples of {network.size_divisor}")
    if not sizes or not networks:
        raise UserError("nothing to profile: pass at least one of --models and of --sizes")


def cost_table(config: ProfileConfig, networks: dict[str, nn.Module]) -> Table:
    """A row per network and size: parameters, multiply-adds, FLOPs, and with --time time and memory."""
    options, device = config.model_options or {}, pick_device(config.device)
    header = ["Network", "Size", "Para. (M)", "MACs (G)", "of attention", "MACs, one date", "FLOPs (G)"]
    header += ["FLOPs, one date"] + ["ms per pair", "MB"] * config.time
    rows = []
    for name, network in networks.items():
        for size in config.sizes:
            macs = count_macs(network, size, size, channels_of(options))
            total, once = sum(each.total for each in macs), sum(each.total / each.dates for each in macs)
            numbers = [total, sum(each.attention for each in macs), once, 2 * total, 2 * once]
            texts = [name, f"{size}", f"{count_parameters(network) / 1e6:.2f}", *(f"{n / 1e9:.2f}" for n in numbers)]
            if config.time:
                seconds, memory = in_own_process(measure, name, options, size, str(device), config.rounds)
                texts += [f"{1000 * seconds:.0f}", "-" if math.isnan(memory) else f"{memory:.0f}"]
            rows.append(texts)
    remarks = ["MACs: multiply-adds of a pair, attention included; one date: layers for both dates are counted once"]
    if config.time:
        used = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
        where = f"{used}, {platform.processor() or platform.machine()}, PyTorch {torch.__version__}"
        remarks.append(f"ms: median of {config.rounds} predictions in fp32; MB: beyond the loaded network; {where}")
    return plain_table("Cost of a pair", header, rows, remarks)


def measure(name: str, options: Options, size: int, device: str, rounds: int) -> tuple[float, float]:
    """Median seconds of a prediction of one pair, and the MB that it adds to the peak memory (nan: unknown)."""
    where = torch.device(device)
    network = build_model(name, **options).eval().to(where, memory_format=torch.channels_last)
    images = (torch.rand(1, channels_of(options), size, size, device=where) for _ in range(2))
    return time_and_memory(network, [x.contiguous(memory_format=torch.channels_last) for x in images], rounds)


def paper_table(networks: dict[str, nn.Module]) -> Table:
    """Our numbers at 256 x 256 and those of docs/papers/networks.csv, with the reasons for differences."""
    ours = {name: quantities(network) for name, network in networks.items()}
    rows = []
    for row in (row for row in read_csv(PAPERS / "networks.csv") if row["network"] in ours):
        name, unit, sign = QUANTITIES[row["quantity"]]
        values = (ours[row["network"]][row["quantity"]], float(row["published"]))
        rows.append([row["network"], name, *(f"{n / unit:.2f} {sign}" for n in values), row["source"], row["why"]])
    header = ("Network", "Quantity", "Ours", "Published", "Source", "Why")
    return plain_table(f"Beside the papers, {COUNTED_SIDE} x {COUNTED_SIDE}", header, rows)


def quantities(network: nn.Module) -> dict[str, float]:
    """The numbers that papers give, by the keys of QUANTITIES."""
    macs = count_macs(network, COUNTED_SIDE, COUNTED_SIDE)
    return {
        "parameters": count_parameters(network),
        "convolutions": sum(each.convolutions for each in macs),
        "one_date": sum(each.convolutions / each.dates for each in macs),
        "attention": sum(each.attention for each in macs),
    }


def module_table(network: nn.Module, size: int, channels: int) -> Table:
    """A row per module, down to the second level: parameters, multiply-adds, and their share."""
    kind = type(network).__name__

    def module(name: str) -> str:
        return ".".join(name.split(".")[:2]) or f"{kind} itself"

    parameters, macs = Counter[str](), Counter[str]()
    for name, parameter in network.named_parameters():
        parameters[module(name.rpartition(".")[0])] += parameter.numel()
    for each in count_macs(network, size, size, channels):
        macs[module(each.name)] += each.total
    names, total = dict.fromkeys([*parameters, *macs]), macs.total()
    rows = [[n, f"{parameters[n]:,}", f"{macs[n] / 1e9:.3f}", f"{100 * macs[n] / total:.1f}"] for n in names]
    rows.append(["all", f"{parameters.total():,}", f"{total / 1e9:.3f}", "100.0"])
    return plain_table(f"{kind} at {size} x {size}, by module", ("Module", "Parameters", "MACs (G)", "share, %"), rows)


if __name__ == "__main__":
    main()

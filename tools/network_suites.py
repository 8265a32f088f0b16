"""What the benchmark measures of the networks alone: against their plain, published forms, and in training."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader
from tqdm import tqdm

from datasets.catalog import STATISTICS
from datasets.change_pairs import ChangePairs
from datasets.pfbs import PFBSSampler
from datasets.raster import PLAIN
from datasets.tile_cache import open_cache
from datasets.transforms import build_augmentation
from models import MODELS, build_model
from models.official import from_official
from tools.suites import Case, drawn_pairs
from utils.config import TrainConfig
from utils.engine import Epoch, Learner, changed_pixels, train_one_epoch
from utils.losses import LOSSES, DeepSupervisionLoss
from utils.memory import forget_peak, keep_freed_memory, peak_resident, resident
from utils.recipes import RECIPES
from utils.runtime import pick_device
from utils.training import OPTIMIZERS, build_learner

SIDE = 256  # pixels of a pair whose time is taken
PAIRS = 1, 8  # in a batch, in the suite of inference
TRAINED = 8, 2  # batch and steps, in the suite of training
SIDES = 256, 512, 1024  # pixels of a pair, in the suite of memory
LAYOUTS = {"plain": torch.contiguous_format, "exact": torch.channels_last}


def plain_forms() -> ModuleType:
    """The package of plain forms.

    Raises:
        FileNotFoundError: this copy of the repository has no tests.
    """
    try:
        from tests import plain
    except ImportError as error:
        raise FileNotFoundError(
            f"tests/plain: the networks' plain forms, which this suite compares with, cannot be imported ({error}); "
            f"run the benchmark in the folder of a whole checkout"
        ) from error
    return plain


def twins(name: str) -> dict[str, nn.Module]:
    """A network in its plain form and as it stands, with the same weights, each in its layout."""
    forms = zip(LAYOUTS, plain_forms().twins(name), strict=True)
    return {form: network.to(pick_device()).to(memory_format=LAYOUTS[form]) for form, network in forms}


def noise(pairs: int, side: int, form: str) -> list[Tensor]:
    """Both dates of a batch, (pairs, 3, side, side)."""
    return [torch.rand(pairs, 3, side, side).to(memory_format=LAYOUTS[form]) for _ in range(2)]


def inference(folder: Path) -> list[Case]:
    """Each network as it stands, eager, in float32, against its plain form."""

    @torch.inference_mode()
    def forward(network: nn.Module, batch: list[Tensor]) -> None:
        network(*batch)[0][0, 0, 0, 0].item()  # waits for a GPU

    cases = []
    for name in MODELS:
        networks = twins(name)
        for pairs in PAIRS:
            for form, network in networks.items():
                batch = [dates.to(pick_device()) for dates in noise(pairs, SIDE, form)]
                run = partial(forward, network.eval(), batch)
                cases.append(Case(f"{name}, batch {pairs}, {form}", run, pairs, f"{name}, batch {pairs}, plain"))
    return cases


def training_step(name: str, network: nn.Module, batch: list[Tensor]) -> Callable[[], None]:
    """Forward, loss, backward and optimizer of a network's recipe, on a batch that is in memory."""
    recipe = {key: RECIPES[name][key] for key in ("loss", "optimizer")}
    loss = DeepSupervisionLoss(LOSSES[str(recipe["loss"])], TrainConfig().loss_weights())
    # no rate: it costs the same, and weights that are not trained on noise
    optimizer = OPTIMIZERS[str(recipe["optimizer"])](network.parameters(), 0.0)
    mask = (torch.rand(len(batch[0]), SIDE, SIDE, device=batch[0].device) < 0.1).long()

    def step() -> None:
        total, _ = loss(network.train()(*batch), mask)
        total.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        total.item()  # waits for a GPU

    return step


def training(folder: Path) -> list[Case]:
    """A training step of each network against that of its plain form; and what a run adds to AMFNet's step.

    That is its loop, from a cache to the running counts, against steps alone, and the same loop in bfloat16 against it.
    """
    pairs, (batch, steps) = drawn_pairs(folder / "scenes"), TRAINED
    dataset = ChangePairs(pairs, build_augmentation("amfnet"), cached=open_cache(folder / "train.tiles", pairs, PLAIN))
    sampler = PFBSSampler([1] * len(pairs), positions=batch * steps)
    batches = BatchSampler(sampler, batch, drop_last=True)
    loader: DataLoader = DataLoader(dataset, None, sampler=batches, num_workers=1, persistent_workers=True)

    def loop(config: TrainConfig) -> Callable[[], None]:
        learner = new_learner(config, steps)
        return lambda: train_one_epoch(learner, loader, Epoch(0, steps), tqdm(disable=True))

    cases = []
    for name in MODELS:
        for form, network in twins(name).items():
            run = training_step(name, network, [dates.to(pick_device()) for dates in noise(batch, SIDE, form)])
            cases.append(Case(f"step, {name}, {form}", run, batch, f"step, {name}, plain"))
    return [
        *cases,
        Case("training, amfnet", loop(TrainConfig()), batch * steps, "step, amfnet, exact"),
        Case("training, amfnet, bf16", loop(TrainConfig(amp=True, amp_type="bf16")), batch * steps, "training, amfnet"),
    ]


def new_learner(config: TrainConfig, steps: int) -> Learner:
    """A learner of one epoch, on the GPU if there is one."""
    return build_learner(config, build_model(config.model), STATISTICS["none"], pick_device(), [steps])


def bf16(folder: Path) -> list[Case]:
    """Both networks in bfloat16 against float32 on the CPU, with the weights and images of the golden numbers."""
    from tests import golden  # what the published networks were run on

    before, after = (x.to(memory_format=torch.channels_last) for x in golden.images([1, 256, 256]))
    cases = []
    for name in ("amfnet_aux", "hanet"):
        network = from_official(golden.official_state(name)).eval().to(memory_format=torch.channels_last)

        @torch.inference_mode()
        def forward(half: bool, network: nn.Module = network) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16, half):
                return changed_pixels(network(before, after)[0].float())

        share = (forward(half=True) != forward(half=False)).float().mean().item()
        cases.append(Case(f"{name}, float32", partial(forward, half=False), len(before), f"{name}, float32"))
        note = f"{share:.2%} of the pixels differ"
        cases.append(Case(f"{name}, bfloat16", partial(forward, half=True), len(before), f"{name}, float32", note))
    return cases


def memory(folder: Path) -> list[Case]:
    """MB that a pair takes above the loaded network, of each network and its plain form, by size."""
    plain_forms()  # or say here that they are missing, not in a child
    cases = []
    for name in MODELS:
        for side in SIDES:
            what = f"{name}, {side} x {side}"
            for form in LAYOUTS:
                cases.append(Case(f"{what}, {form}", partial(in_own_process, name, form, side), 1, f"{what}, plain"))
    return cases


def in_own_process(name: str, form: str, side: int) -> float:
    """What `peak` returns, of a fresh process, whose memory is nobody else's."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(peak, name, form, side, torch.get_num_threads()).result()


def peak(name: str, form: str, side: int, threads: int) -> float:
    """MB that two predictions of `side` x `side` pixels, on the CPU, take above the loaded network."""
    keep_freed_memory()
    torch.set_num_threads(threads)
    build = plain_forms().PLAIN[name] if form == "plain" else partial(build_model, name)
    network = build().eval().to(memory_format=LAYOUTS[form])
    with torch.inference_mode():
        network(*noise(1, 32, form))  # what libraries take once is no pair's
        images = noise(1, side, form)
        forget_peak()
        loaded = resident()
        for _ in range(2):
            network(*images)
    return peak_resident() - loaded


NETWORKS: dict[str, Callable[[Path], list[Case]]] = {"inference": inference, "training": training, "bf16": bf16}

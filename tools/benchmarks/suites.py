"""The suites: each builds its cases, given a folder for its files, a device, and whether --short is given."""

import subprocess
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from types import ModuleType

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader
from tqdm import tqdm

from datasets.catalog import STATISTICS
from datasets.change_pairs import ChangePairs
from datasets.open_pair import read_pair
from datasets.pairs import Pair, find_pairs
from datasets.pfbs import PFBSSampler
from datasets.reading import MASKS
from datasets.scenes import write_scenes
from datasets.tile_cache import open_cache
from datasets.transforms import build_augmentation
from models import build_model
from models.siamese import InputScaling
from tools.benchmarks.measuring import Case
from tools.costs import in_own_process, time_and_memory
from utils.checkpoint import save_checkpoint
from utils.console import UserError
from utils.machine import first_line
from utils.prediction.blending import BATCH
from utils.prediction.config import parse_predict_config
from utils.prediction.predictor import ChangePredictor
from utils.prediction.session import predict
from utils.settings import PRECISIONS
from utils.training.config import TrainConfig
from utils.training.engine import Epoch, train_one_epoch
from utils.training.losses import LOSSES, DeepSupervisionLoss
from utils.training.recipes import RECIPES
from utils.training.trainer import OPTIMIZERS, build_learner

MODELS = ("amfnet", "hanet")  # the networks of which tests/plain has a plain form
SIDE, PAIRS, SIDES = 256, (1, 8), (256, 512, 1024)  # pixels and batch sizes of inference; pixels of memory
TRAINED, STEPS = 8, 2  # batch size of training, and steps of its loop
DRAWN, REPEATS = 64, 4  # drawn pairs, and how often an epoch of loading reads each
BATCHES = {"none": 8, "hanet": 8, "amfnet": 32, "open-cd": 8, "ours": 8}  # augmentation -> batch size of its recipe
BACKENDS = "torch", "openvino", "compile", "onnxruntime"  # --short leaves out the last two, which are slow to prepare
LAYOUTS = {"plain": torch.contiguous_format, "exact": torch.channels_last}
Probability = Callable[[Tensor, Tensor], Tensor]  # uint8 (B, 3, H, W) twice -> (B, H, W)


def published() -> ModuleType:
    """The package tests with the published networks' plain forms; FileNotFoundError if this copy lacks it."""
    try:
        import tests.golden
        import tests.plain
    except ImportError as error:
        raise FileNotFoundError(f"tests/plain: run the benchmark in a complete checkout ({error})") from error
    return tests


def forms_of(name: str, device: torch.device) -> dict[str, nn.Module]:
    """A network's exact form and, if it is a published one, its plain form with the same weights."""
    plain = published().plain
    networks = plain.twins(name) if name in plain.PLAIN else (None, build_model(name))
    forms = zip(LAYOUTS.items(), networks, strict=True)
    return {form: each.to(device).to(memory_format=layout) for (form, layout), each in forms if each is not None}


def noise(pairs: int, side: int, form: str, device: torch.device) -> list[Tensor]:
    """Both dates of a batch, (pairs, 3, side, side)."""
    return [torch.rand(pairs, 3, side, side).to(device, memory_format=LAYOUTS[form]) for _ in range(2)]


def saved(path: Path, name: str, network: nn.Module) -> Path:
    """Write a network's checkpoint."""
    about = {"model": name, "options": {}, "statistics": STATISTICS["none"]}
    save_checkpoint(path, {**about, "weights": network.state_dict()})
    return path


def drawn_pairs(folder: Path, count: int) -> list[Pair]:
    """Drawn scenes of SIDE x SIDE as PNG; at 256, an image has 120 kB and is as hard to decode as a photograph."""
    if not folder.exists():
        write_scenes(folder, {"test": count}, size=SIDE)
    return find_pairs(folder, "test")


def inference(folder: Path, device: torch.device, short: bool) -> list[Case]:
    """Each backend in each precision, from uint8 on the CPU to probabilities, against the first in float32."""
    cases = []
    images = [(255 * x).to(torch.uint8) for x in published().golden.images([max(PAIRS), SIDE, SIDE])]
    for name, pairs in product(MODELS, PAIRS):
        batch = [x[:pairs].pin_memory() if device.type == "cuda" else x[:pairs] for x in images]
        # opened for each batch size: a compiled network pads a smaller batch to the size it was compiled for
        networks, title = opened(name, folder, device, short), f"{name}, batch {pairs}"
        base = next(iter(networks))  # plain, or torch
        expected = predicted(networks[base], batch, device) > 0.5
        for form, network in networks.items():
            run = partial(predicted, network, batch, device)
            note = f"{((run() > 0.5) != expected).float().mean().item():.3%} of pixels flipped"
            cases.append(Case(f"{title}, {form}", run, pairs, f"{title}, {base}", note))
    return cases


@torch.inference_mode()
def predicted(network: Probability, batch: list[Tensor], device: torch.device) -> Tensor:
    """uint8 (B, 3, H, W) twice, on the CPU -> probability of change, (B, H, W), on the CPU."""
    return network(*(x.to(device, non_blocking=True) for x in batch)).cpu()


def opened(name: str, folder: Path, device: torch.device, short: bool) -> dict[str, Probability]:
    """A network's plain form, with the scaling and softmax of predictions, and the backends available here."""
    networks, scaling = forms_of(name, device), InputScaling(STATISTICS["none"]).to(device)
    path, found = saved(folder / f"golden-{name}.pt", name, networks["exact"]), dict[str, Probability]()
    if plain := networks.get("plain"):
        plain.eval()
        found["plain"] = lambda *dates: plain(*(x.contiguous() for x in scaling(*dates)))[0].softmax(1)[:, 1]
    for precision, backend in product(PRECISIONS, BACKENDS[:2] if short else BACKENDS):
        title = backend if precision == "fp32" else f"{backend} {precision}"
        try:
            model = ChangePredictor(path, device, precision=precision, backend=backend).model
            predicted(model, [torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8)] * 2, model.device)
        except Exception as error:  # not installed, or any error of a runtime
            sys.stderr.write(f"{name}, {title}: left out ({first_line(error)})\n")
            continue
        if model.backend == backend and model.device.type == device.type:  # else it fell back, with a warning
            found[title] = model
    return found


def training(folder: Path, device: torch.device, short: bool) -> list[Case]:
    """A training step of each network against its plain form's, and AMFNet's whole loop against its step."""
    cases = []
    for name in MODELS:
        title, networks = f"step, {name}, batch {TRAINED}", forms_of(name, device)
        for form, network in networks.items():
            run = training_step(name, form, network, noise(TRAINED, SIDE, form, device))
            cases.append(Case(f"{title}, {form}", run, TRAINED, f"{title}, {next(iter(networks))}"))
    if short or "amfnet" not in MODELS:
        return cases
    batches = loader(folder, "amfnet", TRAINED, cached=True, positions=TRAINED * STEPS)

    def loop(config: TrainConfig) -> Callable[[], None]:
        learner = build_learner(config, build_model("amfnet"), STATISTICS["none"], device, [STEPS])
        return lambda: train_one_epoch(learner, batches, Epoch(0, STEPS), tqdm(disable=True))

    full, half = loop(TrainConfig()), loop(TrainConfig(amp=True, amp_type="bf16"))
    cases.append(Case("training, amfnet", full, TRAINED * STEPS, f"step, amfnet, batch {TRAINED}, exact"))
    return [*cases, Case("training, amfnet, bf16", half, TRAINED * STEPS, "training, amfnet")]


def training_step(name: str, form: str, network: nn.Module, batch: list[Tensor]) -> Callable[[], None]:
    """Forward, loss, backward and optimizer of a network's recipe, on a batch in memory."""
    config = replace(TrainConfig(), **RECIPES.get(name, {}))  # type: ignore[arg-type]
    loss = DeepSupervisionLoss(LOSSES[config.loss], TrainConfig().loss_weights())
    # a learning rate of 0 takes the same time and keeps the weights
    optimizer = OPTIMIZERS[config.optimizer](network.parameters(), 0.0, fused=form == "exact" or None)
    mask = (torch.rand(len(batch[0]), SIDE, SIDE, device=batch[0].device) < 0.1).long()

    def step() -> None:
        total, _ = loss(network.train()(*batch), mask)
        total.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        total.item()  # synchronises a GPU

    return step


def memory(folder: Path, device: torch.device, short: bool) -> list[Case]:
    """MB that predicting one pair takes beyond the loaded network, of each network and its plain form."""
    cases, plain = [], published().plain.PLAIN
    for name, side in product(["hanet"] if short else MODELS, SIDES[-1:] if short else SIDES):
        title, forms = f"{name}, {side} x {side}", list(LAYOUTS)[name not in plain :]
        runs = {form: partial(in_own_process, peak, name, form, side, device) for form in forms}
        cases += [Case(f"{title}, {form}", run, base=f"{title}, {forms[0]}", unit="MB") for form, run in runs.items()]
    return cases


def peak(name: str, form: str, side: int, device: torch.device) -> float:
    """MB of the device's memory that predicting a pair of `side` x `side` pixels takes beyond the loaded network."""
    network = forms_of(name, device)[form].eval()
    time_and_memory(network, noise(1, 32, form, device))  # libraries allocate their own memory once
    return time_and_memory(network, noise(1, side, form, device))[1]


def loader(folder: Path, augmentation: str, batch: int, cached: bool, positions: int = 0) -> DataLoader:
    """The training loader on `drawn_pairs`, with one worker; `positions` is the number of pairs in an epoch."""
    pairs = REPEATS * drawn_pairs(folder / "scenes", DRAWN)
    cache = open_cache(folder / "train.tiles", pairs, MASKS) if cached else None
    dataset = ChangePairs(pairs, build_augmentation(augmentation), MASKS, cache)
    batches = BatchSampler(PFBSSampler([1] * len(pairs), positions=positions), batch, drop_last=False)
    return DataLoader(dataset, None, sampler=batches, num_workers=1, persistent_workers=True)


def loading(folder: Path, device: torch.device, short: bool) -> list[Case]:
    """One worker, from files and from a cache, against decoding by Pillow in one process."""
    pairs = REPEATS * drawn_pairs(folder / "scenes", DRAWN)

    def decode() -> None:
        for path in (path for pair in pairs for path in (pair.before, pair.after, pair.label)):
            with Image.open(path) as image:
                image.load()

    cases = [Case("decoding", decode, len(pairs))]
    for source, base in (("files", "decoding"), ("cache", "files, {}")):
        for name in (name for name in BATCHES if name in MODELS or not short):
            epoch = partial(deque, loader(folder, name, BATCHES[name], source == "cache"), 0)
            cases.append(Case(f"{source}, {name}", epoch, len(pairs), base.format(name)))
    return cases


def prediction(folder: Path, device: torch.device, short: bool) -> list[Case]:
    """predict_batch.py from files to maps and report, against its network alone on pixels in memory."""
    pixels, cases = [read_pair(pair, MASKS)[:2] for pair in drawn_pairs(folder / "scenes", DRAWN)], []

    def network(predictor: ChangePredictor, batches: list) -> None:
        for batch in batches:
            predictor.probability(*batch).cpu()

    for name in MODELS:
        predictor = ChangePredictor(saved(folder / f"{name}.pt", name, build_model(name)), device)
        batches = [predictor.collate(pixels[i : i + BATCH]) for i in range(0, len(pixels), BATCH)]
        config = parse_predict_config(flags(folder, f"{name}.pt", "scenes", device))
        script = partial(predict, config)
        cases.append(Case(f"network, {name}", partial(network, predictor, batches), len(pixels)))
        cases.append(Case(f"files, {name}", script, len(pixels), f"network, {name}"))
    return cases


def startup(folder: Path, device: torch.device, short: bool) -> list[Case]:
    """predict_batch.py in its own process: its help, and the map of one pair."""
    saved(folder / "one.pt", "amfnet", build_model("amfnet"))
    drawn_pairs(folder / "one", 1)
    first_map = partial(in_python, *flags(folder, "one.pt", "one", device))
    cases = {"predict_batch.py --help": partial(in_python, "--help"), "first map of one 256 pair, amfnet": first_map}
    return [Case(name, run, unit="s") for name, run in cases.items()]


def flags(folder: Path, checkpoint: str, scenes: str, device: torch.device) -> list[str]:
    """Flags of predict_batch.py."""
    words = ["--checkpoint", folder / checkpoint, "--data-root", folder / scenes, "--split", "test", "--overwrite"]
    return [str(word) for word in (*words, "--output", folder / f"maps-{checkpoint}", "--device", device)]


def in_python(*words: str) -> None:
    """Run predict_batch.py in its own process; UserError unless its exit code is 0."""
    command = [sys.executable, str(Path(__file__).parents[2] / "predict_batch.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"predict_batch.py: exit code {done.returncode}: {done.stderr.strip().rpartition(chr(10))[2]}")

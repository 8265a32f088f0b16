"""What the benchmark measures of the networks alone: against their plain, published forms, and in training."""

import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader
from tqdm import tqdm

from datasets.catalog import STATISTICS
from datasets.change_pairs import ChangePairs
from datasets.pfbs import PFBSSampler
from datasets.reading import MASKS
from datasets.tile_cache import open_cache
from datasets.transforms import build_augmentation
from models import MODELS, build_model
from tools.costs import count_macs
from tools.suites import Case, Setting, drawn_pairs
from utils.checkpoint import save_checkpoint
from utils.machine import first_line, forget_peak, peak_used, used_now
from utils.prediction.predictor import ChangePredictor
from utils.runtimes.input_scaling import InputScaling, scaling_from
from utils.runtimes.rewriting import prepare_for_inference
from utils.runtimes.torch_network import Network
from utils.settings import BACKENDS, PRECISIONS
from utils.training.config import TrainConfig
from utils.training.engine import Epoch, train_one_epoch
from utils.training.losses import LOSSES, DeepSupervisionLoss
from utils.training.recipes import RECIPES
from utils.training.trainer import OPTIMIZERS, build_learner

SIDE = 256  # pixels of a pair whose time is taken
PAIRS = 1, 8  # in a batch, in the suite of inference
TRAINED = 8, 2  # batch and steps, in the suite of training
SIDES = 256, 512, 1024  # pixels of a pair, in the suite of memory
PRODUCT = {"cpu": 2048, "cuda": 8192}  # side of the matrices whose product shows a machine's peak
LAYOUTS = {"plain": torch.contiguous_format, "exact": torch.channels_last}
Probability = Callable[[Tensor, Tensor], Tensor]  # uint8 (B, 3, H, W) twice -> (B, H, W)


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


def twins(name: str, device: torch.device) -> dict[str, nn.Module]:
    """A network in its plain form and as it stands, with the weights of the golden numbers, each in its layout."""
    forms = zip(LAYOUTS, plain_forms().twins(name), strict=True)
    return {form: network.to(device).to(memory_format=LAYOUTS[form]) for form, network in forms}


def noise(pairs: int, side: int, form: str, device: torch.device) -> list[Tensor]:
    """Both dates of a batch, (pairs, 3, side, side)."""
    return [torch.rand(pairs, 3, side, side).to(device, memory_format=LAYOUTS[form]) for _ in range(2)]


def operations(network: nn.Module) -> float:
    """Floating-point operations of a prediction of SIDE x SIDE: two a multiply-add; others are not counted."""
    return 2.0 * sum(each.total for each in count_macs(network, SIDE, SIDE))


def machine_peak(device: torch.device, dtype: torch.dtype) -> Case:
    """What this machine makes of a large product of matrices, which no network can beat by much."""
    side = PRODUCT[device.type]
    matrix = torch.rand(side, side, device=device).to(dtype)
    result = torch.empty_like(matrix)

    def run() -> None:
        torch.mm(matrix, matrix, out=result)[0, 0].item()  # waits for a GPU

    name = f"torch.mm, {str(dtype).removeprefix('torch.')}"
    return Case(name, run, 1, name, operations=2.0 * side**3, peak=name)


def inference(setting: Setting) -> list[Case]:
    """Each network from uint8 to probabilities by all that can run it here, against its plain form in float32.

    On a GPU pinned pixels go there first. Backends are counted as doing what the rewritten network does.
    """
    from tests import golden  # what the published networks were run on

    float32, bfloat16 = (machine_peak(setting.device, dtype) for dtype in (torch.float32, torch.bfloat16))
    cases = [float32, bfloat16]
    for name in MODELS:
        images = [(255 * x).to(torch.uint8) for x in golden.images([max(PAIRS), SIDE, SIDE])]
        forms = probabilities(name, setting)
        for pairs in PAIRS:
            batch = [x[:pairs].pin_memory() if setting.device.type == "cuda" else x[:pairs] for x in images]
            if pairs != PAIRS[0] and not setting.brief:
                forms = probabilities(name, setting)  # anew: what is compiled fills a smaller batch up to one before
            plain = predicted(forms["plain"][0], batch) > 0.5
            for form, (model, count) in forms.items():
                moved = ((predicted(model, batch) > 0.5) != plain).float().mean().item()
                case = Case(
                    f"{name}, batch {pairs}, {form}",
                    partial(lambda *inputs: predicted(*inputs)[0, 0, 0].item(), model, batch),  # waits for a GPU
                    pairs,
                    f"{name}, batch {pairs}, plain",
                    "" if form == "plain" else f"{moved:.3%} of the pixels move",
                    operations=count,
                    peak=(bfloat16 if form.endswith("bf16") else float32).name,
                )
                cases.append(case)
    return cases


@torch.inference_mode()
def predicted(model: Probability, batch: list[Tensor]) -> Tensor:
    """uint8 (B, 3, H, W) twice, on the CPU -> probability of change, (B, H, W), where the model leaves it."""
    before, after = (x.to(getattr(model, "device", "cpu"), non_blocking=True) for x in batch)
    return model(before, after)


def probabilities(name: str, setting: Setting) -> dict[str, tuple[Probability, float]]:
    """A network's forms, all with the same weights, and their operations a pair: from uint8 dates to a probability.

    Plain as published, its modules as they are trained, and the backends that are here, in both precisions.
    """
    networks = twins(name, setting.device)
    modules, scaling = networks["exact"].eval(), scaling_from(STATISTICS["none"]).to(setting.device)
    found: dict[str, tuple[Probability, float]] = {
        title: (Scaled(networks[form].eval(), scaling, LAYOUTS[form]), operations(networks[form]))
        for title, form in (("plain", "plain"), ("modules", "exact"))
    }
    rewritten = operations(prepare_for_inference(modules.cpu()))
    modules.to(setting.device)
    path = setting.folder / f"golden-{name}.pt"
    about = {"model": name, "options": {}, "statistics": STATISTICS["none"]}
    save_checkpoint(path, {**about, "weights": modules.state_dict()})
    left_out = {"compile", "onnxruntime"} if setting.brief else set()
    left_out |= {"openvino"} if setting.device.type == "cuda" else set()
    chosen = [each for each in BACKENDS if each not in left_out]
    for precision in PRECISIONS:
        for backend in chosen:
            title = backend if precision == "fp32" else f"{backend} {precision}"
            try:
                model = ChangePredictor(path, setting.device, precision=precision, backend=backend).model
                predicted(model, [torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8)] * 2)
            except Exception as error:  # it is not installed, or fails in a way of its own
                sys.stderr.write(f"{name}, {title}: left out ({first_line(error)})\n")
                continue
            if model.backend == backend:  # or it could not be done here, and a warning said so
                found[title] = model, rewritten
    return found


class Scaled(nn.Module):
    """A network with the scaling before it and the softmax behind it that predictions have, in a layout of its own."""

    def __init__(self, network: Network, scaling: InputScaling, layout: torch.memory_format) -> None:
        super().__init__()
        self.network, self.mean, self.std, self.layout = network, scaling.mean, scaling.std, layout
        self.device = scaling.mean.device

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """uint8 (B, 3, H, W) twice -> float32 (B, H, W)."""
        dates = ((x.float() / 255 - self.mean[date]) / self.std[date] for date, x in enumerate((before, after)))
        return self.network(*(x.contiguous(memory_format=self.layout) for x in dates))[0].softmax(1)[:, 1]


def training_step(name: str, form: str, network: nn.Module, batch: list[Tensor]) -> Callable[[], None]:
    """Forward, loss, backward and optimizer of a network's recipe, on a batch that is in memory.

    The exact form is what `train_aux.py` makes of a network; the plain one is left as it is, its optimizer as well.
    """
    recipe = {key: RECIPES[name][key] for key in ("loss", "optimizer")}
    loss = DeepSupervisionLoss(LOSSES[str(recipe["loss"])], TrainConfig().loss_weights())
    # no rate: it costs the same, and weights that are not trained on noise
    optimizer = OPTIMIZERS[str(recipe["optimizer"])](network.parameters(), 0.0, fused=form == "exact" or None)
    mask = (torch.rand(len(batch[0]), SIDE, SIDE, device=batch[0].device) < 0.1).long()

    def step() -> None:
        total, _ = loss(network.train()(*batch), mask)
        total.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        total.item()  # waits for a GPU

    return step


def training(setting: Setting) -> list[Case]:
    """A training step of each network against that of its plain form; and what a run adds to AMFNet's step.

    That is its loop, from a cache to the running counts, against steps alone, and the same loop in bfloat16 against it.
    A step is counted as three predictions: backward takes two products for each of forward's.
    """
    batch, peak = TRAINED[0], machine_peak(setting.device, torch.float32)
    cases = [peak]
    for name in MODELS:
        title = f"step, {name}, batch {batch}"
        for form, network in twins(name, setting.device).items():
            count = 3 * operations(network)
            run = training_step(name, form, network, noise(batch, SIDE, form, setting.device))
            case = Case(f"{title}, {form}", run, batch, f"{title}, plain", operations=count, peak=peak.name)
            cases.append(case)
    return cases if setting.brief else cases + training_loops(setting, f"step, amfnet, batch {batch}, exact")


def training_loops(setting: Setting, base: str) -> list[Case]:
    """AMFNet's loop from a cache, in float32 against the case of this name, and in bfloat16 against float32."""
    pairs, (batch, steps) = drawn_pairs(setting.folder / "scenes"), TRAINED
    cached = open_cache(setting.folder / "train.tiles", pairs, MASKS)
    dataset = ChangePairs(pairs, build_augmentation("amfnet"), MASKS, cached)
    sampler = PFBSSampler([1] * len(pairs), positions=batch * steps)
    batches = BatchSampler(sampler, batch, drop_last=True)
    loader: DataLoader = DataLoader(dataset, None, sampler=batches, num_workers=1, persistent_workers=True)

    def loop(config: TrainConfig) -> Callable[[], None]:
        network = build_model(config.model)
        learner = build_learner(config, network, STATISTICS["none"], setting.device, [steps])
        return lambda: train_one_epoch(learner, loader, Epoch(0, steps), tqdm(disable=True))

    return [
        Case("training, amfnet", loop(TrainConfig()), batch * steps, base),
        Case("training, amfnet, bf16", loop(TrainConfig(amp=True, amp_type="bf16")), batch * steps, "training, amfnet"),
    ]


def memory(setting: Setting) -> list[Case]:
    """MB that a pair takes above the loaded network, of each network and its plain form, by size."""
    plain_forms()  # or say here that they are missing, not in a child
    cases = []
    for name in ("hanet",) if setting.brief else MODELS:
        for side in SIDES[-1:] if setting.brief else SIDES:
            what = f"{name}, {side} x {side}"
            for form in LAYOUTS:
                run = partial(in_own_process, name, form, side, setting.device)
                cases.append(Case(f"{what}, {form}", run, 1, f"{what}, plain", unit="MB"))
    return cases


def in_own_process(name: str, form: str, side: int, device: torch.device) -> float:
    """What `peak` returns, of a fresh process, whose memory is nobody else's."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(peak, name, form, side, device, torch.get_num_threads()).result()


def peak(name: str, form: str, side: int, device: torch.device, threads: int) -> float:
    """MB that a prediction of `side` x `side` pixels takes above the loaded network, of the GPU if one computes.

    Without keeping what is freed, which takes about twice as much.
    """
    torch.set_num_threads(threads)
    build = plain_forms().MASKS[name] if form == "plain" else partial(build_model, name)
    network = build().eval().to(device).to(memory_format=LAYOUTS[form])
    with torch.inference_mode():
        network(*noise(1, 32, form, device))  # what libraries take once is no pair's
        images = noise(1, side, form, device)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        else:
            forget_peak()
        loaded = used_now(device)
        network(*images)
    return peak_used(device) - loaded


NETWORKS: dict[str, Callable[[Setting], list[Case]]] = {"inference": inference, "training": training}

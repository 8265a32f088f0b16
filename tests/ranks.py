"""What each process does in the tests of several; run by torchrun as a module, it prints what it found as JSON."""

import json
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch

from datasets import tile_cache
from models import build_model
from utils.training import distributed
from utils.training.config import parse_train_config
from utils.training.data import open_data, validation_loader
from utils.training.engine import Epoch
from utils.training.run_folder import Run
from utils.training.stopping import Stopping
from utils.training.trainer import Trainer, build_learner


def gradients(config, learner):
    """The gradient of one step over a joint batch, its batch normalisation frozen; each rank has its share."""
    images = torch.randint(0, 256, (2, 4, 3, 32, 32), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    mask = torch.randint(0, 2, (4, 32, 32), generator=torch.Generator().manual_seed(2))
    batch = {"before": images[0], "after": images[1], "mask": mask}
    share = {key: value[distributed.rank() :: distributed.ranks()] for key, value in batch.items()}
    found = []
    learner.optimizer.register_step_pre_hook(
        lambda optimizer, *_: found.extend(p.grad.clone() for p in learner.network.parameters() if p.requires_grad)
    )
    learner.network.eval()
    learner.step([share])
    return torch.cat([gradient.flatten() for gradient in found])


def late():
    """One rank is slow to set up, and the first one to save: longer than ranks wait for each other in a step."""
    distributed.TIMEOUT = timedelta(seconds=3)
    distributed.join(torch.device("cpu"))
    if distributed.rank():
        time.sleep(5)
    distributed.wait_for_all()
    distributed.by_first(lambda: time.sleep(5))
    done = distributed.first_on_each_node(lambda: distributed.rank())
    said = {"sum": distributed.summed(torch.tensor(1)).item(), "highest": distributed.highest(done, -done)}
    try:
        distributed.by_first(lambda: Path("no such folder", "file").write_text(""))
    except (FileNotFoundError, ValueError) as error:
        said["errors"] = distributed.highest(isinstance(error, FileNotFoundError), distributed.FAILED in str(error))
    if distributed.rank() == 0:
        sys.stdout.write(json.dumps(said) + "\n")
    distributed.leave()


def main(argv):
    """Evaluate the val split and make one step with a seeded network; the first rank prints counts and gradient."""
    config = parse_train_config(argv)
    fills, fill = [], tile_cache._fill
    tile_cache._fill = lambda path, *rest: fills.append(path) or fill(path, *rest)
    device = distributed.join(torch.device("cpu"))
    torch.manual_seed(0)
    network = build_model(config.model, **config.network_options)
    data = open_data(config, network.size_divisor, None, config.output)
    learner = build_learner(config, network, data.statistics, device, [1])
    trainer = Trainer(Run(config.output, config, {}, learner), validation_loader(data, config, device), Stopping())
    if distributed.rank():  # evaluation must take the first rank's running statistics, not these
        for buffer in network.buffers():
            buffer.add_(1)
    result = trainer.evaluate(network, levels=True)
    epoch = Epoch(0, 1)
    assert not epoch.done
    gradient = gradients(config, learner)
    filled = distributed.summed(torch.tensor(len(fills))).item()
    if distributed.rank() == 0:
        said = {
            "fills": filled,
            "counts": result.counts.tolist(),
            "levels": result.levels.sum().item(),
            "loss": result.loss,
        }
        sys.stdout.write(json.dumps({**said, "gradient": gradient.tolist()}) + "\n")
    distributed.leave()


if __name__ == "__main__":
    late() if sys.argv[1:] == ["late"] else main(sys.argv[1:])

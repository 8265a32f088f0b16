"""What each process does in the tests of several; run by torchrun as a module, the first one prints JSON."""

import json
import sys
import time
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import torch

from datasets import tile_cache
from models import build_model
from utils.training import distributed
from utils.training.config import parse_train_config
from utils.training.data import open_data, validation_loader
from utils.training.run_folder import Run
from utils.training.stopping import Stopping
from utils.training.trainer import Trainer, build_learner


def gradients(learner):
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
    distributed.TIMEOUT = timedelta(seconds=2)
    distributed.join(torch.device("cpu"))
    if distributed.rank():
        time.sleep(3)
    distributed.wait_for_all()
    distributed.by_first(lambda: time.sleep(3))
    done = distributed.first_on_each_node(lambda: distributed.rank())
    said = {"sum": distributed.summed(torch.tensor(1)).item(), "highest": distributed.highest(done, -done)}
    try:
        distributed.by_first(lambda: Path("no such folder", "file").write_text(""))
    except (FileNotFoundError, ValueError) as error:
        said["errors"] = distributed.highest(isinstance(error, FileNotFoundError), distributed.FAILED in str(error))
    return said


def measure(argv):
    """Evaluate the val split and make one step with a seeded network: fills of the cache, counts, loss, gradient."""
    config = parse_train_config(argv)
    device = distributed.join(torch.device("cpu"))
    torch.manual_seed(0)
    network = build_model(config.model, **config.network_options)
    with patch.object(tile_cache, "_fill", wraps=tile_cache._fill) as fill:
        data = open_data(config, network.size_divisor, None, config.output)
    learner = build_learner(config, network, data.statistics, device, [1])
    trainer = Trainer(Run(config.output, config, {}, learner), validation_loader(data, config, device), Stopping())
    if distributed.rank():  # evaluation must take the first rank's running statistics, not these
        for buffer in network.buffers():
            buffer.add_(1)
    result = trainer.evaluate(network, levels=True)
    said = {"counts": result.counts.tolist(), "levels": result.levels.sum().item(), "loss": result.loss}
    fills = distributed.summed(torch.tensor(fill.call_count)).item()
    return {"fills": fills, **said, "gradient": gradients(learner).tolist()}


if __name__ == "__main__":
    result = late() if sys.argv[1:] == ["late"] else measure(sys.argv[1:])
    if distributed.rank() == 0:
        sys.stdout.write(json.dumps(result) + "\n")
    torch.distributed.destroy_process_group()

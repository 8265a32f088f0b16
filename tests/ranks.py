"""What each process does in the tests of several; run by torchrun as a module, it prints what it found as JSON."""

import json
import sys

import torch

import train_aux
from utils import distributed
from utils.config import parse_train_config
from utils.engine import Epoch
from utils.run_folder import Run
from utils.survival import Stopping
from utils.training import Trainer, build_learner


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


def main(argv):
    """Evaluate the val split and make one step with a seeded network; the first rank prints counts and gradient."""
    config = parse_train_config(argv)
    device = distributed.join(torch.device("cpu"))
    torch.manual_seed(0)
    network = train_aux.build_model(config.model, **config.network_options)
    data = train_aux.open_data(config, network.size_divisor, None, config.output)
    learner = build_learner(config, network, data.statistics, device, [1])
    trainer = Trainer(
        Run(config.output, config, {}, learner), train_aux.validation_loader(data, config, device), Stopping()
    )
    if distributed.rank():  # evaluation must take the first rank's running statistics, not these
        for buffer in network.buffers():
            buffer.add_(1)
    result = trainer.evaluate(network, levels=True)
    epoch = Epoch(0, 1)
    assert not epoch.done
    gradient = gradients(config, learner)
    if distributed.rank() == 0:
        said = {"counts": result.counts.tolist(), "levels": result.levels.sum().item(), "loss": result.loss}
        sys.stdout.write(json.dumps({**said, "gradient": gradient.tolist()}) + "\n")
    distributed.leave()


if __name__ == "__main__":
    main(sys.argv[1:])

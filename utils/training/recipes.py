"""The published results as settings, every number with its source, and our own; the rest are the flags' defaults."""

from pathlib import Path

Recipe = dict[str, object]

# AMFNet, train_aux.py as released: LEVIR-CD
AMFNET: Recipe = {
    "model": "amfnet",
    "backbone_weights": "imagenet",
    "statistics": "none",  # images in [0, 1], not normalised
    "augmentation": "amfnet",
    "loss": "bce",
    "aux_weights": (0.5, 0.4, 0.3),  # train_aux.py; train.py has the balanced form
    "optimizer": "adam",
    "lr": 1e-4,
    "schedule": "poly",  # power 0.9, an epoch at a time
    "epochs": 200,
    "batch_size": 32,
}

# HANet Sec. IV-A and the released trainHCX.py; where they differ, the code
HANET: Recipe = {
    "model": "hanet",
    "backbone_weights": "none",
    "statistics": "train",
    "augmentation": "hanet",
    "linear_epochs": 35,
    "loss": "hybrid",  # focal + dice
    "optimizer": "adamw",  # Sec. IV-A says Adam
    "lr": 5e-4,
    "weight_decay": 5e-4,
    "schedule": "step",  # halved every 8 epochs
    "epochs": 100,
    "batch_size": 8,
}

# Open-CD's configuration of HANet: 40,000 iterations, a validation every 4,000
HANET_OPENCD: Recipe = {
    "model": "hanet",
    "model_options": {"fcn_head": True},
    "backbone_weights": "none",
    "statistics": "imagenet",
    "augmentation": "open-cd",
    "crop_size": 256,  # of whole images of 1024, in which validation and test are scored
    "loss": "cross-entropy",
    "optimizer": "adamw",
    "lr": 1e-3,
    "weight_decay": 0.05,
    "schedule": "linear",  # polynomial of power 1
    "warmup_steps": 1000,
    "epoch_steps": 4000,
    "epochs": 10,
    "batch_size": 8,
}

# The same networks as one would train them today, few pairs or many; docs/recipes.md argues every line
OURS: Recipe = {
    "statistics": "train",
    "augmentation": "ours",
    "time_swap": True,
    "drawn": 0.5,
    "loss": "hybrid",
    "optimizer": "adamw",
    "lr": 1e-3,
    "weight_decay": 0.01,
    "schedule": "cosine",
    "warmup_steps": 50,
    "ema": 0.99,
    "amp": True,
    "epoch_steps": 1000,
    "epochs": 40,
    "batch_size": 8,
}

# The detector: drawn scenes alone, half a metre a pixel (docs/detector.md); 40,000 steps are for a GPU and were not run
DETECTOR: Recipe = {
    **OURS,
    "model": "amfnet",
    "model_options": {"backbone": "efficientnet_lite0", "bfm_norms": "separate"},
    "backbone_weights": "imagenet",
    "statistics": "half",
    "pixel_size": 0.5,
    "crop_size": 160,  # in which no class fills three quarters, so that most hold change
    "drawn": 0.0,
}

# From the detector, for ten to a few hundred tiles; docs/detector.md has the scores
FINE_TUNE: Recipe = {
    **OURS,
    "init_from": Path("detector"),
    "statistics": "checkpoint",
    "crop_size": 128,
    "drawn": 0.0,
    "lr": 3e-4,
    "amp": False,
    "epoch_steps": 100,
    "epochs": 4,
}

# FC-EF and FC-Siam (ICIP 2018): the networks end in a log-softmax, so their loss is cross-entropy, and they start from
# scratch. All else is ours: no source here gives optimizer, rate, length, batch, augmentation or input scaling.
FC: Recipe = {
    "backbone_weights": "none",
    "statistics": "train",
    "augmentation": "hanet",
    "loss": "cross-entropy",
    "optimizer": "adam",
    "lr": 1e-3,
    "weight_decay": 1e-4,
    "schedule": "linear",
    "epochs": 100,
    "batch_size": 16,
}

# SNUNet-CD as released: its metadata.json gives loss, rate, epochs and batch; loss and optimizer are those of HANet.
# Weight decay, schedule, augmentation and input scaling are HANet's, for no source here gives SNUNet's.
SNUNET: Recipe = {
    **HANET,
    "model": "snunet",
    "linear_epochs": 0,  # all images from the start
    "lr": 1e-3,
    "batch_size": 16,
}

# BIT as released. The augmentation, quarter turns and flips, is ours. The rate decays by the step, as released by epoch
BIT: Recipe = {
    "model": "bit",
    "backbone_weights": "imagenet",
    "statistics": "half",
    "augmentation": "hanet",
    "loss": "cross-entropy",
    "optimizer": "sgd",
    "momentum": 0.99,
    "lr": 0.01,
    "weight_decay": 5e-4,
    "schedule": "linear",
    "epochs": 200,
    "batch_size": 8,
}

# One protocol for every network, which --model names: Open-CD's (40,000 steps of 8 crops), with these changes. The loss
# has a term of the class, since cross-entropy alone marks almost nothing in short runs; every network starts undecided,
# since HANet's own start takes hundreds of steps to undo; the training split normalises the input, so that other bands
# work; every network starts from scratch unless --backbone-weights names weights.
EQUAL: Recipe = {
    **{name: value for name, value in HANET_OPENCD.items() if name not in ("model", "model_options")},
    "statistics": "train",
    "loss": "hybrid",
    "zero_heads": True,
}

RECIPES: dict[str, Recipe] = {
    "amfnet": AMFNET,
    "amfnet-levir": AMFNET,
    "amfnet-sysu": {**AMFNET, "batch_size": 16},  # train.py's, whose data set is SYSU-CD
    "amfnet-gz": {**AMFNET, "batch_size": 16},
    "hanet": HANET,
    # samplers and epochs by the names of the released files
    "hanet-levir": {**HANET, "statistics": "levir"},  # LinearIncrease35 Epo100
    "hanet-whu": {
        **HANET, "statistics": "whu", "fixed_epochs": 20, "linear_epochs": 0, "loss": "focal", "epochs": 50
    },  # Fixed20-FocalLoss Epo50
    "hanet-sysu": {**HANET, "statistics": "sysu", "linear_epochs": 20, "epochs": 50},  # LinearIncrease20 Epo50
    "hanet-cdd": {**HANET, "statistics": "cdd", "fixed_epochs": 25, "linear_epochs": 0},  # Fixed25 Epo100
    "hanet-dsifn": {**HANET, "statistics": "dsifn", "fixed_epochs": 15, "linear_epochs": 0},  # Fixed15 Epo100
    "hanet-s2looking": {
        **HANET, "statistics": "s2looking", "fixed_epochs": 15, "linear_epochs": 0, "epochs": 50
    },  # Fixed15 Epo50
    "hanet-opencd-levir": HANET_OPENCD,
    **{name: {**FC, "model": name} for name in ("fc-ef", "fc-siam-conc", "fc-siam-diff")},
    "snunet": SNUNET,
    "bit": BIT,
    "unet": {**EQUAL, "model": "unet", "backbone_weights": "imagenet"},  # ours
    "equal": EQUAL,
    "ours-amfnet": {**OURS, "model": "amfnet", "backbone_weights": "imagenet", "lr": 5e-4},
    "ours-hanet": {
        **OURS, "model": "hanet", "backbone_weights": "none", "zero_heads": True,
        "augmentation": "colours", "time_swap": False,  # from scratch it is slow to begin under more
    },
    "detector": DETECTOR,
    "fine-tune": FINE_TUNE,
}  # fmt: skip

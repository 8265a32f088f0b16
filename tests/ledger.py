"""What a computation asks of a machine, counted and not timed: calls of each operator, and bytes of living tensors."""

import weakref
from collections import Counter

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Ledger(TorchDispatchMode):
    """Counts, while entered, calls by operator and the most bytes that tensors made meanwhile held at once.

    Views share their storage and cost nothing; what operators take for themselves and give back is not seen.
    """

    def __init__(self):
        super().__init__()
        self.calls = Counter()
        self.alive = self.peak = 0
        self.known = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.note((args, kwargs), ours=False)
        out = function(*args, **(kwargs or {}))
        self.calls[function.overloadpacket.__name__] += 1
        self.note(out, ours=True)
        return out

    def note(self, tensors, ours):
        for tensor in tree_leaves(tensors):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                key, size = storage._cdata, storage.nbytes() if ours else 0
                if key not in self.known:
                    self.known.add(key)
                    self.alive += size
                    self.peak = max(self.peak, self.alive)
                    weakref.finalize(storage, self.forget, key, size)

    def forget(self, key, size):
        self.known.discard(key)
        self.alive -= size

"""What hublock-examples/tiny offers to PyTorch Hub: every public function of this file.

What a user must not see as a model begins with an underscore, imported names too.
"""

from pathlib import Path as _Path

import torch as _torch
from tiny import Tiny as _Tiny

dependencies = ["torch"]

_RELEASE = "https://github.com/hublock-examples/tiny/releases/download/v1.0"


def tiny(pretrained: bool = False, progress: bool = True, width: int = 16) -> _Tiny:
    """The sine between -pi and pi, learned by three layers.

    Args:
        pretrained: fetch the trained weights (4 kB, width 16 only); else they are random.
        progress: show a bar while fetching.
        width: how many neurons each hidden layer has.

    Returns:
        A torch.nn.Module that maps a column of numbers to a column of numbers.

    Example:
        >>> model = torch.hub.load("hublock-examples/tiny:v1.0", "tiny", pretrained=True)
        >>> model(torch.tensor([[1.5]]))
    """
    model = _Tiny(width)
    if pretrained:
        # the name ends in the first eight digits of the file's sha256; check_hash compares them
        url = f"{_RELEASE}/tiny-0388fffa.pth"
        model.load_state_dict(_torch.hub.load_state_dict_from_url(url, progress=progress, check_hash=True))
    return model.eval()


def tiny_in_tree() -> _Tiny:
    """The same at half the width; its weights are a file of the repository, so nothing is fetched.

    Returns:
        A torch.nn.Module that maps a column of numbers to a column of numbers.
    """
    model = _Tiny(width=8)
    model.load_state_dict(_in_tree("tiny-in-tree.pt"))
    return model.eval()


def _in_tree(name: str) -> dict[str, _torch.Tensor]:
    state: dict[str, _torch.Tensor] = _torch.load(_Path(__file__).parent / "weights" / name, weights_only=True)
    return state

"""The network."""

import torch
from torch import nn


class Tiny(nn.Module):
    """A multilayer perceptron of one number, small enough to look at."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(1, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map a column of numbers to a column of numbers."""
        answer: torch.Tensor = self.layers(x)
        return answer

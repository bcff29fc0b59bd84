"""Table 1 of the paper: the largest error of each model on the test points."""

import sys

import torch

import hublock

POINTS = "https://github.com/hublock-examples/tiny/releases/download/v1.0/points-4d3cecd4.pth"
PUBLISHED = {"tiny": 0.001522, "half": 0.004828}
TOLERANCE = 2e-6  # processors round differently


def largest_error(model: torch.nn.Module, points: dict[str, torch.Tensor]) -> float:
    with torch.inference_mode():
        return (model(points["x"]) - points["y"]).abs().max().item()


def main() -> int:
    points = hublock.load_state_dict_from_url(POINTS)
    reproduced = True
    for name, published in PUBLISHED.items():
        measured = largest_error(hublock.load(name), points)
        same = abs(measured - published) <= TOLERANCE
        print(f"{name:<5} published {published:.6f}  measured {measured:.6f}  {'same' if same else 'DIFFERENT'}")
        reproduced &= same
    return 0 if reproduced else 1


if __name__ == "__main__":
    sys.exit(main())

"""Train both models and write the files that hubconf.py names.

One seed, so the same machine makes the same bytes again. Another processor or another torch may round differently and
make other bytes, which is why the name of a published file carries its hash and a published file is never replaced.
"""

import hashlib
import io
import math
from pathlib import Path

import torch
from tiny import Tiny

HERE = Path(__file__).parent


def train(width: int, steps: int = 3000) -> Tiny:
    """Fit the sine between -pi and pi."""
    torch.manual_seed(0)
    model = Tiny(width)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    x = torch.linspace(-math.pi, math.pi, 200)[:, None]
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(x), x.sin()).backward()
        optimizer.step()
        schedule.step()
    return model


def packed(tensors: dict[str, torch.Tensor]) -> bytes:
    """Save to memory: torch.save writes a file's name into the file, and this name is made from the bytes."""
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    return buffer.getvalue()


def release(stem: str, data: bytes) -> None:
    """Write a release asset, named as load_state_dict_from_url(check_hash=True) wants it."""
    path = HERE / "release" / f"{stem}-{hashlib.sha256(data).hexdigest()[:8]}.pth"
    path.write_bytes(data)
    print(f"upload {path.relative_to(HERE)}, and name it in hubconf.py")


if __name__ == "__main__":
    (HERE / "release").mkdir(exist_ok=True)
    (HERE / "weights").mkdir(exist_ok=True)
    release("tiny", packed(train(width=16).state_dict()))
    (HERE / "weights" / "tiny-in-tree.pt").write_bytes(packed(train(width=8).state_dict()))
    test_x = torch.linspace(-3, 3, 61)[:, None]
    release("points", packed({"x": test_x, "y": test_x.sin()}))

"""What people do with a model after loading it works with one that lives under a name of its own."""

import copy
import inspect
import io
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from hublock.runtime.isolation import find_class, import_hubconf, stock_names
from hublock.runtime.repository import Repository, namespace
from tests.runtime.carrying import Carried
from tests.runtime.trees import make_repository

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.filterwarnings("default")

FILES = {
    "hubconf.py": """
        import os, sys
        sys.path.insert(0, os.path.join(os.path.dirname(__file__), "src"))
        dependencies = ["torch"]
        from models.net import Net
        from models.data import Set
        from inner.block import Block
        def net(width=4): return Net(width)
    """,
    "models/__init__.py": "",
    "models/net.py": '''
        import torch
        import torch.nn as nn
        import utils.maths
        from inner.block import Block

        class Net(nn.Module):
            """A net that imports while it runs."""
            def __init__(self, width: int = 4):
                super().__init__()
                self.linear = nn.Linear(width, width)
                self.block = Block()

            def forward(self, x):
                import utils.late
                from utils.late import shift
                import utils.late as late
                return self.block(shift(utils.maths.double(self.linear(x)))) + utils.late.ONE + late.ONE

        class Plain(nn.Module):
            def __init__(self):
                super().__init__()
                self.linear = nn.Linear(4, 4)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                y = utils.maths.double(self.linear(x))
                if y.sum() > 0:
                    return y
                return -y
    ''',
    "models/data.py": """
        import torch
        class Set(torch.utils.data.Dataset):
            def __len__(self): return 4
            def __getitem__(self, index):
                from utils.late import ONE
                import importlib
                return torch.tensor([index + ONE + importlib.import_module("utils.late").ONE])
    """,
    "utils/__init__.py": "",
    "utils/maths.py": "import torch\ndef double(x: torch.Tensor) -> torch.Tensor:\n    return x * 2\n",
    "utils/late.py": "ONE = 1\ndef shift(x):\n    return x + ONE\n",
    "src/inner/__init__.py": "",
    "src/inner/block.py": "import torch\nclass Block(torch.nn.Module):\n    def forward(self, x): return x.relu()\n",
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    return make_repository(tmp_path_factory.mktemp("tree"), FILES, identity="owner/net")


@pytest.fixture(scope="module")
def hubconf(repository: Repository) -> ModuleType:
    return import_hubconf(repository)


@pytest.fixture(scope="module")
def net(hubconf: ModuleType) -> Any:
    torch.manual_seed(0)
    return hubconf.net()


def batch() -> Any:
    return torch.arange(8.0).reshape(2, 4) - 3


def test_copies_and_pickles_are_the_same_model(net: Any) -> None:
    saved = io.BytesIO()
    torch.save(net, saved)
    saved.seek(0)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), torch.load(saved, weights_only=False)):
        assert type(other) is type(net)
        assert torch.equal(other(batch()), net(batch()))


def test_a_whole_model_loads_in_a_fresh_process(net: Any, repository: Repository, tmp_path: Path) -> None:
    torch.save(net, tmp_path / "whole.pt")
    (tmp_path / "repository").write_bytes(pickle.dumps(repository))
    script = (
        "import pickle, sys, torch\n"
        "from tests.runtime.carrying import know\n"
        "know(pickle.load(open('repository', 'rb')))\n"
        "net = torch.load('whole.pt', weights_only=False)\n"
        "print(net(torch.arange(8.0).reshape(2, 4) - 3).sum().item(), type(net).__module__)\n"
        "print(sorted(name for name in sys.modules if name.split('.')[0] in ('models', 'utils', 'inner')))\n"
    )
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    total = net(batch()).sum().item()
    assert done.stdout == f"{total} {namespace(repository)}.models.net\n[]\n"


def test_a_model_saved_under_stock_names_loads(hubconf: ModuleType, repository: Repository, tmp_path: Path) -> None:
    script = (
        f"import sys; sys.path.insert(0, {str(repository.root)!r}); import hubconf, torch\n"
        "torch.manual_seed(0); net = hubconf.net()\n"
        "torch.save(net, 'stock.pt'); print(net(torch.ones(1, 4)).sum().item())"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    class Stock(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            return find_class(repository, module, name)

    class StockPickle:
        Unpickler = Stock

    with stock_names(repository):
        one = torch.load(tmp_path / "stock.pt", weights_only=False)
    two = torch.load(tmp_path / "stock.pt", weights_only=False, pickle_module=StockPickle)
    assert type(one) is type(two) is hubconf.Net
    assert one(torch.ones(1, 4)).sum().item() == float(done.stdout)


@pytest.mark.parametrize("way", ["fork", "spawn"])
def test_data_loader_workers_run_its_code(hubconf: ModuleType, repository: Repository, way: str) -> None:
    # a spawned worker learns of the repository from its lock; here it travels with the data set
    data: Any = hubconf.Set() if way == "fork" else Carried(repository, hubconf.Set())
    loader = torch.utils.data.DataLoader(data, batch_size=2, num_workers=1, multiprocessing_context=way)
    assert torch.cat(list(loader)).flatten().tolist() == [2, 3, 4, 5]


def test_source_and_hints_are_those_of_the_author(net: Any, hubconf: ModuleType) -> None:
    assert '"""A net that imports while it runs."""' in inspect.getsource(type(net))
    assert inspect.getmodule(type(net)) is sys.modules[type(net).__module__]
    assert inspect.getdoc(type(net)) == "A net that imports while it runs."


def test_torchscript_compiles_the_verified_source(hubconf: ModuleType, repository: Repository) -> None:
    plain = sys.modules[f"{namespace(repository)}.models.net"].Plain()
    file = repository.root / "models" / "net.py"
    verified = file.read_bytes()
    file.write_bytes(verified.replace(b"return -y", b"return y*7"))
    try:
        scripted = torch.jit.script(plain)
    finally:
        file.write_bytes(verified)
    for sign in (1, -1):
        assert torch.equal(scripted(batch() * sign), plain(batch() * sign))


def test_tracing_and_export_give_the_same_results(net: Any) -> None:
    traced = torch.jit.trace(net, batch())  # type: ignore[no-untyped-call]
    exported = torch.export.export(net, (batch(),)).module()
    assert torch.equal(traced(batch()), net(batch()))
    assert torch.equal(exported(batch()), net(batch()))


@pytest.mark.parametrize("backend", ["eager", "inductor"])
def test_compiles_whole_although_it_imports_while_it_runs(net: Any, backend: str) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(net, backend=backend, fullgraph=True)
    assert torch.allclose(compiled(batch()), net(batch()))  # type: ignore[no-untyped-call]


def test_lazy_imports_work_in_another_thread(hubconf: ModuleType) -> None:
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(hubconf.Set()[3].item()))
    thread.start()
    thread.join()
    assert found == [5]

"""torch.hub itself, before and after hublock: its results are the same, its cache can be filled from the lock."""

from pathlib import Path

import pytest

from tests.stories.conftest import Done, Run

OFFLINE = """\
import socket, sys, torch, torch.hub
def refused(*args, **options):
    raise OSError("no network")
socket.socket.connect = socket.getaddrinfo = refused
model = torch.hub.load("someone/net:v1", "net", pretrained=True)
print(type(model).__module__, model.layer.bias.tolist(), "hublock" in sys.modules)
print(torch.hub.list("someone/net:v1"))
"""

RESULTS = """\
import sys, torch, hublock
from pathlib import Path
hublock.activate()
url = "https://example.org/net.pth"

# who names the file finds it where torch.hub keeps it
torch.hub.load_state_dict_from_url(url, file_name="mine.pth")
print((Path(torch.hub.get_dir()) / "checkpoints" / "mine.pth").is_file())
Path("folder").mkdir()
state = torch.hub.load_state_dict_from_url(url, "folder", map_location=torch.device("meta"), weights_only=True)
print(Path("folder/net.pth").is_file(), state["layer.bias"].device)
torch.hub.download_url_to_file(url, "copy.pth", progress=False)
print(torch.load("copy.pth")["layer.bias"].tolist(), oct(Path("copy.pth").stat().st_mode & 0o200))
BASES = (RuntimeError, ValueError, OSError)
for call in (
    lambda: torch.hub.download_url_to_file(url, "other.pth", hash_prefix="00000000"),
    lambda: torch.hub.load_state_dict_from_url(url, file_name="net-00000000.pth", check_hash=True),
    lambda: torch.hub.load("someone/net:v1", "nett"),
    lambda: torch.hub.load("someone/net:v1", "_helper"),
    lambda: torch.hub.help("someone/net:v1", "_helper"),
    lambda: torch.hub.load("someone/net:v1", "net", source="elsewhere"),
    lambda: torch.hub.download_url_to_file("https://example.org/unlocked.pth", "other.pth"),
):
    try:
        call()
        print("no error")
    except Exception as error:
        print(type(error).__name__, *(kind.__name__ for kind in BASES if isinstance(error, kind)))
print(Path("other.pth").exists())

# the same as the functions of hublock, which need no activation
own = Path("own"); own.mkdir()
(own / "hubconf.py").write_text("def five(n=5): return n\\ndef missing():\\n    import torch.hub\\n"
    "    return torch.hub.load_state_dict_from_url('https://example.org/unlocked.pth')\\n")
print(hublock.load("own", "five", source="local"), hublock.load("own", "five", 6, source="Local"))
try:
    hublock.load("own", "missing", source="local")
except hublock.HublockError as error:
    print(type(error).__name__, "own" in sys.path, "hubconf" in sys.modules)
for call in (
    lambda: torch.hub.load("own", "five", source="Local"),
    lambda: torch.hub.load("someone/net:v1", "net", pretrained=True, verify="state", verbose=False),
    lambda: hublock.load("net", verify="size"),
):
    try:
        call()
    except Exception as error:
        print(type(error).__name__, error)
"""


def test_a_filled_cache_serves_plain_torch_hub_without_network(
    added: Done, run: Run, python: Run, tmp_path: Path
) -> None:
    home = tmp_path / "torch"

    done = run("sync", "--offline", "--torch-hub", TORCH_HOME=str(home))

    assert done.code == 0, done
    assert done.err.endswith(f"1 tree and 1 file to {home}/hub\n"), done
    plain = python(OFFLINE, TORCH_HOME=str(home), HUBLOCK_CACHE_DIR=str(tmp_path / "none"))
    assert plain.out == "net [1.0, 2.0] False\n['Net', 'net']\n", plain


def test_results_and_errors_are_those_of_torch_hub(
    added: Done, python: Run, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    done = python(RESULTS, TORCH_HOME=str(tmp_path / "torch"))

    assert done.out.splitlines() == [
        "True",
        "True meta",
        "[1.0, 2.0] 0o200",
        "DigestMismatch RuntimeError",
        "DigestMismatch RuntimeError",
        "NotLocked",
        "NotLocked",
        "EntrypointNotFound RuntimeError",
        "ValueError ValueError",
        "UnlockedDownload OSError",
        "False",
        "5 6",
        "UnlockedDownload False False",
        "NotLocked own is a folder of your own, for which no lock vouches",
        "  hint: hublock run --allow-local, or hublock.activate(allow_local=True)",
        "TypeError net() got an unexpected keyword argument 'verify'",
        "ValueError Unknown verify: 'size'. Allowed values: \"state\" | None.",
    ], done

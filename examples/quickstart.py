"""hublock's main job in one minute, with no network: pin a model, fetch it elsewhere, load it, refuse other bytes.

Makes a git repository of examples/publish, serves it on loopback under the name hublock-examples/tiny, and runs the
commands a user would type in a temporary project. Exits 0 only if each ended as it should.
"""

import io
import os
import shlex
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from loopback import RELEASE, REPOSITORY, TAG, Loopback, git

REFERENCE = f"{REPOSITORY}:{TAG}"
SCRIPT = f'''\
import hublock, torch

model = hublock.load("{REFERENCE}", "tiny", pretrained=True)
count = sum(parameter.numel() for parameter in model.parameters())
print(f"loaded {{type(model).__qualname__}} of {{count}} parameters from {{type(model).__module__}}")
print(f"sin(1.5) = 0.9975, the model says {{model(torch.tensor([[1.5]])).item():.4f}}")
'''
FOREIGN = ("HUBLOCK_", "GIT_", "XDG_", "TORCH_", "HF_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


class Session:
    """A terminal in a temporary project: shows each command, runs it and judges its exit code."""

    def __init__(self, root: Path, mirrors: str) -> None:
        self.root, self.project = root, root / "project"
        self.project.mkdir()
        kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(FOREIGN)}
        own = {"HOME": str(root), "USERPROFILE": str(root), "HUBLOCK_MIRRORS": mirrors, "PYTHONIOENCODING": "utf-8"}
        # torch says so once where NumPy is not installed, and does without it
        own["PYTHONWARNINGS"] = "ignore:Failed to initialize NumPy:UserWarning"
        self.environment = kept | own
        self.passed = 0

    def machine(self, name: str) -> None:
        """Go on with the store of another machine, empty where the name is new."""
        self.environment["HUBLOCK_CACHE_DIR"] = str(self.root / name)

    def stored(self, sha256: str) -> Path:
        """Find a file in the store of the current machine."""
        [path] = Path(self.environment["HUBLOCK_CACHE_DIR"]).rglob(sha256)
        return path

    def hublock(self, line: str, *, exits: int = 0) -> None:
        self.run(f"hublock {line}", [sys.executable, "-m", "hublock", *shlex.split(line)], exits=exits)

    def python(self, name: str, *, exits: int = 0) -> None:
        self.run(f"python {name}", [sys.executable, name], exits=exits)

    def run(self, shown: str, command: list[str], *, exits: int) -> None:
        print(f"\n$ {shown}")
        done = subprocess.run(
            command, cwd=self.project, env=self.environment, text=True, encoding="utf-8",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300, check=False,
        )  # fmt: skip
        above, traceback, error = done.stdout.rstrip().partition("\nhublock.errors.")
        print(f"[…]{traceback}{error}" if traceback and exits else above)
        self.judge(done.returncode == exits, f"exit code {done.returncode}", f"{exits} was expected")

    def judge(self, good: bool, what: str, otherwise: str) -> None:
        if not good:
            raise SystemExit(f"[WRONG: {what}, {otherwise}]")
        print(f"[{what}]")
        self.passed += 1


def title(text: str) -> None:
    print(f"\n\n── {text} {'─' * (100 - len(text))}", flush=True)


def pin(session: Session) -> str:
    """Lock a model and return the sha256 of its weights."""
    title("Pin: what does the repository offer, and which bytes are that model?")
    session.machine("machine-1")
    session.hublock(f"list {REFERENCE}")
    session.hublock(f"add {REFERENCE} tiny --kwarg pretrained=True")
    print("\n$ cat hub.lock")
    lock = (session.project / "hub.lock").read_text()
    print(lock.rstrip())
    [weights] = tomllib.loads(lock)["repo"][0]["model"][0]["weights"]
    return str(weights["digest"]).removeprefix("sha256:")


def replicate(session: Session) -> None:
    """Fetch, verify and load on a machine that has nothing but the project."""
    title("Replicate: another machine has hub.toml, hub.lock, a script and an empty store")
    session.machine("machine-2")
    (session.project / "replicate.py").write_text(SCRIPT)
    session.hublock("sync --locked")
    session.hublock("verify")
    print(f"\n$ cat replicate.py\n{SCRIPT.rstrip()}")
    session.python("replicate.py")


def replace_upstream(session: Session, loopback: Loopback) -> None:
    """Serve other bytes of the same length at the locked URL."""
    title("Refuse: the release asset is replaced upstream, its URL stays the same")
    [url] = [path for path in loopback.assets if path.startswith(f"{RELEASE}/tiny-")]
    loopback.assets[url] = flipped(loopback.assets[url])
    session.machine("machine-3")
    session.hublock("sync", exits=3)
    kept = list((session.root / "machine-3").rglob("blobs/*/*/*"))
    session.judge(not kept, "nothing of it was kept", f"{kept} was kept")


def tamper_store(session: Session, sha256: str) -> None:
    """Flip one bit of the stored weights."""
    title("Refuse: one bit of the weights flips in the store")
    session.machine("machine-2")
    path = session.stored(sha256)
    path.chmod(0o644)
    path.write_bytes(flipped(path.read_bytes()))
    path.chmod(0o444)
    session.hublock("verify --deep", exits=3)
    session.python("replicate.py", exits=1)


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def main() -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", line_buffering=True)
    with tempfile.TemporaryDirectory(prefix="quickstart-", ignore_cleanup_errors=True) as root, Loopback() as loopback:
        commit = git("rev-parse", TAG, cwd=loopback.bare)
        print(f"{REPOSITORY} stands on 127.0.0.1: {TAG} is commit {commit[:12]}, with {len(loopback.assets)} assets")
        session = Session(Path(root), loopback.mirrors)
        sha256 = pin(session)
        replicate(session)
        replace_upstream(session, loopback)
        tamper_store(session, sha256)
    title("Done")
    print(f"{session.passed} checks, all as they should be")


if __name__ == "__main__":
    main()

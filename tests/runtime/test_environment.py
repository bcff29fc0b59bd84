"""What is missing or does not fit is said before anything is imported, all at once."""

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import packaging
import pytest

from hublock.errors import EnvironmentMismatch, MissingDependency
from hublock.runtime import environment
from hublock.runtime.distributions import distributions_of
from hublock.runtime.environment import check, pip_line, undeclared
from hublock.runtime.modules import ownership

ROOT = Path(__file__).parents[2]


def checked(**given: Any) -> list[str]:
    asked: dict[str, Any] = {
        "dependencies": (), "requires": (), "traced_with": (), "exact": False, "trees_own": (), "of": "owner/repo",
    }  # fmt: skip
    return check(**(asked | given))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    """A folder of installed distributions."""
    sys.path.insert(0, str(tmp_path))
    yield tmp_path
    sys.path.remove(str(tmp_path))


def install(site: Path, name: str, number: str, files: dict[str, str]) -> None:
    """Lay out a distribution as pip does."""
    info = site / f"{name.replace('-', '_')}-{number}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n")
    for path, source in files.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(source)
    (info / "RECORD").write_text("".join(f"{path},,\n" for path in files) + f"{info.name}/METADATA,,\n")


def hide(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let modules be missing that may be installed where the tests run."""
    find_top = ownership.find_top
    monkeypatch.setattr(environment, "find_top", lambda name: None if name in names else find_top(name))


def test_nothing_is_wrong_where_nothing_is_asked() -> None:
    assert checked() == []


def test_a_dependency_may_be_a_module_a_distribution_a_standard_module_or_the_trees_own(site: Path) -> None:
    install(site, "pyfancy-thing", "1.0", {"fancy/__init__.py": "raise SystemExit('imported')", "fancy/sub.py": ""})
    names = ["fancy", "fancy.sub", "pyfancy-thing", "PyFancy_Thing", "pyfancy-thing>=0.9", "math", "os.path", "models"]
    assert checked(dependencies=names, trees_own={"models"}) == []
    assert "fancy" not in sys.modules


def test_names_everything_that_is_missing_with_one_line_for_pip(site: Path) -> None:
    install(site, "old", "1.0", {"old.py": ""})
    with pytest.raises(MissingDependency) as caught:
        checked(
            dependencies=["torch", "no_such_a", "no_such_b.c", "packaging.none", "math"], requires=["old>=2", "no-c<3"]
        )
    assert caught.value.message == (
        "owner/repo needs no_such_a, no_such_b.c, packaging.none and no-c<3, which are not installed; "
        "old 1.0 is installed, old>=2 is required"
    )
    assert caught.value.hint == 'pip install no_such_a no_such_b packaging "old>=2" "no-c<3"'
    assert isinstance(caught.value, RuntimeError)


def test_the_pip_line_knows_modules_whose_distribution_has_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "cv2", "PIL")
    with pytest.raises(MissingDependency) as caught:
        checked(dependencies=["cv2", "PIL.Image"])
    assert caught.value.message == "owner/repo needs cv2 and PIL.Image, which are not installed"
    assert caught.value.hint == "pip install opencv-python pillow"


def test_torch_is_installed_as_our_extra(tmp_path: Path) -> None:
    (tmp_path / "packaging").symlink_to(Path(packaging.__file__).parent)
    script = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(tmp_path)!r}]\n"
        "from hublock.runtime.environment import check\n"
        "from hublock.errors import MissingDependency\n"
        "try:\n"
        "    check(dependencies=['torch'], requires=['torch>=2.4,<3'], traced_with=[], exact=False, trees_own=())\n"
        "except MissingDependency as error:\n"
        "    print(error.hint)\n"
    )
    command = [sys.executable, "-S", "-c", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == 'pip install "hublock[torch]" "torch>=2.4,<3"\n'


@pytest.mark.parametrize("asked", ["==1.0", "==1.0+cpu", ">=0.9,<2", "<=1.0", "!=2"])
def test_public_versions_are_compared(site: Path, asked: str) -> None:
    install(site, "wheel-of-time", "1.0+cpu", {})
    assert checked(requires=[f"wheel-of-time{asked}"]) == []


def test_an_installed_pre_release_counts(site: Path) -> None:
    install(site, "early", "2.0rc1", {})
    assert checked(requires=["early>=1"]) == []


def test_a_requirement_for_another_system_is_not_ours() -> None:
    assert checked(requires=["no-such>1; sys_platform == 'plan9'"]) == []


def test_refuses_a_version_outside_the_requirement(site: Path) -> None:
    install(site, "old", "1.0", {})
    with pytest.raises(EnvironmentMismatch, match=r"old 1\.0 is installed, old>=2 is required") as caught:
        checked(requires=["old>=2"])
    assert not isinstance(caught.value, MissingDependency)
    assert caught.value.hint == 'pip install "old>=2"'


def test_refuses_a_requirement_that_is_none() -> None:
    with pytest.raises(EnvironmentMismatch, match="cannot be read"):
        checked(requires=["torch >>> 2"])


def test_drift_of_torch_and_of_declared_dependencies_is_told(site: Path) -> None:
    install(site, "pyfancy", "2.0+local", {"fancy.py": ""})
    install(site, "other", "2.0", {"other.py": ""})
    traced = ["pyfancy==1.0", "other==1.0", "torch==1.9", "gone==1.0"]
    assert checked(dependencies=["fancy"], traced_with=traced) == [
        "pyfancy 2.0+local is installed, the lock was traced with 1.0",
        f"torch {version('torch')} is installed, the lock was traced with 1.9",
    ]
    same = [f"torch=={version('torch').partition('+')[0]}", "pyfancy==2.0"]
    assert checked(dependencies=["fancy"], traced_with=same) == []


def test_any_drift_is_an_error_where_the_environment_is_exact(site: Path) -> None:
    install(site, "other", "2.0", {})
    with pytest.raises(EnvironmentMismatch, match=r"other 2\.0 is installed, the lock was traced with 1\.0") as caught:
        checked(traced_with=["other==1.0"], exact=True)
    assert caught.value.hint == "pip install other==1.0"
    with pytest.raises(MissingDependency, match=r"gone==1\.0, which is not installed"):
        checked(traced_with=["gone==1.0"], exact=True)
    assert checked(traced_with=["other==2.0"], exact=True) == []


def test_tells_of_an_undeclared_import_only_if_installing_helps(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "skimage")
    (site / "fancy.py").write_text("")
    said = undeclared(ModuleNotFoundError("…", name="skimage.io"), "owner/repo")
    assert said is not None and said.hint == "pip install scikit-image"
    assert "owner/repo imports skimage" in said.message
    for name in ("fancy", "fancy.gone", "hublock.repos.x_0123456789abcdef.models.x", "torch._six", None):
        assert undeclared(ModuleNotFoundError("…", name=name), "owner/repo") is None


@pytest.mark.parametrize(
    ("module", "distribution"), [("faiss", "faiss-cpu"), ("hydra.core", "hydra-core"), ("Bio.PDB", "biopython")]
)
def test_what_pip_has_by_the_name_of_a_module_may_be_something_else(
    site: Path, monkeypatch: pytest.MonkeyPatch, module: str, distribution: str
) -> None:
    hide(monkeypatch, module.partition(".")[0])
    said = undeclared(ModuleNotFoundError("…", name=module), "owner/repo")
    assert said is not None and said.hint == f"pip install {distribution}"


def test_pip_lines_are_quoted_for_any_shell() -> None:
    assert pip_line(["a-b", "a-b", "c==1.0", "d>=2", "e[x]"]) == 'pip install a-b c==1.0 "d>=2" "e[x]"'


def test_modules_lead_to_their_distributions(site: Path) -> None:
    install(site, "plain", "1.0+cu118", {"plain/__init__.py": "", "plain/sub.py": ""})
    install(site, "half-a", "1.0", {"shared/a.py": ""})
    install(site, "half-b", "2.0", {"shared/b.py": ""})
    install(site, "twin-a", "1.0", {"twin/__init__.py": ""})
    install(site, "twin-b", "1.0", {"twin/__init__.py": ""})
    import plain.sub  # type: ignore[import-not-found]
    import shared.b  # type: ignore[import-not-found]
    import twin  # type: ignore[import-not-found]

    names = ["plain", "plain.sub", "shared", "shared.b", "twin", "os", "__main__", "hublock.repos.x", "unknown"]
    try:
        assert distributions_of(names) == ("half-b==2.0", "plain==1.0", "twin-a==1.0", "twin-b==1.0")
    finally:
        for module in (plain, plain.sub, shared, shared.b, twin):
            del sys.modules[module.__name__]

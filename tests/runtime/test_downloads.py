import functools
import sys
import types
from hashlib import sha256
from pathlib import Path

import pytest
import torch
import torch.hub
import torch.utils.model_zoo

from hublock.core.digest import Digest
from hublock.errors import DigestMismatch, UnlockedDownload
from tests.runtime.answering import Shelf, ones, run
from tests.runtime.conftest import MakeRepository

URL = "https://example.org/models/net.pth"
OTHER = "https://example.net/elsewhere/net.pth"
EARLY = types.ModuleType("early_library")
EARLY.get = functools.partial(torch.hub.load_state_dict_from_url, progress=False)  # type: ignore[attr-defined]
EARLY.zoo = vars(torch.utils.model_zoo)["load_url"]  # type: ignore[attr-defined]


class TestWhatIsAnswered:
    @pytest.mark.parametrize(
        "call",
        [
            "torch.hub.load_state_dict_from_url(url)",
            "by_name(url)",
            "alias.hub.load_state_dict_from_url(url, progress=False, check_hash=False)",
            "torch.utils.model_zoo.load_url(url)",
            "partial(url)",
            "early_library.get(url)",
            "early_library.zoo(url)",
            "getattr(torch.hub, 'load_state_' + 'dict_from_url')(url)",
        ],
    )
    def test_state_dicts_however_the_function_is_called(
        self, shelf: Shelf, repository: MakeRepository, call: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "early_library", EARLY)
        shelf.put(URL, ones(3))
        repo = repository(f"""
            import functools, torch, torch as alias, torch.utils.model_zoo, early_library
            from torch.hub import load_state_dict_from_url as by_name
            partial = functools.partial(by_name, progress=False)
            def model(url):
                return {call}
        """)

        assert run(repo, "model", [URL], answers=shelf)["w"].sum() == 3
        assert shelf.asked == [URL]

    def test_files_are_fetched_by_url_not_by_name(self, shelf: Shelf, repository: MakeRepository) -> None:
        shelf.put(URL, ones(3))
        shelf.put(OTHER, ones(5))
        repo = repository("""
            from torch.hub import load_state_dict_from_url
            def model(*urls):
                return [len(load_state_dict_from_url(url)["w"]) for url in urls]
        """)

        assert run(repo, "model", [URL, OTHER, URL], answers=shelf) == [3, 5, 3]

    @pytest.mark.parametrize("fetch", ["load_state_dict_from_url(url)", "download_url_to_file(url, os.devnull)"])
    def test_code_that_has_another_address_goes_on_as_without_a_network(
        self, shelf: Shelf, repository: MakeRepository, fetch: str
    ) -> None:
        shelf.put(OTHER, ones(5))
        repo = repository(f"""
            import os, torch, urllib.error
            def model(url, other):
                try:
                    return torch.hub.{fetch}
                except urllib.error.URLError:
                    return torch.hub.load_state_dict_from_url(other)
        """)
        loaded = run(repo, "model", [URL, OTHER], answers=shelf, tolerated=["https://example.org"])

        assert loaded["w"].sum() == 5

    @pytest.mark.parametrize("folder", ["torch.hub.get_dir()", "set_below(torch.hub.get_dir())"])
    def test_a_folder_that_a_module_keeps_holds_the_files_of_each_load(
        self, shelf: Shelf, either: MakeRepository, folder: str
    ) -> None:
        repo = either(f"""
            import os, torch
            def set_below(folder):
                torch.hub.set_dir(os.path.join(folder, "mine"))
                return torch.hub.get_dir()
            KEPT = {folder}
            def model(url):
                torch.hub.load_state_dict_from_url(url, KEPT)
                first = len(torch.load(os.path.join(KEPT, "net.pth"))["w"])
                torch.hub.load_state_dict_from_url(url)
                torch.hub.download_url_to_file(url, os.path.join(KEPT, "again.pth"))
                again = len(torch.load(os.path.join(KEPT, "again.pth"))["w"])
                return first, len(torch.load(torch.hub.get_dir() + "/checkpoints/net.pth")["w"]), again
        """)
        shelf.put(URL, ones(2))
        shelf.put(OTHER, ones(3))
        assert [run(repo, "model", [url], answers=shelf) for url in (URL, OTHER, URL)] == [(n, n, n) for n in (2, 3, 2)]

    @pytest.mark.parametrize(
        ("write", "left"),
        [
            ("torch.save({'w': torch.zeros(5)}, path)", 5),
            ("with open(path, 'wb') as file: file.write(new)", 5),
            ("open(path, 'ab').close()", 2),
            ("with open(path, 'r+b') as file: file.write(new)", 5),
        ],
    )
    def test_code_that_writes_where_its_download_is_writes_into_no_store(
        self, shelf: Shelf, repository: MakeRepository, write: str, left: int
    ) -> None:
        repo = repository(f"""
            import io, os, torch
            def model(url):
                buffer = io.BytesIO()
                torch.save({{"w": torch.zeros(5)}}, buffer)
                new = buffer.getvalue()
                path = os.path.join(torch.hub.get_dir(), "net.pth")
                torch.hub.download_url_to_file(url, path)
                {write}
                return len(torch.load(path)["w"])
        """)
        file = shelf.put(URL, ones(2))
        before = file.path.read_bytes()
        assert run(repo, "model", [URL], answers=shelf) == left
        assert file.path.read_bytes() == before

    @pytest.mark.parametrize(
        "change",
        [
            "os.chmod(path, 0o777)",
            "os.chown(path, os.getuid(), os.getgid())",
            "os.truncate(path, 1)",
            "pathlib.Path(path).touch()",
            "torch.jit.save(torch.jit.script(torch.nn.ReLU()), path)",
            "torch.jit.script(torch.nn.ReLU()).save(pathlib.Path(path))",
        ],
    )
    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_code_that_changes_what_it_has_downloaded_changes_no_store(
        self, shelf: Shelf, repository: MakeRepository, change: str
    ) -> None:
        repo = repository(f"""
            import os, pathlib, torch
            def model(url):
                path = os.path.join(torch.hub.get_dir(), "net.pth")
                torch.hub.download_url_to_file(url, path)
                {change}
                return os.path.islink(path)
        """)
        file = shelf.put(URL, ones(2))
        before = file.path.stat()
        assert run(repo, "model", [URL], answers=shelf) is False
        after = file.path.stat()
        assert (after.st_mode, after.st_size, after.st_ctime_ns) == (before.st_mode, before.st_size, before.st_ctime_ns)

    @pytest.mark.parametrize(
        "move", ["os.rename(path, to)", "shutil.move(path, to)", "pathlib.Path(path).replace(to)", "os.link(path, to)"]
    )
    def test_a_download_that_code_moves_to_the_users_folders_is_no_link_into_the_store(
        self, shelf: Shelf, repository: MakeRepository, tmp_path: Path, move: str
    ) -> None:
        repo = repository(f"""
            import os, pathlib, shutil, torch
            def model(url, to):
                path = os.path.join(torch.hub.get_dir(), "checkpoints", "net.pth")
                torch.hub.download_url_to_file(url, path)
                {move}
                to += ".folder"
                torch.hub.load_state_dict_from_url(url)
                shutil.move(os.path.dirname(path), to)
                return [len(torch.load(os.path.join(to, "net.pth"))["w"])]
        """)
        shelf.put(URL, ones(2))
        to = tmp_path / "mine.pth"
        assert run(repo, "model", [URL, str(to)], answers=shelf) == [2]
        for left in (to, tmp_path / "mine.pth.folder" / "net.pth"):
            assert not left.is_symlink()
            assert left.read_bytes() == ones(2)

    def test_what_code_copies_from_its_tree_or_a_download_may_be_written(
        self, shelf: Shelf, repository: MakeRepository, tmp_path: Path
    ) -> None:
        repo = repository(
            """
            import os, shutil, torch
            HERE = os.path.dirname(__file__)
            def model(url, to, mine):
                path = os.path.join(torch.hub.get_dir(), "net.pth")
                torch.hub.download_url_to_file(url, path)
                shutil.copytree(os.path.join(HERE, "conf"), to)
                shutil.copy(path, os.path.join(to, "net.pth"))
                shutil.copy2(os.path.join(HERE, "conf", "a.yaml"), os.path.join(to, "b.yaml"))
                shutil.copy(mine, os.path.join(to, "mine"))
            """,
            {"conf/a.yaml": "a: 1"},
        )
        # as the store keeps them
        (repo.root / "conf" / "a.yaml").chmod(0o444)
        (repo.root / "conf").chmod(0o555)
        (tmp_path / "mine").write_text("read-only")
        (tmp_path / "mine").chmod(0o400)
        shelf.put(URL, ones(2))
        to = tmp_path / "to"
        run(repo, "model", [URL, str(to), str(tmp_path / "mine")], answers=shelf)
        modes = {path.name: path.stat().st_mode & 0o777 for path in (to, *to.iterdir())}
        assert modes == {"to": 0o755, "a.yaml": 0o644, "b.yaml": 0o644, "net.pth": 0o644, "mine": 0o400}
        assert (repo.root / "conf" / "a.yaml").stat().st_mode & 0o777 == 0o444

    def test_a_file_planted_in_torch_hubs_cache_is_not_seen(
        self, shelf: Shelf, repository: MakeRepository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        planted = tmp_path / "torch" / "hub" / "checkpoints" / "net.pth"
        planted.parent.mkdir(parents=True)
        planted.write_bytes(ones(9))
        monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
        shelf.put(URL, ones(3))
        repo = repository("""
            import os, torch
            def model(url):
                planted = os.path.exists(os.path.join(torch.hub.get_dir(), "checkpoints", "net.pth"))
                return planted, len(torch.hub.load_state_dict_from_url(url)["w"])
        """)

        assert Path(torch.hub.get_dir(), "checkpoints", "net.pth").exists()
        assert run(repo, "model", [URL], answers=shelf) == (False, 3)

    def test_a_download_into_the_hub_folder_can_be_loaded_from_there(
        self, shelf: Shelf, repository: MakeRepository
    ) -> None:
        shelf.put(URL, ones(3))
        repo = repository("""
            import os, torch
            def model(url):
                path = os.path.join(torch.hub.get_dir(), "checkpoints", "mine.pth")
                torch.hub.download_url_to_file(url, path, progress=False)
                return len(torch.load(path)["w"])
        """)

        assert run(repo, "model", [URL], answers=shelf) == 3

    def test_a_download_elsewhere_is_a_copy_of_its_own(
        self, shelf: Shelf, repository: MakeRepository, tmp_path: Path
    ) -> None:
        blob = shelf.put(URL, ones(3))
        repo = repository("""
            import torch
            def model(url, path):
                torch.hub.download_url_to_file(url, path)
                with open(path, "ab") as file:
                    file.write(b"more")
        """)
        run(repo, "model", [URL, str(tmp_path / "net.pth")], answers=shelf)

        assert (tmp_path / "net.pth").read_bytes() == ones(3) + b"more"
        assert blob.path.read_bytes() == ones(3)

    def test_a_download_through_a_link_out_of_the_hub_folder_is_a_copy(
        self, shelf: Shelf, repository: MakeRepository, tmp_path: Path
    ) -> None:
        shelf.put(URL, ones(3))
        (tmp_path / "outside").mkdir()
        repo = repository("""
            import os, torch
            def model(url, folder):
                os.symlink(folder, os.path.join(torch.hub.get_dir(), "link"))
                torch.hub.download_url_to_file(url, os.path.join(torch.hub.get_dir(), "link", "net.pth"))
        """)
        run(repo, "model", [URL, str(tmp_path / "outside")], answers=shelf)

        assert not (tmp_path / "outside" / "net.pth").is_symlink()

    def test_set_dir_changes_what_the_load_sees_and_nothing_else(
        self, shelf: Shelf, repository: MakeRepository, tmp_path: Path
    ) -> None:
        before = torch.hub.get_dir()
        repo = repository("""
            import torch
            def model(folder):
                first = torch.hub.get_dir()
                torch.hub.set_dir(folder)
                return first, torch.hub.get_dir(), torch.hub._get_torch_home()
        """)
        first, second, home = run(repo, "model", [str(tmp_path / "mine")], answers=shelf)

        assert (second, home) == (str(tmp_path / "mine"), str(tmp_path))
        assert torch.hub.get_dir() == before
        assert run(repo, "model", ["x"], answers=shelf)[0] not in (first, before)

    def test_the_hub_folder_links_to_the_tree(self, shelf: Shelf, repository: MakeRepository) -> None:
        hubconf = """
            import torch
            from pathlib import Path
            def model(*names):
                return [Path(torch.hub.get_dir(), name, "data.txt").read_text() for name in names]
        """
        tagged = repository(hubconf, {"data.txt": "tagged"}, name="snakers4/silero-vad:v5/x")
        bare = repository(hubconf, {"data.txt": "bare"}, name="snakers4/silero-vad")

        assert run(tagged, "model", ["snakers4_silero-vad_v5_x"], answers=shelf) == ["tagged"]
        both = ["snakers4_silero-vad_main", "snakers4_silero-vad_master"]
        assert run(bare, "model", both, answers=shelf) == ["bare", "bare"]

    def test_check_hash_is_held_against_the_name(self, shelf: Shelf, repository: MakeRepository) -> None:
        data = ones(3)
        good = f"https://example.org/net-{shelf.put('x', data).digest.hex[:8]}.pth"
        bad = "https://example.org/net-00000000.pth"
        shelf.put(good, data)
        shelf.put(bad, data)
        repo = repository("""
            from torch.hub import load_state_dict_from_url
            def model(url, **options):
                return len(load_state_dict_from_url(url, **options)["w"])
        """)

        assert run(repo, "model", [good], {"check_hash": True}, answers=shelf) == 3
        assert run(repo, "model", [bad], answers=shelf) == 3
        named = {"check_hash": True, "file_name": "plain.pth"}
        assert run(repo, "model", [bad], named, answers=shelf) == 3
        with pytest.raises(RuntimeError, match=r'invalid hash value for .* \(expected "00000000", got') as caught:
            run(repo, "model", [bad], {"check_hash": True}, answers=shelf)
        assert isinstance(caught.value, DigestMismatch)
        assert caught.value.hint is not None
        # who follows the causes comes to an end
        assert caught.value.__cause__ is None

    def test_model_dir_and_file_name_leave_a_file_as_torch_does(
        self, shelf: Shelf, repository: MakeRepository, tmp_path: Path
    ) -> None:
        shelf.put(URL, ones(3))
        repo = repository("""
            from torch.hub import load_state_dict_from_url
            def model(url, folder, name=None):
                return len(load_state_dict_from_url(url, folder, file_name=name)["w"])
        """)
        assert run(repo, "model", [URL, str(tmp_path / "a")], answers=shelf) == 3
        assert run(repo, "model", [URL, str(tmp_path / "a"), "b.pth"], answers=shelf) == 3
        assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["b.pth", "net.pth"]
        (tmp_path / "a" / "net.pth").write_bytes(b"the user's own")

        assert run(repo, "model", [URL, str(tmp_path / "a")], answers=shelf) == 3
        assert (tmp_path / "a" / "net.pth").read_bytes() == b"the user's own"
        # a name may be a path of its own
        mine = tmp_path / "mine.pth"
        mine.write_bytes(b"the user's own")
        for name in (str(mine), "../mine.pth"):
            assert run(repo, "model", [URL, str(tmp_path / "a"), name], answers=shelf) == 3
        assert (mine.read_bytes(), mine.is_symlink()) == (b"the user's own", False)


class TestFileUrls:
    """A repository may name a file of its own by a URL."""

    HUBCONF = """
        import os, pathlib, torch
        HERE = pathlib.Path(__file__).parent
        def model(name, **options):
            return len(torch.hub.load_state_dict_from_url((HERE / name).as_uri(), **options)["w"])
        def download(name, target, prefix=None):
            target = target or os.path.join(torch.hub.get_dir(), "x")
            torch.hub.download_url_to_file((HERE / name).as_uri(), target, prefix)
            return len(torch.load(target)["w"])
    """

    def test_a_file_of_the_tree_is_answered(
        self, shelf: Shelf, repository: MakeRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        repo = repository(self.HUBCONF, {"the weights/a.pth": ones(3), "b/a.pth": ones(4)})
        shelf.tree[repo.id, "the weights/a.pth"] = shelf.tree[repo.id, "b/a.pth"] = "tensors"
        monkeypatch.chdir(tmp_path)

        assert run(repo, "model", ["the weights/a.pth"], answers=shelf) == 3
        assert run(repo, "model", ["the weights/a.pth"], {"model_dir": "here"}, answers=shelf) == 3
        # as http URLs are, it is fetched by URL and not by name
        assert run(repo, "model", ["b/a.pth"], {"model_dir": "here", "map_location": "cpu"}, answers=shelf) == 4
        for target in (None, "copy.pth"):
            assert run(repo, "download", ["the weights/a.pth", target], answers=shelf) == 3
        assert (tmp_path / "copy.pth").read_bytes() == (tmp_path / "here" / "a.pth").read_bytes() == ones(3)
        assert not (tmp_path / "copy.pth").is_symlink()
        assert shelf.asked == []

    def test_one_that_is_not_in_the_tree_is_refused(
        self, shelf: Shelf, repository: MakeRepository, tmp_path: Path
    ) -> None:
        (tmp_path / "mine.pth").write_bytes(ones(3))
        repo = repository(self.HUBCONF)

        for call, arguments in (("model", []), ("download", [str(tmp_path / "copy.pth")])):
            with pytest.raises(UnlockedDownload, match=r"opens file:.*mine\.pth, which is not in its tree"):
                run(repo, call, ["../mine.pth", *arguments], answers=shelf)
        assert not (tmp_path / "copy.pth").exists()

    def test_one_that_the_user_hands_in_is_answered(
        self, shelf: Shelf, repository: MakeRepository, tmp_path: Path
    ) -> None:
        mine = tmp_path / "mine.pth"
        mine.write_bytes(ones(3))
        shelf.inputs[Digest("sha256", sha256(ones(3)).hexdigest())] = "tensors"
        repo = repository(self.HUBCONF)

        assert run(repo, "model", ["../mine.pth"], answers=shelf) == 3
        assert run(repo, "download", ["../mine.pth", str(tmp_path / "copy.pth")], answers=shelf) == 3
        mine.write_bytes(ones(4))
        with pytest.raises(UnlockedDownload, match="which is not in its tree"):
            run(repo, "model", ["../mine.pth"], answers=shelf)

    def test_what_torch_checks_is_checked(self, shelf: Shelf, repository: MakeRepository, tmp_path: Path) -> None:
        repo = repository(self.HUBCONF, {"net-00000000.pth": ones(3)})
        shelf.tree[repo.id, "net-00000000.pth"] = "tensors"
        target = str(tmp_path / "copy.pth")

        with pytest.raises(DigestMismatch, match="invalid hash value"):
            run(repo, "model", ["net-00000000.pth"], {"check_hash": True}, answers=shelf)
        with pytest.raises(DigestMismatch, match="invalid hash value"):
            run(repo, "download", ["net-00000000.pth", target, "00"], answers=shelf)
        assert run(repo, "download", ["net-00000000.pth", target, sha256(ones(3)).hexdigest()[:8]], answers=shelf) == 3
        with pytest.raises(FileNotFoundError):
            run(repo, "download", ["none.pth", target], answers=shelf)

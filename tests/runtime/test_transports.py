import functools
import pickle
import subprocess
import sys
import textwrap
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
import urllib3

from hublock.errors import UnlockedDownload
from hublock.runtime.strict import transports
from tests.runtime.answering import Shelf, run
from tests.runtime.conftest import MakeRepository

URL = "https://example.org/models/net.bin"
API = "https://api.example.org/releases"
DATA = bytes(range(256)) * 300

URLLIB = [
    "urllib.request.urlopen(url).read()",
    "by_name(urllib.request.Request(url, headers={'A': 'b'})).read()",
    "partial(url).read()",
    "urllib.request.build_opener().open(url).read()",
    "urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5).read()",
    "open(retrieve(url, target)[0], 'rb').read()",
    "open(urllib.request.urlretrieve(url)[0], 'rb').read()",
    "b''.join(iter(lambda r=urllib.request.urlopen(url + '#part'): r.read(1000), b''))",
]
REQUESTS = [
    "requests.get(url).content",
    "requests.Session().get(url, stream=True).raw.read()",
    "b''.join(requests.get(url, stream=True, timeout=3).iter_content(1000))",
    "urllib3.PoolManager().request('GET', url).data",
    "urllib3.PoolManager().request('GET', url, preload_content=False).read()",
]
BODY = """
    import functools, json, urllib.request, requests, urllib3
    from urllib.request import urlopen as by_name, urlretrieve as retrieve
    partial = functools.partial(by_name, timeout=3)
"""


@pytest.mark.parametrize("call", URLLIB + REQUESTS)
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_every_way_to_get_a_file_is_answered(
    shelf: Shelf, repository: MakeRepository, tmp_path: Path, call: str
) -> None:
    shelf.put(URL, DATA, "none")
    repo = repository(BODY + f"    def model(url, target):\n        return {call}\n")

    assert run(repo, "model", [URL, str(tmp_path / "net.bin")], answers=shelf) == DATA
    assert shelf.asked == [URL]


@pytest.mark.parametrize("call", URLLIB + REQUESTS)
def test_every_way_to_get_an_unlocked_file_is_refused(
    shelf: Shelf, repository: MakeRepository, tmp_path: Path, call: str
) -> None:
    repo = repository(
        BODY
        + f"""
    def model(url, target):
        try:
            return {call}
        except (urllib.error.URLError, requests.RequestException, urllib3.exceptions.HTTPError):
            return "fallback"
        """
    )
    target = str(tmp_path / "net.bin")

    with pytest.raises(UnlockedDownload, match=r"nobody locked https://example\.org/models/net\.bin"):
        run(repo, "model", [URL, target], answers=shelf)
    assert run(repo, "model", [URL, target], answers=shelf, tolerated=["https://example.org"]) == "fallback"


def test_headers_and_status_are_those_of_a_file(shelf: Shelf, repository: MakeRepository) -> None:
    shelf.put(URL, DATA, "none")
    repo = repository(
        BODY
        + """
    def model(url):
        with urllib.request.urlopen(url) as one:
            two = requests.head(url)
            head = urllib.request.urlopen(urllib.request.Request(url, method="HEAD"))
            three = requests.get(url)
            three.raise_for_status()
            return [one.status, one.getcode(), int(one.info()["Content-Length"]), one.getheader("content-length"),
                    one.geturl(), len(one.headers.get_all("Content-Length")), two.status_code, two.content,
                    two.headers["content-length"], head.read(), three.url, three.ok, len(three.history),
                    three.headers["Content-Disposition"]]
        """
    )
    size = len(DATA)

    assert run(repo, "model", [URL], answers=shelf) == [
        200, 200, size, str(size), URL, 1, 200, b"", str(size), b"", URL, True, 0,
        'attachment; filename="net.bin"',
    ]  # fmt: skip


def test_a_response_of_urllib_is_one_of_http_client(shelf: Shelf, repository: MakeRepository) -> None:
    # torchvision, and whoever copied from it, shows the progress of response.length
    shelf.put(URL, DATA, "none")
    repo = repository(
        BODY
        + """
    import http.client, io
    def model(url):
        with urllib.request.urlopen(url) as one:
            seen = [isinstance(one, http.client.HTTPResponse), one.length, one.version, one.msg, one.reason]
            seen += [one.readinto(bytearray(6)), one.peek(3)[:3], len(one.read1(4)), one.length, one.isclosed()]
            seen += [len(io.BufferedReader(one).read()), one.read(), one.length, one.isclosed()]
        head = urllib.request.urlopen(urllib.request.Request(url, method="HEAD"))
        return [*seen, head.length, type(one.headers) is http.client.HTTPMessage]
        """
    )
    size = len(DATA)

    assert run(repo, "model", [URL], answers=shelf) == [
        True, size, 11, "OK", "OK", 6, DATA[6:9], 4, size - 10, False, size - 10, b"", 0, True, 0, True,
    ]  # fmt: skip


def test_metadata_answers_are_replayed(shelf: Shelf, repository: MakeRepository) -> None:
    shelf.replies["GET", API] = (200, b'{"tag": "v1"}')
    shelf.replies["GET", API + "/none"] = (404, b"nothing")
    repo = repository(
        BODY
        + """
    import urllib.error
    def model(url):
        seen = [requests.get(url).json()["tag"], json.load(urllib.request.urlopen(url))["tag"]]
        seen.append(requests.get(url + "/none").status_code)
        try:
            urllib.request.urlopen(url + "/none")
        except urllib.error.HTTPError as error:
            seen += [error.code, error.reason, error.read()]
            error.close()
        return seen
        """
    )

    assert run(repo, "model", [API], answers=shelf) == ["v1", "v1", 404, 404, "Not Found", b"nothing"]


@pytest.mark.parametrize(
    "call",
    [
        "requests.post(url, json={})",
        "urllib.request.urlopen(url, data=b'x')",
        "urllib3.PoolManager().request('PUT', url)",
        "urllib.request.urlopen(urllib.request.Request(url, method='DELETE'))",
    ],
)
def test_what_would_change_something_is_refused(shelf: Shelf, repository: MakeRepository, call: str) -> None:
    shelf.put(URL, DATA, "none")
    repo = repository(BODY + f"    def model(url):\n        return {call}\n")

    with pytest.raises(UnlockedDownload, match=r"sends (POST|PUT|DELETE) https://example\.org/models/net\.bin"):
        run(repo, "model", [URL], answers=shelf)


def test_file_urls_stay_in_the_tree_and_other_schemes_are_refused(
    shelf: Shelf, repository: MakeRepository, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    repo = repository(
        """
        import urllib.request
        from pathlib import Path
        HERE = Path(__file__).resolve().parent
        def model(url):
            with urllib.request.urlopen(url or (HERE / "data.txt").as_uri()) as answer:
                return answer.read()
        """,
        {"data.txt": "tree"},
    )

    assert run(repo, "model", [None], answers=shelf) == b"tree"
    assert run(repo, "model", ["data:,hello"], answers=shelf) == b"hello"
    for url in ((tmp_path / "secret").as_uri(), (repo.root / ".." / "secret").as_uri(), "ftp://example.org/x"):
        with pytest.raises(UnlockedDownload):
            run(repo, "model", [url], answers=shelf)


@pytest.fixture
def server() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"real")

        def log_message(self, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/x"
        running.shutdown()
        thread.join()


def test_outside_a_scope_requests_are_real(server: str, shelf: Shelf, repository: MakeRepository) -> None:
    run(repository("def model():\n    return 1\n"), "model", answers=shelf)

    with urllib.request.urlopen(server) as answer:
        assert answer.read() == b"real"
    assert requests.get(server, timeout=5).content == b"real"
    with urllib3.PoolManager() as pool:
        assert pool.request("GET", server).data == b"real"
    with pytest.raises(UnlockedDownload):
        repo = repository(BODY + "    def model(url):\n        return urllib.request.urlopen(url).read()\n")
        run(repo, "model", [server], answers=shelf)


def test_a_library_that_arrives_during_the_load_is_hooked(tmp_path: Path) -> None:
    script = """
        import sys, pathlib
        from tests.runtime.answering import Shelf, run
        from tests.runtime.trees import make_repository
        from hublock.runtime import torchhub
        torchhub.install()
        assert "requests" not in sys.modules and "urllib3" not in sys.modules
        folder = pathlib.Path(sys.argv[1])
        shelf = Shelf(folder / "shelf")
        shelf.put("https://example.org/x", b"bytes", "none")
        repo = make_repository(folder / "tree", {"hubconf.py": '''
            def model(url):
                import requests, urllib3
                return requests.get(url).content, urllib3.PoolManager().request("GET", url).data
        '''})
        assert run(repo, "model", ["https://example.org/x"], answers=shelf) == (b"bytes", b"bytes")
        import requests.adapters
        assert type(requests.adapters.__spec__.loader).__name__ == "SourceFileLoader"
        assert requests.adapters.__loader__ is requests.adapters.__spec__.loader
    """
    subprocess.run([sys.executable, "-W", "error", "-c", textwrap.dedent(script), str(tmp_path)], check=True)


LIBRARY = {
    "__init__.py": "from .file_download import hf_hub_download\nfrom ._snapshot_download import snapshot_download\n",
    "utils.py": """
        import functools
        class EntryNotFoundError(Exception):
            def __init__(self, message, *, response):
                raise AssertionError("needs the answer of a server")
        def validated(function):
            @functools.wraps(function)
            def wrapper(*args, **kwargs):
                return function(*args, **kwargs)
            return wrapper
    """,
    "file_download.py": """
        from .utils import validated
        @validated
        def hf_hub_download(repo_id, filename, *, subfolder=None, repo_type=None, revision=None, cache_dir=None,
                            local_dir=None, force_download=False, token=None):
            return "downloaded"
        def try_to_load_from_cache(repo_id, filename, cache_dir=None, revision=None, repo_type=None):
            return "/the/users/cache"
    """,
    "_snapshot_download.py": """
        from .utils import validated
        @validated
        def snapshot_download(repo_id, *, repo_type=None, revision=None, cache_dir=None, local_dir=None,
                              allow_patterns=None, ignore_patterns=None):
            return "downloaded"
    """,
}


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A look-alike of huggingface_hub: the same modules, decorators and signatures."""
    folder = tmp_path / "site" / "huggingface_hub"
    folder.mkdir(parents=True)
    for name, text in LIBRARY.items():
        (folder / name).write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "huggingface_hub"]:
        del sys.modules[name]


@pytest.mark.usefixtures("library")
class TestHuggingFace:
    def put(self, shelf: Shelf, name: str, data: bytes, revision: str = "main") -> None:
        file = shelf.put(f"x:{name}", data, "none")
        shelf.hugging_face["o/n", "model", revision, name] = ("c" * 40, file)

    def test_files_are_answered_one_by_one(self, shelf: Shelf, repository: MakeRepository, tmp_path: Path) -> None:
        self.put(shelf, "config.json", b"{}")
        self.put(shelf, "sub/model.bin", b"weights", "v1")
        repo = repository("""
            from pathlib import Path
            from huggingface_hub import hf_hub_download
            def model(folder):
                one = Path(hf_hub_download("o/n", "config.json"))
                two = Path(hf_hub_download("o/n", "model.bin", subfolder="sub", revision="v1"))
                three = Path(hf_hub_download(repo_id="o/n", filename="config.json", local_dir=folder))
                return one.read_bytes(), one.parent.name, two.read_bytes(), str(three)
        """)
        local = tmp_path / "local"

        assert run(repo, "model", [str(local)], answers=shelf) == (
            b"{}", "c" * 40, b"weights", str(local / "config.json"),
        )  # fmt: skip
        assert not (local / "config.json").is_symlink()

    def test_a_snapshot_is_the_locked_files(self, shelf: Shelf, repository: MakeRepository) -> None:
        for name in ("config.json", "model.bin", "sub/extra.json", "onnx/model.onnx"):
            self.put(shelf, name, name.encode())
        repo = repository("""
            import huggingface_hub
            from pathlib import Path
            def model(**options):
                folder = Path(huggingface_hub.snapshot_download("o/n", **options))
                return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        """)

        everything = ["config.json", "model.bin", "onnx/model.onnx", "sub/extra.json"]
        assert run(repo, "model", answers=shelf) == everything
        some = {"allow_patterns": ["*.json"], "ignore_patterns": "sub/"}
        assert run(repo, "model", [], some, answers=shelf) == ["config.json"]

    def test_an_absent_file_is_told_from_an_unlocked_one(self, shelf: Shelf, repository: MakeRepository) -> None:
        shelf.replies["HEAD", "https://huggingface.co/o/n/resolve/main/optional.json"] = (404, b"")
        shelf.replies["HEAD", "https://huggingface.co/o/n/resolve/refs%2Fpr%2F1/an%20optional.json"] = (404, b"")
        repo = repository("""
            from huggingface_hub import hf_hub_download
            from huggingface_hub.utils import EntryNotFoundError
            def model(name, revision=None):
                try:
                    return hf_hub_download("o/n", name, revision=revision)
                except EntryNotFoundError as error:
                    return str(error)
                except OSError:
                    return "random"
        """)

        assert "404" in run(repo, "model", ["optional.json"], answers=shelf)
        assert "404" in run(repo, "model", ["an optional.json", "refs/pr/1"], answers=shelf)
        with pytest.raises(UnlockedDownload, match=r"nobody locked model\.bin of o/n"):
            run(repo, "model", ["model.bin"], answers=shelf)

    def test_what_the_users_cache_holds_is_not_seen(self, shelf: Shelf, repository: MakeRepository) -> None:
        self.put(shelf, "config.json", b"{}")
        self.put(shelf, "sub/model.bin", b"weights")
        repo = repository("""
            from pathlib import Path
            from huggingface_hub import hf_hub_download
            from huggingface_hub.file_download import try_to_load_from_cache
            def model():
                before = try_to_load_from_cache("o/n", "config.json")
                config = Path(hf_hub_download("o/n", "config.json"))
                # as transformers does
                absent = try_to_load_from_cache("o/n", "sub/model.bin", revision=config.parent.name)
                file = hf_hub_download("o/n", "sub/model.bin")
                found = try_to_load_from_cache(repo_id="o/n", filename="sub/model.bin", revision=config.parent.name)
                return before, absent, found == file == try_to_load_from_cache("o/n", "sub/model.bin")
        """)

        assert run(repo, "model", answers=shelf) == (None, None, True)

    def test_outside_a_scope_the_library_is_itself(self, shelf: Shelf, repository: MakeRepository) -> None:
        repo = repository("import huggingface_hub\ndef model():\n    return 1\n")
        run(repo, "model", answers=shelf)
        download: Any = functools.partial(sys.modules["huggingface_hub"].hf_hub_download, "o/n", "x")

        assert download() == "downloaded"
        assert sys.modules["huggingface_hub.file_download"].try_to_load_from_cache("o/n", "x") == "/the/users/cache"


def test_urllib_errors_are_both(shelf: Shelf, repository: MakeRepository) -> None:
    repo = repository("""
        import urllib.request, urllib.error
        def model():
            try:
                urllib.request.urlopen("https://example.org/x")
            except urllib.error.URLError as error:
                return error
    """)
    error = run(repo, "model", answers=shelf, tolerated=["https://example.org"])

    assert isinstance(error, UnlockedDownload)
    assert isinstance(error, urllib.error.URLError)


def test_a_refusal_that_is_also_the_librarys_error_goes_to_another_process() -> None:
    refused = transports.as_also(UnlockedDownload("nobody locked it", hint="lock it"), urllib.error.URLError)
    # a worker of a DataLoader tells the class alone
    assert pickle.loads(pickle.dumps(type(refused))) is type(refused)
    told = pickle.loads(pickle.dumps(refused))

    assert isinstance(told, UnlockedDownload)
    assert isinstance(told, urllib.error.URLError)
    assert str(told) == str(refused) == "nobody locked it\n  hint: lock it"

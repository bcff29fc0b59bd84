"""Which names a tree may hold."""

import pytest

from hublock.core.names import check_path, fold
from hublock.errors import UnsafeArchive

BAD = {
    "is no name": [""],
    "is absolute": ["/etc/passwd", "//x", "/"],
    "backslash": ["a\\b", "..\\x", "\\x", "C:\\x"],
    "control character": ["a\nb", "a\rb", "a\tb", "a\0b", "\x1b[31m", "a\x7f", "a\x85"],
    "empty or dotted part": ["..", ".", "a/..", "../a", "a/../b", "a/./b", "./a", "a//b", "a/"],
    "disguise of .git": [
        ".git", ".GIT", ".Git/config", "a/.git/hooks/post-checkout", "git~1", "GIT~1", ".git ", ".git.", ".git . .",
        ".git::$INDEX_ALLOCATION", ".git:stream", "git~1::$INDEX_ALLOCATION", ".g\u200cit", "\u200e.git", ".gi\u202et",
        ".git\ufeff", ".\u206fGIT", "a/.git\u200d /x",
    ],
    "longer than": ["a/" * 2100 + "b", "x" * 256, "\u00e4" * 128],
    "folders deep": ["a/" * 100 + "b"],
}  # fmt: skip
GOOD = [
    "a", "hubconf.py", ".gitignore", ".gitattributes", ".gitmodules", "a/.gitkeep", "git", "git~2", ".github/x",
    "x.git", "..a", "a..", "...", "a b", " a", "\u00e4\u00f6", "\udce4", "-rf", "~", "$HOME", "x" * 255, "aux.py",
    "a:b", "what?", "trailing.", "trailing ",
]  # fmt: skip
WINDOWS = [
    "aux.py", "con", "CON", "nul.tar.gz", "src/prn", "com1.txt", "lpt9", "COM\u00b9", "conin$", "a:b", "what?", "a*",
    "a<b", "a>b", 'a"b', "a|b", "trailing.", "trailing ", "a./b", "nul .txt",
]  # fmt: skip


@pytest.mark.parametrize(("reason", "path"), [(reason, path) for reason, paths in BAD.items() for path in paths])
def test_refuses_dangerous_names_on_every_system(reason: str, path: str) -> None:
    for windows in (False, True):
        with pytest.raises(UnsafeArchive, match=reason):
            check_path(path, windows=windows)


@pytest.mark.parametrize("path", GOOD)
def test_accepts_harmless_names(path: str) -> None:
    check_path(path, windows=False)


@pytest.mark.parametrize("path", WINDOWS)
def test_refuses_names_windows_cannot_hold_on_windows_alone(path: str) -> None:
    check_path(path, windows=False)
    with pytest.raises(UnsafeArchive, match="Windows cannot hold"):
        check_path(path, windows=True)


@pytest.mark.parametrize("path", ["console.py", "auxiliary", "com.py", "com10", "nullable", "lpt", ".a", "a.b"])
def test_accepts_names_that_only_resemble_devices_on_windows(path: str) -> None:
    check_path(path, windows=True)


def test_names_fold_alike_when_a_file_system_would_take_them_for_one() -> None:
    assert fold("A") == fold("a")
    assert fold("\u00c9") == fold("e\u0301")
    assert fold("\u00df") == fold("SS")
    assert fold("a\u200db") == fold("ab")
    assert fold("\u01c5") == fold("\u01c6")
    assert fold("a") != fold("\u0430")

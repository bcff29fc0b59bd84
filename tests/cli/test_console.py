"""How hublock speaks."""

import io
import json
import re
import shlex
import subprocess
import threading
import time

import pytest

import hublock
from hublock.cli.console import Console, counted, size
from hublock.cli.main import main
from hublock.errors import StaleLock


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_data_goes_to_stdout_and_prose_to_stderr() -> None:
    out, err = io.StringIO(), io.StringIO()
    console = Console(out, err, {})

    console.data("answer")
    console.json({"name": "ß"})
    console.table([("a", "bb"), ("aaa", "")])
    console.say("said")
    console.warn("watch out")
    console.hint("do this")
    console.done("Locked", "net")
    console.error(StaleLock("hub.lock is stale", hint="hublock lock"))

    assert out.getvalue() == 'answer\n{\n  "name": "ß"\n}\na    bb\naaa\n'
    assert err.getvalue() == (
        "said\nwarning: watch out\n   hint: do this\n   Locked net\nerror: hub.lock is stale\n   hint: hublock lock\n"
    )
    assert json.loads('{"name": "ß"}')["name"] == "ß"


def test_nothing_that_strangers_wrote_steers_the_terminal() -> None:
    out, err = io.StringIO(), Terminal()
    console = Console(out, err, {})
    hostile = "\x1b]0;title\x07 \x9b2J\r \u202egpj.exe \udc80\x7f ß 中\ttab"
    shown = r"\u001b]0;title\u0007 \u009b2J\r \u202egpj.exe \udc80\u007f ß 中" + "\ttab"

    console.data(hostile)
    console.json({"doc": hostile})
    console.table([(hostile,)])
    for speak in (console.say, console.warn, console.hint):
        speak(hostile)
    console.done("Locked", hostile)
    console.error(StaleLock(hostile, hint=hostile))

    assert out.getvalue().splitlines()[0] == shown
    assert json.loads("".join(out.getvalue().splitlines()[1:4]))["doc"] == hostile
    assert out.getvalue().splitlines()[4] == shown
    assert err.getvalue().count(shown) == 6
    assert set(re.findall("\x1b.*?m", err.getvalue())) == {
        f"\x1b[{code}m" for code in ("0", "36", "33;1", "32;1", "31;1")
    }
    assert err.getvalue().count("\x1b") == 10


def test_nothing_that_strangers_wrote_begins_a_line_of_ours() -> None:
    out, err = io.StringIO(), io.StringIO()
    console = Console(out, err, {}, verbosity=1)
    forged = "x\n::error::forged\r\v\u2028\x85::error::forged"

    console.data(forged)
    console.table([(forged, forged)])
    for speak in (console.say, console.note, console.warn, console.hint):
        speak(forged)
    console.done("Locked", forged)
    console.error(StaleLock(forged, hint=forged))

    lines = (out.getvalue() + err.getvalue()).splitlines()
    assert len(lines) == 9
    assert not any(line.startswith("::") for line in lines)


@pytest.mark.parametrize(
    ("encoding", "path", "data"),
    [
        ("utf-8", "a b/nö", "a b/nö".encode()),
        ("ascii", "a b/nö", "a b/nö".encode()),
        ("ascii", "a b/n\udcc3\udcb6", "a b/nö".encode()),
        ("utf-8", "new\nline\ud800", b"new\nline\xed\xa0\x80"),
    ],
)
def test_a_path_in_a_hint_may_be_pasted_whatever_the_terminal_can_show(encoding: str, path: str, data: bytes) -> None:
    raw = io.BytesIO()
    err = io.TextIOWrapper(raw, encoding, errors="backslashreplace", newline="\n")

    Console(io.StringIO(), err, {}).hint(f"mkdir {shlex.quote(path)}")

    pasted = raw.getvalue().removeprefix(b"   hint: mkdir ")
    assert subprocess.run(["bash", "-c", b"printf %s " + pasted], capture_output=True, check=True).stdout == data


def test_an_answer_of_several_lines_keeps_them() -> None:
    out = io.StringIO()

    Console(out, io.StringIO(), {}).text("a\n\n  b\x1b[31m\n")

    assert out.getvalue() == "a\n\n  b\\u001b[31m\n\n"


@pytest.mark.parametrize(
    ("verbosity", "expected"), [(-1, ["error"]), (0, ["say", "error"]), (1, ["say", "note", "error"])]
)
def test_quiet_leaves_errors_and_verbose_adds_notes(verbosity: int, expected: list[str]) -> None:
    err = io.StringIO()
    console = Console(io.StringIO(), err, {}, verbosity=verbosity)

    console.say("say")
    console.note("note")
    console.error(StaleLock("error"))

    assert [line.removeprefix("error: ") for line in err.getvalue().splitlines()] == expected


@pytest.mark.parametrize(
    ("stream", "environ", "coloured"),
    [
        (Terminal(), {}, True),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {}, False),
    ],
)
def test_colours_are_for_terminals_that_want_them(stream: io.StringIO, environ: dict[str, str], coloured: bool) -> None:
    Console(io.StringIO(), stream, environ).error(StaleLock("stale"))

    assert ("\x1b[" in stream.getvalue()) == coloured


def test_a_bar_appears_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hublock.cli.console.BAR_DELAY", 0)
    for stream in (Terminal(), io.StringIO()):
        with Console(io.StringIO(), stream, {}).task("fetching", 10) as task:
            task.grow(20)
            task.advance(20)
        assert ("fetching" in stream.getvalue()) == stream.isatty()


def test_a_clock_runs_on_a_terminal_while_a_step_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hublock.cli.console.BAR_DELAY", 0.01)
    terminal, file = Terminal(), io.StringIO()
    with Console(io.StringIO(), file, {}).step("tracing"), Console(io.StringIO(), terminal, {}).step("tracing"):
        end = time.monotonic() + 60
        while "tracing 00:0" not in terminal.getvalue():
            assert time.monotonic() < end
    # and nothing stays of it
    assert terminal.getvalue().endswith("\r")
    assert file.getvalue() == ""
    assert "hublock-clock" not in [thread.name for thread in threading.enumerate() if thread.is_alive()]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (46830571, "44.7 MiB"), (5 << 40, "5120.0 GiB")],
)
def test_sizes_read_well(count: int, text: str) -> None:
    assert size(count) == text


def test_counts_read_well() -> None:
    assert (counted(1, "file"), counted(0, "tree")) == ("1 file", "0 trees")


def test_the_version_is_an_answer(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr() == (f"hublock {hublock.__version__}\n", "")

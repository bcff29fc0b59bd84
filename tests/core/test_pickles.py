"""Checkpoints of every format, and the tricks by which a pickle hides what it runs."""

import bz2
import collections
import gzip
import io
import json
import lzma
import pickle
import pickletools
import struct
import sys
import tarfile
import zipfile
from collections.abc import Callable

import pytest

from hublock.core.lockfile import Pickle
from hublock.core.pickles.globals import EXECUTION_GLOBALS, TENSOR_GLOBALS, UNREADABLE, executes
from hublock.core.pickles.scanning import LEGACY_TAR, OPCODES, TORCH_PACKAGE, judge, scan

MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"
STATE = b"\x80\x02(ccollections\nOrderedDict\n)R" + TENSOR + b"t."
EVIL = b"\x80\x02cposix\nsystem\nX\x02\0\0\0idq\0\x85R."


def words(text: str) -> list[str]:
    return text.split()


def short(text: str) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text.encode()


def stack_global(module: str, name: str) -> bytes:
    return b"\x80\x04" + short(module) + short(name) + b"\x93" + short("id") + b"\x85R."


def named(module: str, name: str, protocol: int = 2) -> bytes:
    return b"\x80" + bytes([protocol]) + f"c{module}\n{name}\n".encode() + b"X\x02\0\0\0id\x85R."


def archive(*members: tuple[str, bytes], method: int = zipfile.ZIP_STORED, comment: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, data in members:
            file.writestr(name, data)
        file.comment = comment
    return buffer.getvalue()


def checkpoint(data: bytes, *more: tuple[str, bytes]) -> bytes:
    return archive(
        ("m/data.pkl", data), ("m/byteorder", b"little"), ("m/data/0", b"\0" * 8), ("m/version", b"3\n"), *more
    )


def legacy(result: bytes = STATE, keys: bytes = b"\x80\x02]q\0.") -> bytes:
    return MAGIC + b"\x80\x02M\xe9\x03." + b"\x80\x02}q\0." + result + keys + b"\xff" * 64


def tar(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:") as file:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def legacy_tar(storage: bytes = b"", tensor: bytes = b"", result: bytes = STATE) -> bytes:
    storage = storage or b"\x80\x02K\x01X\x03\0\0\0cpuctorch\nFloatStorage\n\x87."
    storages = b"\x80\x02K\x01." + storage + struct.pack("<Q", 2) + b"\0" * 8 + b"\x80\x02]."
    tensor = tensor or b"\x80\x02K\x01K\x01ctorch\nFloatTensor\n\x87."
    tensors = b"\x80\x02K\x01." + tensor + struct.pack("<iiqqq", 1, 0, 2, 1, 0)
    return tar(("storages", storages), ("tensors", tensors), ("pickle", result))


def verdict(data: bytes) -> Pickle:
    return scan(io.BytesIO(data))


class TestWhatIsHarmless:
    @pytest.mark.parametrize(
        "data", [checkpoint(STATE), legacy(), archive(("a.pth", legacy())), gzip.compress(STATE, mtime=0)]
    )
    def test_tells_tensors(self, data: bytes) -> None:
        assert verdict(data) == "tensors"

    def test_tells_torchscript(self) -> None:
        code = b"\x80\x02c__torch__.Net\nNet\n)\x81."
        data = archive(("m/data.pkl", code), ("m/code/__torch__.py", b""), ("m/constants.pkl", b"\x80\x02)."))
        assert verdict(data) == "torchscript"

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b'{"a": 1}',
            b"tench\ngoldfish\n",
            b"cat\ndog\nbird\n",  # GLOBAL at.dog, then BUILD of nothing
            b"hello\n" * 1000,
            struct.pack("<Q", 640) + b'{"__metadata__": {}}',  # safetensors whose length looks like PROTO 2
            b"\x89PNG\r\n\x1a\n" + bytes(100),
            bytes(4096),  # a tar reader calls this an empty archive
            b"\x1f\x8b is no gzip",
            archive(("notes/readme.txt", b"hi"), ("notes/more.txt", b"ho")),
            archive(("a.txt", b"hi"), ("b.txt", b"ho"), comment=b"40 hex digits, as GitHub writes them"),
        ],
    )
    def test_tells_what_is_no_pickle(self, data: bytes) -> None:
        assert verdict(data) == "none"

    def test_reads_numpy_headers(self) -> None:
        head = b"\x93NUMPY\x01\0" + struct.pack("<H", 60)
        plain = head + b"{'descr': '<f8', 'fortran_order': False, 'shape': (1,)}".ljust(60) + bytes(8)
        objects = head + b"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}".ljust(60)
        assert verdict(plain) == "none"
        assert verdict(objects + EVIL) == ("posix.system",)
        assert verdict(archive(("a.npy", plain), ("b.npy", objects + EVIL))) == ("posix.system",)

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_names_the_same_globals_at_every_protocol(self, protocol: int) -> None:
        thing = [collections.deque([1]), collections.OrderedDict(a=1), b"bytes" * 20000, {"x": "y" * 300}, {1, 2}, 1.5]
        got = set(verdict(pickle.dumps(thing, protocol=protocol)))
        assert "collections.deque" in got
        assert got <= {"collections.deque", "_codecs.encode", "builtins.set"}

    def test_tells_a_checkpoint_that_weights_only_cannot_read(self) -> None:
        data = b"\x80\x04" + short("collections") + short("OrderedDict") + b"\x93)R."
        assert verdict(checkpoint(data)) == (OPCODES,)
        assert judge((OPCODES,), {OPCODES}) == ()

    def test_a_legacy_tar_is_never_tensors(self) -> None:
        assert verdict(legacy_tar()) == (LEGACY_TAR,)

    def test_a_package_is_never_tensors(self) -> None:
        data = archive(("m/.data/extern_modules", b"torch"), ("m/net/net.pkl", STATE), ("m/x.py", b"import os"))
        assert verdict(data) == (TORCH_PACKAGE,)

    def test_names_python_2_globals_as_python_3_finds_them(self) -> None:
        assert verdict(named("__builtin__", "eval")) == ("builtins.eval",)
        assert verdict(named("__builtin__", "eval", protocol=4)) == ("__builtin__.eval",)
        assert verdict(named("copy_reg", "_reconstructor")) == ("copyreg._reconstructor",)


MALICIOUS: dict[str, bytes] = {
    # the opcodes that name or call
    "global": EVIL,
    "protocol 0": b"cposix\nsystem\n(S'id'\ntR.",
    "inst": b"(S'id'\niposix\nsystem\n.",
    "inst without a mark": b"\x80\x02iposix\nsystem\n.",
    "cut within a name that is called": b"(S'id'\niposix\nsystemX",
    "cut within a name": b"\x80\x02cposix\nsystemX",
    "obj": b"(cposix\nsystem\nS'id'\no.",
    "stack global": stack_global("posix", "system"),
    "stack global from text opcodes": b"S'posix'\nVsystem\n\x93(S'id'\ntR.",
    "stack global from bytes strings": b"\x80\x04U\x05posixT\x06\0\0\0system\x93X\x02\0\0\0id\x85R.",
    "stack global from the memo": b"\x80\x04" + short("posix") + b"\x940" + short("system") + b"\x940h\0h\x01\x93)R.",
    "stack global from numbered memo": b"\x80\x04"
    + short("posix")
    + b"p7\n0"
    + short("system")
    + b"p8\n0g7\ng8\n\x93)R.",
    "stack global of a duplicate": b"\x80\x04" + short("os") + b"2\x93)R.",
    "newobj": b"\x80\x02csubprocess\nPopen\nX\x02\0\0\0id\x85\x81.",
    "newobj with keywords": b"\x80\x04" + short("subprocess") + short("Popen") + b"\x93)}\x92.",
    "build": b"\x80\x02ctorch.nn.modules.linear\nLinear\n)\x81}X\x04\0\0\0hooksK\x01sb.",
    "extension code": b"\x80\x02\x82\x01)R.",
    "long extension code": b"\x80\x02\x84\x01\0\0\0)R.",
    # names that are made up at run time
    "computed name": b"\x80\x04" + short("os") + b"cposix\ngetcwd\n)R\x93)R.",
    "memo with gaps": b"\x80\x04"
    + short("collections")
    + b"q\x010"
    + short("posix")
    + b"\x940"
    + short("OrderedDict")
    + b"q\x020"
    + short("system")
    + b"\x940h\x01h\x02\x93"
    + short("id")
    + b"\x85R.",
    "escaped text": b"S'o\\x73'\nS'system'\n\x93(S'id'\ntR.",
    "dotted": stack_global("torch", "serialization.os.system"),
    "dotted builtins": stack_global("pathlib", "os.popen"),
    "class walk": stack_global("collections", "OrderedDict.__init__.__globals__"),
    # several pickles, and pickles that break
    "second pickle": b"\x80\x02N." + EVIL,
    "third after numbers": b"I1\n." + b"I2\n." + EVIL,
    "broken behind the call": EVIL[:-1] + b"\xff\xff",
    "cut behind the call": EVIL[:-1],
    "protocol 0 broken behind the call": b"cposix\nsystem\n(S'id'\ntRgarbage",
    "protocol 0 broken behind the call of a class": b"cmodels\nrun\n(S'id'\ntRgarbage",
    "stack underflow behind the call": EVIL[:-1] + b"0000.",
    "non-ascii text before the call": b"S'\xff'\n0cposix\nsystem\n(S'id'\ntR.",
    "protocol in the middle": b"\x80\x02N0\x80\x04" + short("nt") + short("system") + b"\x93)R.",
    # frames that _pickle and pickle.py read in two ways
    "frame ends in a line": b"\x80\x05\x95" + struct.pack("<Q", 4) + b"cmacos\nsystem\n)R.",
    "frame ends in bytes": b"\x80\x05\x95" + struct.pack("<Q", 2) + b"B\x07\0\0\0cos\nNN.",
    "frame in a frame": b"\x80\x05\x95" + struct.pack("<Q", 12) + b"N\x95" + struct.pack("<Q", 2) + b"N0.",
    "frame goes on behind the end": b"\x80\x05\x95" + struct.pack("<Q", 9) + b"N." + EVIL[:7] + EVIL,
    # formats of torch
    "checkpoint": checkpoint(EVIL),
    "checkpoint, deflated": archive(("m/data.pkl", EVIL), ("m/version", b"3"), method=zipfile.ZIP_DEFLATED),
    "checkpoint with a pickle in an odd folder": checkpoint(STATE, ("other/data.pkl", EVIL)),
    "checkpoint with an upper-case pickle": archive(("m/version", b"3"), ("m/DATA.PKL", EVIL)),
    "checkpoint with both cases": checkpoint(STATE, ("M/Data.pkl", EVIL)),
    "checkpoint with a pickle beside": checkpoint(STATE, ("m/extra.pkl", EVIL)),
    "checkpoint in a checkpoint": checkpoint(STATE, ("m/extra.pt", checkpoint(EVIL))),
    "legacy result": legacy(EVIL),
    "legacy storage keys": legacy(keys=EVIL),
    "legacy magic number by reduce": b"\x80\x02cbuiltins\neval\nX\x01\0\0\x001\x85R." + legacy()[len(MAGIC) :],
    "legacy magic number as text": b"L119547037146038801333356L\n." + legacy(EVIL)[len(MAGIC) :],
    "legacy cut short": MAGIC + b"\x80\x02M\xe9\x03." + b"\x80\x02}.",
    "old format of torch.hub": archive(("a.pth", legacy(EVIL))),
    "old format of torch.hub, new inside": archive(("a.dat", checkpoint(EVIL))),
    "legacy tar": legacy_tar(result=EVIL),
    "legacy tar, storage": legacy_tar(storage=EVIL),
    "legacy tar, tensor": legacy_tar(tensor=EVIL),
    "torchscript with Python": archive(("m/data.pkl", EVIL), ("m/constants.pkl", b"\x80\x02).")),
    "package": archive(("m/.data/extern_modules", b""), ("m/a.pkl", EVIL)),
    # wrapped
    "gzip": gzip.compress(EVIL, mtime=0),
    "bz2": bz2.compress(EVIL),
    "xz": lzma.compress(EVIL),
    "checkpoint in gzip": gzip.compress(checkpoint(EVIL)),
    "in a zip of many": archive(("readme.txt", b""), ("x/model.bin", legacy(EVIL))),
    "in a zip under an innocent name": archive(("readme.txt", b""), ("labels.txt", EVIL)),
    "in a tar": tar(("readme", b""), ("model.pt", checkpoint(EVIL))),
    "nested pickle": named("torch.storage", "_load_from_bytes"),
    "seven zip": b"7z\xbc\xaf\x27\x1c" + bytes(40),
}


def _flag(data: bytes, bit: int) -> bytes:
    at = data.index(b"PK\x01\x02") + 8
    return data[:at] + bytes([data[at] | bit]) + data[at + 1 :]


def _other_local_name(data: bytes) -> bytes:
    return data.replace(b"m/data.pkl", b"m/innocent", 1)


def _duplicate(data: bytes) -> bytes:
    with pytest.warns(UserWarning, match="Duplicate name"):
        return archive(("m/data.pkl", STATE), ("m/version", b"3"), ("m/data.pkl", EVIL))


def _zip64_elsewhere(data: bytes) -> bytes:
    """Add a zip64 locator that points to another end record than the one before it."""
    end = data.rindex(b"PK\x05\x06")
    count = struct.unpack_from("<H", data, end + 10)[0]
    size, offset = struct.unpack_from("<LL", data, end + 12)
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, offset)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, 0, 1)
    return data[:end] + record + locator + data[end:]


ZIP_TRICKS: dict[str, Callable[[bytes], bytes]] = {
    "duplicate names": _duplicate,
    "another name in the local header": _other_local_name,
    "something in front": lambda data: b"PK\x03\x04" + bytes(26) + data,
    "an archive behind": lambda data: data + archive(("m/data.pkl", EVIL)),
    "an end record in the comment": lambda data: data[:-2] + struct.pack("<H", 22) + data[-22:],
    "bytes behind": lambda data: data + b"more",
    "a gap before the end": lambda data: data[:-22] + b"gap" + data[-22:],
    "encrypted flag": lambda data: _flag(data, 1),
    "patch flag": lambda data: _flag(data, 0x20),
    "a wrong checksum": lambda data: data.replace(STATE, STATE.replace(b"OrderedDict", b"orderedDict")),
    "zip64 elsewhere": _zip64_elsewhere,
    "no directory": lambda data: data[:60],
    "backslash": lambda data: data.replace(b"m/version", b"m\\version"),
    "nul in a name": lambda data: data.replace(b"m/version", b"m/ver\0ion"),
}


class TestWhatIsNot:
    @pytest.mark.parametrize("name", MALICIOUS)
    def test_refuses_what_runs(self, name: str) -> None:
        found = verdict(MALICIOUS[name])
        assert isinstance(found, tuple)
        assert judge(found, set()) == found
        if name != "build":
            assert any(map(executes, found)) or UNREADABLE in found, found

    @pytest.mark.parametrize("name", ZIP_TRICKS)
    def test_refuses_an_archive_that_readers_see_differently(self, name: str) -> None:
        data = checkpoint(STATE)
        assert verdict(data) == "tensors"
        found = verdict(ZIP_TRICKS[name](data))
        assert UNREADABLE in found, found

    def test_reads_zip64_as_torch_writes_it(self) -> None:
        data = checkpoint(STATE)
        end = data.rindex(b"PK\x05\x06")
        count = struct.unpack_from("<H", data, end + 10)[0]
        size, offset = struct.unpack_from("<LL", data, end + 12)
        record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, offset)
        whole = data[:end] + record + struct.pack("<4sLQL", b"PK\x06\x07", 0, end, 1) + data[end:]
        assert verdict(whole) == "tensors"

    def test_refuses_a_checkpoint_with_an_archive_behind(self) -> None:
        assert verdict(legacy() + archive(("a.pth", EVIL))) == (UNREADABLE,)

    def test_refuses_endless_growth(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("hublock.core.pickles.scanning.MAX_UNPACKED", 1000)
        monkeypatch.setattr("hublock.core.pickles.opcodes.MAX_OPCODES", 5000)
        assert UNREADABLE in verdict(gzip.compress(b"\x80\x02B" + struct.pack("<I", 9999) + bytes(9999) + b"."))
        assert UNREADABLE in verdict(b"\x80\x02" + b"N0" * 5000 + b"N.")
        assert UNREADABLE in verdict(b"\x80\x02N." * 3000)

    def test_refuses_archives_that_nest_without_end(self) -> None:
        data = STATE
        for _ in range(5):
            data = archive(("a.pt", data))
        assert UNREADABLE in verdict(data)

    def test_a_name_never_carries_control_characters(self) -> None:
        found = verdict(b"\x80\x02cmodels\x1b[2J\nN\xc3\xa9t\n)R.")
        assert found == ("models\\x1b[2J.N\\xe9t",)

    def test_a_long_name_is_unreadable(self) -> None:
        assert UNREADABLE in verdict(b"\x80\x02c" + b"a" * 5000 + b"\nb\n)R.")

    def test_reads_on_wherever_an_unpickler_does(self) -> None:
        """Everything that this Python can unpickle to its end, the reader follows to its end."""
        for data in (pickle.dumps([sys, 1][1:], protocol) for protocol in range(6)):
            opcodes = [opcode.name for opcode, _, _ in pickletools.genops(data)]
            assert opcodes[-1] == "STOP"
            assert verdict(data) in {"tensors", "none"}


class TestConsent:
    def test_is_by_name(self) -> None:
        found = verdict(named("models.yolo", "Model"))
        assert found == ("models.yolo.Model",)
        assert judge(found, {"models.yolo.Model"}) == ()
        assert judge(found, {"models.yolo", "Model", "models.*"}) == found

    def test_fixed_verdicts_need_none(self) -> None:
        assert [judge(kind, ()) for kind in ("tensors", "torchscript", "none")] == [(), (), ()]

    def test_nobody_can_consent_to_what_is_unreadable(self) -> None:
        assert judge((UNREADABLE, "a.b"), {UNREADABLE, "a.b"}) == (UNREADABLE,)
        assert executes(UNREADABLE)

    def test_what_executes_needs_its_very_name(self) -> None:
        assert judge(("os.system",), {"os.system"}) == ()
        assert judge(("os.system",), {"os"}) == ("os.system",)

    @pytest.mark.parametrize(
        "name",
        words(
            """
        os.system posix.system nt.system subprocess.Popen builtins.eval builtins.exec builtins.getattr
        builtins.__import__
        builtins.compile builtins.open builtins.globals importlib.import_module runpy.run_path socket.socket
        shutil.rmtree
        ctypes.CDLL pty.spawn webbrowser.open operator.attrgetter operator.methodcaller functools.partial
        types.FunctionType
        types.CodeType pickle.loads _pickle.loads torch.load torch.hub.load torch.jit.load
        torch.storage._load_from_bytes
        numpy.f2py.crackfortran.getlincoef numpy.testing._private.utils.runstring pip.main cProfile.run profile.run
        bdb.Bdb.run
        pdb.run timeit.timeit trace.Trace.run code.InteractiveInterpreter codeop.compile_command
        asyncio.subprocess.create
        multiprocessing.util.spawnv_passfds sys.exit torch.fx.graph_module.reduce_graph_module
        torch.serialization.os.system
        models.__class__ a.__globals__ _frozen_importlib._call _interpreters.create __main__.run
        torch.utils.cpp_extension.load
        """
        ),
    )
    def test_knows_what_executes(self, name: str) -> None:
        assert executes(name)

    @pytest.mark.parametrize(
        "name",
        words(
            """
        models.yolo.Model torch.nn.modules.conv.Conv2d torch.nn.modules.container.Sequential
        numpy.core.multiarray._reconstruct
        numpy.ndarray numpy.dtype argparse.Namespace collections.deque pathlib.PosixPath datetime.datetime builtins.set
        builtins.slice omegaconf.dictconfig.DictConfig copyreg._reconstructor __torch__.Net _codecs.encode
        models.trace.Net
        """
        ),
    )
    def test_knows_what_is_data_or_a_class_of_the_repository(self, name: str) -> None:
        assert not executes(name)

    def test_the_tables_do_not_meet(self) -> None:
        assert not [name for name in TENSOR_GLOBALS if executes(name)]
        assert {"os", "subprocess", "builtins.eval"} <= EXECUTION_GLOBALS


class TestRealTorch:
    # TorchScript is deprecated, but what it wrote is still served; torch 2.14 tells that it looks into sparse tensors
    @pytest.mark.filterwarnings("ignore:`torch.jit", "ignore:Validating sparse")
    def test_agrees_with_torch(self) -> None:
        import torch
        from torch._weights_only_unpickler import _get_allowed_globals

        assert set(_get_allowed_globals()) >= TENSOR_GLOBALS
        state = {"w": torch.zeros(2, dtype=torch.bfloat16), "q": torch.zeros(2).to_sparse(), "p": torch.nn.Parameter()}
        module = torch.nn.Sequential(torch.nn.Linear(2, 2))
        script = io.BytesIO()
        torch.jit.save(torch.jit.script(module), script)
        for zipped in (True, False):
            assert verdict(_saved(state, zipped)) == "tensors"
            assert "torch.nn.modules.linear.Linear" in verdict(_saved(module, zipped))
            torch.load(io.BytesIO(_saved(state, zipped)), weights_only=True)
        assert verdict(script.getvalue()) == "torchscript"
        assert json.dumps(verdict(_saved({}, True))) == '"tensors"'


def _saved(thing: object, zipped: bool) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save(thing, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()

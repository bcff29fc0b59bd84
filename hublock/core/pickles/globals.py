"""Which globals of a pickle are tensors, and which run whatever they are told to."""

import sys


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_DTYPES = _words(
    "bfloat16 bits16 bits1x8 bits2x4 bits4x2 bits8 bool complex128 complex32 complex64 float16 float32 float64"
    " float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz int16 int32 int64 int8 qint32 qint8 quint2x4 quint4x2"
    " quint8 uint16 uint32 uint64 uint8"
)
_ELEMENTS = _words("BFloat16 Bool Byte Char Double Float Half Int Long Short")
_SPARSE = _ELEMENTS - {"Bool"}
_SCHEMES = _words(
    "per_channel_affine per_channel_affine_float_qparams per_channel_symmetric per_tensor_affine per_tensor_symmetric"
)
_REBUILDERS = _words(
    "_rebuild_meta_tensor_no_storage _rebuild_nested_tensor _rebuild_parameter _rebuild_parameter_with_state"
    " _rebuild_qtensor _rebuild_sparse_tensor _rebuild_tensor _rebuild_tensor_v2 _rebuild_tensor_v3"
    " _rebuild_wrapper_subclass"
)

TENSOR_GLOBALS = frozenset(
    {
        "collections.Counter",
        "collections.OrderedDict",
        "torch.Size",
        "torch.Tensor",
        "torch._tensor._rebuild_from_type_v2",
        "torch.device",
        "torch.nn.parameter.Parameter",
        "torch.serialization._get_layout",
        "torch.storage.TypedStorage",
        "torch.storage.UntypedStorage",
        *(f"torch.{name}" for name in (*_DTYPES, *_SCHEMES)),
        *(f"torch._utils.{name}" for name in _REBUILDERS),
        *(f"torch{device}.{element}Tensor" for device in ("", ".cuda") for element in _ELEMENTS),
        *(f"torch{device}.sparse.{element}Tensor" for device in ("", ".cuda") for element in _SPARSE),
        *(
            f"torch{device}.{element}Storage"
            for device in ("", ".cuda")
            for element in (*_ELEMENTS, "ComplexDouble", "ComplexFloat")
        ),
        *(f"torch.{element}Storage" for element in ("QInt32", "QInt8", "QUInt2x4", "QUInt4x2", "QUInt8")),
    }
)
"""What ``torch.load(weights_only=True)`` of torch 2.4, the oldest that hublock supports, accepts by itself.

And three types of numbers that only later ones accept: ``torch.uint16``, ``uint32`` and ``uint64``.
"""

_DATA_MODULES = _words(
    "_codecs _collections _datetime _decimal _operator _random _struct argparse array builtins collections copyreg"
    " dataclasses datetime decimal enum fractions functools ipaddress itertools numbers operator pathlib random"
    " re sre_constants statistics string struct time types typing uuid weakref"
)
"""Modules of the standard library that hold classes whose instances are data; what they hold beside is listed below."""

_BUILTINS = _words(
    "__build_class__ __import__ apply breakpoint callable classmethod compile delattr dir eval exec execfile exit file"
    " filter getattr globals help input iter license locals map memoryview next open print property quit raw_input"
    " reduce"
    " reload setattr staticmethod super type vars"
)
_OTHERS = _words(
    # what the modules above hold beside data
    "_operator.attrgetter _operator.call _operator.itemgetter _operator.methodcaller"
    " argparse.FileType argparse.ArgumentParser collections.namedtuple copyreg.add_extension copyreg.constructor"
    " copyreg.pickle dataclasses.make_dataclass enum.property"
    " functools.cached_property functools.lru_cache functools.partial functools.partialmethod functools.reduce"
    " functools.singledispatch functools.wraps functools.update_wrapper functools.cmp_to_key"
    " itertools.accumulate itertools.dropwhile itertools.filterfalse itertools.groupby itertools.starmap"
    " itertools.takewhile operator.attrgetter operator.call operator.itemgetter operator.methodcaller"
    " operator.setitem"
    " operator.delitem re.Scanner re.sub re.subn re.template string.Formatter types.CodeType"
    " types.DynamicClassAttribute"
    " types.FunctionType types.LambdaType types.MethodType types.ModuleType types.coroutine types.new_class"
    " typing.get_type_hints typing.ForwardRef uuid._get_command_stdout uuid._popen uuid.getnode weakref.finalize"
    " weakref.proxy weakref.ref"
    # Python 2, and what is not listed as a module
    " __builtin__ __main__ _pyrepl httplib asynchat asyncore cgi commands compression dircache distutils exceptions"
    " ftplib idlelib"
    " imaplib imp lib2to3 nntplib os2 pipes popen2 smtpd smtplib sre_compile telnetlib test this uu webbrowser xdrlib"
    # torch
    " torch.autograd.function torch.classes torch.compile torch.distributed torch.export torch.fx torch.hub torch.jit"
    " torch.library torch.load torch.multiprocessing torch.ops torch.package torch.save torch.serialization.load"
    " torch.serialization.save torch.serialization.register_package torch.storage._load_from_bytes torch.testing"
    " torch.onnx"
    " torch.utils._config_module torch.utils.bottleneck torch.utils.collect_env torch.utils.cpp_extension"
    " torch.utils.data"
    " torch.utils.model_zoo torch.utils.tensorboard torch.utils.mobile_optimizer torch.utils.checkpoint torch._dynamo"
    " torch._functorch torch._inductor torch._numpy torch._C torch._classes torch._ops torch._lobpcg"
    " torch._utils_internal"
    " torch._tensor_str torch._vendor torch._export torch._higher_order_ops torch._library torch._subclasses"
    " torch._weights_only_unpickler torch.overrides torch.nn.utils.parametrize torch.cuda._memory_viz torch.profiler"
    # other packages that lie beside torch
    " IPython PIL.ImageShow PIL.ImageMath _cffi_backend aiohttp asyncio certifi cffi cloudpickle cupy.load"
    " cv2.utils dill"
    " distributed distutils django ensurepip fabric fastai.learner.load_learner flask fsspec git gradio h5py.File"
    " httpx huggingface_hub invoke ipykernel jinja2 joblib jsonpickle jupyter_client keras lightning numba numexpr"
    " numpy.DataSource numpy.ctypeslib numpy.distutils numpy.f2py numpy.frompyfunc numpy.fromfile numpy.lib.npyio"
    " numpy.lib.utils numpy.load numpy.loadtxt numpy.memmap numpy.save numpy.savetxt numpy.testing numpy.vectorize"
    " numpy.apply_along_axis"
    " onnxruntime pandas.eval pandas.io pandas.read_pickle paramiko pexpect pip pkg_resources psutil ptyprocess pwn"
    " py"
    " pydoc pytest ray requests scipy.io scipy.weave setuptools sh sklearn.utils.fixes sympy tensorflow"
    " tqdm.contrib urllib2"
    " urllib3 virtualenv wandb wheel yaml zmq"
)
UNREADABLE = "<unreadable>"
"""Stands among the globals of what could not be followed to its end, or could be read in two ways."""

EXECUTION_GLOBALS = frozenset(
    {
        UNREADABLE,
        *(sys.stdlib_module_names - _DATA_MODULES),
        *(f"builtins.{name}" for name in _BUILTINS),
        *_OTHERS,
    }
)
"""Names, and names of modules with all that they hold, by which a pickle can run, read or write whatever it wants."""

_ANYWHERE = _words(
    "builtins __builtin__ ctypes eval exec importlib marshal nt os pickle posix pty runpy shutil socket subprocess sys"
    " __builtins__ __class__ __dict__ __getattribute__ __globals__ __import__ __init_subclass__ __reduce__"
    " __reduce_ex__"
    " __self__ __subclasses__ __subclasshook__ __code__ __bases__ __mro__ __call__"
)
"""Steps that lead from any module to one of the above: ``torch.serialization.os.system``."""


def executes(name: str) -> bool:
    """Tell whether a global can run whatever a pickle tells it to; only consent by its very name admits it."""
    steps = name.split(".")
    if any(".".join(steps[: end + 1]) in EXECUTION_GLOBALS for end in range(len(steps))):
        return True
    if name.startswith("_") and steps[0] not in {*_DATA_MODULES, "__torch__"}:
        return True
    inner = steps[1:] if steps[0] == "builtins" else steps
    return not _ANYWHERE.isdisjoint(inner)

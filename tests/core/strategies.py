"""Any lock and any argument, for laws that must hold for all of them."""

import string
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from hublock.core.arguments import Value
from hublock.core.digest import LENGTHS, Digest
from hublock.core.lockfile import (
    HuggingFaceFile,
    Input,
    Lock,
    Model,
    NamedWeights,
    Reply,
    Repo,
    Submodule,
    TreeWeights,
    Weights,
)

WORDS = st.text(string.ascii_letters + string.digits, min_size=1, max_size=6)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
COMMITS = st.binary(min_size=20, max_size=20).map(bytes.hex)
SIZES = st.integers(0, 2**63 - 1)
PATHS = st.lists(WORDS, min_size=1, max_size=3).map("/".join)
URLS = st.builds("https://example.org/{}?{}".format, PATHS, st.sampled_from(["", "ü=1", 'a"b', "a\\b"]))
REFERENCES = st.builds("{}/{}:{}".format, WORDS, WORDS, WORDS) | st.builds("./{}".format, PATHS)
NAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zs"], exclude_characters="/\\:@."), min_size=1, max_size=6
)
ENTRYPOINTS = NAMES.filter(lambda name: not name.startswith("_"))
GLOBALS = st.lists(WORDS, min_size=1, max_size=3, unique=True).map(lambda names: tuple(sorted(names)))
PICKLES: st.SearchStrategy[Any] = st.sampled_from(["tensors", "torchscript", "none"]) | GLOBALS
SPECIAL: st.SearchStrategy[Any] = st.sampled_from(
    ["None", "(1, 2)", "{1, 2}", "b'x'", "1e999", "18446744073709551616"]
).map(lambda text: {"python": text}) | st.just({"object": "torch.float16"})
VALUES: st.SearchStrategy[Value] = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | TEXTS | SPECIAL,
    lambda below: (
        st.lists(below, max_size=3)
        | st.dictionaries(TEXTS.filter(lambda key: key not in ("python", "object")), below, max_size=3)
    ),
    max_leaves=6,
)
"""What parser and writer pass through; keys named like the special ones are tried in test_arguments."""
KEYWORDS = st.dictionaries(st.sampled_from(["a", "weights", "ünder"]), VALUES, max_size=2)
PYTHON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda below: (
        st.lists(below, max_size=3)
        | st.lists(below, max_size=3).map(tuple)
        | st.dictionaries(
            st.text(max_size=4) | st.integers() | st.sampled_from(["python", "object"]), below, max_size=3
        )
    ),
    max_leaves=6,
)
"""Python values that a literal can say."""


def digests(scheme: str) -> st.SearchStrategy[Digest]:
    size = LENGTHS[scheme] // 2
    return st.binary(min_size=size, max_size=size).map(lambda data: Digest(scheme, data.hex()))


SHA256 = digests("sha256")


def rows(strategy: st.SearchStrategy[Any], key: Callable[[Any], object]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(strategy, max_size=2, unique_by=key).map(tuple)


def words(strategy: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(strategy, max_size=3, unique=True).map(tuple)


WEIGHTS = st.builds(Weights, url=URLS, digest=SHA256, size=SIZES, pickle=PICKLES)
HF = st.builds(
    HuggingFaceFile,
    repo=st.builds("{}/{}".format, WORDS, WORDS),
    type=st.sampled_from(["model", "dataset", "space"]),
    revision=WORDS,
    commit=COMMITS,
    file=PATHS,
    digest=SHA256,
    size=SIZES,
    pickle=PICKLES,
)
REPLIES = st.builds(
    Reply.of,
    method=st.sampled_from(["GET", "HEAD"]),
    url=URLS,
    status=st.integers(100, 599),
    body=st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
)
MODELS = st.builds(
    Model,
    name=NAMES,
    entrypoint=ENTRYPOINTS,
    args=st.lists(VALUES, max_size=2).map(tuple),
    kwargs=KEYWORDS,
    traced=st.sampled_from(["confirmed", "unconfirmed", "declared"]),
    isolation=st.none() | st.sampled_from(["netns+landlock", "netns", "landlock", "guard"]),
    requires=words(st.sampled_from(["torch>=2.4,<3", "numpy", "timm[extra]==1.0; python_version > '3'"])),
    traced_with=words(st.builds("{}=={}.{}".format, WORDS, st.integers(0, 9), st.integers(0, 9))),
    state=st.none() | SHA256,
    repos=words(REFERENCES),
    weights=rows(WEIGHTS, lambda row: row.url),
    hf=rows(HF, lambda row: (row.repo, row.type, row.revision, row.file)),
    replies=rows(REPLIES, lambda row: (row.method, row.url)),
    inputs=rows(st.builds(Input, name=PATHS, digest=SHA256, size=SIZES, pickle=PICKLES), lambda row: row.name),
    tolerated=words(st.sampled_from(["https://api.github.com", "subprocess:fc-list", "http://localhost:80"])),
    writes_tree=st.booleans(),
)
REPOS = st.builds(
    Repo,
    id=REFERENCES,
    via=words(REFERENCES),
    ref=st.just("HEAD") | WORDS.map("refs/heads/{}".format),
    commit=COMMITS,
    tree=digests("git-sha1"),
    digest=digests("git-sha256"),
    allow_unreachable=st.booleans(),
    dependencies=words(WORDS),
    submodules=rows(
        st.builds(Submodule, path=PATHS, url=st.just("../a.git") | URLS, commit=COMMITS), lambda row: row.path
    ),
    tree_weights=rows(st.builds(TreeWeights, path=PATHS, pickle=PICKLES), lambda row: row.path),
    models=st.lists(MODELS, max_size=2).map(tuple),
)
NAMED = st.builds(NamedWeights, name=NAMES, url=URLS, digest=SHA256, size=SIZES, pickle=PICKLES)


def _consistent(lock: Lock) -> bool:
    """Keep what the parser's rules across entries allow."""
    names = [model.name for repo in lock.repos for model in repo.models] + [row.name for row in lock.weights]
    ids = [repo.id.lower() for repo in lock.repos]
    files = [(row.url, row.digest, row.size) for repo in lock.repos for model in repo.models for row in model.weights]
    files += [(row.url, row.digest, row.size) for row in lock.weights]
    return (
        len(names) == len(set(names))
        and len(ids) == len(set(ids))
        and len({url for url, *_ in files}) == len(set(files))
    )


LOCKS = st.builds(
    Lock,
    environment=st.sampled_from(["warn", "exact"]),
    repos=st.lists(REPOS, max_size=2).map(tuple),
    weights=st.lists(NAMED, max_size=2).map(tuple),
).filter(_consistent)

"""How a parent answers the questions of a trace child, none of which it takes for well-formed."""

import base64
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hublock.runtime.answers import Answers
from hublock.runtime.tracing.scratch import Scratch
from hublock.runtime.tracing.wire import BadMessage, Message, write_file, write_repository


def answer(question: Message, answers: Answers, scratch: Scratch) -> Any:
    """Return what ``answers`` has to say to ``question``, as JSON; files and trees lie where the child may read them.

    Raises:
        BadMessage: it is no question.
        HublockError: what ``answers`` refused it with.
    """
    told, words = _QUESTIONS.get(str(question.get("ask")), (None, ()))
    if told is None or not all(_is_text(question.get(name)) for name in words):
        raise BadMessage("no question")
    return told(answers, scratch, question)


def _is_text(word: object) -> bool:
    """Tell whether ``word`` may go into a path or a URL: lone surrogates and NUL may not."""
    return isinstance(word, str) and "\0" not in word and not any("\ud800" <= letter <= "\udfff" for letter in word)


def _fetch(answers: Answers, scratch: Scratch, question: Message) -> Any:
    prefix = question.get("hash_prefix")
    return write_file(
        scratch.visible(answers.fetch(question["url"], hash_prefix=prefix if isinstance(prefix, str) else None))
    )


def _repo(answers: Answers, scratch: Scratch, question: Message) -> Any:
    return write_repository(scratch.copied(answers.repo(question["reference"])))


def _reply(answers: Answers, _: Scratch, question: Message) -> Any:
    if question["method"] not in ("GET", "HEAD"):
        # any other may change something elsewhere, in the name of the user whose credentials we send
        raise BadMessage("no question")
    reply = answers.reply(question["method"], question["url"])
    return None if reply is None else [reply[0], base64.b64encode(reply[1]).decode("ascii")]


def _hf(answers: Answers, scratch: Scratch, question: Message) -> Any:
    commit, file = answers.hf(question["repo"], question["type"], question["revision"], question["file"])
    return [commit, write_file(scratch.visible(file))]


def _hf_files(answers: Answers, _: Scratch, question: Message) -> Any:
    commit, files = answers.hf_files(question["repo"], question["type"], question["revision"])
    return [commit, list(files)]


def _input(answers: Answers, _: Scratch, question: Message) -> Any:
    path = Path(question["path"])
    try:
        # a pipe or device of the child's making would hold us up
        regular = stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return None
    file = answers.input(path) if regular else None
    return None if file is None else write_file(file)


def _pickle_of(answers: Answers, _: Scratch, question: Message) -> Any:
    return answers.pickle_of(question["repo"], question["path"])


_QUESTIONS: dict[str, tuple[Callable[[Answers, Scratch, Message], Any], tuple[str, ...]]] = {
    "fetch": (_fetch, ("url",)),
    "repo": (_repo, ("reference",)),
    "reply": (_reply, ("method", "url")),
    "hf": (_hf, ("repo", "type", "revision", "file")),
    "hf_files": (_hf_files, ("repo", "type", "revision")),
    "input": (_input, ("path",)),
    "pickle_of": (_pickle_of, ("repo", "path")),
}
"""What answers each, and the words that it must have."""

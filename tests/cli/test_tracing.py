"""The options of `add` and `lock` that say how to trace."""

import argparse

import pytest

from hublock.cli import tracing


@pytest.mark.parametrize("text", ["0", "-3", "nan", "inf", "1e400", "soon", ""])
def test_refuses_a_time_limit_that_is_none(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    tracing.configure(parser)

    with pytest.raises(SystemExit):
        parser.parse_args([f"--timeout={text}"])

    assert f"{text!r} is not a number of seconds above 0" in capsys.readouterr().err
    assert tracing.options(parser.parse_args(["--timeout", "0.5"])).timeout == 0.5

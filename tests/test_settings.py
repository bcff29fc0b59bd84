"""Settings from a mapping."""

from pathlib import Path

import pytest

from hublock.errors import InputError
from hublock.settings import Settings


def test_mirrors_are_read_longest_first_and_override_the_config_file() -> None:
    settings = Settings.from_mapping(
        # what stands behind the one would run into the name of the other's host, or its port
        {"HUBLOCK_MIRRORS": "https://a/=http://b/?x=1\n HTTPS://A/Long/=http://c:80", "HUBLOCK_CACHE_DIR": "/c"},
        mirrors={"https://a/": "http://config/", "https://z/": "http://y/"},
    )

    assert settings.mirrors == (
        ("https://a/Long/", "http://c:80/"),
        ("https://a/", "http://b/?x=1"),
        ("https://z/", "http://y/"),
    )


NO_RULE = "of HUBLOCK_MIRRORS or config.toml does not map an http(s) address to another"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("HUBLOCK_JOBS", "0", "HUBLOCK_JOBS: '0' is not a whole number from 1 to 9999"),
        ("HUBLOCK_JOBS", "many", "HUBLOCK_JOBS: 'many' is not a whole number from 1 to 9999"),
        ("HUBLOCK_JOBS", "9" * 5000, f"HUBLOCK_JOBS: '{'9' * 20}…' is not a whole number from 1 to 9999"),
        ("HUBLOCK_MIRRORS", "https://a/", "HUBLOCK_MIRRORS holds 'https://a/', which is not FROM=TO"),
        (
            "HUBLOCK_MIRRORS",
            "a.org=https://b/",
            f"the mirror rule a.org=https://b/ {NO_RULE}",
        ),
        (
            "HUBLOCK_MIRRORS",
            "a.org=https://u:S3cret@b/",
            f"the mirror rule a.org=https://…@b/ {NO_RULE}",
        ),
        ("HUBLOCK_MIRRORS", "=https://u:S3cret@b/", "HUBLOCK_MIRRORS holds '=https://…@b/', which is not FROM=TO"),
    ],
)
def test_what_a_variable_cannot_hold_is_refused(name: str, value: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        Settings.from_mapping({name: value})

    assert caught.value.message == message
    assert caught.value.hint


def test_a_token_read_from_a_file_ends_without_its_line() -> None:
    given = {"GITHUB_TOKEN": "secret\n", "HF_TOKEN": "\n", "HUBLOCK_CACHE_DIR": "/c"}
    assert Settings.from_mapping(given).tokens == {"github.com": "secret", "codeload.github.com": "secret"}


@pytest.mark.parametrize(("named", "meant"), [("~", "/home/me"), ("~/c", "/home/me/c"), ("~c", "~c")])
def test_the_home_folder_is_meant_as_a_shell_would(named: str, meant: str) -> None:
    cache = Settings.from_mapping({"HUBLOCK_CACHE_DIR": named, "HOME": "/home/me"}).cache
    assert cache == Path(meant).absolute()


def test_an_empty_number_of_jobs_is_none() -> None:
    assert Settings.from_mapping({"HUBLOCK_JOBS": ""}).jobs == Settings.from_mapping({}).jobs == 8
    assert Settings.from_mapping({"HUBLOCK_JOBS": "016"}).jobs == 16


def test_tokens_belong_to_their_host_and_are_not_shown() -> None:
    settings = Settings.from_mapping({"GH_TOKEN": "secret-1", "HF_TOKEN": "secret-2", "HUBLOCK_CACHE_DIR": "/c"})

    assert settings.tokens["github.com"] == "secret-1"
    assert settings.tokens["huggingface.co"] == "secret-2"
    assert "secret" not in repr(settings)


def test_the_cache_of_torch_is_where_torch_looks() -> None:
    assert Settings.from_mapping({"TORCH_HOME": "/t"}).torch_home == Path("/t")
    assert Settings.from_mapping({"XDG_CACHE_HOME": "/x"}).torch_home == Path("/x/torch")
    assert Settings.from_mapping({"HOME": "/h"}).torch_home == Path("/h/.cache/torch")
    # as torch does, where no shell has
    assert Settings.from_mapping({"HOME": "/h", "TORCH_HOME": "~/t"}).torch_home == Path("/h/t")
    assert Settings.from_mapping({"HOME": "/h", "XDG_CACHE_HOME": "~/x"}).torch_home == Path("/h/x/torch")
    assert Settings.from_mapping({"HOME": "/h", "HUBLOCK_CACHE_DIR": "~/c"}).cache == Path("/h/c")

"""Moving pins with open eyes."""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from hublock.core.canonical import dump_lock
from hublock.core.lockreader import parse_lock
from tests.forge import Forge, ForgeRepo, Link
from tests.stories.conftest import PLAIN, Done, Run
from tests.stories.test_bad_input import snapshot

BIG = PLAIN.replace("NAME", "big")
BRANCH = ("update", "b/branch")


@pytest.fixture
def branch(pinned: Forge) -> ForgeRepo:
    found = pinned.find_repo("github.com", "b/branch")
    assert found is not None
    return found


@pytest.fixture
def tagged(pinned: Forge) -> ForgeRepo:
    found = pinned.find_repo("github.com", "a/tagged")
    assert found is not None
    return found


def commit_of(project: Path, id: str) -> str:
    lines = (project / "hub.lock").read_text().splitlines()
    start = lines.index(f'id = "{id}"')
    return next(line for line in lines[start:] if line.startswith("commit")).split('"')[1]


def content(store: Path) -> set[str]:
    """What a store holds; looking at it may renew stamps."""
    return {str(path) for path in store.rglob("*")}


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_update_shows_dates_commits_and_the_change_of_the_contract(branch: ForgeRepo, project: Path, hub: Run) -> None:
    old = commit_of(project, "b/branch")
    branch.commit({"hubconf.py": BIG.replace("pretrained=False", "pretrained=True, *, width: int = 4")})
    new = branch.commit(
        {"hubconf.py": BIG.replace("pretrained=False", "*, width: int = 4").replace('["torch"]', '["numpy"]')
         + '\n\ndef more():\n    return ["https://example.org/more-1a2b.pt", "https://example.org/page.html"]\n'}
    )  # fmt: skip

    done = hub("update", "big")

    assert done.err.splitlines()[:9] == [
        f"    Moved b/branch {old[:12]} of 2023-11-14 -> {new[:12]} of 2023-11-14, 2 commits",
        "          + entry point more",
        "          ~ big(pretrained=False) -> big(*, width: int=4)",
        "          + dependency numpy",
        "          - dependency torch",
        "          + https://example.org/more-1a2b.pt in the source",
        "   Locked big: big() of b/branch at <commit>",
        "          1 file, 18 B; declared",
        "          ~ repository b/branch",
    ]
    assert (done.code, commit_of(project, "b/branch")) == (0, new)
    assert hub("verify", "--upstream").code == 0


def test_update_reads_a_hubconf_that_is_a_link_before_and_after(branch: ForgeRepo, hub: Run) -> None:
    branch.commit({"hubconf.py": Link("src/hub.py"), "src/hub.py": BIG})
    linked = hub("update", "big")
    assert (linked.code, " ~ big" in linked.err, " - " in linked.err) == (0, False, False), linked.err
    assert hub("list", "b/branch", "--weights").out == "https://example.org/big.pth\n"

    branch.commit({"src/hub.py": BIG + '\n\ndef more():\n    return "https://example.org/more-1a2b.pt"\n'})
    assert "+ https://example.org/more-1a2b.pt in the source\n" in hub("update", "big").err
    assert len(hub("list", "b/branch", "--weights").out.splitlines()) == 2


def test_dry_run_writes_nothing_at_all(branch: ForgeRepo, project: Path, store: Path, hub: Run) -> None:
    new = branch.commit({"hubconf.py": BIG + "\n\ndef more():\n    pass\n"})
    before = [snapshot(project), content(store)]

    done = hub(*BRANCH, "--dry-run")

    assert f"Would move b/branch {commit_of(project, 'b/branch')[:12]} of 2023-11-14 -> {new[:12]}" in done.err
    assert "+ entry point more" in done.err
    assert "nothing was written" in done.err
    assert (done.code, [snapshot(project), content(store)]) == (0, before)


def test_refuses_to_drop_an_entry_point_that_the_manifest_uses(branch: ForgeRepo, project: Path, hub: Run) -> None:
    new = branch.commit({"hubconf.py": BIG.replace("def big", "def large")})
    before = snapshot(project)

    for words in (("update", "big"), ("update", "--all", "--dry-run")):
        assert str(hub(*words)) == (
            "exit 2\n--- stdout\n--- stderr\n"
            f"error: b/branch at {new[:12]} no longer has big (model big), which <project>/hub.toml uses\n"
            "   hint: write its new entrypoint into [models.big] and type that again, or keep the pin\n"
        ).replace(f"at {new[:12]}", "at <commit>")
    assert snapshot(project) == before
    manifest = project / "hub.toml"
    manifest.write_text(manifest.read_text().replace("[models.big]\n", '[models.big]\nentrypoint = "large"\n'))
    assert (hub("update", "big").code, commit_of(project, "b/branch")) == (0, new)


def test_a_declared_model_is_not_told_to_choose_its_weights(branch: ForgeRepo, hub: Run) -> None:
    branch.commit({"readme.md": "more"})

    done = hub("update", "big")

    assert (done.code, "1 file, 18 B; declared" in done.err, "hint" in done.err) == (0, True, False), done


def test_refuses_a_branch_that_took_the_name_of_a_deleted_tag_unless_that_is_allowed(
    tagged: ForgeRepo, project: Path, hub: Run
) -> None:
    old = commit_of(project, "a/tagged:v1")
    tagged.delete("refs/tags/v1")
    tagged.branch("v1")
    new = tagged.commit({"readme.md": "whatever follows"}, branch="v1")
    before = snapshot(project)

    refused = hub("update", "net")

    assert str(refused) == (
        "exit 2\n--- stdout\n--- stderr\n"
        f"error: refs/tags/v1 of a/tagged:v1 is gone, and refs/heads/v1 took its name, at {new[:12]}, not the locked"
        f" {old[:12]}\n"
        "   hint: hublock update net --allow-rewritten, if you trust that\n"
    ).replace(f"at {new[:12]}", "at <commit>")
    assert snapshot(project) == before
    assert "hint: hublock update a/tagged:v1 --allow-rewritten, if you trust that\n" in hub("verify", "--upstream").err
    allowed = hub("update", "a/tagged:v1", "--allow-rewritten")
    assert (allowed.code, commit_of(project, "a/tagged:v1")) == (0, new), allowed


def test_refuses_a_rewritten_branch_unless_that_is_allowed(branch: ForgeRepo, project: Path, hub: Run) -> None:
    old = commit_of(project, "b/branch")
    new = branch.commit({"hubconf.py": BIG + "# rewritten\n"}, orphan=True)
    before = snapshot(project)

    refused = hub("update", "--all")

    assert str(refused) == (
        "exit 2\n--- stdout\n--- stderr\n"
        f"error: refs/heads/main of b/branch was rewritten: {new[:12]} does not have the locked {old[:12]} in its"
        " history\n"
        "   hint: hublock update --all --allow-rewritten, if you trust that\n"
    )
    assert snapshot(project) == before
    allowed = hub("update", "--all", "--allow-rewritten")
    assert "warning: b/branch: the branch was rewritten, as --allow-rewritten allows\n" in allowed.err
    assert (allowed.code, commit_of(project, "b/branch")) == (0, new)


def test_refuses_a_moved_tag_unless_that_is_allowed(tagged: ForgeRepo, project: Path, hub: Run) -> None:
    old = commit_of(project, "a/tagged:v1")
    new = tagged.commit({"more.py": ""})
    tagged.tag("v1", "main", annotated=True)

    refused = hub("update", "net")

    assert refused.code == 2
    assert (
        f"refs/tags/v1 of a/tagged:v1 was moved from {old[:12]} to {new[:12]}, and tags should not move" in refused.err
    )
    assert commit_of(project, "a/tagged:v1") == old
    assert hub("update", "net", "--allow-rewritten").code == 0
    assert commit_of(project, "a/tagged:v1") == new


def test_precise_moves_to_one_commit_forth_and_back(branch: ForgeRepo, project: Path, hub: Run) -> None:
    first = commit_of(project, "b/branch")
    second = branch.commit({"a.txt": "a"})
    branch.commit({"b.txt": "b"})

    assert hub("update", "big", "--precise", second).code == 0
    assert commit_of(project, "b/branch") == second
    assert ", 1 commit on, not the locked" in hub("verify", "--upstream").err
    back = hub("update", "big", "--precise", first)
    assert f"Moved b/branch {second[:12]} of 2023-11-14 -> {first[:12]} of 2023-11-14, 1 commit back\n" in back.err
    assert commit_of(project, "b/branch") == first
    stranger = branch.commit({"c.txt": "c"}, ref="refs/pull/1/head")
    refused = hub("update", "big", "--precise", stranger)
    assert (refused.code, "no branch or tag of b/branch leads to" in refused.err) == (2, True)


def test_who_has_left_a_tag_is_not_told_that_it_was_moved(tagged: ForgeRepo, project: Path, hub: Run) -> None:
    first = commit_of(project, "a/tagged:v1")
    later = tagged.commit({"a.txt": "a"})
    assert hub("update", "net", "--precise", later).code == 0

    there = hub("outdated")
    refused = hub("update", "net")
    back = hub("update", "net", "--allow-rewritten")

    assert (there.code, there.out.endswith("  the lock follows another ref\n")) == (1, True), there
    assert refused.code == 2
    assert refused.err == (
        "error: a/tagged:v1 is locked at <commit>, to which refs/heads/main led, "
        f"and refs/tags/v1 names {first[:12]}\n"
        "   hint: hublock update net --allow-rewritten, if you trust that\n"
    )
    assert "warning: a/tagged:v1: refs/tags/v1 instead of refs/heads/main, as --allow-rewritten allows\n" in back.err
    assert commit_of(project, "a/tagged:v1") == first


def test_a_repository_that_is_named_by_its_commit_is_not_moved(pinned: Forge, branch: ForgeRepo, hub: Run) -> None:
    other = branch.commit({"hubconf.py": BIG + "# more\n"})
    commit = branch.commit({"hubconf.py": BIG})
    url = ("--no-trace", "--url", "https://example.org/big.pth")
    assert hub("add", f"b/branch:{commit}", "big", "--name", "fixed", *url).code == 0

    done = hub("update", "fixed", "--precise", other)

    assert done.code == 2
    assert done.err == (
        "error: b/branch:<hex> names its commit itself\n"
        "   hint: name the other one in the manifest, then hublock lock\n"
    )


def test_only_what_is_named_moves(branch: ForgeRepo, tagged: ForgeRepo, project: Path, hub: Run) -> None:
    old = commit_of(project, "b/branch")
    branch.commit({"a.txt": "a"})

    assert str(hub("update", "net", "backbone")) == "exit 0\n--- stdout\n--- stderr\nhub.lock is up to date\n"
    assert commit_of(project, "b/branch") == old


def test_a_replaced_file_is_shown_and_never_taken_silently(pinned: Forge, project: Path, hub: Run) -> None:
    """The host tells nothing: same size, same ETag; only an update fetches the bytes."""
    url = "https://example.org/net.pth"
    old, new = digest_of(b"the weights of net"), digest_of(b"THE WEIGHTS OF NET")
    pinned.serve(url, b"THE WEIGHTS OF NET")

    assert hub("lock").code == 0
    assert hub("lock", "--retrace", "net").code == 0
    assert old in (project / "hub.lock").read_text()
    done = hub("update", "net")

    assert done.code == 0
    assert f"warning: {url} has other bytes by now\n" in done.err
    assert f"! file {url}: sha256:<hex>, 18 bytes, pickle none -> sha256:<hex>, 18 bytes, pickle none\n" in done.err
    assert "warning: look twice at what is marked !" in done.err
    lock = (project / "hub.lock").read_text()
    assert (old in lock, new in lock) == (False, True)


def test_a_replaced_file_is_shown_when_its_repository_moves(pinned: Forge, branch: ForgeRepo, hub: Run) -> None:
    branch.commit({"a.txt": "a"})
    pinned.serve("https://example.org/big.pth", b"other")

    done = hub("update", "big")

    assert (
        "! file https://example.org/big.pth: sha256:<hex>, 18 bytes, pickle none -> sha256:<hex>, 5 bytes" in done.err
    )
    assert "warning: look twice at what is marked !" in done.err


def test_a_file_that_is_gone_keeps_its_pin(pinned: Forge, project: Path, hub: Run) -> None:
    pinned.forget("https://example.org/backbone.bin")
    before = snapshot(project)

    done = hub("update", "--all")

    assert done.code == 0
    assert "warning: https://example.org/backbone.bin serves nothing any more (HTTP 404); its pin stays" in done.err
    assert snapshot(project) == before


def test_a_url_that_two_models_share_moves_for_both(pinned: Forge, project: Path, hub: Run) -> None:
    url = "https://example.org/net.pth"
    assert hub("add", "b/branch", "big", "--name", "twin", "--no-trace", "--url", url).code == 0
    pinned.serve(url, b"other")

    assert hub("update", "net").code == 0

    lock = (project / "hub.lock").read_text()
    assert lock.count(digest_of(b"other")) == 2
    assert digest_of(b"the weights of net") not in lock


def test_a_model_that_loads_a_repository_is_found_out_again_when_that_moves(
    branch: ForgeRepo, project: Path, hub: Run
) -> None:
    lock = parse_lock((project / "hub.lock").read_text(), file="hub.lock")
    tagged, nested = lock.repos
    outer = replace(tagged, models=(replace(tagged.models[0], repos=("b/branch",)),))
    (project / "hub.lock").write_text(dump_lock(replace(lock, repos=(outer, replace(nested, via=("a/tagged:v1",))))))
    assert hub("verify").code == 0
    branch.commit({"a.txt": "a"})

    done = hub(*BRANCH)

    assert done.code == 0
    assert "   Locked net: net() of a/tagged:v1" in done.err
    assert "- repos b/branch" in done.err


def test_nothing_is_written_when_one_of_many_fails(pinned: Forge, branch: ForgeRepo, project: Path, hub: Run) -> None:
    branch.commit({"a.txt": "a"})
    pinned.serve("https://example.org/big.pth", status=404)
    before = snapshot(project)

    done = hub("update", "--all")

    assert done.code == 5
    assert snapshot(project) == before


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "what should be updated?"),
        (("net", "--all"), "update takes either names or --all"),
        (("--all", "--precise", "a" * 40), "--precise names a commit of one repository, not of 2"),
        (("net", "--precise", "abc1234"), "--precise takes a whole commit id of 40 or 64 hex digits, not 'abc1234'"),
        (("net", "--precise", "v1"), "--precise takes a whole commit id of 40 or 64 hex digits, not 'v1'"),
        (("net", "--precise", ""), "--precise takes a whole commit id of 40 or 64 hex digits, not ''"),
        (("net", "--precise", "0" * 40), "--precise takes a whole commit id of 40 or 64 hex digits, not '00000"),
    ],
)
def test_refuses_what_is_not_there(pinned: Forge, inside: Run, words: tuple[str, ...], sentence: str) -> None:
    done = inside("update", *words)

    assert (done.code, sentence in done.err) == (2, True), done


def test_refuses_a_name_that_is_not_locked(pinned: Forge, hub: Run) -> None:
    done = hub("update", "nett")

    assert (done.code, done.err.splitlines()[0]) == (4, "error: <project>/hub.lock has no nett; did you mean net?")


def test_outdated_lists_and_changes_nothing(pinned: Forge, branch: ForgeRepo, project: Path, hub: Run) -> None:
    assert str(hub("outdated")) == (
        "exit 0\n--- stdout\n--- stderr\nhub.lock is up to date, as far as hosts tell without fetching files\n"
    )
    old, before = commit_of(project, "b/branch"), snapshot(project)
    new = branch.commit({"a.txt": "a"})
    pinned.serve("https://example.org/net.pth", b"x")

    done = hub("outdated")

    assert str(done) == (
        "exit 1\n--- stdout\n"
        f"b/branch  {old[:12]} of 2023-11-14 -> {new[:12]} of 2023-11-14  1 commit behind\n"
        "https://example.org/net.pth serves 1 bytes, not the locked 18\n"
        "--- stderr\n   hint: hublock update b/branch --dry-run\n   hint: hublock update net, if you trust that\n"
    )
    [row] = json.loads(hub("outdated", "--format", "json").out)["repositories"]
    assert (row["locked"], row["commits"], row["trend"], row["models"]) == ("<hex>", 1, "ahead", ["big"])
    assert snapshot(project) == before


def test_outdated_hints_at_what_helps(pinned: Forge, branch: ForgeRepo, hub: Run) -> None:
    pinned.forget("https://example.org/net.pth")

    done = hub("outdated")

    assert done.out == "https://example.org/net.pth serves nothing any more (HTTP 404)\n"
    assert done.err == "   hint: keep the store, or name a mirror in HUBLOCK_MIRRORS\n"


def test_outdated_lists_the_rest_where_one_repository_is_gone(tagged: ForgeRepo, branch: ForgeRepo, hub: Run) -> None:
    branch.commit({"a.txt": "a"})
    tagged.token = "secret"

    done = hub("outdated")

    assert done.code == 2
    assert re.search(r"^b/branch .* 1 commit behind$", done.out, re.MULTILINE)
    assert "\na/tagged:v1 is gone: github.com does not show a/tagged" in done.out
    assert re.fullmatch(r"   hint: hublock update b/branch --dry-run\n   hint: check the name.*\n", done.err)


def test_a_repository_that_is_gone_holds_back_only_an_update_of_all(tagged: ForgeRepo, hub: Run) -> None:
    tagged.token = "secret"

    done = hub("update", "--all")

    assert (done.code, done.err.endswith("; hublock update NAME moves the others\n")) == (2, True)
    assert hub("update", "big").code == 0
    assert "the others" not in hub("update", "net").err


def test_update_says_what_is_called_otherwise_by_now(pinned: Forge, branch: ForgeRepo, hub: Run) -> None:
    pinned.adopt("b/new", branch.path)
    branch.renamed_to = "b/new"

    assert str(hub("update", "big")) == (
        "exit 0\n--- stdout\n--- stderr\n"
        "warning: b/branch is called b/new by now: write that, for the old name can be taken\nhub.lock is up to date\n"
    )


def test_outdated_lists_what_is_called_otherwise_by_now(pinned: Forge, branch: ForgeRepo, hub: Run) -> None:
    pinned.adopt("b/new", branch.path)
    branch.renamed_to = "b/new"

    done = hub("outdated")

    assert (done.code, done.out) == (
        1, "b/branch is called b/new by now, and its old name can be taken by anybody\n"
    )  # fmt: skip
    assert done.err.endswith("   hint: write b/new in the manifest, then hublock lock\n")
    told = json.loads(hub("outdated", "--format", "json").out)
    note = {
        "repository": "b/branch",
        "rule": "upstream-renamed",
        "message": done.out.strip(),
        "hint": "write b/new in the manifest, then hublock lock",
    }
    assert told == {"repositories": [], "notes": [note], "files": []}


def test_the_new_name_of_a_repository_keeps_its_pin_though_the_tag_has_moved(
    pinned: Forge, tagged: ForgeRepo, project: Path, hub: Run
) -> None:
    manifest, before = project / "hub.toml", commit_of(project, "a/tagged:v1")
    pinned.adopt("a/new", tagged.path)
    tagged.renamed_to = "a/new"
    tagged.commit({"hubconf.py": BIG})
    tagged.tag("v1", "main")
    manifest.write_text(manifest.read_text().replace("a/tagged:v1", "a/new:v1"))

    assert hub("lock").code == 0
    assert commit_of(project, "a/new:v1") == before
    # and whoever goes elsewhere gets what is there
    manifest.write_text(manifest.read_text().replace("a/new:v1", "a/fork:v1"))
    pinned.adopt("a/fork", tagged.path)
    assert hub("lock").code == 0
    assert commit_of(project, "a/fork:v1") != before


def test_a_traced_model_is_traced_again_where_it_moves(added: Done, served: Forge, run: Run, project: Path) -> None:
    repo = served.find_repo("github.com", "someone/net")
    assert repo is not None
    source = repo.git("show", "main:hubconf.py").replace("net.pth", "moved.pth")
    served.serve("https://example.org/moved.pth", served.find_file("https://example.org/net.pth").data)  # type: ignore[union-attr]
    new = repo.commit({"hubconf.py": source + "\n"})
    repo.tag("v1", "main")

    done = run("update", "net", "--allow-rewritten")

    assert done.code == 0, done
    assert "- https://example.org/net.pth in the source" in done.err
    assert "traced within <isolation>, confirmed" in done.err
    assert "- file https://example.org/net.pth: sha256:<hex>, 1829 bytes, pickle tensors" in done.err
    assert "+ file https://example.org/moved.pth: sha256:<hex>, 1829 bytes, pickle tensors" in done.err
    assert commit_of(project, "someone/net:v1") == new
    assert run("verify", "--deep").code == 0


def test_add_writes_the_new_name_of_a_renamed_repository(
    forge: Forge, project: Path, hub: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = forge.repo("old/name", {"hubconf.py": BIG})
    old.tag("v1")
    forge.adopt("new/name", old.path)
    old.renamed_to = "new/name"
    forge.serve("https://example.org/big.pth", b"big")
    monkeypatch.chdir(project)

    done = hub("add", "old/name:v1", "big", "--no-trace", "--url", "https://example.org/big.pth")

    assert done.code == 0
    assert "warning: old/name is called new/name by now: adding it under that name\n" in done.err
    assert 'repo = "new/name:v1"' in (project / "hub.toml").read_text()
    assert 'id = "new/name:v1"' in (project / "hub.lock").read_text()
    assert "old/name" not in (project / "hub.toml").read_text() + (project / "hub.lock").read_text()
    assert hub("verify", "--upstream").code == 0


def test_removing_something_moves_no_pin_of_what_the_lock_does_not_answer_yet(
    pinned: Forge, project: Path, hub: Run
) -> None:
    manifest, lock = project / "hub.toml", project / "hub.lock"
    before = parse_lock(lock.read_text(), file="hub.lock")
    renamed = manifest.read_text().replace("[models.net]", '[models.other]\nentrypoint = "net"')
    manifest.write_text(renamed.replace("[weights.backbone]", "[weights.spine]"))
    pinned.serve("https://example.org/backbone.bin", b"what somebody else put there")
    repo = pinned.find_repo("github.com", "a/tagged")
    assert repo is not None
    repo.commit({"later.py": ""})
    repo.tag("v1")

    for name in ("net", "backbone"):
        done = hub("remove", name)
        wanted = "other" if name == "net" else "spine"
        assert str(done) == (
            "exit 1\n--- stdout\n--- stderr\n"
            f"error: <project>/hub.lock does not answer {wanted} yet, which would lose its pin with {name}\n"
            f"   hint: hublock lock, then hublock remove {name}\n"
        )
    assert parse_lock(lock.read_text(), file="hub.lock") == before
    assert hub("remove", "big").code == 0
    left = parse_lock(lock.read_text(), file="hub.lock")
    assert left.names == ("net", "backbone")
    assert [repo.commit for repo in left.repos] == [repo.commit for repo in before.repos if repo.id == "a/tagged:v1"]

    assert hub("lock").code == 0
    after = parse_lock(lock.read_text(), file="hub.lock")
    assert after.names == ("other", "spine")
    assert (after.repos[0].commit, after.weights[0].digest) == (left.repos[0].commit, left.weights[0].digest)


@pytest.mark.parametrize(
    "words", [("add", "--url", "https://example.org/new.bin", "--name", "new"), ("update", "backbone")]
)
def test_a_lock_that_git_replaces_while_a_command_works_stays_as_git_has_put_it(
    pinned: Forge, project: Path, hub: Run, words: tuple[str, ...]
) -> None:
    manifest, lock = project / "hub.toml", project / "hub.lock"
    before = manifest.read_text()
    merged = lock.read_text().replace("size = 10", "size = 11")

    def merge(_: object) -> None:
        lock.write_text(merged)

    for name in ("new", "backbone"):
        pinned.serve(f"https://example.org/{name}.bin", b"new bytes", on_hit=merge)
    done = hub(*words)

    assert (done.code, done.err.splitlines()[-2:]) == (
        1,
        [
            "error: <project>/hub.lock was changed meanwhile, and stays as it is now",
            "   hint: type the command again",
        ],
    )
    assert (manifest.read_text(), lock.read_text()) == (before, merged)


@pytest.mark.parametrize("words", [("update", "--all"), ("update", "--all", "--dry-run"), ("outdated",)])
def test_up_to_date_is_not_said_of_a_stale_lock_without_a_warning(
    pinned: Forge, project: Path, hub: Run, words: tuple[str, ...]
) -> None:
    manifest = project / "hub.toml"
    manifest.write_text(f'{manifest.read_text()}\n[models.later]\nrepo = "a/later"\n')

    done = hub(*words)

    assert (done.code, done.err.splitlines()[0].partition(",")[0]) == (0, "hub.lock is up to date")
    assert done.err.endswith("\nwarning: hub.lock is stale: model later is not locked yet\n")


def test_removing_one_of_two_spellings_leaves_the_lock_that_locking_writes(
    pinned: Forge, project: Path, hub: Run
) -> None:
    url = ("--no-trace", "--url", "https://example.org/net.pth")
    assert hub("add", "A/Tagged:v1", "net", "--name", "first", *url).code == 0
    assert 'id = "A/Tagged:v1"' in (project / "hub.lock").read_text()
    assert hub("remove", "first").code == 0
    left = (project / "hub.lock").read_bytes()

    assert b'id = "a/tagged:v1"' in left
    assert hub("lock").code == 0
    assert (project / "hub.lock").read_bytes() == left


def test_removing_something_that_was_never_locked_writes_no_lock(pinned: Forge, project: Path, hub: Run) -> None:
    (project / "hub.lock").unlink()

    assert hub("remove", "net").code == 0
    assert "[models.net]" not in (project / "hub.toml").read_text()
    assert not (project / "hub.lock").exists()

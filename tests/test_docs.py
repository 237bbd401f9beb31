"""What the docs show is what happens: every block of every page is run, top to bottom, in a folder of its own.

`python` blocks that begin with a file name become that file, others are executed. Of `console` blocks, commands are run
and the lines below them must be printed, in that order; `...` stands for any text, alone for any lines. The numbers of
a refusal are the machine's, and so is a worst error, as long as it is small. `py` blocks are code of frameworks that
are not installed here: test_frameworks_page.py finds them in the scripts that they are taken from.
"""

from __future__ import annotations

import fnmatch
import lzma
import re
import runpy
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from reptran_compiler.cli import calibrate, train, verify
from reptran_compiler.cli.main import main

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_REFUSED = re.compile(r"at \[[\d, ]+\] it should give \S+ and gives \S+; \d+ of (\d+) values differ")
_ANY = r"somewhere of \1 values"
_ERROR = re.compile(r"worst error (\d\S*)")
#: Below it, one worst error is as good as another.
_SMALL = 1e-5
_KINDS = {"python", "py", "console", "toml", "json", "yaml"}
_COMMANDS = {
    "reptran-compile": main,
    "reptran-verify": verify.main,
    "reptran-calibrate": calibrate.main,
    "reptran-train": train.main,
}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    kind: str
    text: str


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return [Block(*found) for found in _BLOCK.findall(page.read_text())]


PAGES = [page for page in sorted(DOCS.glob("*.md")) if {"python", "console"} & {each.kind for each in blocks(page)}]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks_do_what_they_show(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(ROOT / "models" / "files" / "reactnet-tiny.onnx", tmp_path)
    (tmp_path / "models").symlink_to(ROOT / "models")
    monkeypatch.chdir(tmp_path)
    session = Session(capfd)
    for block in blocks(page):
        assert block.kind in _KINDS, f"{page.name} has a block of kind {block.kind!r}, which nothing tests"
        if block.kind == "python":
            first = block.text.partition("\n")[0]
            named = re.fullmatch(r"# (\w+\.py)", first)
            if named:
                Path(named[1]).write_text(block.text)
            else:
                exec(compile(block.text, str(page), "exec"), {})
        elif block.kind == "console":
            for command, shown in steps(block.text):
                see(command, shown, session.run(command))


def test_the_walk_through_is_the_example() -> None:
    """The page, the package and its entry point say the same."""
    example = ROOT / "examples" / "fuse-mul"
    shown = [block.text for block in blocks(DOCS / "writing-rules.md")]
    assert "# fuse_mul.py\n" + (example / "fuse_mul.py").read_text() in shown
    entry = next(block.text for block in blocks(DOCS / "writing-rules.md") if block.kind == "toml")
    assert entry in (example / "pyproject.toml").read_text()


def test_the_example_is_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed as pip installs it, its rule is listed and runs without a flag."""
    from reptran_compiler.pipeline import Options, transform
    from reptran_compiler.rewriting import is_built_in, known_rules

    example = ROOT / "examples" / "fuse-mul"
    shutil.copy(example / "fuse_mul.py", tmp_path)
    info = tmp_path / "fuse_mul-1.0.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fuse-mul\nVersion: 1.0.0\n")
    points = (example / "pyproject.toml").read_text().split('passes"]\n')[1].split("\n\n")[0]
    (info / "entry_points.txt").write_text("[reptran_compiler.passes]\n" + points.replace('"', "") + "\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert [rule.name for rule in known_rules() if not is_built_in(rule)] == ["fuse-mul"]

    import onnx

    found = transform(onnx.load(str(ROOT / "models" / "files" / "reactnet-tiny.onnx")), Options())
    assert len(next(report for report in found.reports if report.rule == "fuse-mul").applied) > 0


def test_metadata_is_what_the_policy_names() -> None:
    from reptran_compiler import compile_model

    result = compile_model(str(ROOT / "models" / "files" / "reactnet-tiny.onnx"), verify=False).model
    found = {entry.key for entry in result.metadata_props if entry.key.startswith("reptran.")}
    assert found == set(re.findall(r"`(reptran\.\w+)`", (DOCS / "stability.md").read_text()))


def test_links_between_pages_lead_somewhere() -> None:
    for page in (*DOCS.glob("*.md"), ROOT / "README.md", *(ROOT / "models").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@dataclass
class Session:
    """Runs commands as a shell would."""

    capture: pytest.CaptureFixture[str]
    code: int = 0

    def run(self, command: str) -> list[str]:
        """The lines that a command prints."""
        name, *words = command.split()
        self.capture.readouterr()
        if command == "echo $?":
            return [str(self.code)]
        if name == "xz":
            unpacked = re.fullmatch(r"xz -dc (\S+) > (\S+)", command)
            assert unpacked is not None, f"no test knows how to run {command!r}"
            Path(unpacked[2]).write_bytes(lzma.decompress(Path(unpacked[1]).read_bytes()))
            return []
        if name == "ls":
            return sorted(entry.name for entry in Path(*words).iterdir())
        if name == "python":
            sys.path.insert(0, str(Path.cwd()))  # as Python does for a script of that folder
            try:
                runpy.run_path(words[0], run_name="__main__")
            finally:
                sys.path.pop(0)
                sys.modules.pop("fuse_mul", None)
        else:
            assert name in _COMMANDS, f"no test knows how to run {command!r}"
            self.code = _COMMANDS[name](words)
        captured = self.capture.readouterr()
        return [line.rstrip() for line in (captured.out + captured.err).splitlines()]


def steps(text: str) -> Iterator[tuple[str, list[str]]]:
    """The commands of a console block, each with what it shows."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, *shown = part.splitlines()
        yield command, [line.rstrip() for line in shown]


def see(command: str, shown: list[str], printed: list[str]) -> None:
    """See that lines were printed, in order; nothing else but where `...` stands."""
    place, free = 0, False
    texts = [_alike(line) for line in printed]
    for line in map(_alike, shown):
        if line == "...":
            free = True
            continue
        pattern = re.sub(r"([][?*])", r"[\1]", line).replace("...", "*")
        ends = len(printed) if free else place + 1
        hit = next((at for at in range(place, min(ends, len(texts))) if fnmatch.fnmatchcase(texts[at], pattern)), None)
        assert hit is not None, f"{command}\ndoes not print\n{line}\nbut\n" + "\n".join(printed)
        place, free = hit + 1, False
    assert free or place == len(printed), f"{command}\nalso prints\n" + "\n".join(printed[place:])


def _alike(line: str) -> str:
    """A line without the numbers that are the machine's."""
    line = _REFUSED.sub(_ANY, line)
    return _ERROR.sub(lambda found: "worst error (small)" if float(found[1]) < _SMALL else found[0], line)

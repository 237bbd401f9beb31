"""A package that registers an entry point which does not load."""

from __future__ import annotations

from pathlib import Path

from benchmarks.careless.entries import Careless, careless


def broken_package(folder: Path) -> tuple[Careless, Path]:
    """Install one into a folder.

    Returns:
        How a compilation ends that finds it, and the folder to look for packages in.
    """
    place = folder / "site"
    info = place / "broken_rules-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-rules\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[reptran_compiler.passes]\nbroken = broken_rules:Rule\n")
    (place / "broken_rules.py").write_text("import nowhere_to_be_found\n")
    words = "the entry point broken = 'broken_rules:Rule' does not load: ModuleNotFoundError"
    wrong = "an installed package's entry point cannot be imported"
    return careless("registers wrongly", "broken-entry-point", wrong, words, code=2), place

"""The study as a table in Markdown, and as curves."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks.fashion.settings import Budget, Result
from benchmarks.machine import machine


def percent(shares: Sequence[float]) -> str:
    """Mean and, of several, standard deviation (n - 1), in per cent."""
    mean = f"{100 * statistics.mean(shares):.2f}"
    return f"{mean} ± {100 * statistics.stdev(shares):.2f}" if len(shares) > 1 else mean


def gain(results: Sequence[Result], originals: Sequence[Result]) -> str:
    """Mean and spread of the difference to the original with the same seed, in points of per cent."""
    before = {each.setting.seed: each.accuracy for each in originals}
    both = [each.accuracy - before[each.setting.seed] for each in results if each.setting.seed in before]
    text = percent(both) if both else "-"
    return text if text.startswith("-") else f"+{text}"


def table(results: Sequence[Result], wanted: int, budget: Budget, command: str) -> str:
    """The runs that are there, in Markdown.

    Args:
        results: of the runs that are finished.
        wanted: how many there shall be.
        budget: what they share.
        command: what made them.
    """
    lines = ["# Rep networks and their originals on Fashion-MNIST", "", f"Made by `{command}` on {machine()}.", ""]
    lines += [
        f"{len(results)} of {wanted} runs are finished. Every run: {budget.epochs} epochs of {budget.images:,} images",
        f"in batches of {budget.batch}, Adam, rate {budget.rate:g} falling as a cosine, width {budget.width}.",
        f"Images are cropped with padding {budget.padding}. Latent weights begin with a root mean square of",
        f"{budget.magnitude:g} (`rescale`), the copies of a map up to ±{budget.spread:g} apart (`spread`); at the end",
        f"statistics are measured on {budget.calibrated:,} training images (`settle`).",
        "",
        "Accuracy: per cent of the 10,000 test images, by onnxruntime on the ONNX file; mean ± standard deviation over",
        "seeds. Every Rep network passed `reptran-verify --retrained`.",
        "",
        "## Trained from fresh parameters",
        "",
        "*gain*: the difference to the original with the same seed.",
        "",
        "| network | form | runs | parameters | MACs | accuracy | gain | minutes |",
        f"|{'---|' * 8}",
    ]
    for network, beta, found in _rows(results, trained=False):
        originals = _chosen(results, network, 1, trained=False)
        minutes = statistics.mean(each.seconds for each in found) / 60
        cells = [
            network,
            _form(beta),
            str(len(found)),
            f"{found[0].parameters:,}",
            f"{found[0].macs:,}",
            percent([each.accuracy for each in found]),
            "" if beta == 1 else gain(found, originals),
            f"{minutes:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "## Compiled from a trained original",
        "",
        "The path of who has a trained original: as compiled, after statistics were measured on",
        f"{budget.calibrated:,} training images, and after training as above. The original's training comes before; in",
        "the row *original* it is trained again, so that all rows have had the same. *gain*: to that of before.",
        "",
        "| network | form | runs | original | as compiled | calibrated | trained | gain |",
        f"|{'---|' * 8}",
    ]
    for network, beta, found in _rows(results, trained=True):
        seeds = {each.setting.seed for each in found}
        originals = [each for each in _chosen(results, network, 1, trained=False) if each.setting.seed in seeds]
        cells = [network, _form(beta), str(len(found)), percent([each.accuracy for each in originals])]
        cells += [percent([getattr(each, name) for each in found]) for name in ("begun", "calibrated", "accuracy")]
        lines.append(f"| {' | '.join([*cells, gain(found, originals)])} |")
    return "\n".join([*lines, ""])


def _form(beta: int) -> str:
    return "original" if beta == 1 else f"Rep, beta {beta}"


def _chosen(results: Sequence[Result], network: str, beta: int, trained: bool) -> list[Result]:
    wanted = (network, beta, trained)
    return [r for r in results if (r.setting.network, r.setting.beta, r.setting.trained) == wanted]


def _rows(results: Sequence[Result], trained: bool) -> list[tuple[str, int, list[Result]]]:
    """By network and beta: the runs of one row."""
    keys = dict.fromkeys((r.setting.network, r.setting.beta) for r in results if r.setting.trained == trained)
    networks = list(dict.fromkeys(network for network, _ in keys))
    ordered = sorted(keys, key=lambda key: (networks.index(key[0]), key[1]))
    return [(network, beta, _chosen(results, network, beta, trained)) for network, beta in ordered]


def plot(results: Sequence[Result], file: Path) -> None:
    """Test accuracy by epoch of the runs from fresh parameters: a line a run, and a thick one for their mean."""
    from matplotlib import figure, rcParams

    rcParams["svg.hashsalt"] = "fashion"  # the same figures give the same file
    rows = _rows(results, trained=False)
    if not rows:
        return
    networks = list(dict.fromkeys(network for network, _, _ in rows))
    made = figure.Figure(figsize=(5 * len(networks), 4), layout="constrained")
    for axes, name in zip(made.subplots(1, len(networks), squeeze=False)[0], networks, strict=True):
        for place, (_, beta, found) in enumerate(row for row in rows if row[0] == name):
            curves = [[100 * share for share in each.curve] for each in found]
            epochs = range(1, len(curves[0]) + 1)
            for curve in curves:
                axes.plot(epochs, curve, color=f"C{place}", linewidth=0.6, alpha=0.5)
            mean = [statistics.mean(shares) for shares in zip(*curves, strict=True)]
            label = f"{'original' if beta == 1 else f'beta {beta}'} ({len(found)})"
            axes.plot(epochs, mean, color=f"C{place}", linewidth=2, label=label)
        axes.set(title=name, xlabel="epoch", ylabel="test accuracy, %")
        axes.legend()
    made.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else {})

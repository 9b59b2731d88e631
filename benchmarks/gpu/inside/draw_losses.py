"""Draws loss curves beside each other. Usage: draw_losses.py OUT.png, with {name: [[loss, ...], ...]} on input."""

import json
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def main() -> None:
    """Draw one line for each run, one colour for each kind of settings."""
    curves = json.load(sys.stdin)
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for number, (name, runs) in enumerate(curves.items()):
        for run, losses in enumerate(runs):
            label = f"{name} settings" if run == 0 else None
            axes.plot(range(1, len(losses) + 1), losses, color=f"C{number}", alpha=0.8, linewidth=1.2, label=label)
    axes.set(xlabel="optimizer step", ylabel="training loss")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(sys.argv[1], dpi=130)
    print(json.dumps({"figure": sys.argv[1]}), file=sys.__stdout__)


if __name__ == "__main__":
    main()

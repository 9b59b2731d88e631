"""The page that says what was measured."""

from __future__ import annotations

from typing import Any

GIB = 1 << 30
ROWS = (
    ("trained tokens per second", "tokens_per_second", "{:,.0f}"),
    ("of them with loss", "loss_tokens_per_second", "{:,.0f}"),
    ("tokens per optimizer step", "tokens_per_step", "{:,.0f}"),
    ("seconds per optimizer step", "seconds_per_step", "{:.3f}"),
    ("MFU, 6·N·T", "mfu", "{:.1%}"),
    ("MFU, attention counted too", "mfu_with_attention", "{:.1%}"),
    ("training loss at the end", "final_loss", "{:.4f}"),
    ("attention used", "attention", "{}"),
)


def markdown(report: dict[str, Any]) -> str:
    """Return the report as Markdown."""
    seed, fast, gain = report["summary"]["seed"], report["summary"]["fast"], report["summary"]["gain"]
    machine, model, data = report["machine"], report["model"], report["data"]
    repeats = len(seed["tokens_per_second_of_each"])
    versions = ", ".join(f"{name} {value}" for name, value in report["versions"].items())
    lines = [
        "# Training throughput: the plain settings against the fast ones",
        "",
        f"{machine['device']}: {machine['rate'] / 1e12:.1f} TFLOP/s measured in a {machine['size']}³ product of random"
        f" {machine['precision']} values. {versions}.",
        "",
        f"Random Qwen2 of {model['parameters'] / 1e6:,.1f} M parameters; {data['conversations']} synthetic tool"
        f" conversations of {data['shortest']:,} to {data['longest']:,} tokens (mean {data['mean']:,.0f}).",
        f"{report['steps']} optimizer steps, the first {report['warmup']} not measured; {repeats} run(s) of each,"
        " alternating, medians.",
        "",
        "| | plain | fast |",
        "|---|---|---|",
        *(f"| {name} | {form.format(seed[key])} | {form.format(fast[key])} |" for name, key, form in ROWS),
        f"| peak memory | {seed['peak_bytes'] / GIB:.2f} GiB | {fast['peak_bytes'] / GIB:.2f} GiB |",
        "",
        f"**Fast / plain: {gain['ratio']:.2f}** ({gain['lowest']:.2f} to {gain['highest']:.2f} in neighbouring runs).",
        "",
        "![loss curves](losses.png)",
        "",
        "What the fast settings were:",
        "",
        *(f"- {line.removeprefix('--fast: ')}" for line in report["switches"]),
        "",
    ]
    if not report["gpu"]:
        lines.insert(
            2, "**Run on a CPU at small size: this shows that the benchmark works and says nothing of speed.**\n"
        )
    return "\n".join(lines)

"""What `benchmarks/speed --json FILE` has measured, as a chart and as the tables of docs/speed.md.

python benchmarks/speed/chart.py FILE docs/images/speed.svg > tables.md
"""

from __future__ import annotations

import json
import statistics
import sys
from html import escape
from pathlib import Path

TITLES = {
    "digits": "Digits MLP, SGD", "fashion-mlp": "Fashion-MNIST MLP, Adam",
    "fashion-cnn": "Fashion-MNIST CNN, Adam", "transformer": "Character transformer, AdamW",
}  # fmt: skip
NAMES = {
    "tutorial again": "tutorial loop again (null)", "loop": "run.loop", "fit": "lw.fit",
    "exact": "run.compile_step", "fit_exact": 'lw.fit(capture="exact")', "tuned": "tuned",
    "loop_flush": "run.loop, denormals zero",
    "fit_exact_flush": "exact, denormals zero",
    "six_calls": "the six calls alone (limit)",
    "checked_by_hand": "six calls, checked by hand",
    "lightning": "Lightning", "accelerate": "Accelerate", "ignite": "Ignite",
    "hf_trainer": "HF Trainer", "skorch_net": "skorch", "keras_torch": "Keras on torch",
    "torchtnt_train": "torchtnt",
}  # fmt: skip
OURS = ("loop", "fit", "exact", "fit_exact", "tuned", "loop_flush", "fit_exact_flush")
ROW, LABEL, WIDTH, HEAD = 19, 190, 760, 34
STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #1f2328 } .h { font-weight: 600; font-size: 14px }
  .ours { fill: #2f6fdb } .other { fill: #b6bec9 } .one { stroke: #1f2328; stroke-dasharray: 3 3 }
  .spread { stroke: #1f2328; stroke-width: 1.5 } .n { font-variant-numeric: tabular-nums }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .other { fill: #59636e } .one, .spread { stroke: #e6edf3 }
  }"""


def ratios(rows, name):
    """Return the median and the middle 95 % of the rounds: the tutorial loop's time by this one's."""
    each = sorted(a / b for a, b in zip(rows["tutorial"]["us"], rows[name]["us"], strict=True))
    cut = max(0, round(0.025 * len(each)))
    return statistics.median(each), each[cut], each[-1 - cut]


def table(title, rows, missing):
    """Return a Markdown table of one workload."""
    lines = [
        f"| {title} | times faster | µs a step | samples/s | first step | memory | loss |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        middle, low, high = ratios(rows, name)
        us = statistics.median(row["us"])
        rate = 1e6 * row["batch"] / us
        lines.append(
            f"| {NAMES.get(name, 'tutorial loop')} | {middle:.2f} [{low:.2f}–{high:.2f}] | {us:,.0f} "
            f"| {rate:,.0f} | {row['first_s']:.1f} s | {row['peak_mb']:.0f} MB | {row['loss']:.4f} |"
        )
    for name, why in missing.items():
        lines.append(f"| {NAMES.get(name, name)} | not run: {why} | | | | | |")
    return "\n".join(lines)


def bar(name, found, ours, y, scale):
    """Return the elements of one contestant: its name, the median, the spread, the number."""
    middle, low, high = (LABEL + scale * ratio for ratio in found)
    kind = "ours" if ours else "other"
    return [
        f'<text x="{LABEL - 8}" y="{y + 13}" text-anchor="end">{escape(name)}</text>',
        f'<rect class="{kind}" x="{LABEL}" y="{y + 3}" width="{middle - LABEL:.1f}" height="{ROW - 6}"/>',
        f'<path class="spread" d="M{low:.1f} {y + ROW / 2}H{high:.1f}"/>',
        f'<text class="n" x="{high + 8:.1f}" y="{y + 13}">{found[0]:.2f}</text>',
    ]


def chart(kept):
    """Return an SVG with a bar for each contestant, light or dark as the reader's page is."""
    parts, y = [], 10
    for workload, found in kept.items():
        rows = found["rows"]
        names = [name for name in rows if name != "tutorial"]
        bars = {name: ratios(rows, name) for name in names}
        most = max(1.25, *(high for *_, high in bars.values()))
        scale = (WIDTH - LABEL - 90) / most
        parts.append(
            f'<text class="h" x="10" y="{y + 18}">{escape(TITLES.get(workload, workload))}</text>'
        )
        top = y + HEAD
        for i, name in enumerate(names):
            parts += bar(NAMES.get(name, name), bars[name], name in OURS, top + i * ROW, scale)
        bottom = top + len(names) * ROW
        parts.append(f'<path class="one" d="M{LABEL + scale:.1f} {top}V{bottom}"/>')
        y = bottom + 16
    about = "Times faster than the tutorial loop; lines: the middle 95 % of the rounds"
    parts.append(f'<text x="10" y="{y + 10}">{about}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 24}" width="{WIDTH}" role="img" '
        f'aria-label="{about}"><style>{STYLE}</style>{"".join(parts)}</svg>\n'
    )


def main(measured, out):
    """Write the chart, print the tables."""
    kept = json.loads(Path(measured).read_text())
    kept = {workload: found for workload, found in kept.items() if "tutorial" in found["rows"]}
    Path(out).write_text(chart(kept))
    for workload, found in kept.items():
        print(table(TITLES.get(workload, workload), found["rows"], found["missing"]), end="\n\n")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Runs the benchmark of two checkouts in turns, and prints the medians of both side by side.

Called by deploy/bench --beside. A row is compared number by number; the rows of both are matched by their order,
because a row may have got another name.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys

# Which percentile, how many of how many, and how many times: no measurements.
COUNTS = re.compile(r"\bp\d+\b|\d+ of \d+ ≤|\bof \d+\b|\d+ times")
NUMBER = re.compile(r"\d+(?:\.\d+)?")


def measure(checkout, part, surroundings):
    """The rows of one part: (what, measured)."""
    run = subprocess.run([f"{checkout}/deploy/bench", part], stdout=subprocess.PIPE, text=True, env=surroundings)
    if run.returncode != 0:
        sys.exit(f"error: {checkout}/deploy/bench {part} failed\n remedy: run it alone, or choose other parts")
    cells = [line.strip("| ").split(" | ") for line in run.stdout.splitlines() if line.startswith("| ")]
    rows = [(cell[0], cell[2]) for cell in cells[1:]]
    for what, text in rows:
        print(f"   {what}: {text}", file=sys.stderr)
    return rows


def numbers(text):
    return [float(it) for it in NUMBER.findall(COUNTS.sub("", text))]


def with_numbers(text, values):
    """The text with these in the places of its measurements."""
    rest = iter(values)
    parts = re.split(f"({COUNTS.pattern})", text)
    fill = lambda found: f"{next(rest):.{len(found.group().partition('.')[2])}f}"
    return "".join(it if COUNTS.fullmatch(it) else NUMBER.sub(fill, it) for it in parts)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("parts", nargs="+")
    args = parser.parse_args()
    apart = {**os.environ, "CARGO_TARGET_DIR": f"{args.before}/target"}
    surroundings = {args.before: apart, args.after: dict(os.environ)}
    print(f"| what | before | after | after / before |\n|---|---|---|---|")
    for part in args.parts:
        turns = []
        for turn in range(args.runs):
            print(f"== {part}, turn {turn + 1} of {args.runs}", file=sys.stderr)
            # Whoever goes first changes, for what the one leaves behind would always meet the other.
            order = (args.before, args.after) if turn % 2 == 0 else (args.after, args.before)
            rows = {it: measure(it, part, surroundings[it]) for it in order}
            turns.append((rows[args.before], rows[args.after]))
            shape = [[len(numbers(text)) for _, text in side] for side in turns[-1]]
            if shape[0] != shape[1]:
                sys.exit(f"error: both measure other things in {part}: {turns[-1]}")
        for at, (what, text) in enumerate(turns[0][1]):
            medians = []
            for side in (0, 1):
                runs = zip(*(numbers(turn[side][at][1]) for turn in turns))
                medians.append([statistics.median(run) for run in runs])
            ratios = ", ".join(f"{new / old:.2f}" if old else "–" for old, new in zip(*medians))
            before, after = (with_numbers(text, values) for values in medians)
            print(f"| {what} | {before} | {after} | {ratios} |", flush=True)


main()

"""The reference recipe by Numba, and by the C++ that Inductor makes of the plain torch executor: which to keep.

    uv run python benchmarks/inductor.py

Inductor needs a C++ compiler on this machine. Planning is the same for all and is timed for all.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from augment import reference_recipe
from peers import make_batch, timed
from report import interleaved, publish, ratio, spread


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--both", action="store_true", help="without noise, too")
    parser.add_argument("--output", type=Path, default=Path())
    options = parser.parse_args()
    batch = make_batch(options.batch_size, 13, torch.device("cpu"))
    runs: dict[str, Callable[[Any], Any]] = {}
    preparation: dict[str, float] = {}
    for noise in (True, False) if options.both else (True,):
        suffix = "" if noise else ", no noise"
        for executor in ("cpu", "torch"):
            compose = reference_recipe(noise)
            compose.executor = executor  # type: ignore[assignment]
            runs[f"{'numba' if executor == 'cpu' else 'plain torch'}{suffix}"] = compose
        compiled = torch.compile(compose.apply, fullgraph=True)
        runs[f"inductor{suffix}"] = lambda given, plan=compose.plan, apply=compiled: apply(given, plan(given))
    for name, run in runs.items():
        start = time.perf_counter()
        timed(run, batch)()
        preparation[name] = time.perf_counter() - start
        print(f"{name}: ready after {preparation[name]:.1f} s", flush=True)
    times = interleaved({name: timed(run, batch) for name, run in runs.items()}, options.rounds, warmup=2)
    rows = []
    for name, seconds in times.items():
        numbers = spread(seconds)
        rates = [options.batch_size / numbers[which] for which in ("median", "max", "min")]
        against = ratio(times["numba, no noise" if name.endswith("noise") else "numba"], seconds)
        row = [name, f"{rates[0]:.0f}", f"{rates[1]:.0f} to {rates[2]:.0f}", f"{against:.2f}x"]
        rows.append([*row, f"{preparation[name]:.1f} s"])
    content = {"batch": options.batch_size, "seconds": times, "first": preparation}
    title = f"reference recipe, batch {options.batch_size}, {torch.get_num_threads()} threads"
    columns = ("", "tiles/s", "spread", "time of numba's", "first run")
    publish(title, columns, rows, content, options.output / "bench-inductor.json")


if __name__ == "__main__":
    main()

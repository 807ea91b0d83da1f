"""What each way of augmenting makes a network invariant to, and what it costs: for docs/robustness.md.

    uv run python benchmarks/invariance.py --rgb EuroSAT_RGB.zip --multiband EuroSAT_MS_subset.zip \
        --weights resnet18_imagenet.pth --json benchmarks/results/invariance.json
    uv run python benchmarks/invariance.py ... --arms d4 robust --data rgb --seeds 0 --minutes 30

A run is an arm and a seed: a pretrained ResNet18 that learns from chips and is tested on others, as they are and under
each of the nuisances of `nuisances.py`, which share no code with geoaug. It is written to the JSON when it is done, and
not run again, so the study can be run in pieces, and its tables are of what is there. Arms are presets and the recipes
of `benchmarks/invariance/`. Those called `candidate-...` are scored on a validation split alone, so that test chips
choose nothing.

RGB: chips to learn from are drawn anew for each seed; those to test are the same, and each nuisance has others of them,
so that their mean is of many. 13 bands: each seed tests another fifth of the chips, all of them under every nuisance.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from finetune import BANDS, Chips, Row, learn, read_multiband, read_rgb, selected
from nuisances import NUISANCES, Camera, stored_under
from report import provenance
from rich.console import Console
from rich.table import Table

from geoaug import get_sensor

RECIPES = Path(__file__).parent / "invariance"
# RGB chips that are tested clean, and under each nuisance; the same for validation, which has chips of its own.
CLEAN, EACH = {"test": 1500, "validation": 2000}, {"test": 250, "validation": 130}
KEPT_BACK = 2000
# EuroSAT's RGB chips show reflectances up to .275 in 8 bits.
RGB = Camera((664.6, 559.8, 492.4), (1, 1, 1), 0.275 / 255, 255)
RUN = ("arm", "seed", "epochs", "data", "part")
COLUMNS = ("clean", *NUISANCES)
_RESAMPLED = 2000


@dataclass(frozen=True)
class Arm:
    """A way of augmenting.

    Attributes:
        augment: as in `finetune.Row`.
        words: what the tables call it.
    """

    augment: str
    words: str


def arms(data: str) -> dict[str, Arm]:
    """Those of the study, the ones that matter most first."""
    preset = "aerial-rgb" if data == "rgb" else "sentinel-2-classification"
    found = {
        "none": Arm("none", "none"),
        "d4": Arm(_recipe("d4"), "D4"),
        "d4+affine": Arm(_recipe("d4-affine"), "D4 + affine (45 degrees, .75 to 1.33)"),
        preset: Arm(preset, preset),
        "robust": Arm("robust", "robust"),
        "photographic+d4": Arm("kornia+d4", "photographic with D4"),
        "photographic": Arm("kornia", "photographic"),
        **{name: Arm(name, name) for name in ("light", "standard", "strong")},
    }
    return found | {path.stem: Arm(str(path), path.stem) for path in sorted(RECIPES.glob("candidate-*.yaml"))}


def _recipe(name: str) -> str:
    return str(RECIPES / f"{name}.yaml")


def camera_of(data: str) -> Camera:
    """Of the RGB chips, or of the 13 bands in the order of their files."""
    if data == "rgb":
        return RGB
    bands = get_sensor("sentinel-2-l1c").select(BANDS).bands
    return Camera(
        tuple(float(band.wavelength_nm or 0) for band in bands),
        tuple(round((band.gsd_m or 10) / 10) for band in bands),
        1e-4,
        65535,
    )


Tested = dict[str, tuple[torch.Tensor, torch.Tensor]]


class Data:
    """Chips of a seed, and those to test under every nuisance, made once."""

    def __init__(self, rgb: Path, multiband: Path) -> None:
        self._rgb, self._multiband = rgb, multiband
        self._tested: dict[tuple[str, str, int], Tested] = {}

    def chips(self, data: str, part: str, seed: int) -> Chips:
        """To learn from and to test; `part` is "test" or "validation"."""
        if data == "rgb":
            tested = slice(0, 5000) if part == "test" else slice(5000, 5000 + KEPT_BACK)
            return read_rgb(self._rgb, seed, "few", tested, KEPT_BACK)
        if part == "validation":
            raise SystemExit("13 bands: 276 chips are too few for a validation split of their own")
        return read_multiband(self._multiband, seed)

    def tested(self, chips: Chips, data: str, part: str, seed: int) -> Tested:
        """Images and labels, clean and under every nuisance."""
        # RGB tests are the same for all seeds.
        key = (data, part, 0 if data == "rgb" else seed)
        if key not in self._tested:
            camera, found = camera_of(data), {}
            for number, name in enumerate(COLUMNS):
                chosen = slice(None)
                if data == "rgb":
                    first = 0 if name == "clean" else EACH[part] * (number - 1)
                    chosen = slice(first, first + (CLEAN if name == "clean" else EACH)[part])
                changed = stored_under(name, chips.test_image[chosen].numpy(), camera)
                found[name] = torch.from_numpy(changed), chips.test_label[chosen]
            self._tested[key] = found
        return self._tested[key]


def run(
    arm: Arm, data: str, part: str, seed: int, epochs: int, known: Data, weights: Path, half: bool
) -> dict[str, Any]:
    """Train once and test under every nuisance: which answers were right, as bits in hexadecimal."""
    chips = known.chips(data, part, seed)
    row = Row(
        augment=arm.augment,
        bands="rgb" if data == "rgb" else BANDS,
        norm="adapted" if data == "rgb" else "recalibrated",
    )
    tested = known.tested(chips, data, part, seed)
    chips, sensor = selected(chips, row)
    begun = time.process_time()
    learned = learn(row, chips, sensor, weights, seed, epochs, 64, half=half)
    learned.network.to(memory_format=torch.channels_last)
    right = {name: learned.right(*both).numpy() for name, both in tested.items()}
    return {
        "tested": {name: len(one) for name, one in right.items()},
        "accuracy": {name: round(100 * float(one.mean()), 3) for name, one in right.items()},
        "right": {name: np.packbits(one).tobytes().hex() for name, one in right.items()},
        "processor_seconds": round(time.process_time() - begun, 1),
    }


def bits(one: dict[str, Any], name: str) -> np.ndarray:
    """Which answers of a run were right under a nuisance, in points: (N,)."""
    packed = np.frombuffer(bytes.fromhex(one["right"][name]), np.uint8)
    return 100.0 * np.unpackbits(packed)[: one["tested"][name]]


Pair = tuple[dict[str, Any], dict[str, Any]]


def difference(pairs: Sequence[Pair], names: Sequence[str]) -> tuple[float, float, float]:
    """Mean of first minus second over seeds, nuisances and chips, and 95 per cent of a bootstrap over seeds and chips.

    Args:
        pairs: runs of one seed each, which have learned from and are tested on the same chips.
        names: of nuisances.
    """
    paired = [[bits(one, name) - bits(other, name) for name in names] for one, other in pairs]
    random = np.random.default_rng(0)
    # (seed, resampling)
    means = np.array(
        [
            np.mean([part[random.integers(0, len(part), (_RESAMPLED, len(part)))].mean(1) for part in parts], axis=0)
            for parts in paired
        ]
    )
    drawn = random.integers(0, len(pairs), (len(pairs), _RESAMPLED))
    low, high = np.quantile(means[drawn, np.arange(_RESAMPLED)].mean(0), [0.025, 0.975])
    return float(np.mean([part.mean() for parts in paired for part in parts])), float(low), float(high)


def show(found: dict[str, Any], against: str) -> None:
    """Tables of what has been run so far: accuracy, and paired differences."""
    groups: dict[tuple[str, str, int], dict[str, dict[int, dict[str, Any]]]] = {}
    for one in found["runs"]:
        group = groups.setdefault((one["data"], one["part"], one["epochs"]), {})
        group.setdefault(one["arm"], {})[one["seed"]] = one
    console = Console(width=240)
    for (data, part, epochs), group in sorted(groups.items()):
        table = Table(title=f"{data}, {part}, {epochs} epochs: accuracy in per cent")
        for head in ("arm", "seeds", "nuisances", *COLUMNS, f"clean - {against}", f"nuisances - {against}"):
            table.add_column(head, justify="left" if head == "arm" else "right")
        for arm, runs in group.items():
            mean = {name: np.mean([one["accuracy"][name] for one in runs.values()]) for name in COLUMNS}
            line = [arm, ",".join(map(str, sorted(runs))), f"{np.mean([mean[name] for name in NUISANCES]):.1f}"]
            line += [f"{value:.1f}" for value in mean.values()]
            common = sorted(set(runs) & set(group.get(against, {})))
            if common and arm != against:
                pairs = [(runs[seed], group[against][seed]) for seed in common]
                for names in (("clean",), tuple(NUISANCES)):
                    middle, low, high = difference(pairs, names)
                    line.append(f"{middle:+.1f} ({low:+.1f} to {high:+.1f})")
            table.add_row(*line)
        console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rgb", type=Path, required=True)
    parser.add_argument("--multiband", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--json", type=Path, default=Path("bench-invariance.json"))
    parser.add_argument("--arms", nargs="+", help="by name. Default: all that are no candidates")
    parser.add_argument("--data", nargs="+", choices=("rgb", "13 bands"), default=["rgb", "13 bands"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument(
        "--epochs", type=int, help="Default: 6 for RGB, 15 for 13 bands, of which there are fewer chips"
    )
    parser.add_argument("--half", action="store_true", help="bfloat16, where the processor has it")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no run is begun after these")
    parser.add_argument("--against", default="d4", help="the arm that others are compared with")
    parser.add_argument("--show", action="store_true", help="only the tables")
    options = parser.parse_args()
    found = json.loads(options.json.read_text()) if options.json.is_file() else {"runs": []}
    done = {tuple(one[part] for part in RUN) for one in found["runs"]}
    known, begun = Data(options.rgb, options.multiband), time.monotonic()
    wanted = [] if options.show else [(seed, data) for seed in options.seeds for data in options.data]
    for seed, data in wanted:
        there = arms(data)
        chosen = options.arms or [name for name in there if not name.startswith("candidate-")]
        for name in chosen:
            if name not in there:
                parser.error(f"no arm {name!r} of {data}; there are: {', '.join(there)}")
            part = "validation" if name.startswith("candidate-") else "test"
            epochs = options.epochs or (6 if data == "rgb" else 15)
            key = (name, seed, epochs, data, part)
            if key in done or time.monotonic() - begun > 60 * options.minutes:
                continue
            measured = run(there[name], data, part, seed, epochs, known, options.weights, options.half)
            hit = np.mean([measured["accuracy"][one] for one in NUISANCES])
            print(
                f"{data}, {name}, seed {seed}: {measured['accuracy']['clean']:.1f} % clean, {hit:.1f} % on the "
                f"nuisances, {measured['processor_seconds']:.0f} s",
                flush=True,
            )
            # Read again: several may be running.
            found = json.loads(options.json.read_text()) if options.json.is_file() else {"runs": []}
            found["runs"].append(dict(zip(RUN, key, strict=True)) | measured)
            found["provenance"] = provenance()
            unfinished = options.json.with_suffix(".tmp")
            unfinished.write_text(json.dumps(found, indent=1))
            unfinished.replace(options.json)
    show(found, options.against)


if __name__ == "__main__":
    main()

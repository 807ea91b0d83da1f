"""Compiles the Triton kernels for CUDA capability 9.0, as some recipes launch it; prints each that went well."""

import sys
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from geoaug import Compose, get_sensor
from geoaug.augment import (
    RandomAffine,
    RandomBandShift,
    RandomCloud,
    RandomD4,
    RandomHaze,
    RandomSensorNoise,
    RandomSpeckle,
    RandomStriping,
)
from geoaug.augment.kernels import executors, tritonic
from geoaug.augment.kernels.triton_kernel import draw_lattice, fused

TYPES = {
    torch.uint8: "*u8",
    torch.uint16: "*u16",
    torch.int32: "*i32",
    torch.int64: "*i64",
    torch.float32: "*fp32",
}


class Recorder:
    """Keeps what a kernel would be launched with."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def __getitem__(self, grid: Any) -> Any:
        return lambda *arguments, **constants: self.calls.append((arguments, constants))


def compile_as(kernel: Any, arguments: tuple[Any, ...], constants: dict[str, Any]) -> None:
    """Compile a kernel with the types of these arguments."""
    names = kernel.arg_names
    signature = {
        name: TYPES[value.dtype] if isinstance(value, torch.Tensor) else "i32" if isinstance(value, int) else "fp32"
        for name, value in zip(names, arguments, strict=False)
    }
    known = {name: constants[name] for name in names[len(arguments) :]}
    source = ASTSource(fn=kernel, signature={**signature, **dict.fromkeys(known, "constexpr")}, constexprs=known)
    options = {"num_warps": constants["num_warps"], "enable_fp_fusion": constants["enable_fp_fusion"]}
    assert triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["cubin"]


def main() -> None:
    optical, radar = get_sensor("sentinel-2-l1c"), get_sensor("sentinel-1-db")
    turned = [RandomD4(), RandomAffine(20, (0.1, 0.1), (0.8, 1.25), p=1.0)]
    shrunk = RandomAffine(20, scale=(0.3, 1.0), p=1.0)
    recipes = {
        "reference": Compose([*turned, RandomHaze(), RandomSensorNoise()], sensor=optical),
        "clouds": Compose(
            [shrunk, RandomHaze(gradient=(0.2, 0.8)), RandomCloud(), RandomBandShift(), RandomStriping()],
            sensor=optical,
        ),
        "radar": Compose([*turned, RandomSpeckle()], sensor=radar, out_units="db"),
    }
    recorders: Any = {"fused": Recorder(fused), "draw_lattice": Recorder(draw_lattice)}
    for name, recorder in recorders.items():
        setattr(tritonic, name, recorder)
    executors._interpreted = lambda: True
    for name, compose in recipes.items():
        compose.executor = "triton"
        image = torch.zeros(2, 2, 40, 44) if name == "radar" else torch.ones(2, 13, 40, 44).to(torch.uint16)
        compose({"image": image, "mask": torch.zeros(2, 40, 44, dtype=torch.uint8), "key": torch.arange(2)})
        for kernel, recorder in recorders.items():
            if recorder.calls:
                compile_as(recorder.kernel, *recorder.calls[-1])
                sys.stdout.write(f"{name}:{kernel}\n")
                recorder.calls.clear()


if __name__ == "__main__":
    main()

"""Compiles what the executor for the CPU is made of, and keeps it, so that no test waits for another that does.

python compile_first.py
"""

import torch

from geoaug import get_sensor, load_recipe, sample_keys

if __name__ == "__main__":
    sensor = get_sensor("sentinel-2-l1c")
    compose = load_recipe("standard").compose(sensor=sensor)
    compose.executor = "cpu"
    image = torch.full((2, len(sensor.bands), 32, 32), 1000, dtype=torch.uint16)
    compose({"image": image, "mask": torch.zeros(2, 32, 32, dtype=torch.uint8), "key": sample_keys(0, range(2))})

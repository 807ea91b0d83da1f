"""Made clouds on tiles of files: their labels are written beside the images, and go when the tiles go."""

from pathlib import Path

import numpy as np
import rasterio

from geoaug.data.synthetic.made_scene import write_scene
from geoaug.io.augment_tiles import AugmentJob, run

CLOUDS = {
    "operations": [
        "RandomD4",
        {"RandomCloudShadow": {"p": 1.0}},
        {"RandomCloud": {"coverage": [0.3, 0.5], "cirrus": 0.0, "thickness": 40.0, "p": 1.0}},
    ]
}


def test_labels_of_clouds_lie_beside_the_tiles_and_say_what_they_are(tmp_path: Path) -> None:
    paths = write_scene(tmp_path, size=256)
    job = {"output": tmp_path / "out", "tile": 128, "copies": 2, "device": "cpu", "overwrite": True}
    run(AugmentJob(scenes=[str(paths.image)], labels=str(paths.labels), recipe=CLOUDS, include_original=True, **job))
    images = sorted((tmp_path / "out" / "images").glob("*_a*.tif"))
    clouds = sorted((tmp_path / "out" / "clouds").iterdir())
    assert [path.name for path in clouds] == [path.name for path in images]
    seen: set[int] = set()
    for path in clouds:
        with (
            rasterio.open(path) as cloud,
            rasterio.open(tmp_path / "out" / "images" / path.name) as image,
            rasterio.open(tmp_path / "out" / "masks" / path.name) as mask,
        ):
            assert cloud.transform == image.transform
            assert cloud.tags()["CLASS_3"] == "cloud shadow"
            classes, blue, ids = cloud.read(1), image.read(2), mask.read(1)
        seen |= set(np.unique(classes).tolist())
        thick = classes == 1
        if thick.any():
            assert np.median(blue[thick]) > 4000
            assert (ids[thick] == 255).all()  # the ground under it is not seen
    assert {0, 1, 3} <= seen <= {0, 1, 2, 3, 255}
    run(AugmentJob(scenes=[str(paths.image)], recipe={"operations": ["RandomD4"]}, **job))
    assert not (tmp_path / "out" / "clouds").exists() or not list((tmp_path / "out" / "clouds").iterdir())

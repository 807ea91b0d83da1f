"""Plain rasters: every file is a scene by itself."""

from dataclasses import dataclass

from geoaug.data.catalog.products.product import FoundScenes, LooseFiles, Product, ReadScene
from geoaug.data.raster.headers import HeaderOptions, band_files, header_of, sensor_name
from geoaug.data.raster.identify import moment_in_name
from geoaug.data.raster.record import SceneRecord


@dataclass(frozen=True, slots=True)
class RasterSource:
    """A raster that is a scene by itself."""

    path: str
    kind: str = "raster"
    label: str | None = None
    mask_path: str | None = None
    split: str | None = None

    @property
    def name(self) -> str:
        return self.path

    @property
    def files(self) -> tuple[str, ...]:
        return (self.path,) if self.mask_path is None else (self.path, self.mask_path)

    def read(self, scene_id: str, options: HeaderOptions) -> ReadScene:
        header = header_of(self.path, options)
        record = SceneRecord(
            id=scene_id,
            kind=self.kind,
            path=self.path,
            bands=band_files(header),
            sensor=sensor_name(header.sensor, options),
            datetime=moment_in_name(self.path),
            label=self.label,
            mask_path=self.mask_path,
        )
        judged = header.identification
        attributes = {} if self.split is None else {"split": self.split}
        return ReadScene(record, attributes, None if judged.certain else judged.reason, header)


class PlainRasters(Product):
    """Every raster is a scene; pictures only where there is nothing else."""

    name = "raster"

    def arrange(self, files: LooseFiles, *, asked: bool) -> FoundScenes | None:
        chosen = files.rasters or ([] if files.beside_packages else files.pictures)
        return FoundScenes([RasterSource(path) for path in chosen])

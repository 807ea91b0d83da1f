"""The folder a job writes to: whether it may, what an earlier run left there, and where each file goes.

Only files that geoaug itself named are ever removed.
"""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from geoaug.data.raster.window import Window
from geoaug.errors import ConfigurationError

_TILE = re.compile(r".+_r\d+_c\d+_(a\d+|orig)\.tif")
_UNFINISHED = re.compile(r"\..+\.[0-9a-f]{12}\.tmp")


@dataclass(frozen=True, slots=True)
class OutputFolder:
    """The output of a job: `images/`, `masks/`, `clouds/`, and the records beside them."""

    root: Path

    @property
    def images(self) -> Path:
        return self.root / "images"

    @property
    def masks(self) -> Path:
        return self.root / "masks"

    @property
    def clouds(self) -> Path:
        return self.root / "clouds"

    @property
    def manifest(self) -> Path:
        return self.root / "manifest.parquet"

    @property
    def recipe(self) -> Path:
        return self.root / "recipe.yaml"

    @property
    def classes(self) -> Path:
        return self.root / "classes.json"

    def check(self, *, overwrite: bool) -> None:
        """Refuse a folder that cannot or must not be written to; changes nothing.

        Raises `ConfigurationError`.
        """
        if self.root.exists():
            if not self.root.is_dir():
                raise ConfigurationError(f"{self.root}: is a file, wanted for a folder")
            if not overwrite and any(self.root.iterdir()):
                raise ConfigurationError(
                    f"{self.root}: is not empty; choose another folder, or --overwrite the tiles of an earlier run"
                )
        parent = next(folder for folder in (self.root, *self.root.absolute().parents) if folder.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            raise ConfigurationError(f"{self.root}: cannot be written, as {parent} is read-only or no folder")

    def check_inputs(self, paths: Iterable[str]) -> None:
        """Refuse inputs that overwriting this folder would remove."""
        doomed = {path.resolve() for path in self._own_files()}
        for path in paths:
            if Path(path).resolve() in doomed:
                raise ConfigurationError(
                    f"{path}: is an input and would be overwritten; choose another output than {self.root}"
                )

    def prepare(self, *, masks: bool) -> None:
        """Remove what an earlier run wrote and make the folders; other files stay."""
        try:
            for path in list(self._own_files()):
                path.unlink(missing_ok=True)
            for folder, wanted in ((self.masks, masks), (self.clouds, False)):
                if folder.is_dir() and not wanted and not any(folder.iterdir()):
                    folder.rmdir()
            self.images.mkdir(parents=True, exist_ok=True)
            if masks:
                self.masks.mkdir(exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"{self.root}: cannot be written ({error.strerror or error})") from error

    def write_text(self, path: Path, text: str) -> None:
        """Put a text file of this folder in place at once."""
        from geoaug.io.geotiff import replace_file

        replace_file(path, text.encode())

    def _own_files(self) -> Iterator[Path]:
        for path in (self.manifest, self.recipe, self.classes):
            if path.is_file():
                yield path
        for folder in (self.root, self.images, self.masks, self.clouds):
            if folder.is_dir():
                names = _UNFINISHED.fullmatch if folder == self.root else _is_ours
                yield from (path for path in folder.iterdir() if names(path.name) and path.is_file())


def tile_name(scene_id: str, window: Window, copy: int) -> str:
    """The file name of a tile; copy 0 is the original."""
    return f"{scene_id}_r{window.row}_c{window.col}_{f'a{copy}' if copy else 'orig'}.tif"


def _is_ours(name: str) -> bool:
    return bool(_TILE.fullmatch(name) or _UNFINISHED.fullmatch(name))

"""Opening rasters through GDAL: its settings for local and remote files, one kind of error, and a pool of open ones.

Open rasters are borrowed by one thread at a time, bounded in number, and never shared with a forked process.

GDAL frees Python's lock while it decodes, so threads of one process read at once, each through a handle of its own.
A handle that is not in use is kept for the next thread that asks for the same raster.
"""

import math
import os
import sys
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any
from weakref import WeakSet

import rasterio
from affine import Affine
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.env import get_gdal_config, set_gdal_config
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT

from geoaug.data.raster.grid import Grid, target_grid
from geoaug.data.raster.inputs import is_remote
from geoaug.data.raster.masks import with_validity
from geoaug.data.raster.palette import colours_of, file_of_expanded
from geoaug.errors import ConfigurationError, RasterError

# A folder in the cloud is not listed for sidecars (.ovr, .msk, .aux.xml), which costs a request per file in it. On a
# disk each is asked for by its name: listing the thousands of files of some folders takes most of the time of opening.
_REMOTE_OPTIONS: dict[str, Any] = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_MULTIPLEX": "YES",
    "GDAL_HTTP_MAX_RETRY": 3,
    "GDAL_HTTP_RETRY_DELAY": 0.5,
    # A server that falls silent is given up, where curl would wait for ever.
    "GDAL_HTTP_CONNECTTIMEOUT": 30,
    "GDAL_HTTP_LOW_SPEED_TIME": 30,
    "GDAL_HTTP_LOW_SPEED_LIMIT": 1,
    "VSI_CACHE": "TRUE",
}

_LOCAL_OPTIONS = {"GDAL_DISABLE_READDIR_ON_OPEN": "TRUE"}

_warnings_lock = threading.Lock()
_silent: list[Any] = [0, None]  # how many are silent, and what ends the silence


def open_dataset(path: str) -> DatasetReader:
    """Open the raster at `path` for reading, as every reader of geoaug does; `RasterError` where it cannot
    be."""
    if (inner := file_of_expanded(path)) is not None:
        with open_dataset(inner) as dataset, georeference_optional():
            try:
                return rasterio.open(colours_of(dataset))
            except (RasterioError, ValueError) as error:
                raise RasterError(f"{inner}: its palette cannot be expanded to colours: {error}", path=inner) from error
    if not is_remote(path) and not path.startswith("/vsi") and ":" not in path and not Path(path).exists():
        raise RasterError(f"{path}: no such file", path=path)
    try:
        if is_remote(path):
            with gdal_environment(path)():
                return rasterio.open(path)
        with georeference_optional(), rasterio.Env(**_unless_set(_LOCAL_OPTIONS)):
            try:
                return rasterio.open(path)
            except NotGeoreferencedWarning:  # an error to filters that another thread has put back meanwhile
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                return rasterio.open(path)
    except (RasterioError, OSError) as error:
        forget_cached(path)
        raise RasterError(f"{path}: not a raster that GDAL can read ({error})", path=path) from error


def place_of(dataset: DatasetReader) -> tuple[CRS | None, Affine, str | None]:
    """What tells where an open raster lies: its CRS, its geotransform, and its control.

    The CRS is None, too, where a file has one without a geotransform: its pixels do not lie at (0, 0). What locates
    them in place of it is "ground control points" or "RPCs", else None.

    Raises:
        RasterError: the geotransform holds NaN or infinity, or its pixels have no area.
    """
    transform = dataset.transform
    numbers = ", ".join(f"{number:g}" for number in transform[:6])
    if not all(map(math.isfinite, transform[:6])) or transform.determinant == 0:
        fault = "pixels without an area" if all(map(math.isfinite, transform[:6])) else "numbers that are not finite"
        raise RasterError(
            f"{dataset.name}: its geotransform ({numbers}) has {fault}: give it another one (rio edit-info "
            "--transform), or none (gdal_edit.py -unsetgt)",
            path=dataset.name,
        )
    if not transform.is_identity:
        return dataset.crs or None, transform, None
    if dataset.gcps[0]:
        return None, transform, "ground control points"
    return None, transform, "RPCs" if dataset.rpcs else None


@lru_cache(maxsize=1024)
def controlled_grid(path: str, crs: str, gsd_m: float | None) -> Grid:
    """The grid of a CRS that GDAL chooses for a raster which ground control points or RPCs locate.

    RPCs count at the height that they are centred on (HEIGHT_OFF): there is no model of the terrain.

    Args:
        path: of the raster.
        crs: of the grid.
        gsd_m: ground sampling distance in metres, GDAL's choice where it is None. RPCs have that choice alone, as
            rasterio warps by them to no other grid.

    Raises:
        ConfigurationError: nothing locates the raster, the CRS does not reach it, or RPCs and `gsd_m`.
        RasterError: it cannot be read.
    """
    with gdal_environment(path)(), open_dataset(path) as dataset:
        control = place_of(dataset)[2]
        if control is None:
            raise ConfigurationError(
                f"{path}: has no CRS, ground control points or RPCs, and so no place to be warped from: leave crs out",
                path=path,
                argument="crs",
            )
        if control == "RPCs" and gsd_m is not None:
            raise ConfigurationError(
                f"{path}: RPCs locate it, by which it is warped to the pixels of GDAL's choice alone: leave gsd_m "
                "(--gsd) out, or warp it first (gdalwarp -rpc -tr)",
                path=path,
                argument="gsd_m",
            )
        try:
            with WarpedVRT(dataset, crs=CRS.from_user_input(crs), **_height_of(dataset)) as warped:
                grid = Grid(crs, warped.transform, warped.height, warped.width)
        except (RasterioError, CPLE_BaseError) as error:
            raise ConfigurationError(
                f"{path}: cannot be warped to the CRS {crs} by its {control} ({error})", path=path, argument="crs"
            ) from error
    return target_grid(grid, None, gsd_m)


def _height_of(dataset: DatasetReader) -> dict[str, Any]:
    """GDAL's option for the height that RPCs are taken at."""
    return {} if dataset.gcps[0] or not dataset.rpcs else {"RPC_HEIGHT": dataset.rpcs.height_off}


def forget_cached(path: str) -> None:
    """Drop what GDAL keeps of a remote file: it keeps an answer that was cut short, too, and would not ask again."""
    if not is_remote(path):
        return
    # GDAL drops what it keeps when a handle of such a file is closed.
    with gdal_environment(path)(), rasterio.Env(CPL_VSIL_CURL_NON_CACHED=path), suppress(RasterioError, OSError):
        rasterio.open(path).close()


def limit_gdal_cache(size: int) -> None:
    """Let GDAL keep at most `size` bytes of decoded blocks in this process, unless GDAL_CACHEMAX is set.

    Left alone it takes a twentieth of the machine's memory, which is counted nowhere.
    """
    if "GDAL_CACHEMAX" not in os.environ and get_gdal_config("GDAL_CACHEMAX") > size:
        set_gdal_config("GDAL_CACHEMAX", size)


@contextmanager
def georeference_optional() -> Iterator[None]:
    """Silence rasterio's warning about a raster without a geotransform, which is allowed here."""
    # The list of warning filters belongs to the whole process: threads must not save and restore it crosswise, so the
    # first one in changes it and the last one out restores it.
    with _warnings_lock:
        _silent[0] += 1
        if _silent[0] == 1:
            _silent[1] = warnings.catch_warnings()
            _silent[1].__enter__()
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
    try:
        yield
    finally:
        with _warnings_lock:
            _silent[0] -= 1
            if _silent[0] == 0:
                _silent[1].__exit__(None, None, None)
                _silent[1] = None


def gdal_environment(path: str) -> Callable[[], AbstractContextManager[Any]]:
    """A factory of the GDAL settings for `path`; what a person set in the environment is left as it is."""
    if not is_remote(path):
        return nullcontext
    return partial(rasterio.Env, **_unless_set(_REMOTE_OPTIONS))


def _unless_set(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key not in os.environ}


_MOST_IDLE = 256
_MOVED = 0.5  # pixels; catalogs of others round
_HALF_OFF = 0.05  # pixels
_WARP_MEMORY_MB = 64
# In pixels. GDAL's usual approximation depends on the window, so that tiles would not fit together; none at all (0) is
# refused by rasterio 1.4 where source and target have one CRS.
_WARP_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Warp:
    """How a raster is seen on another grid.

    Attributes:
        grid: to see it on.
        resampling: GDAL's name ("bilinear", "nearest"...).
        nodata: the stored value that is left out of the interpolation, and is given where nothing is known; None where
            the raster has no such value: validity is then an alpha band.
        dtype: the type that pixels come in.
        has_mask: whether the raster has a mask or an alpha band, whose pixels are left out of the interpolation, too.
        alpha: the index of its alpha band.
    """

    grid: Grid
    resampling: str
    nodata: float | None
    dtype: str
    has_mask: bool = False
    alpha: int | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """What a handle is opened on: a file as it is, or on another grid.

    Attributes:
        path: of the file.
        grid: that it had when it was indexed.
        bands: (index, stored type) of those that are read.
        warp: None for the file as it is.
    """

    path: str
    grid: Grid
    bands: tuple[tuple[int, str], ...]
    warp: Warp | None = None


class HandlePool:
    """Open handles of sources; at most `limit` lie idle. May be used from many threads, and after a fork.

    As many as 256 by default, where the system lets a process open four times as many files: scenes of a file for each
    band have a dozen each, and opening one takes as long as decoding a block of it.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = _most_idle() if limit is None else limit
        self._idle: OrderedDict[Source, list[Any]] = OrderedDict()
        self._forget()
        _POOLS.add(self)

    def __getstate__(self) -> dict[str, Any]:
        return {"limit": self.limit}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    @contextmanager
    def borrow(self, source: Source) -> Iterator[Any]:
        """An open dataset that no other thread uses meanwhile, within the GDAL settings that its path asks for.

        Raises:
            RasterError: it cannot be opened.
        """
        with _GATE.entered():
            handle = self._take(source)
            sound = False
            try:
                with gdal_environment(source.path)():
                    yield handle
                sound = True
            finally:
                if sound:
                    self._give_back(source, handle)
                else:
                    # What failed once, such as a connection cut in the middle, is opened anew the next time.
                    _close(handle)
                    forget_cached(source.path)

    def close(self) -> None:
        """Close what lies idle."""
        with self._lock:
            idle = self._idle
            self._idle, self._count = OrderedDict(), 0
        for handles in idle.values():
            for handle in handles:
                _close(handle)

    def _take(self, source: Source) -> Any:
        with self._lock:
            handles = self._idle.get(source)
            if handles:
                self._count -= 1
                handle = handles.pop()
                if not handles:
                    del self._idle[source]
                return handle
        return _open(source)

    def _give_back(self, source: Source, handle: Any) -> None:
        surplus = []
        with self._lock:
            self._idle.setdefault(source, []).append(handle)
            self._idle.move_to_end(source)
            self._count += 1
            while self._count > self.limit:
                oldest = next(iter(self._idle))
                surplus.append(self._idle[oldest].pop(0))
                self._count -= 1
                if not self._idle[oldest]:
                    del self._idle[oldest]
        for old in surplus:
            _close(old)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._idle = OrderedDict()
        self._count = 0


def _most_idle() -> int:
    if sys.platform == "win32":
        return _MOST_IDLE
    import resource

    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_IDLE if allowed == resource.RLIM_INFINITY else max(min(_MOST_IDLE, allowed // 4), 1)


def _open(source: Source) -> Any:
    dataset = open_dataset(source.path)
    try:
        _check_unchanged(dataset, source)
    except RasterError:
        dataset.close()
        raise
    if source.warp is None:
        return dataset
    warp, grid = source.warp, source.warp.grid
    virtual = with_validity(dataset, source.bands[0][0], has_mask=warp.has_mask, alpha=warp.alpha, nodata=warp.nodata)
    if virtual is not None:
        with dataset, georeference_optional():
            dataset = rasterio.open(virtual)
    masked = virtual is not None and warp.has_mask
    options: dict[str, Any] = {"add_alpha": True} if warp.nodata is None else {"nodata": warp.nodata}
    if source.grid.crs is None and (height := _height_of(dataset)):
        options |= height  # to the grid of GDAL's choice, see `controlled_grid`
    else:
        options |= {"transform": grid.transform, "height": grid.height, "width": grid.width}
    return WarpedVRT(
        dataset,
        crs=None if grid.crs is None else CRS.from_user_input(grid.crs),
        resampling=Resampling[warp.resampling],
        src_nodata=None if masked else warp.nodata,  # GDAL would go by this value, and not by the mask
        tolerance=_WARP_TOLERANCE,
        dtype=warp.dtype,
        warp_mem_limit=_WARP_MEMORY_MB,
        UNIFIED_SRC_NODATA="NO",  # else a value counts as nodata only where all bands of the file hold it
        **options,
    )


def _check_unchanged(dataset: Any, source: Source) -> None:
    """Raise where a file is not what it was when it was indexed: its pixels would be read as what they are not."""
    grid = source.grid
    changed = ""
    if (dataset.height, dataset.width) != (grid.height, grid.width):
        changed = f"has {dataset.height} x {dataset.width} pixels, and had {grid.height} x {grid.width}"
    for index, dtype in source.bands:
        if index > dataset.count:
            changed = changed or f"has {dataset.count} bands, and had a band {index}"
        elif dataset.dtypes[index - 1] != dtype:
            changed = changed or f"stores band {index} as {dataset.dtypes[index - 1]}, and stored it as {dtype}"
    if not changed and grid.crs is not None:
        to_known = ~grid.transform * dataset.transform
        corners = ((0, 0), (grid.width, 0), (0, grid.height))
        if any(math.dist(to_known * corner, corner) > _MOVED for corner in corners):
            changed = "lies at another place than it did"
            if all(
                abs(abs(there - here) - 0.5) < _HALF_OFF
                for corner in corners
                for there, here in zip(to_known * corner, corner, strict=True)
            ):
                raise RasterError(
                    f"{source.path}: lies half a pixel from where the catalog has it, which counts from pixel centres: "
                    "a STAC item's proj:transform is of the first pixel's outer corner. Mend the item, or read the "
                    "files' own headers (Catalog.from_stac(..., open_headers=True)), which hold the right one",
                    path=source.path,
                )
    if changed:
        raise RasterError(
            f"{source.path}: was changed since it was indexed: it {changed}; index it again (geoaug index "
            "--refresh; of STAC, Catalog.from_stac(..., open_headers=True))",
            path=source.path,
        )


def _close(handle: Any) -> None:
    handle.close()
    if isinstance(handle, WarpedVRT):
        handle.src_dataset.close()


class _Gate:
    """Lets readers in at once, and a fork when none is inside: GDAL's locks must not be copied while they are held."""

    def __init__(self) -> None:
        self.reopen()

    def reopen(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._closed = 0

    @contextmanager
    def entered(self) -> Iterator[None]:
        with self._changed:
            while self._closed:
                self._changed.wait()
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                if not self._inside:
                    self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed += 1
            while self._inside:
                self._changed.wait()

    def open(self) -> None:
        with self._changed:
            self._closed -= 1
            self._changed.notify_all()


def reading() -> AbstractContextManager[None]:
    """To be entered while GDAL reads in a thread, so that a fork waits for it."""
    return _GATE.entered()


_POOLS: "WeakSet[HandlePool]" = WeakSet()
_GATE = _Gate()


def _in_forked_child() -> None:
    _GATE.reopen()
    for pool in _POOLS:
        # The handles belong to the parent, which goes on reading at their place in the file: they are not even closed.
        _ABANDONED.extend(handle for handles in pool._idle.values() for handle in handles)
        pool._forget()


_ABANDONED: list[Any] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_GATE.close, after_in_parent=_GATE.open, after_in_child=_in_forked_child)

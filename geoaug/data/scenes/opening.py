"""Opening rasters through GDAL: its settings for local and remote files, and one kind of error.

What is read from an open raster is decided by those who open it, such as `geoaug.data.scenes.scene`.
"""

import os
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import rasterio
from rasterio.env import get_gdal_config, set_gdal_config
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader

from geoaug.data.scenes.inputs import is_remote
from geoaug.errors import RasterError

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
    if not is_remote(path) and not path.startswith("/vsi") and ":" not in path and not Path(path).exists():
        raise RasterError(f"{path}: no such file")
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
        raise RasterError(f"{path}: not a raster that GDAL can read ({error})") from error


def forget_cached(path: str) -> None:
    """Drop what GDAL keeps of a remote file: it keeps an answer that was cut short, too, and would not ask again."""
    if not is_remote(path):
        return
    # GDAL drops what it keeps when a handle of such a file is closed.
    with gdal_environment(path)(), rasterio.Env(CPL_VSIL_CURL_NON_CACHED=path), suppress(RasterioError, OSError):
        rasterio.open(path).close()


def limit_gdal_cache(size: int) -> None:
    """Let GDAL keep at most `size` bytes of decoded blocks in this process, unless GDAL_CACHEMAX is set.

    Left alone it takes a twentieth of the machine's memory, which nobody counted.
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

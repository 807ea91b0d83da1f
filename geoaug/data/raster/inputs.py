"""From what a person types to a list of rasters: files, folders, globs, text lists and addresses.

Only names are handled here; no raster is opened. Where a scene is in the cloud, its address becomes the path
under which GDAL reads it (`/vsicurl/...`, `/vsis3/...`).
"""

import glob
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from geoaug.errors import ConfigurationError

RASTER_EXTENSIONS: tuple[str, ...] = (".tif", ".tiff", ".gtif", ".gtiff", ".jp2", ".vrt", ".img")
"""What counts as a raster inside a folder. A file that is named itself may have any extension."""

PICTURE_EXTENSIONS: tuple[str, ...] = (".jpg", ".jpeg", ".png")
"""What counts as an image in datasets of chips, besides; elsewhere such files are quicklooks."""

_SCHEMES = {
    "http://": "/vsicurl/http://",
    "https://": "/vsicurl/https://",
    "s3://": "/vsis3/",
    "gs://": "/vsigs/",
    "az://": "/vsiaz/",
}
# GDAL's names of a dataset inside a file, such as NETCDF:"file.nc":red or SENTINEL2_L2A:/vsizip/...
_SUBDATASET = re.compile(r"[A-Z][A-Z0-9_]+:")


def resolve_inputs(inputs: Sequence[str], *, extensions: Sequence[str] = RASTER_EXTENSIONS) -> list[str]:
    """The rasters that `inputs` name, in the order given, each once.

    An input is a file (any extension), a folder (searched recursively, sorted, for `extensions`; hidden files
    are left out), a glob (`**` reaches into folders), a `.txt` file with one input a line (`#` starts a
    comment; a relative name counts from the list's folder, or else from the current one), an http(s), s3, gs
    or az address, or any path or dataset name that GDAL itself understands (`/vsi...`, `NETCDF:...`).

    Raises `ConfigurationError` where a file or folder does not exist, or where nothing is found.
    """
    if isinstance(inputs, str):
        inputs = [inputs]
    if not inputs:
        raise ConfigurationError("no input: name at least one raster, folder, glob or text list")
    wanted = tuple(extension.lower() for extension in extensions)
    return list(dict.fromkeys(path for text in inputs for path in _resolve(str(text), wanted)))


def scene_ids(paths: Iterable[str]) -> dict[str, str]:
    """A short name for each path, unique among them and fit for a file name.

    The name is the file's stem; where stems collide (letter case aside), names of parent folders go before it
    until they differ (`april_B02`, `may_B02`), and a number follows where even whole paths do not tell.
    """
    unique = list(dict.fromkeys(paths))
    parts = {path: _name_parts(path) for path in unique}
    depth = dict.fromkeys(unique, 1)
    while True:
        names = {path: "_".join(parts[path][-depth[path] :]) for path in unique}
        groups: dict[str, list[str]] = defaultdict(list)
        for path, name in names.items():
            groups[name.casefold()].append(path)
        deeper = [
            path for group in groups.values() if len(group) > 1 for path in group if depth[path] < len(parts[path])
        ]
        if not deeper:
            break
        for path in deeper:
            depth[path] += 1
    taken: set[str] = set()
    ids: dict[str, str] = {}
    for path, name in names.items():
        candidate, number = name, 1
        while candidate.casefold() in taken:
            number += 1
            candidate = f"{name}-{number}"
        taken.add(candidate.casefold())
        ids[path] = candidate
    return ids


def address_to_path(address: str) -> str:
    """The path under which GDAL reads an address (http, https, s3, gs, az, file); any other text as it is."""
    for scheme, prefix in _SCHEMES.items():
        if address.lower().startswith(scheme):
            return prefix + address[len(scheme) :]
    return unquote(address.removeprefix("file://")) if address.startswith("file://") else address


def is_remote(path: str) -> bool:
    """Whether GDAL reads `path` over the network."""
    return path.startswith(("/vsicurl", "/vsis3", "/vsigs", "/vsiaz", *_SCHEMES))


def absolute(path: str) -> str:
    """A path that holds from any folder; addresses, archives and datasets inside files are left as they are."""
    if is_remote(path) or path.startswith(("/vsi", "vrt://")) or _SUBDATASET.match(path):
        return path
    return os.path.abspath(path)  # noqa: PTH100  # Path.absolute keeps ".."


def _resolve(text: str, extensions: tuple[str, ...]) -> Iterator[str]:
    if text.lower().startswith(tuple(_SCHEMES)):
        yield address_to_path(text)
        return
    path = Path(text).expanduser()
    if path.is_dir():
        yield from _in_folder(path, extensions)
    elif path.is_file():
        if path.suffix.lower() == ".txt":
            yield from _in_list(path, extensions)
        else:
            yield str(path)
    elif text.startswith("/vsi") or text.startswith("vrt://") or _SUBDATASET.match(text):
        yield text
    elif glob.has_magic(text):
        yield from _in_glob(str(path), extensions)
    else:
        raise ConfigurationError(f"{text}: no such file or folder", path=text)


def _in_folder(folder: Path, extensions: tuple[str, ...]) -> list[str]:
    found = _rasters_below(folder, extensions)
    if not found:
        raise ConfigurationError(
            f"{folder}: no raster in this folder (looked for {', '.join(extensions)})", path=str(folder)
        )
    return found


def _rasters_below(folder: Path, extensions: tuple[str, ...]) -> list[str]:
    found = [
        Path(root, name)
        for root, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(extensions) and not name.startswith(".")
    ]
    return [str(path) for path in sorted(found)]


def _in_glob(pattern: str, extensions: tuple[str, ...]) -> list[str]:
    # A pattern that spells its extension out ("*.dat") says what it wants; one that does not ("LC08*/*")
    # would bring metadata and quicklooks along.
    suffix = Path(pattern).suffix
    spelled_out = bool(suffix) and not glob.has_magic(suffix)
    found: list[str] = []
    for match in sorted(glob.glob(pattern, recursive=True)):  # noqa: PTH207  # Path.glob knows no absolute pattern
        path = Path(match)
        if path.is_dir():
            found.extend(_rasters_below(path, extensions))
        elif spelled_out or path.name.lower().endswith(extensions):
            found.append(str(path))
    if not found:
        raise ConfigurationError(f"{pattern}: no raster matches this pattern")
    return found


def _in_list(path: Path, extensions: tuple[str, ...]) -> Iterator[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read as a text list ({error})") from error
    empty = True
    for number, line in enumerate(lines, start=1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        empty = False
        beside = path.parent / entry
        if entry.lower().endswith(".txt"):
            raise ConfigurationError(f"{path}, line {number}: {entry!r}: a list cannot name another list")
        try:
            yield from _resolve(str(beside) if _exists(beside) else entry, extensions)
        except ConfigurationError as error:
            raise ConfigurationError(f"{path}, line {number}: {error}") from error
    if empty:
        raise ConfigurationError(f"{path}: this list names no raster")


def _exists(path: Path) -> bool:
    if glob.has_magic(str(path)):
        return bool(glob.glob(str(path), recursive=True))  # noqa: PTH207
    return path.exists()


def _name_parts(path: str) -> list[str]:
    name = path.split("?", 1)[0] if is_remote(path) else path
    pure = PurePosixPath(name.replace("\\", "/"))
    parts = [*pure.parts[:-1], pure.stem]
    cleaned = [re.sub(r"[^\w.-]+", "_", part).strip("_. ") for part in parts]
    return [part for part in cleaned if part] or ["scene"]

"""A report on disk: `report.html`, one file that opens by itself, and `report.json` for programs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geoaug.audit.examples import Examples
from geoaug.audit.page import report_page
from geoaug.audit.results import AuditReport
from geoaug.errors import ConfigurationError
from geoaug.io.geotiff import replace_file

__all__ = ["HTML", "JSON", "check_folder", "write_files", "write_report"]

HTML, JSON = "report.html", "report.json"


def check_folder(folder: str | Path) -> Path:
    """The folder of a report, made where it is not there yet.

    Raises:
        ConfigurationError: it is a file, or cannot be made.
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"{path}: no folder for a report ({error.strerror or error})") from error
    return path


def write_report(report: AuditReport, shown: Examples, folder: str | Path) -> Path:
    """Write the report into a folder, and give the path of its page. Older reports there are replaced.

    Raises:
        ConfigurationError: the folder cannot be written to.
    """
    return write_files(report_page(report, shown), report.to_dict(), folder)


def write_files(page: str, values: Mapping[str, Any], folder: str | Path) -> Path:
    """Write a page and the values behind it into a folder, and give the path of the page.

    Raises:
        ConfigurationError: the folder cannot be written to.
    """
    path = check_folder(folder)
    try:
        replace_file(path / HTML, page.encode("utf-8"))
        replace_file(path / JSON, (json.dumps(values, indent=1) + "\n").encode("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: the report cannot be written ({error.strerror or error})") from error
    return path / HTML

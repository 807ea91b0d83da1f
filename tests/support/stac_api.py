"""Small STAC items over small rasters, and a STAC API on the loopback that finds them."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from scenes import write_raster

CONFORMANCE = [
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/item-search",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/geojson",
]
BANDS = {"red": ("B04", 10), "nir": ("B08", 10), "swir16": ("B11", 20)}


def make_item(
    folder: Path,
    name: str = "S2A_32UQV_20230617_0_L2A",
    *,
    projection: bool = True,
    raster: bool = True,
    offset: float = -0.1,
    properties: dict[str, Any] | None = None,
    version: str = "1.0.0",
) -> dict[str, Any]:
    """An item as Earth Search has them, whose files lie in `folder`; in the fields of STAC 1.0 or 1.1."""
    new = version.startswith("1.1")
    assets: dict[str, Any] = {}
    for number, (key, (band, gsd)) in enumerate([*BANDS.items(), ("scl", ("SCL", 20))]):
        side = 480 // gsd
        kind = "uint8" if key == "scl" else "uint16"
        image = np.full((1, side, side), 4 if key == "scl" else 1000 * (number + 1), dtype=kind)
        if key == "scl":
            image[:, :3] = 9
        transform = Affine(gsd, 0, 600000, 0, -gsd, 5400000)
        path = write_raster(folder / name / f"{band}.tif", image, transform=transform, nodata=0)
        asset: dict[str, Any] = {
            "href": str(path),
            "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            "roles": ["data", "reflectance"],
        }
        described: dict[str, Any] = {} if key == "scl" else {"name": band}
        stored = {"data_type": kind, "nodata": 0}
        if key != "scl":
            stored |= {"scale": 0.0001, "offset": offset}
        if new:
            renamed = {("raster:" + field if field in ("scale", "offset") else field): v for field, v in stored.items()}
            asset["bands"] = [{**described, "eo:common_name": key, **(renamed if raster else {})}]
        else:
            if key != "scl":
                asset["eo:bands"] = [{**described, "common_name": key}]
            if raster:
                asset["raster:bands"] = [stored]
        if projection:
            asset |= {"proj:shape": [side, side], "proj:transform": [*transform][:6]}
        assets[key] = asset
    assets["thumbnail"] = {"href": str(folder / "none.jpg"), "type": "image/jpeg", "roles": ["thumbnail"]}
    assets["visual"] = {
        "href": str(folder / "none.tif"),
        "type": "image/tiff",
        "roles": ["visual"],
        "eo:bands": [{"name": "B04"}, {"name": "B03"}, {"name": "B02"}],
    }
    place = {"proj:code": "EPSG:32632"} if new else {"proj:epsg": 32632}
    return {
        "type": "Feature",
        "stac_version": version,
        "stac_extensions": [],
        "id": name,
        "collection": "sentinel-2-l2a",
        "geometry": {"type": "Point", "coordinates": [10.4, 48.7]},
        "bbox": [10.3, 48.6, 10.5, 48.8],
        "properties": {
            "datetime": "2023-06-17T10:36:29Z",
            "platform": "sentinel-2a",
            "eo:cloud_cover": 12.5,
            **(place if projection else {}),
            **(properties or {}),
        },
        "links": [],
        "assets": assets,
    }


@contextmanager
def stac_api(items: list[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The address of an API that gives these items a page each, and the searches that it was asked for."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            links = [
                {"rel": "self", "href": address, "type": "application/json"},
                {"rel": "root", "href": address, "type": "application/json"},
                {"rel": "search", "href": f"{address}/search", "type": "application/geo+json", "method": "POST"},
            ]
            self._answer(
                {
                    "type": "Catalog",
                    "stac_version": "1.0.0",
                    "id": "loopback",
                    "description": "items of a test",
                    "conformsTo": CONFORMANCE,
                    "links": links,
                }
            )

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(body)
            page = int(body.get("token", 0))
            following = {**body, "token": str(page + 1)}
            links = [{"rel": "next", "href": f"{address}/search", "method": "POST", "body": following}]
            self._answer(
                {
                    "type": "FeatureCollection",
                    "features": items[page : page + 1],
                    "links": links if page + 1 < len(items) else [],
                }
            )

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

        def _answer(self, content: dict[str, Any]) -> None:
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield address, asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

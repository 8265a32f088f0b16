"""Writes polygons as a GeoPackage, in any reference system, with a style that QGIS applies on opening.

A GeoPackage is an SQLite database with a few fixed tables (https://www.geopackage.org/spec131/), so Python's own
sqlite3 writes it. A library that writes it would bring a second GDAL beside rasterio's.
"""

import errno
import sqlite3
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path, PurePath

import numpy as np

from utils.files import naming

LAYER = "changes"
NEVER = "1970-01-01T00:00:00.000Z"  # in place of the time of writing: equal maps are equal files
OTHER = 100000  # number of a reference system without an EPSG code
ROW = f"INSERT INTO {LAYER} VALUES (:id, :geom, :area_m2, :mean_probability, :pixels)"
STYLE = """<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<qgis version="3.16.0" styleCategories="Symbology">
 <renderer-v2 type="singleSymbol" symbollevels="0" forceraster="0"><symbols>
  <symbol type="fill" name="0" alpha="1" clip_to_extent="1" force_rhr="0">
   <layer class="SimpleFill" enabled="1" locked="0" pass="0">
    <prop k="color" v="227,26,28,64"/><prop k="style" v="solid"/><prop k="joinstyle" v="miter"/>
    <prop k="outline_color" v="227,26,28,255"/><prop k="outline_style" v="solid"/>
    <prop k="outline_width" v="0.5"/><prop k="outline_width_unit" v="MM"/>
   </layer>
  </symbol>
 </symbols></renderer-v2>
</qgis>
"""
TABLES = f"""
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA application_id = {0x47504B47};
PRAGMA user_version = 10300;
CREATE TABLE gpkg_spatial_ref_sys (
  srs_name TEXT NOT NULL, srs_id INTEGER NOT NULL PRIMARY KEY, organization TEXT NOT NULL,
  organization_coordsys_id INTEGER NOT NULL, definition TEXT NOT NULL, description TEXT);
CREATE TABLE gpkg_contents (
  table_name TEXT NOT NULL PRIMARY KEY, data_type TEXT NOT NULL, identifier TEXT UNIQUE, description TEXT DEFAULT '',
  last_change DATETIME NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')), min_x DOUBLE, min_y DOUBLE,
  max_x DOUBLE, max_y DOUBLE, srs_id INTEGER REFERENCES gpkg_spatial_ref_sys (srs_id));
CREATE TABLE gpkg_geometry_columns (
  table_name TEXT NOT NULL UNIQUE REFERENCES gpkg_contents (table_name), column_name TEXT NOT NULL,
  geometry_type_name TEXT NOT NULL, srs_id INTEGER NOT NULL REFERENCES gpkg_spatial_ref_sys (srs_id),
  z TINYINT NOT NULL, m TINYINT NOT NULL, PRIMARY KEY (table_name, column_name));
CREATE TABLE {LAYER} (
  id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, geom POLYGON, area_m2 REAL, mean_probability REAL, pixels INTEGER);
CREATE TABLE layer_styles (
  id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT, f_table_schema TEXT, f_table_name TEXT,
  f_geometry_column TEXT, styleName TEXT, styleQML TEXT, styleSLD TEXT, useAsDefault BOOLEAN, description TEXT,
  owner TEXT, ui TEXT, update_time DATETIME DEFAULT CURRENT_TIMESTAMP);
"""


@contextmanager
def geopackage(path: Path, crs: str) -> Iterator[Callable[[Mapping[str, float], list[np.ndarray]], None]]:
    """Open a new GeoPackage with a layer of polygons; it is complete when the block ends well.

    Args:
        path: the file; an existing one is replaced.
        crs: coordinate reference system of the polygons, as WKT.

    Yields:
        A function that adds a polygon: the fields id, area_m2, mean_probability and pixels; and its outline followed by
        its holes, x and y, float (n, 2) each, the first point being also the last.

    Raises:
        OSError: the file cannot be written.
    """
    with _writing(path):
        path.unlink(missing_ok=True)
        # file systems of clusters often have no locks, and nobody else knows this file
        database = sqlite3.connect(f"{address(path.resolve())}?nolock=1", uri=True)
    with closing(database):
        with _writing(path):
            database.executescript(TABLES)
            srs = _add_system(database, crs)
            _describe(database, srs)
        low, high = np.full(2, np.inf), np.full(2, -np.inf)

        def add(fields: Mapping[str, float], rings: list[np.ndarray]) -> None:
            lowest, highest = rings[0].min(0), rings[0].max(0)
            np.minimum(low, lowest, out=low)
            np.maximum(high, highest, out=high)
            geometry = _binary(rings, lowest, highest, srs)
            with _writing(path):
                database.execute(ROW, {**fields, "geom": geometry})

        yield add
        with _writing(path):
            if np.isfinite(low).all():
                box = "UPDATE gpkg_contents SET min_x = ?, min_y = ?, max_x = ?, max_y = ? WHERE table_name = ?"
                database.execute(box, (*low.tolist(), *high.tolist(), LAYER))
            database.commit()


def address(path: PurePath) -> str:
    """Return an absolute path as a URI for SQLite; the server of a Windows share is then a part of the path."""
    uri = path.as_uri()
    return uri if uri.startswith("file:///") else uri.replace("file://", "file:////", 1)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Make an error of SQLite, such as that of a full disk, an OSError that names the file."""
    with naming(path):
        try:
            yield
        except sqlite3.Error as error:
            raise OSError(errno.EIO, f"could not be written: {error}") from error


def _add_system(database: sqlite3.Connection, crs: str) -> int:
    """Add the reference systems that every GeoPackage has, and this one; return its number."""
    from rasterio.crs import CRS

    degrees, system = CRS.from_epsg(4326), CRS.from_wkt(crs)
    code = system.to_epsg()
    known = code is not None and CRS.from_epsg(code) == system  # to_epsg also gives codes of similar systems
    srs, organisation = (int(code), "EPSG") if known else (OTHER, "NONE")
    rows = [
        ("undefined Cartesian", -1, "NONE", -1, "undefined"),
        ("undefined geographic", 0, "NONE", 0, "undefined"),
        ("WGS 84", 4326, "EPSG", 4326, degrees.to_wkt()),
    ]
    if srs != 4326:
        rows.append((crs.split('"')[1], srs, organisation, srs, crs))
    database.executemany("INSERT INTO gpkg_spatial_ref_sys VALUES (?, ?, ?, ?, ?, NULL)", rows)
    return srs


def _describe(database: sqlite3.Connection, srs: int) -> None:
    """Register the layer and its style."""

    def insert(table: str, **values: object) -> None:
        marks = ", ".join("?" * len(values))
        database.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", tuple(values.values()))

    for name, kind, system in ((LAYER, "features", srs), ("layer_styles", "attributes", None)):
        insert("gpkg_contents", table_name=name, identifier=name, data_type=kind, srs_id=system, last_change=NEVER)
    column = {"table_name": LAYER, "column_name": "geom", "geometry_type_name": "POLYGON"}
    insert("gpkg_geometry_columns", **column, srs_id=srs, z=0, m=0)
    insert(
        "layer_styles", f_table_catalog="", f_table_schema="", f_table_name=LAYER, f_geometry_column="geom",
        styleName=LAYER, styleQML=STYLE, useAsDefault=True, description="outlines of changes", update_time=NEVER,
    )  # fmt: skip


def _binary(rings: list[np.ndarray], low: np.ndarray, high: np.ndarray, srs: int) -> bytes:
    """A polygon as GeoPackage binary: a header with its bounds, then WKB, all little-endian."""
    header = struct.pack("<2sBBi4d", b"GP", 0, 0b11, srs, low[0], high[0], low[1], high[1])
    points = b"".join(struct.pack("<I", len(ring)) + ring.astype("<f8").tobytes() for ring in rings)
    return header + struct.pack("<BII", 1, 3, len(rings)) + points

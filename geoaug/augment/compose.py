"""`Compose`: a list of operations as one module that plans, then resamples once.

What the operations are is decided in their own files, how they compose in `plan`, and how pixels are touched in
`kernels`; here they meet a batch dict.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from jaxtyping import Int
from kornia.augmentation.base import _BasicAugmentationBase as KorniaAugmentation
from torch import Tensor, nn

from geoaug.augment.batch import Tiles, batched, moved_with, read_tiles, restored, unbatched
from geoaug.augment.kernels.coarse import Light
from geoaug.augment.kernels.executors import EXECUTORS, Executor, executor_for
from geoaug.augment.kernels.portable import Encoding, Interpolation, Work
from geoaug.augment.kernels.sampling import Decoding, Pixels, mirrored
from geoaug.augment.operations.base import GeometricOperation, RadiometricOperation, as_size
from geoaug.augment.operations.policies import Policy
from geoaug.augment.operations.stock import Opaque, StockAffine, is_affine
from geoaug.augment.planner import Acquisition, Fit, OperationList, Step, TileSpec, make_plan
from geoaug.augment.planning import matrices
from geoaug.augment.planning.band_grids import BandResampling, checked_resampling
from geoaug.augment.planning.cover import Cover, filled
from geoaug.augment.planning.matrices import Size
from geoaug.augment.planning.plan import FusedStage, Plan
from geoaug.augment.planning.scale import NormalizeBy, PixelScale, normalization, scaled_segments
from geoaug.earth import METRES_PER_DEGREE
from geoaug.errors import ConfigurationError
from geoaug.rng.draws import random_keys, sample_keys
from geoaug.sensors import Sensor, get_sensor
from geoaug.small_arrays import constant

_CONTEXT_PROBES = 4096

_USUAL_RESAMPLING: BandResampling = "cubic"

# Normal noises that one stage may draw.
_STREAMS_OF_A_STAGE = 256

# A pixel with sides below this is taken to be in degrees.
_LARGEST_PIXEL_DEGREES = 0.02
# Of the cosine of a latitude: tiles at the poles keep a pixel size.
_LEAST_COSINE = 1e-4

OutUnits = Literal["reflectance", "dn", "db"]


class Compose(nn.Module):
    """Augment batches of tiles: one plan, one resampling, radiometry and noise after the geometry.

    In `train()` mode the operations apply; in `eval()` mode tiles are only scaled, brought to `size` and normalised,
    as batch-norm and dropout change with the same switch. A batch is a dict; keys that are not listed pass through:

    - `image` (B C H W, or B T C H W): uint8, uint16, int16, float16, bfloat16 or float32, values as stored;
    - `valid` (B 1 H W, bool): where pixels hold data; NaN never does. The output always has it;
    - `mask` (B H W or B 1 H W, integer): class labels;
    - `bbox_xyxy` (list of N 4), `transform` (B 6, float64, as rasterio's), `sun_azimuth` (B), `dem` (B 1 H W, float,
      elevation in metres): follow the pixels;
    - `sun_elevation`, `sun_azimuth`, `view_zenith`, `view_azimuth` (B, degrees): light, shadow and haze follow them
      where they are known;
    - `band_resampling` (a name, or a list of B names): how bands coarser than the pixels came to them;
    - `key` (B, int64): identity of the samples for randomness; without it, keys come from torch's generator.

    Where an operation makes clouds or shadows, the output has their classes under `cloud` (B H W, or B T H W; uint8):
    0 clear, 1 thick cloud, 2 thin cloud, 3 shadow.

    No gradient flows through it: augmentation is for data.

    An image without the batch dimension (C H W), as datasets give, is returned without it.

    Args:
        operations: geoaug operations and stock kornia ones, in order of application. All geometry is composed into
            one resampling, and radiometry follows it.
        sensor: the image's bands: a name, a path of a YAML definition, or a `Sensor`. None: values are taken as
            reflectance, and operations that need wavelengths are refused.
        size: of the output tile, one number or (height, width); None: whatever the operations leave.
        fit: how a tile comes to `size`: "crop" about the centre (padding where it is smaller) keeps the ground
            sampling distance, "resize" stretches.
        normalize: (mean, std) per band in the units of the output; or a file of `geoaug stats` (or its `Statistics`),
            in which the sensor's bands are found by name.
        ignore_index: label of pixels without a label.
        out_dtype: of the output image; None: that of the input. Integers are rounded and saturated.
        out_units: "reflectance" (for SAR: linear power; for display images, whose sensor has a `transfer`: the display
            value as a fraction, 0 black and 1 white), "dn" for the sensor's digital numbers, or "db" for SAR.
        fill: value of invalid pixels in the output.
        reserve_fill: for integer output, whether a valid pixel that comes out as `fill` takes the next value instead,
            as a file with that nodata value needs.
        min_support: share of valid weight in the interpolation below which a pixel is invalid.
        cover: what becomes of corners that turn in from beyond the tile (and its context). "leave": they are invalid;
            "zoom": the tile is moved back inside, and enlarged as little as needed, until it has none; "reflect": they
            show the mirror image of what lies inside, labels too.
        interpolation: "sharp", which keeps the noise and the fine detail of the image: a short sinc of eight pixels
            along each axis, widened where the image shrinks, within the least and greatest value of the band; linear
            within four pixels of invalid ones. "bilinear", which is faster and takes half of the noise, weighted by
            validity and averaged over the footprint of pixels that shrink; "bicubic" likewise (GDAL's kernel,
            a = -0.5), which lies between both and overshoots beside edges, below 0 too: nothing is clamped. Or
            "nearest", for rasters of classes or flags.
        band_resampling: by which bands that are coarser than the tile's pixels came to them: "nearest", "bilinear"
            or "cubic". None: as the batch tells under `band_resampling`, which tiles of `TileDataset` have; "cubic"
            where it does not. What the detector does to such a band (noise, stripes) is drawn on its own pixels of
            `Band.gsd_m`, and interpolated likewise. How wide the tile's pixels are is told by the batch's
            `transform`; without it they are as wide as those of the sensor's finest band.
        channels_last: whether the output lies in memory as torch's `channels_last` format, as many networks prefer.
        executor: what touches the pixels: "torch" on any device, "cpu" compiled by Numba, "triton" on CUDA devices;
            "auto" takes the fastest that is there. All give the same image to rounding.

    Raises:
        ConfigurationError: where operations, sensor and batch do not fit together.
    """

    def __init__(
        self,
        operations: Sequence[nn.Module],
        sensor: Sensor | str | None = None,
        size: int | Sequence[int] | None = None,
        *,
        fit: Fit = "crop",
        normalize: NormalizeBy | None = None,
        ignore_index: int = 255,
        out_dtype: torch.dtype | None = torch.float32,
        out_units: OutUnits = "reflectance",
        fill: float = 0.0,
        reserve_fill: bool = False,
        min_support: float = 0.5,
        cover: Cover = "leave",
        interpolation: Interpolation = "sharp",
        band_resampling: BandResampling | None = None,
        channels_last: bool = False,
        executor: Executor = "auto",
    ) -> None:
        super().__init__()
        self.operations = nn.ModuleList(operations)
        self.sensor = None if sensor is None else get_sensor(sensor)
        self.size = None if size is None else as_size(size, "size")
        if fit not in ("crop", "resize"):
            raise ConfigurationError(f"fit={fit!r} is not 'crop' or 'resize'")
        if out_units not in ("reflectance", "dn", "db"):
            raise ConfigurationError(f"out_units={out_units!r} is not 'reflectance', 'dn' or 'db'")
        if out_units == "db" and (self.sensor is None or self.sensor.domain != "sar"):
            raise ConfigurationError("out_units='db' is for backscatter: give the sensor of a SAR image")
        integer = out_dtype is not None and not out_dtype.is_floating_point
        if integer and (out_units != "dn" or normalize is not None):
            raise ConfigurationError(
                f"out_dtype={out_dtype} would round reflectance away; give out_units='dn' and no normalize"
            )
        if interpolation not in get_args(Interpolation):
            choices = ", ".join(map(repr, get_args(Interpolation)))
            raise ConfigurationError(f"interpolation={interpolation!r} is not one of {choices}")
        if cover not in get_args(Cover):
            raise ConfigurationError(f"cover={cover!r} is not 'leave', 'zoom' or 'reflect'", argument="cover")
        if executor not in EXECUTORS:
            raise ConfigurationError(f"executor={executor!r} is not one of {', '.join(map(repr, EXECUTORS))}")
        if not 0 < min_support <= 1:
            raise ConfigurationError(f"min_support={min_support} is a share within (0, 1]")
        self.fit: Fit = fit
        self.ignore_index = ignore_index
        self.out_dtype = out_dtype
        self.out_units = out_units
        self.fill = fill
        self.reserve_fill = reserve_fill
        self.min_support = min_support
        self.cover: Cover = cover
        self.interpolation: Interpolation = interpolation
        self.band_resampling = None if band_resampling is None else checked_resampling(band_resampling)
        self.channels_last = channels_last
        self.executor: Executor = executor
        self._scale = PixelScale.of(self.sensor)
        self._normalize = normalization(normalize, self.sensor, out_units)
        self._steps: list[Step] = [self._as_step(operation) for operation in operations]
        self._list, self._nothing = OperationList.of(self._steps), OperationList.of([])
        known = [] if self.sensor is None else [band.gsd_m for band in self.sensor.bands if band.gsd_m is not None]
        self._finest_gsd_m = min(known, default=None)
        self._reaches: dict[Size, int] = {}
        if cover == "reflect":
            self._check_reflects()

    def forward(self, batch: Mapping[str, Any], context: int = 0) -> dict[str, Any]:
        """Augment a batch.

        Args:
            batch: see the class.
            context: pixels of surrounding image that `image` brings along on each side of the tile. Operations see
                the tile; what turns into its corners comes from the context.
        """
        image = batch.get("image")
        if isinstance(image, Tensor) and image.dim() == 3:
            return unbatched(self.forward(batched(batch), context))
        tiles = read_tiles(batch, self.ignore_index)
        return self._execute(batch, tiles, self._plan(batch, tiles, context))

    def plan(self, batch: Mapping[str, Any], context: int = 0) -> Plan:
        """Draw what would happen to a batch, without touching its pixels."""
        return self._plan(batch, read_tiles(batch, self.ignore_index), context)

    def apply(self, batch: Any, plan: Plan | None = None) -> Any:
        """Do to a batch what a plan says.

        `torch.nn.Module.apply(fn)`, which has the same name, still works: without a plan, the argument is `fn`.
        """
        if plan is None:
            return super().apply(batch)
        return self._execute(batch, read_tiles(batch, self.ignore_index), plan)

    def required_context(self, size: int | Sequence[int]) -> int:
        """Pixels around a tile that the operations can reach into, in training mode.

        Found from the footprints of 4096 planned tiles, so it is the same on every run; a tile beyond it is rare and
        merely has invalid corners. At most the tile's own longer side.

        Args:
            size: of the tile, one number or (height, width).
        """
        tile = as_size(size, "size")
        spec = TileSpec(bands=self._bands_for_probes(), dates=1, tile=tile, context=0)
        probes = sample_keys(0, torch.arange(_CONTEXT_PROBES))
        steps = [step for step in self._steps if isinstance(step, GeometricOperation | StockAffine | Policy)]
        if any(isinstance(step, StockAffine) for step in steps):
            probes = probes[: _CONTEXT_PROBES // 16]  # these draw one by one
        plan = make_plan(OperationList.of(steps), probes, spec, sensor=self.sensor, size=self.size, fit=self.fit)
        reached = matrices.footprint(plan.matrix, plan.size)
        beyond = torch.stack(
            (
                -reached.amin(),
                (reached[..., 0] - (tile.width - 1)).amax(),
                (reached[..., 1] - (tile.height - 1)).amax(),
            )
        ).amax()
        if beyond <= 0:
            return 0
        return min(int(beyond.ceil()) + 1, max(tile))

    def _reach(self, tile: Size) -> int:
        """`required_context`, found once for each size."""
        if tile not in self._reaches:
            self._reaches[tile] = self.required_context(tile)
        return self._reaches[tile]

    def _check_reflects(self) -> None:
        """A tile is mirrored once, at its beginning."""
        alone = next((step for step in self._steps if isinstance(step, Opaque)), None)
        after = [] if alone is None else self._steps[self._steps.index(alone) :]
        moves = [step for step in after if isinstance(step, GeometricOperation | StockAffine | Policy)]
        if alone is not None and moves:
            raise ConfigurationError(
                f"cover='reflect' mirrors the tile once, before everything else, and kornia.{alone.name} has to be run "
                "before other operations move the tile: put it behind them, or choose cover='zoom'",
                argument="cover",
            )

    @property
    def normalize(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """(mean, std) per band that the output is normalised by; None where it is not."""
        return None if self._normalize is None else (tuple(self._normalize[0]), tuple(self._normalize[1]))

    @property
    def keeps_place(self) -> bool:
        """Whether a geotransform can describe the output: no operation bends the tile."""
        return not any(isinstance(step, Opaque) and step.geometric for step in self._steps)

    def _bands_for_probes(self) -> int:
        return 1 if self.sensor is None else len(self.sensor.bands)

    def _as_step(self, operation: nn.Module) -> Step:
        if isinstance(operation, GeometricOperation):
            return operation
        if isinstance(operation, RadiometricOperation):
            operation.check_sensor(operation.sensor or self.sensor)
            return operation
        if isinstance(operation, Policy):
            for member in operation.members:
                self._as_step(member)
            return operation
        if isinstance(operation, KorniaAugmentation):
            return StockAffine(operation) if is_affine(operation) else Opaque(operation)
        raise ConfigurationError(
            f"{type(operation).__name__} is not an augmentation: operations are those of geoaug.augment or kornia's"
        )

    def _plan(self, batch: Mapping[str, Any], tiles: Tiles, context: int) -> Plan:
        tile = Size(tiles.size.height - 2 * context, tiles.size.width - 2 * context)
        if context < 0 or min(tile) < 1:
            raise ConfigurationError(
                f"context={context} does not fit an image of {tiles.size.height}x{tiles.size.width} pixels"
            )
        self._check_bands(tiles)
        spec = TileSpec(tiles.bands, tiles.dates or 1, tile, context)
        key = self._key(batch, tiles)
        cover = self.cover if self.training else "leave"
        valid = tiles.pixels.valid
        return make_plan(
            self._list if self.training else self._nothing,
            key,
            spec,
            sensor=self.sensor,
            size=self.size,
            fit=self.fit,
            acquisition=self._acquisition(batch, key, tiles.size),
            cover=cover,
            # Without surroundings, what the tile itself lacks is left as it is.
            inside=None if cover == "leave" or context == 0 or valid is None else filled(valid, context),
            margin=max(self._reach(tile) - context, 0) if cover == "reflect" else 0,
        )

    def _acquisition(self, batch: Mapping[str, Any], key: Tensor, size: Size) -> Acquisition:
        """Sun and pixel size, as far as the batch or the sensor tells."""

        def degrees(name: str) -> Tensor | None:
            value = batch.get(name)
            if value is None:
                return None
            angle = torch.as_tensor(value, dtype=torch.float32).detach()
            if angle.shape != key.shape:
                raise ConfigurationError(f"'{name}' is one angle in degrees for each of {len(key)} samples")
            return angle.to(key.device, non_blocking=True)

        transform = batch.get("transform")
        gsd: Tensor | None = None
        geotransform: Tensor | None = None
        if isinstance(transform, Tensor) and transform.shape == (len(key), 6):
            geotransform = transform.detach().to(key.device, torch.float64, non_blocking=True)
            a, b, _, d, e, f = geotransform.unbind(1)
            side = (a * e - b * d).abs().sqrt()
            # Where pixels are in degrees: the side of a square of a pixel's area, at the tile's centre.
            latitude = torch.deg2rad(d * (size.width / 2) + e * (size.height / 2) + f)
            metres = side * METRES_PER_DEGREE * latitude.cos().clamp_min(_LEAST_COSINE).sqrt()
            gsd = torch.where(side < _LARGEST_PIXEL_DEGREES, metres, side)
        elif self.sensor is not None:
            finest = self._finest_gsd_m
            gsd = None if finest is None else constant(finest, torch.float64, key.device).expand(key.shape)
        sun, view = degrees("sun_azimuth"), degrees("view_azimuth")
        apart = None if sun is None or view is None else sun - view
        elevation, zenith = degrees("sun_elevation"), degrees("view_zenith")
        return Acquisition(elevation, sun, gsd, zenith, apart, geotransform, self._resampling(batch, len(key)))

    def _resampling(self, batch: Mapping[str, Any], count: int) -> BandResampling | tuple[BandResampling, ...]:
        """By which coarse bands came to the pixels: as the user says, else as whoever resampled them does."""
        told = batch.get("band_resampling") if self.band_resampling is None else self.band_resampling
        if told is None:
            return _USUAL_RESAMPLING
        if isinstance(told, str):
            return checked_resampling(told)
        names = tuple(_USUAL_RESAMPLING if name is None else checked_resampling(name) for name in told)
        if len(names) != count:
            raise ConfigurationError(
                f"'band_resampling' is a name, or one for each of {count} samples, not {len(names)}"
            )
        return names or _USUAL_RESAMPLING

    def _check_bands(self, tiles: Tiles) -> None:
        for member in self._list.members:
            if isinstance(member.step, RadiometricOperation):
                member.step.check_sensor(member.step.sensor or self.sensor, tiles.bands)
        if self.sensor is not None and len(self.sensor.bands) != tiles.bands:
            raise ConfigurationError(
                f"the image has {tiles.bands} bands, the sensor '{self.sensor.name}' {len(self.sensor.bands)} "
                f"({' '.join(self.sensor.band_names)}); choose the image's bands with sensor.select([...])"
            )
        if self._normalize is not None and any(len(part) != tiles.bands for part in self._normalize):
            counts = " and ".join(str(len(part)) for part in self._normalize)
            raise ConfigurationError(f"normalize has {counts} numbers for an image of {tiles.bands} bands")

    def _key(self, batch: Mapping[str, Any], tiles: Tiles) -> Int[Tensor, " b"]:
        count, device = tiles.pixels.image.shape[0], tiles.pixels.image.device
        key = batch.get("key")
        if key is None:
            return random_keys(count, device)
        key = torch.as_tensor(key, dtype=torch.int64)
        if key.shape != (count,):
            raise ConfigurationError(f"'key' is one integer for each of {count} samples, not {tuple(key.shape)}")
        return key.to(device, non_blocking=True)

    def _execute(self, batch: Mapping[str, Any], tiles: Tiles, plan: Plan) -> dict[str, Any]:
        if len(plan.key) != tiles.pixels.image.shape[0]:
            raise ConfigurationError(
                f"the plan is for {len(plan.key)} samples, the batch has {tiles.pixels.image.shape[0]}"
            )
        plan = plan.to(tiles.pixels.image.device)
        pixels = tiles.pixels if plan.mirrored is None else mirrored(tiles.pixels, plan.mirrored)
        execute = executor_for(self.executor, pixels.image.device)
        for position, stage in enumerate(plan.stages):
            if isinstance(stage, FusedStage):
                first, last = position == 0, position == len(plan.stages) - 1
                work = self._work(stage, plan, tiles, position, first, last)
                done = execute(pixels, work, self._encoding(tiles.pixels.image.dtype, last))
                pixels = done if done.cloud is not None else replace(done, cloud=pixels.cloud)
            else:
                pixels = self._run_opaque(stage.step, pixels, tiles, stage.seeds)
        return {**batch, **moved_with(batch, plan), **restored(batch, pixels, tiles)}

    def _run_opaque(self, position: int, pixels: Pixels, tiles: Tiles, seeds: Tensor) -> Pixels:
        step = self._steps[position]
        assert isinstance(step, Opaque)
        if step.geometric or tiles.dates is None:
            if step.geometric and (pixels.dem is not None or pixels.cloud is not None):
                raise ConfigurationError(
                    f"kornia.{step.name} bends the tile, and neither clouds nor a 'dem' can follow it"
                )
            done = step.apply(pixels, seeds, self.ignore_index, self.min_support)
            return replace(done, dem=pixels.dem, cloud=pixels.cloud)
        # A photographic operation counts channels: it sees one date at a time.
        assert pixels.valid is not None
        dates, shape = tiles.dates, pixels.image.shape
        images = pixels.image.reshape(-1, tiles.bands, *shape[-2:])
        apart = Pixels(images, pixels.valid.repeat_interleave(dates, 0), None)
        changed = step.apply(apart, seeds, self.ignore_index, self.min_support)
        return replace(pixels, image=changed.image.reshape(shape))

    def _work(self, stage: FusedStage, plan: Plan, tiles: Tiles, position: int, first: bool, last: bool) -> Work:
        dates, device = tiles.dates or 1, plan.key.device
        source = self._scale if first else self._scale.unscaled
        target = self._target if last else self._scale.unscaled
        segments = scaled_segments(
            stage.segments,
            source,
            target,
            self._normalize if last else None,
            len(plan.key) * dates,
            tiles.bands,
            device,
        )
        decoding = None
        if source.quantity in ("amplitude", "db"):
            scale = (constant(part, torch.float32, device) for part in (source.quantification, source.offset))
            decoding = Decoding(source.quantity, *scale)
        light = None
        if source.light is not None and stage.segments:
            light = Light(*(constant(part, torch.float32, device) for part in (source.quantification, source.offset)))
        return Work(
            stage.matrix,
            stage.size,
            segments,
            plan.key,
            position * _STREAMS_OF_A_STAGE,
            dates,
            stage.band_shift,
            decoding,
            len(stage.segments) == 0 and source == target and self._normalize is None,
            1 if self.interpolation == "nearest" else stage.most_places,
            self.interpolation,
            stage.grids,
            light,
        )

    @property
    def _target(self) -> PixelScale:
        if self.out_units == "db":
            decibels = PixelScale((1.0,), (0.0,), "db")
            stored = self._scale
            plain = stored.quantity == "db" and set(stored.quantification) == {1.0} and set(stored.offset) == {0.0}
            return stored if plain else decibels
        return self._scale if self.out_units == "dn" else self._scale.unscaled

    def _encoding(self, stored: torch.dtype, last: bool) -> Encoding:
        if not last:
            return Encoding(torch.float32, 0.0, self.ignore_index, self.min_support)
        dtype = stored if self.out_dtype is None else self.out_dtype
        if not dtype.is_floating_point and self.out_units != "dn":
            raise ConfigurationError(
                f"an image of {dtype} keeps its dtype in digital numbers only; give out_units='dn' or an out_dtype"
            )
        if not dtype.is_floating_point and not torch.iinfo(dtype).min <= self.fill <= torch.iinfo(dtype).max:
            raise ConfigurationError(f"fill={self.fill} does not fit an image of {dtype}")
        return Encoding(dtype, self.fill, self.ignore_index, self.min_support, self.reserve_fill, self.channels_last)

"""The contracts an operation fulfils, on top of kornia's augmentation base classes.

An operation is two short methods. `draw` takes random numbers and returns parameters and never sees a pixel;
`matrix` (geometric) or `terms` (radiometric) turns parameters into what the operation *is*. `Compose` calls those and
resamples once; kornia's containers call the glue below, which does the same for the operation alone.
"""

import inspect
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypedDict, get_args, get_type_hints

import torch
from jaxtyping import Float
from kornia.augmentation import GeometricAugmentationBase2D, IntensityAugmentationBase2D
from kornia.augmentation.base import _BasicAugmentationBase as KorniaAugmentation
from torch import Tensor

from geoaug.augment.kernels.coarse import Light, coarse_means
from geoaug.augment.kernels.radiometry import Block, run_segments
from geoaug.augment.kernels.warp import most_places, warp
from geoaug.augment.planning.band_grids import BandGrids, band_grids
from geoaug.augment.planning.maps import Surroundings
from geoaug.augment.planning.matrices import Matrices, Size, identity, translation
from geoaug.augment.planning.plan import Params
from geoaug.augment.planning.scale import PixelScale, scaled_segments
from geoaug.augment.planning.segments import Affine, OperationSegment, Segment, Stencil, StencilKernel
from geoaug.augment.planning.terms import Terms
from geoaug.augment.planning.tree import map_tensors
from geoaug.errors import ConfigurationError
from geoaug.presets import GENERAL
from geoaug.rng.draws import Draws, random_keys
from geoaug.sensors import Sensor, get_sensor
from geoaug.small_arrays import constant

Range = tuple[float, float]

_GATE = "batch_prob"


@dataclass(frozen=True, slots=True)
class TileShape:
    """What an operation may know of the tiles before it draws: counts, sizes and circumstances, no pixels.

    Attributes:
        batch: rows to draw for: samples, or the dates of samples.
        bands: of one date.
        size: of the tile where the operation stands.
        device: of the parameters.
        sun_elevation: degrees over the horizon, where the batch tells.
        sun_azimuth: degrees clockwise from the top of the tile as the operation sees it, turned and flipped as it is;
            where the batch tells.
        gsd_m: metres to a pixel of the tile as the operation sees it; None where it is not known.
        view_zenith: degrees between the vertical and the way to the sensor, where the batch tells.
        relative_azimuth: degrees between the azimuths of sun and sensor, where the batch tells.
        sensor: whose bands the image has, where it is known.
        source: from pixel centres (x, y, 1) of the tile as the operation sees it to those of the tile as it was read:
            which way the sensor flew, and which way its lines run; None where nothing has moved.
        grids: the pixels of bands that are coarser than the tile, on the tile as it was read; None where none are.
        grids_here: the same on the tile as the operation sees it.
    """

    batch: int
    bands: int
    size: Size
    device: torch.device
    sun_elevation: Float[Tensor, " b"] | None = None
    sun_azimuth: Float[Tensor, " b"] | None = None
    gsd_m: Float[Tensor, " b"] | None = None
    view_zenith: Float[Tensor, " b"] | None = None
    relative_azimuth: Float[Tensor, " b"] | None = None
    sensor: Sensor | None = None
    source: Float[Tensor, "b 2 3"] | None = None
    grids: BandGrids | None = None
    grids_here: BandGrids | None = None


class BatchOptions(TypedDict, total=False):
    """What an operation that always applies takes by name, besides its own parameters.

    Attributes:
        same_on_batch: draw once for the whole batch.
        keepdim: keep the rank of an unbatched input.
    """

    same_on_batch: bool
    keepdim: bool


class GeometricOptions(TypedDict, total=False):
    """What a geometric operation takes by name, besides its own parameters.

    Attributes:
        p: probability that it is applied to a sample.
        same_on_batch: draw once for the whole batch.
        keepdim: keep the rank of an unbatched input.
        strength: factor on how far drawn parameters are from doing nothing; 1 is the range as given.
    """

    p: float
    same_on_batch: bool
    keepdim: bool
    strength: float


class RadiometricOptions(TypedDict, total=False):
    """What a radiometric operation takes by name, besides its own parameters.

    Attributes:
        sensor: name, YAML path or `Sensor` whose bands the image has, for use outside `Compose`; inside, `Compose`
            says which.
        p: probability that it is applied to a sample.
        same_on_batch: draw once for the whole batch.
        keepdim: keep the rank of an unbatched input.
        strength: factor on how far drawn parameters are from doing nothing; 1 is the range as given.
        same_on_time: draw once for all dates of a time series, instead of once for each.
    """

    sensor: Sensor | str | None
    p: float
    same_on_batch: bool
    keepdim: bool
    strength: float
    same_on_time: bool


_OPTION_DEFAULTS: Mapping[str, Any] = {
    "sensor": None,
    "same_on_batch": False,
    "keepdim": False,
    "strength": 1.0,
    "same_on_time": False,
}


class _Signature:
    """The signature of a class, with the options that its constructor takes as `**options` written out.

    `help`, completion and recipes read it. Seen from an instance there is none: that would be of its call.
    """

    def __get__(self, instance: object, owner: type["Operation"]) -> inspect.Signature:
        if instance is not None:
            raise AttributeError("__signature__")
        plain = inspect.signature(owner.__init__)
        try:
            types = get_type_hints(owner.__init__)
        except NameError:  # an annotation that only type checkers can resolve
            types = {}
        parameters: list[inspect.Parameter] = []
        for parameter in list(plain.parameters.values())[1:]:
            given = types.get(parameter.name, parameter.annotation)
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
                parameters.append(parameter.replace(annotation=given))
                continue
            options = next(iter(get_args(given)), None)
            if options is None:
                parameters.append(parameter)
                continue
            parameters += [
                inspect.Parameter(
                    name, inspect.Parameter.KEYWORD_ONLY, default=_OPTION_DEFAULTS.get(name), annotation=of
                )
                for name, of in get_type_hints(options).items()
                if name not in plain.parameters
            ]
        usual = getattr(owner, "default_p", None)
        return plain.replace(
            parameters=[
                part.replace(default=usual, annotation=float) if part.name == "p" and part.default is None else part
                for part in parameters
            ]
        )


class Operation:
    """Whatever geoaug itself offers for the list of `Compose`, and a recipe may name."""

    __signature__ = _Signature()


class _KeyedParameters(Operation, KorniaAugmentation):
    """Parameters drawn from keys instead of torch's generator, and the glue that kornia's containers expect."""

    default_p: ClassVar[float] = 0.5
    """Probability that the operation is applied to a sample where the constructor is given none."""

    neutral: ClassVar[Mapping[str, float]] = {}
    """Parameters that say how much, with the value at which nothing happens: what `strength` scales towards."""

    gated = False
    """Whether something else than `p` may close the gate."""

    def __init__(self, p: float | None, same_on_batch: bool, keepdim: bool, strength: float = 1.0) -> None:
        p = self.default_p if p is None else p
        if not 0 <= p <= 1:
            raise ConfigurationError(f"p is a probability in 0..1, not {p}", argument="p")
        if not 0 <= strength <= 10:
            raise ConfigurationError(
                f"strength={strength} is a factor within [0, 10]; 1 is the range as given", argument="strength"
            )
        if strength != 1 and not self.neutral and type(self).weakened is _KeyedParameters.weakened:
            raise ConfigurationError(
                f"strength={strength}: {type(self).__name__} is done or not done, by p; it has no strength",
                argument="strength",
            )
        super().__init__(p=p, p_batch=1.0, same_on_batch=same_on_batch, keepdim=keepdim)
        self.strength = float(strength)

    @abstractmethod
    def draw(self, draws: Draws, shape: TileShape) -> Params:
        """Parameters of every sample, as if the operation were applied to all of them.

        Args:
            draws: random numbers, a row for each row of the tiles. Take the same numbers whatever they turn out to be:
                what one sample draws must not change what another gets.
            shape: counts, sizes and circumstances of the tiles; no pixels.

        Returns:
            Tensors with `shape.batch` rows, by name. They are recorded in the plan and all that `matrix`, `terms`,
            `segments` or `kernel` see again, so whatever of the circumstances matters has to stand among them.
        """

    def sample(self, draws: Draws, shape: TileShape) -> Params:
        """Parameters, and the gate: which samples the operation applies to."""
        gate = draws.chance(self.p)
        params = self.draw(draws, shape)
        if self.strength != 1.0:
            params = self.weakened(params, torch.full_like(gate, self.strength))
        return {**params, _GATE: gate}

    def weakened(self, params: Params, strength: Float[Tensor, " b"]) -> Params:
        """Parameters at a share of their distance from doing nothing: 0 is nothing, 1 as drawn, more beyond.

        Args:
            params: as `draw` gave them.
            strength: per row.
        """
        changed = dict(params)
        for name, nothing in self.neutral.items():
            if name in params:
                share = strength.reshape(-1, *[1] * (params[name].dim() - 1))
                drawn = params[name].double()
                changed[name] = nothing + (drawn - nothing) * share
        return changed

    def forward_parameters(self, batch_shape: tuple[int, ...]) -> Params:
        """Parameters for kornia's containers, under keys drawn from torch's generator."""
        size, sensor = Size(*batch_shape[-2:]), getattr(self, "sensor", None)
        shape = TileShape(batch_shape[0], batch_shape[1], size, torch.device("cpu"), sensor=sensor)
        key = random_keys(shape.batch)
        if self.same_on_batch:
            key = key[:1].expand(shape.batch).clone()
        params = self.sample(Draws(key, stream=0), shape)
        return {**params, "key": key, "forward_input_shape": torch.tensor(batch_shape)}

    def arguments(self) -> dict[str, Any]:
        """The constructor arguments that would build this operation again, for recipes and provenance."""
        given = {"p": (self.p, 1.0), "strength": (self.strength, 1.0)}
        return {**self.flags, **{name: value for name, (value, default) in given.items() if value != default}}


class GeometricOperation(_KeyedParameters, GeometricAugmentationBase2D):
    """An operation that moves pixels: one 3x3 matrix per sample, and possibly another tile size.

    Alone in a kornia container it resamples by itself, bilinearly for images and nearest for masks, in float32
    whatever the image's dtype; pixels from outside the image are 0, and NaN pixels contribute nothing.

    A subclass has `draw` and `matrix`, `output_size` where it changes the size of the tile, and `shrinkage` where a
    pixel of the output may cover several of the input. Its constructor takes `**options: Unpack[GeometricOptions]` and
    hands them on. Methods may be called from several threads at once: they must not change the operation.

    Args:
        p: probability that it is applied to a sample; None: `default_p` of the class.
        same_on_batch: see `GeometricOptions`, also for the following.
        keepdim: likewise.
        strength: likewise.
    """

    def __init__(
        self, p: float | None = None, same_on_batch: bool = False, keepdim: bool = False, strength: float = 1.0
    ) -> None:
        super().__init__(p, same_on_batch, keepdim, strength)

    @abstractmethod
    def matrix(self, params: Params, shape: TileShape) -> Matrices:
        """Matrices (b, 3, 3), float64, from input to output pixel centres, as if applied to all samples.

        Args:
            params: as `draw` gave them, perhaps weakened by `strength`.
            shape: as `draw` saw it.
        """

    def output_size(self, size: Size) -> Size:
        """Size of the output tile; the input's unless the operation says otherwise."""
        return size

    def shrinkage(self, size: Size) -> float:
        """How many pixels of a tile of `size` an output pixel may cover along an axis at most; 1 where none shrinks."""
        return 1.0

    def gated_matrix(self, params: Params, shape: TileShape) -> Matrices:
        """The matrix where the operation applies, the identity elsewhere."""
        matrix = self.matrix(params, shape)
        if self.p == 1.0 and not self.gated:
            return matrix
        applied = params[_GATE].to(matrix.device) > 0.5
        return torch.where(applied[:, None, None], matrix, identity(shape.batch, matrix.device))

    def compute_transformation(
        self, input: Tensor, params: dict[str, Tensor], flags: dict[str, Any]
    ) -> Float[Tensor, "b 3 3"]:
        return self.matrix(params, self._recorded_shape(params)).to(input)

    def apply_transform(
        self, input: Tensor, params: dict[str, Tensor], flags: dict[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        # The matrix handed in has the image's precision; half precision would sample wrong places.
        shape = self._recorded_shape(params)
        most = most_places(self.shrinkage(shape.size))
        return warp(input, self.matrix(params, shape), self.output_size(shape.size), most=most)

    def apply_transform_mask(
        self, input: Tensor, params: dict[str, Tensor], flags: dict[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        shape = self._recorded_shape(params)
        return warp(input, self.matrix(params, shape), self.output_size(shape.size), mode="nearest")

    def inverse_transform(
        self,
        input: Tensor,
        flags: dict[str, Any],
        transform: Tensor | None = None,
        size: tuple[int, int] | None = None,
    ) -> Tensor:
        if transform is None or size is None:
            raise ConfigurationError(f"{type(self).__name__}: an inverse needs the matrix and the size of the input")
        return warp(input, transform.double(), Size(*size))

    @staticmethod
    def _recorded_shape(params: Params) -> TileShape:
        batch, bands, height, width = params["forward_input_shape"].tolist()
        return TileShape(batch, bands, Size(height, width), params["key"].device)


class RadiometricOperation(_KeyedParameters, IntensityAugmentationBase2D):
    """An operation on pixel values: a few segments, mostly `y = gain*x + offset + sqrt(floor + slope*x)*n` per band.

    Values are reflectance (linear power for SAR): a fraction that may exceed 1, never clamped. NaN pixels stay NaN.
    Under a sensor with a `transfer`, an operation that runs alone takes and gives display values, and works in
    reflectance.

    A subclass has `draw`, and either `terms` or, where terms cannot say it, `segments`; one that looks at neighbours is
    a `StencilOperation`. Its constructor takes `**options: Unpack[RadiometricOptions]` and hands them on. Methods may
    be called from several threads at once: they must not change the operation.

    Args:
        **options: see `RadiometricOptions`.
    """

    needs_sensor = False
    """Whether the operation cannot work without knowing the bands."""

    domain: str | None = "optical"
    """The kind of sensor whose images the operation describes; None: any."""

    for_pictures = False
    """Whether it is part of how a picture of 8 bits is made for the eye, which no other image goes through."""

    follows: str | None = None
    """Class name of the operation whose parameters it shares, if that stands in the same list."""

    def __init__(
        self,
        sensor: Sensor | str | None = None,
        p: float | None = None,
        same_on_batch: bool = False,
        keepdim: bool = False,
        strength: float = 1.0,
        same_on_time: bool = False,
    ) -> None:
        super().__init__(p, same_on_batch, keepdim, strength)
        self.sensor = None if sensor is None else get_sensor(sensor)
        self.same_on_time = same_on_time

    def terms(self, params: Params, shape: TileShape) -> Terms:
        """Terms of every row and band, as if the operation were applied to all rows.

        Args:
            params: as `draw` gave them, perhaps weakened by `strength`.
            shape: as `draw` saw it: rows, bands, size, sensor. Rows are samples, or all dates of all samples.
        """
        raise NotImplementedError(f"{type(self).__name__} is more than terms; ask for its segments")

    def segments(self, params: Params, shape: TileShape) -> tuple[OperationSegment, ...]:
        """What the operation is, as if it were applied to all rows; its terms, where nothing else is said."""
        return (Affine(self.terms(params, shape)),)

    def following(self, params: Params, leader: Params) -> Params:
        """Its parameters beside those of the operation that it follows."""
        return params

    def arguments(self) -> dict[str, Any]:
        return {**super().arguments(), **({"same_on_time": True} if self.same_on_time else {})}

    def check_sensor(self, sensor: Sensor | None, bands: int | None = None) -> None:
        """Refuse a sensor that the operation cannot describe, and an image with another number of bands."""
        name = type(self).__name__
        if sensor is None:
            if self.needs_sensor:
                raise ConfigurationError(
                    f"{name} needs to know the bands: give sensor=, such as 'sentinel-2-l2a' or a Sensor"
                )
            return
        if self.domain is not None and sensor.domain != self.domain:
            raise ConfigurationError(
                f"{name} is for {self.domain} images; the sensor '{sensor.name}' is {sensor.domain}, for which "
                f"there is the preset '{GENERAL[sensor.domain]}'"
            )
        if self.for_pictures and sensor.transfer is None and not sensor.of_8_bits:
            raise ConfigurationError(
                f"{name} is for pictures of 8 bits made for the eye; the sensor '{sensor.name}' measures reflectance: "
                "leave the operation out, or give a sensor with a transfer (such as 'rgb')"
            )
        if bands is not None and bands != len(sensor.bands):
            raise ConfigurationError(
                f"{name}: the image has {bands} bands, the sensor '{sensor.name}' {len(sensor.bands)} "
                f"({' '.join(sensor.band_names)}); choose the image's bands with sensor.select([...])"
            )

    def gated_segments(self, params: Params, shape: TileShape) -> tuple[OperationSegment, ...]:
        """The segments where the operation applies, nothing elsewhere."""
        segments = self.segments(params, shape)
        if self.p == 1.0 and not self.gated:
            return segments
        gate = params[_GATE] > 0.5
        return tuple(part.where(gate) for part in segments)

    def apply_transform(
        self, input: Tensor, params: dict[str, Tensor], flags: dict[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        self.check_sensor(self.sensor, input.shape[1])
        values = input.float()
        valid = torch.isfinite(values).all(1, keepdim=True)
        values = torch.where(torch.isfinite(values), values, 0.0)
        size = Size(*input.shape[-2:])
        light = None
        if self.sensor is not None and self.sensor.transfer is not None:
            light = Light(*(constant((number,), torch.float32, input.device) for number in (1.0, 0.0)))
        around = Surroundings(
            cells=lambda: coarse_means(input, valid, identity(len(input), input.device), size, light=light)
        )
        grids = None if self.sensor is None else _grids_of(self.sensor, len(input), input.device)
        block = Block(values, valid, around, params["key"].to(input.device), stream=0, grids=grids)
        shape = TileShape(
            input.shape[0],
            input.shape[1],
            size,
            params["key"].device,
            sensor=self.sensor,
            grids=grids,
            grids_here=grids,
        )

        def ready(tensor: Tensor) -> Tensor:
            return (tensor.float() if tensor.dtype == torch.float64 else tensor).to(input.device)

        segments: tuple[Segment, ...] = self.segments(params, shape)
        if self.sensor is not None and self.sensor.transfer is not None:
            shown = PixelScale.of(self.sensor).unscaled
            rows, bands = input.shape[:2]
            segments = scaled_segments(segments, shown, shown, None, rows, bands, params["key"].device)
        run_segments(block, map_tensors(segments, ready))
        return torch.where(torch.isfinite(input), block.values, input.float()).to(input.dtype)


def _grids_of(sensor: Sensor, batch: int, device: torch.device) -> BandGrids | None:
    """The pixels of a sensor's bands on tiles whose pixels are those of its finest band."""
    return band_grids(tuple(band.gsd_m for band in sensor.bands), None, None, None, "cubic", batch, device)


class StencilOperation(RadiometricOperation):
    """An operation that looks at neighbours: a blur, a coarser grid, a morphological filter, a median.

    A subclass has `draw` and `kernel`. What touches pixels is the kernel, an object of its own that the plan records
    (see `StencilKernel`). It runs on every executor: where that has no faster way, in plain torch.
    """

    @abstractmethod
    def kernel(self, params: Params, shape: TileShape) -> StencilKernel:
        """What is done to the pixels of every row, as if the operation were applied to all of them.

        Args:
            params: as `draw` gave them, perhaps weakened by `strength`.
            shape: as `draw` saw it.
        """

    def segments(self, params: Params, shape: TileShape) -> tuple[OperationSegment, ...]:
        every = torch.ones(shape.batch, dtype=torch.bool, device=shape.device)
        return (Stencil(self.kernel(params, shape), every),)


class RegistrationOperation(RadiometricOperation):
    """An operation that takes each band from beside where it lies; in `Compose` it joins the single resampling."""

    @abstractmethod
    def band_shift(self, params: Params) -> Float[Tensor, "r c 2"]:
        """x and y in pixels of every row and band, as if the operation were applied to all of them."""

    def gated_shift(self, params: Params) -> Float[Tensor, "r c 2"]:
        """The shift where the operation applies, 0 elsewhere."""
        return torch.where(params[_GATE][:, None, None] > 0.5, self.band_shift(params), 0.0)

    def apply_transform(
        self, input: Tensor, params: dict[str, Tensor], flags: dict[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        self.check_sensor(self.sensor, input.shape[1])
        shift = self.band_shift(params).flatten(0, 1).double().to(input.device)
        size = Size(*input.shape[-2:])
        moved = warp(input.flatten(0, 1)[:, None], translation(-shift[:, 0], -shift[:, 1]), size)
        return moved.view_as(input)


def as_range(
    value: float | Sequence[float],
    name: str,
    *,
    low: float = -float("inf"),
    high: float = float("inf"),
    centre: float | None = None,
) -> Range:
    """A checked (low, high) pair.

    Args:
        value: a pair, or one number: `centre` plus and minus it where a centre is given, else that number alone.
        name: of the argument, for the error.
        low: least value allowed.
        high: greatest value allowed.
        centre: middle of the range that a single number spans.
    """
    if isinstance(value, (int, float)):
        pair = (float(value), float(value)) if centre is None else (centre - value, centre + value)
    else:
        if len(value) != 2:
            raise ConfigurationError(f"{name} is a number or a pair [low, high], not {list(value)}", argument=name)
        pair = (float(value[0]), float(value[1]))
    if isinstance(value, (int, float)) and centre is None and not low <= value <= high:
        raise ConfigurationError(f"{name}={value:g} is not within [{low:g}, {high:g}]", argument=name)
    if not low <= pair[0] <= pair[1] <= high:
        raise ConfigurationError(
            f"{name}={list(pair)} is not an increasing pair within [{low:g}, {high:g}]", argument=name
        )
    return pair


def as_size(value: int | Sequence[int], name: str) -> Size:
    """A checked tile size from one number or (height, width)."""
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or any(not isinstance(side, int) or side < 1 for side in pair):
        raise ConfigurationError(
            f"{name} is a number of pixels or a pair [height, width] of at least 1, not {value}", argument=name
        )
    return Size(*pair)

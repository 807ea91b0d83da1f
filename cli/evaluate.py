"""`geoaug validate` and `geoaug test`: how well a model file does on data with labels."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from geoaug.cli import options
from geoaug.cli.console import print_out, stdout_console
from geoaug.cli.fit import CONTEXT_SETTINGS, Config, dotted, on_terminal, show_metrics

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["CONTEXT_SETTINGS", "measure", "validate"]

Model = Annotated[
    str | None,
    typer.Argument(
        metavar="[MODEL]", help="A model file. Default: that of the configuration's folder.", show_default=False
    ),
]
Data = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        "-d",
        help="A catalog, a folder, or files to measure on; may be repeated. Default: the data of the training.",
        show_default=False,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="Folder for the metrics and the confusion matrix as a picture.", show_default=False
    ),
]
SplitName = Annotated[
    str | None,
    typer.Option("--split", help="Of the catalog, where it has another name.", show_default=False),
]

IgnoreGsd = Annotated[bool, typer.Option("--ignore-gsd", help="Measure at any ground sampling distance, as it is.")]


def _measuring(how: Literal["validate", "test"], described: str) -> Callable[..., None]:
    """The command for one of the two splits; all else of them is the same."""

    def command(
        context: typer.Context,
        model: Model = None,
        config: Config = None,
        data: Data = None,
        split: SplitName = None,
        labels: options.Labels = None,
        output: Output = None,
        ignore_gsd: IgnoreGsd = False,
        device: options.Device = "auto",
    ) -> None:
        from geoaug.errors import ConfigurationError

        extra = context.args
        if config is not None and model is not None and model.startswith("--"):
            extra, model = [model, *context.args], None  # a value of the configuration, taken for the argument
        overrides = dotted(extra)
        if overrides and config is None:
            raise ConfigurationError(f"{overrides[0]}: values of a configuration are overridden together with --config")
        if config is not None and not config.is_file():
            raise ConfigurationError(f"{config}: no such configuration")
        if config is None and model is None:
            raise ConfigurationError("name a model file, or a --config whose folder holds one")
        values: dict[str, Any] = {}
        if data:
            values["source"] = data[0] if len(data) == 1 else list(data)
        if labels is not None:
            values["labels"] = labels
        if split is not None:
            values["names"] = {"val" if how == "validate" else "test": split}
        from geoaug.models.fit.fitting import evaluate

        found = evaluate(
            how,
            model=model,
            arguments=[] if config is None else ["--config", str(config), *overrides],
            data=values,
            folder=output,
            device=device,
            ignore_gsd=ignore_gsd,
            bar=on_terminal(),
        )
        show_metrics({name: value for name, value in found.items() if name.count("/") == 1})
        classes = _by_class(found)
        if classes is not None:
            stdout_console().print(classes)
        if output is not None:
            print_out(f"wrote    {output}")

    command.__doc__ = described
    return command


validate = _measuring(
    "validate",
    """Measure a model on the validation split of the data that it was trained on, or of others.

    [dim]geoaug validate trained/model.safetensors[/dim]
    """,
)
measure = _measuring(
    "test",
    """Measure a model on the test split of the data that it was trained on, or of others.

    [dim]geoaug test trained/model.safetensors --data other.parquet --split test[/dim]
    """,
)


def _by_class(metrics: dict[str, float]) -> "Table | None":
    from rich.markup import escape
    from rich.table import Table

    found: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        parts = name.split("/", 2)
        if len(parts) == 3:
            found.setdefault(parts[2], {})[parts[1]] = value
    if not found:
        return None
    heads = list(next(iter(found.values())))
    table = Table(box=None, padding=(0, 1))
    table.add_column("class")
    for head in heads:
        table.add_column("recall" if head == "accuracy" else head, justify="right")
    for name, values in found.items():
        table.add_row(escape(name), *(f"{values[head]:.3f}" if head in values else "" for head in heads))
    return table

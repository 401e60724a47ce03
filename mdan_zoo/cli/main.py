"""The command line: parse, call the library, print.

Exit status: 0 if all went well, 1 if something asked for could not be done while the rest could (a
image predicted, a model downloaded or verified), 2 for anything that was asked wrongly, 130 after
Ctrl-C, 141 if the reader of the output went away.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import io
import json
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from mdan_zoo._util.allocator import keep_freed_memory
from mdan_zoo._util.files import open_atomically, refuse_input
from mdan_zoo._version import __version__
from mdan_zoo.cli.dataset import add_parser as add_dataset_parser
from mdan_zoo.cli.demo import add_parser as add_demo_parser
from mdan_zoo.cli.evaluate import add_parser as add_evaluate_parser
from mdan_zoo.cli.explain import add_parser as add_explain_parser
from mdan_zoo.cli.publish import add_parser as add_publish_parser
from mdan_zoo.cli.split import add_parser as add_split_parser
from mdan_zoo.cli.train import add_parser as add_train_parser
from mdan_zoo.cli.weights import add_parsers as add_hub_parsers
from mdan_zoo.errors import (
    ImageError,
    InputError,
    ManifestError,
    MdanZooError,
    UnknownNameError,
)
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.inference.prediction import BRANCHES, DECODES, Prediction
from mdan_zoo.weights import fetch
from mdan_zoo.weights.manifest import ManifestEntry, load_manifest
from mdan_zoo.zoo.factory import DEFAULT_MODEL, get_config, get_model_hierarchy, list_models

if TYPE_CHECKING:
    from typing import TypeAlias

    Subparsers: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status.

    Args:
        arguments: The command and its arguments; by default those of the process.
    """
    if sys.stdout is None:  # closed by the shell
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - as long as the process
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal may lack some characters
    options = _parser().parse_args(arguments)
    try:
        with _plain_warnings():
            status: int = options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still in the buffer would fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return 130
    except (MdanZooError, OSError) as error:
        print(f"mdan-zoo: error: {error}", file=sys.stderr)
        return 2
    return status


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Tell warnings on stderr in one line, without the place in the code that gave them."""

    def line_of(message: Warning | str, *place: object, **more: object) -> str:
        del place, more
        return f"mdan-zoo: warning: {message}\n"

    before = warnings.formatwarning
    warnings.formatwarning = line_of
    try:
        yield
    finally:
        warnings.formatwarning = before


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("mdan-zoo", description="Which emotion does an image evoke?")
    parser.add_argument("--version", action="version", version=f"mdan-zoo {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_list(subparsers)
    _add_info(subparsers)
    _add_predict(subparsers)
    add_explain_parser(subparsers)
    add_demo_parser(subparsers)
    add_hub_parsers(subparsers)
    add_publish_parser(subparsers)
    add_dataset_parser(subparsers)
    add_split_parser(subparsers)
    add_train_parser(subparsers)
    add_evaluate_parser(subparsers)
    return parser


# list


def _add_list(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser("list", help="list the models")
    parser.add_argument("pattern", nargs="?", default="*", help="such as 'mdan_*8'")
    parser.add_argument("--pretrained", action="store_true", help="only those with weights")
    parser.set_defaults(run=_list)


def _list(options: argparse.Namespace) -> int:
    names = list_models(options.pattern, pretrained=options.pretrained)
    if not names:
        kind = "model with released weights" if options.pretrained else "model"
        raise UnknownNameError(f"there is no {kind} whose name matches {options.pattern!r}")
    manifest = load_manifest()
    header = ("NAME", "DATA SET", "CLASSES", "BACKBONE", "PARAMETERS", "STATUS")
    rows = [header, *(_list_row(name, manifest.get(name)) for name in names)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
    return 0


def _list_row(name: str, entry: ManifestEntry | None) -> tuple[str, ...]:
    parameters = f"{entry.parameters / 1e6:.2f} M" if entry else "-"
    status = entry.status if entry else "not in the manifest"
    try:
        config, tree = get_config(name), get_model_hierarchy(name)
    except ManifestError:  # one incomplete entry must not hide all other models
        return name, "-", "-", "-", parameters, status
    sizes = "/".join(str(size) for size in tree.sizes)
    return name, config.dataset, sizes, config.backbone, parameters, status


# info


def _add_info(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser("info", help="say what is known of a model")
    parser.add_argument("name")
    parser.add_argument("--json", action="store_true", help="as one JSON object")
    parser.set_defaults(run=_info)


def _info(options: argparse.Namespace) -> int:
    config = get_config(options.name)
    hierarchy = get_model_hierarchy(options.name)
    entry = load_manifest().get(options.name)
    weights = dataclasses.asdict(entry) if entry else {}
    about = {**config.to_dict(), "name": options.name}
    if options.json:
        known = {"config": about, "hierarchy": hierarchy.to_dict(), "weights": weights}
        print(json.dumps(known, indent=2))
        return 0
    shown = {key: weights.get(key) for key in ("status", "parameters", "licences", "reason")}
    shown["metrics"] = _metrics((weights.get("details") or {}).get("metrics"))
    shown["training command"] = weights.get("command")
    if entry is not None and entry.released:
        shown["file"] = f"{entry.file}, {entry.size:,} bytes, sha256 {entry.sha256}"
        shown["sources"] = "\n".join(map(str, entry.sources))
        shown["on this machine"] = str(fetch.find_local(entry) or "no")
    print("\n".join(_outline({**about, "hierarchy": str(hierarchy), **shown})))
    return 0


def _metrics(metrics: Any) -> Any:
    """Return metrics with a line for each row of their table; others as they are."""
    if not isinstance(metrics, Mapping) or "rows" not in metrics:
        return metrics
    lines = []
    for row in metrics["rows"]:
        numbers = {key: value for key, value in row.items() if _is_number(value)}
        cells = [
            f"{key} {value:.3f}" + (f" ± {numbers[spread]:.3f}" if spread in numbers else "")
            for key, value in numbers.items()
            for spread in [f"{key}_sd_seeds"]
            if "_sd_" not in key
        ]
        lines.append(f"{row.get('model', '')}, {row.get('branch', '')}: {', '.join(cells)}")
    return {**metrics, "rows": "\n".join(lines)}


def _is_number(value: object) -> bool:
    if isinstance(value, int):
        return abs(value) < 1e15  # a whole number may be too large for a decimal fraction
    return isinstance(value, float)


def _outline(values: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Yield "key: value" lines; what has several lines itself comes indented below its key."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield f"{indent}{key}:"
            yield from _outline(value, indent + "  ")
        elif isinstance(value, str) and "\n" in value:
            yield f"{indent}{key}:"
            yield from (f"{indent}  {line}" for line in value.splitlines())
        elif isinstance(value, (list, tuple)):
            yield f"{indent}{key}: " + ", ".join(str(item) for item in value)
        elif value not in (None, ""):
            yield f"{indent}{key}: {value}"


# predict


def _add_predict(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser("predict", help="predict the emotions that images evoke")
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGE", help="a file, a URL, or a folder with images")
    add("--model", metavar="NAME", help=f"a model with released weights (default {DEFAULT_MODEL})")
    add("--checkpoint", type=Path, metavar="FILE", help="a weight file to use instead")
    add("--format", choices=_LINES, default="text", help="json is one object a line")
    add("--output", type=Path, metavar="FILE", help="write to a file, which appears when complete")
    add("--batch-size", type=int, metavar="N", help="images at once (2 on a CPU, else 32)")
    add("--device", help="such as cpu or cuda:0 (default: CUDA where there is any)")
    add("--dtype", default="float32", help="float32 (default), bfloat16 or float16")
    add("--branch", choices=BRANCHES, default="overall", help="whose probabilities are read")
    add("--decode", choices=DECODES, default="consistent", help="a path of the tree, or each level")
    parser.set_defaults(run=_predict)


def _predict(options: argparse.Namespace) -> int:
    images = _find_images(options.images)
    if options.output is not None:
        refuse_input(options.output, images)

    from tqdm import tqdm

    from mdan_zoo.inference.predictor import Predictor

    keep_freed_memory()
    predictor = Predictor(
        options.model,
        checkpoint=options.checkpoint,
        device=options.device,
        dtype=options.dtype,
        branch=options.branch,
        decode=options.decode,
    )
    stream = predictor.stream(images, batch_size=options.batch_size)
    lines_are_seen = options.output is None and sys.stdout.isatty()
    status = 0
    with (
        _open_output(options.output) as file,
        closing(stream) as predictions,
        tqdm(
            total=len(images),
            unit="image",
            disable=None if len(images) > 1 else True,  # None: unless stderr is a terminal
            leave=not lines_are_seen,
        ) as bar,
    ):
        if options.format == "csv":
            file.write(_csv_line(_csv_header(predictor.hierarchy)))
        for prediction in predictions:
            line = _LINES[options.format](prediction)
            if lines_are_seen:
                bar.write(line, end="")  # above the bar, which moves down
            else:
                file.write(line)
            bar.update()
            if file is sys.stdout:
                file.flush()  # results show as they come, and a reader who went away is noticed
            if prediction.error is not None:
                status = 1
    return status


def _find_images(arguments: Sequence[str]) -> list[str | Path]:
    """Return the images that are meant, those of a folder in its place."""
    from mdan_zoo.images.load import find_images

    images: list[str | Path] = []
    empty = []
    for argument in arguments:
        inside = find_images(argument) if os.path.isdir(argument) else [argument]
        if not inside:
            empty.append(argument)
        images += inside or [argument]  # an empty folder gets its line with an error
    if len(empty) == len(images):
        raise ImageError(f"there are no images in the folder {', '.join(empty)}")
    return images


@contextmanager
def _open_output(path: Path | None) -> Iterator[TextIO]:
    """Give stdout, or a file that takes its name only when the block has ended without an error."""
    if path is None:
        yield sys.stdout
        return
    if not path.parent.is_dir() or (path.exists() and not path.is_file()):
        raise InputError(f"--output must be a file in a folder that exists, not {path}")
    with _ended_by_sigterm(), open_atomically(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="")
        yield text
        text.detach()  # what is in its buffer goes to the file, which stays open


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the block as an error does, so that nothing half-written stays."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread gets signals
        return

    def end(number: int, frame: object) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _text_line(prediction: Prediction) -> str:
    return f"{prediction.image}  {prediction}\n"


def _json_line(prediction: Prediction) -> str:
    return json.dumps(prediction.to_dict()) + "\n"


def _csv_header(hierarchy: Hierarchy) -> list[str]:
    columns = ["image", "error"]
    for level, names in zip(hierarchy.level_names, hierarchy.levels, strict=True):
        columns += [f"{level}_label", f"{level}_score", *(f"{level}:{name}" for name in names)]
    return columns


def _prediction_csv_line(prediction: Prediction) -> str:
    row: list[object] = [prediction.image, prediction.error]
    for level in prediction.levels:
        row += [level.label, level.score, *level.scores.values()]
    width = len(_csv_header(prediction.hierarchy))
    return _csv_line(row + [None] * (width - len(row)))


def _csv_line(row: Sequence[object]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(row)
    return buffer.getvalue()


_LINES = {"text": _text_line, "json": _json_line, "csv": _prediction_csv_line}

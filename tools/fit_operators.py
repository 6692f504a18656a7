"""Fit kernel curves to operator tables.

``python tools/fit_operators.py FOLDER [--op gemm] [--device h100_sxm]``: FOLDER holds
``DEVICE_OPERATOR.csv`` files. Fits every kernel of enough rows (llmplan/perf/fitting.py); rows
that a trap of its operator names are left out. Prints medians per device and operator, and with
``--write`` updates ``hardware/profiles/DEVICE.yaml``. Half of the rows can be kept back with
``--split`` to see how far a fit to the others reaches.
"""

import argparse
import datetime as dt
import sys
from pathlib import Path

import numpy as np
import yaml

from llmplan.hardware.catalogue import device_of_stem
from llmplan.perf.fitting import LEAST_ROWS, described, errors, fitted_parameters
from llmplan.perf.rates import rates_of
from llmplan.perf.registry import OPERATORS
from llmplan.perf.tables import kernel_rows

SOURCES = {
    "aic": "operator tables of ai-dynamo/aiconfigurator 0.12.0 (Apache-2.0), log-spaced sample",
    "llmcompass": "figure 5 data of PrincetonUniversity/LLMCompass (BSD-3-Clause)",
    "vidur": "profiles of microsoft/vidur (MIT), log-spaced sample",
}
"""By the first word of ``src``."""
TARGET = Path(__file__).parent.parent / "hardware" / "profiles"


def main(argv: list[str]) -> int:
    """Fit, print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--op", action="append", choices=sorted(OPERATORS))
    parser.add_argument("--device", action="append", help="stem of a file, as h100_sxm")
    parser.add_argument("--split", action="store_true", help="fit to every other row")
    parser.add_argument("--kernels", action="store_true", help="print every kernel")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args(argv)
    fitted: dict[str, list[dict[str, object]]] = {}
    for name in options.op or sorted(OPERATORS):
        operator = OPERATORS[name]
        for path in sorted(options.folder.glob(f"*_{name}.csv")):
            stem = path.stem.removesuffix(f"_{name}")
            if options.device and stem not in options.device:
                continue
            device = device_of_stem(stem)
            rates, found = rates_of(device), []
            for read in kernel_rows(path, operator):
                rows = read.of(~operator.is_trap(read.labels, read.columns, rates))
                count = len(rows.measured_s)
                if count < LEAST_ROWS:
                    continue
                kept = np.arange(count) % 2 == 0 if options.split else np.ones(count, bool)
                named = fitted_parameters(operator, rows, rates, kept)
                off = np.abs(errors(operator, named, rows, rates))
                found.append((count, off[kept], off[~kept]))
                if options.kernels:
                    words = " ".join(rows.labels.values())
                    print(
                        f"    {words:90} {count:5} median {np.median(off):6.1%} "
                        f"p90 {np.quantile(off, 0.9):6.1%} {named}"
                    )
                kernel = described(operator, named, rows, rates)
                fitted.setdefault(device.slug, []).append(kernel.model_dump())
            if found:
                seen = np.concatenate([a for _, a, _ in found])
                unseen = np.concatenate([b for _, _, b in found])
                kept_back = f", kept back {np.median(unseen):6.1%}" if len(unseen) else ""
                print(
                    f"{stem:24} {name:22} {sum(n for n, _, _ in found):6} rows "
                    f"median {np.median(seen):6.1%} p90 {np.quantile(seen, 0.9):6.1%}{kept_back}"
                )
    if options.write:
        for slug, kernels in fitted.items():
            write(slug, kernels, set(options.op or OPERATORS))
    return 0


def write(slug: str, kernels: list[dict[str, object]], operators: set[str]) -> None:
    """Replace the kernels of these operators in a device's profile."""
    path = TARGET / f"{slug}.yaml"
    old = yaml.safe_load(path.read_text())["kernels"] if path.is_file() else []
    kept = [k for k in old if k["operator"] not in operators] + kernels
    kept.sort(key=lambda kernel: str(kernel["operator"]))
    names = {str(kernel["labels"]["src"]).partition("/")[0] for kernel in kept}
    document = {
        "device": slug,
        "source": "; ".join(SOURCES[name] for name in sorted(names)),
        "date": dt.datetime.now(tz=dt.UTC).date(),
        "tool": "tools/fit_operators.py",
        "kernels": kept,
    }
    head = "# written by tools/fit_operators.py: do not edit\n"
    path.write_text(
        head + yaml.safe_dump(document, sort_keys=False, width=100, default_flow_style=None)
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

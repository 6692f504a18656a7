"""Extract measured draws of GPUs while serving: ``python tools/extract_energy.py FILE``.

FILE is a table of ML.ENERGY Leaderboard rows (dataset ml-energy/benchmark-v3, Apache-2.0). Writes
the columns that ``tools/fit_power.py`` and the tests need to ``hardware/measured/energy.csv``. A
row whose draw, rate and energy per token contradict each other is an error.
"""

import csv
import sys
from pathlib import Path

COLUMNS = (
    "task", "model", "weight_precision", "gpu", "gpu_count", "ep", "avg_batch",
    "avg_output_tokens", "output_tok_s", "gpu_power_each_w", "energy_per_output_token_j", "date",
)  # fmt: skip
CONTRADICTION = 0.01
"""Beyond what rounding of the three figures explains: a draw of 231 W is rounded by 0.2 %."""
TARGET = Path(__file__).parent.parent / "hardware" / "measured" / "energy.csv"


def contradicts(row: dict[str, str]) -> bool:
    """Whether energy per token is not draw x GPUs / tokens per second."""
    drawn_w = float(row["gpu_power_each_w"]) * float(row["gpu_count"])
    stated_w = float(row["energy_per_output_token_j"]) * float(row["output_tok_s"])
    return abs(stated_w - drawn_w) > CONTRADICTION * drawn_w


def main(argv: list[str]) -> int:
    """Write the extract."""
    with Path(argv[0]).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    wrong = [row for row in rows if contradicts(row)]
    for row in wrong:
        print(f"draw, rate and energy contradict each other: {row}", file=sys.stderr)
    if wrong:
        return 1
    with TARGET.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"{len(rows)} rows")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

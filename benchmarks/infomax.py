"""Probes of 64 floats on CIFAR-10, the zoo's beside those that Deep InfoMax's authors published.

    python benchmarks/infomax.py docs/zoo/results.csv | tee benchmarks/infomax.txt

Of a report's results.csv. What is comparable, and what is not: docs/zoo/README.md.
"""

import csv
import sys
from pathlib import Path

from tabulate import tabulate

# R. D. Hjelm et al., Learning deep representations by mutual information estimation and
# maximization, ICLR 2019 (arXiv 1808.06670): accuracy in % of a linear support vector machine
# (table 3) and of a network with 200 hidden units (table 1) on their frozen Y(64), CIFAR-10. DIM(L)
# is there by three objectives in table 1, of which these are the better two.
PUBLISHED = {
    "VAE": (39.6, 54.6),
    "AAE": (37.8, 52.8),
    "DIM(L)": (49.6, None),
    "DIM(L), JSD": (None, 67.0),
    "DIM(L), NCE": (None, 69.1),
}
COUNTERPARTS = {"vae": "VAE", "adversarial": "AAE"}


def main() -> None:
    with Path(sys.argv[1]).open(newline="") as file:
        found = [row for row in csv.DictReader(file) if row["status"] == "ok"]
    rows, shown = [], set()
    for row in sorted(found, key=lambda row: -float(row["mlp_probe_accuracy"] or 0)):
        if row["latent"] != "64" and row["baseline"] != "pixels":
            continue
        name = row["run"] + " (saw labels)" * (row["labels_seen"] == "True")
        figures = [
            100 * float(row[column]) if row[column] else None
            for column in ("accuracy", "probe_accuracy", "mlp_probe_accuracy")
        ]
        counterpart = COUNTERPARTS.get(row["run"], "")
        shown.add(counterpart)
        rows.append([name, *figures, *PUBLISHED.get(counterpart, (None, None))])
    for name, figures in PUBLISHED.items():
        if name not in shown:
            rows.append([f"{name}, no run here", None, None, None, *figures])
    headers = ["run", "kNN", "linear", "MLP", "published linear", "published MLP"]
    print(tabulate(rows, headers, tablefmt="pipe", floatfmt=".1f"))


if __name__ == "__main__":
    main()

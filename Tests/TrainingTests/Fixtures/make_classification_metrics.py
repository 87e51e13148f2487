#!/usr/bin/env python3
"""Make classification_metrics.json: predictions, and what scikit-learn and SciPy measure of them.

    python make_classification_metrics.py        needs scikit-learn 1.9, scipy 1.17
"""

import json
from pathlib import Path

import numpy
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, mean_squared_error

HERE = Path(__file__).resolve().parent
random = numpy.random.default_rng(3)


def classes():
    scores = random.normal(size=(40, 4)).round(3)
    scores[:, 3] -= 9  # never predicted, and below never wanted
    wanted = random.integers(0, 3, size=40)
    wanted[::3] = scores[::3].argmax(1)
    predicted = scores.argmax(1)
    return {
        "scores": scores.tolist(), "targets": [[int(value)] for value in wanted],
        "accuracy": accuracy_score(wanted, predicted), "f1_macro": f1_score(wanted, predicted, average="macro"),
    }


def labels():
    scores = random.normal(size=(30, 4)).round(3)
    wanted = random.integers(0, 2, size=(30, 4))
    wanted[::2] = scores[::2] > 0
    wanted[:, 3], scores[:, 3] = 0, -1  # a label of nobody
    predicted = scores > 0
    return {
        "scores": scores.tolist(), "targets": wanted.tolist(), "accuracy": accuracy_score(wanted, predicted),
        "f1_macro": f1_score(wanted, predicted, average="macro", zero_division=0),
    }


def numbers(width: int):
    scores = random.normal(size=(25, width)).round(1)  # with ties
    wanted = (scores + random.normal(size=scores.shape)).round(1)
    return {
        "scores": scores.tolist(), "targets": wanted.tolist(), "mse": mean_squared_error(wanted, scores),
        "pearson": numpy.mean([pearsonr(scores[:, i], wanted[:, i])[0] for i in range(width)]),
        "spearman": numpy.mean([spearmanr(scores[:, i], wanted[:, i])[0] for i in range(width)]),
    }


document = {
    "single_label_classification": classes(), "multi_label_classification": labels(), "regression": numbers(1),
    "regression_of_two": numbers(2),
}
(HERE / "classification_metrics.json").write_text(json.dumps(document) + "\n")

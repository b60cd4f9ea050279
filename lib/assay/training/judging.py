"""Consumes a model's figures on the test period, produces verdicts and the sentence about them, by kind of outcome."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

from assay.config import AdvancedTrainingConfig
from assay.model.outcome import Outcome
from assay.model.verdict import Verdict
from assay.runtime.progress import figure
from assay.training.gates import judge

WORDS = {"rmse": "RMSE", "log_loss": "log loss", "pinball": "pinball loss"}


def loss_of(outcome: Outcome) -> str:
    """The figure by which a model is compared with baselines and with the champion; less is better."""
    return "log_loss" if outcome.decides else "rmse"


def gates(metrics: Mapping[str, float], flags: AdvancedTrainingConfig, outcome: Outcome) -> list[Verdict]:
    """The verdicts on a model's own figures: of classes, whether it beats the best baseline."""
    if not outcome.decides:
        return judge(metrics, flags)
    loss, best = metrics["test_log_loss"], metrics["best_baseline_log_loss"]
    said = f"log loss on the test period is {figure(loss)}{_before(metrics)}, the best baseline's {figure(best)}"
    return [Verdict("beats_best_baseline", loss < best, loss, best, said)]


def _before(metrics: Mapping[str, float]) -> str:
    """What the log loss was before probabilities were calibrated; nothing where they are not."""
    raw = metrics.get("test_log_loss_uncalibrated")
    return f" (before calibration {figure(raw)})" if raw is not None else ""


def sentence(target: str, metrics: Mapping[str, float], outcome: Outcome) -> str:
    """What training says of the model."""
    loss = loss_of(outcome)
    ending = f"_{loss}"
    rules = [name for name in metrics if name.startswith("baseline_") and name.endswith(ending)]
    best = min(rules, key=lambda name: metrics[name]).removeprefix("baseline_").removesuffix(ending)
    said = (
        f"{target}: {WORDS[loss]} {figure(metrics[f'test_{loss}'])}{_before(metrics)} on the test period, "
        f"best baseline {figure(metrics[f'best_baseline_{loss}'])} ({best}); "
    )
    if not outcome.decides:
        said += f"R² {metrics['test_r2']:.3f}, median error {metrics['test_median_ape']:.1%}, "
        said += f"{metrics['test_within_20pct']:.1f} % within 20 %"
        return said + (f", pinball loss {figure(metrics['test_pinball'])}" if "test_pinball" in metrics else "")
    said += f"AUC {metrics['test_auc']:.3f}, " if "test_auc" in metrics else ""
    said += f"accuracy {metrics['test_accuracy']:.1%}, "
    return said + f"calibration error {metrics['test_calibration_error']:.1%}"


def refit_sentence(metrics: Mapping[str, float], outcome: Outcome, until: dt.datetime | None) -> str:
    """What fitting again on all rows known by then was worth, and what the serving model has learned from.

    until: None where rows have no time.
    """
    loss = loss_of(outcome)
    return (
        f"fitted again on all rows known by then: {WORDS[loss]} {figure(metrics[f'test_{loss}'])}, without "
        f"{figure(metrics[f'test_{loss}_without_refit'])}; the model that serves learned "
        + ("from all rows" if until is None else f"until {until:%Y-%m-%d}")
    )


def blocks_sentence(fits: int) -> list[str]:
    """What is said of models that were fitted for blocks of the calibration period; nothing where there are none."""
    if not fits:
        return []
    times = "once more, for the last" if fits == 1 else f"{fits} times more, for the last {fits}"
    return [f"fitted {times} of {fits + 1} blocks of the calibration period (conformal.folds)"]


def folds_sentence(metrics: Mapping[str, float], outcome: Outcome, method: str) -> list[str]:
    """What is said of the folds before the test period; nothing where there were none."""
    loss = loss_of(outcome)
    if f"cv_{loss}" not in metrics:
        return []
    return [
        f"over {metrics['cv_folds']:.0f} folds ({method}): {WORDS[loss]} {figure(metrics[f'cv_{loss}'])} ± "
        f"{figure(metrics[f'cv_{loss}_std'])}" + (", not calibrated" if _before(metrics) else "")
    ]


def merged_sentence(figures: Mapping[str, float]) -> list[str]:
    """What is said of shards whose mean is the model, beside each of them alone; nothing where there are none."""
    said = []
    for loss, word in WORDS.items():
        if f"tune_{loss}_merged" in figures:
            alone = sorted(v for k, v in figures.items() if k.startswith(f"tune_{loss}_shard_"))
            scale = "" if loss == "log_loss" else " and the model's scale"
            said.append(
                f"the mean of {len(alone)} shards: {word} {figure(figures[f'tune_{loss}_merged'])} on the tune "
                f"period{scale}, each alone {figure(alone[0])} to {figure(alone[-1])}"
            )
    return said


def missed_sentences(failed: Sequence[Verdict], *, enforced: bool) -> list[str]:
    """What is said of gates that a model did not pass."""
    word = "refused" if enforced else "below threshold, not enforced"
    return [f"{word}: {verdict.rule}" for verdict in failed]

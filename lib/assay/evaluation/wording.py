"""Consumes numbers and `ReportContent`, produces the words for them: formats, verdicts, the headline, picture texts."""

from __future__ import annotations

import math

from assay.evaluation.content import Content, DataFacts, ReportContent
from assay.pages.formats import count, day, number, percent, points, readable

STATUS_WORDS = {"ok": "ok", "warn": "look at it", "fail": "refused", "info": "not judged"}


def status(name: str) -> str:
    """A quality metric's status in words."""
    return STATUS_WORDS[name]


def quality_sentence(data: DataFacts) -> str:
    """What is to be said of the data's quality as a whole."""
    if "overall" not in data.scores:
        return "The quality of the data was not measured."
    found = sum(metric.status in {"warn", "fail"} for metric in data.metrics)
    told = f"The data scored {points(data.scores['overall'])} of 100"
    if not found:
        return f"{told}, and no metric is beyond its limit."
    return f"{told}; {count(found, 'metric')} {'is' if found == 1 else 'are'} worth a look."


def heading(column: str, target: str) -> str:
    """A segment column in words; bands of the prediction say of what."""
    return f"predicted {target}" if column == "price band" else readable(column)


def verdict(coverage: float | None, low: float | None, high: float | None) -> str:
    """Whether an observed coverage is what the promise leads one to expect, given the band that chance allows."""
    if coverage is None or low is None or high is None or math.isnan(coverage):
        return "no intervals"
    # A band's end is k / n and so is the coverage: equal counts must stay equal after division.
    if coverage < low - 1e-9:
        return "too narrow"
    return "too wide" if coverage > high + 1e-9 else "holds"


def headline(content: ReportContent) -> str:
    """The result in one sentence, for the page and for the summary on the terminal."""
    half = content.metrics["median_ape"]
    if math.isnan(half):
        sentence = f"On average, predictions missed by {number(content.metrics['mae'], content.unit)}"
    else:
        sentence = f"Half of all predictions were within {percent(half)} of the outcome"
    held = [result for result in content.coverage if not math.isnan(result.metrics["coverage"])]
    if held:
        share = percent(held[-1].metrics["coverage"])
        sentence += f"; the {percent(held[-1].level, 0)} interval held {share} of the time"
    return f"{sentence}."


def skill_sentence(content: ReportContent) -> str:
    """How the model compares with the strongest baseline."""
    strongest, skill = content.strongest_baseline, content.skill
    if strongest is None:
        return "No baseline was evaluated, so nothing says how hard these outcomes are to predict."
    rule = f"the strongest simple rule ({readable(strongest.name)})"
    if skill is None:
        return f"A simple rule, {readable(strongest.name)}, makes no error at all here: a model has nothing to add."
    if skill < 0:
        return f"The model's error (RMSE) is {percent(-skill)} larger than that of {rule}: the simple rule does better."
    return f"The model's error (RMSE) is {percent(skill)} smaller than that of {rule}."


def refit_sentence(content: ReportContent) -> str:
    """What learning again from the newest rows is worth, and until when the serving model has learned."""
    refit = content.refit
    if refit is None:
        return ""
    change = 1 - refit.rmse / refit.without if refit.without else 0.0
    served = "from all rows" if refit.until is None else f"until {day(refit.until)}"
    return (
        f"Learning again from all outcomes known before the test made the model's error {percent(abs(change))} "
        f"{'smaller' if change >= 0 else 'larger'} (RMSE {number(refit.rmse, content.unit)}, without "
        f"{number(refit.without, content.unit)}); the model that serves has learned {served}."
    )


def gate_outcome(content: Content) -> tuple[str, str]:
    """(state, words) of the quality gates; state is `passed`, `refused` or `open`."""
    failed = [gate for gate in content.gates if not gate.passed]
    if not content.gates:
        return "open", "No quality gate was set"
    if not failed:
        return (
            "passed",
            f"Passed {'its quality gate' if len(content.gates) == 1 else f'all {len(content.gates)} quality gates'}",
        )
    missed = f"missed {len(failed)} of {count(len(content.gates), 'quality gate')}"
    return ("refused", f"Refused: {missed}") if content.gates_enforced else ("open", f"Not enforced: {missed}")


def picture_texts(content: ReportContent) -> dict[str, tuple[str, str]]:
    """Name of a figure -> (alt text, caption): what the picture shows, for those who cannot or do not want to look."""
    metrics, target = content.metrics, content.target
    levels = " and ".join(percent(result.level, 0) for result in content.coverage)
    share = f"{metrics['within_20pct']:.1f} % of them within 20 % of the outcome"
    relative = "" if math.isnan(metrics["median_ape"]) else f", {share}"
    emptiest = next(iter(content.data.missing), "") if content.data else ""
    return {
        "missing": (
            f"Share of empty cells per column; {emptiest} has most of them.",
            "Of the source as it came, before any row was set aside. Trees take missing values as they are.",
        ),
        "predicted": (
            f"Predicted against actual {target} for {count(content.rows, 'row')}{relative}.",
            "On the line, prediction and outcome agree. Above it the prediction was too high, below it too low.",
        ),
        "residuals": (
            f"Error of the predicted {target} from {day(content.start)} to {day(content.end)}: "
            f"median and the band of 8 in 10 rows. Mean error {number(metrics['bias'], content.unit)}.",
            "A line that leaves zero and stays away is a market that has moved on: time to train again.",
        ),
        "coverage": (
            f"Share of outcomes inside the {levels} intervals, per segment, beside the range that chance allows.",
            "A mark inside its grey bar keeps the promise as well as its rows can show. The table has every segment.",
        ),
        "importance": (
            "Features with the largest share of the model's gain.",
            "How much each feature helped to split outcomes apart while training. It is no statement about cause.",
        ),
        "contributions": (
            "What inputs add to single predictions: the range of 9 in 10 rows, and the mean for low and high values.",
            "Exact SHAP values; a row's add up to its prediction. They say what the model does, not why prices move.",
        ),
        "rivals": (
            "How much smaller the model's error (RMSE) is than that of each simple rule and of the champion before.",
            "A bar that does not touch the line at 0 is a difference that chance does not explain.",
        ),
        "over_time": (
            f"Share of outcomes inside the {levels} intervals over time, beside the range that chance allows.",
            "Where the line leaves the grey band for long, the market has moved on: calibrate or train again.",
        ),
        "kept": (
            "Error of the rows kept, against the share of rows kept, those with the narrowest intervals first.",
            "The further the line lies below its right end, the better widths tell sure from unsure predictions.",
        ),
        "fan": (
            f"Outcome, prediction and {levels} intervals of {target} over time, for up to four examples.",
            "Examples are taken at even steps from the most to the least precisely predicted.",
        ),
    }

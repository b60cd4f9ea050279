"""Consumes a `Story`, produces its sentences: what is the case, how sure that is, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence

from assay.evaluation.over_time import LevelOverTime
from assay.evaluation.risk import Abstention, Decided, Direction, LowerBound, RankedDecisions
from assay.evaluation.rivals import RivalResult
from assay.evaluation.slabs import Slab
from assay.evaluation.story import Story
from assay.pages.formats import NARROW_SPACE, count, day, number, percent, readable


def rivals_sentence(rivals: Sequence[RivalResult]) -> str:
    """Against how many simple rules the model is better, on the same rows; beyond chance only where days tell of it."""
    rules = [one for one in rivals if one.name != "champion before"]
    if not rules:
        return ""
    if all(one.days < 2 for one in rules):
        below = sum(one.loss < one.rival_loss for one in rules)
        return f"On the same rows it errs less than {below} of {count(len(rules), 'simple rule')}."
    better = sum(one.verdict == "better" for one in rules)
    told = f"On the same rows it errs less than {better} of {count(len(rules), 'simple rule')}, beyond chance"
    others = [readable(one.name) for one in rules if one.verdict != "better"]
    return f"{told}; not so against {', '.join(others)}." if others else f"{told}."


def before_sentence(story: Story) -> str:
    """The model and the champion before it."""
    before = story.before
    if before is None:
        return f"{story.before_why[:1].upper()}{story.before_why[1:]}." if story.before_why else ""
    size = "less" if before.gain >= 0 else "more"
    low, high = before.gains
    return (
        f"It errs {percent(abs(before.gain))} {size} (RMSE) than the champion before it on {count(before.rows, 'row')} "
        f"of {before.drawn}; 95 % band {percent(low)} to {percent(high)} less: {before.verdict}."
    )


def drift_sentence(each: LevelOverTime, what: str = "interval") -> str:
    """Whether coverage drifts, and the worst month. what: an interval, or a set."""
    told = f"The {percent(each.level, 0)} {what}"
    drift = each.drift
    if drift is None:
        words = f"{told} was seen on too few days to tell whether it drifts."
    else:
        points = f"{abs(100 * drift.change):.1f} points"
        band = f"95 %: {100 * drift.low:+.1f} to {100 * drift.high:+.1f}".replace("-", "\u2212")
        halves = (
            f"{percent(drift.earlier)} in the earlier half of rows, {percent(drift.later)} since {day(drift.since)}"
        )
        if drift.certain:
            words = f"{told} has drifted {'up' if drift.change > 0 else 'down'} by {points}: {halves} ({band})."
        else:
            words = f"{told} shows no drift beyond chance: {halves} ({band})."
    month, window = each.worst_month, each.worst_window
    if month is not None:
        surely = ", off its promise beyond chance" if month.off and month.coverage < each.level else ""
        words += f" Worst month: {month.start:%B} {month.start.year}, {percent(month.coverage)} of "
        words += f"{count(month.rows, 'row')}{surely}."
    if window is not None and window.rows != (month.rows if month else 0):
        words += f" Worst {count(each.window_days, 'day')}: up to {day(window.end)}, {percent(window.coverage)}."
    return words


def slab_sentence(slab: Slab) -> str:
    """The part where a level holds least, on rows that it was not found on."""
    certain = slab.p_value <= 0.05 and slab.coverage < slab.level
    verdict = "fewer than promised, beyond chance" if certain else "which chance explains"
    return (
        f"The {percent(slab.level, 0)} interval holds least where {slab.where}: {percent(slab.coverage)} of "
        f"{count(slab.rows, 'row')} (95 %: {percent(slab.low)} to {percent(slab.high)}), {verdict}; elsewhere "
        f"{percent(slab.others)}."
    )


def lower_sentence(bound: LowerBound, unit: str) -> str:
    """What the lower ends add up to, and how often they were undercut."""
    words = (
        f"If everything came out at the lower end of its {percent(bound.level, 0)} interval, "
        f"{count(bound.rows, 'row')} would come to {number(bound.lower, unit)}"
    )
    if bound.predicted > 0:
        words += f", {percent(bound.lower / bound.predicted)} of the {number(bound.predicted, unit)} predicted"
    words += (
        f"; they came to {number(bound.actual, unit)}. {percent(bound.below)} of outcomes were below their lower end "
    )
    words += f"({percent(bound.promised)} is what equal tails lead one to expect)"
    return words + (f", by {number(bound.shortfall, unit)} on average." if bound.shortfall is not None else ".")


def kept_sentence(one: Abstention) -> str:
    """What leaving rows undecided is worth."""
    half = one.shares.index(min(one.shares, key=lambda share: abs(share - 0.5)))
    half_of, whole = one.judged[half], one.judged[-1]
    if one.relative:
        words = f"a median error of {percent(half_of)}, all rows {percent(whole)}"
    else:
        words = f"a mean error of {number(half_of)}, all rows {number(whole)}"
    possible = 1 - one.ideal
    share = f", {percent((1 - one.area) / possible)} of what knowing every error would save" if possible > 0 else ""
    sense = "tell sure from unsure predictions" if one.area < 0.98 else "hardly tell sure from unsure predictions"
    if one.area > 1.02:
        sense = "mislead here: rows with wide intervals err less"
    return (
        f"Interval widths {sense}. The half with the narrowest {percent(one.level, 0)} intervals has {words}. Averaged "
        f"over all shares kept, that {'saves' if one.area <= 1 else 'costs'} {percent(abs(1 - one.area))} of the error"
        f"{share if one.area < 1 else ''}."
    )


def rule_sentence(found: Decided) -> str:
    """The rule, in one line."""
    rule = found.rule
    of = "prediction" if rule.typical is None else f"usual size of an outcome ({number(rule.typical)})"
    return (
        f"{rule.stakes[:1].upper()}{rule.stakes[1:]}: act where the {percent(rule.level, 0)} interval is no wider than "
        f"{percent(rule.act_width, 0)} of the {of}, review up to {percent(rule.review_width, 0)}, else abstain."
    )


def direction_sentence(found: Direction) -> str:
    """How well up is told from down, or why nothing is said."""
    if found.why:
        return f"Direction, win rate and Sharpe ratio are left out: {found.why}."
    what = "from the last known value" if found.of == "last_value" else "above or below 0"
    words = (
        f"Of {count(found.rows, 'outcome')} that could go up or down ({what}), the direction of "
        f"{percent(found.accuracy)} was predicted; where a move was called, {percent(found.win_rate)} won"
    )
    if found.sharpe is not None:
        yearly = f", {found.yearly:.2f} a year" if found.yearly is not None else ""
        words += f". Following each call, before costs, has a Sharpe ratio of {found.sharpe:.2f} a day{yearly}"
        words += f" ({count(found.days, 'day')})"
    return f"{words}."


def decisions_sentence(found: RankedDecisions) -> str:
    """How the combined score orders what came."""
    return (
        f"The combined score of {', '.join(found.targets)} orders what came with a rank correlation of "
        f"{found.correlation:.2f}: its best tenth came to {found.tenths[0]:.3f}, the worst to {found.tenths[-1]:.3f}, "
        f"all {count(found.rows, 'row')} to {found.mean:.3f}.".replace("-", "\u2212")
    )


def sample_sentence(story: Story, rows: int) -> str:
    """Of how many rows the figures of single rows are."""
    if story.sampled >= rows:
        return ""
    share = percent(story.sampled / rows, 0) if rows else f"0{NARROW_SPACE}%"
    return (
        f"Scatter plots, examples, the worst slab and the curve of rows kept are of a sample of "
        f"{count(story.sampled, 'row')} ({share}); all other figures are of all rows, medians to 0.1 % of themselves."
    )

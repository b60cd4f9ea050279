"""Consumes a search space and the trials so far, produces the next parameters: of a grid, drawn, or proposed."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from assay.errors import ConfigError
from assay.tuning.journal import COMPLETE, PRUNED, RUNNING, Trial
from assay.tuning.space import Choice, Number, Params, Space


class Sampler(Protocol):
    """What proposes parameters."""

    def propose(self, number: int, trials: Sequence[Trial]) -> Params | None:
        """Parameters of the trial with this number; None when there are no more.

        trials: those that have ended, and, with state `running`, those that have not.
        """
        ...


def has_optuna() -> bool:
    """Whether Optuna is installed."""
    return importlib.util.find_spec("optuna") is not None


def chosen(sampler: str, *, use_optuna: bool) -> tuple[str, str | None]:
    """The sampler that there is, and what to tell where it is not the one that was asked for.

    Raises:
        ConfigError: hyperopt is asked for and not installed.
    """
    if sampler == "hyperopt" and importlib.util.find_spec("hyperopt") is None:
        raise ConfigError("tuning.sampler=hyperopt: hyperopt is not installed (pip install 'assay[hyperopt]')")
    if sampler != "tpe":
        return sampler, None
    if not use_optuna:
        return "grid", None
    if not has_optuna():
        return "grid", "Optuna is not installed, so a grid is searched instead (pip install optuna)"
    return "tpe", None


class Random:
    """Independent draws; the trial's number decides which, so a study that is gone on with draws what it would have."""

    def __init__(self, space: Space, seed: int) -> None:
        self.space, self.seed = space, seed

    def propose(self, number: int, trials: Sequence[Trial]) -> Params | None:
        """A draw."""
        return self.space.draw(np.random.default_rng([self.seed, number]))


class Grid:
    """Points of a grid that has about as many of them as trials may be made."""

    def __init__(self, space: Space, seed: int, points: int) -> None:
        self.points = space.grid(points, np.random.default_rng(seed))

    def propose(self, number: int, trials: Sequence[Trial]) -> Params | None:
        """The first point that no trial had."""
        had = [trial.point for trial in trials]
        return next((point for point in self.points if point not in had), None)


class Hyperopt:
    """hyperopt's tree-structured Parzen estimator; trials run here, not in its SparkTrials."""

    def __init__(self, space: Space, seed: int) -> None:
        from hyperopt.base import Domain

        self.space, self.seed = space, seed
        self._domain = Domain(lambda _: 0.0, space.hyperopt())

    def propose(self, number: int, trials: Sequence[Trial]) -> Params | None:
        """Its proposal after the trials that have ended."""
        from hyperopt import Trials, tpe

        history = Trials()
        known = [trial for trial in trials if trial.state in {COMPLETE, PRUNED} and trial.loss is not None]
        history.insert_trial_docs([self._document(trial) for trial in known])
        history.refresh()
        (found,) = tpe.suggest([number], self._domain, history, seed=self.seed + number)
        drawn = {name: values[0] for name, values in found["misc"]["vals"].items()}
        return {name: self._value(one, drawn[name]) for name, one in self.space.parameters.items()}

    def _value(self, parameter: Number | Choice, drawn: Any) -> Any:
        return parameter.values[int(drawn)] if isinstance(parameter, Choice) else parameter.nearest(drawn)

    def _document(self, trial: Trial) -> dict[str, Any]:
        from hyperopt.base import JOB_STATE_DONE, STATUS_OK

        drawn = {
            name: [one.values.index(trial.point[name]) if isinstance(one, Choice) else trial.point[name]]
            for name, one in self.space.parameters.items()
        }
        return {
            "tid": trial.number,
            "spec": None,
            "exp_key": None,
            "owner": None,
            "version": 0,
            "book_time": None,
            "refresh_time": None,
            "state": JOB_STATE_DONE,
            "result": {"status": STATUS_OK, "loss": trial.loss},
            "misc": {
                "tid": trial.number,
                "cmd": ("domain_attachment", "FMinIter_Domain"),
                "workdir": None,
                "idxs": {name: [trial.number] for name in drawn},
                "vals": drawn,
            },
        }


class Parzen:
    """Optuna's tree-structured Parzen estimator. Running trials count as bad ones, so that slots look elsewhere."""

    def __init__(self, space: Space, seed: int) -> None:
        self.space, self.seed = space, seed

    def propose(self, number: int, trials: Sequence[Trial]) -> Params | None:
        """Its proposal; the same for the same trials."""
        study = optuna_study(self.space, trials, seed=self.seed + number)
        return dict(study.ask(self.space.optuna()).params)


def sampler_named(name: str, space: Space, *, seed: int, points: int) -> Sampler:
    """The sampler. points: trials that there may be."""
    if name == "tpe":
        return Parzen(space, seed)
    if name == "hyperopt":
        return Hyperopt(space, seed)
    return Grid(space, seed, points) if name == "grid" else Random(space, seed)


def optuna_study(space: Space, trials: Sequence[Trial], *, seed: int = 0) -> Any:
    """The trials as a study of Optuna's, in memory: for its proposals and its importances."""
    import optuna
    from optuna.trial import TrialState

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    states = {COMPLETE: TrialState.COMPLETE, PRUNED: TrialState.PRUNED, RUNNING: TrialState.RUNNING}
    distributions = space.optuna()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
    study = optuna.create_study(sampler=sampler)
    for trial in trials:
        if trial.state in states:
            study.add_trial(
                optuna.trial.create_trial(
                    state=states[trial.state],
                    params=dict(trial.point),
                    distributions=distributions,
                    value=trial.loss if trial.state == COMPLETE else None,
                    intermediate_values=dict(trial.values),
                )
            )
    return study

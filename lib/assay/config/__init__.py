"""What a run is told: dataset, profile and command line, as frozen dataclasses behind one strict loader."""

from assay.config.dataset import DatasetConfig
from assay.config.loader import conf_root, load_dataset, load_run, profile_file
from assay.config.preparation import PreparationConfig
from assay.config.profile import AdvancedTrainingConfig, ProfileConfig
from assay.config.run import RunConfig, canonical_json
from assay.config.target import TargetConfig

__all__ = [
    "AdvancedTrainingConfig",
    "DatasetConfig",
    "PreparationConfig",
    "ProfileConfig",
    "RunConfig",
    "TargetConfig",
    "canonical_json",
    "conf_root",
    "load_dataset",
    "load_run",
    "profile_file",
]

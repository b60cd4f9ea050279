"""Consumes `--set` texts, checks keys, values, their order against profile and dataset, and the errors."""

import pytest

from assay.errors import ConfigError


def test_profile_is_below_the_dataset_is_below_set(tree, load):
    key = "min_business_accuracy"
    assert load(tree).training.min_business_accuracy == 70
    assert load(tree).training.enable_advanced_features  # the production profile's
    tree["training"] = {key: 55, "enable_advanced_features": False}
    assert load(tree).training.min_business_accuracy == 55
    assert not load(tree).training.enable_advanced_features
    assert load(tree, f"dataset.training.{key}=40").training.min_business_accuracy == 40
    assert load(tree, f"training.{key}=30", f"dataset.training.{key}=40").training.min_business_accuracy == 30
    assert load(tree, f"training.{key}=30").dataset.training == tree["training"]


def test_a_dataset_may_say_how_it_is_learned(tree, load):
    tree["engine"] = {"rounds": 33, "shrink_changes": False}
    tree["ensemble"] = {"members": {"xgboost": {}, "gru": {"params": {"lookback": 5}}}, "methods": ["dynamic_sharpe"]}
    tree["retraining"] = {"schedule_days": 28}
    found = load(tree, "engine.early_stopping_rounds=7").profile
    assert (found.engine.rounds, found.engine.early_stopping_rounds, found.engine.seed) == (33, 7, 7)
    assert not found.engine.shrink_changes
    assert set(found.ensemble.members) == {"xgboost", "gru"}
    assert found.retraining.schedule_days == 28
    assert load(tree, "engine.rounds=44").profile.engine.rounds == 44
    for section in ("engine", "ensemble", "retraining"):
        with pytest.raises(ConfigError, match=rf"unknown key {section}\.round"):
            load({**tree, section: {"round": 1}})


def test_the_last_of_two_equal_keys_counts(tree, load):
    assert load(tree, "engine.rounds=5", "engine.rounds=7").profile.engine.rounds == 7


@pytest.mark.parametrize(
    ("text", "read", "value"),
    [
        ("engine.rounds=200", lambda c: c.profile.engine.rounds, 200),
        (" engine.rounds = 200", lambda c: c.profile.engine.rounds, 200),
        ("split.tune=0.2", lambda c: c.profile.split.tune, 0.2),
        ("split.embargo_days=3", lambda c: c.profile.split.embargo_days, 3.0),
        ("training.use_optuna=false", lambda c: c.training.use_optuna, False),
        ("conformal.levels=[0.5, 0.975]", lambda c: c.profile.conformal.levels, (0.5, 0.975)),
        ("dataset.segments=[]", lambda c: c.dataset.segments, ()),
        ("dataset.groups=[[], [district]]", lambda c: c.dataset.groups, ((), ("district",))),
        ("dataset.targets=[{name: price}]", lambda c: c.dataset.targets[0].transform, "none"),
        ("engine.params={max_depth: 3}", lambda c: c.profile.engine.params, {"max_depth": 3}),
        # Texts are taken as they are: no YAML in between, and only the first = counts.
        ("dataset.source.path=a=b.csv", lambda c: c.dataset.source.path, "a=b.csv"),
        ("dataset.source.path=with space #1: x.csv", lambda c: c.dataset.source.path, "with space #1: x.csv"),
        ("dataset.source.delimiter=|", lambda c: c.dataset.source.delimiter, "|"),
        ("dataset.source.delimiter=\t", lambda c: c.dataset.source.delimiter, "\t"),
        ("dataset.source.delimiter=' '", lambda c: c.dataset.source.delimiter, " "),
        ("dataset.time.format=%Y-%m-%d %H:%M", lambda c: c.dataset.time.format, "%Y-%m-%d %H:%M"),
        ("dataset.time.format=null", lambda c: c.dataset.time.format, None),
        ("dataset.calendar.country=NO", lambda c: c.dataset.calendar.country, "NO"),
        ("dataset.name=2015", lambda c: c.dataset.name, "2015"),
        ("runtime.catalog=", lambda c: c.profile.runtime.catalog, ""),
        ("dataset.duplicates=allow", lambda c: c.dataset.duplicates, "allow"),
        # Below open mappings keys are names of one's own, dots included.
        ("engine.params.max_depth=3", lambda c: c.profile.engine.params["max_depth"], 3),
        ("engine.params.tree.method=hist", lambda c: c.profile.engine.params["tree.method"], "hist"),
        ("dataset.bounds.rooms=[0, 1e2]", lambda c: c.dataset.bounds["rooms"], (0.0, 100.0)),
        ("dataset.availability_delay_days.price=2.5", lambda c: c.dataset.delay_days("price"), 2.5),
    ],
)
def test_values(tree, load, text, read, value):
    assert read(load(tree, text)) == value


def test_a_column_with_a_dot_can_have_bounds(tree, load):
    tree["columns"]["numeric"] = ["area.m2"]
    assert load(tree, "dataset.bounds.area.m2=[0, 500]").dataset.bounds["area.m2"] == (0.0, 500.0)


def test_overrides_leave_the_rest_as_it_was(tree, load):
    plain, changed = load(tree).resolved(), load(tree, "engine.params.max_depth=3", "engine.rounds=9").resolved()
    assert changed.pop("engine") == {**plain.pop("engine"), "params": {"max_depth": 3}, "rounds": 9}
    assert changed == plain


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("engine.round=5", "--set engine.round: unknown key; did you mean engine.rounds?"),
        ("rounds=5", "--set rounds: unknown key; did you mean engine.rounds?"),
        ("training.max_eval=5", "--set training.max_eval: unknown key; did you mean training.max_evals?"),
        ("dataset.tme.column=x", "--set dataset.tme.column: unknown key; did you mean dataset.time.column?"),
        ("dataset.training.max_eval=5", "--set: unknown key dataset.training.max_eval; did you mean max_evals?"),
        ("dataset.targets=[{nam: x}]", "--set: unknown key dataset.targets[0].nam; did you mean name?"),
        ("dataset.targets[0].name=x", "--set dataset.targets[0].name: dataset.targets is a list; set it whole"),
        ("dataset.targets.0.name=x", "--set dataset.targets.0.name: dataset.targets is a list; set it whole"),
        ("xyzzy=1", "--set xyzzy: unknown key; settings are in alerts, conformal, dataset, deployment, engine, "),
        ("engine.rounds", "--set engine.rounds: expected key=value, for example --set engine.rounds=200"),
        ("=5", "--set =5: expected key=value"),
        ("engine..rounds=5", "--set engine..rounds=5: expected key=value"),
        ("engine.rounds=", "--set: engine.rounds: expected a whole number (found '')"),
        ("engine.rounds=true", "--set: engine.rounds: expected a whole number (found True)"),
        ("engine.rounds=0", "--set: engine.rounds: input should be greater than or equal to 1 (found 0)"),
        ("engine.rounds=[", "--set: engine.rounds: expected a whole number (found '[')"),
        ("split.tune=.nan", "--set: split.tune: expected a finite number (found nan)"),
        ("engine.params.eta=.inf", "--set: engine.params.eta: expected a finite number (found inf)"),
        (
            "engine.name=forest",
            "engine.name=forest: there is no such engine; did you mean random_forest? (there are xgboost, catboost, ",
        ),
        (
            "engine.sample_rows=1000",
            "engine.sample_rows has no use with engine.name=xgboost, which learns from all rows; it is of knn, svm, ",
        ),
        ("conformal.levels=[0.8, 0.8]", "conformal.levels lists 0.8 twice; keep one"),
        ("split.tune=0.9", "split.tune + split.calibrate + split.test = 1.25: nothing is left to train on"),
        ("dataset.columns.numeric=[price]", "flats.yml with --set: column 'price' is both a target and in columns.num"),
    ],
)
def test_errors_say_what_to_write_instead(tree, load, text, message):
    with pytest.raises(ConfigError) as caught:
        load(tree, text)
    assert message in str(caught.value)


def test_a_section_set_to_a_word_has_no_keys(tree, load):
    with pytest.raises(ConfigError, match=r"--set dataset\.calendar\.country: dataset\.calendar is set to 'US'"):
        load(tree, "dataset.calendar='US'", "dataset.calendar.country=US")

"""Consumes texts, settings and log records with secrets, checks that none gets through and nothing else is masked."""

import io
import logging

import pytest

from assay.runtime.logs import MASK, RedactingFormatter, redact, redact_tree, set_up_logging

SECRET = "hunter2-Tr0ub4dor"


@pytest.mark.parametrize(
    "text",
    [
        "password={}",
        "PASSWORD: {}",
        "db_passwd={};next=1",
        "--set runtime.tracking_uri=postgresql://assay:{}@db.internal:5432/mlflow",
        "postgresql+psycopg2://u:{}@h/db?sslmode=require",
        "https://:{}@host/path",
        "redis://u:{}@with@signs@host",
        "https://host/x?access_token={}&page=2",
        "spark.hadoop.fs.s3a.secret.key={}",
        "fs.azure.account_key = {}",
        "AWS_SECRET_ACCESS_KEY={}",
        "AccountKey={}==;EndpointSuffix=core.windows.net",
        '{{"user": "u", "password": "{}"}}',
        "{{'api_key': '{}'}}",
        'token: "{} with blanks"',
        "Authorization: Bearer {}",
        "authorization: Basic {}",
        "bearer {}",
    ],
)
def test_secrets_in_texts(text):
    told = redact(text.format(SECRET))
    assert SECRET not in told
    assert MASK in told
    assert redact(told) == told


@pytest.mark.parametrize(
    "token", ["dapi0123456789abcdef0123", "ghp_abcDEF0123456789", "github_pat_11ABC_def0123456789"]
)
def test_tokens_are_known_by_their_look(token):
    assert redact(f"cannot reach it with {token}, sorry") == f"cannot reach it with {MASK}, sorry"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "http://localhost:5000/#/experiments/1",
        "spark://host1:7077,host2:7077",
        "file:///data/a@b.csv",
        "column 'passengers': not a number (dataset.columns)",
        "kansas: 12 rows, compass=3",
        "a basic approach, a bearer of news",
        "mlflow ui --backend-store-uri 'sqlite:////home/me/mlflow.db'",
    ],
)
def test_other_texts_stay_as_they_are(text):
    assert redact(text) == text


def test_the_host_stays_readable():
    assert redact("mysql://assay:pw@db:3306/x") == f"mysql://assay:{MASK}@db:3306/x"


def test_settings_with_secret_names():
    tree = {
        "password": SECRET,
        "pin": {"secretKey": SECRET, "sas": SECRET, "fs.azure.sas.token": 12345},
        "api_key": [SECRET, SECRET],
        "access-key": SECRET,
        "credentials": {"user": "u", "privateKey": SECRET},
        "uri": f"https://u:{SECRET}@h",
        "deep": [{"apiKey": SECRET}],
    }
    told = redact_tree(tree)
    assert SECRET not in str(told)
    assert "12345" not in str(told)
    assert told["credentials"]["user"] == "u"
    assert told["api_key"] == [MASK, MASK]


def test_settings_with_other_names_stay():
    tree = {
        "passengers": 5,
        "bounds": {"kansas": (0, 1.5), "compass": [1, 2]},
        "use_token": True,
        "max_tokens": 3,
        "tokenizer": "a",
        "password": None,
        "monkey": "x",
    }
    assert redact_tree(tree) == {**tree, "bounds": {"kansas": [0, 1.5], "compass": [1, 2]}}


@pytest.fixture
def log():
    """A logger, and what it has written."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(RedactingFormatter("%(levelname)s %(message)s"))
    logger = logging.Logger("alone")  # not in the tree of loggers, so that pytest's handlers stay out
    logger.addHandler(handler)
    return logger, stream.getvalue


def test_records_arguments_and_tracebacks_are_masked(log):
    logger, written = log
    logger.warning("connecting to %s", f"https://u:{SECRET}@h")
    try:
        raise RuntimeError(f"token={SECRET}")
    except RuntimeError:
        logger.exception("it failed")
    assert SECRET not in written()
    assert "connecting to https://u:***@h" in written()
    assert "RuntimeError: token=***" in written()


def test_a_record_that_does_not_fit_its_arguments_stops_nothing(log, capsys):
    logger, _ = log
    logger.warning("%d rows", "many")  # what libraries do at times
    assert "--- Logging error ---" in capsys.readouterr().err


def test_the_root_logger_masks_and_chatty_libraries_are_quiet(capsys):
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        root.handlers = []
        set_up_logging()
        logging.getLogger("some.library").warning("password=%s", SECRET)
        logging.getLogger("some.library").info("nobody wants to know")
        logging.getLogger("py4j.clientserver").warning("nobody wants to know")
    finally:
        root.handlers = before
        root.setLevel(level)
    assert capsys.readouterr().err == "WARNING some.library: password=***\n"

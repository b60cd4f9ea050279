"""Consumes a server that speaks S3, checks that a pipeline whose source and tables are there ends as any other.

The server is moto: it lists, reads, writes in parts and deletes as S3 does, and keeps objects in memory.
"""

from __future__ import annotations

import subprocess
import sys

import pytest
import requests
from lake_story import free_port, running, story_of
from pyarrow import fs

from assay.config import conf_root

pytestmark = [pytest.mark.heavy, pytest.mark.cluster]

SERVER = ("moto[s3]>=5.1,<6", "flask>=3", "flask-cors>=6")
BUCKET, REGION, SECRET = "prices", "us-east-1", "hush-7f3c-of-the-tests"


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    """Its address, and a way into it, with a bucket; the environment has the credentials that it takes."""
    folder, port = tmp_path_factory.mktemp("s3"), free_port()
    address, python = f"http://127.0.0.1:{port}", folder / "venv" / "bin" / "python"
    for command in (
        [sys.executable, "-m", "venv", str(folder / "venv")],
        [str(python), "-m", "pip", "install", *SERVER],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
        if done.returncode:
            pytest.skip(f"moto cannot be installed: {(done.stdout + done.stderr)[-300:]}")

    def ready() -> bool:
        try:
            return requests.get(f"{address}/moto-api/", timeout=1).ok
        except requests.ConnectionError:
            return False

    command = [str(python.with_name("moto_server")), "--host", "127.0.0.1", "--port", str(port)]
    with pytest.MonkeyPatch.context() as patch, running(command, folder / "moto.log", ready):
        for name, value in (("ACCESS_KEY_ID", "an-id"), ("SECRET_ACCESS_KEY", SECRET), ("ENDPOINT_URL", address)):
            patch.setenv(f"AWS_{name}", value)
        patch.setenv("AWS_DEFAULT_REGION", REGION)
        store = fs.S3FileSystem(endpoint_override=address, region=REGION, allow_bucket_creation=True)
        store.create_dir(BUCKET)
        yield address, store


@pytest.fixture(scope="module")
def story(s3, towns, tmp_path_factory):
    """The pipeline killed in the middle of two tables, then run to its end; what is then in S3; the quiet one."""
    folder = tmp_path_factory.mktemp("story")
    tree = towns(folder, towns=6, months=60)
    with s3[1].open_output_stream(f"{BUCKET}/raw/towns.csv") as stream:
        stream.write((folder / "towns.csv").read_bytes())
    tree["source"] = {"path": f"s3://{BUCKET}/raw"}
    conf = folder / "s3.conf"
    own = (conf_root() / "spark" / name for name in ("local.conf", "s3.conf"))
    conf.write_text("\n".join(file.read_text("utf-8") for file in own) + (
        f"\nspark.hadoop.fs.s3a.endpoint {s3[0]}\nspark.hadoop.fs.s3a.path.style.access true\n"
        f"spark.jars.ivySettings {conf_root() / 'spark' / 'ivysettings.xml'}\n"
    ), encoding="utf-8")  # fmt: skip
    lake = f"{BUCKET}/lake/of towns"

    def count(path: str) -> int:
        if s3[1].get_file_info(f"{lake}/{path}").is_file:
            return 1
        below = fs.FileSelector(f"{lake}/{path}", recursive=True, allow_not_found=True)
        return sum(found.is_file for found in s3[1].get_file_info(below))

    return story_of(folder, tree, f"s3a://{lake}", conf, count).told()


def test_it_was_killed_while_objects_were_there_and_no_commit_and_tables_are_there_alone(story):
    story.check_tables_are_there_alone()


@pytest.mark.parametrize("name", ["observations", "features"])
def test_rows_are_those_of_a_run_here_that_never_died(story, name):
    story.check_rows(name)


def test_predictions_are_those_of_a_run_here_and_of_the_udf(story):
    story.check_predictions()


def test_a_server_says_what_batch_has_said(story):
    story.check_server()


def test_no_key_is_written_anywhere(story):
    told = story
    texts = [p for p in told.workspace.rglob("*") if p.is_file() and p.suffix in {".json", ".log", ".html", ".db"}]
    assert len(texts) > 5
    assert not [str(path) for path in texts if SECRET.encode() in path.read_bytes()]

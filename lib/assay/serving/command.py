"""Consumes the command line of `assay serve`, produces a server."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

from assay import errors
from assay.config.options import Dataset, Overrides, Profile
from assay.runtime.failures import fail, unexpected

PURPOSE = "Price raw rows over HTTP, with the numbers that score would give them."


def serve(
    dataset: Dataset,
    profile: Profile = "production",
    workspace: Annotated[
        Path | None,
        typer.Option("--workspace", metavar="DIR", help="Where the pipeline ran. Default: workspace/NAME-OF-DATASET."),
    ] = None,
    set_: Overrides = None,
    conf_file: Annotated[
        Path | None,
        typer.Option(
            "--conf-file", metavar="FILE", help="Spark settings file, where runtime.lake is another file system."
        ),
    ] = None,
    date: Annotated[
        str | None, typer.Option("--date", metavar="DATE", help="Know nothing that is later than this date.")
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen at; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65_535, help="0 takes a free one.")] = 8000,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes, each with a model of its own.")] = 1,
    refresh_minutes: Annotated[
        float,
        typer.Option(
            "--refresh-minutes",
            min=0,
            help="How often to look for a new champion, moves of deployments, or new observations.",
        ),
    ] = 1.0,
    save: Annotated[
        Path | None,
        typer.Option("--save", metavar="DIR", help="Write all of it as an MLflow model instead of serving it."),
    ] = None,
    max_rows: Annotated[int, typer.Option("--max-rows", min=1, help="Rows to be priced, of one request.")] = 10_000,
    max_history: Annotated[int, typer.Option("--max-history", min=0, help="Rows of history, of one.")] = 200_000,
    max_body_mb: Annotated[float, typer.Option("--max-body-mb", min=0.001, help="Size of a request.")] = 64.0,
) -> None:
    """Price raw rows over HTTP, with the numbers that `score` would give them.

    Reads: the champion, the challenger while it serves a share, observations, features, deployments.

    Writes: nothing. Ends at SIGTERM or Ctrl-C when what is under way has its answer; SIGHUP looks for something new.

    Example:  `assay serve --dataset conf/datasets/txhousing.yml --port 8000`

    Then ask with rows as the source has them, without what is to be predicted:

    `curl localhost:8000/predict -d '{"rows": [{"city": "Austin", "month_start": "2015-08-01", ...}], "history": []}'`

    What the entity was worth before comes from `history` (rows of the source, earlier than the row) and from the table
    observations; what its markets were worth, from that table alone. GET /health says that the process lives, /ready
    that it has priced a row, /version what it serves. POST /invocations takes MLflow's `dataframe_records` and
    `dataframe_split`.

    With `--save DIR` the model, and all that is known of the past by now, become an MLflow model of their own:
    `mlflow models serve -m DIR --env-manager local` takes the same raw rows, and history as a text of JSON in
    `params`: `{"dataframe_records": [...], "params": {"history": "[...]"}}`. It learns of no later champion, and of
    no later move of a deployment.
    """
    from assay.runtime.logs import set_up_logging
    from assay.serving.job import ServeOptions
    from assay.serving.job import save as write
    from assay.serving.job import serve as run
    from assay.serving.request import Limits

    set_up_logging()
    options = ServeOptions(
        dataset=str(dataset.absolute()),
        profile=profile,
        workspace=str(workspace.absolute()) if workspace is not None else None,
        overrides=tuple(set_ or ()),
        conf_file=str(conf_file.absolute()) if conf_file is not None else None,
        date=date,
        host=host,
        port=port,
        workers=workers,
        refresh_minutes=refresh_minutes,
        limits=Limits(max_rows, max_history, max_body_mb),
    )
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it otherwise
    try:
        if save is not None:
            write(options, save.absolute())
        else:
            run(options)
    except errors.AssayError as error:
        fail("serve", error, as_json=False)
    except KeyboardInterrupt:
        raise SystemExit(0) from None
    except Exception as error:
        fail("serve", unexpected(error, workspace), as_json=False)

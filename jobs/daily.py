from assay.cli import job_main

job_main("daily")

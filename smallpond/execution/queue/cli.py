"""`python -m smallpond.execution.workqueue ROOT`: look into a queue, taking nothing out."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from smallpond.execution.queue.objects import count_objects

logger = logging.getLogger("smallpond.execution.workqueue")

# Names of loguru, which 0.15 used, that the standard library lacks.
EXTRA_LEVELS = {"TRACE": 5, "SUCCESS": 25}


def create_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(prog="workqueue.py", description="Work Queue Reader")
    parser.add_argument("wq_root", help="Work queue root path")
    parser.add_argument("-f", "--work_filter", default="", help="Show keys with this in them")
    parser.add_argument(
        "-x", "--expand_batch", action="store_true", help="Show the members of batches"
    )
    parser.add_argument(
        "-c", "--count_object", action="store_true", help="Count the objects of each item"
    )
    parser.add_argument("-n", "--top_n_class", default=20, type=int, help="Show the top n classes")
    parser.add_argument("-l", "--log_level", default="INFO", help="Logging message level")
    return parser


def main(args: Sequence[str] | None = None) -> None:
    """Print the items of a queue, waiting and taken."""
    from smallpond.execution.queue.directory import WorkQueueOnFilesystem
    from smallpond.execution.task import Probe

    parser = create_parser()
    options = parser.parse_args(args)
    if not Path(options.wq_root, "enqueued").is_dir():
        # Opening a queue would make its folders, and a typing error would look like an empty queue.
        parser.error(f"{options.wq_root} is no work queue: it has no folder 'enqueued'")
    level = options.log_level.upper()
    logging.basicConfig(
        stream=sys.stdout,
        format="[%(asctime)s] %(levelname)s %(message)s",
        level=EXTRA_LEVELS.get(level, level),
        force=True,
    )
    for work in WorkQueueOnFilesystem(options.wq_root).list_works(options.expand_batch):
        if isinstance(work, Probe) or options.work_filter not in work.key:
            continue
        logger.info("%s", work)
        if options.count_object:
            counts = count_objects(work)
            ranked = sorted(((size, name) for name, size in counts.items()), reverse=True)
            for size, name in ranked[: options.top_n_class]:
                logger.info("  %s: %s", name, size)

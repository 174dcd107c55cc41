"""The driver: the command line of a script that runs a logical plan.

One script is every role. Run by a person it is the scheduler (or uses a Ray cluster); started with
`--runtime_ctx_path`, which is what the platform does, it is an executor of that job. The role can
be given as first word. Without it, it follows from `--runtime_ctx_path`, so that a pipeline script
runs with its own arguments alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # Started by path, Python puts this folder first, where the package `queue` would hide Python's.
    HERE = Path(__file__).parent.absolute()
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").absolute() != HERE]
    sys.path.append(str(HERE.parents[1]))

import argparse
import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from smallpond.common import InvalidArgument
from smallpond.execution.driver_options import JOB_OPTIONS, MODES, add_driver_options

if TYPE_CHECKING:
    from smallpond.execution.task import ExecutionPlan
    from smallpond.logical.node import LogicalPlan

logger = logging.getLogger("smallpond.execution.driver")


class _ModeNotGiven(Exception):
    """The words of a mode are in the arguments, but not as the mode."""


class _QuietParser(argparse.ArgumentParser):
    """Raises where others print and exit."""

    def error(self, message: str) -> Any:
        raise _ModeNotGiven(message)


class Driver:
    """Parses driver and user arguments, and executes a logical plan accordingly."""

    def __init__(self) -> None:
        self.driver_args_parser = argparse.ArgumentParser(
            prog="driver.py", description="Smallpond Driver", add_help=False
        )
        add_driver_options(self.driver_args_parser)
        self.user_args_parser = argparse.ArgumentParser(add_help=False)
        self.driver_args: argparse.Namespace | None = None
        self.user_args: argparse.Namespace | None = None
        self.all_args: argparse.Namespace | None = None

    def add_argument(self, *args: Any, **kwargs: Any) -> None:
        """Add an argument of the user's script, as `ArgumentParser.add_argument` takes it."""
        self.user_args_parser.add_argument(*args, **kwargs)

    def parse_arguments(
        self, args: Sequence[str] | None = None
    ) -> tuple[argparse.Namespace, argparse.Namespace]:
        """(user's arguments, driver's arguments); parsed once, the first call decides."""
        if self.user_args is None or self.driver_args is None:
            parsed = self._parse(list(sys.argv[1:] if args is None else args))
            users = {action.dest for action in self.user_args_parser._actions}
            drivers = {action.dest for action in self.driver_args_parser._actions} | {"mode"}
            self.all_args = parsed
            self.user_args = _part(parsed, users)
            self.driver_args = _part(parsed, drivers)
        return self.user_args, self.driver_args

    def _parse(self, args: list[str]) -> argparse.Namespace:
        parsed = self._parse_with_mode(args)
        if parsed is None:
            wants_help = "-h" in args or "--help" in args
            parsed = self._parser(mode_nargs="?" if wants_help else None).parse_args(args)
            parsed.mode = "executor" if parsed.runtime_ctx_path else "scheduler"
        return parsed

    def _parse_with_mode(self, args: list[str]) -> argparse.Namespace | None:
        """The arguments when they name a mode; None when they do not.

        A required positional is tried first because an optional one would take the first word of
        the user's own positional arguments.
        """
        if not set(MODES) & set(args):
            return None
        parser = self._parser(mode_nargs=1, parser_type=_QuietParser)
        try:
            parsed = parser.parse_args(args)
        except _ModeNotGiven:
            return None
        (parsed.mode,) = parsed.mode
        return parsed

    def _parser(
        self,
        mode_nargs: int | str | None,
        parser_type: type[argparse.ArgumentParser] = argparse.ArgumentParser,
    ) -> argparse.ArgumentParser:
        parents = [self.driver_args_parser, self.user_args_parser]
        if mode_nargs is not None:
            mode = argparse.ArgumentParser(add_help=False)
            mode.add_argument(
                "mode",
                choices=MODES,
                nargs=mode_nargs,
                help="default: executor with --runtime_ctx_path, else scheduler",
            )
            parents.insert(0, mode)
        return parser_type(parents=parents)

    def get_user_arguments(self, to_dict: bool = True) -> Any:
        """What the user's own arguments were given, as a dict or a namespace."""
        user_args, _ = self.parse_arguments()
        return vars(user_args) if to_dict else user_args

    get_arguments = get_user_arguments

    def get_driver_arguments(self, to_dict: bool = True) -> Any:
        """What the driver's arguments were given, as a dict or a namespace."""
        _, driver_args = self.parse_arguments()
        return vars(driver_args) if to_dict else driver_args

    @property
    def mode(self) -> str:
        return str(self.get_driver_arguments(to_dict=False).mode)

    @property
    def job_id(self) -> str | None:
        job_id: str | None = self.get_driver_arguments(to_dict=False).job_id
        return job_id

    @property
    def data_root(self) -> str | None:
        data_root: str | None = self.get_driver_arguments(to_dict=False).data_root
        return data_root

    @property
    def num_executors(self) -> int:
        return int(self.get_driver_arguments(to_dict=False).num_executors)

    def run(
        self,
        plan: LogicalPlan | None,
        stop_process_on_done: bool = True,
        tags: list[str] | None = None,
    ) -> ExecutionPlan | bool | None:
        """Be what the arguments say: the plan's scheduler, or one of its executors.

        With `stop_process_on_done` the process exits, with status 0 if all went well. Otherwise
        returns the executed plan (None if it failed), and for an executor whether it left in order.
        """
        _, args = self.parse_arguments()
        result: ExecutionPlan | bool | None
        if args.mode == "executor":
            from smallpond.execution.executor_start import run_executors

            result = run_executors(args.runtime_ctx_path, args.exec_id)
        else:
            if plan is None:
                raise InvalidArgument(f"mode {args.mode!r} needs a plan: driver.run(plan)")
            exec_plan = _run_plan(plan, args, tags or [])
            result = exec_plan if exec_plan.successful else None
        if not stop_process_on_done:
            return result
        exit_code = os.EX_OK if result else os.EX_SOFTWARE
        logger.info("exit code: %d", exit_code)
        sys.exit(exit_code)


def _part(parsed: argparse.Namespace, names: set[str]) -> argparse.Namespace:
    return argparse.Namespace(
        **{name: value for name, value in vars(parsed).items() if name in names}
    )


def _run_plan(plan: LogicalPlan, args: argparse.Namespace, tags: list[str]) -> ExecutionPlan:
    from smallpond.execution.manager import JobManager

    manager = JobManager(args.data_root, args.python_venv, args.task_image, args.platform)
    options = {name: getattr(args, name) for name in JOB_OPTIONS}
    if args.mode == "ray":
        from smallpond.execution.backends.ray import RayBackend

        address = args.ray_address or os.environ.get("SP_RAY_ADDRESS") or "local"
        options |= {"backend": RayBackend(address), "num_executors": 0}
    return manager.run(
        plan,
        user_tags=[*args.tags, *tags],
        manifest_only_final_results=not args.self_contained_final_results,
        **options,
    )


def main() -> None:
    """Run as an executor: there is no plan here."""
    Driver().run(plan=None)


if __name__ == "__main__":
    main()

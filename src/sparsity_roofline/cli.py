"""The command line: parse, call, print. Each verb lives in ``commands`` and is imported only when it is asked for."""

from __future__ import annotations

import errno
import importlib
import io
import os
import sys
from collections.abc import Sequence

import click

from sparsity_roofline import __version__
from sparsity_roofline.model.errors import UserError
from sparsity_roofline.model.text import LONGEST, printable

VERBS = {
    "run": "Predict, measure and validate in one go.",
    "predict": "Speed-of-light latency and predicted speedup, for any GPU of the table.",
    "network": "End-to-end speedup of a network when only its prunable layers are sparse.",
    "sweep": "Where each pattern wins, over density, N and machine balance.",
    "explain": "One prediction term by term, from the plain limit to the refined latency.",
    "measure": "Time kernels on this machine and record it.",
    "validate": "Did the predictions hold? Tables and plots of a run.",
    "report": "Does the Sparsity Roofline hold? One HTML file, tables and figures of one or more runs.",
    "compare": "Did a kernel get slower? Two runs or two git revisions, a verdict for every cell.",
    "history": "Time over commits, and at which commit it changed.",
    "profile": "Why is a kernel slow? One launch under Nsight Compute, in the model's words.",
    "matrices": "List, fetch, import and describe weight matrices.",
    "kernels": "List kernels: formats, dtypes, devices, and why one is unavailable here.",
    "hardware": "List, show and calibrate ceilings.",
    "doctor": "What this machine can and cannot do, with remedies.",
}


_FULL = (errno.ENOSPC, errno.EDQUOT)


class Verbs(click.Group):
    """A group whose commands are imported on demand, so that help and errors are quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"sparsity_roofline.commands.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.command(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="sparsity-roofline")
def cli() -> None:
    """Can this sparse weight be fast on that hardware? Predict it, measure it, compare the two.

    \b
    Examples:
      sparsity-roofline run                                   the main job on this machine
      sparsity-roofline predict --device h100 --shape 4096x4096x2048 --pattern block64 --sparsity 0.9
      sparsity-roofline run --collection dlmc.tar.gz --suite dlmc
      sparsity-roofline doctor

    \b
    Exit codes: 0 ok; 1 confirmed regression or refuted gate; 2 usage; 3 incorrect result;
    4 invalid environment; 5 inconclusive; 6 this machine cannot run the request; 130 interrupted.
    """


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Users' mistakes end in one line on stderr and a non-zero exit; a traceback is a bug of ours."""
    try:
        code = cli.main(args=list(argv) if argv is not None else None, standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 2
    except click.ClickException as error:
        click.echo(f"error: {printable(_one_line(error), LONGEST)}", err=True)
        return 2
    except UserError as error:
        click.echo(f"error: {printable(str(error), LONGEST)}", err=True)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return 130
    except BrokenPipeError:
        # The reader of our output went away (for example `| head`); say nothing more, and not at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        # A file or folder that the system refuses is the user's to mend; anything else is a bug of ours.
        if error.filename is None and error.errno not in _FULL:
            raise
        place = "" if error.filename is None else f"{printable(os.fsdecode(error.filename))}: "
        click.echo(f"error: {place}{error.strerror}", err=True)
        return 4 if error.errno in _FULL else 2


def _one_line(error: click.ClickException) -> str:
    """What is wrong and where to read on."""
    message = " ".join(error.format_message().split())
    if not isinstance(error, click.UsageError) or error.ctx is None:
        return message
    return f"{message.rstrip('.')} (see `{error.ctx.command_path} --help`)"


def entry() -> None:
    """Console script."""
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal's encoding lacks is shown escaped; it must not end the program.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(main())

"""The command line: `penstock`. Says what can be asked and how answers look; the work is done by other modules.

Imports nothing slow, so that `--help` answers at once.
"""

import sys
from pathlib import Path

import click

from penstock.components.contracts.errors import ConfigError, PenstockError
from penstock.pipelines.interrupted import Interrupted

__all__ = ["main", "penstock"]

OUT = click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("runs"), show_default=True,
                   help="Folder of the run folders.")
REGISTRY = click.option("--registry", type=click.Path(file_okay=False, path_type=Path), default=None,
                        help="Folder of the model registry.  [default: the one that `penstock run` fills]")
PERCENT = click.FloatRange(0, 100)
WRONG_USAGE = 2  # as click has it


def _example(*lines: str) -> str:
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


class _Program(click.Group):
    """Turns our errors into text on stderr and an exit code: 2 wrong usage, 1 failure, 128 + n cut off by signal n."""

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except PenstockError as error:
            if context.params["debug"]:
                raise
            click.echo(f"error: {error}", err=True)
            context.exit(_exit_code(error))


def _exit_code(error: PenstockError) -> int:
    if isinstance(error, Interrupted):
        return 128 + error.signal
    return WRONG_USAGE if isinstance(error, ConfigError) else 1


@click.group(cls=_Program, epilog=_example("penstock run train_and_deploy --profile linear",
                                           "penstock predict fashion-mnist boot.png"))
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="penstock")
def penstock(debug: bool) -> None:
    """From raw data to a canaried endpoint, on this machine or compiled for Kubeflow."""


@penstock.command(epilog=_example(
    "penstock run train_and_deploy --profile linear",
    "penstock run train_and_deploy --set train.epochs=3 --set ingest.source=./photos --set service=photos",
    "penstock run train_and_deploy --resume 20261121-065800-3f2a"))
@click.argument("pipeline")
@click.option("--profile", default="laptop", show_default=True,
              help="Named set of options: laptop, convnet, linear, photos (your own folder) or test.")
@click.option("--set", "settings", multiple=True, metavar="STAGE.KEY=VALUE",
              help="Override an option; VALUE is JSON, else a string. Also STAGE={...}, service=NAME, registry=FOLDER.")
@OUT
@click.option("--resume", metavar="ID", default="", help="Go on with a run that was cut off; finished steps stay done.")
@click.pass_context
def run(context: click.Context, pipeline: str, profile: str, settings: tuple[str, ...], out: Path, resume: str) -> None:
    """Run PIPELINE on this machine, to a live endpoint."""
    from penstock.pipelines.local_run import execute, prepare, reopen
    from penstock.pipelines.outcome import outcome
    from penstock.pipelines.table import step_table

    if resume and (settings or context.get_parameter_source("profile") is not click.core.ParameterSource.DEFAULT):
        raise ConfigError(f"--resume {resume} goes on with the options it had; leave --set and --profile out")
    folder = reopen(out, resume, pipeline) if resume else prepare(pipeline, profile, settings, out)
    click.echo(f"run {folder.run_id}, logs in {folder.logs}")
    with step_table(sys.stdout) as show:
        summary = execute(folder, show)
    click.echo(outcome(folder, summary))


@penstock.command("compile", epilog=_example("penstock compile", "penstock compile train_and_deploy --out /tmp"))
@click.argument("pipeline", default="train_and_deploy")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("pipelines/compiled"),
              show_default=True, help="Folder for the YAML file.")
def compile_(pipeline: str, out: Path) -> None:
    """Write PIPELINE as a YAML file, to upload in the Kubeflow UI."""
    from penstock.pipelines.compiling import compile_pipeline

    click.echo(compile_pipeline(pipeline, out))


@penstock.command(epilog=_example("penstock predict fashion-mnist boot.png shirt.jpg",
                                  "penstock predict fashion-mnist --batch photos --out answers.csv"))
@click.argument("name")
@click.argument("images", nargs=-1, type=click.Path(path_type=Path), metavar="[IMAGE]...")
@click.option("--batch", type=click.Path(path_type=Path), metavar="FOLDER",
              help="Ask about every picture below FOLDER and write a CSV file.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("predictions.csv"), show_default=True,
              help="The CSV file of --batch.")
def predict(name: str, images: tuple[Path, ...], batch: Path | None, out: Path) -> None:
    """Ask service NAME what is in each IMAGE, or in every picture of a folder."""
    from penstock.pipelines.predicting import predict_batch, predict_images

    if bool(images) == bool(batch):
        raise click.UsageError("give either IMAGE... or --batch FOLDER")
    for line in predict_batch(name, batch, out, sys.stderr) if batch else predict_images(name, images):
        click.echo(line)


@penstock.command(epilog=_example("penstock plan --share 5 --error-rate 0.5 --max-increase 0.5 --rate 50",
                                  "penstock plan --profile linear --set analyse_canary.alpha=0.01"))
@click.option("--profile", default="laptop", show_default=True,
              help="Named set of options, as in `penstock run`; what is not given here is taken from it.")
@click.option("--set", "settings", multiple=True, metavar="STAGE.KEY=VALUE", help="Override one, as in `penstock run`.")
@click.option("--share", type=PERCENT, metavar="PERCENT", help="Of the requests, for the canary.")
@click.option("--error-rate", type=PERCENT, default=0.1, show_default=True, metavar="PERCENT",
              help="Of stable's answers that are errors.")
@click.option("--max-increase", type=PERCENT, metavar="POINTS", help="Of the error rate: what the canary may add.")
@click.option("--alpha", type=float, help="Probability of a wrong verdict of either kind.")
@click.option("--power", type=float, default=0.9, show_default=True,
              help="Probability that the verdict has fallen by the requests that are told.")
@click.option("--rate", type=float, metavar="N", help="Requests per second, of both versions together.")
def plan(profile: str, settings: tuple[str, ...], error_rate: float, power: float, share: float | None,
         max_increase: float | None, alpha: float | None, rate: float | None) -> None:
    """Say what a roll-out will cost: requests, time, and the errors of a bad canary until it is sent back."""
    from penstock.pipelines.planning import plan_lines, planned_roll_out

    given = {"share": share, "max_increase": max_increase}
    parts = {name: percent / 100 for name, percent in given.items() if percent is not None}
    planned = planned_roll_out(profile, settings, error_rate / 100, power, {**parts, "alpha": alpha, "rate": rate})
    for line in plan_lines(planned):
        click.echo(line)


@penstock.command(epilog=_example("penstock datasets"))
def datasets() -> None:
    """List what can be ingested."""
    from penstock.components.data.ingest.sources import SOURCES

    for source in SOURCES:
        click.echo(f"{source.name}\n  {source.description}\n  --set ingest.source={source.example!r}")


@penstock.group(epilog=_example("penstock laptop status"))
def laptop() -> None:
    """What serves on this machine."""


@laptop.command(epilog=_example("penstock laptop status"))
def status() -> None:
    """Show the services, their versions and their shares of the traffic."""
    from penstock.components.control.laptop.status import status as laptop_status
    from penstock.pipelines.laptop_table import laptop_lines

    for line in laptop_lines(laptop_status()):
        click.echo(line)


@laptop.command(epilog=_example("penstock laptop stop", "penstock laptop stop fashion-mnist"))
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--missing-ok", is_flag=True, help="A NAME that does not serve is no error.")
def stop(names: tuple[str, ...], missing_ok: bool) -> None:
    """End the services NAME, or all of them with gateway and supervisor."""
    from penstock.components.control.laptop.status import status as laptop_status
    from penstock.components.control.laptop.status import stop as laptop_stop

    serving = {service.name for service in laptop_status().services}
    asked = [name for name in names if name in serving or not missing_ok]
    if asked or not names:
        for ended in laptop_stop(asked):
            click.echo(f"ended {ended}")


@penstock.group(epilog=_example("penstock models list", "penstock models rollback fashion-mnist fee3a5da4987"))
def models() -> None:
    """The versions of each service: what they are, which serves, and the way back."""


@models.command("list", epilog=_example("penstock models list", "penstock models list fashion-mnist"))
@click.argument("name", default="")
@REGISTRY
def list_models(name: str, registry: Path | None) -> None:
    """List the versions of service NAME, or of all."""
    from penstock.pipelines import models

    for line in models.list_models(registry or models.default_registry(), name):
        click.echo(line)


@models.command(epilog=_example("penstock models show fashion-mnist",
                                "penstock models show fashion-mnist fee3a5da4987"))
@click.argument("name")
@click.argument("version", default="")
@REGISTRY
def show(name: str, version: str, registry: Path | None) -> None:
    """Show where VERSION of service NAME came from and when it served; without VERSION: the live one."""
    from penstock.pipelines import models

    for line in models.show_model(registry or models.default_registry(), name, version):
        click.echo(line)


@models.command(epilog=_example("penstock models rollback fashion-mnist fee3a5da4987"))
@click.argument("name")
@click.argument("version")
@click.option("--canary-percent", type=click.IntRange(1, 99), default=20, show_default=True,
              help="Share of the requests for VERSION until it has been seen to hold it.")
@REGISTRY
def rollback(name: str, version: str, canary_percent: int, registry: Path | None) -> None:
    """Give the traffic of service NAME to the registered VERSION."""
    from penstock.components.control.connect import connect
    from penstock.pipelines import models

    before = models.roll_back(registry or models.default_registry(), name, version, canary_percent, connect())
    click.echo(f"{name}: version {version} has all traffic" + (f", {before} before" if before else ""))


@penstock.group(epilog=_example("penstock runs list", "penstock runs gc --keep 5"))
def runs() -> None:
    """Past runs and what they left."""


@runs.command("list", epilog=_example("penstock runs list", "penstock runs list --out /data/runs"))
@OUT
def list_(out: Path) -> None:
    """List the runs, oldest first."""
    from penstock.pipelines.past_runs import list_runs

    for line in list_runs(out):
        click.echo(line)


@runs.command(epilog=_example("penstock runs gc --keep 5", "penstock runs gc --older-than 14"))
@click.option("--keep", type=click.IntRange(min=0), metavar="N", help="Remove all but the newest N.")
@click.option("--older-than", type=click.FloatRange(min=0), metavar="DAYS", help="Remove those that began longer ago.")
@OUT
def gc(keep: int | None, older_than: float | None, out: Path) -> None:
    """Remove the folders of old runs; one that is live, or whose model serves, stays."""
    from penstock.pipelines.past_runs import remove_runs

    if (keep is None) == (older_than is None):
        raise click.UsageError("give either --keep N or --older-than DAYS")
    for run_id, megabytes in remove_runs(out, keep, older_than):
        click.echo(f"removed {run_id}, {megabytes:,.0f} MB")


def main() -> None:
    """Run the program named on the command line of this process."""
    penstock(prog_name="penstock")

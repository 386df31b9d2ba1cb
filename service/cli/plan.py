"""``sluice plan``: cores, GPUs, storage and commits for a load."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from consumers.errors import ConfigurationError
from service.capacity import (
    ASSUMED_MBIT_PER_S,
    CPU_MS_PER_VIDEO_SECOND,
    ENCODE_MS_PER_CLIP_SECOND,
    ENCODED_SHARE,
    VIDEO_SECONDS_PER_GPU_SECOND,
    Gpu,
    Load,
    Resolution,
    plan,
)
from service.cli.options import BEGIN
from service.cli.output import JsonOption, human_bytes, out, print_json, print_table


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("plan", rich_help_panel=BEGIN)(_plan)


def _plan(
    videos_per_day: Annotated[float, typer.Option(help="Videos landing in a day.")],
    mean_seconds: Annotated[float, typer.Option(help="Mean length of a video, in seconds.")],
    resolution: Annotated[Resolution, typer.Option(help="Frame size of the mean video.")] = Resolution.P720,
    kept_share: Annotated[float, typer.Option(help="Share of the video that ends in kept clips, 0 to 1.")] = 0.5,
    mean_clip_seconds: Annotated[float, typer.Option(help="Mean length of a clip, in seconds.")] = 5.0,
    mbit_per_s: Annotated[float | None, typer.Option(help="Mean bit rate; none assumes one by resolution.")] = None,
    gpu: Annotated[Gpu, typer.Option(help="What runs the models; none for stages without weights.")] = Gpu.RTX_5090,
    utilisation: Annotated[float, typer.Option(help="Planned share of busy time; the rest is for peaks.")] = 0.7,
    commit_interval_s: Annotated[float, typer.Option(help="consumer.commit_interval_s")] = 10.0,
    json: JsonOption = False,
) -> None:
    """Work out cores, GPUs, storage and commits for a load. Touches nothing."""
    try:
        load = Load(
            videos_per_day,
            mean_seconds,
            resolution,
            kept_share,
            mean_clip_seconds,
            mbit_per_s,
            gpu,
            utilisation,
            commit_interval_s,
        )
    except ValueError as error:
        raise ConfigurationError(f"sluice plan: {error}") from error
    need = plan(load)
    sources = _sources(load)
    if json:
        print_json({"load": asdict(load), "capacity": asdict(need), "rates": sources})
        return
    print_table(
        f"{videos_per_day:,.0f} videos a day of {mean_seconds:g} s, {resolution.value}",
        ("what", "how much"),
        (
            ("video to process", f"{need.video_seconds_per_second:.1f} s per second"),
            ("CPU cores of workers", str(need.cpu_cores)),
            ("GPUs", str(need.gpus)),
            (
                "read from the store",
                f"{human_bytes(need.read_bytes_per_day)} a day, {human_bytes(need.read_bytes_per_second)}/s",
            ),
            ("clips written", f"{need.clips_per_day:,.0f} a day, {human_bytes(need.curated_bytes_per_day)}"),
            ("rows of the ledger", f"{need.ledger_rows_per_day:,.0f} a day"),
            ("commits", f"at most {need.commits_per_day:,} a day, two snapshots each"),
        ),
    )
    out.print("")
    for name, source in sources.items():
        out.print(f"{name}: {source['value']:g} {source['unit']} ({source['source']})", markup=False)


def _sources(load: Load) -> dict[str, dict[str, object]]:
    """Return the rates that the plan rests on, each with where it comes from."""
    measured = "measured on one x86 server core"
    rates: dict[str, dict[str, object]] = {
        "decode pass": {
            "value": CPU_MS_PER_VIDEO_SECOND[load.resolution],
            "unit": "ms of CPU per second of video",
            "source": measured,
        },
        "re-encoding": {
            "value": ENCODE_MS_PER_CLIP_SECOND[load.resolution],
            "unit": "ms of CPU per second of clip",
            "source": f"{measured}, for the {ENCODED_SHARE:.0%} of clips that cannot be copied",
        },
        "bit rate": {
            "value": load.mbit_per_s or ASSUMED_MBIT_PER_S[load.resolution],
            "unit": "Mbit/s",
            "source": "given" if load.mbit_per_s else "assumed for the resolution",
        },
    }
    if load.gpu in VIDEO_SECONDS_PER_GPU_SECOND:
        rates["models"] = {
            "value": VIDEO_SECONDS_PER_GPU_SECOND[load.gpu],
            "unit": "s of video per GPU-second",
            "source": f"published by the authors of Data-Juicer for {load.gpu.value}, not measured by us",
        }
    return rates

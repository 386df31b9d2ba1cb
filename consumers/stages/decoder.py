"""Chooses how a worker decodes: on the CPU, or with NVDEC where the machine has one and a probe finds no difference."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Final, Literal

from consumers.errors import ConfigurationError
from consumers.media.decode import VideoDecoder
from consumers.media.nvdec import NvdecUnavailableError, connect
from consumers.stages.decoder_probe import CodecReport, HardwareDecoder, probe
from consumers.stages.single_pass import OpenDecoder

logger = logging.getLogger(__name__)

DecoderMode = Literal["auto", "cpu", "nvdec"]
"""``auto``: NVDEC for the codecs for which it cannot be told from the CPU, even where pictures are damaged; ``nvdec``:
for those for which it cannot be told as long as they are whole, and no start where there are none; ``cpu``."""


@dataclass(frozen=True, slots=True)
class DecoderChoice:
    """How this process decodes.

    Attributes:
        ways: to be tried in this order, each from the beginning of the video; the last is the CPU's.
        summary: for a person, such as ``cpu (no NVIDIA driver was found (libcuda.so.1))``.
    """

    ways: tuple[OpenDecoder, ...]
    summary: str


ON_CPU: Final = DecoderChoice((VideoDecoder,), "cpu")


@cache
def choose_decoder(mode: DecoderMode) -> DecoderChoice:
    """Return how this process decodes; the probe runs once in it.

    Raises:
        ConfigurationError: as :func:`choose`.
    """
    choice = choose(mode)
    logger.info("decoder: %s", choice.summary)
    return choice


def choose(mode: DecoderMode, connect_hardware: Callable[[], HardwareDecoder] = connect) -> DecoderChoice:
    """Return how to decode.

    Args:
        mode: what is asked for.
        connect_hardware: returns the hardware decoder, or raises NvdecUnavailableError.

    Raises:
        ConfigurationError: ``mode`` is ``nvdec``, and it is not there, or differs from the CPU for every codec.
    """
    if mode == "cpu":
        return DecoderChoice((VideoDecoder,), 'cpu (pool.decoder = "cpu")')
    try:
        hardware = connect_hardware()
    except NvdecUnavailableError as error:
        return _without(mode, str(error))
    reports = probe(hardware)
    left = {codec: why for codec, report in reports.items() if (why := _objection(mode, report)) is not None}
    codecs = frozenset(reports.keys() - left.keys())
    if not codecs:
        return _without(mode, _listed(left))
    rest = f", cpu for others ({_listed(left)})" if left else ", cpu for others"
    summary = f"nvdec for {', '.join(sorted(codecs))}{rest}"
    return DecoderChoice((partial(hardware.open, codecs=codecs), VideoDecoder), summary)


def _objection(mode: DecoderMode, report: CodecReport) -> str | None:
    if report.problem is not None:
        return report.problem
    if mode == "auto" and report.misses_damage:
        return 'it does not notice damaged pictures as the CPU does, which only pool.decoder = "nvdec" accepts'
    return None


def _without(mode: DecoderMode, reason: str) -> DecoderChoice:
    if mode == "nvdec":
        raise ConfigurationError(
            f'pool.decoder is "nvdec", but a worker on this machine cannot use it: {reason}; set pool.decoder to '
            '"auto" or "cpu", or run the workers where there is a GPU'
        )
    return DecoderChoice((VideoDecoder,), f"cpu ({reason})")


def _listed(reasons: Mapping[str, str]) -> str:
    return "; ".join(f"{codec}: {reason}" for codec, reason in sorted(reasons.items()))
